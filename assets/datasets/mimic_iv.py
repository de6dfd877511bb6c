"""MIMIC-IV, hospital module: admissions and lab results of Beth Israel Deaconess Medical Center (Johnson et al. 2023).

Layout of the original download (2.2 and 3.1), of which these tables are read:

    hosp/patients.csv.gz        one row a patient: sex, age in an anchor year, day of death
    hosp/admissions.csv.gz      one row a hospital stay
    hosp/diagnoses_icd.csv.gz   codes of stays, for labels of other datasets
    hosp/labevents.csv.gz       lab results, more than a hundred million
    hosp/d_labitems.csv.gz      what they measure
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.dataset import LAB_COLUMNS, Dataset, DatasetError, Download, Source
from assets.mimic import LAB_ITEMS as SIMULATED_ITEMS
from assets.mimic import NAMESPACE, cohort, stamp
from assets.mimic_hospital import (
    ADMISSIONS,
    DIAGNOSES,
    LAB_EVENTS,
    LAB_ITEMS,
    PATIENTS,
    REMEDY,
    parse_numbers,
    read_admissions,
    read_patients,
)  # fmt: skip
from assets.splits import folds_of
from assets.tables import read_table_parts, some, write_table

if TYPE_CHECKING:
    import pandas as pd

HIDDEN_AGE, SHOWN_AGE = 91.0, 90.0
"""Ages above 89 in the anchor year are all given as 91; we write 90, whatever the year."""

_SEXES = {"F": "female", "M": "male"}
_LAB_COLUMNS = ("subject_id", "hadm_id", "itemid", "charttime", "valuenum", "valueuom")
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"


class MimicIV(Dataset):
    """MIMIC-IV as downloaded; a record is a hospital stay."""

    name: ClassVar[str] = "mimic_iv"
    source: ClassVar[Source] = Source(
        title="MIMIC-IV, hospital module",
        version="3.1",
        homepage="https://physionet.org/content/mimiciv/3.1/",
        licence="PhysioNet Credentialed Health Data License 1.5.0",
        terms="Become a credentialed user of PhysioNet, complete the CITI training and sign the data use agreement; it may not be shared.",
        citation="Johnson et al., MIMIC-IV, a freely accessible electronic health record dataset, Sci Data 10:1 (2023), doi:10.13026/kpb9-mt58",
        download=Download(
            https="https://physionet.org/files/mimiciv/3.1/",
            n_bytes=10_000_000_000,
            credentials="physionet",
            directions="Only the folder `hosp` is needed. Version 2.2, which Symile-MIMIC was made from, is read as well.",
        ),
    )
    access: ClassVar[Access] = Access.CREDENTIALED
    has_labs: ClassVar[bool] = True

    def files(self) -> list[Path]:
        """The tables that are there; those of patients and admissions must be.

        Raises:
            DatasetError: one of these two is missing.
        """
        for name in (PATIENTS, ADMISSIONS):
            if not (self.folder / name).is_file():
                raise DatasetError(f"{self.folder / name} is missing; {REMEDY}")
        return sorted(Path(n) for n in (PATIENTS, ADMISSIONS, DIAGNOSES, LAB_EVENTS, LAB_ITEMS) if (self.folder / n).is_file())

    def records(self) -> pd.DataFrame:
        """One row a hospital stay; record_id is its hadm_id, acquired_at the time of admission. Own column: kind (of admission).

        Raises:
            DatasetError: a table is missing, holds what cannot be read, or names a patient that the other does not.
        """
        import pandas as pd

        stays = read_admissions(self.folder)
        people = read_patients(self.folder).set_index("subject_id")
        if (unknown := ~stays["subject_id"].isin(people.index)).any():
            raise DatasetError(f"{self.folder / PATIENTS} lacks subject_id {some(stays.loc[unknown, 'subject_id'].tolist())}; {REMEDY}")
        of_stay = people.loc[stays["subject_id"]].reset_index()
        age = of_stay["anchor_age"] + stays["admittime"].dt.year - of_stay["anchor_year"]
        patients = _patients(stays)
        return pd.DataFrame(
            {
                "record_id": stays["hadm_id"],
                "patient_id": patients,
                "fold": folds_of(patients.tolist()),
                "age": age.mask(of_stay["anchor_age"] >= HIDDEN_AGE, SHOWN_AGE).astype("float64"),
                "sex": of_stay["gender"].map(_SEXES).fillna("unknown"),
                "site": "",
                "device": "",
                "acquired_at": _iso(stays["admittime"]),
                "kind": stays["admission_type"],
            }
        )

    def encounters(self) -> pd.DataFrame:
        """Hospital stays; columns as in `Dataset.encounters`.

        Raises:
            DatasetError: the table is missing or holds what cannot be read.
        """
        import pandas as pd

        stays = read_admissions(self.folder)
        times = {"admitted_at": "admittime", "discharged_at": "dischtime", "died_at": "deathtime"}
        return pd.DataFrame(
            {
                "encounter_id": stays["hadm_id"],
                "patient_id": _patients(stays),
                **{name: _iso(stays[column]) for name, column in times.items()},
                "kind": stays["admission_type"],
            }
        )

    def labs(self) -> Iterator[pd.DataFrame]:
        """Lab results in the order of the table; encounter_id is "" outside of stays. People who were never admitted are no records
        here, and their results are left out.

        Raises:
            DatasetError: the table is missing or holds what cannot be read.
        """
        import pandas as pd

        path = self.folder / LAB_EVENTS
        admitted = pd.Index(read_admissions(self.folder)["subject_id"].unique())
        for whole in read_table_parts(path, _LAB_COLUMNS, REMEDY):
            part = whole[admitted.get_indexer(pd.Index(whole["subject_id"])) >= 0]
            if (bad := ~part["charttime"].str.fullmatch(_TIME) & (part["charttime"] != "")).any():
                raise DatasetError(
                    f"{path}: charttime holds what is no time: {some(part.loc[bad, 'charttime'].tolist())}; download it again"
                )
            columns = {
                "patient_id": _patients(part),
                "encounter_id": part["hadm_id"],
                "charted_at": part["charttime"].str.replace(" ", "T", regex=False),
                "item_id": part["itemid"],
                "value": parse_numbers(path, part["valuenum"], "valuenum"),
                "unit": part["valueuom"],
            }
            yield part.assign(**columns)[list(LAB_COLUMNS)]

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write the hospital tables of the simulated cohort in the original layout."""
        _write_fixture(folder, seed)


