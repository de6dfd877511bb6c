"""Metrics of the likeliest class where exactly one holds: accuracy and macro means of precision, recall and F1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.classification import MetricError

MACRO = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
"""What `macro_scores` gives."""


def confusion(true_N: NDArray[np.integer[Any]], called_N: NDArray[np.integer[Any]], n_classes: int) -> NDArray[np.int64]:
    """How many records of each true class (rows) were called each class (columns), (C, C).

    Raises:
        MetricError: there is no record, or a class number outside 0 to C - 1.
    """
    if not len(true_N) or len(true_N) != len(called_N):
        raise MetricError(f"{len(true_N)} true classes and {len(called_N)} calls; give as many of both, at least one")
    if min(true_N.min(), called_N.min()) < 0 or max(true_N.max(), called_N.max()) >= n_classes:
        raise MetricError(f"class numbers outside 0 to {n_classes - 1}")
    count_CC = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(count_CC, (true_N, called_N), 1)
    return count_CC


def macro_scores(count_CC: NDArray[np.integer[Any]]) -> dict[str, float]:
    """The metrics of `MACRO`; macro means are over the classes that some record has. A class that is never called has precision 0."""
    hits_C = np.diag(count_CC).astype(np.float64)
    true_C, called_C = count_CC.sum(axis=1), count_CC.sum(axis=0)
    held = true_C > 0
    precision_C = hits_C / np.maximum(called_C, 1)
    recall_C = hits_C / np.maximum(true_C, 1)
    f1_C = 2 * hits_C / np.maximum(true_C + called_C, 1)
    values = (hits_C.sum() / count_CC.sum(), precision_C[held].mean(), recall_C[held].mean(), f1_C[held].mean())
    return {name: float(value) for name, value in zip(MACRO, values, strict=True)}
