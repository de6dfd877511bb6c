"""Signal quality of ECG leads, as flags that travel with a record and decide nothing by themselves.

Thresholds were set on 4,000 records of PTB-XL at 100 Hz and are stated with what they find there. All functions take
microvolts of shape (..., leads, samples): one record or a batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]

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

_PIECE_S = 0.2
_MEAN_ABSOLUTE_SECOND_DIFFERENCE = math.sqrt(6.0) * math.sqrt(2.0 / math.pi)
"""Of white noise with standard deviation 1."""


class LeadFlags(NamedTuple):
    """What is wrong with leads, each of shape (..., leads)."""

    flat: Flags
    saturated: Flags
    noisy: Flags


def lead_flags(signal_uV: NDArray[np.float32], fs_hz: float) -> LeadFlags:
    """All three flags of leads in one pass over their samples.

    - flat: does not move, or stands still for a good part of the time;
    - saturated: was cut off at the end of the amplifier's range;
    - noisy: under steady noise of high frequency. Noise is read from second differences, which drift and the slow waves hardly
      touch, in the quieter quarter of 0.2 s pieces, which QRS complexes do not reach.

    Pieces last 0.2 s, or the whole where that is shorter; a rest at the end is left out.
    """
    from assets.signals.scans import judge_leads

    flags_3N = judge_leads(
        _contiguous(signal_uV).reshape(-1, signal_uV.shape[-1]),
        max(round(_PIECE_S * fs_hz), 1),
        FLAT_UV,
        FLAT_SHARE,
        RAIL_UV,
        RAIL_SHARE,
        NOISE_RMS_UV * _MEAN_ABSOLUTE_SECOND_DIFFERENCE,
    )
    return LeadFlags(*flags_3N.reshape(3, *signal_uV.shape[:-1]))


def flat_leads(signal_uV: NDArray[np.float32], fs_hz: float) -> Flags:
    """The first of `lead_flags`."""
    return lead_flags(signal_uV, fs_hz).flat


def saturated_leads(signal_uV: NDArray[np.float32]) -> Flags:
    """The second of `lead_flags`, which knows no rate."""
    return lead_flags(signal_uV, 1.0).saturated


def noisy_leads(signal_uV: NDArray[np.float32], fs_hz: float) -> Flags:
    """The third of `lead_flags`."""
    return lead_flags(signal_uV, fs_hz).noisy


def limb_swap(signal_uV: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Records whose limb leads are not what they are called, shape (...). Leads in the order of `models.types.LEADS`.

    Exchanged channels break Einthoven's law II = I + III or Goldberger's aVR = -(I + II)/2, aVL = (I - III)/2,
    aVF = (II + III)/2. Exchanged arm electrodes keep all four, but turn lead I over against V6.
    """
    from assets.signals.scans import limb_lead_errors

    worst, level, correlation = limb_lead_errors(_contiguous(signal_uV).reshape(-1, *signal_uV.shape[-2:]))
    limit = np.maximum(RELATION_RMS_UV, RELATION_SHARE * level)
    return np.asarray((worst > limit) | (correlation < INVERSION)).reshape(signal_uV.shape[:-2])


def bit_mask(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Pack one flag a lead, shape (..., leads), into integers, shape (...): bit i stands for lead i."""
    return np.asarray((flags.astype(np.int32) << np.arange(flags.shape[-1], dtype=np.int32)).sum(axis=-1, dtype=np.int32))


def _contiguous(signal_uV: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(signal_uV, np.float32)
