"""MIMIC-IV-ECG: 800,035 ten-second 12-lead ECGs of 161,352 patients, with the machine's statements (Gow et al. 2023).

Layout of the original download, of which any part may be there:

    record_list.csv             one row a recording: patient, study, time, path
    machine_measurements.csv    the machine's statements, in the columns report_0 to report_17
    files/p1000/p10000032/s40689238/40689238.hea, .dat      WFDB, 500 Hz, leads I II III aVR aVF aVL V1 to V6

Recordings are of the patients of MIMIC-IV, inside and outside of hospital stays. Labels come from the tables of that dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.dataset import Dataset, DatasetError, Download, Source, Task
from assets.mimic import NAMESPACE, EcgStudy, cohort, stamp
from assets.mimic_hospital import diagnosis_table, hospital_task, mortality_table, parse_times
from assets.record import Record, RecordError
from assets.splits import folds_of
from assets.tables import read_table, some, write_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import Generator

RECORD_LIST = "record_list.csv"
MEASUREMENTS = "machine_measurements.csv"
STATEMENTS = tuple(f"report_{n}" for n in range(18))

LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""In the files' order, which has aVF before aVL."""

_REMEDY = "set the dataset's folder to the one that holds it, or download it"
_ID = "[0-9]{8}"
_PATH = r"files/p[0-9]{4}/p[0-9]{8}/s[0-9]{8}/[0-9]{8}"


