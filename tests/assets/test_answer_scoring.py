"""Exact match of answer tables against loops, and what is said and drawn about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.answer_scoring import EXACT, FLAT_LINE_GAIN, TEXT_ONLY, WITH_RECORDINGS, score_answers
from assets.plots_answers import answers_figure
from assets.scoring import GAIN_SUFFIX, ScoringError
from models.answer_tables import Answer, Answers
from models.predictions import Origin
from models.question_job import PROTOCOL
from models.question_job import TEXT_ONLY as JOB_TEXT_ONLY


def answer_table(protocol: str = WITH_RECORDINGS, arm: str = "pretrained", skill: float = 0.5) -> Answers:
    """60 test and 10 validation questions of 30 patients, of which about a share `skill` is right."""
    rng = np.random.default_rng([int(skill * 100), len(protocol)])
    rows = []
    for i in range(70):
        kind, truth = (("verify", "yes" if i % 4 else "no"), ("query", "a;b" if i % 4 == 1 else "a"))[i % 2]
        answer = truth if rng.random() < skill else "b"
        likely = {"verify": "yes", "query": "a"}[kind]
        about = (f"q{i}", f"r{i // 2}", f"p{i // 2}", 10 if i < 60 else 9, kind, f"Is it {kind}?")
        rows.append(Answer(*about, truth, answer, likely, "a;b" if kind == "query" else likely))
    return Answers(Origin("small", "questions", "echo", "tiny", protocol, arm, 0, "0" * 64), rows, {"answers_never_learned": 2})


def everyone() -> list[Answers]:
    skills = ((WITH_RECORDINGS, "pretrained", 0.8), (WITH_RECORDINGS, "random_init", 0.5), (TEXT_ONLY, "pretrained", 0.4), (TEXT_ONLY, "random_init", 0.3))  # fmt: skip
    return [answer_table(*each) for each in skills]


def by_name(rows: list[dict[str, Any]], protocol: str = WITH_RECORDINGS, arm: str = "pretrained") -> dict[tuple[str, str], dict[str, Any]]:
    return {(r["direction"], r["metric"]): r for r in rows if (r["protocol"], r["arm"]) == (protocol, arm)}


def test_the_job_and_its_scores_call_protocols_alike() -> None:
    assert (PROTOCOL, JOB_TEXT_ONLY) == (WITH_RECORDINGS, TEXT_ONLY)


@pytest.mark.parametrize("direction", ["", "verify", "query"])
def test_exact_match_gains_and_chance_are_those_of_a_loop(direction: str) -> None:
    tables = everyone()
    found = by_name(score_answers(tables, (10,), n_resamples=60))

    def loop(table: Answers, what: str) -> float:
        here = [r for r in table.rows if r.fold == 10 and direction in ("", r.question_type)]
        return sum(set(getattr(r, what).split(";")) == set(r.truth.split(";")) for r in here) / len(here)

    row = found[direction, EXACT]
    assert row["value"] == pytest.approx(loop(tables[0], "answer"))
    assert row["low"] < row["value"] < row["high"]
    assert row["chance"] == pytest.approx(loop(tables[0], "by_text"))
    assert f"scores {loop(tables[0], 'by_type'):.3f}" in row["note"] and "2 test questions" in row["note"]
    assert (row["n_records"], row["n_patients"]) == ((60, 30) if not direction else (30, 30))
    gain = found[direction, f"{EXACT}{GAIN_SUFFIX}"]
    assert gain["value"] == pytest.approx(loop(tables[0], "answer") - loop(tables[1], "answer"))
    assert found[direction, FLAT_LINE_GAIN]["value"] == pytest.approx(loop(tables[0], "answer") - loop(tables[2], "answer"))


def test_gains_belong_to_who_can_have_them() -> None:
    rows = score_answers(everyone(), (10,), n_resamples=20)
    assert ("", FLAT_LINE_GAIN) in by_name(rows, arm="random_init")
    assert ("", f"{EXACT}{GAIN_SUFFIX}") not in by_name(rows, arm="random_init")
    assert ("", FLAT_LINE_GAIN) not in by_name(rows, TEXT_ONLY)
    assert score_answers([], (10,)) == []


def test_tables_without_test_questions_or_of_other_questions_are_refused() -> None:
    with pytest.raises(ScoringError, match="has no question in the test folds"):
        score_answers([answer_table()], (3,))
    tables = everyone()
    tables[1] = replace(tables[1], rows=tables[1].rows[1:])
    with pytest.raises(ScoringError, match="were not asked the same"):
        score_answers(tables, (10,), n_resamples=20)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    rows = pd.DataFrame(score_answers(everyone(), (10,), n_resamples=20))
    answers_figure(tmp_path / "answers.png", rows[rows["metric"] == EXACT], "Questions")
    assert (tmp_path / "answers.png").stat().st_size > 10_000
