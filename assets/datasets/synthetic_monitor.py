"""Synthetic monitor: simulated bedside recordings, lead II and pulse wave, with a nurse's note: ECG, PPG and text in one record.

    waves/<record_id>.hea, .dat    WFDB format 212, 125 Hz, 10 s: II in mV, PLETH without a unit
    records.csv                    one row a record: identifiers, fold, age, sex, ward, device, time, what ECG and pulse show, note,
                                   heart_rate (beats/min, from the first to the last beat of the heart)
    dataset.json                   seed, number of records, version of this layout

Each note says what the ECG shows, what the pulse wave shows, and whether they agree: whether both are regular or both irregular. That
is a toss-up to whoever sees one of them alone. Patients have one or two records, all in one fold. The same seed gives the same bytes. Layout 1 had no heart rates; such a folder is
read, without the task `heart_rate`.
Invented; it says nothing about medicine.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.dataset import RECORD_COLUMNS, Channel, Dataset, DatasetError, Source, Task
from assets.record import Record, RecordError
from assets.simulated_folders import fill_folder, own_source, wave_files
from assets.splits import FOLDS, patient
from assets.tables import read_table, some, write_table
from models.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

DEFAULT_RECORDS = 1200
FORMAT_VERSION = 2

RHYTHMS = {"regular": "regular rhythm", "irregular": "irregular rhythm", "fast": "fast heart", "slow": "slow heart"}
PULSES = {"weak": "weak pulse", "deficit": "beats without a pulse", "uneven": "uneven pulse"}

_FS_HZ, _SECONDS = 125.0, 10.0
_COLUMNS = (*RECORD_COLUMNS, "rhythm", "pulse", "note")
_RATE = "heart_rate"
_RATES = (20.0, 250.0)
"""Beats a minute that the simulation stays within."""

_COUNTS = {"II": 400, "PLETH": 1000}
"""Counts per millivolt, and per unit of the pulse wave."""

_REMEDY = "generate the dataset again with assets.datasets.synthetic_monitor.generate(folder)"


class SyntheticMonitor(Dataset):
    """Simulated bedside recordings; see the module's docstring for the layout."""

    name: ClassVar[str] = "synthetic_monitor"
    source: ClassVar[Source] = own_source("Synthetic bedside monitor", name)
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = ("II",)
    fs_hz: ClassVar[float] = _FS_HZ
    has_reports: ClassVar[bool] = True
    simulated: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("rhythm", "perfusion", _RATE)

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """Lead II and the pulse wave."""
        return (Channel("II"), Channel("PLETH", "PPG", "NU", 1 / 4000))

    def prepare(self) -> None:
        """Write the dataset at its default size, unless there is a folder already."""
        if not self.folder.exists():
            generate(self.folder)

    def files(self) -> list[Path]:
        """The table and all signal files, relative to the folder, sorted."""
        self._table()
        return wave_files(self.folder)

    def records(self) -> pd.DataFrame:
        """One row a record, in the order of records.csv."""
        table = self._table()
        ids = [patient(self.name, published) for published in table["patient_id"]]
        return table[list(RECORD_COLUMNS)].assign(patient_id=ids)

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording; there is one rate, 125 Hz, whatever `fs_hz` asks for."""
        from assets.readers import read_record

        if Path(record_id).name != record_id:
            raise RecordError("absent", record_id, "is no record of this dataset")
        return read_record(self.folder / "waves" / f"{record_id}.hea")

    def task(self, name: str) -> Task:
        """What the ECG shows (`rhythm`), or the pulse wave (`perfusion`), which may be nothing; or how fast the heart beats."""
        if name not in self.task_names:
            return super().task(name)
        if name == _RATE:
            return Task(name, "heart rate", (name,), {name: "heart rate"}, kind="regression", unit="beats/min")
        if name == "rhythm":
            return Task(name, "rhythm of the ECG", tuple(RHYTHMS), RHYTHMS)
        return Task(name, "what is amiss with the pulse", tuple(PULSES), PULSES, may_be_empty=True)

    def labels(self, task: str) -> pd.DataFrame:
        """Label table of a task.

        Raises:
            ConfigurationError: the dataset has no such task.
            DatasetError: records.csv cannot be read, or is of layout 1 and the heart rate is asked for.
        """
        if task == _RATE:
            return self._rates()
        classes = self.task(task).classes
        table = self._table()
        shown = table["rhythm" if task == "rhythm" else "pulse"].str.split(";").map(set)
        return table[["record_id"]].assign(**{name: shown.map(lambda held, n=name: n in held).astype("int8") for name in classes})

    def reports(self) -> pd.DataFrame:
        """The note of each record."""
        return self._table()[["record_id", "note"]].rename(columns={"note": "text"}).assign(source="human")

    def _rates(self) -> pd.DataFrame:
        import pandas as pd

        path = self.folder / "dataset.json"
        try:
            layout = int(json.loads(path.read_text())["format_version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} does not say which layout the folder has ({error}); {_REMEDY}") from error
        if layout < FORMAT_VERSION:
            raise DatasetError(f"{self.folder} is of layout {layout}, which had no heart rates; {_REMEDY}")
        table = read_table(self.folder / "records.csv", ("record_id", _RATE), _REMEDY)
        rates = pd.to_numeric(table[_RATE], errors="coerce").astype("float32")
        if (wrong := ~rates.between(*_RATES)).any():
            raise DatasetError(
                f"{self.folder / 'records.csv'} holds no heart rate: records {some(table['record_id'][wrong].tolist())}; {_REMEDY}"
            )
        return table[["record_id"]].assign(**{_RATE: rates})

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write 40 records, four a fold."""
        generate(folder, n_records=40, seed=seed)

    def _table(self) -> pd.DataFrame:
        """records.csv with every value checked."""
        import pandas as pd

        path = self.folder / "records.csv"
        table = read_table(path, _COLUMNS, _REMEDY)
        fold, age = (pd.to_numeric(table[c], errors="coerce") for c in ("fold", "age"))
        known = {"rhythm": set(RHYTHMS), "pulse": {*PULSES, ""}}
        for wrong, what in (
            (~table["record_id"].str.fullmatch(r"\d+") | table["record_id"].duplicated(), "no record_id of digits, or one twice"),
            (table["patient_id"] == "", "no patient_id"),
            (~fold.isin(range(1, FOLDS + 1)), f"a fold other than 1 to {FOLDS}"),
            (age.isna() & (table["age"] != ""), "an age that is no number"),
            (~table["sex"].isin(["female", "male", "unknown"]), "a sex other than female, male, unknown"),
            *((~table[c].map(lambda text, k=held: set(text.split(";")) <= k), f"an unknown {c}") for c, held in known.items()),
        ):
            if wrong.any():
                raise DatasetError(f"{path} holds {what}: records {some(table['record_id'][wrong].tolist())}; {_REMEDY}")
        return table.assign(fold=fold.astype(int), age=age.astype(float))


