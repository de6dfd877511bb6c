"""PTB-XL from its fixture, from damaged copies of it, and from real records."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assets.dataset import DatasetError
from assets.datasets.ptb_xl import DATABASE, PTBXL, STATEMENT_TABLE
from assets.record import RecordError
from models.errors import ConfigurationError
from models.types import LEADS

Row = dict[str, str]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PTBXL:
    """The fixture, for tests that only read."""
    folder = tmp_path_factory.mktemp("ptb_xl")
    PTBXL.make_fixture(folder)
    return PTBXL(folder)


@pytest.fixture
def tables(dataset: PTBXL, tmp_path: Path) -> PTBXL:
    """The fixture's tables without its signals, to be damaged."""
    for name in (DATABASE, STATEMENT_TABLE):
        shutil.copy(dataset.folder / name, tmp_path / name)
    return PTBXL(tmp_path)


def rewrite(path: Path, change: Callable[[list[Row]], object], drop: str | None = None) -> None:
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
        columns = [c for c in reader.fieldnames or [] if c != drop]
    change(rows)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def put(row: int, column: str, value: str) -> Callable[[list[Row]], object]:
    return lambda rows: rows[row].__setitem__(column, value)


def test_records(dataset: PTBXL) -> None:
    records = dataset.records()
    assert list(records.columns) == ["record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at"]
    assert records["record_id"].is_unique
    assert records["fold"].value_counts().to_dict() == dict.fromkeys(range(1, 11), 20)
    assert records.groupby("patient_id")["fold"].nunique().max() == 1
    assert records["patient_id"].str.fullmatch(r"ptb_xl:[0-9]+").all()
    assert records["age"].max() == 90
    assert set(records["sex"]) == {"female", "male"}
    assert records["acquired_at"][0] == "1985-01-11T09:17:00"


def test_fixture_is_reproducible_and_follows_its_seed(dataset: PTBXL, tmp_path: Path) -> None:
    PTBXL.make_fixture(tmp_path / "again")
    PTBXL.make_fixture(tmp_path / "other", seed=1)
    for name in dataset.files():
        assert (dataset.folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    name = "records100/00000/00001_lr.dat"
    assert (dataset.folder / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_signals_at_both_rates(dataset: PTBXL) -> None:
    low, high = dataset.read("1"), dataset.read("1", 500.0)
    assert (low.fs_hz, high.fs_hz) == (100, 500)
    assert low.leads == high.leads == LEADS
    one, two, three, avr, avl, avf = low.signal_LT[:6]
    for error in (two - one - three, avr + (one + two) / 2, avl - (one - three) / 2, avf - (two + three) / 2):
        assert np.abs(error).max() <= 1.5
    for lead in range(12):
        assert np.corrcoef(low.signal_LT[lead], high.signal_LT[lead, ::5])[0, 1] > 0.9
    assert dataset.read("2", 250.0).fs_hz == 100


def test_absent_and_unknown_records(dataset: PTBXL) -> None:
    for record_id in ("2", "no such record"):
        with pytest.raises(RecordError) as caught:
            dataset.read(record_id, 500.0)
        assert caught.value.reason == "absent"


def test_likelihood_zero_counts(dataset: PTBXL) -> None:
    labels = dataset.labels("super").set_index("record_id")
    ninth = labels.loc["9"]  # IMI with likelihood 0
    assert ninth.to_dict() == {"CD": 0, "HYP": 1, "MI": 1, "NORM": 0, "STTC": 0}
    assert "38" not in labels.index
    assert "185" not in labels.index
    assert len(labels) == 198
    assert (labels.sum() > 0).all()


def test_statements_below_a_chosen_likelihood_do_not_count(dataset: PTBXL) -> None:
    every, zero, half, all_sure = (dataset.labels("super", least) for least in (None, 0.0, 50.0, 100.0))
    assert every.equals(dataset.labels("super"))
    assert zero.equals(every)
    assert half.set_index("record_id").loc["3", "MI"] == 1  # IMI with likelihood 50
    assert "3" not in all_sure["record_id"].tolist()
    assert "9" not in half["record_id"].tolist()  # IMI with likelihood 0, LVH with 35
    kept = dataset.labels("super", 35.0).set_index("record_id").loc["9"]
    assert kept.to_dict() == {"CD": 0, "HYP": 1, "MI": 0, "NORM": 0, "STTC": 0}
    assert every["MI"].sum() > half["MI"].sum() > all_sure["MI"].sum()


@pytest.mark.parametrize(
    ("task", "classes"), [("all", 71), ("diag", 44), ("sub", 23), ("super", 5), ("super_single", 5), ("form", 19), ("rhythm", 12)]
)
def test_labels_have_the_columns_of_the_task(dataset: PTBXL, task: str, classes: int) -> None:
    labels = dataset.labels(task)
    assert tuple(labels.columns[1:]) == dataset.task(task).classes
    assert len(labels.columns) == classes + 1
    assert labels["record_id"].isin(dataset.records()["record_id"]).all()


def test_reports(dataset: PTBXL) -> None:
    reports = dataset.reports().set_index("record_id")
    assert reports.loc["1", "source"] == "human"
    assert reports.loc["3", "source"] == "machine"
    assert reports["text"].str.contains("Ä", regex=False).any()
    assert (reports["text"] == "").sum() == 1


def test_unknown_task(dataset: PTBXL) -> None:
    with pytest.raises(ConfigurationError, match="'diagnoses'"):
        dataset.labels("diagnoses")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(4, "strat_fold", "2.5"), r"column strat_fold cannot be read for ecg_id 5 \('2\.5'\)"),
        (put(4, "strat_fold", ""), "column strat_fold cannot be read for ecg_id 5"),
        (put(4, "strat_fold", "11"), "column strat_fold"),
        (put(4, "patient_id", ""), "column patient_id cannot be read for ecg_id 5"),
        (put(4, "age", "old"), "column age cannot be read for ecg_id 5"),
        (put(4, "sex", "2"), "column sex"),
        (put(4, "recording_date", "yesterday"), "column recording_date"),
        (put(4, "ecg_id", "4"), "ecg_id 4 stands in more than one row"),
        (put(4, "ecg_id", "five"), "row 6: 'five'"),
        (lambda rows: rows.clear(), "has no rows"),
    ],
)
def test_faults_of_the_database_name_column_and_rows(tables: PTBXL, change: Callable[[list[Row]], object], message: str) -> None:
    rewrite(tables.folder / DATABASE, change)
    with pytest.raises(DatasetError, match=message) as caught:
        tables.records()
    assert DATABASE in str(caught.value)


