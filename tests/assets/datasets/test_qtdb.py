"""QT Database: people of other databases, leads by place, what is not calibrated, a wrong baseline."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from assets.datasets.mitdb import MITDB
from assets.datasets.qtdb import QTDB, RECORDS, SOURCES, UNCALIBRATED
from assets.record import RecordError
from assets.splits import fold_of

SHARED = os.environ.get("EINTHOVEN_SHARED_DATA")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> QTDB:
    folder = tmp_path_factory.mktemp("qtdb")
    QTDB.make_fixture(folder)
    return QTDB(folder)


def test_the_recordings_are_those_of_the_papers_table() -> None:
    counts = {"mitdb": 15, "stdb": 6, "svdb": 13, "ltdb": 4, "edb": 33, "nsrdb": 10, "sddb": 24}
    assert {database: len(names) for database, names in SOURCES.items()} == counts
    assert len(RECORDS) == 105 and len(UNCALIBRATED) == 10 and set(RECORDS) >= UNCALIBRATED


def test_a_person_has_one_id_and_fold_in_both_databases(dataset: QTDB, tmp_path: Path) -> None:
    MITDB.make_fixture(tmp_path)
    ours = dataset.records().set_index("record_id")
    theirs = MITDB(tmp_path).records().set_index("record_id")
    for name in SOURCES["mitdb"]:
        assert ours.loc[f"sel{name}", ["patient_id", "fold"]].tolist() == theirs.loc[name, ["patient_id", "fold"]].tolist()
    assert ours.loc["sel16265", "patient_id"] == "nsrdb:16265"
    assert (ours["fold"] == ours["patient_id"].map(fold_of)).all()
    assert ours["patient_id"].nunique() == 103, "e0121 and e0122, e0124 and e0126 are two people"


def test_leads_are_by_place_and_keep_their_names_in_the_table(dataset: QTDB) -> None:
    records = dataset.records().set_index("record_id")
    assert records.loc["sele0104", ["lead_1", "lead_2"]].tolist() in (["D3", "V4"], ["V4", "D3"])
    assert records.loc["sel30", ["lead_1", "lead_2"]].tolist() == ["ECG1", "ECG2"]
    assert records.loc["sel52", "lead_1"] == "", "not there"
    assert dataset.read("sele0104").leads == dataset.read("sel100").leads == ("ECG1", "ECG2")


def test_a_baseline_that_contradicts_the_converter_is_taken_back(dataset: QTDB) -> None:
    for record_id in ("sel100", "sel104", "sel114", "sel30"):
        assert np.abs(np.median(dataset.read(record_id).signal_LT, axis=1)).max() < 200


@pytest.mark.parametrize(
    ("record_id", "reason"), [("sel820", "zero_gain"), ("sel233", "checksum"), ("sel52", "absent"), ("sel1", "absent")]
)
def test_what_cannot_be_used_is_told(record_id: str, reason: str, dataset: QTDB) -> None:
    with pytest.raises(RecordError) as caught:
        dataset.read(record_id)
    assert caught.value.reason == reason


def test_sudden_deaths_have_no_annotated_beats(dataset: QTDB) -> None:
    assert dataset.present(["sel30"]) == [True]
    with pytest.raises(RecordError) as caught:
        dataset.beats("sel30")
    assert caught.value.reason == "absent"
    assert len(dataset.beats("sel16265").sample_N) > 10


def test_superseded_headers_and_outlines_are_not_listed(tmp_path: Path) -> None:
    QTDB.make_fixture(tmp_path)
    for name in ("sel30.hea-", "sel30.xws", "sel30.q1c", "sel30.pu1"):
        (tmp_path / name).write_bytes(b"\0\0")
    names = {p.name for p in QTDB(tmp_path).files()}
    assert {"RECORDS", "sel30.hea", "sel30.dat", "sel100.atr"} <= names
    assert not names & {"sel30.hea-", "sel30.xws", "sel30.q1c", "sel30.pu1"}


@pytest.mark.skipif(SHARED is None, reason="EINTHOVEN_SHARED_DATA is not set")
def test_the_real_sel100_is_seven_minutes_into_recording_100() -> None:
    excerpt, whole = QTDB(Path(str(SHARED)) / "qtdb"), MITDB(Path(str(SHARED)) / "mitdb")
    record, beats = excerpt.read("sel100"), excerpt.beats("sel100")
    assert record.signal_LT.shape == (2, 225_000) and len(beats.sample_N) == 1134
    time_N = whole.beats("100").sample_N / 360 - 420
    time_N = time_N[(time_N >= 0) & (time_N < 900)]
    assert np.abs(time_N - beats.sample_N / 250).max() < 0.005
    parent_LT = whole.read("100").signal_LT[:, 420 * 360 : 1320 * 360]
    assert np.abs(record.signal_LT.mean(axis=1) - parent_LT.mean(axis=1)).max() < 50, "5,120 uV apart as the header has it"
    row = excerpt.records().set_index("record_id").loc["sel100"]
    assert row[["patient_id", "age", "sex", "lead_1", "lead_2"]].tolist() == ["mitdb:100", 69.0, "male", "MLII", "V5"]
