"""Zero-phase filters: they move no wave in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError

ORDER = 4
"""Of the Butterworth prototype; forward and backward together it counts twice."""

NOTCH_QUALITY = 30.0


def bandpass(signal_LT: NDArray[np.float32], fs_hz: float, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Keep what lies between two frequencies, shape (..., samples) in and out.

    Raises:
        ConfigurationError: the band does not fit below half of the sampling rate.
    """
    from scipy.signal import butter, sosfiltfilt

    if not 0 < low_hz < high_hz < fs_hz / 2:
        raise ConfigurationError(f"a band from {low_hz:g} to {high_hz:g} Hz does not fit a signal of {fs_hz:g} Hz; change the recipe")
    return np.asarray(sosfiltfilt(butter(ORDER, (low_hz, high_hz), "bandpass", fs=fs_hz, output="sos"), signal_LT, axis=-1), np.float32)


def notch(signal_LT: NDArray[np.float32], fs_hz: float, hum_hz: float) -> NDArray[np.float32]:
    """Take out mains hum, shape (..., samples) in and out; a signal that cannot hold it is returned as it is."""
    from scipy.signal import filtfilt, iirnotch

    if hum_hz >= fs_hz / 2:
        return signal_LT
    return np.asarray(filtfilt(*iirnotch(hum_hz, NOTCH_QUALITY, fs=fs_hz), signal_LT, axis=-1), np.float32)
