"""Questions from a dataset to the stage and its check: what cannot be asked is told apart, every planted fault is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assets.access import Access
from assets.dataset import QUESTION_COLUMNS, DatasetError, get_dataset
from assets.outputs import Built, Key, Output, Workspace
from assets.questions import make_questions, sort_out
from assets.raw import make_raw
from data_checks.checks import run_checks

Edit = Callable[[pd.DataFrame], pd.DataFrame]


def asked(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Questions by record, words and answers."""
    table = [(f"q{i}", record, text, "verify", answers, "1", "", "") for i, (record, text, answers) in enumerate(rows)]
    return pd.DataFrame(table, columns=list(QUESTION_COLUMNS))


def test_what_cannot_be_asked_is_left_out_with_its_reason() -> None:
    records = pd.DataFrame({"record_id": ["a", "b"], "patient_id": ["p", "q"], "fold": [1, 10]})
    table = asked(
        ("b", "Is it?", "no"), ("a;b", "Same?", "no"), ("c", "Is it?", "no"), ("a", " ", "no"), ("a", "Is it?", ""), ("a", "Is it?", "yes")
    )
    kept, left_out = sort_out(table, records)
    assert kept[["question_id", "record_id", "patient_id", "fold"]].to_numpy().tolist() == [["q0", "b", "q", 10], ["q5", "a", "p", 1]]
    assert dict(left_out[["question_id", "reason"]].to_numpy()) == {
        "q1": "several_records", "q2": "unknown_record", "q3": "no_question", "q4": "no_answer",
    }  # fmt: skip


@pytest.fixture
def ptb_xl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, Any]:
    """A workspace with PTB-XL and ECG-QA in it, and the dataset that asks."""
    workspace = Workspace(tmp_path / "home")
    monkeypatch.setenv("EINTHOVEN_HOME", str(tmp_path / "home"))
    for name in ("ecg_qa", "ptb_xl"):
        monkeypatch.setenv(f"EINTHOVEN_DATASET_{name.upper()}", str(tmp_path / name))
        get_dataset(name).make_fixture(tmp_path / name)
        for verdict in run_checks(workspace, make_raw(workspace, get_dataset(name)(tmp_path / name), print)):
            assert verdict.passed, verdict.message
    return workspace, get_dataset("ptb_xl")(tmp_path / "ptb_xl", {"ecg_qa": tmp_path / "ecg_qa"})


def test_ptb_xl_asks_the_questions_of_ecg_qa_in_its_own_folds(ptb_xl: tuple[Workspace, Any]) -> None:
    workspace, dataset = ptb_xl
    output = make_questions(workspace, dataset)
    assert set(output.manifest["upstream"]) == {"raw/ptb_xl", "raw/ecg_qa"} and output.access is Access.OPEN
    assert output.facts["sources"] == "ecg_qa" and output.facts["types"] == {"verify": 120, "choose": 120, "query": 120}
    assert output.facts["left_out"] == {"several_records": 120, "unknown_record": 0, "no_question": 0, "no_answer": 0}
    table = pd.read_parquet(output.path("questions.parquet"))
    folds = dataset.records().set_index("record_id")["fold"]
    assert (table["record_id"].map(folds) == table["fold"]).all()
    (verdict,) = run_checks(workspace, output)
    assert verdict.passed and "are in another part than published" in verdict.message
    assert verdict.details["left_out"]["several_records"] == 120


def test_a_dataset_about_which_nothing_can_be_asked_is_an_error(ptb_xl: tuple[Workspace, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, dataset = ptb_xl
    monkeypatch.setattr(type(dataset), "questions", lambda self: asked(("nobody", "Is it?", "no")))
    with pytest.raises(DatasetError, match="no question about ptb_xl can be asked: 1 unknown_record; check ecg_qa"):
        make_questions(workspace, dataset)


def publish(world: Any, questions: Edit = lambda t: t, left_out: Edit = lambda t: t) -> Output:
    raw = world.raw()

    def build(folder: Path) -> Built:
        records = world.records()
        table = asked(*((r, "Does this ECG show a wave?", "no;yes") for r in records["record_id"]), ("r01;r02", "Same?", "no"))
        kept, others = sort_out(table, records)
        questions(kept).to_parquet(folder / "questions.parquet", index=False)
        left_out(others).to_parquet(folder / "left_out.parquet", index=False)
        return Built(len(kept), {})

    output: Output = world.publish(Key(("questions", "tiny")), build, raw)
    return output


def test_clean_questions_pass(world: Any) -> None:
    verdict = world.judge(publish(world), "questions")
    assert verdict.passed and verdict.message == "40 questions are as declared, 1 were left out"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"record_id": {3: "nobody"}}, "the record is one of the raw stage's"),
        ({"patient_id": {3: "p00"}}, "the patient is the record's own"),
        ({"fold": {3: 9}}, "the fold is the record's own"),
        ({"question": {3: " "}}, "question is not blank"),
        ({"answers": {3: ""}}, "answers is not blank"),
        ({"answers": {3: "yes;no"}}, "answers are sorted"),
        ({"answers": {3: "no;no"}}, "answers are sorted"),
        ({"question_id": {3: "q4"}}, "no question id appears twice"),
    ],
)
def test_every_planted_fault_is_found(world: Any, edit: Callable[..., Edit], cells: dict[str, dict[int, Any]], said: str) -> None:
    verdict = world.judge(publish(world, questions=edit(**cells)), "questions")
    assert not verdict.passed and said in verdict.message


def test_a_reason_that_nobody_knows_is_found(world: Any, edit: Callable[..., Edit]) -> None:
    verdict = world.judge(publish(world, left_out=edit(reason={0: "boring"})), "questions")
    assert not verdict.passed and "boring" in verdict.message
