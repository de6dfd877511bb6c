"""Retrieval: at which place a query finds what belongs to it, what chance would give, and intervals by resampling.

The rank of a query is 1 + the number of wrong candidates with a strictly higher score than the best true one + half of the
number of wrong candidates with an equal score. So a constant score has mean rank (C + 1) / 2 and no order of candidates helps.
Scores are computed a chunk of queries at a time: the matrix of all queries and all candidates never exists.

Shapes: Q queries, C candidates, D width, K cut-offs, L labels, R resamples, U units that are drawn (queries or patients).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.metrics.bootstrap import draw_with_replacement
from models.metrics.classification import FloatArray, IntArray, MetricError

CHUNK = 4096
"""Queries whose scores are held at a time."""

RECALL_AT = (1, 5, 10)

_CHUNK_SCORES = 2**24
_CHUNK_WEIGHTS = 2**22

Scores: TypeAlias = Callable[[int, int], NDArray[Any]]
"""Gives the scores (stop - start, C) of the queries from `start` to before `stop`."""


@dataclass(frozen=True)
class Estimate:
    """A metric of retrieval with its spread over resamples.

    Attributes:
        value: over all queries.
        chance: what a random order of candidates gives on average (for the median rank: the median of a random rank).
        mean: over resamples.
        standard_error: standard deviation over resamples.
        low: 2.5th percentile over resamples.
        high: 97.5th percentile.
        unit: what was drawn with replacement, "query" or "patient".
        n_units: how many of them there are.
        n_resamples: how often as many were drawn.
        seed: of the draws.
    """

    value: float
    chance: float
    mean: float
    standard_error: float
    low: float
    high: float
    unit: str
    n_units: int
    n_resamples: int
    seed: int


def dot_scores(query_QD: NDArray[Any], candidate_CD: NDArray[Any]) -> Scores:
    """Dot products as float32. They are summed in float64, or equal candidates could differ in the last digit and tie no more."""
    candidate_DC = candidate_CD.astype(np.float64).T
    return lambda start, stop: (query_QD[start:stop].astype(np.float64) @ candidate_DC).astype(np.float32)


def ranks(scores: Scores, true: Sequence[Sequence[int]] | NDArray[np.int64], n_candidates: int, chunk: int = CHUNK) -> FloatArray:
    """The rank of every query's best true candidate, 1 for the first, float64 (Q,).

    Args:
        scores: gives scores of some queries; `dot_scores` for embeddings.
        true: rows of the right candidates of every query, or one number a query, shape (Q,).
        n_candidates: C.
        chunk: queries at a time, fewer where there are many candidates.

    Raises:
        MetricError: a score is not finite, a query has no true candidate, or one that is not there.
    """
    right = [np.unique(np.atleast_1d(np.asarray(rows, np.int64))) for rows in true]
    for query, rows in enumerate(right):
        if not len(rows) or rows[0] < 0 or rows[-1] >= n_candidates:
            raise MetricError(f"query {query} has true candidates {rows.tolist()} of {n_candidates}; give each at least one that is there")
    found = np.empty(len(right))
    for start, scores_QC in _chunks(scores, len(right), n_candidates, chunk):
        rows = np.concatenate([np.empty(0, np.int64), *right[start : start + len(scores_QC)]])
        query_T = np.repeat(np.arange(len(scores_QC)), [len(r) for r in right[start : start + len(scores_QC)]])
        best_Q = np.full(len(scores_QC), -np.inf, scores_QC.dtype)
        np.maximum.at(best_Q, query_T, scores_QC[query_T, rows])
        tied_true_Q = np.bincount(query_T, weights=scores_QC[query_T, rows] == best_Q[query_T], minlength=len(scores_QC))
        higher_Q = (scores_QC > best_Q[:, None]).sum(axis=1)
        tied_Q = (scores_QC == best_Q[:, None]).sum(axis=1) - tied_true_Q
        found[start : start + len(scores_QC)] = 1 + higher_Q + tied_Q / 2
    return found


def list_ranks(scores: Sequence[NDArray[Any]], true: Sequence[int] | IntArray, seed: int) -> IntArray:
    """Ranks where every query has its own list of candidates (Symile-MIMIC's protocol); ties are broken by lot, int64 (Q,).

    Args:
        scores: of each query's candidates.
        true: place of the right one in each list.
        seed: of the lot. The share of ranks that are 1 is the accuracy.

    Raises:
        MetricError: a score is not finite, or a true place is not in its list.
    """
    if len(scores) != len(true):
        raise MetricError(f"there are {len(scores)} lists and {len(true)} true places; give one a list")
    rng = np.random.default_rng(seed)
    found = np.empty(len(scores), np.int64)
    for query, (scores_C, place) in enumerate(zip(scores, true, strict=True)):
        if not 0 <= place < len(scores_C) or not np.isfinite(scores_C).all():
            raise MetricError(f"list {query} has a score that is not finite, or no candidate {place} among {len(scores_C)}")
        ties = int((scores_C == scores_C[place]).sum()) - 1
        found[query] = 1 + int((scores_C > scores_C[place]).sum()) + rng.integers(ties + 1)
    return found


def precision_at(
    scores: Scores, query_labels_QL: NDArray[Any], candidate_labels_CL: NDArray[Any], ks: Sequence[int] = (5, 10, 100), chunk: int = CHUNK
) -> FloatArray:
    """Share of the first k candidates that have a label in common with the query, float64 (Q, K).

    Candidates that tie for the last places count by their share. A gallery of fewer than k is taken whole.

    Args:
        scores: gives scores of some queries.
        query_labels_QL: zeros and ones.
        candidate_labels_CL: zeros and ones of the same labels.
        ks: numbers of first candidates.
        chunk: queries at a time, fewer where there are many candidates.

    Raises:
        MetricError: a score is not finite, labels differ, or there are no candidates.
    """
    n_candidates = len(candidate_labels_CL)
    if query_labels_QL.shape[1:] != candidate_labels_CL.shape[1:] or not n_candidates:
        raise MetricError(
            f"labels of shapes {query_labels_QL.shape} and {candidate_labels_CL.shape} cannot be compared; give the same ones"
        )
    found = np.empty((len(query_labels_QL), len(ks)))
    for start, scores_QC in _chunks(scores, len(query_labels_QL), n_candidates, chunk):
        relevant_QC = shared_label(query_labels_QL[start : start + len(scores_QC)], candidate_labels_CL)
        descending_QC = -np.sort(-scores_QC, axis=1)
        for number, k in enumerate(min(k, n_candidates) for k in ks):
            last_Q1 = descending_QC[:, k - 1 : k]
            above_QC, tied_QC = scores_QC > last_Q1, scores_QC == last_Q1
            share_Q = (k - above_QC.sum(axis=1)) / tied_QC.sum(axis=1)
            hits_Q = (above_QC & relevant_QC).sum(axis=1) + share_Q * (tied_QC & relevant_QC).sum(axis=1)
            found[start : start + len(scores_QC), number] = hits_Q / k
    return found


def shared_label(query_labels_QL: NDArray[Any], candidate_labels_CL: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether query and candidate have a label in common, bool (Q, C). The mean of a row is the chance of its precision."""
    shared: NDArray[np.bool_] = query_labels_QL.astype(np.float32) @ candidate_labels_CL.astype(np.float32).T > 0
    return shared


def retrieval_estimates(
    ranks_Q: NDArray[Any],
    n_candidates: int | IntArray,
    n_true: int | IntArray = 1,
    ks: Sequence[int] = RECALL_AT,
    patient_ids: Sequence[Any] | None = None,
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Recall at each k, mean and median rank and mean reciprocal rank: "recall@1", "mean_rank", "median_rank", "mrr".

    Args:
        ranks_Q: ranks of the best true candidates.
        n_candidates: C of every query, or one number for all.
        n_true: true candidates of every query, or one number for all.
        ks: cut-offs; a rank of at most k is a hit.
        patient_ids: the patient of every query, who is drawn with all their queries; None draws queries.
        n: resamples.
        seed: of the draws.

    Raises:
        MetricError: no queries, numbers of different length, or ranks that cannot be.
    """
    candidates_Q, true_Q = (np.broadcast_to(np.asarray(v, np.int64), ranks_Q.shape) for v in (n_candidates, n_true))
    if not len(ranks_Q) or not ((ranks_Q >= 1) & (ranks_Q <= candidates_Q) & (true_Q >= 1) & (true_Q <= candidates_Q)).all():
        raise MetricError("ranks lie between 1 and the number of candidates, of which at least one is true; pass at least one rank")
    units = _units(len(ranks_Q), patient_ids, seed)
    chance = _chance(candidates_Q, true_Q, ks)
    values_QM = np.stack([*((ranks_Q <= k).astype(float) for k in ks), ranks_Q.astype(float), 1 / ranks_Q], axis=1)
    names = [*(f"recall@{k}" for k in ks), "mean_rank", "mrr"]
    found = dict(zip(names, _means(values_QM, units, n, [chance[name] for name in names]), strict=True))
    order_Q = np.argsort(ranks_Q, kind="stable")
    medians = [_weighted_medians(ranks_Q[order_Q], weights_RQ[:, order_Q]) for weights_RQ in _weights(units, n)]
    found["median_rank"] = _estimate(float(np.median(ranks_Q)), np.concatenate(medians), units, chance["median_rank"])
    return found


def mean_estimate(
    values_Q: NDArray[Any], chance: float = float("nan"), patient_ids: Sequence[Any] | None = None, n: int = 1000, seed: int = 0
) -> Estimate:
    """The mean over queries of a number each (a precision, say) with its spread; arguments are those of `retrieval_estimates`.

    Raises:
        MetricError: no queries, a number that is not finite, or patients of another number.
    """
    values = np.asarray(values_Q, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise MetricError("a mean is taken of at least one query, and of finite numbers")
    (estimate,) = _means(values[:, None], _units(len(values), patient_ids, seed), n, [chance])
    return estimate


@dataclass(frozen=True)
class _Units:
    """What is drawn: the unit of every query, shape (Q,)."""

    number_Q: IntArray
    count: int
    name: str
    seed: int


def _units(n_queries: int, patient_ids: Sequence[Any] | None, seed: int) -> _Units:
    if patient_ids is None:
        return _Units(np.arange(n_queries), n_queries, "query", seed)
    names, number_Q = np.unique(np.asarray(patient_ids), return_inverse=True)
    if len(number_Q) != n_queries:
        raise MetricError(f"there are {len(number_Q)} patient ids for {n_queries} queries; pass one a query")
    return _Units(number_Q, len(names), "patient", seed)


def _weights(units: _Units, n: int) -> Iterator[NDArray[np.integer[Any]]]:
    """How often each query counts, (r, Q), for some resamples at a time."""
    if n < 2:
        raise MetricError(f"{n} resamples have no spread; ask for at least two")
    rng = np.random.default_rng(units.seed)
    step = max(1, _CHUNK_WEIGHTS // len(units.number_Q))
    for start in range(0, n, step):
        drawn = draw_with_replacement(rng, np.zeros(units.count, np.int64), min(step, n - start))
        yield np.take(drawn, units.number_Q, axis=1)


def _means(values_QM: FloatArray, units: _Units, n: int, chance_M: Sequence[float]) -> list[Estimate]:
    means = [w_RQ.astype(np.float64) @ values_QM / w_RQ.sum(axis=1, keepdims=True) for w_RQ in _weights(units, n)]
    columns = zip(values_QM.mean(axis=0), np.concatenate(means).T, chance_M, strict=True)
    return [_estimate(float(value), means_R, units, chance) for value, means_R, chance in columns]


def _weighted_medians(ascending_Q: NDArray[Any], weights_RQ: NDArray[np.integer[Any]]) -> FloatArray:
    """Medians of numbers of which each stands there as often as its weight says, (R,)."""
    until_RQ = np.cumsum(weights_RQ, axis=1, dtype=np.int64)
    total_R1 = until_RQ[:, -1:]
    low_R, high_R = ((until_RQ > place_R1).argmax(axis=1) for place_R1 in ((total_R1 - 1) // 2, total_R1 // 2))
    medians: FloatArray = (ascending_Q[low_R] + ascending_Q[high_R]) / 2
    return medians


def _estimate(value: float, values_R: FloatArray, units: _Units, chance: float) -> Estimate:
    low, high = (float(p) for p in np.percentile(values_R, (2.5, 97.5)))
    error = float(values_R.std(ddof=1))
    return Estimate(value, chance, float(values_R.mean()), error, low, high, units.name, units.count, len(values_R), units.seed)


def _chance(candidates_Q: IntArray, true_Q: IntArray, ks: Sequence[int]) -> dict[str, float]:
    """What candidates in random order give: the best of t true ones among C has a rank above k with probability C(C-t, k) / C(C, k)."""
    kinds, counts = np.unique(np.stack([candidates_Q, true_Q]), axis=1, return_counts=True)
    share_of_rank = np.zeros(int(candidates_Q.max()) + 1)
    for (n_candidates, n_true), count in zip(kinds.T.tolist(), counts.tolist(), strict=True):
        placed = np.arange(n_candidates)
        above = np.concatenate([[1.0], np.cumprod(np.maximum(n_candidates - n_true - placed, 0) / (n_candidates - placed))])
        share_of_rank[1 : n_candidates + 1] += -np.diff(above) * count / len(candidates_Q)
    rank_K = np.arange(len(share_of_rank))
    up_to = np.cumsum(share_of_rank)
    middle = [int(np.argmax(up_to > 0.5 + slack)) for slack in (-1e-9, 1e-9)]
    return {
        **{f"recall@{k}": float(up_to[min(k, len(up_to) - 1)]) for k in ks},
        "mean_rank": float(share_of_rank @ rank_K),
        "median_rank": sum(middle) / 2,
        "mrr": float(share_of_rank[1:] @ (1 / rank_K[1:])),
    }


def _chunks(scores: Scores, n_queries: int, n_candidates: int, chunk: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Scores of some queries at a time, with the number of the first.

    Raises:
        MetricError: they are not finite, or not of every query and candidate.
    """
    step = max(1, min(chunk, _CHUNK_SCORES // max(1, n_candidates)))
    for start in range(0, n_queries, step):
        stop = min(start + step, n_queries)
        found = scores(start, stop)
        if found.shape != (stop - start, n_candidates) or not np.isfinite(found).all():
            raise MetricError(
                f"scores of queries {start} to {stop - 1} are not finite, or of shape {found.shape} where "
                f"{(stop - start, n_candidates)} is needed; look at the embeddings"
            )
        yield start, found
