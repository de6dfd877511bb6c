"""How far probabilities are from observed frequencies: expected calibration error and Brier score, one value a class.

Shapes: N records, C classes. Scores must be probabilities. Bins hold equal numbers of records (Nguyen and O'Connor, EMNLP
2015), because the probabilities of rare classes crowd near zero; records with one and the same score are never parted, so
the result does not depend on the order of records.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.classification import FloatArray, MetricError, check

BINS = 15


def calibration_error_per_class(scores_NC: NDArray[Any], labels_NC: NDArray[Any], bins: int = BINS) -> FloatArray:
    """Expected calibration error of every class, float64 (C,): sum over bins of n_bin / N * |mean score - share of positives|.

    Raises:
        MetricError: a score is no probability, a label is neither 0 nor 1, shapes differ, or there are no records.
    """
    scores, labels = _probabilities(scores_NC, labels_NC)
    errors = np.empty(scores.shape[1])
    for c in range(scores.shape[1]):
        gaps = np.bincount(_bins(scores[:, c], bins), weights=scores[:, c] - labels[:, c], minlength=bins)
        errors[c] = np.abs(gaps).sum() / len(scores)
    return errors


def brier_per_class(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> FloatArray:
    """Mean squared difference of probability and label of every class, float64 (C,).

    Raises:
        MetricError: as `calibration_error_per_class`.
    """
    scores, labels = _probabilities(scores_NC, labels_NC)
    errors: FloatArray = ((scores - labels) ** 2).mean(axis=0)
    return errors


def _bins(scores_N: FloatArray, bins: int) -> NDArray[np.int64]:
    """Bin number of every record: the bin of its average rank, which tied records share."""
    _, group, counts = np.unique(scores_N, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # average rank less one half
    return np.minimum((middle[group] * bins / len(scores_N)).astype(np.int64), bins - 1)


def _probabilities(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> tuple[FloatArray, NDArray[np.int8]]:
    scores, labels = check(scores_NC, labels_NC)
    if not len(scores):
        raise MetricError("there are no records, so there is no calibration; check the folds")
    if scores.min(initial=0) < 0 or scores.max(initial=1) > 1:
        raise MetricError(
            f"scores lie between {scores.min():.3g} and {scores.max():.3g}; calibration needs probabilities (pass logits through a sigmoid)"
        )
    return scores.astype(np.float64), labels
