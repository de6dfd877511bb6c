"""Signals as ECGFounder asks for them (Li et al., 2024): filtered, without baseline, one z-score over all leads of a record."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HUM_HZ, _QUALITY = 50.0, 30.0
_BAND_HZ, _ORDER = (0.67, 40.0), 4
_BASELINE_S = 0.4


def prepare(signal_BLT: NDArray[np.floating[Any]], fs_hz: float) -> NDArray[np.float32]:
    """Signals in any one unit as the network reads them, float32 (B, L, T).

    Notch at 50 Hz (where the rate holds it), band-pass 0.67 to 40 Hz, both forward and backward; minus the running median over 0.4 s,
    zeros beyond the ends; then (x - mean) / (standard deviation + 1e-8) with one mean and deviation of the whole record. A record
    that is flat in all leads becomes zero.
    """
    from scipy.ndimage import median_filter
    from scipy.signal import filtfilt, sosfiltfilt

    notch, band = _filters(fs_hz)
    filtered_BLT = np.asarray(signal_BLT, np.float64)
    if notch is not None:
        filtered_BLT = filtfilt(*notch, filtered_BLT, axis=-1)
    filtered_BLT = np.ascontiguousarray(sosfiltfilt(band, filtered_BLT, axis=-1))
    width = round(_BASELINE_S * fs_hz) // 2 * 2 + 1
    # Lead by lead: in one dimension scipy's median is the fast one.
    for lead_T in filtered_BLT.reshape(-1, filtered_BLT.shape[-1]):
        lead_T -= median_filter(lead_T, width, mode="constant")
    centred_BLT = filtered_BLT - filtered_BLT.mean(axis=(1, 2), keepdims=True)
    found_BLT: NDArray[np.float32] = (centred_BLT / (centred_BLT.std(axis=(1, 2), keepdims=True) + 1e-8)).astype(np.float32)
    return found_BLT


@cache
def _filters(fs_hz: float) -> tuple[tuple[Any, Any] | None, Any]:
    from scipy.signal import butter, iirnotch

    notch = iirnotch(_HUM_HZ, _QUALITY, fs_hz) if fs_hz > 2 * _HUM_HZ else None
    return notch, butter(_ORDER, _BAND_HZ, "bandpass", fs=fs_hz, output="sos")
