"""BIDMC: 53 recordings of eight minutes from intensive care, ECG, pulse wave and breathing (Pimentel et al. 2017).

Layout of the original download, of which any part may be there; the tables are read, the same recordings in WFDB and MATLAB form are
not:

    bidmc_csv/bidmc_01_Signals.csv    time and signals at 125 Hz, in an order of its own in each recording
    bidmc_csv/bidmc_01_Fix.txt        age, sex, ward, the recording of MIMIC II that it was cut from
    bidmc_csv/bidmc_01_Numerics.csv   heart rate, breathing rate and oxygen saturation as the monitor showed them, every second
    bidmc_csv/bidmc_01_Breaths.csv    which is not read

There are no reports. What stands for one is a sentence or two made of the description and of the means of the monitor's numbers, which
are a machine's; labels of the task `vitals` come from the same means. `heart_rate`, `respiration` and `spo2` are the means of these numbers
over each window of ten seconds, where at least five of the ten are there.

Patients. The recordings are parts of the MIMIC II Matched Subset, several of one person (06 to 09 are), and MIMIC III kept the
subject ids of MIMIC II. So patients have the id, and the fold, that they have in `mimic_iii_waveform`.

Units. The tables state none. Values of ECG leads run from -0.5 to 1.5 and those of PLETH and RESP from 0 to 1, which are the ranges of
the 8-bit converter in MIMIC's own headers, in mV and NU. So lead II is taken as millivolts; pulse wave and breathing have no unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.dataset import Channel, Dataset, DatasetError, Download, Source, Task
from assets.record import Record, RecordError
from assets.splits import FOLDS, fold_of, folds_of, patient
from assets.tables import read_table, some

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

NAMESPACE = "mimic3"
FOLDER = "bidmc_csv"

_CHANNELS = (Channel("II"), Channel("PLETH", "PPG", "NU", 1 / 4000), Channel("RESP", "RESP", "NU", 1 / 4000))
"""PLETH and RESP span one unit, 4,000 counts, finer than the 8 or 10 bits of their converters."""

_TO_MICROVOLTS = 1000.0
_SIGNALS = re.compile(r"(bidmc_[0-9]{2})_Signals\.csv")
_NUMERICS = re.compile(r"(bidmc_[0-9]{2})_Numerics\.csv")
_FIX = re.compile(r"(bidmc_[0-9]{2})_Fix\.txt")
_FIX_BYTES = 1 << 16
_SUBJECT = re.compile(r"^MIMIC II matched wdb ID: s0*([0-9]+)\s*$", re.MULTILINE)
_AGE = re.compile(r"^Age: ([0-9]+)\+?\s*$", re.MULTILINE)
_SEX = re.compile(r"^Gender: ([MF])\s*$", re.MULTILINE)
_WARD = re.compile(r"^Location: ([^\r\n]*?)\s*$", re.MULTILINE)
_BEGUN = re.compile(r"^MIMIC II data segment: ([0-9]{4}-[0-9]{2}-[0-9]{2})-([0-9]{2})-([0-9]{2})\s*$", re.MULTILINE)
_SEXES = {"M": "male", "F": "female", "": "unknown"}
_PEOPLE = {"M": "man", "F": "woman", "": "patient"}

_WARDS = {
    "ccu": "coronary care unit",
    "csru": "cardiac surgery recovery unit",
    "micu": "medical intensive care unit",
    "msicu": "medical and surgical intensive care unit",
    "nicu": "neonatal intensive care unit",
    "sicu": "surgical intensive care unit",
    "tsicu": "trauma surgical intensive care unit",
}
_NUMERICS_COLUMNS = (" HR", " RESP", " SpO2")
"""With the blank that the tables have before a name."""

_TIME = "Time [s]"
_LARGEST = 1000.0
"""Of numbers and seconds; a recording is eight minutes long."""

_NUMBERS = {
    "heart_rate": ("heart rate", "beats/min", 0),
    "respiration": ("breathing rate", "breaths/min", 1),
    "spo2": ("oxygen saturation", "%", 2),
}
"""Tasks about windows: title, unit and place among `_NUMERICS_COLUMNS`."""

_LEAST_NUMBERS = 5
"""Of a window, one a second."""

_VITALS = {
    "tachycardia": "fast heart",
    "bradycardia": "slow heart",
    "tachypnoea": "fast breathing",
    "desaturation": "low oxygen saturation",
}
_FAST_HEART, _SLOW_HEART, _FAST_BREATHING, _LOW_SATURATION = 100.0, 60.0, 20.0, 94.0
"""Beats and breaths a minute and percent, at whose wrong side a mean is no more normal in an adult."""


class BIDMC(Dataset):
    """BIDMC PPG and Respiration Dataset as downloaded."""

    name: ClassVar[str] = "bidmc"
    source: ClassVar[Source] = Source(
        title="BIDMC PPG and Respiration Dataset",
        version="1.0.0",
        homepage="https://physionet.org/content/bidmc/1.0.0/",
        licence="ODC-By 1.0",
        terms="Free to download from PhysioNet without an account.",
        citation="Pimentel et al., Towards a robust estimation of respiratory rate from pulse oximeters, IEEE Trans Biomed Eng 64(8):1914-1923 (2017), doi:10.1109/TBME.2016.2613124",
        download=Download(
            s3="s3://physionet-open/bidmc/1.0.0/",
            https="https://physionet.org/files/bidmc/1.0.0/",
            n_bytes=500_000_000,
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = ("II",)
    fs_hz: ClassVar[float] = 125.0
    has_reports: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("vitals", *_NUMBERS)
    version: ClassVar[str] = "2"

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """Lead II, pulse wave and breathing, which every recording has; leads and pressures that only some have are left out."""
        return _CHANNELS

    def files(self) -> list[Path]:
        """Signals, descriptions and numbers that are there.

        Raises:
            DatasetError: there are none.
        """
        if not self._names:
            raise DatasetError(f"{self.folder / FOLDER} holds no recording of BIDMC (bidmc_01_Signals.csv ...); download it")
        return sorted(Path(FOLDER) / name for name in self._names)

    def records(self) -> pd.DataFrame:
        """The recordings that are described, sorted. `acquired_at` is the surrogate time at which MIMIC's recording begins.

        Raises:
            DatasetError: there are none, or one has signals but no description that says whose they are.
        """
        import pandas as pd

        texts = self._descriptions()
        subjects = [_first(_SUBJECT, text) for text in texts.values()]
        patients = [patient(NAMESPACE, subject) for subject in subjects]
        begun = [_BEGUN.search(text) for text in texts.values()]
        return pd.DataFrame(
            {
                "record_id": list(texts),
                "patient_id": patients,
                "fold": folds_of(patients),
                "age": [float(_first(_AGE, text) or "nan") for text in texts.values()],
                "sex": [_SEXES[_first(_SEX, text)] for text in texts.values()],
                "site": [_first(_WARD, text) for text in texts.values()],
                "device": "",
                "acquired_at": [f"{m[1]}T{m[2]}:{m[3]}:00" if m else "" for m in begun],
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which recordings have their signals."""
        return [f"{r}_Signals.csv" in self._names for r in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read lead II (as millivolts), pulse wave and breathing of a recording; there is one rate only."""
        import numpy as np

        from assets.readers import read_record

        name = f"{record_id}_Signals.csv"
        path = self.folder / FOLDER / name
        if not _SIGNALS.fullmatch(name):
            raise RecordError("absent", path.parent, f"has no record {record_id!r}")
        record = read_record(path)
        rows = [i for i, lead in enumerate(record.leads) if lead in {c.name for c in _CHANNELS}]
        unstated = [record.leads[i] == "II" and record.units[i] == "NU" for i in rows]
        factor_L1 = np.array([[_TO_MICROVOLTS if plain else 1.0] for plain in unstated], np.float32)
        return replace(
            record,
            signal_LT=record.signal_LT[rows] * factor_L1,
            leads=tuple(record.leads[i] for i in rows),
            units=tuple("uV" if plain else record.units[i] for i, plain in zip(rows, unstated, strict=True)),
        )

    def task(self, name: str) -> Task:
        """Whether heart rate, breathing rate and oxygen saturation were normal on average (all may be), or one of them by window."""
        if name not in self.task_names:
            return super().task(name)
        if name in _NUMBERS:
            title, unit, _ = _NUMBERS[name]
            return Task(name, title, (name,), {name: title}, kind="regression", unit=unit, per_window=True)
        return Task(name, "vital signs beyond normal, on average", tuple(_VITALS), _VITALS, may_be_empty=True)

    def labels(self, task: str) -> pd.DataFrame:
        """Labels of the recordings of which all three means are known, or a number of the windows that have it.

        Raises:
            DatasetError: a table of numbers cannot be read.
        """
        import pandas as pd

        if task not in self.task_names:
            return super().labels(task)
        if task in _NUMBERS:
            return self._by_window(task)
        means = {r: found for r in self._descriptions() if (found := self._means(r)) is not None and not any(v != v for v in found)}
        rows = [
            (record_id, heart > _FAST_HEART, heart < _SLOW_HEART, breathing > _FAST_BREATHING, saturation < _LOW_SATURATION)
            for record_id, (heart, breathing, saturation) in means.items()
        ]
        return pd.DataFrame(rows, columns=["record_id", *_VITALS]).astype(dict.fromkeys(_VITALS, "int8"))

    def reports(self) -> pd.DataFrame:
        """Sentences of who was recorded where, and of the monitor's numbers; all by a machine.

        Raises:
            DatasetError: a description or a table of numbers cannot be read.
        """
        import pandas as pd

        texts = self._descriptions()
        return pd.DataFrame(
            {"record_id": list(texts), "text": [_sentences(text, self._means(r)) for r, text in texts.items()], "source": "machine"}
        )

    def _by_window(self, task: str) -> pd.DataFrame:
        """Means of what the monitor showed in each window: record_id, start, and the task's column."""
        import pandas as pd

        parts = []
        for record_id in self._descriptions():
            shown = self._numbers(record_id)
            if shown is None:
                continue
            values = shown[_NUMERICS_COLUMNS[_NUMBERS[task][2]]]
            windows = values.groupby(shown[_TIME] // self.window_s * self.window_s).agg(["mean", "count"])
            found = windows.loc[windows["count"] >= _LEAST_NUMBERS, "mean"]
            parts.append(
                pd.DataFrame({"record_id": record_id, "start": found.index.to_numpy(float) + 0.0, task: found.to_numpy("float32")})
            )
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["record_id", "start", task])

    def _means(self, record_id: str) -> tuple[float, float, float] | None:
        """Means of heart rate, breathing rate and saturation, NaN where the monitor showed none; None without the table."""
        shown = self._numbers(record_id)
        if shown is None:
            return None
        heart, breathing, saturation = (float(shown[c].mean()) for c in _NUMERICS_COLUMNS)
        return heart, breathing, saturation

    def _numbers(self, record_id: str) -> pd.DataFrame | None:
        """Seconds and what the monitor showed then, NaN where it showed nothing; None without the table."""
        import pandas as pd

        name = f"{record_id}_Numerics.csv"
        if name not in self._names:
            return None
        path = self.folder / FOLDER / name
        table = read_table(path, (_TIME, *_NUMERICS_COLUMNS), "download it again")
        columns = {}
        for column in (_TIME, *_NUMERICS_COLUMNS):
            shown = table[column].where(~table[column].isin(["", "NaN"]))
            values = pd.to_numeric(shown, errors="coerce")
            needed = shown.notna() | (column == _TIME)
            if (bad := (values.isna() & needed) | ~values.fillna(0).between(0, _LARGEST)).any():
                raise DatasetError(f"{path}: column {column.strip()} holds {some(table[column][bad].tolist())}, which is no such number")
            columns[column] = values
        return pd.DataFrame(columns)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """21 seconds of 22 recordings of 20 people; one is without its signals."""
        _write_fixture(folder, seed)

    @cached_property
    def _names(self) -> set[str]:
        folder = self.folder / FOLDER
        there = {p.name for p in folder.iterdir() if p.is_file()} if folder.is_dir() else set()
        return {name for name in there if any(pattern.fullmatch(name) for pattern in (_SIGNALS, _FIX, _NUMERICS))}

    def _descriptions(self) -> dict[str, str]:
        """Record id to the text of its description.

        Raises:
            DatasetError: there are none, or one is missing or says nothing of the patient.
        """
        described = sorted(match[1] for match in map(_FIX.fullmatch, self._names) if match)
        recorded = {match[1] for match in map(_SIGNALS.fullmatch, self._names) if match}
        if alone := sorted(recorded - set(described)):
            raise DatasetError(
                f"{self.folder / FOLDER / f'{alone[0]}_Fix.txt'} is missing, and only it says whose recording that is; download it"
            )
        if not described:
            raise DatasetError(f"{self.folder / FOLDER} holds no recording of BIDMC (bidmc_01_Signals.csv ...); download it")
        texts = {}
        for record_id in described:
            path = self.folder / FOLDER / f"{record_id}_Fix.txt"
            with path.open("rb") as stream:
                texts[record_id] = stream.read(_FIX_BYTES).decode("latin-1")
            if not _SUBJECT.search(texts[record_id]):
                raise DatasetError(f"{path} names no subject of MIMIC II; restore the original file")
        return texts


def _sentences(text: str, means: tuple[float, float, float] | None) -> str:
    """What stands for a report: of a description and of means of heart rate, breathing rate and saturation, as far as they are known."""
    age, ward = _first(_AGE, text), _first(_WARD, text)
    person = _PEOPLE[_first(_SEX, text)]
    told = [f"{f'{age} year old {person}' if age else person} in the {_WARDS.get(ward, ward or 'intensive care unit')}"]
    for value, what in zip(
        means or (), ("mean heart rate {:.0f}", "breathing rate {:.0f}", "oxygen saturation {:.0f} percent"), strict=False
    ):
        if value == value:
            told.append(what.format(value))
    return f"{told[0].capitalize()}.{' ' + ', '.join(told[1:]).capitalize() + '.' if told[1:] else ''}"


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


_PER_FOLD = 2
_FIRST_SUBJECT = 1241
_SECONDS = 21.0
_SAME_PERSON = (5, 6)
"""Recordings, by place, of the person of the one before."""

_NO_SIGNALS = 17
_NO_NUMBERS = 3


def _subjects() -> Iterator[int]:
    """Two people a fold, in order of their ids."""
    places = dict.fromkeys(range(1, FOLDS + 1), 0)
    for subject in count(_FIRST_SUBJECT, 97):
        fold = fold_of(patient(NAMESPACE, str(subject)))
        if places[fold] < _PER_FOLD:
            places[fold] += 1
            yield subject
        if sum(places.values()) == _PER_FOLD * FOLDS:
            return


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    subjects = list(_subjects())
    for place in _SAME_PERSON:
        subjects.insert(place, subjects[place - 1])
    for place, subject in enumerate(subjects):
        stem = folder / FOLDER / f"bidmc_{place + 1:02d}"
        columns = _columns(rng, place)
        Path(f"{stem}_Fix.txt").write_text(
            f"{stem.name}\nSignals: {'; '.join(columns)}\nSignals sampling frequency: 125 Hz\nAge: {40 + place if place else 'NaN'}\n"
            f"Gender: {'MF'[place % 2]}\nLocation: {('micu', 'csru')[place % 2]}\nMIMIC II matched wdb ID: s{subject:05d}\n"
            f"MIMIC II data segment: 3195-12-{1 + place:02d}-05-38\n"
        )
        if place != _NO_NUMBERS:
            Path(f"{stem}_Numerics.csv").write_text(_numbers(place))
        if place == _NO_SIGNALS:
            continue
        table = np.stack([np.arange(len(columns["II"])) / 125, *columns.values()], axis=1)
        form = ",".join(["%g", *["%.5g"] * len(columns)])
        lines = [",".join(["Time [s]", *(f" {name}" for name in columns)]), *(form % tuple(row) for row in table.tolist())]
        Path(f"{stem}_Signals.csv").write_text("\n".join(lines) + "\n")


def _numbers(place: int) -> str:
    """What the monitor showed, with a second of nothing."""
    heart, breathing, saturation = 56 + 4 * place % 60, 12 + place % 11, 99 - place % 8
    rows = [f"{second},{heart + second % 3},{heart},{breathing},{saturation}" for second in range(int(_SECONDS))]
    rows[4] = "4,NaN,NaN,NaN,NaN"
    return "\n".join(["Time [s], HR, PULSE, RESP, SpO2", *rows]) + "\n"


def _columns(rng: Generator, place: int) -> dict[str, NDArray[np.float64]]:
    """Signals by name, in one of three orders."""
    from assets.signals.simulated_monitor import draw_beats, draw_breathing, draw_ecg, draw_pulse_wave

    beats = draw_beats(rng, _SECONDS)
    two_T, v_T = draw_ecg(beats, rng, 125.0, _SECONDS, gains=(0.9, 0.5)) / 1000
    found = {
        "II": two_T,
        "PLETH": draw_pulse_wave(beats, rng, 125.0, _SECONDS),
        "RESP": draw_breathing(rng, 125.0, _SECONDS),
        "V": v_T,
    }
    if place % 3 == 0:
        return found
    order = ("RESP", "PLETH", "II", "V") if place % 3 == 1 else ("RESP", "PLETH", "V", "II")
    pressure = {} if place % 3 == 1 else {"ABP": 80 + 30 * found["PLETH"]}
    return {name: found[name] for name in order} | pressure
