"""Multi-label ranking metrics: AUROC, average precision and F1, one value a class and their macro mean.

Shapes: N records, C classes, R weightings of the records (a bootstrap resample is a weighting by repeat counts), P positives
of one class. A class whose records are all positive or all negative has no AUROC: its value is NaN, and the macro mean
either raises or leaves it out and says how many were left out.

Source: Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", IEEE JBHI 2020, section
"metrics"; AUROC_c = (sum of the positives' ranks - P(P+1)/2) / (P * Nneg), tied scores share their average rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import EinthovenError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Undefined = Literal["raise", "skip"]

_BLOCK_ELEMENTS = 150_000
"""Weights worked on at once: running sums of this many int64 stay in a core's own cache."""


class MetricError(EinthovenError):
    """Scores or labels from which the metric that was asked for cannot be computed."""


@dataclass(frozen=True)
class Macro:
    """An unweighted mean over classes.

    Attributes:
        value: the mean over the classes that have a value; NaN if none has.
        n_classes: number of classes that entered the mean.
        n_undefined: number of classes left out because their value is undefined.
    """

    value: float
    n_classes: int
    n_undefined: int


@dataclass(frozen=True)
class ThresholdedF1:
    """F1 of a test set at thresholds chosen on a validation set.

    Attributes:
        per_class: float64 (C,), NaN where the validation records offer no threshold or the test records have no positive.
        thresholds: float64 (C,), a record is called positive if its score is at least the threshold; NaN without one.
    """

    per_class: FloatArray
    thresholds: FloatArray


