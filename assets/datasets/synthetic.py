"""Synthetic: simulated 12-lead ECGs with reports and labels that can be learned, the dataset of `make demo` and of tests.

On disk: `records100/<record_id>.hea/.dat` (WFDB format 16, 100 Hz, 10 s), `records.csv` (one row a record: identifiers,
fold, age, sex, site, device, date, SCP codes joined by ";", report and its source) and `dataset.json` (seed, version).
Patients have one or two records, all in one fold. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.dataset import RECORD_COLUMNS, Dataset, DatasetError, Source, Task
from assets.record import Record, RecordError
from assets.scp import STATEMENTS, Statement, class_names, label_table, task_classes
from assets.splits import patient
from assets.text.phrases import write_report
from models.errors import ConfigurationError
from models.types import LEADS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.random import Generator

DEFAULT_RECORDS = 1200
FOLDS = 10
FORMAT_VERSION = 1

_COLUMNS = ("record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at", "scp_codes", "report", "report_source")
_FS_HZ = 100.0

# What lasts in a patient: diagnoses and their form. Each card is dealt to the patients of each fold equally often.
_PATIENT_CARDS = (
    *(("NORM",),) * 8,
    ("NORM", "LVOLT"),
    ("AMI", "ABQRS"),
    ("AMI", "LVOLT"),
    ("ASMI", "ABQRS"),
    ("ASMI", "1AVB", "LPR", "ABQRS"),
    ("IMI", "QWAVE"),
    ("IMI", "QWAVE", "ABQRS"),
    ("IMI", "1AVB", "LPR", "QWAVE"),
    ("CLBBB",),
    ("CRBBB", "LVOLT"),
    ("CRBBB", "LAFB", "1AVB", "LPR"),
    ("IRBBB", "NDT"),
    ("LAFB", "1AVB", "LPR"),
    ("LVH", "VCLVH"),
    ("LVH", "LAO/LAE", "VCLVH"),
    ("LVH", "STD_", "VCLVH"),
    ("RVH", "INVT"),
    ("LAO/LAE", "NST_"),
    ("NDT", "LOWT"),
    ("NDT",),
    ("NST_", "STD_"),
    ("NST_", "LOWT", "1AVB", "LPR"),
    ("ISC_", "INVT"),
    ("ISC_", "STD_"),
    ("LNGQT",),
    ("LNGQT", "LOWT"),
    ("LNGQT", "INVT"),
)
# What changes from record to record, dealt likewise.
_RHYTHM_CARDS = (
    *(("SR",),) * 6,
    ("SR", "PVC"),
    ("SR", "PAC"),
    ("SR", "PAC"),
    *(("SBRAD",),) * 2,
    *(("STACH",),) * 2,
    *(("SARRH",),) * 2,
    *(("AFIB",),) * 3,
    *(("AFLT",),) * 2,
    *(("SR", "BIGU", "PVC"),) * 2,
    *(("PACE",),) * 2,
)
_NEEDS_P_WAVE = frozenset({"1AVB", "LPR", "LAO/LAE"})
_STATEMENTS: dict[str, Statement] = {c: STATEMENTS[c] for c in sorted({c for card in _PATIENT_CARDS + _RHYTHM_CARDS for c in card})}


class Synthetic(Dataset):
    """Simulated ECGs; see the module's docstring for the layout."""

    name: ClassVar[str] = "synthetic"
    source: ClassVar[Source] = Source(
        title="Synthetic 12-lead ECG",
        version="1",
        homepage="assets/datasets/synthetic.py in Einthoven itself",
        licence="CC0-1.0",
        terms="made on this machine from a seed; nothing to download",
        citation="none; simulated by Einthoven",
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = _FS_HZ
    has_reports: ClassVar[bool] = True
    simulated: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("super", "form", "rhythm")

    def prepare(self) -> None:
        """Write the dataset at its default size, unless there is a folder already."""
        if not self.folder.exists():
            generate(self.folder)

    def files(self) -> list[Path]:
        """The tables and all signal files, relative to the folder, sorted."""
        self._table()
        found = [p for p in (self.folder / "records100").glob("*.*") if p.suffix in (".hea", ".dat")]
        found += [p for p in (self.folder / "records.csv", self.folder / "dataset.json") if p.exists()]
        return sorted(p.relative_to(self.folder) for p in found)

    def records(self) -> pd.DataFrame:
        """One row a record, in the order of records.csv."""
        table = self._table()
        records = table[list(RECORD_COLUMNS)].copy()
        records["patient_id"] = [patient(self.name, published) for published in table["patient_id"]]
        return records

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording; there is one rate, 100 Hz, whatever `fs_hz` asks for."""
        from assets.readers import read_record

        if Path(record_id).name != record_id:
            raise RecordError("absent", record_id, "is no record of this dataset")
        return read_record(self.folder / "records100" / f"{record_id}.hea")

    def task(self, name: str) -> Task:
        """The label space of a task: only the classes that the simulator draws."""
        if name not in self.task_names:
            raise ConfigurationError(f"dataset 'synthetic' has no task {name!r}; choose one of {', '.join(self.task_names)}")
        titles = {"super": "diagnostic superclasses", "form": "form statements", "rhythm": "rhythm statements"}
        return Task(name, titles[name], task_classes(name, _STATEMENTS), class_names(name, _STATEMENTS), vocabulary="scp")

    def labels(self, task: str) -> pd.DataFrame:
        """Label table of a task.

        Raises:
            ConfigurationError: the dataset has no such task.
            DatasetError: records.csv holds a code that is none of the dataset's; names the rows.
        """
        self.task(task)
        table = self._table()
        codes = table["scp_codes"].map(lambda text: [c for c in text.split(";") if c])
        self._refuse(codes.map(lambda found: not set(found) <= set(_STATEMENTS)), f"SCP codes other than {', '.join(_STATEMENTS)}")
        return label_table(dict(zip(table["record_id"], codes, strict=True)), task, _STATEMENTS)

    def reports(self) -> pd.DataFrame:
        """The report of each record and whether a person or a machine would have written it."""
        table = self._table()
        return table[["record_id", "report", "report_source"]].rename(columns={"report": "text", "report_source": "source"})

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write 40 records, four a fold."""
        generate(folder, n_records=40, seed=seed)

    def _table(self) -> pd.DataFrame:
        """records.csv with every value checked."""
        import pandas as pd

        path = self.folder / "records.csv"
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError as error:
            raise DatasetError(f"{path} is not there; make the dataset with assets.datasets.synthetic.generate(folder)") from error
        except (ValueError, OSError) as error:  # pandas parser errors are ValueErrors
            raise DatasetError(f"{path} cannot be read as CSV ({error}); generate the dataset again") from error
        if missing := [c for c in _COLUMNS if c not in table.columns]:
            raise DatasetError(f"{path} lacks the columns {', '.join(missing)}; generate the dataset again")
        fold, age = (pd.to_numeric(table[c], errors="coerce") for c in ("fold", "age"))
        self._refuse(~table["record_id"].str.fullmatch(r"\d+"), "has no record_id of digits")
        self._refuse(table["record_id"].duplicated(), "repeats a record_id")
        self._refuse(table["patient_id"] == "", "has no patient_id")
        self._refuse(~fold.isin(range(1, FOLDS + 1)), f"has a fold other than 1 to {FOLDS}")
        self._refuse((age.isna() & (table["age"] != "")) | (age < 0) | (age > 120), "has an age that is no number from 0 to 120")
        self._refuse(~table["sex"].isin(["female", "male", "unknown"]), "has a sex other than female, male, unknown")
        self._refuse(~table["report_source"].isin(["human", "machine"]), "has a report_source other than human, machine")
        return table.assign(fold=fold.astype(int), age=age.astype(float))

    def _refuse(self, wrong: pd.Series, what: str) -> None:
        """Raise when any row is at fault, naming the lines of records.csv (the header is line 1)."""
        lines = [str(i + 2) for i in wrong.to_numpy().nonzero()[0]]
        if lines:
            shown = ", ".join(lines[:5]) + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")
            raise DatasetError(f"{self.folder / 'records.csv'}, line {shown}: {what}; correct it or generate the dataset again")


def generate(folder: Path, n_records: int = DEFAULT_RECORDS, seed: int = 0) -> None:
    """Write the dataset into a folder that is empty or not there yet; on the way it stands beside it under a hidden name.

    Raises:
        ConfigurationError: fewer than two records a fold.
        DatasetError: the folder holds something already.
    """
    if n_records < 2 * FOLDS:
        raise ConfigurationError(f"{n_records} records do not fill {FOLDS} folds; ask for at least {2 * FOLDS}")
    if folder.exists() and any(folder.iterdir()):
        raise DatasetError(f"{folder} is not empty; name another folder, or delete it to generate the dataset again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        _write(partial, n_records, seed)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(folder: Path, n_records: int, seed: int) -> None:
    import numpy as np
    import pandas as pd

    from assets.readers.wfdb_write import write_record
    from assets.signals.simulate import simulate

    rows = _deal(np.random.default_rng([seed, 0]), n_records)
    for i, row in enumerate(rows):
        signal_LT = simulate(row["scp_codes"].split(";"), np.random.default_rng([seed, 1, i]), _FS_HZ)
        write_record(folder / "records100", row["record_id"], signal_LT, LEADS, _FS_HZ)
    pd.DataFrame(rows, columns=list(_COLUMNS)).to_csv(folder / "records.csv", index=False, lineterminator="\n")
    about = {
        "name": Synthetic.name,
        "format_version": FORMAT_VERSION,
        "version": Synthetic.version,
        "seed": seed,
        "n_records": n_records,
        "fs_hz": _FS_HZ,
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=1) + "\n")


def _deal(rng: Generator, n_records: int) -> list[dict[str, str]]:
    """Deal patients to folds, lasting findings to patients, passing ones to records, and number the records by date."""
    rows: list[dict[str, str]] = []
    for fold in range(1, FOLDS + 1):
        wanted = n_records // FOLDS + (fold <= n_records % FOLDS)
        lasting, passing = _deck(_PATIENT_CARDS, wanted, rng), _deck(_RHYTHM_CARDS, wanted, rng)
        while wanted:
            card = lasting.pop()
            person = _person(card, rng) | {"patient_id": f"{fold}-{wanted}", "fold": str(fold)}
            for _ in range(min(int(rng.integers(1, 3)), wanted)):
                rows.append(person | _visit(person, _findings(card, passing.pop()), rng))
                wanted -= 1
    rows.sort(key=lambda row: (row["acquired_at"], row["patient_id"]))
    patients = {patient: f"P{i:05d}" for i, patient in enumerate(dict.fromkeys(row["patient_id"] for row in rows), start=1)}
    return [row | {"record_id": f"{i:05d}", "patient_id": patients[row["patient_id"]]} for i, row in enumerate(rows, start=1)]


def _deck(cards: tuple[tuple[str, ...], ...], n: int, rng: Generator) -> list[tuple[str, ...]]:
    """At least `n` cards: whole packs, each shuffled by itself, so that any run of draws is balanced."""
    packs = -(-n // len(cards))
    return [cards[i] for _ in range(packs) for i in rng.permutation(len(cards))]


def _findings(lasting: tuple[str, ...], passing: tuple[str, ...]) -> list[str]:
    """SCP codes of one record: a pacemaker hides the patient's own QRS and T, and what needs a P wave goes with the P wave."""
    if "PACE" in passing:
        return ["PACE"]
    hidden: set[str] = set()
    if {"AFIB", "AFLT"} & set(passing):
        hidden |= _NEEDS_P_WAVE
    if {"AFIB", "AFLT", "BIGU"} & set(passing):
        hidden.add("NORM")
    return [c for c in lasting if c not in hidden] + list(passing)


def _person(card: tuple[str, ...], rng: Generator) -> dict[str, str]:
    age = rng.normal(45.0, 15.0) if "NORM" in card else rng.normal(66.0, 11.0)
    return {"age": str(int(min(max(age, 18), 94))), "sex": str(rng.choice(["female", "male"])), "site": f"site-{rng.integers(1, 4)}"}


def _visit(person: dict[str, str], codes: list[str], rng: Generator) -> dict[str, str]:
    day = date(2010, 1, 4) + timedelta(days=int(rng.integers(0, 3650)))
    language = "de" if rng.random() < 0.35 else "en"
    return {
        "device": f"SIM-{rng.integers(1, 3)}{person['site'][-1]}",
        "acquired_at": f"{day.isoformat()}T{rng.integers(7, 19):02d}:{rng.integers(0, 60):02d}:00",
        "scp_codes": ";".join(codes),
        "report": "" if rng.random() < 0.02 else write_report(codes, language, rng),
        "report_source": "machine" if rng.random() < 0.4 else "human",
    }