@pytest.mark.parametrize("column", ["patient_id", "scp_codes", "strat_fold", "filename_hr"])
def test_missing_column(tables: PTBXL, column: str) -> None:
    rewrite(tables.folder / DATABASE, lambda rows: None, drop=column)
    with pytest.raises(DatasetError, match=f"{DATABASE} has no column {column}"):
        tables.records()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{'XYZ': 100.0}", r"'XYZ' in 5"),
        ("NORM", "ecg_id 5 is not a dictionary"),
        ("['NORM']", "ecg_id 5 is not a dictionary"),
        ("{1: 2}", "ecg_id 5 is not a dictionary"),
        ("{" * 3000, "ecg_id 5 is not a dictionary"),
        ("__import__('os').getcwd()", "ecg_id 5 is not a dictionary"),
        ("{" + "'NORM': 1, " * 1000 + "}", "ecg_id 5 is not a dictionary"),
    ],
)
def test_unreadable_or_unknown_statements(tables: PTBXL, value: str, message: str) -> None:
    rewrite(tables.folder / DATABASE, put(4, "scp_codes", value))
    assert len(tables.records()) == 200
    with pytest.raises(DatasetError, match=message) as caught:
        tables.labels("super")
    assert DATABASE in str(caught.value)


def test_database_missing_cut_short_or_not_text(tables: PTBXL) -> None:
    path = tables.folder / DATABASE
    raw = path.read_bytes()
    for damaged, message in (
        (raw[: raw.index(b"\n") + 40], "fields as the header"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "has no column"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match=message):
            PTBXL(tables.folder).records()
    path.unlink()
    with pytest.raises(DatasetError, match=f"{DATABASE} is missing"):
        PTBXL(tables.folder).files()


def test_statement_table_is_optional_and_must_agree(tables: PTBXL) -> None:
    path = tables.folder / STATEMENT_TABLE
    expected = tables.labels("sub")
    rewrite(path, put(0, "diagnostic_class", "CD"))
    with pytest.raises(DatasetError, match=rf"{STATEMENT_TABLE}: row 2 \('NORM'\)"):
        tables.labels("sub")
    rewrite(path, lambda rows: None, drop="rhythm")
    with pytest.raises(DatasetError, match=f"{STATEMENT_TABLE} has no column rhythm"):
        tables.labels("sub")
    path.unlink()
    assert tables.labels("sub").equals(expected)
    assert Path(STATEMENT_TABLE) not in tables.files()


def test_file_names_that_lead_out_of_the_folder(tables: PTBXL) -> None:
    rewrite(tables.folder / DATABASE, put(0, "filename_lr", "../../secret"))
    with pytest.raises(RecordError) as caught:
        tables.read("1")
    assert caught.value.reason == "unsafe_path"


def test_files_are_those_the_database_names(dataset: PTBXL) -> None:
    stray = dataset.folder / "records100" / "00000" / "stray.dat"
    stray.write_bytes(b"x")
    files = dataset.files()
    stray.unlink()
    assert files == sorted(files)
    assert len(files) == 2 + 2 * 200 + 2 * 5
    assert Path("records100/00000/00001_lr.hea") in files


def test_real_subset(shared_data: Path) -> None:
    dataset = PTBXL(shared_data / "ptb-xl")
    records = dataset.records()
    assert records["fold"].value_counts().sort_index().tolist() == [399, 354, 403, 398, 387, 372, 390, 382, 444, 471]
    assert (len(records), records["patient_id"].nunique()) == (4_000, 3_751)
    assert records.groupby("patient_id")["fold"].nunique().max() == 1
    labels = dataset.labels("super")
    assert labels.iloc[:, 1:].sum().to_dict() == {"NORM": 1266, "MI": 1360, "STTC": 1347, "CD": 910, "HYP": 561}
    assert len(records) - len(labels) == 35
    rhythm = dataset.labels("rhythm").iloc[:, 1:].sum().to_dict()
    assert (rhythm["SR"], rhythm["AFIB"], rhythm["PSVT"]) == (2957, 473, 3)
    assert (dataset.reports()["text"] == "").sum() == 1
    assert len(dataset.files()) == 2 + 2 * 4_000 + 2 * 160


def test_ages_above_89_are_no_numbers(dataset: PTBXL) -> None:
    records, ages = dataset.records(), dataset.labels("age")
    above = set(records.loc[records["age"] == 90, "record_id"])
    assert above and set(ages["record_id"]) == set(records["record_id"]) - above
    assert ages["age"].dtype == np.float32 and ages["age"].max() <= 89
    assert (dataset.task("age").kind, dataset.task("age").unit) == ("regression", "years")


def test_sex_is_a_class_that_may_be_absent(dataset: PTBXL) -> None:
    labels = dataset.labels("sex").set_index("record_id")["female"]
    sexes = dataset.records().set_index("record_id")["sex"]
    assert dataset.task("sex").may_be_empty and (labels.map({0: "male", 1: "female"}) == sexes.loc[labels.index]).all()


def test_body_mass_index_is_of_plausible_measurements(tables: PTBXL) -> None:
    measured = {"1": ("180.0", "81.0"), "2": ("18.0", "81.0"), "3": ("180.0", "8.1"), "4": ("", "81.0"), "5": ("180.0", "")}

    def change(rows: list[Row]) -> None:
        for row in rows:
            row["height"], row["weight"] = measured.get(row["ecg_id"], ("", ""))

    rewrite(tables.folder / DATABASE, change)
    assert PTBXL(tables.folder).labels("bmi").to_dict("list") == {"record_id": ["1"], "bmi": [25.0]}


def test_a_copy_without_heights_has_every_task_but_one(tables: PTBXL) -> None:
    rewrite(tables.folder / DATABASE, lambda rows: None, drop="height")
    assert len(PTBXL(tables.folder).labels("age")) and len(PTBXL(tables.folder).labels("super"))
    with pytest.raises(DatasetError, match="no column height, so there is no body mass index"):
        PTBXL(tables.folder).labels("bmi")
