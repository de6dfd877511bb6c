"""MIT-BIH: leads by name, beats as truth, one person with two recordings, the published split beside ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from assets.datasets.mitdb import DS1, DS2, MITDB, PACED, RECORDS
from assets.holter import BEATS, beats_of, person
from assets.outputs import Key, Output, Workspace
from assets.record import Annotations, RecordError
from models.registry import get_recipe
from models.store import open_store

SHARED = os.environ.get("EINTHOVEN_SHARED_DATA")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mitdb")
    MITDB.make_fixture(folder)
    return folder


def cleaned(dataset: MITDB, root: Path) -> Output:
    from assets.store import build_store

    return Workspace(root).publish(
        Key(("cleaned", dataset.name), "native"),
        lambda f: build_store(f, dataset, get_recipe("native")),
        code_version="1",
        access=dataset.access,
    )


def test_there_are_48_recordings_of_47_people(original: Path) -> None:
    records = MITDB(original).records().set_index("record_id")
    assert len(records) == 48 and records["patient_id"].nunique() == 47
    assert records.loc["201", "patient_id"] == records.loc["202", "patient_id"] == "mitdb:201"
    assert records.loc["201", "fold"] == records.loc["202", "fold"]


def test_the_published_split_is_whole_and_known_to_share_a_person() -> None:
    assert (len(DS1), len(DS2), len(PACED)) == (22, 22, 4)
    assert len({*DS1, *DS2, *PACED}) == len(RECORDS) == 48
    assert "201" in DS1 and "202" in DS2


def test_leads_are_taken_by_name(original: Path, tmp_path: Path) -> None:
    dataset = MITDB(original)
    assert dataset.read("114").leads == ("V5", "MLII")
    opened = open_store(cleaned(dataset, tmp_path).folder)
    index = opened.index.to_pandas()
    by_record = {name: opened.signals(np.array([rows.iloc[0]])) for name, rows in index.reset_index().groupby("record_id")["index"]}
    used = {name: [i for i in range(5) if np.abs(x_BLT[0, i]).max() > 0] for name, x_BLT in by_record.items()}
    names = [c.name for c in opened.channels]
    assert [names[i] for i in used["114"]] == ["MLII", "V5"] and [names[i] for i in used["102"]] == ["V2", "V5"]
    absent = index.groupby("record_id")["absent"].first()
    assert absent["124"] == 0b10110 and absent["114"] == 0b01110


def test_a_recording_that_is_damaged_or_not_there_is_told(original: Path, tmp_path: Path) -> None:
    shutil.copy(original / "100.hea", tmp_path)
    damaged = bytearray((original / "100.dat").read_bytes())
    damaged[3000] ^= 0x10
    (tmp_path / "100.dat").write_bytes(damaged)
    dataset = MITDB(tmp_path)
    for record_id, reason in (("100", "checksum"), ("101", "absent"), ("110", "absent"), ("../100", "absent")):
        with pytest.raises(RecordError) as caught:
            dataset.read(record_id)
        assert caught.value.reason == reason
        assert str(tmp_path) in str(caught.value)
    dataset = MITDB(original)
    assert dataset.present(["100", "234"]) == [True, False]


def test_repeated_and_foreign_files_are_not_listed(original: Path, tmp_path: Path) -> None:
    for name in ("100.hea", "100.dat", "100.atr", "101.hea"):
        shutil.copy(original / name, tmp_path / name)
    (tmp_path / "x_mitdb").mkdir()
    shutil.copy(original / "108.hea", tmp_path / "x_mitdb" / "x_108.hea")
    (tmp_path / "100.xws").write_text("-a atr\n")
    assert [p.name for p in MITDB(tmp_path).files()] == ["100.atr", "100.dat", "100.hea", "101.hea"]


def test_beats_are_beats_only(original: Path) -> None:
    beats = MITDB(original).beats("106")
    assert set(beats.symbols) <= BEATS
    assert "V" in beats.symbols and "+" not in beats.symbols
    all_of = Annotations(np.arange(5), ("+", "N", "~", "/", "!"), ("(N", "", "", "", ""), 360.0)
    assert beats_of(all_of).sample_N.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("# 69 M 1085 1629 x1", (69.0, "male")),
        ("# -1 M 742 654 x1", (None, "male")),
        ("#Age: 47  Sex: M", (47.0, "male")),
        ("#Age: -  Sex: -", (None, "unknown")),
        ("# Aldomet, Inderal", (None, "unknown")),
    ],
)
def test_headers_say_who_it_is_in_two_ways(comment: str, said: tuple[float | None, str], tmp_path: Path) -> None:
    (tmp_path / "100.hea").write_text(f"100 1 360 1\n100.dat 212 200 11 1024 995 0 0 MLII\n{comment}\n# Digoxin\n")
    age, sex = person(tmp_path / "100.hea")
    assert (None if np.isnan(age) else age, sex) == said


@pytest.mark.skipif(SHARED is None, reason="EINTHOVEN_SHARED_DATA is not set")
def test_the_five_real_recordings() -> None:
    dataset = MITDB(Path(str(SHARED)) / "mitdb")
    beats = {r: dataset.beats(r) for r in ("100", "102", "103", "105", "106")}
    assert sum(len(b.sample_N) for b in beats.values()) == 11_143
    assert beats["106"].symbols.count("V") == 520 and beats["102"].symbols.count("/") == 2028
    records = dataset.records().set_index("record_id")
    assert records.loc["100", ["age", "sex"]].tolist() == [69.0, "male"] and np.isnan(records.loc["103", "age"])
    assert sum(dataset.present(list(RECORDS))) == 5
    record = dataset.read("100")
    assert record.leads == ("MLII", "V5") and record.signal_LT.shape == (2, 650_000)
    assert record.signal_LT[:, 0].tolist() == [-145.0, -65.0], "first values of the header, in microvolts"
    normal_N = beats["100"].sample_N[[s == "N" for s in beats["100"].symbols]]
    assert np.median(record.signal_LT[0, normal_N]) - np.median(record.signal_LT[0]) > 800, "beats stand on R waves"
