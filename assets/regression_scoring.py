"""Metrics of prediction tables of numbers: the rows of metrics.parquet, and the gain over the random-initialised twin."""

from __future__ import annotations

import math
from typing import Any

from assets.scoring import GAIN_SUFFIX, metric_row
from models.metrics.bootstrap import Interval
from models.metrics.names import LOWER_IS_BETTER
from models.metrics.regression import error_intervals, errors, paired_errors
from models.predictions import Predictions

ERROR_GAIN = f"mae{GAIN_SUFFIX}"


def score_numbers(test: Predictions, seed: int = 0, n_resamples: int = 1000) -> list[dict[str, Any]]:
    """Mean absolute error, root mean squared error, R2 and Pearson's r of the test records, with 95 % patient intervals.

    `chance` is what the mean of the training records would come to, where the table knows it.
    """
    predicted_N, true_N = test.scores_NC[:, 0], test.labels_NC[:, 0]
    found = error_intervals(predicted_N, true_N, test.patient_id, n_resamples, seed)
    reference = test.origin.reference
    by_mean = {} if reference is None else errors(true_N * 0 + reference, true_N)
    return [_row(test, name, interval, by_mean.get(name, math.nan)) for name, interval in found.items()]


def error_gain(table: Predictions, twin: Predictions, seed: int = 0, n_resamples: int = 1000) -> dict[str, Any]:
    """How much smaller the mean absolute error is than the twin's, of the same records in the same order; larger is better."""
    scores = twin.scores_NC[:, 0], table.scores_NC[:, 0]
    gain = paired_errors(*scores, table.labels_NC[:, 0], table.patient_id, n=n_resamples, seed=seed)
    return _row(table, ERROR_GAIN, gain, math.nan)


def _row(test: Predictions, metric: str, interval: Interval, chance: float) -> dict[str, Any]:
    notes = []
    if interval.n_patients < 2:
        notes.append("one patient, so there is no interval")
    if interval.n_redrawn:
        notes.append(f"not defined in {interval.n_redrawn} resamples")
    return metric_row(
        test.origin,
        metric,
        interval.value,
        low=interval.low,
        high=interval.high,
        chance=chance,
        unit=test.origin.unit if metric.removesuffix(GAIN_SUFFIX) in LOWER_IS_BETTER else "",
        n_records=len(test.record_id),
        n_patients=interval.n_patients,
        n_classes=interval.n_classes,
        n_undefined=interval.n_undefined,
        interval=f"95% patient bootstrap, {interval.n_resamples} resamples" if interval.n_resamples else "",
        note="; ".join(notes),
    )
