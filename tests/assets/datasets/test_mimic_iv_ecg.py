"""MIMIC-IV-ECG: joins, partial downloads, lead order, labels from hospital tables, typed errors."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.dataset import DatasetError
from assets.datasets.mimic_iv import MimicIV
from assets.datasets.mimic_iv_ecg import MEASUREMENTS, RECORD_LIST, MimicIVECG
from assets.mimic import cohort
from assets.mimic_hospital import ADMISSIONS, DIAGNOSES, PATIENTS, diagnosis_table, mortality_table, stay_of
from assets.record import RecordError
from assets.tables import write_table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mimic")
    MimicIVECG.make_fixture(root / "ecg")
    MimicIV.make_fixture(root / "hospital")
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(made / "ecg", tmp_path / "ecg")
    return tmp_path / "ecg"


def place_of(folder: Path, number: int) -> Path:
    study = cohort(0).ecgs[number]
    return folder / f"files/p{str(study.subject_id)[:4]}/p{study.subject_id}/s{study.study_id}"


def test_reports_are_joined_by_study_not_by_position(made: Path) -> None:
    reports = MimicIVECG(made / "ecg").reports()
    said = {str(e.study_id): ". ".join(s for s in e.statements if s) for e in cohort(0).ecgs}
    assert dict(reports[["record_id", "text"]].to_numpy()) == said
    assert "" in said.values() and any("*** Poor data" in text for text in said.values())


def test_a_study_without_a_row_of_statements_has_an_empty_report(folder: Path) -> None:
    path = folder / MEASUREMENTS
    header, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, *rest]) + "\n")
    reports = MimicIVECG(folder).reports().set_index("record_id")
    assert reports.loc[first.split(",")[1], "text"] == ""
    path.write_text("\n".join([header, first, first, *rest]) + "\n")
    with pytest.raises(DatasetError, match=f"{MEASUREMENTS}: study_id {first.split(',')[1]} stands in more than one row"):
        MimicIVECG(folder).reports()


def test_a_partial_download_is_seen_as_such(folder: Path) -> None:
    shutil.rmtree(place_of(folder, 0))
    (folder / MEASUREMENTS).unlink()
    dataset = MimicIVECG(folder)
    ids = dataset.records()["record_id"].tolist()
    assert [i for i, there in enumerate(dataset.present(ids)) if not there] == [0, 20]
    assert dataset.present(ids[::-1])[-1] is False
    listed = {f.as_posix() for f in dataset.files()}
    assert len(listed) == 1 + 2 * 58 and RECORD_LIST in listed and MEASUREMENTS not in listed
    with pytest.raises(RecordError) as error:
        dataset.read(ids[0])
    assert error.value.reason == "absent"


def test_leads_are_told_apart_by_name(made: Path) -> None:
    dataset = MimicIVECG(made / "ecg")
    record = dataset.read(dataset.records()["record_id"][0])
    lead = dict(zip(record.leads, record.signal_LT, strict=True))
    assert record.leads[4:6] == ("aVF", "aVL") and record.fs_hz == 500.0 and record.signal_LT.shape == (12, 5000)
    np.testing.assert_allclose(lead["aVF"], (lead["II"] + lead["III"]) / 2, atol=6)  # rounded to counts of 5 uV
    np.testing.assert_allclose(lead["aVL"], (lead["I"] - lead["III"]) / 2, atol=6)


def test_headers_state_checksums_without_sign_a_date_and_a_comment(folder: Path) -> None:
    study = cohort(0).ecgs[0]
    header = place_of(folder, 0) / f"{study.study_id}.hea"
    unsigned = re.sub(r"(\S+) 0 (\S+)$", lambda m: f"{int(m[1]) % 65536} 0 {m[2]}", header.read_text(), flags=re.MULTILINE)
    assert unsigned != header.read_text() and f"# <subject_id>: {study.subject_id}" in unsigned and f"{study.recorded:%d/%m/%Y}" in unsigned
    before = MimicIVECG(folder).read(str(study.study_id)).signal_LT
    header.write_text(unsigned)
    np.testing.assert_array_equal(MimicIVECG(folder).read(str(study.study_id)).signal_LT, before)


def test_gaps_are_nan_and_lost_samples_an_error(made: Path) -> None:
    dataset = MimicIVECG(made / "ecg")
    ids = dataset.records()["record_id"].tolist()
    assert np.isnan(dataset.read(ids[31]).signal_LT[6]).sum() == 100
    with pytest.raises(RecordError) as error:
        dataset.read(ids[30])
    assert error.value.reason == "truncated"
    with pytest.raises(RecordError, match="names no record 'x'"):
        dataset.read("x")


def spoil(column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{column: [value, *table[column][1:]]})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (spoil("path", "files/../../etc/passwd"), "column path holds files/../../etc/passwd"),
        (spoil("path", "files/p1425/p14253121/s40000000"), "column path holds"),
        (spoil("subject_id", "1.4e7"), "column subject_id holds 1.4e7"),
        (spoil("ecg_time", "noon"), "column ecg_time holds what is no time: noon"),
        (spoil("study_id", "40000041"), "study_id 40000041 stands in more than one row"),
        (lambda table: table.drop(columns="ecg_time"), "has no column ecg_time"),
        (lambda table: table.iloc[:0], "has no rows"),
    ],
)
def test_a_list_that_cannot_be_trusted_is_a_typed_error(folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame], said: str) -> None:
    edit(pd.read_csv(folder / RECORD_LIST, dtype=str)).to_csv(folder / RECORD_LIST, index=False)
    with pytest.raises(DatasetError, match=re.escape(said)):
        MimicIVECG(folder).records()


# labels


def test_labels_need_the_hospital_tables(made: Path) -> None:
    with pytest.raises(DatasetError, match="set the folder of dataset mimic_iv"):
        MimicIVECG(made / "ecg").labels("mortality")


def test_diagnoses_of_the_cohort_are_those_of_the_stay(made: Path) -> None:
    held = cohort(0)
    people = {p.subject_id: p for p in held.people}
    table = MimicIVECG(made / "ecg", {"mimic_iv": made / "hospital"}).labels("diagnoses").set_index("record_id")
    inside = {
        str(e.study_id): people[e.subject_id].condition
        for e in held.ecgs
        if any(a.subject_id == e.subject_id and a.admitted <= e.recorded <= a.discharged for a in held.admissions)
    }
    assert set(table.index) == set(inside) and len(inside) < len(held.ecgs)
    shown = {"heart_failure": {"HF", "HTN"}, "infarct": {"AMI", "IHD"}, "fibrillation": {"AF"}, "well": set(), "pneumonia": set()}
    for record_id, row in table.iterrows():
        assert set(table.columns[row == 1]) == shown[inside[str(record_id)]]


def at(*times: str) -> pd.Series:
    return pd.Series(pd.to_datetime(list(times))).astype("datetime64[s]")


def hospital(folder: Path, stays: list[tuple[str, str, str, str, str]], dod: dict[str, str], codes: list[tuple[str, str, str]]) -> Path:
    """Tables of stays (subject, hadm, registered, admitted, discharged), days of death, and codes (hadm, code, version)."""
    columns = ("subject_id", "hadm_id", "edregtime", "admittime", "dischtime")
    rows = [dict(zip(columns, stay, strict=True)) | {"hospital_expire_flag": 0} for stay in stays]
    write_table(folder / ADMISSIONS, (*columns, "deathtime", "admission_type", "hospital_expire_flag"), rows)
    people = [{"subject_id": s, "gender": "F", "anchor_age": 50, "anchor_year": 2150, "dod": d} for s, d in dod.items()]
    write_table(folder / PATIENTS, ("subject_id", "gender", "anchor_age", "anchor_year", "dod"), people)
    write_table(
        folder / DIAGNOSES, ("hadm_id", "icd_code", "icd_version"), [{"hadm_id": h, "icd_code": c, "icd_version": v} for h, c, v in codes]
    )
    return folder


def test_a_stay_lasts_from_registration_to_discharge() -> None:
    admissions = pd.DataFrame(
        {
            "subject_id": ["1", "1", "2"],
            "hadm_id": ["a", "b", "c"],
            "edregtime": at("2150-01-01T08:00:00", "", "2150-01-01T09:00:00"),
            "admittime": at("2150-01-01T12:00:00", "2150-01-04T00:00:00", "2150-01-01T10:00:00"),
            "dischtime": at("2150-01-05T00:00:00", "2150-01-06T00:00:00", ""),
        }
    )
    moments = {
        "2150-01-01T08:00:00": "a", "2150-01-01T07:59:59": "", "2150-01-03T23:59:59": "a", "2150-01-04T00:00:00": "b",
        "2150-01-06T00:00:00": "b", "2150-01-06T00:00:01": "",
    }  # fmt: skip
    ecgs = pd.DataFrame({"subject_id": "1", "at": at(*moments)}).sample(frac=1, random_state=1)
    found = stay_of(ecgs, admissions)
    assert found.sort_index().tolist() == list(moments.values())
    other = pd.DataFrame({"subject_id": ["2", "3"], "at": at("2150-01-01T11:00:00", "2150-01-01T11:00:00")})
    assert stay_of(other, admissions).tolist() == ["", ""]  # never discharged; never admitted


def test_codes_count_within_their_version_only(tmp_path: Path) -> None:
    stays = [("1", h, "", f"2150-01-0{n} 00:00:00", f"2150-01-0{n} 12:00:00") for n, h in enumerate("abcde", start=1)]
    codes = [
        ("a", "I4891", "10"),
        ("a", "4280", "9"),
        ("b", "4280", "10"),
        ("c", "41071", "9"),
        ("c", "I2699", "10"),
        ("d", "Z87891", "10"),
    ]
    folder = hospital(tmp_path, stays, {"1": ""}, codes)
    ecgs = pd.DataFrame({"record_id": list("abcde"), "subject_id": "1", "at": at(*(f"2150-01-0{n}T06:00:00" for n in range(1, 6)))})
    table = diagnosis_table(ecgs, folder).set_index("record_id")
    assert {r: set(table.columns[row == 1]) for r, row in table.iterrows()} == {
        "a": {"AF", "HF"},
        "b": set(),
        "c": {"AMI", "PE"},
        "d": set(),
    }
    hospital(tmp_path, stays, {"1": ""}, [("a", "I48", "11")])
    with pytest.raises(DatasetError, match="icd_version is 11, not 9 or 10"):
        diagnosis_table(ecgs, folder)


def test_deaths_are_counted_in_days_and_only_while_they_are_followed(tmp_path: Path) -> None:
    stay = ("2150-01-01 00:00:00", "2150-01-01 00:00:00", "2151-06-01 00:00:00")
    folder = hospital(tmp_path, [(s, f"h{s}", *stay) for s in "12"], {"1": "2151-03-02", "2": ""}, [])
    moments = {
        "2151-03-03T00:00:00": None,  # after death: one of the two times is wrong
        "2151-03-02T23:00:00": (0, 1, 1), "2151-01-31T00:00:00": (0, 1, 1), "2151-01-30T23:00:00": (0, 0, 1),
        "2150-03-02T00:00:00": (0, 0, 1), "2150-03-01T23:59:59": (0, 0, 0),
    }  # fmt: skip
    ecgs = pd.DataFrame({"record_id": [f"1-{m}" for m in moments], "subject_id": "1", "at": at(*moments)})
    survivor = pd.DataFrame(
        {
            "record_id": ["in", "late", "stranger"],
            "subject_id": ["2", "2", "3"],
            "at": at("2151-06-01T00:00:00", "2151-06-01T00:00:01", "2151-01-01T00:00:00"),
        }
    )
    table = mortality_table(pd.concat([ecgs, survivor], ignore_index=True), folder).set_index("record_id")
    found = {r: tuple(int(v) for v in row) for r, row in table.iterrows()}
    assert found == {f"1-{m}": v for m, v in moments.items() if v} | {"in": (0, 0, 0)}


def test_a_death_in_hospital_belongs_to_its_stay(made: Path) -> None:
    held = cohort(0)
    fatal = {a.subject_id: a for a in held.admissions if a.died}
    table = MimicIVECG(made / "ecg", {"mimic_iv": made / "hospital"}).labels("mortality").set_index("record_id")
    expected = {str(e.study_id) for e in held.ecgs if e.subject_id in fatal and e.recorded >= fatal[e.subject_id].admitted}
    assert set(table.index[table["IN_HOSPITAL"] == 1]) == expected
    assert (table.loc[sorted(expected), "DAYS_30"] == 1).all()
