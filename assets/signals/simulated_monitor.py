"""Simulated signals of bedside monitors and Holter recorders, with the beats that they show: ECG, pulse wave, breathing.

Simpler than `assets.signals.simulate`, which draws findings in twelve leads: here every beat is known, and one heart drives
all signals. For imitations of datasets and for tests, not for medicine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

_WAVES = np.array([(-0.16, 0.025, 110.0), (-0.028, 0.010, -90.0), (0.0, 0.012, 1000.0), (0.032, 0.011, -220.0), (0.26, 0.055, 240.0)])
_EARLY_WAVES = np.array([(0.0, 0.045, 1300.0), (0.11, 0.05, -500.0), (0.30, 0.07, -350.0)])
"""Waves of a beat and of a ventricular one: seconds after the R peak, width in seconds, microvolts."""

_PULSE_DELAY = 0.22
"""Seconds from the R peak to the top of the pulse wave at the finger."""


class Beats(NamedTuple):
    """R peaks in seconds, and which of them are ventricular extrasystoles."""

    time_N: NDArray[np.float64]
    early_N: NDArray[np.bool_]


def draw_beats(rng: Generator, duration: float, early: float = 0.0) -> Beats:
    """A regular heart of 55 to 95 beats a minute; a share `early` of its beats comes early from a ventricle."""
    period = 60 / rng.uniform(55, 95)
    n = int(duration / period) + 3
    early_N = rng.random(n) < early
    early_N[:2] = False
    time_N = 0.4 + np.cumsum(period * (1 + 0.03 * rng.standard_normal(n))) - period
    time_N[early_N] -= 0.3 * period
    inside_N = (time_N > 0) & (time_N < duration - 0.01)
    return Beats(time_N[inside_N], early_N[inside_N])


def draw_rhythm(rng: Generator, duration: float, per_minute: float, irregular: bool) -> Beats:
    """A heart of a given mean rate whose beats come evenly, or at random as in atrial fibrillation."""
    period = 60 / per_minute
    n = int(1.6 * duration / period) + 4
    steps_N = rng.gamma(14.0, 1 / 14.0, n) if irregular else 1 + 0.015 * rng.standard_normal(n)
    time_N = rng.uniform(0.1, 0.6) + period * np.cumsum(np.maximum(steps_N, 0.45)) - period
    inside_N = (time_N > 0) & (time_N < duration - 0.01)
    return Beats(time_N[inside_N], np.zeros(int(inside_N.sum()), bool))


def draw_ecg(
    beats: Beats, rng: Generator, fs_hz: float, duration: float, gains: tuple[float, ...], noise: float = 12.0
) -> NDArray[np.float64]:
    """The heart as electrodes see it, each with a gain of its own: microvolts, shape (len(gains), samples)."""
    time_T = np.arange(round(duration * fs_hz)) / fs_hz
    heart_T = np.zeros(len(time_T))
    for waves, chosen_N in ((_WAVES, ~beats.early_N), (_EARLY_WAVES, beats.early_N)):
        for delay, width, height in waves:
            heart_T += height * _pulses(time_T, beats.time_N[chosen_N] + delay, width)
    wander_T = 60 * np.sin(2 * np.pi * 0.22 * time_T + rng.uniform(0, 6))
    signal_LT = np.array(gains)[:, None] * heart_T + wander_T
    return np.asarray(signal_LT + noise * rng.standard_normal(signal_LT.shape))


def draw_pulse_wave(beats: Beats, rng: Generator, fs_hz: float, duration: float) -> NDArray[np.float64]:
    """A photoplethysmogram between 0 and 1, shape (samples,)."""
    time_T = np.arange(round(duration * fs_hz)) / fs_hz
    wave_T = _pulses(time_T, beats.time_N + _PULSE_DELAY, 0.09) + 0.35 * _pulses(time_T, beats.time_N + _PULSE_DELAY + 0.27, 0.09)
    return np.asarray(np.clip(0.25 + 0.5 * wave_T + 0.003 * rng.standard_normal(len(time_T)), 0, 1))


def draw_breathing(rng: Generator, fs_hz: float, duration: float) -> NDArray[np.float64]:
    """Breathing as impedance, between 0 and 1, shape (samples,)."""
    time_T = np.arange(round(duration * fs_hz)) / fs_hz
    return np.asarray(0.5 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.2, 0.33) * time_T) + 0.01 * rng.standard_normal(len(time_T)))


def _pulses(time_T: NDArray[np.float64], centre_N: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Sum of Gaussian bumps of height 1."""
    return np.asarray(np.exp(-0.5 * ((time_T - centre_N[:, None]) / width) ** 2).sum(axis=0))
