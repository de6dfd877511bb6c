"""CPSC 2018 from its fixture, from damaged copies of it, and from real recordings."""

from __future__ import annotations

import csv
import gzip
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from assets.dataset import DatasetError
from assets.datasets.cpsc2018 import CLASSES, CPSC2018, REFERENCE, read_person
from assets.record import RecordError
from models.types import LEADS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CPSC2018:
    folder = tmp_path_factory.mktemp("cpsc2018")
    CPSC2018.make_fixture(folder)
    return CPSC2018(folder)


@pytest.fixture
def tables(dataset: CPSC2018, tmp_path: Path) -> CPSC2018:
    """The reference alone, to be damaged."""
    shutil.copy(dataset.folder / REFERENCE, tmp_path / REFERENCE)
    return CPSC2018(tmp_path)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_people_come_from_the_recordings(dataset: CPSC2018) -> None:
    records = dataset.records().set_index("record_id")
    assert len(records) == 52
    assert records["age"].between(20, 89).sum() == 50
    assert math.isnan(records["age"]["A0009"]) and records["sex"]["A0009"] == "male"
    assert records["sex"]["A0011"] == "unknown"  # its file is not there
    assert records["patient_id"]["A0001"] == "cpsc2018:A0001"
    assert set(records["fold"]) >= {9, 10}


def test_what_is_there(dataset: CPSC2018) -> None:
    assert dataset.present(["A0001", "A0011", "A9999"]) == [True, False, False]
    assert len(dataset.files()) == 52
    assert Path("TrainingSet1/A0014.mat") in dataset.files()
    with pytest.raises(RecordError) as caught:
        dataset.read("A0011")
    assert caught.value.reason == "absent"


def test_signals(dataset: CPSC2018) -> None:
    record = dataset.read("A0001")
    assert (record.fs_hz, record.leads, set(record.units)) == (500, LEADS, {"uV"})
    one, two, three = record.signal_LT[:3]
    assert np.abs(two - one - three).max() <= 2
    assert dataset.read("A0012").signal_LT.shape == (12, 3000)


def test_all_three_labels_count(dataset: CPSC2018) -> None:
    table = dataset.labels("icbeb")
    assert tuple(table.columns[1:]) == tuple(CLASSES) == dataset.task("icbeb").classes
    assert len(table) == 52
    assert (table[list(CLASSES)].sum() >= 4).all()
    assert (table[list(CLASSES)].sum(axis=1) == 2).sum() == 6


def test_labels_as_copies_write_them(tables: CPSC2018) -> None:
    edit(tables.folder / REFERENCE, "A0001,1,,", "A0001,1.0,6.0,9")
    edit(tables.folder / REFERENCE, "A0003,3,,", "A0003,,,")
    table = tables.labels("icbeb").set_index("record_id")
    assert table.loc["A0001", ["NORM", "PAC", "STE"]].sum() == table.loc["A0001"].sum() == 3
    assert "A0003" not in table.index


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A0001,1,,", "A0001,10,,", "labels of A0001 are no numbers from 1 to 9"),
        ("A0001,1,,", "A0001,AF,,", "labels of A0001"),
        ("A0002", "../A0002", r"names '\.\./A0002'"),
        ("A0002", "A0001", "recording A0001 stands in more than one row"),
        ("First_label", "label", "has no column First_label"),
    ],
)
def test_faults_of_the_reference(tables: CPSC2018, old: str, new: str, message: str) -> None:
    edit(tables.folder / REFERENCE, old, new)
    with pytest.raises(DatasetError, match=message) as caught:
        tables.labels("icbeb")
    assert REFERENCE in str(caught.value)


def test_the_reference_may_lie_in_the_third_set(tables: CPSC2018) -> None:
    (tables.folder / "TrainingSet3").mkdir()
    (tables.folder / REFERENCE).rename(tables.folder / "TrainingSet3" / REFERENCE)
    again = CPSC2018(tables.folder)
    assert len(again.records()) == 52
    assert again.files() == [Path("TrainingSet3") / REFERENCE]


def test_a_recording_in_two_sets(dataset: CPSC2018, tmp_path: Path) -> None:
    shutil.copytree(dataset.folder, tmp_path / "copy")
    shutil.copy(tmp_path / "copy/TrainingSet1/A0001.mat", tmp_path / "copy/TrainingSet3/A0001.mat")
    with pytest.raises(DatasetError, match="A0001 is both in TrainingSet1 and in TrainingSet3"):
        CPSC2018(tmp_path / "copy").records()


@pytest.mark.parametrize(
    "damage", [b"", b"MATLAB", b"\0" * 200, b"MATLAB 5.0 MAT-file".ljust(128) + b"\x0f\0\0\0\x10\0\0\0no zlib at all.."]
)
def test_a_damaged_recording_has_an_unknown_patient(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "A0001.mat").write_bytes(damage)
    person = read_person(tmp_path / "A0001.mat")
    assert math.isnan(person.age) and person.sex == "unknown"


def test_every_cut_of_a_recording_is_survived(dataset: CPSC2018, tmp_path: Path) -> None:
    raw = (dataset.folder / "TrainingSet1" / "A0001.mat").read_bytes()[:400]
    for length in range(0, len(raw), 7):
        (tmp_path / "cut.mat").write_bytes(raw[:length])
        assert read_person(tmp_path / "cut.mat").sex in {"unknown", "male"}


def test_real_recordings(shared_data: Path) -> None:
    real = CPSC2018(shared_data / "cpsc2018")
    records = real.records().set_index("record_id")
    assert records["age"].to_dict() == {"A1980": 52, "A1982": 89, "A1983": 49, "A1985": 26}
    assert records["sex"].tolist() == ["male", "male", "male", "female"]
    assert [real.read(r).signal_LT.shape for r in records.index] == [(12, 5000), (12, 5000), (12, 7500), (12, 5517)]
    table = real.labels("icbeb").set_index("record_id")
    assert all(table.loc[r, c] == 1 for r, c in {"A1980": "PAC", "A1982": "1AVB", "A1983": "NORM", "A1985": "STD"}.items())
    assert (table.sum(axis=1) == 1).all()


def test_real_labels_are_those_of_the_published_split(shared_data: Path) -> None:
    table = CPSC2018(shared_data / "cpsc2018").labels("icbeb").set_index("record_id")
    published: dict[str, dict[str, str]] = {}
    for part in ("train", "val", "test"):
        with gzip.open(shared_data / "merl_splits" / f"icbeb_{part}.csv.gz", "rt", newline="") as stream:
            published |= {row["filename"]: row for row in csv.DictReader(stream)}
    for record in table.index:
        assert {c: int(published[record][c]) for c in CLASSES} == table.loc[record].to_dict()
