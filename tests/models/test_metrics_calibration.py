"""Calibration error and Brier score against loops, and on probabilities whose calibration is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from models.metrics.calibration import brier_per_class, calibration_error_per_class
from models.metrics.classification import MetricError


def naive_error(scores: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Untied scores only: cut the sorted records into bins and add up the gaps."""
    order, n = np.argsort(scores), len(scores)
    total = 0.0
    for b in range(bins):
        members = [order[i] for i in range(n) if int((i + 0.5) * bins / n) == b]
        if members:
            total += len(members) / n * abs(np.mean(scores[members]) - np.mean(labels[members]))
    return total


@pytest.mark.parametrize(("n", "bins"), [(100, 10), (97, 15), (7, 15)])
def test_equals_a_loop(n: int, bins: int) -> None:
    rng = np.random.default_rng(n)
    scores, labels = rng.random((n, 3)), rng.integers(0, 2, (n, 3))
    expected = [naive_error(scores[:, c], labels[:, c], bins) for c in range(3)]
    np.testing.assert_allclose(calibration_error_per_class(scores, labels, bins), expected, atol=1e-12)
    np.testing.assert_allclose(brier_per_class(scores, labels), [brier_score_loss(labels[:, c], scores[:, c]) for c in range(3)])


def test_calibrated_scores_have_little_error_and_shifted_ones_their_shift() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.1, 0.7, (20_000, 1))
    labels = (rng.random(scores.shape) < scores).astype(np.int8)
    assert calibration_error_per_class(scores, labels)[0] < 0.015
    assert calibration_error_per_class(scores + 0.2, labels)[0] == pytest.approx(0.2, abs=0.01)


def test_ties_stay_together_so_order_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    scores = rng.choice([0.0, 0.25, 1.0], (200, 2))
    labels = rng.integers(0, 2, scores.shape)
    order = rng.permutation(200)
    expected = calibration_error_per_class(scores, labels)
    np.testing.assert_allclose(calibration_error_per_class(scores[order], labels[order]), expected, atol=1e-12)
    constant = calibration_error_per_class(np.full((200, 2), 0.3), labels)
    np.testing.assert_allclose(constant, np.abs(0.3 - labels.mean(axis=0)))


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(MetricError, match=r"between -2 and 3"):
        calibration_error_per_class(np.array([[-2.0], [3.0]]), np.array([[0], [1]]))
    with pytest.raises(MetricError, match="no records"):
        brier_per_class(np.zeros((0, 2)), np.zeros((0, 2)))