def auroc_per_class(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> FloatArray:
    """Area under the ROC curve of every class.

    Args:
        scores_NC: any finite numbers that rise with the belief in the class, shape (N, C).
        labels_NC: zeros and ones, shape (N, C).

    Returns:
        float64 (C,); NaN for classes without a positive or without a negative.

    Raises:
        MetricError: shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    value_C: FloatArray = weighted_auroc(scores_NC, labels_NC, np.ones((1, len(scores_NC)), np.int32))[0]
    return value_C


def auprc_per_class(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> FloatArray:
    """Average precision of every class: sum over thresholds of (recall step) * precision, without interpolation.

    Arguments, NaN and errors are those of `auroc_per_class`; a class without a negative is undefined here too, so that
    both macro means run over the same classes.
    """
    value_C: FloatArray = weighted_auprc(scores_NC, labels_NC, np.ones((1, len(scores_NC)), np.int32))[0]
    return value_C


def macro_mean(values_C: FloatArray, undefined: Undefined = "raise", names: tuple[str, ...] = ()) -> Macro:
    """Unweighted mean over classes.

    Args:
        values_C: one value a class, NaN where undefined.
        undefined: "raise" (the benchmark's rule) or "skip" (exploratory use, the count is reported).
        names: class names for the message.

    Raises:
        MetricError: a class is undefined and `undefined` is "raise".
    """
    missing = np.isnan(values_C)
    count = int(missing.sum())
    if count and undefined == "raise":
        which = ", ".join(names[i] if names else f"number {i}" for i in np.flatnonzero(missing)[:10])
        raise MetricError(
            f"{count} of {len(values_C)} classes have no positive or no negative record ({which}), so the macro mean is undefined; "
            "drop these classes, use more records, or pass undefined='skip' and report the count"
        )
    value = float(values_C[~missing].mean()) if count < len(values_C) else float("nan")
    return Macro(value, len(values_C) - count, count)


def macro_auroc(scores_NC: NDArray[Any], labels_NC: NDArray[Any], undefined: Undefined = "raise") -> Macro:
    """Mean over classes of `auroc_per_class`; raises or skips where a class is undefined, see `macro_mean`."""
    return macro_mean(auroc_per_class(scores_NC, labels_NC), undefined)


def macro_auprc(scores_NC: NDArray[Any], labels_NC: NDArray[Any], undefined: Undefined = "raise") -> Macro:
    """Mean over classes of `auprc_per_class`; raises or skips where a class is undefined, see `macro_mean`."""
    return macro_mean(auprc_per_class(scores_NC, labels_NC), undefined)


def weighted_auroc(scores_NC: NDArray[Any], labels_NC: NDArray[Any], weights_RN: NDArray[np.integer[Any]]) -> FloatArray:
    """AUROC of every class under R integer weightings of the records at once; equal to repeating records.

    Args:
        scores_NC: as for `auroc_per_class`.
        labels_NC: as for `auroc_per_class`.
        weights_RN: how often each record counts, integers of at least 0, shape (R, N).

    Returns:
        float64 (R, C); NaN where a class has no positive or no negative weight.
    """
    return _weigh(_auroc, scores_NC, labels_NC, weights_RN)


def weighted_auprc(scores_NC: NDArray[Any], labels_NC: NDArray[Any], weights_RN: NDArray[np.integer[Any]]) -> FloatArray:
    """Average precision of every class under R integer weightings; arguments and result as for `weighted_auroc`."""
    return _weigh(_auprc, scores_NC, labels_NC, weights_RN)


def weighted_f1(calls_NC: NDArray[Any], labels_NC: NDArray[Any], weights_RN: NDArray[np.integer[Any]]) -> FloatArray:
    """F1 = 2 TP / (2 TP + FP + FN) of yes/no calls (N, C) under R weightings; NaN where a class has no positive weight."""
    calls_NC, labels_NC = check(calls_NC, labels_NC)
    weights = weights_RN.astype(np.float64)
    true = weights @ (calls_NC * labels_NC).astype(np.float64)
    positive = weights @ labels_NC.astype(np.float64)
    called = weights @ calls_NC.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: FloatArray = np.where(positive > 0, 2 * true / (positive + called), np.nan)
    return value


@dataclass(frozen=True)
class RankedClass:
    """Everything about one class that does not depend on how records are weighted.

    Records are sorted by falling score. `first_P` and `last_P` bound the tie group of each positive in that order, and
    `last_positive_P` is the last positive of the same tie group, counted among positives.

    Attributes:
        order_N: record numbers by falling score.
        positives_P: record numbers of the positives by falling score.
        first_P: position in `order_N` of the first record of the positive's tie group.
        last_P: position in `order_N` of the last record of the positive's tie group.
        first_positive_P: position in `positives_P` of the first positive of the tie group.
        last_positive_P: position in `positives_P` of the last positive of the tie group.
    """

    order_N: IntArray
    positives_P: IntArray
    first_P: IntArray
    last_P: IntArray
    first_positive_P: IntArray
    last_positive_P: IntArray


def rank_classes(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> list[RankedClass]:
    """Sort every class once, so that any number of weightings can be judged.

    Raises:
        MetricError: as `auroc_per_class`.
    """
    scores_NC, labels_NC = check(scores_NC, labels_NC)
    return [_rank(scores_NC[:, c], labels_NC[:, c]) for c in range(scores_NC.shape[1])]


def _rank(scores_N: NDArray[Any], labels_N: NDArray[Any]) -> RankedClass:
    order = np.argsort(-scores_N, kind="stable")
    ordered = scores_N[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(order) else np.zeros(0, np.int64)
    ends = np.append(starts[1:], len(order)) - 1
    places = np.flatnonzero(labels_N[order] == 1)
    group = np.searchsorted(starts, places, side="right") - 1
    first, last = starts[group], ends[group]
    return RankedClass(order, order[places], first, last, np.searchsorted(places, first), np.searchsorted(places, last, side="right") - 1)


def _weigh(
    metric: Callable[[RankedClass, NDArray[Any]], FloatArray], scores_NC: NDArray[Any], labels_NC: NDArray[Any], weights_RN: NDArray[Any]
) -> FloatArray:
    classes = rank_classes(scores_NC, labels_NC)
    values_RC = np.empty((len(weights_RN), len(classes)))
    step = max(1, _BLOCK_ELEMENTS // max(1, weights_RN.shape[1]))
    for start in range(0, len(weights_RN), step):
        block = weights_RN[start : start + step]
        for c, ranked in enumerate(classes):
            values_RC[start : start + step, c] = metric(ranked, block)
    return values_RC


def _counts(ranked: RankedClass, weights_RN: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Running weights with a leading zero over all records (R, N+1) and over positives (R, P+1), and the positives' weights."""
    all_RN = np.empty((len(weights_RN), len(ranked.order_N) + 1), np.int64)
    all_RN[:, 0] = 0
    np.cumsum(np.take(weights_RN, ranked.order_N, axis=1), axis=1, out=all_RN[:, 1:])
    own_RP = np.take(weights_RN, ranked.positives_P, axis=1).astype(np.int64)
    positive_RP = np.concatenate([np.zeros((len(weights_RN), 1), np.int64), np.cumsum(own_RP, axis=1)], axis=1)
    return all_RN, positive_RP, own_RP


def _auroc(ranked: RankedClass, weights_RN: NDArray[Any]) -> FloatArray:
    all_RN, positive_RP, own_RP = _counts(ranked, weights_RN)
    positives, total = positive_RP[:, -1], all_RN[:, -1]
    negatives = total - positives
    # Negatives above a positive cost a pair, negatives tied with it cost half of one: twice the cost stays an integer.
    above = all_RN[:, ranked.first_P] - positive_RP[:, ranked.first_positive_P]
    not_below = all_RN[:, ranked.last_P + 1] - positive_RP[:, ranked.last_positive_P + 1]
    lost = np.einsum("rp,rp->r", own_RP, above + not_below)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: FloatArray = np.where((positives > 0) & (negatives > 0), 1 - lost / (2.0 * positives * negatives), np.nan)
    return value


def _auprc(ranked: RankedClass, weights_RN: NDArray[Any]) -> FloatArray:
    all_RN, positive_RP, own_RP = _counts(ranked, weights_RN)
    positives, total = positive_RP[:, -1], all_RN[:, -1]
    called = all_RN[:, ranked.last_P + 1]
    precision = positive_RP[:, ranked.last_positive_P + 1] / np.maximum(called, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: FloatArray = np.where((positives > 0) & (positives < total), (own_RP * precision).sum(axis=1) / positives, np.nan)
    return value


def f1_at_validation_threshold(
    validation_scores_NC: NDArray[Any], validation_labels_NC: NDArray[Any], scores_NC: NDArray[Any], labels_NC: NDArray[Any]
) -> ThresholdedF1:
    """F1 of test records at the thresholds that are best on validation records.

    The threshold of a class is the highest score that reaches the best validation F1; nothing is chosen on test records.

    Raises:
        MetricError: as `auroc_per_class`, or the two sets differ in their number of classes.
    """
    if validation_scores_NC.shape[1:] != scores_NC.shape[1:]:
        raise MetricError(f"validation scores are {validation_scores_NC.shape}, test scores {scores_NC.shape}: the classes differ")
    thresholds = best_thresholds(validation_scores_NC, validation_labels_NC)
    per_class = weighted_f1(calls(scores_NC, thresholds), labels_NC, np.ones((1, len(labels_NC)), np.int64))[0]
    return ThresholdedF1(np.where(np.isnan(thresholds), np.nan, per_class), thresholds)


def calls(scores_NC: NDArray[Any], thresholds_C: FloatArray) -> NDArray[np.int8]:
    """Yes/no calls (N, C): 1 where the score is at least the threshold of its class; 0 for classes without a threshold."""
    return (scores_NC.astype(np.float64) >= thresholds_C).astype(np.int8)


def best_thresholds(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> FloatArray:
    """The highest threshold (C,) with the best F1 of every class; NaN for classes without a positive.

    Raises:
        MetricError: as `auroc_per_class`.
    """
    scores_NC, labels_NC = check(scores_NC, labels_NC)
    thresholds = np.full(scores_NC.shape[1], np.nan)
    for c, ranked in enumerate(rank_classes(scores_NC, labels_NC)):
        if len(ranked.positives_P):
            # F1 can only peak where a positive is called last: below it, records down to the next positive add false calls.
            true = ranked.last_positive_P + 1
            f1 = 2 * true / (ranked.last_P + 1 + len(true))
            thresholds[c] = float(scores_NC[ranked.positives_P[int(np.argmax(f1))], c])
    return thresholds


def check(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int8]]:
    """Scores as they are and labels as int8, once they are fit to be judged.

    Raises:
        MetricError: shapes differ, a score is not finite, or a label is neither 0 nor 1.
    """
    scores, labels = np.asarray(scores_NC), np.asarray(labels_NC)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise MetricError(f"scores are {scores.shape} and labels {labels.shape}; both must be (records, classes)")
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise MetricError(f"the score of record number {row}, class number {column} is {scores[row, column]}; scores must be finite")
    if not np.isin(labels, (0, 1)).all():
        row, column = np.argwhere(~np.isin(labels, (0, 1)))[0]
        raise MetricError(f"the label of record number {row}, class number {column} is {labels[row, column]}; labels must be 0 or 1")
    return (scores if scores.dtype.kind == "f" else scores.astype(np.float64)), labels.astype(np.int8)
