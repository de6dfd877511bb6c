"""Metrics of rank tables: rows of metrics.parquet for retrieval and patient identification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN_SUFFIX, ScoringError, metric_row
from models.rank_tables import Ranks

if TYPE_CHECKING:
    from models.metrics.retrieval import Estimate

RECALLS = ("recall@1", "recall@5", "recall@10")
ACCURACY = "accuracy"
QUERY_RESAMPLES = 10
RESAMPLED = (f"{ACCURACY}_mean_of_{QUERY_RESAMPLES}_resamples", f"{ACCURACY}_standard_error_of_{QUERY_RESAMPLES}_resamples")
"""The form in which Symile-MIMIC's accuracy is published: resamples of the queries, not of patients."""
RANK_METRICS = ("median_rank", "mean_rank")
"""Metrics that are places, 1 or more, rather than shares."""
SHARES = (*RECALLS, ACCURACY)


def score_ranks(table: Ranks, test_folds: Sequence[int], seed: int = 0, n_resamples: int = 1000) -> list[dict[str, Any]]:
    """All metrics of a rank table on the test folds, by direction.

    Recall@1, 5 and 10, median and mean rank among all items; accuracy among the lists of candidates. All with 95 % patient
    intervals and with what chance gives.

    Raises:
        ScoringError: the table has no query in the test folds.
    """
    from models.metrics.retrieval import mean_estimate, retrieval_estimates

    rows = []
    for direction, pool in questions(table, test_folds):
        test = table.of(direction, pool, test_folds)
        rank_Q, size_Q, true_Q, patients = _columns(test)
        about = _About(test, direction, n_resamples)
        if pool == "split":
            found = retrieval_estimates(rank_Q, size_Q, true_Q, patient_ids=patients, n=n_resamples, seed=seed)
            rows += [about.row(name, found[name]) for name in (*RECALLS, *RANK_METRICS)]
        else:
            hits_Q, chance = (rank_Q == 1).astype(float), float((1 / size_Q).mean())
            rows.append(about.row(ACCURACY, mean_estimate(hits_Q, chance, patients, n_resamples, seed)))
            again = mean_estimate(hits_Q, chance, None, QUERY_RESAMPLES, seed)
            rows += [about.plain(RESAMPLED[0], again.mean, chance), about.plain(RESAMPLED[1], again.standard_error)]
    return rows


def compare_rank_arms(tables: Iterable[Ranks], test_folds: Sequence[int], seed: int = 0, n_resamples: int = 1000) -> list[dict[str, Any]]:
    """Paired gains of a pretrained table over its random-initialised twin, in every share.

    Raises:
        ScoringError: the twin was not asked the same.
    """
    import numpy as np

    from models.metrics.retrieval import mean_estimate

    arms = {(t.origin.task, t.origin.arm): t for t in tables}
    rows = []
    for (task, arm), table in arms.items():
        twin = arms.get((task, "random_init"))
        if arm != "pretrained" or twin is None:
            continue
        for direction, pool in questions(table, test_folds):
            ours, theirs = table.of(direction, pool, test_folds), twin.of(direction, pool, test_folds)
            if [r.query_id for r in ours.rows] != [r.query_id for r in theirs.rows]:
                raise ScoringError(f"{table.origin.slug} and its twin were not asked the same in direction {direction}; evaluate again")
            rank_Q, other_Q = (np.array([r.rank for r in t.rows]) for t in (ours, theirs))
            patients = [r.patient_id for r in ours.rows]
            for name, k in zip(RECALLS, (1, 5, 10), strict=True) if pool == "split" else [(ACCURACY, 1)]:
                gain_Q = (rank_Q <= k).astype(float) - (other_Q <= k)
                estimate = mean_estimate(gain_Q, patient_ids=patients, n=n_resamples, seed=seed)
                rows.append(_About(ours, direction, n_resamples).row(f"{name}{GAIN_SUFFIX}", estimate))
    return rows


def questions(table: Ranks, test_folds: Sequence[int]) -> list[tuple[str, str]]:
    """Directions and pools of a table, in its order.

    Raises:
        ScoringError: none of its queries is in the test folds.
    """
    found = list(dict.fromkeys((r.direction, r.pool) for r in table.rows if r.fold in test_folds))
    if not found:
        raise ScoringError(f"{table.origin.slug} has no query in the test folds {', '.join(map(str, test_folds))}; evaluate again")
    return found


class _About:
    """What rows about one question have in common."""

    def __init__(self, test: Ranks, direction: str, n_resamples: int) -> None:
        self._origin, self._direction = test.origin, direction
        self._people = {"n_records": len(test.rows), "n_patients": len({r.patient_id for r in test.rows})}
        self._interval = f"95% patient bootstrap, {n_resamples} resamples"
        sizes = {r.n_candidates for r in test.rows}
        span = f"{min(sizes)} to {max(sizes)}" if len(sizes) > 1 else f"{min(sizes)}"
        lacking = test.left_out.get(direction, 0)
        self._note = f"among {span} candidates" + (f"; {lacking} records lack a part and did not ask" if lacking else "")
        if test.origin.protocol == "identification":
            self._note += f"; {test.origin.selection}"

    def row(self, metric: str, estimate: Estimate) -> dict[str, Any]:
        entries = {"low": estimate.low, "high": estimate.high, "interval": self._interval}
        return self.plain(metric, estimate.value, estimate.chance) | entries

    def plain(self, metric: str, value: float, chance: float = float("nan")) -> dict[str, Any]:
        entries = {"direction": self._direction, "chance": chance, "note": self._note}
        return metric_row(self._origin, metric, value, **self._people, **entries)


def _columns(test: Ranks) -> tuple[Any, Any, Any, list[str]]:
    import numpy as np

    rank_Q, size_Q, true_Q = (np.array([getattr(r, c) for r in test.rows]) for c in ("rank", "n_candidates", "n_true"))
    return rank_Q, size_Q, true_Q, [r.patient_id for r in test.rows]
