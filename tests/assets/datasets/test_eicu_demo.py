"""eICU demo: real stays and lab results, invented dates, typed errors."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from assets.dataset import DatasetError
from assets.datasets.eicu_demo import EICUDemo


@pytest.fixture
def real(shared_data: Path) -> EICUDemo:
    return EICUDemo(shared_data / "eicu-demo")


def test_real_stays_are_read(real: EICUDemo) -> None:
    assert [f.name for f in real.files()] == ["lab.csv", "patient.csv"]
    records = real.records().set_index("record_id")
    assert len(records) == 121 and records["patient_id"].nunique() == 68
    row = records.loc["141764"]
    assert (row["patient_id"], row["age"], row["sex"], row["site"]) == ("eicu:002-1039", 87.0, "female", "59")
    assert (records["age"] == 90.0).any()  # "> 89"


def test_real_results_keep_their_minutes(real: EICUDemo) -> None:
    labs = pd.concat(real.labs(), ignore_index=True)
    table = pd.read_csv(real.folder / "lab.csv", dtype=str, keep_default_na=False)
    admitted = real.encounters().set_index("encounter_id")["admitted_at"]
    assert len(labs) == len(table) == 17_967
    minutes = (pd.to_datetime(labs["charted_at"]) - pd.to_datetime(labs["encounter_id"].map(admitted))).dt.total_seconds() / 60
    assert minutes.tolist() == table["labresultoffset"].astype(int).tolist()
    assert labs["value"].isna().sum() == (table["labresult"] == "").sum() == 92
    assert labs["item_id"].nunique() == 116


def test_real_units_of_one_hospital_stay_stand_in_their_true_order(real: EICUDemo) -> None:
    """141765 was admitted at 23:44, eight minutes after the hospital; 141764 at 13:14, two days later."""
    encounters = real.encounters().set_index("encounter_id")
    assert encounters.loc["141765", "admitted_at"] == "2001-01-01T23:44:00"
    assert encounters.loc["141764", "admitted_at"] == "2001-01-03T13:14:00"
    stays = pd.read_csv(real.folder / "patient.csv", dtype=str)[["patientunitstayid", "uniquepid", "patienthealthsystemstayid"]]
    year = stays["patientunitstayid"].map(encounters["admitted_at"]).str[:4].astype(int)
    hospital_stays = stays.assign(year=year).groupby(["uniquepid", "patienthealthsystemstayid"])["year"].min().reset_index()
    assert not hospital_stays.duplicated(["uniquepid", "year"]).any() and hospital_stays["uniquepid"].duplicated().any()


def test_deaths_in_the_unit_end_the_stay(tmp_path: Path) -> None:
    EICUDemo.make_fixture(tmp_path)
    encounters = EICUDemo(tmp_path).encounters()
    died = encounters["died_at"] != ""
    assert died.any() and not died.all()
    assert (encounters.loc[died, "died_at"] == encounters.loc[died, "discharged_at"]).all()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("hospitaladmittime24", "25 o'clock", "hospitaladmittime24 holds what cannot be read: 25 o'clock"),
        ("hospitaladmitoffset", "soon", "hospitaladmitoffset holds what cannot be read: soon"),
        ("age", "old", "age holds what cannot be read: old"),
        ("patientunitstayid", "again", "patientunitstayid again stands in more than one row"),
    ],
)
def test_stays_that_cannot_be_read_are_typed_errors(tmp_path: Path, column: str, value: str, said: str) -> None:
    EICUDemo.make_fixture(tmp_path)
    table = pd.read_csv(tmp_path / "patient.csv.gz", dtype=str)
    table.loc[:1, column] = value
    table.to_csv(tmp_path / "patient.csv.gz", index=False)
    with pytest.raises(DatasetError, match=re.escape(said)):
        EICUDemo(tmp_path).records()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("labresult", "high", "labresult holds what is no number: high"),
        ("labresultoffset", "1.5", "labresultoffset holds what cannot be read: 1.5"),
        ("patientunitstayid", "7", "stays 7 are not in"),
    ],
)
def test_results_that_cannot_be_read_are_typed_errors(tmp_path: Path, column: str, value: str, said: str) -> None:
    EICUDemo.make_fixture(tmp_path)
    table = pd.read_csv(tmp_path / "lab.csv.gz", dtype=str)
    table.loc[0, column] = value
    table.to_csv(tmp_path / "lab.csv.gz", index=False)
    with pytest.raises(DatasetError, match=re.escape(said)):
        list(EICUDemo(tmp_path).labs())


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    EICUDemo.make_fixture(tmp_path)
    (tmp_path / "lab.csv.gz").unlink()
    with pytest.raises(DatasetError, match=r"lab\.csv\.gz is missing"):
        EICUDemo(tmp_path).files()
