"""Metrics of answer tables: the share of questions that are answered exactly, over all and by question type, as rows of metrics.parquet.

An answer is right if it is the true set of answers and nothing else. Intervals are over patients. Chance is what somebody scores who
never sees a recording and gives the most frequent training answer to a question in these words. The gain over a flat line says whether
an encoder reads the recordings at all, the gain over the random-initialised twin what pretraining adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN_SUFFIX, ScoringError, metric_row
from models.answer_tables import Answers

if TYPE_CHECKING:
    from models.metrics.retrieval import Estimate

EXACT = "exact_match"
WITH_RECORDINGS, TEXT_ONLY = "question_answering", "question_answering_text_only"
FLAT_LINE_GAIN = f"{EXACT}_gain_over_flat_line"


def score_answers(tables: Iterable[Answers], test_folds: Sequence[int], seed: int = 0, n_resamples: int = 1000) -> list[dict[str, Any]]:
    """Exact match of every table by direction ("" for all questions, else a question type), and paired gains over its twins.

    Raises:
        ScoringError: a table has no question in the test folds, or a twin was not asked the same.
    """
    from models.metrics.retrieval import mean_estimate

    held = {(t.origin.protocol, t.origin.arm): t.of(test_folds) for t in tables}
    rows: list[dict[str, Any]] = []
    for (protocol, arm), table in held.items():
        twins = {f"{EXACT}{GAIN_SUFFIX}": held.get((protocol, "random_init")) if arm == "pretrained" else None}
        twins[FLAT_LINE_GAIN] = held.get((TEXT_ONLY, arm)) if protocol == WITH_RECORDINGS else None
        for direction in directions(table):
            mine = table.of(test_folds, direction)
            patients = [row.patient_id for row in mine.rows]
            right_N, chance = _right(mine), _mean(row.by_text == row.truth for row in mine.rows)
            about = _About(mine, direction, n_resamples)
            rows.append(about.row(EXACT, mean_estimate(right_N, chance, patients, n_resamples, seed)))
            for name, twin in twins.items():
                if twin is not None:
                    other = twin.of(test_folds, direction)
                    _same_questions(mine, other)
                    gain_N = right_N - _right(other)
                    rows.append(about.row(name, mean_estimate(gain_N, patient_ids=patients, n=n_resamples, seed=seed)))
    return rows


def directions(table: Answers) -> list[str]:
    """All questions, then each question type.

    Raises:
        ScoringError: there is no question.
    """
    if not table.rows:
        raise ScoringError(f"{table.origin.slug} has no question in the test folds; evaluate again")
    return ["", *sorted({row.question_type for row in table.rows})]


def _same_questions(mine: Answers, other: Answers) -> None:
    if [row.question_id for row in mine.rows] != [row.question_id for row in other.rows]:
        raise ScoringError(f"{mine.origin.slug} and {other.origin.slug} were not asked the same; evaluate again")


def _right(table: Answers) -> Any:
    import numpy as np

    return np.array([float(row.correct) for row in table.rows])


def _mean(values: Iterable[bool]) -> float:
    held = list(values)
    return sum(held) / len(held)


class _About:
    """What rows about one table and direction have in common."""

    def __init__(self, table: Answers, direction: str, n_resamples: int) -> None:
        self._origin, self._direction = table.origin, direction
        self._people = {"n_records": len(table.rows), "n_patients": len({row.patient_id for row in table.rows})}
        self._interval = f"95% patient bootstrap, {n_resamples} resamples"
        likely = _mean(row.by_type == row.truth for row in table.rows)
        never = table.counts.get("answers_never_learned", 0)
        self._note = f"questions; the most frequent answer of the type scores {likely:.3f}" + (
            f"; {never} test questions have an answer that too few training questions have" if never else ""
        )

    def row(self, metric: str, estimate: Estimate) -> dict[str, Any]:
        entries = {"direction": self._direction, "chance": estimate.chance, "interval": self._interval, "note": self._note}
        return metric_row(self._origin, metric, estimate.value, low=estimate.low, high=estimate.high, **self._people, **entries)
