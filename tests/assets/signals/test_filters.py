"""Filters against scipy in float64, for every form of section, any number of leads and signals shorter than the padding."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, filtfilt, iirnotch, sosfiltfilt

from assets.signals.filters import bandpass, highpass, moving_average, notch
from models.errors import ConfigurationError

FS_HZ = 500.0
TENTH_OF_A_MICROVOLT = 0.1
SHAPES = [(12, 5000), (2, 12, 700), (17, 40), (1, 33), (3, 8), (2, 1)]
"""Lanes are 16: fewer, more, and lengths that are no multiple; the last are shorter than any padding."""


def walk(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Drifting signals of some millivolts, away from zero."""
    return (np.random.default_rng(seed).normal(0, 40, shape).cumsum(axis=-1) + 700).astype(np.float32)


def naive_sos(sos: NDArray[np.float64], signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """scipy's zero-phase filter with its default padding, as far as the signal is long enough."""
    taps = 2 * len(sos) + 1 - min((sos[:, 2] == 0).sum(), (sos[:, 5] == 0).sum())
    return sosfiltfilt(sos, signal.astype(np.float64), padlen=min(3 * taps, signal.shape[-1] - 1))


def assert_equal(ours: NDArray[np.float32], scipys: NDArray[np.float64]) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == scipys.shape
    np.testing.assert_allclose(ours, scipys, rtol=0, atol=0.01 * TENTH_OF_A_MICROVOLT)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("order", "low_hz", "high_hz"), [(4, 0.5, 40), (3, 0.5, 8), (1, 1, 150)])
def test_a_band_pass_is_scipys(shape: tuple[int, ...], order: int, low_hz: float, high_hz: float) -> None:
    signal = walk(*shape)
    before = signal.copy()
    wanted = naive_sos(butter(order, (low_hz, high_hz), "bandpass", fs=FS_HZ, output="sos"), signal)
    assert_equal(bandpass(signal, FS_HZ, low_hz, high_hz, order), wanted)
    np.testing.assert_array_equal(signal, before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("order", "cutoff_hz"), [(5, 0.5), (2, 0.67), (1, 0.05)])
def test_a_high_pass_is_scipys(shape: tuple[int, ...], order: int, cutoff_hz: float) -> None:
    signal = walk(*shape)
    wanted = naive_sos(butter(order, cutoff_hz, "highpass", fs=FS_HZ, output="sos"), signal)
    assert_equal(highpass(signal, FS_HZ, cutoff_hz, order), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_notch_is_scipys(shape: tuple[int, ...]) -> None:
    signal = walk(*shape)
    wanted = filtfilt(*iirnotch(50, 30, fs=FS_HZ), signal.astype(np.float64), padlen=min(9, shape[-1] - 1))
    assert_equal(notch(signal, FS_HZ, 50.0), wanted)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fs_hz", [500.0, 250.0, 128.0])
def test_a_moving_average_is_scipys(shape: tuple[int, ...], fs_hz: float) -> None:
    signal = walk(*shape)
    n = int(fs_hz / 50)
    wanted = filtfilt(np.ones(n), n, signal.astype(np.float64), padlen=min(3 * n, shape[-1] - 1))
    assert_equal(moving_average(signal, fs_hz, 50.0), wanted)


def test_an_electrode_offset_of_300_millivolts_costs_no_precision() -> None:
    signal = walk(12, 5000) + np.float32(300_000)
    wanted = naive_sos(butter(4, (0.5, 40), "bandpass", fs=FS_HZ, output="sos"), signal)
    assert_equal(bandpass(signal, FS_HZ, 0.5, 40), wanted)


def test_filters_of_a_batch_are_those_of_its_records() -> None:
    batch = walk(5, 12, 600)
    np.testing.assert_array_equal(bandpass(batch, FS_HZ, 0.5, 40), np.stack([bandpass(record, FS_HZ, 0.5, 40) for record in batch]))
    turned = walk(600, 12).T
    np.testing.assert_array_equal(bandpass(turned, FS_HZ, 0.5, 40), bandpass(np.ascontiguousarray(turned), FS_HZ, 0.5, 40))


def test_nothing_is_done_where_nothing_can_be_done() -> None:
    signal = walk(2, 100)
    assert notch(signal, 100.0, 50.0) is signal, "a signal of 100 Hz cannot hold a hum of 50 Hz"
    assert moving_average(signal, 99.0, 50.0) is signal, "one sample has no mean but itself"
    assert bandpass(np.zeros((2, 0), np.float32), FS_HZ, 0.5, 40).shape == (2, 0)


def test_a_band_that_does_not_fit_is_refused() -> None:
    for low_hz, high_hz in ((0.5, 30), (0, 20), (20, 10)):
        with pytest.raises(ConfigurationError, match="does not fit a signal of 60 Hz"):
            bandpass(walk(1, 100), 60.0, low_hz, high_hz)
    with pytest.raises(ConfigurationError, match="cut-off of 30 Hz does not fit a signal of 60 Hz"):
        highpass(walk(1, 100), 60.0, 30.0)


def test_importing_signals_imports_neither_numba_nor_scipy() -> None:
    code = (
        "import sys, assets.signals.preprocess, assets.signals.quality, assets.signals.repair, assets.signals.counts;"
        "sys.exit(' '.join({'numba', 'scipy', 'llvmlite'} & sys.modules.keys()) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
