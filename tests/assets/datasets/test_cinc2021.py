"""Challenge 2021 from its fixture, from damaged copies of it, and from real recordings."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from assets.challenge_headers import parse_comments
from assets.dataset import DatasetError
from assets.datasets.cinc2021 import CinC2021
from assets.datasets.ptb_xl import PTBXL
from assets.record import RecordError
from models.types import LEADS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CinC2021:
    folder = tmp_path_factory.mktemp("cinc2021")
    CinC2021.make_fixture(folder)
    return CinC2021(folder)


@pytest.fixture
def copy(dataset: CinC2021, tmp_path: Path) -> CinC2021:
    """The fixture without most of its data files, to be damaged."""
    shutil.copytree(dataset.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("HR*.mat", "S0*.mat", "I0*.mat"))
    return CinC2021(tmp_path / "copy")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> CinC2021:
    return CinC2021(shared_data / "cinc2021")


def header(dataset: CinC2021, place: str) -> Path:
    return dataset.folder / "training" / f"{place}.hea"


def positives(table: pd.DataFrame, record_id: str) -> list[str]:
    row = table.set_index("record_id").loc[record_id].to_dict()
    return sorted(str(name) for name, value in row.items() if value)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("text", "age", "sex", "codes"),
    [
        ("#Age: 74\n#Sex: Male\n#Dx: 59118001\n", 74, "male", ("59118001",)),
        ("# Age: 74\r\n# Sex: Female\r\n# Dx: 59118001,426783006\r\n", 74, "female", ("59118001", "426783006")),
        ("#Age: NaN\n#Sex: NaN\n#Dx: \n#Rx: Unknown\n", math.nan, "unknown", ()),
        ("#Age: 300\n#Sex: F\n#Dx: 1,,2, 1\n", 90, "female", ("1", "2")),
        ("#Age: -1\n#Sex: M\n#Dx: Unknown", math.nan, "male", ()),
        ("#Age: 57.5\n#Sex: other\n#Dx:7", 57.5, "unknown", ("7",)),
        ("#Age: 1e9\n#Age\n#Dx", math.nan, "unknown", ()),
        ("", math.nan, "unknown", ()),
        ("version https://git-lfs.github.com/spec/v1\n", math.nan, "unknown", ()),
    ],
)
def test_comments(text: str, age: float, sex: str, codes: tuple[str, ...]) -> None:
    found = parse_comments(f"X1 12 500 5000 1-Jan-2020\nX1.mat 16+24 1000/mV 16 0 1 2 0 I\n{text}".encode())
    assert found.age == age or (math.isnan(age) and math.isnan(found.age))
    assert (found.sex, found.codes, found.unreadable) == (sex, codes, ())


def test_comments_that_are_no_text() -> None:
    found = parse_comments(b"X1 12\n#Dx: 1,\xff\xfe,2\n#Age: \xff\n")
    assert found.codes == ("1", "2") and len(found.unreadable) == 1 and math.isnan(found.age)


def test_sources_patients_and_folds(dataset: CinC2021) -> None:
    records = dataset.records().set_index("record_id")
    assert set(records["site"]) == set(CinC2021.sites)
    assert (records.loc["HR00001", "patient_id"], records.loc["HR00001", "fold"]) == ("ptb_xl:15709", 3)
    assert records.loc["HR00137", "patient_id"] == "ptb_xl:8727"  # a copy of 138 that PTB-XL removed later
    assert records.loc["S23074", "patient_id"] == "sph:JS23074"
    assert records.loc[["S0001", "S0002"], "patient_id"].tolist() == ["ptb:1", "ptb:1"]
    assert records.loc[["I0016", "I0017"], "patient_id"].tolist() == ["incart:8", "incart:8"]
    assert records.loc["A0001", "patient_id"] == "cpsc2018:A0001"
    assert records.loc["Q0002", "patient_id"] == "cpsc_2018_extra:Q0002"
    assert records.loc["HR00008", "age"] == 90
    assert records.loc[["A0003", "E00003", "E00004", "E00999"], "age"].isna().all()


def test_recordings_that_are_there_twice_are_one_patient(dataset: CinC2021, copy: CinC2021) -> None:
    records = dataset.records().set_index("record_id")
    assert (records.loc["JS20001", "patient_id"], records.loc["JS20001", "fold"]) == ("sph:JS00002", records.loc["JS00002", "fold"])
    assert records["patient_id"].nunique() == len(records) - 4  # two copies, and second recordings in PTB and INCART
    checksums = copy.folder / "SHA256SUMS.txt"
    assert Path(checksums.name) in copy.files()
    checksums.write_bytes(checksums.read_bytes()[:-900] + b"\n\xff\x00 no checksum\n")
    assert len(CinC2021(copy.folder).records()) == len(records)
    checksums.unlink()
    alone = CinC2021(copy.folder).records().set_index("record_id")
    assert alone.loc["JS20001", "patient_id"] == "sph:JS20001"


def test_what_is_not_there(dataset: CinC2021) -> None:
    ids = ["E00999", "E00007", "E00001", "no such record"]
    assert dataset.present(ids) == [False, False, True, False]
    for record_id in (ids[0], ids[1], ids[3]):
        with pytest.raises(RecordError) as caught:
            dataset.read(record_id)
        assert caught.value.reason == "absent"
    assert Path("training/georgia/g1/E00007.hea") in dataset.files()


def test_signals_at_their_own_rates(dataset: CinC2021) -> None:
    for record_id, fs_hz, samples in (("A0001", 500, 7500), ("S0001", 1000, 12000), ("I0016", 257, 5140), ("E00005", 500, 3000)):
        record = dataset.read(record_id)
        assert (record.fs_hz, record.signal_LT.shape, record.leads) == (fs_hz, (12, samples), LEADS)


def test_labels(dataset: CinC2021) -> None:
    task, table = dataset.task("dx"), dataset.labels("dx").set_index("record_id")
    assert task.may_be_empty and len(task.classes) == 26
    assert not {"A0002", "E00999"} & set(table.index)  # no diagnoses, no header
    assert "E00007" in table.index  # a header is enough
    assert (table.sum() > 0).all()
    assert (table.sum(axis=1) == 0).sum() >= 1
    assert positives(dataset.labels("dx"), "JS00002") == ["NSR"]


def test_diagnoses_that_are_no_codes(copy: CinC2021) -> None:
    edit(header(copy, "georgia/g1/E00001"), "Dx: ", "Dx: AF,")
    assert "E00001" in set(copy.records()["record_id"])
    with pytest.raises(DatasetError, match=r"E00001 \('AF'\) are no SNOMED CT codes"):
        copy.labels("dx")


def test_a_recording_in_two_places(copy: CinC2021) -> None:
    source = header(copy, "georgia/g1/E00001")
    shutil.copy(source, source.parents[1] / "g2" / source.name)
    with pytest.raises(DatasetError, match=r"E00001 is both in training/georgia/g1 and in training/georgia/g2"):
        copy.records()


def test_a_list_that_names_something_else(copy: CinC2021) -> None:
    (copy.folder / "training" / "georgia" / "g1" / "RECORDS").write_text("E00001\n../../secret\n")
    with pytest.raises(DatasetError, match=r"RECORDS names '\.\./\.\./secret'"):
        copy.files()


def test_links_and_other_files_are_not_taken(copy: CinC2021) -> None:
    shelf = copy.folder / "training" / "georgia" / "g1"
    before = copy.files()
    (shelf / "notes.txt").write_text("x")
    (shelf / "E00500.hea").symlink_to(shelf / "E00001.hea")
    (shelf.parent / "g9").symlink_to(shelf)
    assert CinC2021(copy.folder).files() == before
    assert "E00500" not in set(CinC2021(copy.folder).records()["record_id"])


def test_without_lists_headers_are_enough(copy: CinC2021) -> None:
    for path in (copy.folder / "training").rglob("RECORDS"):
        path.unlink()
    assert set(copy.records()["record_id"]) == set(CinC2021(copy.folder).records()["record_id"])
    assert "E00999" not in set(copy.records()["record_id"])


def test_another_folder_is_a_typed_error(tmp_path: Path, dataset: CinC2021) -> None:
    with pytest.raises(DatasetError, match="no folders of recordings"):
        CinC2021(dataset.folder / "training").records()


def test_real_recordings_are_all_read(real: CinC2021) -> None:
    records = real.records()
    assert len(records) == 119
    assert records.groupby("site").size().to_dict() == {
        "chapman_shaoxing": 12,
        "cpsc_2018": 10,
        "cpsc_2018_extra": 22,
        "ningbo": 43,
        "ptb": 4,
        "ptb-xl": 28,
    }
    assert all(real.present(records["record_id"].tolist()))
    assert records["age"].between(1, 95).all() and set(records["sex"]) == {"male", "female"}
    for record_id, site in zip(records["record_id"], records["site"], strict=True):
        record = real.read(record_id)
        assert record.leads == LEADS and set(record.units) == {"uV"}
        assert record.fs_hz == (1000 if site == "ptb" else 500)
        assert record.signal_LT.shape[1] / record.fs_hz >= 10


def test_real_labels_counted_by_hand(real: CinC2021) -> None:
    table = real.labels("dx")
    assert len(table) == 119
    expected = {
        "A0001": ["CRBBB"],  # 59118001
        "JS00002": ["SB", "TAb"],
        "JS00005": ["AFL", "IAVB"],  # ST depression and ST-T changes are unscored
        "JS20052": ["CRBBB", "NSR", "PAC"],
        "JS45551": [],  # atrial rhythm is unscored
        "JS23463": ["PR", "PVC"],
        "HR00001": ["LQRSV", "NSR"],
        "Q0002": [],
    }
    assert {r: positives(table, r) for r in expected} == expected


def test_real_records_are_the_same_people_as_in_ptb_xl(real: CinC2021, shared_data: Path) -> None:
    here = real.records().set_index("record_id")
    there = PTBXL(shared_data / "ptb-xl").records()
    there = there.set_index("HR" + there["record_id"].str.zfill(5))
    both = here.index.intersection(there.index)
    assert len(both) >= 10
    for column in ("patient_id", "fold", "age", "sex"):
        assert here.loc[both, column].tolist() == there.loc[both, column].tolist()


def test_real_headers_in_conflict_and_without_labels(shared_data: Path) -> None:
    one, other = (parse_comments((shared_data / "broken" / "label_conflict" / f"JS20005.{x}.hea").read_bytes()) for x in "ab")
    assert one == other and len(one.codes) == 4
    for name in ("A0002", "Q0001"):
        found = parse_comments((shared_data / "broken" / "unlabelled" / f"{name}.hea").read_bytes())
        assert found.codes == () and found.sex != "unknown"
