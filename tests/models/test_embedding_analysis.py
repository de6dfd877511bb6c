"""Numbers of an embedding space against their definitions, and maps that come out the same."""

from __future__ import annotations

import numpy as np
import pytest

from models.embedding_analysis import Projection, embedding_numbers, signal_variance, silhouette, subject_probe
from models.metrics.classification import MetricError
from models.metrics.confusion import MACRO, confusion, macro_scores


def cloud(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings that lie by class, and by subject hardly at all."""
    rng = np.random.default_rng(0)
    class_N, subject_N = np.arange(n) % 3, np.array([f"s{i // 15}" for i in range(n)])
    return rng.standard_normal((n, 5)) + 8 * np.eye(5)[class_N], class_N, subject_N


def test_macro_means_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    true_N, called_N = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    found = macro_scores(confusion(true_N, called_N, 3))
    precision, recall, f1 = [], [], []
    for c in range(3):
        hits = sum(t == c == p for t, p in zip(true_N, called_N, strict=True))
        precision.append(hits / sum(called_N == c))
        recall.append(hits / sum(true_N == c))
        f1.append(2 * precision[-1] * recall[-1] / (precision[-1] + recall[-1]))
    expected = [np.mean(true_N == called_N), np.mean(precision), np.mean(recall), np.mean(f1)]
    assert [found[name] for name in MACRO] == pytest.approx(expected)


def test_who_always_says_the_same_has_a_macro_recall_of_one_third() -> None:
    found = macro_scores(confusion(np.repeat([0, 1, 2], [55, 27, 18]), np.zeros(100, int), 3))
    assert found["macro_recall"] == pytest.approx(1 / 3)
    assert found["accuracy"] == 0.55 and found["macro_precision"] == pytest.approx(0.55 / 3)


def test_classes_that_nobody_has_do_not_count() -> None:
    assert macro_scores(confusion(np.array([0, 1]), np.array([0, 1]), 3))["macro_recall"] == 1.0


@pytest.mark.parametrize(("true", "called"), [([], []), ([0], [0, 1]), ([0, 3], [0, 1])])
def test_calls_that_fit_no_truth_are_refused(true: list[int], called: list[int]) -> None:
    with pytest.raises(MetricError):
        confusion(np.array(true, int), np.array(called, int), 3)


def test_classes_and_not_subjects_divide_this_space() -> None:
    embedding_NF, class_N, subject_N = cloud()
    found = embedding_numbers(embedding_NF, class_N, subject_N)
    assert found["silhouette_class"] > 0.5 > 0.1 > found["silhouette_subject"]
    assert found["subject_probe"] < 0.6 and found["subject_probe_chance"] == 0.25
    assert found["embedding_variance"] == pytest.approx(np.trace(np.cov(embedding_NF.T, bias=True)))
    means = np.stack([embedding_NF[class_N == c].mean(axis=0) for c in class_N])
    assert found["between_class_share"] == pytest.approx(np.trace(np.cov(means.T, bias=True)) / found["embedding_variance"])


def test_a_subject_is_found_where_it_has_a_place_of_its_own() -> None:
    embedding_NF, _, subject_N = cloud()
    assert subject_probe(embedding_NF + 50 * np.eye(5)[np.arange(60) // 15], subject_N) == 1.0


def test_one_group_has_no_silhouette_and_a_flat_space_no_share() -> None:
    embedding_NF, class_N, _ = cloud()
    assert np.isnan(silhouette(embedding_NF, np.zeros(60)))
    assert np.isnan(embedding_numbers(np.zeros((60, 5)), class_N, np.array(["a", "b"] * 30))["between_class_share"])


def test_variance_is_that_of_all_samples_in_two_parts() -> None:
    window_NT = np.random.default_rng(0).standard_normal((40, 50)) * 3 + np.arange(40)[:, None]
    found = signal_variance(window_NT.mean(axis=1), window_NT.var(axis=1))
    assert found["within"] + found["between"] == pytest.approx(window_NT.var())
    assert found["between_share"] == pytest.approx(found["between"] / window_NT.var())
    assert np.isnan(signal_variance(np.ones(3), np.zeros(3))["between_share"])


def test_without_umap_the_map_is_that_of_principal_components() -> None:
    embedding_NF, _, _ = cloud()
    projection = Projection(embedding_NF, use_umap=False)
    assert projection.name == "pca"
    value_F, axis_FF = np.linalg.eigh(np.cov(embedding_NF.T))
    expected_N2 = (embedding_NF - embedding_NF.mean(axis=0)) @ axis_FF[:, np.argsort(-value_F)[:2]]
    np.testing.assert_allclose(np.abs(projection(embedding_NF)), np.abs(expected_N2), rtol=1e-4, atol=1e-4)
    assert np.array_equal(projection(embedding_NF), Projection(embedding_NF.copy(), use_umap=False)(embedding_NF))
    assert projection(embedding_NF + 100).shape == (60, 2)


def test_umap_comes_out_the_same_where_it_is_there() -> None:
    pytest.importorskip("umap")
    embedding_NF, _, _ = cloud()
    first, second = (Projection(embedding_NF) for _ in range(2))
    assert first.name == "umap" and np.array_equal(first(embedding_NF), second(embedding_NF))
