"""Running medians, and the baseline that they find."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError

Edges = Literal["zero", "replicate"]


def remove_baseline(
    signal: NDArray[np.float32], fs_hz: float, first_s: float, second_s: float, edges: Edges = "zero"
) -> NDArray[np.float32]:
    """Subtract the baseline: the running median over `second_s` of the running median over `first_s`.

    Widths are `round(seconds * fs_hz)` samples, one more where that is even; what lies beyond the ends is said in
    `running_median`. Float32 of shape (..., samples) in and out; the samples must be finite.
    """
    if not signal.size:
        return signal
    flat_NT = np.ascontiguousarray(signal, np.float32).reshape(-1, signal.shape[-1])
    baseline_NT = running_median(running_median(flat_NT, odd_width(first_s, fs_hz), edges), odd_width(second_s, fs_hz), edges)
    return (flat_NT - baseline_NT).reshape(signal.shape)


def running_median(signal_NT: NDArray[np.float32], width: int, edges: Edges = "zero") -> NDArray[np.float32]:
    """Median of `width` (odd) samples around each, shape (leads, samples) in and out.

    Beyond the ends there are zeros, as in `scipy.signal.medfilt`, or the outermost sample over and over ("replicate"), as in
    `scipy.ndimage.median_filter` with mode "nearest".

    Raises:
        ConfigurationError: the width is even, so that no sample is in its middle.
    """
    from assets.signals.order_statistics import running_medians

    if width < 1 or width % 2 == 0:
        raise ConfigurationError(f"a running median of {width} samples has no middle; choose an odd width")
    if edges == "zero":
        return running_medians(np.ascontiguousarray(signal_NT, np.float32), width)
    half, length = width // 2, signal_NT.shape[-1]
    padded_NT = np.pad(np.asarray(signal_NT, np.float32), ((0, 0), (half, half)), mode="edge")
    return running_medians(padded_NT, width)[:, half : half + length]


def odd_width(seconds: float, fs_hz: float) -> int:
    """Samples of a window with a middle."""
    return round(seconds * fs_hz) // 2 * 2 + 1