def _patients(table: pd.DataFrame) -> pd.Series:
    named: pd.Series = f"{NAMESPACE}:" + table["subject_id"]
    return named


def _iso(times: pd.Series) -> pd.Series:
    text: pd.Series = times.dt.strftime("%Y-%m-%dT%H:%M:%S").fillna("")
    return text


def _write_fixture(folder: Path, seed: int) -> None:
    held = cohort(seed)
    people = [
        {
            "subject_id": p.subject_id, "gender": p.gender, "anchor_age": 91 if p.anchor_age > 89 else p.anchor_age,
            "anchor_year": p.anchor_year, "anchor_year_group": "2014 - 2016", "dod": p.died_on or "",
        }
        for p in held.people
    ]  # fmt: skip
    write_table(folder / PATIENTS, ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"), people)
    stays: list[dict[str, Any]] = [
        {
            "subject_id": a.subject_id, "hadm_id": a.hadm_id, "admittime": stamp(a.admitted), "dischtime": stamp(a.discharged),
            "deathtime": stamp(a.died), "admission_type": a.kind, "admission_location": "EMERGENCY ROOM", "discharge_location": "HOME",
            "hospital_expire_flag": int(a.died is not None),
        }
        for a in held.admissions
    ]  # fmt: skip
    columns = (
        "subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type", "admit_provider_id", "admission_location",
        "discharge_location", "insurance", "language", "marital_status", "race", "edregtime", "edouttime", "hospital_expire_flag",
    )  # fmt: skip
    write_table(folder / ADMISSIONS, columns, stays)
    codes = [
        {"subject_id": a.subject_id, "hadm_id": a.hadm_id, "seq_num": n, "icd_code": code, "icd_version": a.icd_version}
        for a in held.admissions
        for n, code in enumerate(a.codes, start=1)
    ]
    write_table(folder / DIAGNOSES, ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"), codes)
    labs = [
        {
            "labevent_id": r.labevent_id, "subject_id": r.subject_id, "hadm_id": r.hadm_id or "", "specimen_id": 10_000_000 + r.labevent_id,
            "itemid": r.item_id, "charttime": stamp(r.charted), "storetime": stamp(r.charted), "value": "___" if r.value is None else r.value,
            "valuenum": "" if r.value is None else r.value, "valueuom": r.unit, "priority": "STAT",
            "comments": "HEMOLYZED, \"SLIGHTLY\"" if r.labevent_id % 50 == 0 else "",
        }
        for r in held.labs
    ]  # fmt: skip
    columns = (
        "labevent_id", "subject_id", "hadm_id", "specimen_id", "itemid", "order_provider_id", "charttime", "storetime", "value",
        "valuenum", "valueuom", "ref_range_lower", "ref_range_upper", "flag", "priority", "comments",
    )  # fmt: skip
    write_table(folder / LAB_EVENTS, columns, labs)
    items = [{"itemid": i, "label": item[0], "fluid": "Blood", "category": "Chemistry"} for i, item in sorted(SIMULATED_ITEMS.items())]
    write_table(folder / LAB_ITEMS, ("itemid", "label", "fluid", "category"), items)
