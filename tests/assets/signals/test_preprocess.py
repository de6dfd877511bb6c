"""Recipes: steps run in order, on the channels that they are meant for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, filtfilt, resample, resample_poly, sosfiltfilt

from assets.signals.preprocess import preprocess
from models.errors import ConfigurationError
from models.recipes import RECIPES, BandPass, HighPass, MedianBaseline, MedianSmooth, MovingAverage, Notch, Recipe, Resample

RNG = np.random.default_rng(0)
SIGNAL = (RNG.normal(0, 30, (3, 2, 2500)).cumsum(axis=-1) + 100).astype(np.float32)


def test_a_mixed_record_is_filtered_by_kind() -> None:
    """CSFM's preparation: Fourier to 250 Hz, then one filter for ECG and another for PPG."""
    recipe = Recipe(
        "csfm",
        fs_hz=250.0,
        steps=(
            Resample("fourier"),
            HighPass(0.5, order=5, kinds=("ECG",)),
            MovingAverage(50.0, kinds=("ECG",)),
            BandPass(0.5, 8.0, order=3, kinds=("PPG",)),
        ),
    )
    done = preprocess(SIGNAL, ["ECG", "PPG"], 500.0, recipe)
    slow = resample(SIGNAL.astype(np.float64), 1250, axis=-1)
    ecg = filtfilt(np.ones(5) / 5, 1, sosfiltfilt(butter(5, 0.5, "highpass", fs=250, output="sos"), slow[:, 0]))
    ppg = sosfiltfilt(butter(3, (0.5, 8), "bandpass", fs=250, output="sos"), slow[:, 1])
    np.testing.assert_allclose(done, np.stack([ecg, ppg], axis=1), rtol=0, atol=0.02)


def test_the_rate_comes_last_where_no_step_says_when() -> None:
    done = preprocess(SIGNAL, ["ECG", "ECG"], 500.0, Recipe("r", fs_hz=100.0, steps=(BandPass(0.5, 40.0),)))
    filtered = sosfiltfilt(butter(4, (0.5, 40), "bandpass", fs=500, output="sos"), SIGNAL.astype(np.float64))
    np.testing.assert_allclose(done, resample_poly(filtered, 1, 5, axis=-1, padtype="line"), rtol=0, atol=0.01)


@pytest.mark.parametrize("step", [Notch(), BandPass(0.5, 40.0), HighPass(0.5), MovingAverage(), MedianBaseline(), MedianSmooth()])
def test_other_kinds_stay_as_they_are(step: Notch | BandPass | HighPass | MovingAverage | MedianBaseline | MedianSmooth) -> None:
    before = SIGNAL.copy()
    alone = preprocess(SIGNAL[:, :1], ["ECG"], 500.0, Recipe("r", steps=(step,)))
    for_ecg = type(step)(**{**vars(step), "kinds": ("ECG",)})
    done = preprocess(SIGNAL, ["ECG", "PPG"], 500.0, Recipe("r", steps=(for_ecg,)))
    np.testing.assert_array_equal(done[:, :1], alone)
    np.testing.assert_array_equal(done[:, 1], SIGNAL[:, 1])
    assert (done[:, 0] != SIGNAL[:, 0]).any()
    assert preprocess(SIGNAL, ["RESP", "PPG"], 500.0, Recipe("r", steps=(for_ecg,))) is SIGNAL
    np.testing.assert_array_equal(SIGNAL, before)


@pytest.mark.parametrize("step", [Notch(), BandPass(0.5, 40.0), HighPass(0.5), MovingAverage(), MedianBaseline(), MedianSmooth()])
def test_a_step_for_some_sources_leaves_others_alone(
    step: Notch | BandPass | HighPass | MovingAverage | MedianBaseline | MedianSmooth,
) -> None:
    limited = Recipe("r", steps=(type(step)(**{**vars(step), "sources": ("code15", "cinc2021/ptb")}),))
    everywhere = preprocess(SIGNAL, ["ECG", "ECG"], 500.0, Recipe("r", steps=(step,)))
    for meant in (("code15", "code15/"), ("cinc2021", "cinc2021/ptb")):
        np.testing.assert_array_equal(preprocess(SIGNAL, ["ECG", "ECG"], 500.0, limited, meant), everywhere)
    for other in ((), ("cinc2021", "cinc2021/ptb-xl"), ("ptb", "ptb/")):
        assert preprocess(SIGNAL, ["ECG", "ECG"], 500.0, limited, other) is SIGNAL


def test_nothing_to_do_copies_nothing() -> None:
    assert preprocess(SIGNAL, ["ECG", "ECG"], 500.0, RECIPES["native"]) is SIGNAL  # type: ignore[arg-type]


def test_a_band_beyond_the_rate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="change the recipe"):
        preprocess(SIGNAL, ["ECG", "ECG"], 50.0, Recipe("r", steps=(BandPass(0.5, 40.0),)))
