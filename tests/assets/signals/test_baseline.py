"""Running medians against scipy's, bit for bit, and the baseline that MoRE takes away."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter
from scipy.signal import medfilt

from assets.signals.baseline import odd_width, remove_baseline, running_median
from assets.signals.simulate import simulate
from models.errors import ConfigurationError


@pytest.mark.parametrize("width", [1, 3, 15, 17, 61, 201])
@pytest.mark.parametrize("length", [1, 2, 16, 100, 300])
@pytest.mark.filterwarnings("ignore:kernel_size exceeds volume")
def test_medians_are_scipys_with_and_without_ties(width: int, length: int) -> None:
    rng = np.random.default_rng(0)
    for signal in (rng.normal(200, 300, (2, length)), np.round(rng.normal(1, 2, (3, length)))):
        wanted = np.stack([medfilt(lead, width) for lead in signal.astype(np.float32)])
        np.testing.assert_array_equal(running_median(signal.astype(np.float32), width), wanted)


@pytest.mark.parametrize("width", [1, 5, 21, 101, 301])
@pytest.mark.parametrize("length", [1, 30, 1000])
def test_medians_with_replicated_edges_are_those_of_ndimage(width: int, length: int) -> None:
    rng = np.random.default_rng(0)
    for signal in (rng.normal(200, 300, (2, length)), np.round(rng.normal(1, 2, (3, length)))):
        wanted = median_filter(signal.astype(np.float32), size=(1, width), mode="nearest")
        np.testing.assert_array_equal(running_median(signal.astype(np.float32), width, "replicate"), wanted)


def test_a_window_without_a_middle_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="4 samples has no middle"):
        running_median(np.zeros((1, 100), np.float32), 4)


def test_widths_are_odd() -> None:
    assert [odd_width(0.2, 100), odd_width(0.6, 100), odd_width(0.2, 500), odd_width(0.6, 500), odd_width(0.2, 257)] == [
        21,
        61,
        101,
        301,
        51,
    ]


def test_the_baseline_is_the_median_of_the_median() -> None:
    signal = simulate(["NORM"], np.random.default_rng(0), 100.0)
    drift = (400 * np.sin(2 * np.pi * 0.2 * np.arange(1000) / 100)).astype(np.float32)
    wanted = np.stack([lead - medfilt(medfilt(lead, 21), 61) for lead in signal + drift])
    cleaned = remove_baseline(np.stack([signal + drift] * 2), 100.0, 0.2, 0.6)
    np.testing.assert_array_equal(cleaned[1], wanted)
    assert np.abs(np.median(cleaned, axis=-1)).max() < 15


def test_a_constant_lead_becomes_zero_away_from_the_edges() -> None:
    cleaned = remove_baseline(np.full((1, 1000), 700, np.float32), 100.0, 0.2, 0.6)
    assert not cleaned[:, 40:-40].any()


@pytest.mark.parametrize(("fs_hz", "length"), [(500.0, 5000), (100.0, 1000)])
def test_with_replicated_edges_offsets_vanish_and_ramps_are_flattened(fs_hz: float, length: int) -> None:
    """Invariant 7 of the stacked scalograms."""

    def clean(signal: np.ndarray) -> np.ndarray:
        return remove_baseline(signal.astype(np.float32), fs_hz, 0.2, 0.6, "replicate")

    assert not clean(np.full((2, length), 700)).any() and not clean(np.zeros((2, length))).any()
    ecg = np.round(simulate(["NORM"], np.random.default_rng(0), fs_hz))
    assert clean(ecg).shape == (12, length)
    np.testing.assert_array_equal(clean(ecg + 512), clean(ecg))
    ramp = np.linspace(-1000, 1000, length)[None]
    edge = int(0.4 * fs_hz)
    assert np.abs(clean(ramp))[:, edge:-edge].max() < 0.05 * 1000
