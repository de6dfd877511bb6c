"""Tables of MIMIC-IV's hospital module (`hosp/*.csv.gz`), and the ECG labels that follow from them.

Read by the dataset `mimic_iv`, and by `mimic_iv_ecg` for labels of its recordings. Layout of versions 2.2 and 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assets.dataset import DatasetError, Task
from assets.tables import read_table, read_table_parts, some

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PATIENTS, ADMISSIONS, DIAGNOSES = "hosp/patients.csv.gz", "hosp/admissions.csv.gz", "hosp/diagnoses_icd.csv.gz"
LAB_EVENTS, LAB_ITEMS = "hosp/labevents.csv.gz", "hosp/d_labitems.csv.gz"

REMEDY = "set the folder of dataset mimic_iv to the one that holds `hosp` of MIMIC-IV 2.2 or later"

FOLLOW_UP_DAYS = 365
"""Deaths out of hospital are recorded for a year after a patient's last discharge, not longer."""

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?: [0-9]{2}:[0-9]{2}:[0-9]{2})?"


@dataclass(frozen=True)
class Diagnosis:
    """A class of the task `diagnoses`: prefixes of ICD-10-CM and ICD-9-CM codes, written without dots as in MIMIC."""

    title: str
    icd10: tuple[str, ...]
    icd9: tuple[str, ...]

    def covers(self, code: str) -> bool:
        """Whether a code, written "<version>:<code>", belongs here."""
        version, _, plain = code.partition(":")
        return plain.startswith(self.icd10 if version == "10" else self.icd9)


DIAGNOSIS_CLASSES: Mapping[str, Diagnosis] = {
    "AMI": Diagnosis("acute myocardial infarction", ("I21", "I22"), ("410",)),
    "IHD": Diagnosis("chronic ischaemic heart disease", ("I25",), ("412", "414")),
    "HF": Diagnosis("heart failure", ("I50",), ("428",)),
    "CM": Diagnosis("cardiomyopathy", ("I42", "I43"), ("425",)),
    "VALVE": Diagnosis(
        "valve disease",
        ("I05", "I06", "I07", "I08", "I34", "I35", "I36", "I37"),
        ("394", "395", "396", "397", "4240", "4241", "4242", "4243"),
    ),
    "AF": Diagnosis("atrial fibrillation or flutter", ("I48",), ("4273",)),
    "SVT": Diagnosis("supraventricular tachycardia", ("I471",), ("4270",)),
    "VT": Diagnosis("ventricular tachycardia, fibrillation or flutter", ("I472", "I490"), ("4271", "4274")),
    "COND": Diagnosis("conduction disorder", ("I44", "I45"), ("426",)),
    "ARREST": Diagnosis("cardiac arrest", ("I46",), ("4275",)),
    "HTN": Diagnosis("hypertension", ("I10", "I11", "I12", "I13", "I15", "I16"), ("401", "402", "403", "404", "405")),
    "PE": Diagnosis("pulmonary embolism", ("I26",), ("4151",)),
    "PH": Diagnosis("pulmonary heart disease", ("I27",), ("416",)),
}
"""Whole categories of the two classifications that cover the same diseases, so that labels do not jump in 2015, when the hospital
went from ICD-9 to ICD-10."""

MORTALITY_CLASSES: Mapping[str, str] = {
    "IN_HOSPITAL": "death in the hospital stay within which the ECG was recorded",
    "DAYS_30": "death within 30 days of the ECG",
    "DAYS_365": "death within 365 days of the ECG",
}


def hospital_task(name: str) -> Task:
    """The task `diagnoses` or `mortality`."""
    if name == "diagnoses":
        names = {code: d.title for code, d in DIAGNOSIS_CLASSES.items()}
        return Task(name, "Diagnoses of the hospital stay", tuple(names), names, may_be_empty=True)
    return Task(name, "Death after the ECG", tuple(MORTALITY_CLASSES), dict(MORTALITY_CLASSES), may_be_empty=True)


