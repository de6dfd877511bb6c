"""Resampling against scipy in float64."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import signal as peer

from assets.signals.resample import resample
from models.errors import ConfigurationError

RATES = [(500, 100), (500, 250), (1000, 500), (100, 500), (257, 500), (360, 250), (400, 500), (128, 500)]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("shape", [(12, 1000), (2, 9, 333), (3, 7)])
def test_polyphase_is_scipys(from_hz: float, to_hz: float, shape: tuple[int, ...]) -> None:
    signal = (np.random.default_rng(0).normal(0, 40, shape).cumsum(axis=-1) + 700).astype(np.float32)
    ratio = Fraction(to_hz / from_hz).limit_denominator(1000)
    wanted = peer.resample_poly(signal.astype(np.float64), ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    ours = resample(signal, from_hz, to_hz)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_fourier_is_scipys_and_rounds_the_length_down(from_hz: float, to_hz: float) -> None:
    signal = (np.random.default_rng(0).normal(0, 40, (12, 997)).cumsum(axis=-1) + 700).astype(np.float32)
    ours = resample(signal, from_hz, to_hz, "fourier")
    assert ours.shape == (12, int(997 * to_hz / from_hz))
    np.testing.assert_allclose(ours, peer.resample(signal.astype(np.float64), ours.shape[1], axis=-1), rtol=0, atol=1e-2)


@pytest.mark.parametrize("fs_hz", [100, 125, 250, 400, 500])
def test_ten_seconds_at_any_rate_become_2500_samples(fs_hz: float) -> None:
    signal = np.ones((1, int(10 * fs_hz)), np.float32)
    for method in ("polyphase", "fourier"):
        assert resample(signal, fs_hz, 250.0, method).shape == (1, 2500)  # type: ignore[arg-type]


def test_a_constant_stays_within_the_ripple_of_scipys_window_and_one_sample_is_a_signal() -> None:
    np.testing.assert_allclose(resample(np.full((2, 400), 700, np.float32), 400, 500), 700, rtol=1e-3)
    np.testing.assert_allclose(resample(np.full((1, 1), 700, np.float32), 100, 300), [[700] * 3], rtol=2e-3)
    signal = np.ones((2, 4), np.float32)
    assert resample(signal, 500, 500) is signal


def test_rates_without_a_ratio_of_small_numbers_are_refused() -> None:
    signal = np.ones((1, 5000), np.float32)
    with pytest.raises(ConfigurationError, match=r"100 Hz cannot be brought to 100\.004 Hz"):
        resample(signal, 100, 100.004)
    with pytest.raises(ConfigurationError, match="less than one"):
        resample(signal, 100_000, 10, "fourier")
