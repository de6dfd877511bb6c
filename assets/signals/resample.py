"""Changes the sampling rate."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError

_LARGEST_FACTOR = 10_000
_WORST_RATIO = 1e-5
"""Relative error of the ratio of two rates as a fraction of small numbers: over a day it makes a second."""


def resample(
    signal: NDArray[np.float32], from_hz: float, to_hz: float, method: Literal["polyphase", "fourier"] = "polyphase"
) -> NDArray[np.float32]:
    """Change the sampling rate along the last axis.

    Both equal scipy's function in float64 to within the rounding of float32.

    Args:
        signal: finite samples, shape (..., samples).
        from_hz: rate of the signal.
        to_hz: rate of the result.
        method: "polyphase" is `resample_poly(padtype="line")`: the signal goes on along the line from its first to its last
            sample, so a baseline leaves no edge; samples * to_hz / from_hz come out, rounded up. "fourier" is
            `resample`: the signal repeats itself; int(samples * to_hz / from_hz) come out.

    Returns:
        float32; the signal itself where the rates are equal.

    Raises:
        ConfigurationError: the rates have no ratio of whole numbers up to 10,000, or no sample would be left.
    """
    if from_hz == to_hz or not signal.size:
        return signal
    if method == "fourier":
        return _fourier(signal, int(signal.shape[-1] * to_hz / from_hz), from_hz, to_hz)
    ratio = _ratio(to_hz, from_hz) if to_hz < from_hz else 1 / _ratio(from_hz, to_hz)
    if abs(ratio * from_hz / to_hz - 1) > _WORST_RATIO or ratio.numerator > _LARGEST_FACTOR:
        raise ConfigurationError(
            f"{from_hz:g} Hz cannot be brought to {to_hz:g} Hz by whole numbers up to {_LARGEST_FACTOR}; change the recipe"
        )
    from assets.signals.lanes import polyphase

    up, down = ratio.numerator, ratio.denominator
    weights_PK, centre = _response(up, down)
    length = signal.shape[-1]
    n_out = -(-length * up // down)
    before = weights_PK.shape[1] - 1 - centre // up
    after = max(((n_out - 1) * down + centre) // up - (length - 1), 0)
    flat_NT = np.ascontiguousarray(signal, np.float32).reshape(-1, length)
    return polyphase(flat_NT, up, down, centre, weights_PK, before, after, n_out, True).reshape(*signal.shape[:-1], n_out)


def _ratio(low_hz: float, high_hz: float) -> Fraction:
    """The fraction of whole numbers up to `_LARGEST_FACTOR` that is nearest to a ratio below 1."""
    return Fraction(low_hz / high_hz).limit_denominator(_LARGEST_FACTOR)


def _fourier(signal: NDArray[np.float32], n_out: int, from_hz: float, to_hz: float) -> NDArray[np.float32]:
    if n_out < 1:
        raise ConfigurationError(f"{signal.shape[-1]} samples at {from_hz:g} Hz are less than one at {to_hz:g} Hz; change the recipe")
    from scipy.signal import resample as by_fourier

    return np.asarray(by_fourier(signal, n_out, axis=-1), np.float32)


@lru_cache(maxsize=64)
def _response(up: int, down: int) -> tuple[NDArray[np.float64], int]:
    """The low-pass of `resample_poly` (Kaiser window, beta 5, ten zero crossings) by phase, last tap first, and its middle.

    Phase p holds the taps p, p + up, ...; zeros fill up to a multiple of four taps.
    """
    from scipy.signal import firwin

    centre = 10 * max(up, down)
    taps = firwin(2 * centre + 1, 1 / max(up, down), window=("kaiser", 5.0)) * up
    n_taps = -(-taps.size // up)
    laid_out = np.zeros((n_taps + -n_taps % 4) * up)
    laid_out[: taps.size] = taps
    return np.ascontiguousarray(laid_out.reshape(-1, up).T[:, ::-1]), centre
