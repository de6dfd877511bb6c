"""CODE-15%: 345,779 12-lead ECGs of 233,770 patients of the Telehealth Network of Minas Gerais (Ribeiro et al. 2021).

Layout of the original download once its archives are unpacked, of which any part may be there:

    exams.csv             one row an exam: patient, age, sex, six abnormalities, follow-up, the part that holds its tracing
    exams_part0.hdf5 ...  `exam_id` (N,) and `tracings` float32 (N, 4096, 12) at 400 Hz, leads DI DII DIII AVR AVL AVF V1 ... V6

Tracings shorter than 4096 samples (10.24 s) have zeros on both sides, which are left out. Most exams then have 2934 samples
(7.3 s), about 38 % have 4096, and a few per cent less than 7 s; the publisher's "7 or 10 seconds" is not what the files hold.
So a window is 7 s, and a recipe of 10 s must either pad or do without the shorter ones. Each part ends in a filler row, exam 0.
Amplitudes: see `assets.readers.hdf5`; the 2025 Challenge's copies of these exams are twice as tall.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.dataset import Dataset, DatasetError, Download, RemoteFile, Source, Task
from assets.record import Record, RecordError
from assets.splits import FOLDS, fold_of, folds_of, patient
from assets.tables import read_table, some, write_table
from models.types import LEADS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

EXAMS = "exams.csv"
N_PARTS = 18
N_SAMPLES = 4096
NAMESPACE = "code15"

ABNORMALITIES = {
    "1dAVb": "first degree atrioventricular block",
    "RBBB": "right bundle branch block",
    "LBBB": "left bundle branch block",
    "SB": "sinus bradycardia",
    "ST": "sinus tachycardia",
    "AF": "atrial fibrillation",
}

_COLUMNS = ("exam_id", "age", "is_male", *ABNORMALITIES, "patient_id", "death", "timey", "normal_ecg", "trace_file")
_ZENODO = "https://zenodo.org/records/4916206/files"
_BOOLEANS = {"True": 1, "False": 0, "1": 1, "0": 0}


class CODE15(Dataset):
    """CODE-15% as downloaded and unpacked."""

    name: ClassVar[str] = "code15"
    source: ClassVar[Source] = Source(
        title="CODE-15%",
        version="1.0.0",
        homepage="https://zenodo.org/records/4916206",
        licence="CC BY 4.0",
        terms="Free to download from Zenodo without an account.",
        citation="Ribeiro et al., CODE-15%: a large scale annotated dataset of 12-lead ECGs, Zenodo (2021), doi:10.5281/zenodo.4916206",
        download=Download(
            checksums="",
            files=(
                RemoteFile(EXAMS, f"{_ZENODO}/{EXAMS}?download=1"),
                *(
                    RemoteFile(f"exams_part{i}.zip", f"{_ZENODO}/exams_part{i}.zip?download=1", unpack=True)
                    for i in range(N_PARTS)
                ),
            ),
            n_bytes=46_000_000_000,
        ),
    )  # fmt: skip
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = 400.0
    window_s: ClassVar[float] = 7.0
    quarantine_limit: ClassVar[float] = 0.05  # up to 3.6 % are shorter than a window or hold zeros only
    task_names: ClassVar[tuple[str, ...]] = ("abnormalities", "mortality")

    def __init__(self, folder: Path, companions: Mapping[str, Path] | None = None) -> None:
        super().__init__(folder, companions)
        self._reading: tuple[Path, Iterator[tuple[int, Record | RecordError]]] | None = None

    def files(self) -> list[Path]:
        """The table of exams and the parts that it names and that are there.

        Raises:
            DatasetError: the table is missing or cannot be read.
        """
        return sorted([Path(EXAMS), *map(Path, self._parts_there)])

    def records(self) -> pd.DataFrame:
        """Every exam of the table, in the order in which the parts hold their tracings. Own column: normal_ecg (0 or 1).

        Raises:
            DatasetError: the table is missing, lacks a column, or holds values that cannot be read.
        """
        import pandas as pd

        table = self._exams
        patients = f"{NAMESPACE}:" + table["patient_id"]
        return pd.DataFrame(
            {
                "record_id": table["exam_id"],
                "patient_id": patients,
                "fold": folds_of(patients.tolist()),
                "age": self._numbers("age"),
                "sex": self._flags("is_male").map({1: "male", 0: "female"}),
                "site": "",
                "device": "",
                "acquired_at": "",
                "normal_ecg": self._flags("normal_ecg"),
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which exams' parts are there."""
        there = self._parts_there
        return [self._part_of[record_id] in there for record_id in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a tracing without the zeros around it. Reading on in the order of `records()` unpacks each piece of a part once.

        Raises:
            RecordError: reason "absent" when the part is not there or does not hold the exam; else as `read_code15`.
        """
        from assets.readers.hdf5 import read_code15

        if record_id not in self._part_of:
            raise RecordError("absent", self.folder / EXAMS, f"names no exam {record_id!r}")
        path = self.folder / self._part_of[record_id]
        if not path.is_file():
            raise RecordError("absent", path, f"is not there; unpack {path.stem}.zip here, or download it")
        found = self._read_on(path, record_id)
        if isinstance(found, RecordError):
            raise found
        return found or read_code15(path, exam_id=int(record_id))

    def task(self, name: str) -> Task:
        """The six abnormalities of an exam, or death after a patient's first exam."""
        if name == "abnormalities":
            return Task(name, "Abnormalities of CODE", tuple(ABNORMALITIES), ABNORMALITIES, may_be_empty=True)
        if name == "mortality":
            return Task(name, "Death after the ECG", ("DAYS_365",), {"DAYS_365": "death within 365 days of the ECG"}, may_be_empty=True)
        return super().task(name)

    def labels(self, task: str) -> pd.DataFrame:
        """Abnormalities of every exam; death of those exams whose outcome after a year is known: the first of a patient, if
        the patient died or was followed for longer.

        Raises:
            DatasetError: the table holds a value that cannot be read.
        """
        import pandas as pd

        ids = self._exams["exam_id"]
        if task == "abnormalities":
            return pd.DataFrame({"record_id": ids} | {name: self._flags(name) for name in ABNORMALITIES})
        if task == "mortality":
            known = self._exams["death"] != ""
            died = (self._flags("death", known) == 1) & known
            years = self._numbers("timey")
            early = years <= 1
            decided = known & years.notna() & (died | ~early)
            table = pd.DataFrame({"record_id": ids, "DAYS_365": (died & early).astype("int8")})
            return table[decided].reset_index(drop=True)
        return super().labels(task)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write 43 invented exams of 30 patients in two parts; a third part is named but not there."""
        _write_fixture(folder, seed)

    @cached_property
    def _exams(self) -> pd.DataFrame:
        """The table as text, in the order of the parts and, where they are there, of the exams in them."""
        import numpy as np

        path = self.folder / EXAMS
        table = read_table(path, _COLUMNS, "set the dataset's folder to the one that holds it, or download it")
        for column, pattern in (
            ("exam_id", "[1-9][0-9]{0,17}"),
            ("patient_id", "[0-9]{1,18}"),
            ("trace_file", r"exams_part[0-9]{1,3}\.hdf5"),
        ):
            if (bad := ~table[column].str.fullmatch(pattern)).any():
                raise DatasetError(f"{path}: column {column} holds {some(table[column][bad].tolist())}; restore the original table")
        if (repeated := table["exam_id"].duplicated()).any():
            raise DatasetError(
                f"{path}: exam_id {some(table['exam_id'][repeated].tolist())} stands in more than one row; remove the copies"
            )
        exam_N = table["exam_id"].astype("int64").to_numpy()
        row_N = np.arange(len(table))
        for name in table["trace_file"].unique():
            held_M = _exam_numbers(self.folder / name)
            if len(held_M):
                order_M = np.argsort(held_M, kind="stable")
                in_part = np.flatnonzero(table["trace_file"] == name)
                places = np.searchsorted(held_M, exam_N[in_part], sorter=order_M)
                row_N[in_part] = order_M[places.clip(max=len(held_M) - 1)]
        part_N = table["trace_file"].str.extract(r"([0-9]+)", expand=False).astype("int64").to_numpy()
        return table.iloc[np.lexsort((row_N, part_N))].reset_index(drop=True)

    @cached_property
    def _part_of(self) -> dict[str, str]:
        return dict(zip(self._exams["exam_id"], self._exams["trace_file"], strict=True))

    def _read_on(self, path: Path, record_id: str) -> Record | RecordError | None:
        """The exam, if it is a part's first or follows the one that was read before; None otherwise."""
        from assets.readers.hdf5 import iterate_code15

        if record_id in self._first:
            self._reading = (path, iterate_code15(path))
        elif self._reading is None or self._reading[0] != path:
            return None
        number, found = next(self._reading[1], (0, None))
        if str(number) == record_id:
            return found
        self._reading = None
        return None

    @cached_property
    def _first(self) -> set[str]:
        """The first exam of each part."""
        return set(self._exams.drop_duplicates("trace_file")["exam_id"])

    @property
    def _parts_there(self) -> set[str]:
        return {name for name in self._exams["trace_file"].unique() if (self.folder / name).is_file()}

    def _numbers(self, column: str) -> pd.Series[float]:
        """A column as floats, NaN where empty."""
        import pandas as pd

        text = self._exams[column]
        numbers = pd.to_numeric(text, errors="coerce").astype(float)
        if (bad := numbers.isna() & (text != "")).any():
            raise DatasetError(f"{self.folder / EXAMS}: column {column} holds {some(text[bad].tolist())}, which is no number")
        return numbers

    def _flags(self, column: str, wanted: pd.Series[bool] | None = None) -> pd.Series[int]:
        """A column of True and False as int8; 0 where it is not wanted."""
        text = self._exams[column] if wanted is None else self._exams[column].where(wanted, "False")
        flags = text.map(_BOOLEANS)
        if (bad := flags.isna()).any():
            raise DatasetError(f"{self.folder / EXAMS}: column {column} holds {some(text[bad].tolist())}, which is neither True nor False")
        return flags.astype("int8")


def _exam_numbers(path: Path) -> NDArray[np.int64]:
    """The exams of a part in the order of its rows; none where that cannot be read, which reading an exam will explain."""
    import h5py
    import numpy as np

    try:
        with h5py.File(path, "r", locking=False) as file:
            exams = file["exam_id"] if isinstance(file.get("exam_id", getlink=True), h5py.HardLink) else None
            if not isinstance(exams, h5py.Dataset) or exams.ndim != 1 or exams.is_virtual or exams.external:
                return np.empty(0, np.int64)
            if exams.dtype.kind not in "iu" or exams.nbytes > path.stat().st_size:
                return np.empty(0, np.int64)
            numbers: NDArray[np.int64] = exams[:].astype(np.int64)
            return numbers
    except (OSError, RuntimeError, ValueError):
        return np.empty(0, np.int64)


_PROFILES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("NORM", "SR"), ()),
    (("1AVB", "SR"), ("1dAVb",)),
    (("CRBBB", "SR"), ("RBBB",)),
    (("NORM", "SR"), ()),
    (("CLBBB", "SR"), ("LBBB",)),
    (("SBRAD",), ("SB",)),
    (("STACH",), ("ST",)),
    (("AFIB", "CRBBB"), ("RBBB", "AF")),
    (("LVH", "SR"), ()),
)
"""SCP codes that the invented exams are drawn with, and what the table says of them; the last is abnormal otherwise."""