def read_patients(folder: Path) -> pd.DataFrame:
    """One row a patient: subject_id, gender (text), anchor_age, anchor_year (float), dod (day of death or NaT).

    Raises:
        DatasetError: the table is missing, or holds what cannot be read.
    """
    path = folder / PATIENTS
    table = read_table(path, ("subject_id", "gender", "anchor_age", "anchor_year", "dod"), REMEDY)
    _require_unique(path, table["subject_id"], "subject_id")
    return table.assign(
        anchor_age=parse_numbers(path, table["anchor_age"], "anchor_age"),
        anchor_year=parse_numbers(path, table["anchor_year"], "anchor_year"),
        dod=parse_times(path, table["dod"], "dod"),
    )


def read_admissions(folder: Path) -> pd.DataFrame:
    """One row a hospital stay: hadm_id, subject_id, admission_type (text), admittime, dischtime, deathtime, edregtime (times or
    NaT), died (whether the patient died in it).

    Raises:
        DatasetError: the table is missing, or holds what cannot be read.
    """
    path = folder / ADMISSIONS
    times = ("admittime", "dischtime", "deathtime", "edregtime")
    table = read_table(path, ("hadm_id", "subject_id", "admission_type", *times, "hospital_expire_flag"), REMEDY)
    _require_unique(path, table["hadm_id"], "hadm_id")
    table = table.assign(**{name: parse_times(path, table[name], name) for name in times})
    if (unknown := table["admittime"].isna()).any():
        raise DatasetError(f"{path}: hadm_id {some(table.loc[unknown, 'hadm_id'].tolist())} has no admittime; restore the original table")
    return table.assign(died=(table["hospital_expire_flag"] == "1") | table["deathtime"].notna()).drop(columns="hospital_expire_flag")


def parse_times(path: Path, column: pd.Series, name: str) -> pd.Series:
    """Times as text to times, to the second; NaT for "".

    Raises:
        DatasetError: a value is no time.
    """
    import pandas as pd

    parsed = pd.to_datetime(column.where(column != ""), format="ISO8601", errors="coerce").astype("datetime64[s]")
    bad = (column != "") & (parsed.isna() | ~column.str.fullmatch(_TIME))
    if bad.any():
        raise DatasetError(f"{path}: column {name} holds what is no time: {some(column[bad].tolist())}; restore the original values")
    return parsed


def parse_numbers(path: Path, column: pd.Series, name: str) -> pd.Series:
    """Numbers as text to floats; NaN for "".

    Raises:
        DatasetError: a value is no number.
    """
    import pandas as pd

    parsed = pd.to_numeric(column.where(column != ""), errors="coerce").astype("float64")
    if (bad := parsed.isna() & (column != "")).any():
        raise DatasetError(f"{path}: column {name} holds what is no number: {some(column[bad].tolist())}; restore the original values")
    return parsed


def stay_of(ecgs: pd.DataFrame, admissions: pd.DataFrame) -> pd.Series:
    """hadm_id of the stay within which each ECG was recorded; "" for none, indexed as `ecgs`.

    A stay lasts from registration in the emergency department, where that is known and earlier, or admission, to discharge, both
    ends included. Where stays overlap, the one that began last counts. Stays without a discharge time hold nothing.

    Args:
        ecgs: subject_id, at (time).
        admissions: as `read_admissions` gives them.
    """
    import pandas as pd

    begins = admissions[["admittime", "edregtime"]].min(axis=1).astype("datetime64[s]")
    stays = admissions[["subject_id", "hadm_id", "dischtime"]].assign(begins=begins).sort_values("begins", kind="stable")
    ordered = ecgs[["subject_id", "at"]].sort_values("at", kind="stable")
    found = pd.merge_asof(ordered, stays, left_on="at", right_on="begins", by="subject_id", direction="backward")
    inside = found["hadm_id"].where(found["at"] <= found["dischtime"], "")
    return pd.Series(inside.to_numpy(), index=ordered.index).reindex(ecgs.index)


