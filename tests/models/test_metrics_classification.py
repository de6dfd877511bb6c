"""Ranking metrics against definitions written as double loops, against scikit-learn, and under transformations."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from models.metrics.classification import (
    MetricError,
    auprc_per_class,
    auroc_per_class,
    best_thresholds,
    f1_at_validation_threshold,
    macro_auprc,
    macro_auroc,
    macro_mean,
    weighted_auprc,
    weighted_auroc,
    weighted_f1,
)

TOY_LABELS = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
TOY_SCORES = np.array([[0.9, 0.2, 0.8], [0.1, 0.6, 0.4], [0.4, 0.7, 0.3], [0.5, 0.3, 0.4]])


def sample(seed: int, n: int = 60, c: int = 5, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores with (levels given) or without ties, and labels with at least one positive and negative a class."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, c)) < rng.uniform(0.05, 0.6, c)).astype(np.int8)
    labels[0], labels[1] = 1, 0
    scores = rng.normal(size=(n, c)) + labels
    return (scores if levels is None else np.round(scores * levels) / levels).astype(np.float32), labels


def naive_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    pairs = won = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            pairs += 1
            won += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    return won / pairs if pairs else float("nan")


def naive_auprc(scores: np.ndarray, labels: np.ndarray) -> float:
    total, before, value = (labels == 1).sum(), 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        recall = (called & (labels == 1)).sum() / total
        value += (recall - before) * (called & (labels == 1)).sum() / called.sum()
        before = recall
    return value


def test_toy_golden() -> None:
    assert auroc_per_class(TOY_SCORES, TOY_LABELS).tolist() == [0.75, 1.0, 0.875]
    assert macro_auroc(TOY_SCORES, TOY_LABELS).value == 0.875


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize("seed", range(4))
def test_equals_double_loop_and_sklearn(seed: int, levels: int | None) -> None:
    scores, labels = sample(seed, levels=levels)
    columns = range(labels.shape[1])
    auroc, auprc = auroc_per_class(scores, labels), auprc_per_class(scores, labels)
    np.testing.assert_allclose(auroc, [naive_auroc(scores[:, c], labels[:, c]) for c in columns], rtol=0, atol=1e-12)
    np.testing.assert_allclose(auroc, roc_auc_score(labels, scores, average=None), rtol=0, atol=1e-12)
    np.testing.assert_allclose(auprc, [naive_auprc(scores[:, c], labels[:, c]) for c in columns], rtol=0, atol=1e-12)
    np.testing.assert_allclose(auprc, average_precision_score(labels, scores, average=None), rtol=0, atol=1e-12)
    assert macro_auroc(scores, labels).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert macro_auprc(scores, labels).value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
def test_weights_equal_repeated_records_and_sklearn_weights(levels: int | None) -> None:
    scores, labels = sample(11, levels=levels)
    weights = np.random.default_rng(0).integers(0, 4, (7, len(scores)))
    weights[:, :2] += 1
    auroc, auprc, calls = weighted_auroc(scores, labels, weights), weighted_auprc(scores, labels, weights), (scores > 0.5).astype(np.int8)
    f1 = weighted_f1(calls, labels, weights)
    for r, w in enumerate(weights):
        rows = np.repeat(np.arange(len(scores)), w)
        np.testing.assert_allclose(auroc[r], auroc_per_class(scores[rows], labels[rows]), rtol=0, atol=1e-12)
        np.testing.assert_allclose(auroc[r], roc_auc_score(labels, scores, average=None, sample_weight=w), rtol=0, atol=1e-12)
        np.testing.assert_allclose(auprc[r], average_precision_score(labels, scores, average=None, sample_weight=w), rtol=0, atol=1e-12)
        np.testing.assert_allclose(f1[r], f1_score(labels, calls, average=None, sample_weight=w), rtol=0, atol=1e-12)


def test_blocks_of_weightings_do_not_change_values(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = sample(3)
    weights = np.random.default_rng(0).integers(1, 3, (10, len(scores)))
    whole = weighted_auroc(scores, labels, weights)
    monkeypatch.setattr("models.metrics.classification._BLOCK_ELEMENTS", 3 * len(scores))
    np.testing.assert_array_equal(whole, weighted_auroc(scores, labels, weights))


def test_invariant_to_monotone_maps_and_record_order() -> None:
    scores, labels = sample(5, levels=4)
    mapped = np.stack([np.exp(scores[:, 0]), 3 * scores[:, 1] - 7, scores[:, 2] ** 3, np.arctan(scores[:, 3]), scores[:, 4]], axis=1)
    order = np.random.default_rng(1).permutation(len(scores))
    expected = auroc_per_class(scores, labels)
    np.testing.assert_allclose(auroc_per_class(mapped, labels), expected, atol=1e-12)
    np.testing.assert_allclose(auroc_per_class(scores[order], labels[order]), expected, atol=1e-12)
    np.testing.assert_allclose(auprc_per_class(scores[order], labels[order]), auprc_per_class(scores, labels), atol=1e-12)
    np.testing.assert_allclose(auroc_per_class(-scores, labels), 1 - expected, atol=1e-12)


def test_constant_scores_are_chance() -> None:
    _, labels = sample(6)
    assert auroc_per_class(np.full(labels.shape, 0.3), labels).tolist() == [0.5] * 5
    np.testing.assert_allclose(auprc_per_class(np.zeros(labels.shape), labels), labels.mean(axis=0))


def test_undefined_classes_raise_or_are_counted() -> None:
    scores, labels = sample(7)
    labels[:, 1], labels[:, 3] = 0, 1
    per_class = auroc_per_class(scores, labels)
    assert np.isnan(per_class).tolist() == [False, True, False, True, False]
    assert np.isnan(auprc_per_class(scores, labels)).tolist() == [False, True, False, True, False]
    with pytest.raises(MetricError, match="2 of 5 classes"):
        macro_auroc(scores, labels)
    with pytest.raises(MetricError, match="AFLT"):
        macro_mean(per_class, names=("SR", "AFLT", "AFIB", "PACE", "TRIGU"))
    skipped = macro_auroc(scores, labels, undefined="skip")
    assert (skipped.n_classes, skipped.n_undefined) == (3, 2)
    assert skipped.value == pytest.approx(np.nanmean(per_class))
    assert np.isnan(macro_auroc(scores[:, [1]], labels[:, [1]], undefined="skip").value)


def test_no_records_leave_every_class_undefined() -> None:
    assert np.isnan(auroc_per_class(np.zeros((0, 3)), np.zeros((0, 3)))).all()


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), "must be \\(records, classes\\)"),
        (np.array([[0.0], [np.nan]]), np.array([[0], [1]]), "record number 1, class number 0 is nan"),
        (np.array([[0.0], [1.0]]), np.array([[0], [2]]), "label of record number 1, class number 0 is 2"),
    ],
)
def test_unfit_input_is_refused(scores: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        auroc_per_class(scores, labels)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_the_best_of_all_on_validation(seed: int, levels: int | None) -> None:
    scores, labels = sample(seed, levels=levels)
    for c, threshold in enumerate(best_thresholds(scores, labels)):
        by_threshold = {float(t): f1_score(labels[:, c], scores[:, c] >= t) for t in np.unique(scores[:, c])}
        best = max(by_threshold.values())
        assert by_threshold[float(threshold)] == pytest.approx(best)
        assert threshold == max(t for t, v in by_threshold.items() if v == pytest.approx(best))


def test_f1_uses_validation_thresholds_only() -> None:
    validation_scores, validation_labels = sample(1)
    scores, labels = sample(2)
    result = f1_at_validation_threshold(validation_scores, validation_labels, scores, labels)
    expected = [f1_score(labels[:, c], scores[:, c] >= result.thresholds[c]) for c in range(5)]
    np.testing.assert_allclose(result.per_class, expected)
    permuted = f1_at_validation_threshold(validation_scores, validation_labels, scores[::-1], labels)
    np.testing.assert_array_equal(result.thresholds, permuted.thresholds)


def test_f1_is_undefined_without_positives_on_either_side() -> None:
    validation_scores, validation_labels = sample(1)
    scores, labels = sample(2)
    validation_labels[:, 0], labels[:, 1] = 0, 0
    result = f1_at_validation_threshold(validation_scores, validation_labels, scores, labels)
    assert np.isnan(result.per_class).tolist() == [True, True, False, False, False]
    assert np.isnan(result.thresholds).tolist() == [True, False, False, False, False]
    with pytest.raises(MetricError, match="classes differ"):
        f1_at_validation_threshold(validation_scores[:, :2], validation_labels[:, :2], scores, labels)
