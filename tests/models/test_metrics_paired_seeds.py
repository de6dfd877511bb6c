"""The comparison over seeds beside a loop over resamples, seeds and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.metrics.bootstrap import paired_bootstrap, resample_patients
from models.metrics.classification import MetricError
from models.metrics.paired_seeds import compare_over_seeds


def study(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((90, 3)) < 0.4).astype(np.int8)
    patients = rng.integers(0, 50, 90)
    first = [labels + rng.normal(0, 1, labels.shape) for _ in range(3)]
    second = [0.3 * labels + rng.normal(0, 1, labels.shape) for _ in range(2)]
    return labels, patients, first, second


def test_it_equals_the_mean_over_seeds_in_every_resample() -> None:
    labels, patients, first, second = study()
    found = compare_over_seeds(first, second, labels, patients, n=40, seed=3)
    drawn = resample_patients(labels, patients, 40, 3)
    _, number = np.unique(patients, return_inverse=True)
    differences, classes = [], []
    for counts in drawn.counts_RK:
        rows = np.repeat(np.arange(len(labels)), counts[number])
        means = [np.mean([roc_auc_score(labels[rows], s[rows], average=None) for s in entry], axis=0) for entry in (first, second)]
        differences.append((means[0] - means[1]).mean())
        classes.append(means[0] - means[1])
    assert (found.difference.low, found.difference.high) == pytest.approx(np.percentile(differences, (2.5, 97.5)), abs=1e-9)
    assert [e.high for e in found.per_class] == pytest.approx(np.percentile(classes, 97.5, axis=0), abs=1e-9)
    macros = [[roc_auc_score(labels, s) for s in entry] for entry in (first, second)]
    assert found.first.value == pytest.approx(np.mean(macros[0]), abs=1e-9)
    assert found.difference.value == pytest.approx(np.mean(macros[0]) - np.mean(macros[1]), abs=1e-9)
    assert found.first_spread == pytest.approx(np.std(macros[0], ddof=1), abs=1e-9)
    assert found.n_patients == len(set(patients.tolist()))


def test_with_one_seed_each_it_is_the_paired_bootstrap() -> None:
    labels, patients, first, second = study(1)
    found = compare_over_seeds(first[:1], second[:1], labels, patients, n=100, seed=0)
    known = paired_bootstrap(first[0], second[0], labels, patients, 100, 0)
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx((known.value, known.low, known.high))
    assert np.isnan(found.first_spread)


def test_an_entry_beside_itself_differs_by_nothing() -> None:
    labels, patients, first, _ = study(2)
    found = compare_over_seeds(first, first, labels, patients, n=30)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)


def test_what_cannot_be_compared_says_why() -> None:
    labels, patients, first, second = study()
    with pytest.raises(MetricError, match="at least one seed"):
        compare_over_seeds([], second, labels, patients)
    with pytest.raises(MetricError, match="no positive or no negative"):
        compare_over_seeds(first, second, np.zeros_like(labels), patients)