def diagnosis_table(ecgs: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Labels of the task `diagnoses`: those coded for the stay within which an ECG was recorded.

    ECGs outside of stays, and of stays without any code, are left out.

    Args:
        ecgs: record_id, subject_id, at (time).
        folder: of MIMIC-IV.

    Raises:
        DatasetError: a table is missing or cannot be read.
    """
    import numpy as np
    import pandas as pd

    path = folder / DIAGNOSES
    stay_N = stay_of(ecgs, read_admissions(folder))
    stays = pd.Index(stay_N[stay_N != ""].unique())
    seen, held = [], []
    for part in read_table_parts(path, ("hadm_id", "icd_code", "icd_version"), REMEDY):
        if (bad := ~part["icd_version"].isin(["9", "10"])).any():
            raise DatasetError(
                f"{path}: icd_version is {some(part.loc[bad, 'icd_version'].unique().tolist())}, not 9 or 10; restore the table"
            )
        rows = stays.get_indexer(pd.Index(part["hadm_id"]))
        held.append(rows[rows >= 0])
        seen.append((part["icd_version"] + ":" + part["icd_code"])[rows >= 0])
    numbers, codes = pd.factorize(pd.concat(seen))
    row_N = np.concatenate(held)
    of_ecg = stays.get_indexer(pd.Index(stay_N))

    def in_stay(counts: NDArray[np.bool_]) -> NDArray[np.bool_]:
        flags = np.zeros(len(stays) + 1, bool)  # the last is that of ECGs outside of stays, whose row is -1
        flags[row_N[counts[numbers]]] = True
        found: NDArray[np.bool_] = flags[of_ecg]
        return found

    columns = {name: in_stay(np.array([d.covers(code) for code in codes], bool)) for name, d in DIAGNOSIS_CLASSES.items()}
    table = pd.DataFrame({"record_id": ecgs["record_id"], **{name: flags.astype(np.int8) for name, flags in columns.items()}})
    return table[in_stay(np.ones(len(codes), bool))].reset_index(drop=True)


def mortality_table(ecgs: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Labels of the task `mortality`, for ECGs up to the patient's last discharge: then the year after them is known.

    Left out are later ECGs (deaths beyond a year after discharge are not recorded, so survivors cannot be told from the dead),
    ECGs of people without a stay, and ECGs dated after the day of death.

    Args:
        ecgs: record_id, subject_id, at (time).
        folder: of MIMIC-IV.

    Raises:
        DatasetError: a table is missing or cannot be read.
    """
    import numpy as np
    import pandas as pd

    admissions = read_admissions(folder)
    last = admissions.groupby("subject_id")["dischtime"].max()
    in_hospital = admissions.groupby("subject_id")["deathtime"].min()
    registered = read_patients(folder).set_index("subject_id")["dod"]
    death = ecgs["subject_id"].map(registered.combine_first(in_hospital)).astype("datetime64[s]")
    days = (death.dt.normalize() - ecgs["at"].dt.normalize()).dt.days
    known = (ecgs["at"] <= ecgs["subject_id"].map(last)) & ~(days < 0)
    fatal = set(admissions.loc[admissions["died"], "hadm_id"])
    table = pd.DataFrame(
        {
            "record_id": ecgs["record_id"],
            "IN_HOSPITAL": stay_of(ecgs, admissions).isin(fatal),
            "DAYS_30": days <= 30,
            "DAYS_365": days <= FOLLOW_UP_DAYS,
        }
    )
    kept: pd.DataFrame = table[known].astype(dict.fromkeys(MORTALITY_CLASSES, np.int8)).reset_index(drop=True)
    return kept


def _require_unique(path: Path, column: pd.Series, name: str) -> None:
    if (again := column.duplicated()).any():
        raise DatasetError(f"{path}: {name} {some(column[again].tolist())} stands in more than one row; restore the original table")
