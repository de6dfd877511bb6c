"""Synthetic: simulated visits with a 12-lead ECG, a chest X-ray, bloods, reports and labels that can be learned: the dataset of
`make demo` and of tests.

    records100/<record_id>.hea, .dat    ECGs: WFDB format 16, 100 Hz, 10 s
    records.csv      one row a record: identifiers, fold, age, sex, site, device, date, SCP codes joined by ";", report and its source
    images/<record_id>.png              X-rays: 8-bit grey, 64 x 64; a few records have none
    xrays.csv        one row an X-ray: findings joined by ";", report and its source
    labs.csv         one row a lab result: record_id, item_id (MIMIC's), charted_at, value, unit; a few records have none
    dataset.json     seed, number of records, version of this layout

Patients have one or two records, all in one fold. Those with lasting findings are older, so an ECG tells something of the age, and
nothing of the sex. The same seed gives the same bytes. How ECG, X-ray and bloods are related is said
in `assets.simulated_visits`. Layout 1 had ECGs alone; `prepare` adds to such a folder what it lacks.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.chexpert_labels import FINDINGS
from assets.dataset import LAB_COLUMNS, RECORD_COLUMNS, Dataset, DatasetError, Source, Task
from assets.person_tasks import PERSON_TASKS, age_labels
from assets.record import Record, RecordError
from assets.rhythm_groups import RHYTHM4, from_scp, left_out, rhythm_table
from assets.scp import STATEMENTS, Statement, class_names, label_table, task_classes
from assets.simulated_folders import fill_folder
from assets.simulated_patients import FOLDS, PATIENT_CARDS, RHYTHM_CARDS, deal_records
from assets.simulated_visits import CHEST, draw_visit
from assets.splits import patient
from assets.tables import read_table, read_table_parts, some, write_table
from models.errors import ConfigurationError
from models.types import LEADS, Modality

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

DEFAULT_RECORDS = 1200
FORMAT_VERSION = 2

_XRAY_COLUMNS = ("record_id", "findings", "report", "report_source")
_LAB_FILE_COLUMNS = ("record_id", "item_id", "charted_at", "value", "unit")
_SIDE = 64
_REMEDY = "materialise raw/synthetic, which adds what a folder of an older version lacks, or generate the dataset again"
_COLUMNS = ("record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at", "scp_codes", "report", "report_source")
_FS_HZ = 100.0

_STATEMENTS: dict[str, Statement] = {c: STATEMENTS[c] for c in sorted({c for card in PATIENT_CARDS + RHYTHM_CARDS for c in card})}


class Synthetic(Dataset):
    """Simulated visits; see the module's docstring for the layout."""

    name: ClassVar[str] = "synthetic"
    source: ClassVar[Source] = Source(
        title="Synthetic 12-lead ECG, chest X-ray and bloods",
        version="2",
        homepage="assets/datasets/synthetic.py in Einthoven itself",
        licence="CC0-1.0",
        terms="made on this machine from a seed; nothing to download",
        citation="none; simulated by Einthoven",
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = _FS_HZ
    has_reports: ClassVar[bool] = True
    has_image_reports: ClassVar[bool] = True
    has_images: ClassVar[bool] = True
    has_labs: ClassVar[bool] = True
    has_questions: ClassVar[bool] = True
    simulated: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("super", "form", "rhythm", "rhythm4", "chest", "age")
    version: ClassVar[str] = "2"

    def prepare(self) -> None:
        """Write the dataset at its default size, unless there is a folder already; one of an older layout gets what it lacks, and
        nothing in it is touched but dataset.json.

        Raises:
            DatasetError: there is a folder of an older layout that cannot be read or written.
        """
        if not self.folder.exists():
            generate(self.folder)
        elif (self.folder / "records.csv").exists():
            about = self._about()
            if about.get("format_version", 1) < FORMAT_VERSION:
                self._complete(about)

    def files(self) -> list[Path]:
        """The tables, all signal files and all pictures, relative to the folder, sorted."""
        self._table()
        found = [p for p in (self.folder / "records100").glob("*.*") if p.suffix in (".hea", ".dat")]
        found += (self.folder / "images").glob("*.png")
        found += [p for name in ("records.csv", "xrays.csv", "labs.csv", "dataset.json") if (p := self.folder / name).exists()]
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

    def images_present(self, record_ids: list[str]) -> list[bool]:
        """Which records have their X-ray."""
        listed = set(self._xrays()["record_id"])
        return [r in listed and (self.folder / "images" / f"{r}.png").is_file() for r in record_ids]

    def image(self, record_id: str) -> NDArray[np.uint8]:
        """Read the X-ray of a record as 8-bit grey, shape (height, width).

        Raises:
            RecordError: as `assets.images.read_grey`.
        """
        from assets.images import read_grey

        if Path(record_id).name != record_id:
            raise RecordError("absent", record_id, "is no record of this dataset")
        return read_grey(self.folder / "images" / f"{record_id}.png")

    def labs(self) -> Iterator[pd.DataFrame]:
        """Lab results in the order of labs.csv.

        Raises:
            DatasetError: the table is missing, names a record that there is not, or holds a value that is no number.
        """
        import pandas as pd

        path = self.folder / "labs.csv"
        table = self._table()
        patients = dict(zip(table["record_id"], table["patient_id"], strict=True))
        for part in read_table_parts(path, _LAB_FILE_COLUMNS, _REMEDY):
            owner = part["record_id"].map(patients)
            if (unknown := owner.isna()).any():
                raise DatasetError(f"{path}: records {some(part['record_id'][unknown].tolist())} are not in records.csv")
            value = pd.to_numeric(part["value"].where(part["value"] != ""), errors="coerce").astype("float64")
            if (bad := value.isna() & (part["value"] != "")).any():
                raise DatasetError(f"{path}: value holds what is no number: {some(part.loc[bad, 'value'].tolist())}; {_REMEDY}")
            ids = [patient(self.name, published) for published in owner]
            found = part.rename(columns={"record_id": "encounter_id"}).assign(patient_id=ids, value=value)
            yield found[list(LAB_COLUMNS)]

    def encounters(self) -> pd.DataFrame:
        """One visit a record, under the record's id; columns as in `Dataset.encounters`."""
        records = self.records()
        begun = records["acquired_at"]
        found = records[["patient_id"]].assign(encounter_id=records["record_id"], admitted_at=begun, discharged_at="", died_at="")
        return found.assign(kind="visit")

    def task(self, name: str) -> Task:
        """The label space of a task: only the classes that the simulator draws, or the age."""
        if name not in self.task_names:
            raise ConfigurationError(f"dataset 'synthetic' has no task {name!r}; choose one of {', '.join(self.task_names)}")
        if name == "age":
            return PERSON_TASKS[name]
        if name == RHYTHM4.name:
            return RHYTHM4
        if name == "chest":
            names = {finding: FINDINGS[finding] for finding in CHEST}
            return Task(name, "findings in the chest X-ray", CHEST, names, vocabulary="chexpert", modality=Modality.IMAGE)
        titles = {"super": "diagnostic superclasses", "form": "form statements", "rhythm": "rhythm statements"}
        return Task(name, titles[name], task_classes(name, _STATEMENTS), class_names(name, _STATEMENTS), vocabulary="scp")

    def labels(self, task: str) -> pd.DataFrame:
        """Label table of a task.

        Raises:
            ConfigurationError: the dataset has no such task.
            DatasetError: records.csv or xrays.csv holds a code that is none of the dataset's; names the rows.
        """
        if self.task(task).name == "chest":
            return self._chest_labels()
        if task == "age":
            return age_labels(self.records(), below=math.inf)
        codes = self._codes()
        return rhythm_table(from_scp(codes)) if task == RHYTHM4.name else label_table(codes, task, _STATEMENTS)

    def left_out(self, task: str) -> dict[str, int]:
        """Of the four groups of rhythms: records with none of them (pacing, bigeminy), or several."""
        return left_out(from_scp(self._codes())) if task == RHYTHM4.name else super().left_out(task)

    def _codes(self) -> dict[str, list[str]]:
        """SCP codes by record, all of them of the dataset."""
        table = self._table()
        codes = table["scp_codes"].map(lambda text: [c for c in text.split(";") if c])
        self._refuse(codes.map(lambda found: not set(found) <= set(_STATEMENTS)), f"SCP codes other than {', '.join(_STATEMENTS)}")
        return dict(zip(table["record_id"], codes, strict=True))

    def reports(self) -> pd.DataFrame:
        """The report of each record and whether a person or a machine would have written it."""
        table = self._table()
        return table[["record_id", "report", "report_source"]].rename(columns={"report": "text", "report_source": "source"})

    def image_reports(self) -> pd.DataFrame:
        """The radiologist's report of each X-ray."""
        return self._xrays()[["record_id", "report", "report_source"]].rename(columns={"report": "text", "report_source": "source"})

    def questions(self) -> pd.DataFrame:
        """Our own questions about the statements that the simulator draws.

        Raises:
            DatasetError: records.csv holds a code that is none of the dataset's.
        """
        from assets.question_templates import make_questions

        table = self._table()
        codes = [[c for c in text.split(";") if c] for text in table["scp_codes"]]
        ids = table["record_id"].tolist()
        return make_questions(dict(zip(ids, codes, strict=True)), dict(zip(ids, table["fold"], strict=True)), _STATEMENTS)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write 40 records, four a fold."""
        generate(folder, n_records=40, seed=seed)

    def _xrays(self) -> pd.DataFrame:
        """xrays.csv with every value checked."""
        path = self.folder / "xrays.csv"
        table = read_table(path, _XRAY_COLUMNS, _REMEDY)
        states = table["findings"].str.split(";")
        for wrong, what in (
            (~table["record_id"].isin(self._table()["record_id"]), "records that are not in records.csv"),
            (table["record_id"].duplicated(), "a record more than once"),
            (~states.map(lambda found: bool(found[0]) and set(found) <= set(CHEST)), f"findings other than {', '.join(CHEST)}"),
            (~table["report_source"].isin(["human", "machine"]), "a report_source other than human, machine"),
        ):
            if wrong.any():
                raise DatasetError(f"{path} holds {what}: {some(table['record_id'][wrong].tolist())}; correct it or {_REMEDY}")
        return table

    def _chest_labels(self) -> pd.DataFrame:
        xrays = self._xrays()
        found = xrays["findings"].map(lambda text: set(text.split(";")))
        return xrays[["record_id"]].assign(**{name: found.map(lambda held, n=name: n in held).astype("int8") for name in CHEST})

    def _about(self) -> dict[str, Any]:
        path = self.folder / "dataset.json"
        if not path.exists():
            return {}
        try:
            about: dict[str, Any] = json.loads(path.read_text())
            int(about["format_version"]), int(about["seed"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} does not say version and seed ({error!r}); restore it or generate the dataset again") from error
        return about

    def _complete(self, about: dict[str, Any]) -> None:
        """Give a folder of layout 1 its X-rays and bloods, each appearing whole under its name."""
        seed, table = int(about.get("seed", 0)), self._table()
        partial = self.folder / f".partial-{os.getpid()}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _write_visits(partial, table, seed)
            for name in ("images", "labs.csv", "xrays.csv"):
                if not (self.folder / name).exists():
                    (partial / name).rename(self.folder / name)
            _write_about(partial, seed, len(table))
            (partial / "dataset.json").replace(self.folder / "dataset.json")
        except OSError as error:
            raise DatasetError(
                f"{self.folder} is of an older version and cannot be given what it lacks ({error}); make it writable or name another folder"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

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
    fill_folder(folder, lambda partial: _write(partial, n_records, seed))


def _write(folder: Path, n_records: int, seed: int) -> None:
    import numpy as np
    import pandas as pd

    from assets.readers.wfdb_write import write_record
    from assets.signals.simulate import simulate

    rows = deal_records(np.random.default_rng([seed, 0]), n_records)
    for i, row in enumerate(rows):
        signal_LT = simulate(row["scp_codes"].split(";"), np.random.default_rng([seed, 1, i]), _FS_HZ)
        write_record(folder / "records100", row["record_id"], signal_LT, LEADS, _FS_HZ)
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    table.to_csv(folder / "records.csv", index=False, lineterminator="\n")
    _write_visits(folder, table, seed)
    _write_about(folder, seed, n_records)


def _write_visits(folder: Path, table: pd.DataFrame, seed: int) -> None:
    """X-rays and bloods of the records of a table, from generators of their own: ECGs and tables stay what they were without."""
    import numpy as np
    import pandas as pd

    from assets.images import write_grey
    from assets.simulated_images import simulate_chest

    xrays: list[dict[str, str]] = []
    results: list[dict[str, str]] = []
    begun = pd.to_datetime(table["acquired_at"], format="ISO8601", errors="coerce")
    for i, (record_id, codes) in enumerate(zip(table["record_id"], table["scp_codes"], strict=True)):
        visit = draw_visit(codes.split(";"), np.random.default_rng([seed, 2, i]))
        if visit.findings is not None:
            image = simulate_chest(visit.findings, np.random.default_rng([seed, 3, i]), _SIDE, _SIDE)
            write_grey(folder / "images" / f"{record_id}.png", image)
            findings = ";".join(visit.findings)
            xrays.append({"record_id": record_id, "findings": findings, "report": visit.report, "report_source": "human"})
        for item_id, minutes, value, unit in visit.results:
            charted = begun[i] + pd.Timedelta(minutes=minutes)
            at = "" if pd.isna(charted) else charted.isoformat()
            results.append({"record_id": record_id, "item_id": item_id, "charted_at": at, "value": value, "unit": unit})
    write_table(folder / "xrays.csv", _XRAY_COLUMNS, xrays)
    write_table(folder / "labs.csv", _LAB_FILE_COLUMNS, results)


def _write_about(folder: Path, seed: int, n_records: int) -> None:
    about = {
        "name": Synthetic.name,
        "format_version": FORMAT_VERSION,
        "version": Synthetic.version,
        "seed": seed,
        "n_records": n_records,
        "fs_hz": _FS_HZ,
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=1) + "\n")
