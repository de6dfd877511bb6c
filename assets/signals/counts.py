"""Turns signals into the whole numbers of a store."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST_COUNT = 32767
"""Of either sign; -32768 is left free."""


def to_counts(signal_BLT: NDArray[np.float32], scale_L: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Counts of a signal, rounded half to even.

    Args:
        signal_BLT: finite, in each channel's unit, shape (..., channels, samples).
        scale_L: units per count, shape (channels,).

    Returns:
        int16 of the signal's shape, and which channels go beyond `LARGEST_COUNT`, shape (..., channels); what does is cut off.
    """
    from assets.signals import scans

    flat_NT = np.ascontiguousarray(signal_BLT, np.float32).reshape(-1, signal_BLT.shape[-1])
    scale_N = np.broadcast_to(np.asarray(scale_L, np.float32), signal_BLT.shape[:-1]).reshape(-1)
    counts_NT, over_N = scans.to_counts(flat_NT, np.ascontiguousarray(scale_N), LARGEST_COUNT)
    return counts_NT.reshape(signal_BLT.shape), over_N.reshape(signal_BLT.shape[:-1])
