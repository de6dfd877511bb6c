"""Changes the sampling rate."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def resample(
    signal: NDArray[np.float32], from_hz: float, to_hz: float, method: Literal["polyphase", "fourier"] = "polyphase"
) -> NDArray[np.float32]:
    """Change the sampling rate along the last axis.

    Polyphase keeps the line from first to last sample out of its filter, so that a baseline leaves no edge.

    Args:
        signal: finite samples, shape (..., samples).
        from_hz: rate of the signal.
        to_hz: rate of the result.
        method: see `models.recipes.Resample`.
    """
    if from_hz == to_hz:
        return signal
    from scipy.signal import resample_poly

    ratio = Fraction(to_hz / from_hz).limit_denominator(1000)
    return np.asarray(resample_poly(signal, ratio.numerator, ratio.denominator, axis=-1, padtype="line"), np.float32)