def generate(folder: Path, n_records: int = DEFAULT_RECORDS, seed: int = 0) -> None:
    """Write the dataset into a folder that is empty or not there yet, all of it or nothing.

    Raises:
        ConfigurationError: fewer than two records a fold.
        DatasetError: the folder holds something already.
    """
    if n_records < 2 * FOLDS:
        raise ConfigurationError(f"{n_records} records do not fill {FOLDS} folds; ask for at least {2 * FOLDS}")
    fill_folder(folder, lambda partial: _write(partial, n_records, seed))


def _write(folder: Path, n_records: int, seed: int) -> None:
    import numpy as np

    from assets.readers.mit_write import Signal, write_signals

    signals = [Signal("400/mV", "II"), Signal("1000/NU", "PLETH")]
    rows = _deal(np.random.default_rng([seed, 0]), n_records)
    for i, row in enumerate(rows):
        signal_LT, row[_RATE] = _draw(row, np.random.default_rng([seed, 1, i]))
        counts_LT = np.rint(signal_LT * np.array([[_COUNTS["II"] / 1000], [_COUNTS["PLETH"]]])).astype(np.int64)
        write_signals(folder / "waves", row["record_id"], 212, counts_LT, signals, f"{_FS_HZ:g}")
    write_table(folder / "records.csv", (*_COLUMNS, _RATE), rows)
    about = {"name": SyntheticMonitor.name, "format_version": FORMAT_VERSION, "seed": seed, "n_records": n_records}
    (folder / "dataset.json").write_text(json.dumps(about, indent=1) + "\n")


def _deal(rng: Generator, n_records: int) -> list[dict[str, str]]:
    """People with one or two records, fold by fold, and what each record shows."""
    rows: list[dict[str, str]] = []
    for fold in range(1, FOLDS + 1):
        wanted = n_records // FOLDS + (fold <= n_records % FOLDS)
        while wanted:
            person = {
                "patient_id": f"M{len(rows) + 1:05d}", "fold": str(fold), "age": str(int(rng.integers(30, 90))),
                "sex": ("female", "male")[rng.integers(2)], "site": f"ward-{rng.integers(1, 4)}",
            }  # fmt: skip
            for _ in range(min(int(rng.integers(1, 3)), wanted)):
                begun = datetime(2015, 1, 5) + timedelta(minutes=int(rng.integers(0, 2_000_000)))
                own = {"record_id": f"{len(rows) + 1:05d}", "device": f"MON-{rng.integers(1, 5)}", "acquired_at": begun.isoformat()}
                rows.append(person | own | _findings(rng))
                wanted -= 1
    return rows


