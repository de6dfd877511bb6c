"""Zero-phase filters: they move no wave in time.

Each is what the scipy function named beside it gives in float64, to within the rounding of float32; the samples at the ends are
continued as scipy does by default, by fewer samples where the signal is shorter than that (scipy's `padlen` of its length - 1).
All take finite float32 of shape (..., samples) and give the same shape; none writes its input.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError

if TYPE_CHECKING:
    from assets.signals.lanes import Section

Signal = NDArray[np.float32]


def bandpass(signal: Signal, fs_hz: float, low_hz: float, high_hz: float, order: int = 4) -> Signal:
    """Butterworth band-pass, `sosfiltfilt(butter(order, (low_hz, high_hz), "bandpass", output="sos"))`.

    Raises:
        ConfigurationError: the band does not fit below half of the sampling rate.
    """
    if not 0 < low_hz < high_hz < fs_hz / 2:
        raise ConfigurationError(f"a band from {low_hz:g} to {high_hz:g} Hz does not fit a signal of {fs_hz:g} Hz; change the recipe")
    return _run(signal, *_bandpass_sections(order, low_hz, high_hz, fs_hz))


def highpass(signal: Signal, fs_hz: float, cutoff_hz: float, order: int = 4) -> Signal:
    """Butterworth high-pass, `sosfiltfilt(butter(order, cutoff_hz, "highpass", output="sos"))`.

    Raises:
        ConfigurationError: the cut-off does not lie between 0 and half of the sampling rate.
    """
    if not 0 < cutoff_hz < fs_hz / 2:
        raise ConfigurationError(f"a cut-off of {cutoff_hz:g} Hz does not fit a signal of {fs_hz:g} Hz; change the recipe")
    return _run(signal, *_highpass_sections(order, cutoff_hz, fs_hz))


def notch(signal: Signal, fs_hz: float, hum_hz: float, quality: float = 30.0) -> Signal:
    """Take out mains hum, `filtfilt(*iirnotch(hum_hz, quality))`; a signal that cannot hold it is returned as it is."""
    if hum_hz >= fs_hz / 2:
        return signal
    return _run(signal, *_notch_sections(hum_hz, quality, fs_hz))


def moving_average(signal: Signal, fs_hz: float, hum_hz: float) -> Signal:
    """Mean over `int(fs_hz / hum_hz)` samples, `filtfilt(np.ones(n) / n, 1)`; unchanged where that is less than two samples."""
    n = int(fs_hz / hum_hz)
    length = signal.shape[-1]
    if n < 2 or not signal.size:
        return signal
    if length <= 3 * n:  # what lies beyond the continued ends reaches into the signal
        from scipy.signal import filtfilt

        padded = filtfilt(np.full(n, 1 / n), [1.0], np.asarray(signal, np.float64), axis=-1, padlen=length - 1)
        return np.asarray(padded, np.float32)
    from assets.signals.lanes import polyphase

    taps = np.convolve(np.full(n, 1 / n), np.full(n, 1 / n))
    weights_PK = np.append(np.zeros(-taps.size % 4), taps)[None]
    summed = polyphase(_flat(signal), 1, 1, n - 1, weights_PK, weights_PK.size - n, n - 1, length, False)
    return summed.reshape(signal.shape)


def _run(signal: Signal, edge: int, gain: float, sections: tuple[Section, ...]) -> Signal:
    if not signal.size:
        return signal
    from assets.signals.lanes import zero_phase

    return zero_phase(_flat(signal), min(edge, signal.shape[-1] - 1), gain, sections).reshape(signal.shape)


def _flat(signal: Signal) -> Signal:
    return np.ascontiguousarray(signal, np.float32).reshape(-1, signal.shape[-1])


@lru_cache(maxsize=64)
def _bandpass_sections(order: int, low_hz: float, high_hz: float, fs_hz: float) -> tuple[int, float, tuple[Section, ...]]:
    """Sections with the numerator 1 - z^-2: a band-pass has as many zeros at 0 Hz as at half the sampling rate."""
    from scipy.signal import butter

    _, poles, gain = butter(order, (low_hz, high_hz), "bandpass", fs=fs_hz, output="zpk")
    return 3 * (2 * order + 1), float(gain), _sections([(a1, a2, 0.0, -1.0) for a1, a2 in _denominators(poles)], band=True)


@lru_cache(maxsize=64)
def _highpass_sections(order: int, cutoff_hz: float, fs_hz: float) -> tuple[int, float, tuple[Section, ...]]:
    """All zeros at 0 Hz; an odd order has one section of the first order, and scipy counts its taps for the edge."""
    from scipy.signal import butter

    _, poles, gain = butter(order, cutoff_hz, "highpass", fs=fs_hz, output="zpk")
    rows = [(a1, a2, -1.0, 0.0) if a2 == 0 else (a1, a2, -2.0, 1.0) for a1, a2 in _denominators(poles)]
    return 3 * (2 * len(rows) + 1 - order % 2), float(gain), _sections(rows)


@lru_cache(maxsize=64)
def _notch_sections(hum_hz: float, quality: float, fs_hz: float) -> tuple[int, float, tuple[Section, ...]]:
    from scipy.signal import iirnotch

    (b0, b1, b2), (_, a1, a2) = iirnotch(hum_hz, quality, fs=fs_hz)
    return 9, float(b0), _sections([(float(a1), float(a2), float(b1 / b0), float(b2 / b0))])


def _denominators(poles: NDArray[np.complex128]) -> list[tuple[float, float]]:
    """Second-order denominators a1, a2, those nearest to the unit circle last; real poles two by two, a single one with a2 = 0."""
    upper = sorted((complex(p) for p in poles if p.imag > 0), key=abs)
    real = sorted(float(p.real) for p in poles if p.imag == 0)
    pairs = [(-2 * p.real, abs(p) ** 2) for p in upper]
    pairs += [(-(real[i] + real[i + 1]), real[i] * real[i + 1]) for i in range(0, len(real) - 1, 2)]
    return [(-real[-1], 0.0), *pairs] if len(real) % 2 else pairs


def _sections(rows: list[tuple[float, float, float, float]], band: bool = False) -> tuple[Section, ...]:
    """Add the states of a steady input of 1 to sections a1, a2, b1, b2 (b0 is 1), and leave out a band-pass's numerator."""
    sections: list[Any] = []
    level = 1.0
    for a1, a2, b1, b2 in rows:
        steady = level * math.fsum((1.0, b1, b2)) / math.fsum((1.0, a1, a2))
        r = b2 * level - a2 * steady
        s = b1 * level - a1 * steady + r
        sections.append((a1, a2, s, r) if band else (a1, a2, s, r, b1, b2))
        level = steady
    return tuple(sections)
