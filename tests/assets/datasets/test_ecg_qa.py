"""ECG-QA in its published layout, read beside PTB-XL and refused where it is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assets.dataset import QUESTION_COLUMNS, DatasetError, get_dataset
from assets.ecg_qa import question_files, read_questions
from assets.identities import ptb_xl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    get_dataset("ecg_qa").make_fixture(tmp_path / "ecg_qa")
    return tmp_path / "ecg_qa"


def spoil(folder: Path, change: Callable[[list[Any]], Any]) -> Path:
    path = folder / "ecgqa" / "ptbxl" / "paraphrased" / "test" / "00000.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return path


def change_first(**fields: Any) -> Callable[[list[Any]], Any]:
    return lambda samples: [samples[0] | fields, *samples[1:]]


def test_questions_come_with_answers_template_and_published_part(folder: Path) -> None:
    table = read_questions(folder)
    assert tuple(table.columns) == QUESTION_COLUMNS and table["question_id"].is_unique
    first = table.iloc[0]
    assert (first["question_id"], first["record_id"], first["question_type"]) == ("paraphrased-train-0", "1", "verify")
    assert (first["question"], first["template"], first["attribute"]) == ("Can sinus rhythm be seen here?", "1", "scp_code: sinus rhythm")
    assert set(table["published_part"]) == {"train", "validation", "test"}
    several = table[table["question_type"] == "query"]["answers"]
    assert (several == "low qrs voltages;sinus rhythm").any(), "answers are sorted and joined"
    assert table["question_type"].str.startswith("comparison").sum() == table["record_id"].str.contains(";").sum() > 0


@pytest.mark.parametrize("below", ["", "ecgqa", "ecgqa/ptbxl"])
def test_the_clone_and_its_folders_are_read_alike(folder: Path, below: str) -> None:
    assert read_questions(folder / below).equals(read_questions(folder))


def test_templates_are_read_where_nothing_is_paraphrased(folder: Path) -> None:
    (folder / "ecgqa" / "ptbxl" / "paraphrased").rename(folder / "elsewhere")
    assert {path.parts[-3] for path in question_files(folder)} == {"template"}
    assert read_questions(folder).iloc[0]["question"] == "Does this ECG show sinus rhythm?"


def test_recordings_have_patient_and_fold_of_ptb_xl(folder: Path) -> None:
    records = get_dataset("ecg_qa")(folder).records()
    assert len(records) == 120
    for record_id, patient_id, fold in records[["record_id", "patient_id", "fold"]].to_numpy().tolist():
        assert (patient_id, fold) == ptb_xl(int(record_id))


def test_ptb_xl_asks_them_where_they_are_and_its_own_where_not(folder: Path, tmp_path: Path) -> None:
    found = get_dataset("ptb_xl")
    found.make_fixture(tmp_path / "ptb_xl")
    assert found(tmp_path / "ptb_xl", {"ecg_qa": folder}).questions().equals(read_questions(folder))
    own = found(tmp_path / "ptb_xl").questions()
    assert set(own["question_type"]) == {"verify", "choose", "query"} and (own["published_part"] == "").all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda samples: {"samples": samples}, "holds no list of samples"),
        (lambda samples: [*samples, 3], "sample 80 .* has no usable template_id"),
        (lambda samples: [{k: v for k, v in samples[0].items() if k != "answer"}], "sample 0 .* has no usable answer"),
        (change_first(answer=["yes", 1]), "sample 0 .* has no usable answer, attribute or ecg_id"),
        (change_first(ecg_id=["12"]), "has no usable answer, attribute or ecg_id"),
        (change_first(question=None), "has no usable question;"),
    ],
)
def test_a_file_that_is_not_as_published_is_refused_by_name(folder: Path, change: Callable[[list[Any]], Any], message: str) -> None:
    path = spoil(folder, change)
    with pytest.raises(DatasetError, match=message) as raised:
        read_questions(folder)
    assert str(path) in str(raised.value)


def test_malformed_json_is_refused_by_name(folder: Path) -> None:
    path = spoil(folder, lambda samples: samples)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(DatasetError, match="cannot be read as JSON") as raised:
        read_questions(folder)
    assert str(path) in str(raised.value)


def test_an_empty_answer_and_an_unknown_number_do_not_stop_the_rest(folder: Path) -> None:
    spoil(folder, change_first(answer=[" "], ecg_id=[99999]))
    table = read_questions(folder)
    assert table.loc[table["answers"] == "", "record_id"].tolist() == ["99999"]
    records = get_dataset("ecg_qa")(folder).records()
    assert len(records) == 120 and "99999" not in set(records["record_id"])
