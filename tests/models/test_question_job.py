"""Questions from job file to answer table, with a made-up method that can see what is asked for."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from models.answer_tables import AnswerError, Answers, join, read_answers, write_answers
from models.errors import ConfigurationError, TrainingError
from models.jobs import read_job
from models.progress import Progress
from models.question_job import (
    PROTOCOL,
    TEXT_ONLY,
    Question,
    among_possible,
    answer_classes,
    choose,
    most_frequent,
    pick,
    possible,
    targets,
    thresholds,
)
from models.train import main, run
from models.types import Batch
from tests.models.echo import D, Echo, EchoStudy, N, echo_registered, make_echo_study

SIGNS = ("first", "second", "third", "fourth")


class Asker(Echo):
    """Sees the value that a question names, and all of them where it names none."""

    def answer_features(self, batch: Batch) -> Tensor:
        assert batch.texts is not None
        value_BD = self.encode(batch).pooled_BF
        named_BD = torch.tensor([[float(sign in text) for sign in SIGNS] for text in batch.texts])
        open_B1 = (named_BD.sum(dim=1, keepdim=True) == 0).float()
        return torch.cat([named_BD * value_BD, open_B1 * value_BD, named_BD, open_B1], dim=1)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EchoStudy]:
    with echo_registered(monkeypatch):
        monkeypatch.setattr(sys.modules["echo_for_tests.method"], "create", Asker)
        yield make_echo_study(tmp_path)


def question_table(study: EchoStudy) -> list[dict[str, Any]]:
    """About every record and value whether it is positive, and which are; training asks four times, and three are about nobody."""
    rows = []
    for i, value_D in enumerate(study.value_ND):
        positive = [sign for sign, value in zip(SIGNS, value_D, strict=True) if value > 0]
        asked = [("verify", f"Is the {sign} positive?", "yes" if sign in positive else "no") for sign in SIGNS]
        asked.append(("query", "Which are positive?", join(positive or ["none"])))
        fold = 1 if i < 20 else 9 if i < 24 else 10
        for n, (kind, text, answers) in enumerate(asked * (4 if fold == 1 else 1)):
            rows.append(
                {"question_id": f"q{i}-{n}", "record_id": f"r{i:02d}", "patient_id": f"p{i // 2}", "fold": fold, "question_type": kind, "question": text, "answers": answers}
            )  # fmt: skip
    return rows + [rows[n] | {"question_id": f"x{n}", "record_id": "nobody"} for n in range(3)]


def asked(study: EchoStudy, name: str, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    path = study.folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(question_table(study) if rows is None else rows), path)
    entries = {"questions": str(path), "train_folds": [1], "minimum_count": 1}
    return study.job("question_answering", name, **(entries | changes))


def answers(study: EchoStudy, name: str, protocol: str = PROTOCOL, arm: str = "pretrained") -> Answers:
    return read_answers(study.folder / name / "answers" / f"questions-{protocol}-{arm}.parquet")


def share(table: Answers, kind: str) -> float:
    return float(np.mean([row.correct for row in table.of([10], kind).rows]))


def test_who_sees_the_recording_answers_and_who_does_not_guesses(study: EchoStudy) -> None:
    assert main([str(asked(study, "found"))]) == 0
    table = answers(study, "found")
    assert share(table, "verify") > 0.9 > 0.75 > share(answers(study, "found", arm="random_init"), "verify")
    assert share(answers(study, "found", TEXT_ONLY), "verify") < 0.75
    assert share(table, "query") > share(answers(study, "found", TEXT_ONLY), "query")
    assert {row.fold for row in table.rows} == {9, 10} and len(table.rows) == 20 * 5
    result = json.loads((study.folder / "found" / "result.json").read_text())
    assert result["questions"] == {"train": 400, "validation": 20, "test": 80}
    assert result["counts"]["recording_not_stored"] == 3
    assert len(result["tables"]) == 4


def test_every_encoder_is_asked_the_same_and_beside_the_same_competitors(study: EchoStudy) -> None:
    assert main([str(asked(study, "found"))]) == 0
    mine, twin = answers(study, "found").rows, answers(study, "found", arm="random_init").rows
    assert [replace(row, answer="") for row in mine] == [replace(row, answer="") for row in twin]
    rows = [r for r in question_table(study) if r["fold"] == 1 and r["record_id"] != "nobody"]
    for row in mine:
        same = Counter(r["answers"] for r in rows if r["question"] == row.question)
        assert same[row.by_text] == max(same.values())
        of_type = Counter(r["answers"] for r in rows if r["question_type"] == row.question_type)
        assert of_type[row.by_type] == max(of_type.values())


def test_a_part_may_be_limited_and_the_same_questions_are_drawn_again(study: EchoStudy) -> None:
    limits = {"train": 60, "test": 10}
    assert main([str(asked(study, "few", limits=limits))]) == 0
    assert main([str(asked(study, "again", question_table(study)[::-1], limits=limits))]) == 0
    few = answers(study, "few")
    assert len(few.of([10]).rows) == 10 and few.counts["test_not_drawn"] == 70 and few.counts["validation_not_drawn"] == 0
    assert {r.question_id for r in answers(study, "again").of([10]).rows} == {r.question_id for r in few.of([10]).rows}


def test_an_answer_that_was_never_learned_is_wrong_and_counted(study: EchoStudy) -> None:
    rows = question_table(study)
    changed = [r for r in rows if r["fold"] == 10 and r["question_type"] == "verify"][:7]
    for row in changed:
        row["answers"] = "perhaps"
    assert main([str(asked(study, "odd", rows))]) == 0
    table = answers(study, "odd")
    assert table.counts["answers_never_learned"] >= 7
    assert not any(r.correct for r in table.rows if r.truth == "perhaps")


def test_a_method_that_reads_no_questions_is_refused(study: EchoStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["echo_for_tests.method"], "create", Echo)
    with pytest.raises(ConfigurationError, match="Echo reads no questions"):
        run(read_job(asked(study, "silent")), Progress(0))


def test_features_that_are_not_finite_name_questions(study: EchoStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asker, "answer_features", lambda self, batch: torch.full((len(batch), D), torch.nan))
    with pytest.raises(TrainingError, match=r"not finite for 500 questions \(q"):
        run(read_job(asked(study, "broken")), Progress(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_folds": [7]}, "no question about a stored recording of the validation folds"),
        ({"minimum_count": 1000}, "no answer to a training question comes 1000 times"),
        ({"questions": "nowhere.parquet"}, "is no table of questions"),
    ],
)
def test_what_cannot_be_asked_is_a_typed_error(study: EchoStudy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        run(read_job(asked(study, "wrong", **changes)), Progress(0))


def some_questions(*answer_sets: str) -> list[Question]:
    return [Question(f"q{i}", "r", "p", 1, "query", "Which?", a, 0) for i, a in enumerate(answer_sets)]


def test_classes_are_frequent_answers_and_targets_know_what_is_missing() -> None:
    questions = some_questions("a;b", "a", "b;c", "a")
    assert answer_classes(questions, 2) == ["a", "b"]
    target_NC, complete_N = targets(questions, ["a", "b"])
    assert target_NC.tolist() == [[1, 1], [1, 0], [0, 1], [1, 0]]
    assert complete_N.tolist() == [True, True, False, True]
    assert most_frequent(some_questions("b", "a"))[0] == {"query": "a"}, "of equals the first in the alphabet"


def test_the_threshold_is_the_best_of_all_and_something_is_always_answered() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 4)).astype(np.float32)
    target = (scores + rng.normal(size=scores.shape) * 0.3 > 0.4).astype(np.int8)
    target[np.arange(60), scores.argmax(axis=1)] = 1
    types = np.array(["a", "b"] * 30)
    found = thresholds(scores, target, np.ones(60, bool), types)
    for name in ("a", "b"):
        mine = types == name

        def exact(level: float, mine: Any = mine) -> int:
            right = 0
            for score_C, target_C in zip(scores[mine], target[mine], strict=True):
                given = {c for c in range(4) if score_C[c] > level} or {int(score_C.argmax())}
                right += given == {c for c in range(4) if target_C[c]}
            return right

        best = max(exact(level) for level in np.linspace(-3, 3, 400))
        assert exact(found[name]) >= best - 1, "candidates are a hundred levels, not all"
    assert pick(scores, np.inf).sum(axis=1).tolist() == [1] * 60
    assert choose(some_questions("a", "b", "c"), [1], 2) == choose(some_questions("a", "b", "c")[::-1], [1], 2)


def test_only_answers_that_the_type_ever_had_are_given() -> None:
    types, target = np.array(["a", "a", "b", "b"]), np.array([[1, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0]], np.int8)
    possible_NC = possible(types, target, np.array([0, 2]))
    assert possible_NC.tolist() == [[True, False, True]] * 2 + [[False, True, False]] * 2
    scores = among_possible(np.array([[1.0, 9.0, 2.0], [3.0, 9.0, 1.0], [9.0, -5.0, 9.0], [0.0, 0.0, 0.0]]), possible_NC)
    assert pick(scores, 1.5).tolist() == [[False, False, True], [True, False, False], [False, True, False], [False, True, False]]


def test_a_table_that_calls_a_wrong_answer_correct_is_refused(study: EchoStudy) -> None:
    assert main([str(asked(study, "found"))]) == 0
    path = study.folder / "found" / "answers" / f"questions-{PROTOCOL}-pretrained.parquet"
    table = answers(study, "found")
    write_answers(path, table)
    assert read_answers(path) == table
    arrow = pq.read_table(path)
    lied = arrow.set_column(arrow.column_names.index("correct"), "correct", pa.array([True] * arrow.num_rows))
    pq.write_table(lied, path)
    with pytest.raises(AnswerError, match="not what answer and truth say"):
        read_answers(path)
    path.write_bytes(b"PAR1torn")
    with pytest.raises(AnswerError, match="is not an answer table"):
        read_answers(path)
    assert N == 40
