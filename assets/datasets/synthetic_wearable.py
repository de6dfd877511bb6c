"""Synthetic wearable: six signals of a chest strap of people at rest, under stress and amused, one minute each.

    waves/<record_id>.hea, .dat    WFDB format 212, 70 Hz, 60 s: ECG and EMG in mV, EDA in uS, RESP in %, TEMP in degC, ACC in g
    records.csv                    one row a record: identifiers, fold, age, sex, device, condition, second of the session at which it begins
    dataset.json                   seed, number of people, version of this layout

Every person has the three conditions once, stress before or after amusement. In each signal the condition moves a rate, a level or an
amplitude, and the person moves it too, as if each had a body and a strap of their own. What is not labelled between conditions is not
there. The same seed gives the same bytes. Invented; it says nothing about medicine.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.affect_tasks import AFFECT_TASKS, AFFECTS, affect_table
from assets.dataset import RECORD_COLUMNS, Channel, Dataset, DatasetError, Source, Split, Task
from assets.record import Record, RecordError
from assets.simulated_folders import fill_folder, own_source, wave_files
from assets.splits import patient
from assets.tables import read_table, some, write_table
from models.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

DEFAULT_PEOPLE = 6
FORMAT_VERSION = 1

_FS_HZ, _SECONDS, _PAUSE_S = 70.0, 60.0, 30.0
_COLUMNS = (*RECORD_COLUMNS, "condition", "begins_s")
_CHANNELS = (
    Channel("ECG", "ECG", "uV", 0.5),
    Channel("EDA", "EDA", "uS", 0.001),
    Channel("EMG", "EMG", "uV", 0.5),
    Channel("RESP", "RESP", "%", 0.002),
    Channel("TEMP", "TEMP", "degC", 0.002),
    Channel("ACC", "ACC", "g", 0.00025),
)
_HEADERS = {"ECG": "1000/mV", "EDA": "100/uS", "EMG": "1000/mV", "RESP": "100/%", "TEMP": "40/degC", "ACC": "500/g"}
"""Counts per unit and the unit, as a signal line of the header says them."""

_REMEDY = "generate the dataset again with assets.datasets.synthetic_wearable.generate(folder)"


class SyntheticWearable(Dataset):
    """Simulated chest straps; see the module's docstring for the layout."""

    name: ClassVar[str] = "synthetic_wearable"
    source: ClassVar[Source] = own_source("Synthetic wearable", name)
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = ("ECG",)
    fs_hz: ClassVar[float] = _FS_HZ
    simulated: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = tuple(AFFECT_TASKS)
    split: ClassVar[Split] = Split(train=(1, 2, 3), validation=(4,), test=(5, 6))

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """The six signals; voltages in microvolts."""
        return _CHANNELS

    def prepare(self) -> None:
        """Write the dataset at its default size, unless there is a folder already."""
        if not self.folder.exists():
            generate(self.folder)

    def files(self) -> list[Path]:
        """The table and all signal files, relative to the folder, sorted."""
        self._table()
        return wave_files(self.folder)

    def records(self) -> pd.DataFrame:
        """One row a record, in the order of records.csv. Own column: condition."""
        table = self._table()
        ids = [patient(self.name, published) for published in table["patient_id"]]
        return table[[*RECORD_COLUMNS, "condition"]].assign(patient_id=ids)

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a condition of a person; there is one rate, 70 Hz, whatever `fs_hz` asks for."""
        from assets.readers import read_record

        begins = self._table().set_index("record_id")["begins_s"]
        if record_id not in begins.index:
            raise RecordError("absent", record_id, "is no record of this dataset")
        return dataclasses.replace(read_record(self.folder / "waves" / f"{record_id}.hea"), start_s=float(begins[record_id]))

    def task(self, name: str) -> Task:
        """`affect3`: which of the three conditions a window is from; `stress2`: stress against both others."""
        return AFFECT_TASKS.get(name) or super().task(name)

    def labels(self, task: str) -> pd.DataFrame:
        """One class a window of ten seconds, that of its record.

        Raises:
            ConfigurationError: the dataset has no such task.
            DatasetError: records.csv cannot be read.
        """
        import numpy as np

        table = self._table()
        n_windows = int(_SECONDS // self.window_s)
        rows = table.loc[table.index.repeat(n_windows), ["record_id", "begins_s", "condition"]].reset_index(drop=True)
        rows.insert(1, "start", rows.pop("begins_s") + self.window_s * np.tile(np.arange(n_windows), len(table)))
        return affect_table(rows, self.task(task).name)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write six people, one a fold."""
        generate(folder, seed=seed)

    def _table(self) -> pd.DataFrame:
        """records.csv with every value checked."""
        import pandas as pd

        path = self.folder / "records.csv"
        table = read_table(path, _COLUMNS, _REMEDY)
        fold, age, begins = (pd.to_numeric(table[c], errors="coerce") for c in ("fold", "age", "begins_s"))
        for wrong, what in (
            (~table["record_id"].str.fullmatch(r"P\d+-[a-z]+") | table["record_id"].duplicated(), "no record_id, or one twice"),
            (table["patient_id"] == "", "no patient_id"),
            (fold.isna() | (fold < 1) | (fold % 1 != 0), "a fold that is no whole number above 0"),
            (age.isna(), "an age that is no number"),
            (~table["sex"].isin(["female", "male"]), "a sex other than female and male"),
            (begins.isna() | (begins < 0), "a beginning that is no second"),
            (~table["condition"].isin(AFFECTS), f"a condition other than {', '.join(AFFECTS)}"),
        ):
            if wrong.any():
                raise DatasetError(f"{path} holds {what}: records {some(table['record_id'][wrong].tolist())}; {_REMEDY}")
        return table.assign(fold=fold.astype(int), age=age.astype(float), begins_s=begins.astype(float))


