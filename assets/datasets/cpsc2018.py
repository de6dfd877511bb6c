"""CPSC 2018: 6,877 12-lead ECGs of 6 to 144 s from 11 hospitals, nine rhythms and findings (Liu et al. 2018).

The training set of the China Physiological Signal Challenge 2018 in its own format, of which any part may be there:

    REFERENCE.csv            Recording, First_label, Second_label, Third_label (1 to 9); also inside TrainingSet3
    TrainingSet1/A0001.mat   struct ECG: sex, age, data (12 leads x samples, mV, 500 Hz)
    TrainingSet2/, TrainingSet3/

A single folder TrainingSet holds what copies put together. The same recordings, under the same names, are the source cpsc_2018
of the Challenges of 2020 and 2021. Patients were not published: a recording counts as one. Folds are MERL's published split
(`assets.identities`), by which the field compares itself.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from assets.access import Access
from assets.dataset import Dataset, DatasetError, Download, Source, Task
from assets.identities import of_record
from assets.record import Record, RecordError
from assets.tables import read_table, some, write_table
from models.types import LEADS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

REFERENCE = "REFERENCE.csv"
SETS = ("TrainingSet", "TrainingSet1", "TrainingSet2", "TrainingSet3")
TASK = "icbeb"
COLUMNS = ("First_label", "Second_label", "Third_label")

CLASSES = {
    "AFIB": ("2", "atrial fibrillation"),
    "VPC": ("7", "ventricular premature contraction"),
    "NORM": ("1", "normal ECG"),
    "1AVB": ("3", "first-degree atrioventricular block"),
    "CRBBB": ("5", "right bundle branch block"),
    "STE": ("9", "ST segment elevation"),
    "PAC": ("6", "premature atrial contraction"),
    "CLBBB": ("4", "left bundle branch block"),
    "STD": ("8", "ST segment depression"),
}
"""Class to number in the reference, and name. Names and order are MERL's; the Challenge itself does not say that blocks are complete."""

_OLDEST = 120.0
_HEAD_BYTES = 2048
_STRUCT = re.compile(rb"sex\0+age\0+data\0+")
_SEXES = {b"male": "male", b"m": "male", b"female": "female", b"f": "female"}
_COMPRESSED = 15
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}


class _Person(NamedTuple):
    age: float
    sex: str


_NOBODY = _Person(math.nan, "unknown")


