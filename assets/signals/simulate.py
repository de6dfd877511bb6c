"""Simulated 12-lead ECGs that show what their SCP-ECG codes say.

A heart vector (X left, Y down, Z front; millivolts) is a sum of Gaussian waves: two for P, three to five for QRS, one
for ST, two for T. A finding changes the vector where the disease changes the heart: an inferior infarct turns the first
forces upwards, a left bundle branch block delays and slurs the main ones, and so on. The rhythm places the beats in
time. A lead matrix projects the vector onto leads I, II and V1 to V6; III, aVR, aVL and aVF follow from I and II by
Einthoven's and Goldberger's relations, after the noise, so these hold exactly.

Method after McSharry et al., "A dynamical model for generating synthetic electrocardiogram signals", IEEE Trans Biomed Eng
50 (2003), and Sameni et al., "Multichannel ECG and noise modeling", EURASIP J Adv Signal Process (2007); the parameters
here are our own, chosen by eye on the clinical grid. Simulated ECGs are for tests and demonstrations, not for medicine.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from assets.signals.simulated_beats import MORPHOLOGIES, Beat, normal_beat, paced_beat, ventricular_beat
from assets.signals.simulated_rhythms import RHYTHMS, Moment, beat_moments, fibrillation, flutter, flutter_cycle
from models.errors import ConfigurationError

FINDINGS: frozenset[str] = frozenset({"NORM", "PAC", "PVC", *MORPHOLOGIES, *RHYTHMS})
"""The SCP codes that can be drawn."""

# Horizontal angle from the left towards the front (degrees), gain, and share of the downward axis of V1 to V6.
_CHEST = np.array([(118, 0.85, -0.05), (96, 1.35, 0.0), (76, 1.45, 0.08), (54, 1.4, 0.16), (22, 1.2, 0.2), (0, 0.95, 0.22)])
_ANGLE = np.deg2rad(_CHEST[:, 0])
_CHEST_MATRIX = _CHEST[:, 1:2] * np.stack([np.cos(_ANGLE), _CHEST[:, 2], np.sin(_ANGLE)], axis=1)
_LEAD_MATRIX = np.concatenate([[[1.0, 0.0, 0.0], [0.5, np.sqrt(0.75), 0.0]], _CHEST_MATRIX])
"""Independent leads I, II, V1 to V6 from the heart vector, shape (8, 3)."""


def simulate(findings: Collection[str], rng: Generator, fs_hz: float = 100.0, duration: float = 10.0) -> NDArray[np.float32]:
    """Draw an ECG that shows the findings, different for each state of `rng`.

    Args:
        findings: SCP codes, at most one rhythm of SR, SBRAD, STACH, SARRH, AFIB, AFLT, PACE (none is sinus rhythm); BIGU
            may be added to a sinus rhythm.
        rng: source of the patient's build, the rate and the noise.
        fs_hz: sampling rate.
        duration: length in seconds.

    Returns:
        Microvolts, shape (12, T), leads in the order of `models.types.LEADS`.

    Raises:
        ConfigurationError: a code that cannot be drawn, or two rhythms that exclude each other.
    """
    codes = frozenset(findings)
    _require_drawable(codes)
    seconds_T = np.arange(round(duration * fs_hz)) / fs_hz
    rotation_33 = _build(rng)
    amplitude = float(np.clip(rng.lognormal(0.0, 0.18), 0.65, 1.5))
    beat = normal_beat(rng)
    # The voltage of a hypertrophied ventricle is part of LVH already.
    drawn = codes - {"VCLVH"} if "LVH" in codes else codes
    for code, change in MORPHOLOGIES.items():
        if code in drawn:
            change(beat, rng)
    paced = paced_beat(rng)
    ectopic = ventricular_beat(rng)
    cycle = flutter_cycle(rng)
    moments = beat_moments(codes, cycle, rng, duration)
    templates = {"normal": paced if "PACE" in codes else beat, "ventricular": ectopic}
    vector_3T = amplitude * rotation_33 @ _waves(moments, templates, seconds_T, rng)
    if "AFIB" in codes:
        vector_3T += fibrillation(seconds_T, rng)
    if "AFLT" in codes:
        vector_3T += flutter(seconds_T, cycle, moments[0].second, rng)
    leads_8T = 1000.0 * (_LEAD_MATRIX @ vector_3T) + _noise(seconds_T, rng)
    return _twelve_leads(leads_8T)


def _require_drawable(codes: frozenset[str]) -> None:
    if unknown := sorted(codes - FINDINGS):
        raise ConfigurationError(f"no ECG can be drawn for {', '.join(unknown)}; codes that can be drawn are {', '.join(sorted(FINDINGS))}")
    rhythms = sorted(codes & RHYTHMS - {"BIGU"})
    if len(rhythms) > 1:
        raise ConfigurationError(f"an ECG has one rhythm, not {' and '.join(rhythms)}; name one of them")
    if "BIGU" in codes and not set(rhythms) <= {"SR"}:
        raise ConfigurationError(f"bigeminy is drawn with sinus rhythm, not with {rhythms[0]}; leave one of them out")


def _build(rng: Generator) -> NDArray[np.float64]:
    """How the heart lies in this patient: a turn in the frontal plane, then one about the long axis of the body."""
    frontal = np.deg2rad(np.clip(rng.normal(0.0, 16.0), -35.0, 35.0))
    horizontal = np.deg2rad(np.clip(rng.normal(0.0, 11.0), -22.0, 22.0))
    c, s = np.cos(frontal), np.sin(frontal)
    in_front = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    c, s = np.cos(horizontal), np.sin(horizontal)
    about_body = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
    result: NDArray[np.float64] = about_body @ in_front
    return result


def _waves(moments: list[Moment], templates: dict[str, Beat], seconds_T: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Sum of all waves of all beats, shape (3, T)."""
    breath, phase = rng.uniform(0.17, 0.3), rng.uniform(0.0, 2 * np.pi)
    depth = rng.uniform(0.01, 0.07)
    centres, widths, vectors = [], [], []
    for moment in moments:
        centre, width, vector = templates[moment.kind].waves(moment.rr, atrial=moment.atrial, ectopic_atrial=moment.ectopic_atrial)
        swell = 1.0 + depth * np.sin(2 * np.pi * breath * moment.second + phase) + rng.normal(0.0, 0.012)
        centres.append(centre + moment.second)
        widths.append(width)
        vectors.append(vector * swell)
    centre_W, width_W = np.concatenate(centres)[:, None], np.concatenate(widths)[:, None]
    shape_WT = np.exp(-0.5 * ((seconds_T - centre_W) / width_W) ** 2)
    summed: NDArray[np.float64] = np.concatenate(vectors).T @ shape_WT
    return summed


def _noise(seconds_T: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Baseline wander, muscle and amplifier noise of the eight independent leads, microvolts, shape (8, T)."""
    frequency = rng.uniform(0.05, 0.35, (8, 3, 1))
    phase = rng.uniform(0.0, 2 * np.pi, (8, 3, 1))
    size = rng.gamma(2.0, 9.0, (8, 3, 1)) * rng.choice([0.5, 1.0, 2.2], p=[0.5, 0.38, 0.12])
    wander = (size * np.sin(2 * np.pi * frequency * seconds_T + phase)).sum(axis=1)
    level = rng.lognormal(np.log(9.0), 0.5) * rng.uniform(0.8, 1.3, (8, 1))
    white = level * rng.standard_normal((8, len(seconds_T)))
    result: NDArray[np.float64] = wander + white
    return result


def _twelve_leads(leads_8T: NDArray[np.float64]) -> NDArray[np.float32]:
    lead_i, lead_ii = leads_8T[0], leads_8T[1]
    limb = [lead_i, lead_ii, lead_ii - lead_i, -(lead_i + lead_ii) / 2, lead_i - lead_ii / 2, lead_ii - lead_i / 2]
    return np.concatenate([np.stack(limb), leads_8T[2:]]).astype(np.float32)