def generate(folder: Path, n_people: int = DEFAULT_PEOPLE, seed: int = 0) -> None:
    """Write the dataset into a folder that is empty or not there yet, all of it or nothing; people beyond six share their folds.

    Raises:
        ConfigurationError: fewer people than folds.
        DatasetError: the folder holds something already.
    """
    if n_people < DEFAULT_PEOPLE:
        raise ConfigurationError(f"{n_people} people do not fill {DEFAULT_PEOPLE} folds; ask for at least {DEFAULT_PEOPLE}")
    fill_folder(folder, lambda partial: _write(partial, n_people, seed))


def _write(folder: Path, n_people: int, seed: int) -> None:
    import numpy as np

    from assets.readers.mit_write import Signal, write_signals

    signals = [Signal(_HEADERS[c.name], c.name) for c in _CHANNELS]
    gain_L1 = np.array([[float(_HEADERS[c.name].partition("/")[0])] for c in _CHANNELS])
    rows: list[dict[str, str]] = []
    for person in range(n_people):
        rng = np.random.default_rng([seed, person])
        about = {
            "patient_id": f"P{person + 1:02d}", "fold": str(person % DEFAULT_PEOPLE + 1), "age": str(int(rng.integers(24, 36))),
            "sex": ("female", "male")[rng.integers(2)], "site": "", "device": "synthetic chest strap", "acquired_at": "",
        }  # fmt: skip
        body = rng.uniform(-1, 1, len(_CHANNELS))
        order = ("baseline", "stress", "amusement") if person % 2 else ("baseline", "amusement", "stress")
        for place, condition in enumerate(order):
            record_id = f"{about['patient_id']}-{condition}"
            counts_LT = np.clip(np.rint(_draw(condition, body, rng) * gain_L1), -2048, 2047).astype(np.int64)
            write_signals(folder / "waves", record_id, 212, counts_LT, signals, f"{_FS_HZ:g}")
            rows.append({"record_id": record_id, **about, "condition": condition, "begins_s": f"{place * (_SECONDS + _PAUSE_S):g}"})
    write_table(folder / "records.csv", _COLUMNS, rows)
    facts = {"name": SyntheticWearable.name, "format_version": FORMAT_VERSION, "seed": seed, "n_people": n_people}
    (folder / "dataset.json").write_text(json.dumps(facts, indent=1) + "\n")


def _draw(condition: str, body_L: NDArray[Any], rng: Generator) -> NDArray[np.float64]:
    """The six signals in the header's units, shape (6, T). `body_L` is what the person adds to each, between -1 and 1."""
    import numpy as np

    excited = {"baseline": 0.0, "amusement": 0.5, "stress": 1.0}[condition]
    ecg, eda, emg, resp, temp, acc = body_L
    time_T = np.arange(int(_FS_HZ * _SECONDS)) / _FS_HZ
    noise_LT = rng.standard_normal((len(_CHANNELS), len(time_T)))
    phase_T = time_T * (1.0 + 0.7 * excited + 0.1 * ecg) % 1.0
    waves = ((0.12, 0.3, 0.04), (1.1, 0.5, 0.02), (0.25, 0.75, 0.06))
    return np.stack([
        sum((a * np.exp(-0.5 * ((phase_T - at) / width) ** 2) for a, at, width in waves), 0.02 * noise_LT[0]),
        4.0 + 3.0 * excited + 1.0 * eda + 0.3 * np.sin(time_T / 8) + 0.05 * noise_LT[1],
        (0.05 + 0.15 * excited + 0.01 * emg) * noise_LT[2],
        (4.0 + 0.5 * resp) * np.sin(2 * np.pi * (0.2 + 0.25 * excited) * time_T) + 0.2 * noise_LT[3],
        33.5 - 1.5 * excited + 0.5 * temp + 0.05 * np.sin(time_T / 12) + 0.03 * noise_LT[4],
        1.0 + 0.05 * acc + (0.02 + 0.1 * excited) * np.sin(2 * np.pi * 1.5 * time_T) + 0.02 * noise_LT[5],
    ])  # fmt: skip
