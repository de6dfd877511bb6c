"""Errors of predicted numbers, with intervals by resampling patients, for one table or for the difference of two.

All four metrics follow from eight sums over records, so a resample costs a row of a matrix product: patients are drawn with
replacement, and each brings the sums of all its records.

Shapes: N records, K patients, R resamples, S sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.bootstrap import Interval, draw_with_replacement
from models.metrics.classification import FloatArray, MetricError

SumsArray = NDArray[np.float64]

_NO_SPREAD = 1e-12
"""A variance up to here is rounding of stored numbers (float32): they are one number."""


def _mae(s: SumsArray) -> FloatArray:
    return np.asarray(s[1] / s[0])


def _rmse(s: SumsArray) -> FloatArray:
    return np.asarray(np.sqrt(s[2] / s[0]))


def _r2(s: SumsArray) -> FloatArray:
    spread = s[4] / s[0] - (s[3] / s[0]) ** 2
    sound = spread > _NO_SPREAD
    return np.where(sound, 1 - s[2] / s[0] / np.where(sound, spread, 1.0), np.nan)


def _pearson(s: SumsArray) -> FloatArray:
    spreads = s[4] / s[0] - (s[3] / s[0]) ** 2, s[6] / s[0] - (s[5] / s[0]) ** 2
    sound = np.minimum(*spreads) > _NO_SPREAD
    shared = s[7] / s[0] - s[3] * s[5] / s[0] ** 2
    return np.where(sound, shared / np.sqrt(np.where(sound, spreads[0] * spreads[1], 1.0)), np.nan)


METRICS: Mapping[str, Callable[[SumsArray], FloatArray]] = {"mae": _mae, "rmse": _rmse, "r2": _r2, "pearson": _pearson}
"""From sums (S, R): number of records, of |e|, e^2, y, y^2, p, p^2, p y; with the error e, the truth y and the prediction p."""


def errors(predicted_N: NDArray[Any], true_N: NDArray[Any]) -> dict[str, float]:
    """Mean absolute error, root mean squared error, R2 and Pearson's r; the last two are NaN where the truth, or for
    r the prediction, is one number.

    Raises:
        MetricError: as `error_intervals`.
    """
    sums_1S = _sums(predicted_N, true_N, np.zeros(len(true_N), np.int64))
    return {name: float(metric(sums_1S.T)[0]) for name, metric in METRICS.items()}


def error_intervals(
    predicted_N: NDArray[Any],
    true_N: NDArray[Any],
    patient_ids: NDArray[Any],
    n: int = 1000,
    seed: int = 0,
    percentiles: tuple[float, float] = (2.5, 97.5),
) -> dict[str, Interval]:
    """All metrics with their intervals over patients; with a single patient there is no interval (NaN, no resamples).

    Args:
        predicted_N: predictions (N,).
        true_N: what is true (N,), in the same unit.
        patient_ids: the patient of every record (N,).
        n: resamples; those in which a metric is not defined are left out of its interval and counted.
        seed: equal seeds draw the same patients.
        percentiles: lower and upper, in percent.

    Raises:
        MetricError: shapes differ, there is no record, or a number is not finite.
    """
    return {name: _interval([predicted_N], true_N, patient_ids, name, n, seed, percentiles) for name in METRICS}


def paired_errors(
    first_N: NDArray[Any],
    second_N: NDArray[Any],
    true_N: NDArray[Any],
    patient_ids: NDArray[Any],
    metric: str = "mae",
    n: int = 1000,
    seed: int = 0,
    percentiles: tuple[float, float] = (2.5, 97.5),
) -> Interval:
    """The difference first - second of a metric, both judged on the same resamples of the same records. Raises as `error_intervals`."""
    return _interval([first_N, second_N], true_N, patient_ids, metric, n, seed, percentiles)


def _interval(
    arms: list[NDArray[Any]],
    true_N: NDArray[Any],
    patient_ids: NDArray[Any],
    name: str,
    n: int,
    seed: int,
    percentiles: tuple[float, float],
) -> Interval:
    """The interval of the first arm's metric, less that of the second arm where there is one."""
    if name not in METRICS:
        raise MetricError(f"there is no error {name!r}; choose one of {', '.join(METRICS)}")
    if len(patient_ids) != len(true_N):
        raise MetricError(f"there are {len(patient_ids)} patient ids for {len(true_N)} records; pass one a record")
    _, patient_N = np.unique(patient_ids, return_inverse=True)
    arms_KS = [_sums(predicted_N, true_N, patient_N) for predicted_N in arms]
    n_patients = len(arms_KS[0])

    def value(counts_RK: NDArray[Any]) -> FloatArray:
        first, *second = (METRICS[name]((counts_RK.astype(np.float64) @ sums_KS).T) for sums_KS in arms_KS)
        return first - second[0] if second else first

    whole = float(value(np.ones((1, n_patients)))[0])
    values_R = (
        value(draw_with_replacement(np.random.default_rng(seed), np.zeros(n_patients, np.int64), n)) if n_patients > 1 else np.zeros(0)
    )
    defined_R = values_R[~np.isnan(values_R)]
    low, high = (float(p) for p in np.percentile(defined_R, percentiles)) if len(defined_R) else (np.nan, np.nan)
    undefined = int(np.isnan(whole))
    return Interval(whole, low, high, len(defined_R), len(values_R) - len(defined_R), n_patients, 1 - undefined, undefined)


def _sums(predicted_N: NDArray[Any], true_N: NDArray[Any], patient_N: NDArray[np.int64]) -> SumsArray:
    """The sums of every patient (K, S). Truths and predictions are taken from their means, so that squares do not lose digits; the
    latter in multiples of their mean, which changes no correlation and tells whether they differ by more than rounding.
    """
    y_N, p_N = np.asarray(true_N, np.float64), np.asarray(predicted_N, np.float64)
    if y_N.shape != p_N.shape or y_N.ndim != 1 or not len(y_N):
        raise MetricError(f"predictions {p_N.shape} and truths {y_N.shape} must be as many, and at least one")
    if not (np.isfinite(y_N).all() and np.isfinite(p_N).all()):
        raise MetricError(f"{int((~np.isfinite(y_N) | ~np.isfinite(p_N)).sum())} predictions or truths are not finite")
    error_N = p_N - y_N
    y_N, p_N = y_N - y_N.mean(), (p_N - p_N.mean()) / max(1.0, abs(p_N.mean()))
    terms_NS = np.stack([np.ones(len(y_N)), np.abs(error_N), error_N**2, y_N, y_N**2, p_N, p_N**2, p_N * y_N], axis=1)
    sums_KS = np.zeros((int(patient_N.max()) + 1, terms_NS.shape[1]))
    np.add.at(sums_KS, patient_N, terms_NS)
    return sums_KS
