"""Sample-centric F_max: one threshold for all classes, precision and recall averaged over records.

At a threshold t a record is called positive for the classes whose score is at least t. Precision is the mean of
|called and true| / |called| over the records with a call, recall the mean of |called and true| / |true| over the records with a
true class, and F = 2 P R / (P + R). F_max is the largest F over all thresholds. Scores of all classes must be on one scale
(logits, probabilities): the threshold is shared.

The paper that defined the PTB-XL benchmark (Strodthoff et al., IEEE JBHI 2020) chose the threshold on the records that it judged,
which flatters; here it is chosen on others (`sample_f_at` judges).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.classification import MetricError, check


def best_sample_threshold(scores_NC: NDArray[Any], labels_NC: NDArray[Any]) -> tuple[float, float]:
    """F_max of some records and the highest threshold that reaches it.

    Every distinct score is a candidate. Going down through all scores, a record's precision and recall change only where one of
    its own scores is passed, so that both means are running sums over the sorted scores.

    Raises:
        MetricError: as `models.metrics.classification.auroc_per_class`, or no record has a true class.
    """
    scores_NC, labels_NC = check(scores_NC, labels_NC)
    true_N = labels_NC.sum(axis=1)
    if not true_N.any():
        raise MetricError(f"none of {len(labels_NC)} records has a true class, so no threshold can be chosen; use records with labels")
    order_NC = np.argsort(-scores_NC, axis=1, kind="stable")
    falling_NC = np.take_along_axis(scores_NC, order_NC, axis=1)
    hits_NC = np.cumsum(np.take_along_axis(labels_NC, order_NC, axis=1), axis=1, dtype=np.int64)
    precision_NC = hits_NC / np.arange(1, scores_NC.shape[1] + 1)
    recall_NC = hits_NC / np.maximum(true_N, 1)[:, None]
    called_NC = np.zeros_like(hits_NC)
    called_NC[:, 0] = 1
    place = np.argsort(-falling_NC, axis=None, kind="stable")
    # Within a record the order of equal scores holds, so that running sums are right at the last score of every tie.
    thresholds = falling_NC.ravel()[place]
    last = np.flatnonzero(np.append(thresholds[1:] != thresholds[:-1], True))
    sums = (np.cumsum(np.diff(values, axis=1, prepend=0).ravel()[place])[last] for values in (precision_NC, recall_NC))
    precision, recall = (
        total / count for total, count in zip(sums, (np.cumsum(called_NC.ravel()[place])[last], (true_N > 0).sum()), strict=True)
    )
    f = _harmonic(precision, recall)
    best = int(np.argmax(f))
    return float(f[best]), float(thresholds[last[best]])


def sample_f_at(scores_NC: NDArray[Any], labels_NC: NDArray[Any], threshold: float) -> float:
    """Sample-centric F of some records at a threshold that was chosen elsewhere; 0 where nothing is called.

    Raises:
        MetricError: as `models.metrics.classification.auroc_per_class`, or no record has a true class.
    """
    scores_NC, labels_NC = check(scores_NC, labels_NC)
    calls_NC = scores_NC >= threshold
    hits_N, called_N, true_N = (calls_NC & (labels_NC == 1)).sum(axis=1), calls_NC.sum(axis=1), labels_NC.sum(axis=1)
    if not true_N.any():
        raise MetricError(f"none of {len(labels_NC)} records has a true class, so recall is undefined; judge records with labels")
    if not called_N.any():
        return 0.0
    precision = (hits_N[called_N > 0] / called_N[called_N > 0]).mean()
    recall = (hits_N[true_N > 0] / true_N[true_N > 0]).mean()
    return float(_harmonic(np.array([precision]), np.array([recall]))[0])


def _harmonic(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    total = precision + recall
    value: NDArray[np.float64] = np.where(total > 1e-12, 2 * precision * recall / np.maximum(total, 1e-12), 0.0)
    return value