_FIXTURE_COLUMNS = (
    "exam_id", "age", "is_male", "nn_predicted_age", *ABNORMALITIES, "patient_id", "death", "timey", "normal_ecg", "trace_file",
)  # fmt: skip

_FIXTURE_LENGTHS = (2934, 4096, 2934, 4000)


def _write_fixture(folder: Path, seed: int) -> None:
    import h5py
    import numpy as np

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows, tracings = _invent(rng)
    for part, chunk in ((0, 1), (1, 8)):  # one exam a piece, and several
        name = f"exams_part{part}.hdf5"
        held = [i for i, row in enumerate(rows) if row["trace_file"] == name]
        ids = [int(rows[i]["exam_id"]) for i in held]
        # Not in the table's order, and with the filler row that every part ends in.
        order = rng.permutation(len(held))
        with h5py.File(folder / name, "w") as file:
            file["exam_id"] = np.array([ids[k] for k in order] + [0])
            stack_BTL = np.stack([*(tracings[held[k]] for k in order), np.zeros((N_SAMPLES, len(LEADS)), np.float32)])
            file.create_dataset("tracings", data=stack_BTL, chunks=(chunk, N_SAMPLES, len(LEADS)), compression="gzip", compression_opts=1)
    write_table(folder / EXAMS, _FIXTURE_COLUMNS, rows)