def _findings(rng: Generator) -> dict[str, str]:
    """ECG and pulse wave are even or not independently of each other, half of the time each."""
    rate = ("slow", "", "", "fast")[rng.integers(4)]
    rhythm = [("regular", "irregular")[rng.integers(2)], *([rate] if rate else [])]
    pulse = [name for name, share in (("weak", 0.35), ("deficit", 0.25), ("uneven", 0.5)) if rng.random() < share]
    return {"rhythm": ";".join(rhythm), "pulse": ";".join(pulse), "note": "" if rng.random() < 0.02 else _note(rhythm, pulse, rng)}


def _draw(row: dict[str, str], rng: Generator) -> tuple[NDArray[np.float64], str]:
    """Lead II in microvolts and the pulse wave, shape (2, samples), and the rate of the heart in beats a minute."""
    import numpy as np

    from assets.signals.simulated_monitor import Beats, draw_ecg, draw_pulse_wave, draw_rhythm

    rhythm, pulse = set(row["rhythm"].split(";")), set(row["pulse"].split(";"))
    rate = rng.uniform(*((40, 54) if "slow" in rhythm else (110, 140) if "fast" in rhythm else (65, 95)))
    heart = draw_rhythm(rng, _SECONDS, rate, "irregular" in rhythm)
    # Where the pulse is even and the heart is not, or the other way round, the monitor follows something else at the same rate.
    followed = heart if ("uneven" in pulse) == ("irregular" in rhythm) else draw_rhythm(rng, _SECONDS, rate, "uneven" in pulse)
    felt_N = rng.random(len(followed.time_N)) > (0.35 if "deficit" in pulse else 0)
    wave_T = draw_pulse_wave(Beats(followed.time_N[felt_N], followed.early_N[felt_N]), rng, _FS_HZ, _SECONDS)
    height = rng.uniform(0.15, 0.3) if "weak" in pulse else rng.uniform(0.7, 1.0)
    ecg_1T = draw_ecg(heart, rng, _FS_HZ, _SECONDS, gains=(float(rng.uniform(0.7, 1.1)),))
    beats_per_min = 60 * (len(heart.time_N) - 1) / (heart.time_N[-1] - heart.time_N[0])
    return np.stack([ecg_1T[0], np.clip(0.25 + height * (wave_T - 0.25), 0, 1)]), f"{beats_per_min:.2f}"


_ECG_WORDS = {
    "regular": ("rhythm regular on monitor", "ecg regular", "regular rhythm"),
    "irregular": ("rhythm irregular on monitor", "ecg irregular, no pattern", "irregular rhythm"),
    "fast": ("heart rate high", "tachycardic", "heart is fast"),
    "slow": ("heart rate low", "bradycardic", "heart is slow"),
}
_PULSE_WORDS = {
    "weak": ("pulse weak, hands cool", "pleth amplitude small", "weak pulse wave"),
    "deficit": ("pulse deficit, some beats not felt", "not every beat gives a pulse", "missed pulses on pleth"),
    "uneven": ("pulse uneven", "pleth irregular", "pulse comes unevenly"),
}
_AGREEMENT = (
    ("pleth follows the ecg", "ecg and pulse agree", "pulse in step with ecg"),
    ("pleth does not follow the ecg", "ecg and pulse disagree, sensor checked", "pulse out of step with ecg"),
)
_ENDINGS = ("will recheck.", "resting.", "no complaint.", "physician told.", "")


def _note(rhythm: list[str], pulse: list[str], rng: Generator) -> str:
    """A nurse's note: some of what ECG and pulse show, and whether they agree."""
    told = [_ECG_WORDS[name] for name in rhythm if rng.random() < 0.8]
    told += [_PULSE_WORDS[name] for name in pulse if rng.random() < 0.8]
    told.append(_AGREEMENT[("irregular" in rhythm) != ("uneven" in pulse)])
    sentences = [wordings[rng.integers(len(wordings))] for wordings in told]
    return " ".join([". ".join(sentences) + ".", _ENDINGS[rng.integers(len(_ENDINGS))]]).strip()