class CPSC2018(Dataset):
    """The training set as downloaded and unpacked."""

    name: ClassVar[str] = "cpsc2018"
    source: ClassVar[Source] = Source(
        title="CPSC 2018",
        version="2018",
        homepage="http://2018.icbeb.org/Challenge.html",
        licence="free for research, as its organisers state it; no licence text is published",
        terms="Free to download, where its site is up.",
        citation="Liu et al., An Open Access Database for Evaluating the Algorithms of Electrocardiogram Rhythm and Morphology Abnormality Detection, J Med Imaging Health Inform 8:1368 (2018), doi:10.1166/jmihi.2018.2442",
        download=Download(
            checksums="",
            n_bytes=3_500_000_000,
            credentials="manual",
            directions=(
                "Get TrainingSet1.zip, TrainingSet2.zip, TrainingSet3.zip and REFERENCE.csv from the Challenge's page, which is often down, "
                "and unpack them into one folder. The same recordings in WFDB format are in the dataset cinc2020, which PhysioNet holds."
            ),
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = 500.0
    task_names: ClassVar[tuple[str, ...]] = (TASK,)

    def files(self) -> list[Path]:
        """The reference and the recordings that are there.

        Raises:
            DatasetError: the reference is missing or cannot be read.
        """
        known = set(self._rows["Recording"])
        found = [Path(folder, f"{record}.mat") for record, folder in self._places.items() if record in known]
        return sorted([self._reference.relative_to(self.folder), *found])

    def records(self) -> pd.DataFrame:
        """Every row of the reference. Age and sex are in the recordings, and unknown where these are not there.

        Raises:
            DatasetError: the reference is missing, lacks a column, or holds names that are no recordings.
        """
        import pandas as pd

        ids = self._rows["Recording"].tolist()
        people = [self._people.get(r, _NOBODY) for r in ids]
        who = [of_record("cpsc2018", r) for r in ids]
        return pd.DataFrame(
            {
                "record_id": ids,
                "patient_id": [w.patient_id for w in who],
                "fold": [w.fold for w in who],
                "age": [p.age for p in people],
                "sex": [p.sex for p in people],
                "site": "",
                "device": "",
                "acquired_at": "",
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which recordings have their file."""
        return [r in self._places for r in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording at 500 Hz.

        Raises:
            RecordError: reason "absent" when its file is not there; else as `assets.readers.mat.read_mat`.
        """
        from assets.readers import read_record

        if record_id not in self._places:
            raise RecordError("absent", self.folder, f"has no recording {record_id!r} in {', '.join(SETS)}")
        return read_record(self.folder / self._places[record_id] / f"{record_id}.mat")

    def task(self, name: str) -> Task:
        """The one task: nine classes, up to three a recording."""
        if name != TASK:
            return super().task(name)
        return Task(name, "nine rhythms and findings of CPSC 2018", tuple(CLASSES), {c: title for c, (_, title) in CLASSES.items()})

    def labels(self, task: str) -> pd.DataFrame:
        """First, second and third label count alike; a recording without any is left out.

        Raises:
            DatasetError: a label is no number from 1 to 9.
        """
        self.task(task)
        numbers = self._rows[list(COLUMNS)].replace(r"\.0$", "", regex=True)
        wrong = ~numbers.isin(["", *(number for number, _ in CLASSES.values())]).all(axis=1)
        if wrong.any():
            raise DatasetError(f"{self._reference}: labels of {some(self._rows['Recording'][wrong].tolist())} are no numbers from 1 to 9")
        table = self._rows[["Recording"]].rename(columns={"Recording": "record_id"})
        for name, (number, _) in CLASSES.items():
            table[name] = (numbers == number).any(axis=1).astype("int8")
        return table[table[list(CLASSES)].any(axis=1)].reset_index(drop=True)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write 52 invented recordings in three folders; one is too short for a window, another is not there."""
        _write_fixture(folder, seed)

    @cached_property
    def _reference(self) -> Path:
        places = [self.folder / REFERENCE, *(self.folder / s / REFERENCE for s in SETS)]
        return next((p for p in places if p.is_file()), places[0])

    @cached_property
    def _rows(self) -> pd.DataFrame:
        rows = read_table(self._reference, ("Recording", *COLUMNS), "set the dataset's folder to the one that holds it, or download it")
        ids = rows["Recording"]
        if wrong := ids[~ids.str.fullmatch("[A-Za-z0-9_-]{1,64}")].tolist():
            raise DatasetError(f"{self._reference} names {some([repr(w) for w in wrong])}, no recordings; restore the original table")
        if repeated := ids[ids.duplicated()].tolist():
            raise DatasetError(f"{self._reference}: recording {some(repeated)} stands in more than one row; remove the copies")
        return rows

    @cached_property
    def _places(self) -> dict[str, str]:
        """Recording to the folder that its file is in."""
        places: dict[str, str] = {}
        for part in SETS:
            if not (self.folder / part).is_dir():
                continue
            with os.scandir(self.folder / part) as entries:
                names = sorted(e.name for e in entries if e.name.endswith(".mat") and e.is_file(follow_symlinks=False))
            for name in names:
                record = name.removesuffix(".mat")
                if record in places:
                    raise DatasetError(f"{self.folder}: recording {record} is both in {places[record]} and in {part}; remove one")
                places[record] = part
        return places

    @cached_property
    def _people(self) -> dict[str, _Person]:
        return {r: read_person(self.folder / place / f"{r}.mat") for r, place in self._places.items()}


def read_person(path: Path) -> _Person:
    """Age and sex at the head of a recording, without reading its samples; unknown where they are not found."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(_HEAD_BYTES)
        if struct.unpack_from("<I", raw, 128)[0] == _COMPRESSED:
            raw = zlib.decompressobj().decompress(raw[136:], _HEAD_BYTES)
        match = _STRUCT.search(raw)
        if match is None:
            return _NOBODY
        _, sex, position = _element(raw, match.end() + -match.end() % 8)
        _, age, _ = _element(raw, position)
        kind, letters, _ = _element(sex, _after_description(sex))
        sex_of = bytes(letters[:: 2 if kind in (4, 17) else 1]).strip().lower()
        kind, number, _ = _element(age, _after_description(age))
        years = float(struct.unpack_from("<" + _NUMBERS[kind], number)[0])
    except (OSError, struct.error, zlib.error, KeyError):
        return _NOBODY
    return _Person(years if 0 <= years <= _OLDEST else math.nan, _SEXES.get(sex_of, "unknown"))


def _after_description(matrix: bytes) -> int:
    """Where the values of a matrix begin: behind its flags, its size and its name."""
    position = 0
    for _ in range(3):
        _, _, position = _element(matrix, position)
    return position


def _element(raw: bytes, position: int) -> tuple[int, bytes, int]:
    """Kind and bytes of a MATLAB level 5 data element, and where the next one begins."""
    kind, size = struct.unpack_from("<II", raw, position)
    if kind >> 16:  # up to four bytes stand in the tag itself
        return kind & 0xFFFF, raw[position + 4 : position + 4 + (kind >> 16)], position + 8
    return kind, raw[position + 8 : position + 8 + size], position + 8 + size + -size % 8


_DRAWN = {"1": "NORM", "2": "AFIB", "3": "1AVB", "4": "CLBBB", "5": "CRBBB", "6": "PAC", "7": "PVC", "8": "STD_", "9": "STE_"}
_TRAINING = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 16 18 19 20 21 23 24 29 32 33 34 35 36 37 38 39 40 41 42 45 47"
_VALIDATION = "15 17 22 26 27 28 30 44 49"
_TEST = "25 31 43 46 50 51 54 55"
_SHORT, _MISSING, _AGELESS = "A0012", "A0011", "A0009"


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    from assets.signals.simulate import simulate

    rng = np.random.default_rng(seed)
    rows = []
    for i, number in enumerate(int(n) for n in f"{_TRAINING} {_VALIDATION} {_TEST}".split()):
        name, first = f"A{number:04d}", str(i % 9 + 1)
        second = "6" if first in "25" and i % 2 else ""
        findings = {_DRAWN[label] for label in (first, second) if label} - ({"PAC"} if first == "2" else set())
        signal_LT = simulate(findings, rng, 500.0, 6.0 if name == _SHORT else float(rng.integers(10, 14)))
        rows.append({"Recording": name, "First_label": first, "Second_label": second})
        sex, age = ("Male", "Female")[i % 2], np.nan if name == _AGELESS else int(rng.integers(20, 89))
        if name != _MISSING:
            _write_mat(folder / SETS[1 + i // 18] / f"{name}.mat", sex, age, signal_LT)
    write_table(folder / REFERENCE, ("Recording", *COLUMNS), rows)


def _write_mat(path: Path, sex: str, age: float, signal_LT: NDArray[np.float32]) -> None:
    """A level 5 file with one compressed struct, the same bytes for the same recording."""
    import numpy as np
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"ECG": {"sex": sex, "age": age, "data": np.rint(signal_LT).astype(np.float64) / 1000.0}})
    raw = path.read_bytes()
    packed = zlib.compress(raw[128:], 1)
    text = b"MATLAB 5.0 MAT-file, invented".ljust(116)  # scipy writes the time of day here
    path.write_bytes(text + raw[116:128] + struct.pack("<II", _COMPRESSED, len(packed)) + packed)
