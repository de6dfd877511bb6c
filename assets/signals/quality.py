"""Signal quality of ECG leads, as flags that travel with a record and decide nothing by themselves.

Thresholds were set on 4,000 records of PTB-XL at 100 Hz and are stated with what they find there. All functions take
microvolts of shape (..., leads, samples): one record or a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FLAT_UV = 50.0
"""Peak-to-peak below which a lead is flat. The smallest working lead of the 4,000 records spans 146 uV, the one dead lead 0."""

FLAT_SHARE = 0.2
"""Share of 0.2 s pieces without any change above which a lead is flat too: an electrode that fell off, or padding."""

RAIL_UV = 1000.0
"""Lowest absolute value that is taken for the end of an amplifier's range; below it, a plateau is a baseline."""

RAIL_SHARE = 0.01
"""Share of samples that stay on one extreme value above which a lead is saturated (0.1 s of 10 s). The largest share seen in
sound leads is 0.005."""

NOISE_RMS_UV = 25.0
"""Noise above which a lead is noisy. It marks 2.5 % of the 4,000 records: 11 % of those whose notes mention static noise, 1 %
of those whose notes mention neither static nor burst noise."""

RELATION_RMS_UV = 20.0
RELATION_SHARE = 0.25
"""Error of a limb lead relation, absolute and as a share of the limb leads' own RMS, above which leads are not what they are
called. PTB-XL's rounding leaves 0.5 uV, lossy archives (CODE-15 %) up to 0.15 of the RMS; two exchanged leads leave their
whole difference."""

INVERSION = -0.6
"""Correlation of lead I with V6 below which the arm electrodes are suspected to be exchanged; 8 of the 4,000 records, among
them the one whose report says so."""

_BLOCK_S = 0.2
_MEAN_ABSOLUTE_SECOND_DIFFERENCE = np.sqrt(6.0) * np.sqrt(2.0 / np.pi)
"""Of white noise with standard deviation 1."""


def flat_leads(signal_uV: NDArray[np.float32], fs_hz: float) -> NDArray[np.bool_]:
    """Leads that do not move, or stand still for a good part of the time, shape (..., leads)."""
    still = _block_means(np.abs(np.diff(signal_uV, axis=-1)), fs_hz) == 0
    span = signal_uV.max(axis=-1) - signal_uV.min(axis=-1)
    return np.asarray((span < FLAT_UV) | (still.mean(axis=-1) > FLAT_SHARE))


def saturated_leads(signal_uV: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Leads that were cut off at the end of the amplifier's range, shape (..., leads)."""
    saturated = np.zeros(signal_uV.shape[:-1], np.bool_)
    for extreme in (signal_uV.max(axis=-1, keepdims=True), signal_uV.min(axis=-1, keepdims=True)):
        at_rail = signal_uV == extreme
        share = (at_rail[..., 1:] & at_rail[..., :-1]).mean(axis=-1)
        saturated |= (share > RAIL_SHARE) & (np.abs(extreme[..., 0]) >= RAIL_UV)
    return saturated


def noisy_leads(signal_uV: NDArray[np.float32], fs_hz: float) -> NDArray[np.bool_]:
    """Leads under steady noise of high frequency, shape (..., leads).

    Noise is read from second differences, which drift and the slow waves hardly touch, in the quieter quarter of 0.2 s
    pieces, which QRS complexes do not reach.
    """
    pieces = _block_means(np.abs(np.diff(signal_uV, n=2, axis=-1)), fs_hz)
    quiet = pieces.shape[-1] // 4
    level = np.partition(pieces, quiet, axis=-1)[..., quiet]
    return np.asarray(level > NOISE_RMS_UV * _MEAN_ABSOLUTE_SECOND_DIFFERENCE)


def limb_swap(signal_uV: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Records whose limb leads are not what they are called, shape (...). Leads in the order of `models.types.LEADS`.

    Exchanged channels break Einthoven's law II = I + III or Goldberger's aVR = -(I + II)/2, aVL = (I - III)/2,
    aVF = (II + III)/2. Exchanged arm electrodes keep all four, but turn lead I over against V6.
    """
    one, two, three, avr, avl, avf, v6 = (signal_uV[..., i, :] for i in (0, 1, 2, 3, 4, 5, 11))
    errors = (two - one - three, avr + (one + two) / 2, avl - (one - three) / 2, avf - (two + three) / 2)
    worst = np.max([_rms(error) for error in errors], axis=0)
    limit = np.maximum(RELATION_RMS_UV, RELATION_SHARE * _rms(signal_uV[..., :6, :]).mean(axis=-1))
    return np.asarray((worst > limit) | (_correlation(np.diff(one, axis=-1), np.diff(v6, axis=-1)) < INVERSION))


def bit_mask(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Pack one flag a lead, shape (..., leads), into integers, shape (...): bit i stands for lead i."""
    return np.asarray((flags.astype(np.int32) << np.arange(flags.shape[-1], dtype=np.int32)).sum(axis=-1, dtype=np.int32))


def _block_means(values: NDArray[np.float32], fs_hz: float) -> NDArray[np.float32]:
    """Means over pieces of 0.2 s, or of the whole where it is shorter; a rest at the end is left out."""
    width = min(max(round(_BLOCK_S * fs_hz), 1), values.shape[-1])
    pieces = values.shape[-1] // width
    blocks = values[..., : pieces * width].reshape(*values.shape[:-1], pieces, width)
    return np.asarray(blocks @ np.full(width, 1 / width, values.dtype))  # several times as fast as mean() over a short axis


def _rms(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.sqrt(np.square(values).mean(axis=-1)))


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Pearson correlation along the last axis; 0 where one side is constant."""
    a = a - a.mean(axis=-1, keepdims=True)
    b = b - b.mean(axis=-1, keepdims=True)
    scale = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
    return np.asarray((a * b).sum(axis=-1) / np.where(scale > 0, scale, 1.0))
