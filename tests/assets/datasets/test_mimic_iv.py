"""MIMIC-IV's hospital tables: their traps, and typed errors."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.dataset import DatasetError
from assets.datasets.mimic_iv import MimicIV
from assets.mimic import cohort
from assets.mimic_hospital import ADMISSIONS, LAB_EVENTS, PATIENTS

Edit = Callable[[str], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    MimicIV.make_fixture(tmp_path / "mimic_iv")
    return tmp_path / "mimic_iv"


def rewrite(path: Path, edit: Edit) -> None:
    path.write_bytes(gzip.compress(edit(gzip.decompress(path.read_bytes()).decode()).encode()))


def test_a_stay_is_a_record_with_the_patients_age_in_that_year(folder: Path) -> None:
    held = cohort(0)
    person = held.people[0]
    rewrite(folder / PATIENTS, lambda text: text.replace(f",{person.anchor_age},{person.anchor_year},", f",50,{person.anchor_year - 3},"))
    records = MimicIV(folder).records().set_index("record_id")
    assert len(records) == len(held.admissions)
    row = records.loc[str(held.admissions[0].hadm_id)]
    assert (row["patient_id"], row["age"], row["fold"]) == (person.patient_id, 53.0, person.fold)
    assert row["acquired_at"] == held.admissions[0].admitted.isoformat()
    assert set(records["sex"]) == {"female", "male"}


def test_ages_above_89_are_90_whatever_the_year(folder: Path) -> None:
    person = cohort(0).people[0]
    rewrite(folder / PATIENTS, lambda text: text.replace(f",{person.anchor_age},{person.anchor_year},", f",91,{person.anchor_year - 20},"))
    records = MimicIV(folder).records()
    assert records.loc[records["patient_id"] == person.patient_id, "age"].tolist() == [90.0]


def test_deaths_in_hospital_stand_with_the_stay(folder: Path) -> None:
    died = {str(a.hadm_id): a.died.isoformat() for a in cohort(0).admissions if a.died}
    encounters = MimicIV(folder).encounters()
    assert died
    assert dict(encounters.loc[encounters["died_at"] != "", ["encounter_id", "died_at"]].to_numpy()) == died


def test_lab_results_keep_their_order_and_lose_nothing(folder: Path) -> None:
    held = cohort(0).labs
    labs = pd.concat(MimicIV(folder).labs(), ignore_index=True)
    assert labs["charted_at"].tolist() == [r.charted.isoformat() for r in held]
    assert labs["item_id"].tolist() == [str(r.item_id) for r in held]
    np.testing.assert_array_equal(labs["value"].to_numpy(), np.array([np.nan if r.value is None else r.value for r in held]))
    assert (labs["encounter_id"] == "").tolist() == [r.hadm_id is None for r in held]
    assert labs["value"].isna().any() and (labs["encounter_id"] == "").any()


def test_lab_results_come_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import assets.datasets.mimic_iv as module
    from assets.tables import read_table_parts

    monkeypatch.setattr(module, "read_table_parts", lambda *args: read_table_parts(*args, rows=100))
    assert [len(part) for part in MimicIV(folder).labs()][:2] == [100, 100]


def test_only_tables_that_are_there_are_listed(folder: Path) -> None:
    (folder / LAB_EVENTS).unlink()
    assert LAB_EVENTS not in [f.as_posix() for f in MimicIV(folder).files()]
    (folder / ADMISSIONS).unlink()
    with pytest.raises(DatasetError, match=r"admissions\.csv\.gz is missing; set the folder of dataset mimic_iv"):
        MimicIV(folder).files()


def first_time(text: str) -> str:
    return text.splitlines()[1].split(",")[2]


@pytest.mark.parametrize(
    ("table", "edit", "said"),
    [
        (ADMISSIONS, lambda t: t.replace(first_time(t), "yesterday", 1), "admittime holds what is no time: yesterday"),
        (ADMISSIONS, lambda t: t.replace(first_time(t), "", 1), "hadm_id 20000000 has no admittime"),
        (ADMISSIONS, lambda t: t + t.splitlines()[1] + "\n", "hadm_id 20000000 stands in more than one row"),
        (ADMISSIONS, lambda t: t.replace("hadm_id", "stay_id", 1), "has no column hadm_id"),
        (PATIENTS, lambda t: t.replace(t.splitlines()[1], ""), "lacks subject_id 14253121"),
        (PATIENTS, lambda t: t.replace(t.splitlines()[1].split(",")[3], "MMXX", 1), "anchor_year holds what is no number: MMXX"),
    ],
)
def test_tables_that_cannot_be_read_are_typed_errors(folder: Path, table: str, edit: Edit, said: str) -> None:
    rewrite(folder / table, edit)
    with pytest.raises(DatasetError, match=said) as error:
        MimicIV(folder).records()
    assert str(folder / table) in str(error.value)


def test_faults_of_lab_results_are_typed_errors(folder: Path) -> None:
    path = folder / LAB_EVENTS
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="cannot be read as a table"):
        list(MimicIV(folder).labs())
    path.write_bytes(data)
    rewrite(path, lambda t: t.replace(cohort(0).labs[0].charted.strftime("%Y-%m-%d %H:%M:%S"), "2150", 1))
    with pytest.raises(DatasetError, match="charttime holds what is no time: 2150"):
        list(MimicIV(folder).labs())
