"""Ranks, recalls, chance and intervals of retrieval against their definitions written out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.metrics import retrieval
from models.metrics.classification import MetricError
from models.metrics.retrieval import dot_scores, list_ranks, mean_estimate, precision_at, ranks, retrieval_estimates, shared_label


def scores_of(matrix_QC: NDArray[np.float32]) -> retrieval.Scores:
    return lambda start, stop: matrix_QC[start:stop]


def naive_rank(scores_C: Sequence[float], true: Sequence[int]) -> float:
    """The mean place of the best true candidate when ties among wrong ones are broken in every possible way."""
    best = max(scores_C[t] for t in true)
    higher = [c for c in range(len(scores_C)) if c not in true and scores_C[c] > best]
    tied = [c for c in range(len(scores_C)) if c not in true and scores_C[c] == best]
    places = []
    for order in itertools.permutations([-1, *tied]):
        places.append(len(higher) + order.index(-1) + 1)
    return sum(places) / len(places)


def coarse(Q: int, C: int, seed: int = 0) -> NDArray[np.float32]:
    """Scores with many ties."""
    return np.random.default_rng(seed).integers(0, 6, (Q, C)).astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_ranks_equal_the_definition_whatever_the_chunk(chunk: int) -> None:
    matrix_QC = coarse(30, 9)
    rng = np.random.default_rng(1)
    true = [rng.choice(9, rng.integers(1, 4), replace=False).tolist() for _ in range(30)]
    expected = [naive_rank(row.tolist(), t) for row, t in zip(matrix_QC, true, strict=True)]
    assert ranks(scores_of(matrix_QC), true, 9, chunk).tolist() == expected
    single = [naive_rank(row.tolist(), [t[0]]) for row, t in zip(matrix_QC, true, strict=True)]
    assert ranks(scores_of(matrix_QC), np.array([t[0] for t in true]), 9, chunk).tolist() == single


def test_known_ranks() -> None:
    identity = scores_of(np.eye(7, dtype=np.float32))
    found = retrieval_estimates(ranks(identity, np.arange(7), 7), 7, n=20)
    assert found["recall@1"].value == 1 and found["median_rank"].value == 1 and found["mrr"].value == 1
    constant = ranks(scores_of(np.zeros((7, 7), np.float32)), np.arange(7), 7)
    assert constant.tolist() == [4.0] * 7  # (N + 1) / 2
    reversed_QC = -np.eye(7, dtype=np.float32)
    assert ranks(scores_of(reversed_QC), np.arange(7), 7).tolist() == [7.0] * 7
    assert ranks(scores_of(np.zeros((2, 3), np.float32)), [[0, 1, 2], [2, 2]], 3).tolist() == [1.0, 2.0]


def test_no_more_scores_than_a_chunk_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def scores(start: int, stop: int) -> NDArray[np.float32]:
        asked.append(stop - start)
        return np.zeros((stop - start, 10), np.float32)

    ranks(scores, np.zeros(10_000, np.int64), 10)
    assert asked == [4096, 4096, 1808]
    monkeypatch.setattr(retrieval, "_CHUNK_SCORES", 1000)
    asked.clear()
    ranks(scores, np.zeros(250, np.int64), 10)
    assert asked == [100, 100, 50]


def test_equal_candidates_tie_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    query_QD, few_CD = rng.normal(size=(33, 96)).astype(np.float32), rng.normal(size=(5, 96)).astype(np.float32)
    scores = dot_scores(query_QD, np.tile(few_CD, (41, 1)))
    whole = scores(0, 33)
    assert whole.dtype == np.float32
    assert all((whole[:, c::5] == whole[:, c : c + 1]).all() for c in range(5))
    assert all((np.concatenate([scores(i, min(i + step, 33)) for i in range(0, 33, step)]) == whole).all() for step in (1, 7))


def test_scores_and_true_candidates_that_cannot_be_ranked_are_refused() -> None:
    bad = np.zeros((3, 4), np.float32)
    bad[2, 1] = np.nan
    with pytest.raises(MetricError, match="queries 2 to 2 are not finite"):
        ranks(scores_of(bad), np.zeros(3, np.int64), 4, chunk=2)
    with pytest.raises(MetricError, match=r"shape \(2, 4\) where \(2, 5\)"):
        ranks(scores_of(np.zeros((2, 4), np.float32)), [[0], [1]], 5)
    for true in ([[0], []], [[0], [4]], [[0], [-1]]):
        with pytest.raises(MetricError, match="query 1 has true candidates"):
            ranks(scores_of(np.zeros((2, 4), np.float32)), true, 4)


# Lists of candidates


def test_lists_of_different_length_and_the_lot() -> None:
    scores = [np.array([1.0, 3.0, 2.0]), np.array([5.0]), np.array([0.0, 0.0, 0.0, -1.0])]
    found = [list_ranks(scores, [0, 0, 1], seed).tolist() for seed in range(300)]
    assert all(f[:2] == [3, 1] for f in found) and {f[2] for f in found} == {1, 2, 3}
    assert np.mean([f[2] == 1 for f in found]) == pytest.approx(1 / 3, abs=0.09)
    assert (list_ranks(scores, [0, 0, 1], 7) == list_ranks(scores, [0, 0, 1], 7)).all()
    constant = list_ranks([np.zeros(10)] * 4000, np.zeros(4000, np.int64), 0)
    assert retrieval_estimates(constant, 10, ks=(1,), n=50)["recall@1"].value == pytest.approx(0.1, abs=0.02)


def test_lists_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(MetricError, match="list 0 has"):
        list_ranks([np.array([np.nan, 1.0])], [1], 0)
    with pytest.raises(MetricError, match="no candidate 2 among 2"):
        list_ranks([np.zeros(2)], [2], 0)
    with pytest.raises(MetricError, match="2 lists and 1 true"):
        list_ranks([np.zeros(2)] * 2, [0], 0)


# Precision


def naive_precision(scores_C: Sequence[float], relevant: Sequence[bool], k: int) -> float:
    """Mean over all orders that agree with the scores."""
    k, found = min(k, len(scores_C)), []
    for order in itertools.permutations(range(len(scores_C))):
        if all(scores_C[a] >= scores_C[b] for a, b in itertools.pairwise(order)):
            found.append(sum(relevant[c] for c in order[:k]) / k)
    return sum(found) / len(found)


def test_precision_equals_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    matrix_QC = rng.integers(0, 3, (12, 6)).astype(np.float32)
    query_QL, candidate_CL = rng.random((12, 3)) < 0.4, rng.random((6, 3)) < 0.4
    shared = [[bool((q & c).any()) for c in candidate_CL] for q in query_QL]
    assert shared_label(query_QL, candidate_CL).tolist() == shared
    found = precision_at(scores_of(matrix_QC), query_QL, candidate_CL, ks=(1, 3, 6, 50), chunk=5)
    for number, k in enumerate((1, 3, 6, 50)):
        expected = [naive_precision(row.tolist(), r, k) for row, r in zip(matrix_QC, shared, strict=True)]
        assert found[:, number].tolist() == pytest.approx(expected, abs=1e-12)
    assert found[:, 3] == pytest.approx(np.mean(shared, axis=1))
    with pytest.raises(MetricError, match="cannot be compared"):
        precision_at(scores_of(matrix_QC), query_QL, candidate_CL[:, :2])


# Estimates


@pytest.mark.parametrize(("C", "t"), [(1, 1), (7, 1), (10, 1), (9, 3), (6, 5), (4, 4)])
def test_chance_is_the_mean_over_all_orders(C: int, t: int) -> None:
    """The best of t true candidates, over every set of places that they can take."""
    best = [1 + min(places) for places in itertools.combinations(range(C), t)]
    found = {name: e.chance for name, e in retrieval_estimates(np.ones(3), C, t, n=2).items()}
    assert found == pytest.approx(
        {
            **{f"recall@{k}": np.mean([b <= k for b in best]) for k in (1, 5, 10)},
            "mean_rank": np.mean(best),
            "median_rank": np.median(best),
            "mrr": np.mean([1 / b for b in best]),
        },
        rel=1e-9,
    )
    assert found["mean_rank"] == pytest.approx((C + 1) / (t + 1))


def test_chance_of_queries_with_different_galleries() -> None:
    found = retrieval_estimates(np.ones(3), np.array([10, 10, 2]), np.array([1, 1, 1]), n=2)
    assert found["recall@1"].chance == pytest.approx((0.1 + 0.1 + 0.5) / 3)
    pooled = [*range(1, 11), *range(1, 11), *([1] * 5 + [2] * 5)]
    assert found["median_rank"].chance == np.median(pooled) and found["mean_rank"].chance == pytest.approx(np.mean(pooled))


def naive_bootstrap(values: list[float], patients: list[str], statistic: str, n: int, seed: int) -> list[float]:
    names = sorted(set(patients))
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        drawn = [names[i] for i in rng.integers(0, len(names), len(names))]
        pooled = [v for name in drawn for v, p in zip(values, patients, strict=True) if p == name]
        found.append(float(getattr(np, statistic)(pooled)))
    return found


@pytest.mark.parametrize("by_patient", [False, True])
def test_intervals_equal_resampling_written_out(by_patient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ranks_Q = rng.integers(1, 40, 30).astype(float)
    patients = [f"p{i:02d}" for i in (rng.integers(0, 9, 30) if by_patient else range(30))]
    monkeypatch.setattr(retrieval, "_CHUNK_WEIGHTS", 30 * 64)
    found = retrieval_estimates(ranks_Q, 40, ks=(5,), patient_ids=patients if by_patient else None, n=200, seed=3)
    expected = {
        "recall@5": naive_bootstrap([float(r <= 5) for r in ranks_Q], patients, "mean", 200, 3),
        "mean_rank": naive_bootstrap(ranks_Q.tolist(), patients, "mean", 200, 3),
        "median_rank": naive_bootstrap(ranks_Q.tolist(), patients, "median", 200, 3),
        "mrr": naive_bootstrap([1 / r for r in ranks_Q], patients, "mean", 200, 3),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        e = found[name]
        assert (e.mean, e.standard_error) == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-9)
        assert (e.low, e.high) == pytest.approx(tuple(np.percentile(values, (2.5, 97.5))), rel=1e-9)
        assert (e.unit, e.n_units, e.n_resamples, e.seed) == ("patient" if by_patient else "query", len(set(patients)), 200, 3)
    assert found["recall@5"].value == np.mean(ranks_Q <= 5) and found["median_rank"].value == np.median(ranks_Q)


def test_patients_that_ask_often_widen_the_interval() -> None:
    ranks_Q = np.repeat(np.array([1.0, 50.0] * 10), 20)
    patients = np.repeat(np.arange(20), 20)
    queries, people = (retrieval_estimates(ranks_Q, 100, patient_ids=p)["recall@1"] for p in (None, patients.tolist()))
    assert people.standard_error > 3 * queries.standard_error
    assert queries.standard_error == pytest.approx(np.sqrt(0.25 / 400), rel=0.1)


def test_an_estimate_of_any_number_a_query() -> None:
    values_Q = np.random.default_rng(0).random(50)
    found = mean_estimate(values_Q, chance=0.5, n=100, seed=1)
    assert found.value == pytest.approx(values_Q.mean()) and found.chance == 0.5 and found.low < found.value < found.high
    assert found == mean_estimate(values_Q, chance=0.5, n=100, seed=1) != mean_estimate(values_Q, chance=0.5, n=100, seed=2)


def test_ranks_that_cannot_be_are_refused() -> None:
    for ranks_Q, n_candidates, n_true in (([], 3, 1), ([0.0], 3, 1), ([4.0], 3, 1), ([1.0], 3, 0), ([1.0], 3, 4), ([np.nan], 3, 1)):
        with pytest.raises(MetricError, match="ranks lie between"):
            retrieval_estimates(np.array(ranks_Q), n_candidates, n_true)
    with pytest.raises(MetricError, match="2 patient ids for 1 queries"):
        retrieval_estimates(np.ones(1), 3, patient_ids=["a", "b"])
    with pytest.raises(MetricError, match="1 resamples have no spread"):
        retrieval_estimates(np.ones(1), 3, n=1)
    with pytest.raises(MetricError, match="finite numbers"):
        mean_estimate(np.array([np.nan]))
