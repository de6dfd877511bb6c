"""Fills missing samples, and says when a recording cannot be saved.

The rule is the one that MERL's preparation intends: a sample that is not finite becomes the mean of the finite samples of its lead
at most six samples away, or of the whole lead where there are none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REACH = 6
"""Samples to either side that a missing sample is filled from."""


def is_whole(signal_LT: NDArray[np.float32]) -> bool:
    """Whether no sample is missing: one pass over the signal, in place."""
    from assets.signals.scans import all_finite

    return all_finite(np.ascontiguousarray(signal_LT, np.float32).reshape(-1))


def missing_samples(signal_LT: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which samples are missing (NaN or infinite), same shape as the signal."""
    return np.asarray(~np.isfinite(signal_LT))


def fill_missing(signal_LT: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace missing samples; the result shares memory with the input when there are none.

    Args:
        signal_LT: any unit, shape (leads, samples).

    Returns:
        float32 of the same shape. A lead without a single finite sample stays as it is.
    """
    if is_whole(signal_LT):
        return signal_LT
    missing_LT = missing_samples(signal_LT)
    filled_LT = signal_LT.copy()
    lead = np.flatnonzero(missing_LT.any(axis=1) & ~missing_LT.all(axis=1))
    finite = ~missing_LT[lead]
    values = np.where(finite, signal_LT[lead], 0.0).astype(np.float64)
    near = np.maximum(np.arange(values.shape[1]) - REACH, 0)
    far = np.minimum(np.arange(values.shape[1]) + REACH + 1, values.shape[1])
    total = _sums_before(values)
    count = _sums_before(finite.astype(np.float64))
    window_sum, window_count = total[:, far] - total[:, near], count[:, far] - count[:, near]
    lead_mean = total[:, -1:] / count[:, -1:]
    mean = np.where(window_count > 0, window_sum / np.maximum(window_count, 1), lead_mean)
    filled_LT[lead] = np.where(finite, signal_LT[lead], mean)
    return filled_LT


def dead_leads(signal_LT: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which leads have no finite sample at all, shape (leads,)."""
    return np.asarray(missing_samples(signal_LT).all(axis=1))


def is_constant(signal_LT: NDArray[np.float32]) -> bool:
    """Whether every lead keeps one value from beginning to end: a recording of nothing. Missing samples must be filled."""
    from assets.signals.scans import never_moves

    return never_moves(np.ascontiguousarray(signal_LT, np.float32))


def _sums_before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of all values before each position, one position more than there are values."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums
