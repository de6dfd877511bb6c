"""Sample-centric F_max beside a loop over every threshold and record."""

from __future__ import annotations

import numpy as np
import pytest

from models.metrics.classification import MetricError
from models.metrics.fmax import best_sample_threshold, sample_f_at


def naive_f(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    precisions, recalls = [], []
    for score, label in zip(scores, labels, strict=True):
        called = {c for c, s in enumerate(score) if s >= threshold}
        true = {c for c, held in enumerate(label) if held}
        if called:
            precisions.append(len(called & true) / len(called))
        if true:
            recalls.append(len(called & true) / len(true))
    p, r = (float(np.mean(v)) if v else 0.0 for v in (precisions, recalls))
    return 2 * p * r / (p + r) if p + r else 0.0


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_it_equals_a_search_over_all_thresholds(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((25, 6)) < 0.3).astype(np.int8)
    labels[3] = 0  # a record without any class
    scores = rng.normal(size=labels.shape) + labels
    if ties:
        scores = np.round(scores)
    found = {float(t): naive_f(scores, labels, t) for t in np.unique(scores)}
    best = max(found.values())
    value, threshold = best_sample_threshold(scores, labels)
    assert value == pytest.approx(best, abs=1e-12)
    assert threshold == max(t for t, f in found.items() if f == pytest.approx(best, abs=1e-12))
    assert sample_f_at(scores, labels, threshold) == pytest.approx(best, abs=1e-12)


def test_the_threshold_of_other_records_is_used_as_it_is() -> None:
    labels = np.array([[1, 0], [0, 1]], np.int8)
    assert sample_f_at(np.array([[0.9, 0.1], [0.2, 0.8]]), labels, 0.5) == 1.0
    assert sample_f_at(np.array([[0.9, 0.1], [0.2, 0.8]]), labels, 0.85) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert sample_f_at(np.array([[0.9, 0.1], [0.2, 0.8]]), labels, 2.0) == 0.0


def test_records_without_any_class_give_no_threshold() -> None:
    with pytest.raises(MetricError, match="none of 2 records has a true class"):
        best_sample_threshold(np.zeros((2, 3)), np.zeros((2, 3), np.int8))
    with pytest.raises(MetricError, match="none of 2 records has a true class"):
        sample_f_at(np.zeros((2, 3)), np.zeros((2, 3), np.int8), 0.0)