def _invent(rng: Generator) -> tuple[list[dict[str, Any]], list[NDArray[np.float32]]]:
    """Rows of the table, and tracings as they are stored, with zeros on both sides."""
    import numpy as np

    from assets.readers.hdf5 import CODE_UV
    from assets.signals.simulate import simulate

    rows: list[dict[str, Any]] = []
    tracings = []
    for i, number in enumerate(_people(per_fold=3)):
        for visit in range(2 if i % 5 < 2 else 1):
            k = len(rows)
            codes, found = _PROFILES[(i + visit) % len(_PROFILES)]
            died = i % 7 == 3
            rows.append(
                {
                    "exam_id": 1_000_000 + 7919 * k % 99_991,
                    "age": 20 + (11 * i) % 70 + visit,
                    "is_male": str(i % 2 == 0),
                    "nn_predicted_age": round(float(20 + (11 * i) % 70 + rng.normal(0, 5)), 6),
                    "patient_id": number,
                    "death": str(died) if visit == 0 else "",
                    "timey": round(float(rng.uniform(0.1, 2.0 if died else 4.0)), 6) if visit == 0 else "",
                    "normal_ecg": str(codes[0] == "NORM"),
                    "trace_file": f"exams_part{2 if k in (20, 41) else k % 2}.hdf5",
                }
                | {name: str(name in found) for name in ABNORMALITIES}
            )
            length = 1730 if k == 12 else _FIXTURE_LENGTHS[k % len(_FIXTURE_LENGTHS)]
            padded_TL = np.zeros((N_SAMPLES, len(LEADS)), np.float32)
            if k != 31:  # some exams are zeros only
                first = (N_SAMPLES - length) // 2
                signal_LT = simulate(codes, rng, 400.0, length / 400.0)
                padded_TL[first : first + length] = np.round(signal_LT.T / CODE_UV, 2)
            tracings.append(padded_TL)
    return rows, tracings


def _people(per_fold: int) -> list[int]:
    """The lowest patient numbers of which every fold has `per_fold`."""
    found: dict[int, list[int]] = {fold: [] for fold in range(1, FOLDS + 1)}
    number = 1
    while any(len(numbers) < per_fold for numbers in found.values()):
        numbers = found[fold_of(patient(NAMESPACE, str(number)))]
        if len(numbers) < per_fold:
            numbers.append(number)
        number += 1
    return sorted(n for numbers in found.values() for n in numbers)
