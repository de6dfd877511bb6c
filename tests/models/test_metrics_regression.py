"""Errors of numbers against scikit-learn and scipy, and their intervals against a loop over resamples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from models.metrics.bootstrap import draw_with_replacement
from models.metrics.classification import MetricError
from models.metrics.regression import METRICS, error_intervals, errors, paired_errors


def drawn(seed: int = 0, n: int = 60, patients: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patient_N = rng.integers(0, patients, n)
    true_N = 60 + 8 * rng.standard_normal(patients)[patient_N] + rng.standard_normal(n)
    return (true_N + 3 * rng.standard_normal(n)).astype(np.float32), true_N.astype(np.float32), np.array([f"p{i}" for i in patient_N])


def naive(predicted_N: np.ndarray, true_N: np.ndarray) -> dict[str, float]:
    return {
        "mae": mean_absolute_error(true_N, predicted_N),
        "rmse": root_mean_squared_error(true_N, predicted_N),
        "r2": r2_score(true_N, predicted_N),
        "pearson": pearsonr(true_N, predicted_N)[0],
    }


def test_errors_are_those_of_other_libraries() -> None:
    predicted_N, true_N, _ = drawn()
    found, expected = errors(predicted_N, true_N), naive(predicted_N.astype(float), true_N.astype(float))
    assert found.keys() == METRICS.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_intervals_are_those_of_a_loop_over_resampled_patients() -> None:
    predicted_N, true_N, patient_N = drawn()
    found = error_intervals(predicted_N, true_N, patient_N, n=50, seed=3)
    names, number_N = np.unique(patient_N, return_inverse=True)
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for counts_K in draw_with_replacement(np.random.default_rng(3), np.zeros(len(names), np.int64), 50):
        rows = np.repeat(np.arange(len(true_N)), counts_K[number_N])
        for name, value in naive(predicted_N[rows].astype(float), true_N[rows].astype(float)).items():
            values[name].append(value)
    for name, interval in found.items():
        assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(values[name], [2.5, 97.5])), abs=1e-8), name
        assert interval.low < interval.value < interval.high and interval.n_patients == len(names)


def test_the_paired_difference_resamples_both_alike() -> None:
    predicted_N, true_N, patient_N = drawn()
    worse_N = predicted_N + np.float32(1) * np.sign(predicted_N - true_N)
    gain = paired_errors(worse_N, predicted_N, true_N, patient_N, n=100)
    assert (gain.value, gain.low, gain.high) == pytest.approx((1, 1, 1), abs=1e-5), "every error is larger by one in every resample"
    reverse = paired_errors(predicted_N, worse_N, true_N, patient_N, n=100)
    assert reverse.value == pytest.approx(-gain.value)


def test_one_patient_gives_a_value_and_no_interval() -> None:
    predicted_N, true_N, _ = drawn()
    found = error_intervals(predicted_N, true_N, np.full(len(true_N), "p"))["mae"]
    assert found.value > 0 and np.isnan(found.low) and np.isnan(found.high) and found.n_resamples == 0


def test_correlation_with_one_number_is_not_defined_and_errors_are() -> None:
    predicted_N, _, patient_N = drawn()
    found = error_intervals(predicted_N, np.full(len(predicted_N), 60.0), patient_N)
    assert np.isnan(found["r2"].value) and np.isnan(found["pearson"].value) and found["pearson"].n_undefined == 1
    assert found["mae"].low < found["mae"].value


def test_predictions_that_differ_by_rounding_alone_are_correlated_with_nothing() -> None:
    """As a heavily penalised ridge gives them; another library would correlate the rounding."""
    _, true_N, _ = drawn()
    rounded_N = (61.3 + 1e-6 * np.arange(len(true_N))).astype(np.float32)
    assert len(set(rounded_N.tolist())) > 1
    found = errors(rounded_N, true_N)
    assert np.isnan(found["pearson"]) and found["r2"] <= 0 and found["mae"] > 1


def test_numbers_far_from_zero_lose_no_digits() -> None:
    predicted_N, true_N, _ = drawn()
    predicted_N, true_N = predicted_N.astype(float), true_N.astype(float)
    near, far = errors(predicted_N, true_N), errors(predicted_N + 1e6, true_N + 1e6)
    assert far["r2"] == pytest.approx(near["r2"], abs=1e-6) and far["pearson"] == pytest.approx(near["pearson"], abs=1e-6)


def test_what_cannot_be_judged_is_refused() -> None:
    predicted_N, true_N, patient_N = drawn()
    for one, other, who in (
        (predicted_N[1:], true_N, patient_N),
        (predicted_N, true_N, patient_N[1:]),
        (predicted_N * np.nan, true_N, patient_N),
    ):
        with pytest.raises(MetricError):
            error_intervals(one, other, who)
    with pytest.raises(MetricError, match="no error 'mape'"):
        paired_errors(predicted_N, predicted_N, true_N, patient_N, metric="mape")
