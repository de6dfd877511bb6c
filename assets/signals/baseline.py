"""Running medians, and the baseline that they find."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def remove_baseline(signal: NDArray[np.float32], fs_hz: float, first_s: float, second_s: float) -> NDArray[np.float32]:
    """Subtract the baseline: the running median over `second_s` of the running median over `first_s`.

    Widths are `round(seconds * fs_hz)` samples, one more where that is even, with zeros beyond the ends, as
    `scipy.signal.medfilt` takes them. Float32 of shape (..., samples) in and out; the samples must be finite.
    """
    if not signal.size:
        return signal
    flat_NT = np.ascontiguousarray(signal, np.float32).reshape(-1, signal.shape[-1])
    baseline_NT = running_median(running_median(flat_NT, odd_width(first_s, fs_hz)), odd_width(second_s, fs_hz))
    return (flat_NT - baseline_NT).reshape(signal.shape)


def running_median(signal_NT: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Median of `width` (odd) samples around each, zeros beyond the ends, shape (leads, samples) in and out."""
    from assets.signals.order_statistics import running_medians

    return running_medians(np.ascontiguousarray(signal_NT, np.float32), width)


def odd_width(seconds: float, fs_hz: float) -> int:
    """Samples of a window with a middle."""
    return round(seconds * fs_hz) // 2 * 2 + 1
