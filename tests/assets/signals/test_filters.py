"""Filters keep what lies in their band where it is, and take out the rest."""

from __future__ import annotations

import numpy as np
import pytest

from assets.datasets.ptb_xl import PTBXL
from assets.record import Record
from assets.signals.filters import bandpass, notch
from assets.store import cut_windows
from models.errors import ConfigurationError
from models.recipes import RECIPES
from models.types import LEADS

FS_HZ = 500.0
T = np.arange(5000) / FS_HZ
MIDDLE = slice(2000, 3000)
"""Where a high-pass at 0.5 Hz has forgotten the ends of the record."""


def wave(*hz: float) -> np.ndarray:
    return np.stack([np.sin(2 * np.pi * f * T) * 1000 for f in hz]).astype(np.float32)


def gain(filtered: np.ndarray, original: np.ndarray) -> np.ndarray:
    return filtered[:, MIDDLE].std(axis=1) / original[:, MIDDLE].std(axis=1)


def test_a_band_passes_what_lies_in_it_without_moving_it() -> None:
    signal = wave(0.05, 5.0, 10.0, 120.0)
    filtered = bandpass(signal, FS_HZ, 0.5, 40.0)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(filtered[1:3, MIDDLE], signal[1:3, MIDDLE], atol=8)
    assert (gain(filtered, signal)[[0, 3]] < 0.02).all()


def test_the_edges_are_at_half_power_each_way() -> None:
    """Forward and backward, the amplitude at an edge is 1/sqrt(2) squared."""
    signal = wave(40.0)
    assert gain(bandpass(signal, FS_HZ, 0.5, 40.0), signal)[0] == pytest.approx(0.5, abs=0.01)


def test_a_notch_takes_the_hum_and_leaves_the_rest() -> None:
    signal = wave(50.0, 10.0, 45.0)
    left = gain(notch(signal, FS_HZ, 50.0), signal)
    assert left[0] < 0.02
    assert (left[1:] > 0.97).all()
    assert notch(signal, 100.0, 50.0) is signal, "a signal of 100 Hz cannot hold a hum of 50 Hz"


def test_a_band_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not fit a signal of 60 Hz"):
        bandpass(wave(5.0), 60.0, 0.5, 40.0)


def test_a_recipe_filters_before_it_resamples() -> None:
    signal = np.repeat(wave(8.0) + wave(50.0) + 500, 12, axis=0) * np.arange(1, 13)[:, None]
    record = Record(signal.astype(np.float32), LEADS, FS_HZ, ("uV",) * 12, "")
    windows, _ = cut_windows(record, PTBXL.channels(), RECIPES["filtered"], 100.0, 10.0)
    wanted = (np.repeat(wave(8.0), 12, axis=0) * np.arange(1, 13)[:, None])[:, ::5]
    np.testing.assert_allclose(windows[0].signal_LT[:, 400:600], wanted[:, 400:600], atol=0.01 * 12000)