class MimicIVECG(Dataset):
    """MIMIC-IV-ECG as downloaded."""

    name: ClassVar[str] = "mimic_iv_ecg"
    source: ClassVar[Source] = Source(
        title="MIMIC-IV-ECG",
        version="1.0",
        homepage="https://physionet.org/content/mimic-iv-ecg/1.0/",
        licence="ODbL 1.0",
        terms="Free to download from PhysioNet without an account; the hospital tables that labels come from need credentials.",
        citation="Gow et al., MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset (version 1.0), PhysioNet (2023), doi:10.13026/4nqg-sb35",
        download=Download(
            s3="s3://physionet-open/mimic-iv-ecg/1.0/", https="https://physionet.org/files/mimic-iv-ecg/1.0/", n_bytes=90_400_000_000
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = 500.0
    has_reports: ClassVar[bool] = True
    companions: ClassVar[tuple[str, ...]] = ("mimic_iv",)
    task_names: ClassVar[tuple[str, ...]] = ("diagnoses", "mortality")

    def files(self) -> list[Path]:
        """Both tables and the signal files that the list names and that are there.

        Raises:
            DatasetError: the list is missing or cannot be read.
        """
        stems = self._list.loc[self._there, "path"]
        names = [RECORD_LIST, MEASUREMENTS, *(stem + ending for stem in stems for ending in (".dat", ".hea"))]
        return sorted(Path(name) for name in names if (self.folder / name).is_file())

    def records(self) -> pd.DataFrame:
        """One row a recording, record_id is its study_id. Age and sex are in MIMIC-IV's tables, not here, and stay unknown.

        Raises:
            DatasetError: the list is missing, lacks a column, or holds values that cannot be read.
        """
        import pandas as pd

        table = self._list
        patients = f"{NAMESPACE}:" + table["subject_id"]
        return pd.DataFrame(
            {
                "record_id": table["study_id"],
                "patient_id": patients,
                "fold": folds_of(patients.tolist()),
                "age": float("nan"),
                "sex": "unknown",
                "site": "",
                "device": "",
                "acquired_at": table["ecg_time"].str.replace(" ", "T", regex=False),
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which recordings have their folder. Folders of patients are listed; 800,000 files are not looked at one by one."""
        import pandas as pd

        there: list[bool] = self._there.to_numpy()[self._rows.get_indexer(pd.Index(record_ids))].tolist()
        return there

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read the recording at 500 Hz.

        Raises:
            RecordError: reason "absent" when its files are not there; else as `assets.readers.read_record`.
        """
        from assets.readers import read_record

        if record_id not in self._rows:
            raise RecordError("absent", self.folder / RECORD_LIST, f"names no record {record_id!r}")
        return read_record(self.folder / f"{self._list['path'].iloc[self._rows.get_loc(record_id)]}.hea")

    def task(self, name: str) -> Task:
        """`diagnoses` of the hospital stay, and `mortality` after the ECG."""
        return hospital_task(name) if name in self.task_names else super().task(name)

    def labels(self, task: str) -> pd.DataFrame:
        """Labels from the hospital tables; see `assets.mimic_hospital` for who is left out.

        Raises:
            DatasetError: MIMIC-IV is not there, or one of its tables cannot be read.
        """
        if task not in self.task_names:
            return super().labels(task)
        hospital = self.companion_folders.get("mimic_iv")
        if hospital is None:
            raise DatasetError(f"labels of {self.name} come from MIMIC-IV's tables; set the folder of dataset mimic_iv, or download it")
        times = parse_times(self.folder / RECORD_LIST, self._list["ecg_time"], "ecg_time")
        ecgs = self._list[["subject_id"]].assign(record_id=self._list["study_id"], at=times)[times.notna()]
        return diagnosis_table(ecgs, hospital) if task == "diagnoses" else mortality_table(ecgs, hospital)

    def reports(self) -> pd.DataFrame:
        """The machine's statements that are not empty, joined by ". "; "" for recordings without any.

        Raises:
            DatasetError: a table is missing, cannot be read, or describes a recording twice.
        """
        import pandas as pd

        path = self.folder / MEASUREMENTS
        said = read_table(path, ("subject_id", "study_id", *STATEMENTS), _REMEDY)
        key = ["subject_id", "study_id"]
        if (again := said.duplicated(key)).any():
            raise DatasetError(
                f"{path}: study_id {some(said.loc[again, 'study_id'].tolist())} stands in more than one row; download it again"
            )
        text = said[STATEMENTS[0]]
        for name in STATEMENTS[1:]:
            more = said[name]
            text = text + more.where(text == "", ". " + more).where(more != "", "")
        found = self._list[key].merge(said[key].assign(text=text), how="left", on=key)
        return pd.DataFrame({"record_id": self._list["study_id"], "text": found["text"].fillna(""), "source": "machine"})

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write the ECGs of the simulated cohort in the original layout; one has no files, one lost its samples."""
        _write_fixture(folder, seed)

    @cached_property
    def _list(self) -> pd.DataFrame:
        """record_list.csv as text."""
        path = self.folder / RECORD_LIST
        table = read_table(path, ("subject_id", "study_id", "ecg_time", "path"), _REMEDY)
        for name, pattern in (("subject_id", _ID), ("study_id", _ID), ("path", _PATH)):
            if (bad := ~table[name].str.fullmatch(pattern)).any():
                raise DatasetError(f"{path}: column {name} holds {some(table.loc[bad, name].tolist())}; restore the original table")
        parse_times(path, table["ecg_time"], "ecg_time")
        if (again := table["study_id"].duplicated()).any():
            raise DatasetError(
                f"{path}: study_id {some(table.loc[again, 'study_id'].tolist())} stands in more than one row; remove the copies"
            )
        return table

    @cached_property
    def _rows(self) -> pd.Index:
        import pandas as pd

        index: pd.Index = pd.Index(self._list["study_id"])
        return index

    @cached_property
    def _there(self) -> pd.Series:
        """Whether the folder of each recording is there."""
        folders = self._list["path"].str.rpartition("/")[0]
        return folders.isin(set(_study_folders(self.folder, set(folders.str.slice(0, len("files/p1000"))))))


def _study_folders(folder: Path, groups: set[str]) -> Iterator[str]:
    """Folders of recordings that are there, relative to the dataset's folder."""
    for group in sorted(groups):
        for patient in _subfolders(folder, group):
            yield from _subfolders(folder, patient)


def _subfolders(folder: Path, name: str) -> list[str]:
    try:
        with os.scandir(folder / name) as entries:
            return [f"{name}/{e.name}" for e in entries if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    studies = cohort(seed).ecgs
    listed, measured = [], []
    for number, study in enumerate(studies):
        stem = f"files/p{str(study.subject_id)[:4]}/p{study.subject_id}/s{study.study_id}/{study.study_id}"
        row = {"subject_id": study.subject_id, "study_id": study.study_id, "ecg_time": stamp(study.recorded)}
        listed.append(row | {"file_name": study.study_id, "path": stem})
        machine = {"cart_id": 6_848_296, "bandwidth": "0.005-150 Hz", "filtering": "60 Hz notch Baseline filter", "p_onset": 29999}
        measured.append(row | machine | dict(zip(STATEMENTS, study.statements, strict=False)))
        if number != 20:  # one recording was not downloaded
            _write_study(folder / stem, study, rng, number)
    write_table(folder / RECORD_LIST, ("subject_id", "study_id", "file_name", "ecg_time", "path"), listed)
    columns = (
        "subject_id", "study_id", "cart_id", "ecg_time", *STATEMENTS, "bandwidth", "filtering", "rr_interval", "p_onset", "p_end",
        "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis",
    )  # fmt: skip
    # The order differs from the list's, so that a join by position is wrong.
    write_table(folder / MEASUREMENTS, columns, sorted(measured, key=lambda row: -int(row["study_id"])))


def _write_study(stem: Path, study: EcgStudy, rng: Generator, number: int) -> None:
    """One recording, with the header's date and comment; number 30 lost its samples, number 31 has a gap."""
    from assets.readers.wfdb_write import write_record
    from assets.signals.simulate import simulate
    from models.types import LEADS as STANDARD

    signal_uV_LT = simulate(study.findings, rng, fs_hz=500.0)
    signal_uV_LT = signal_uV_LT[[STANDARD.index(lead) for lead in LEADS]]
    if number == 31:
        signal_uV_LT[6, 1000:1100] = float("nan")
    write_record(stem.parent, stem.name, signal_uV_LT, LEADS, 500.0, gain_per_mV=200.0)
    header = stem.with_suffix(".hea")
    first, *signals = header.read_text().splitlines()
    header.write_text("\n".join([f"{first} {study.recorded:%H:%M:%S %d/%m/%Y}", *signals, f"# <subject_id>: {study.subject_id}"]) + "\n")
    if number == 30:
        stem.with_suffix(".dat").write_bytes(b"")
