"""The check of an evaluation finds every fault in answer tables and in their metrics, and passes clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assets.answer_scoring import TEXT_ONLY, WITH_RECORDINGS, score_answers
from assets.outputs import Built, Key, Output
from models.answer_tables import Answer, Answers, write_answers
from models.predictions import Origin


def answer_table(protocol: str, arm: str) -> Answers:
    """Two questions about each record of the folds 9 and 10."""
    right = len(arm) + len(protocol)
    rows = [
        Answer(
            f"q{i}-{kind}", f"r{i}", f"p{i // 2:02d}", 9 + (i >= 36), kind, "Is it?", "yes", "yes" if (i * 7 + n) % right < 9 else "no", "yes", "no"
        )
        for i in range(32, 40)
        for n, kind in enumerate(("verify", "query"))
    ]  # fmt: skip
    return Answers(Origin("tiny", "questions", "merl", "tiny", protocol, arm, 0, "0" * 64), rows)


def evaluate(
    world: Any,
    answers: Callable[[Answers], Answers | None] = lambda t: t,
    metrics: Callable[[pd.DataFrame], pd.DataFrame] = lambda m: m,
) -> Output:
    """An evaluation of questions alone; `answers` changes tables after their metrics were taken, `metrics` the numbers."""

    def build(folder: Path) -> Built:
        tables = [answer_table(protocol, arm) for protocol in (WITH_RECORDINGS, TEXT_ONLY) for arm in ("pretrained", "random_init")]
        for table in tables:
            if (changed := answers(table)) is not None:
                write_answers(folder / "answers" / f"{table.origin.slug}.parquet", changed)
        metrics(pd.DataFrame(score_answers(tables, (10,), n_resamples=30))).to_parquet(folder / "metrics.parquet", index=False)
        return Built(1, {"tables": 4, "reports": 0, "questions": 4})

    world.raw()
    output: Output = world.publish(Key(("evaluation", "merl"), "tiny"), build)
    return output


def change_row(number: int, **values: Any) -> Callable[[Answers], Answers]:
    """A change of one row of the pretrained encoder's table."""

    def apply(table: Answers) -> Answers:
        if (table.origin.protocol, table.origin.arm) != (WITH_RECORDINGS, "pretrained"):
            return table
        rows = list(table.rows)
        rows[number] = replace(rows[number], **values)
        return replace(table, rows=rows)

    return apply


def raised(metric: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda m: m.assign(value=m["value"] + 1e-5 * (m["metric"] == metric))


def test_clean_answers_pass(world: Any) -> None:
    verdict = world.judge(evaluate(world), "metrics")
    assert verdict.passed, verdict.message
    assert "of 4 tables" in verdict.message


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"answers": change_row(0, record_id="nobody")}, "questions about unknown records: q32-verify"),
        ({"answers": change_row(0, patient_id="p01")}, "in another fold, or of another patient"),
        ({"answers": change_row(0, fold=10)}, "in another fold, or of another patient"),
        ({"answers": change_row(0, record_id="r00", patient_id="p00", fold=1)}, "neither validation nor test"),
        ({"answers": change_row(1, question_id="q32-verify")}, "a question has two rows: q32-verify"),
        ({"answers": change_row(3, answer="")}, "questions without an answer: q33-query"),
        ({"answers": change_row(10, truth="no")}, "the encoder and its random twin were not asked the same"),
        ({"answers": change_row(10, answer="maybe")}, "the stored one"),
        ({"answers": lambda t: None if t.origin.arm == "random_init" else t}, "questions: arms pretrained instead of"),
        ({"answers": lambda t: replace(t, origin=replace(t.origin, method="other"))}, "of method 'other'"),
        ({"metrics": raised("exact_match")}, "exact_match"),
        ({"metrics": raised("exact_match_gain_over_random_init")}, "exact_match_gain_over_random_init"),
        ({"metrics": raised("exact_match_gain_over_flat_line")}, "exact_match_gain_over_flat_line"),
        ({"metrics": lambda m: m[m["direction"] != "query"]}, "lacks query exact_match"),
    ],
)
def test_faults_are_named(world: Any, faults: dict[str, Any], said: str) -> None:
    verdict = world.judge(evaluate(world, **faults), "metrics")
    assert not verdict.passed and said in verdict.message, verdict.message
