"""QT Database: 105 excerpts of 15 minutes from Holter recordings, chosen for their variety of waves (Laguna et al. 1997).

Layout of the original download, of which any part may be there:

    RECORDS                   names of the 105 recordings
    sel100.hea sel100.dat     two leads, 250 Hz, signal format 212
    sel100.atr                beats as the source database has them, for 82 recordings; the sudden deaths have none
    sel100.q1c, .q2c, .man, .pu0, .pu1, ...    outlines of waves: by hand for 30 to 100 beats at the end, by program for all

Every recording is a part of one in another database, most under its old name behind "sel"; patients carry the name of that database, so
sel100 and recording 100 of `mitdb` are one person in one fold. Four of the European ST-T recordings are two people (by age, sex,
recorder and drugs in that database's headers). The supraventricular and ST-change databases say nothing of their patients.

Leads. 57 recordings call theirs ECG1 and ECG2, the others have 19 pairs of names in either order (MLII, V1, CM5, D3, V4, ...). The store
has them by place, as ECG1 and ECG2; what a header calls them stands in the columns lead_1 and lead_2.

Amplitudes. Ten recordings (those of the long-term database, and six of the supraventricular) state a gain of 0, which means not
calibrated; they are refused, for a store is in microvolts. Gains of the sudden deaths are estimates. In sel100, sel102, sel103 and
sel104 a baseline of 0 stands beside a converter zero of 1024, which puts the signal 5.12 mV too high; that is taken back.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.dataset import Dataset, DatasetError, Download, Source
from assets.record import Annotations, Record, RecordError
from assets.splits import fold_of, patient

if TYPE_CHECKING:
    import pandas as pd

SOURCES: dict[str, tuple[str, ...]] = {
    "mitdb": ("100", "102", "103", "104", "114", "116", "117", "123", "213", "221", "223", "230", "231", "232", "233"),
    "stdb": ("301", "302", "306", "307", "308", "310"),
    "svdb": ("803", "808", "811", "820", "821", "840", "847", "853", "871", "872", "873", "883", "891"),
    "nsrdb": ("16265", "16272", "16273", "16420", "16483", "16539", "16773", "16786", "16795", "17453"),
    "ltdb": ("14046", "14157", "14172", "15814"),
    "edb": (
        "e0104", "e0106", "e0107", "e0110", "e0111", "e0112", "e0114", "e0116", "e0121", "e0122", "e0124", "e0126",
        "e0129", "e0133", "e0136", "e0166", "e0170", "e0203", "e0210", "e0211", "e0303", "e0405", "e0406", "e0409",
        "e0411", "e0509", "e0603", "e0604", "e0606", "e0607", "e0609", "e0612", "e0704",
    ),
    "sddb": (*(str(i) for i in range(30, 53)), "17152"),
}  # fmt: skip
"""Databases that recordings were cut from, and their names there. 17152 is a control of the sudden deaths, published nowhere else."""

RECORDS: dict[str, tuple[str, str]] = dict(
    sorted((f"sel{name}", (database, name)) for database, names in SOURCES.items() for name in names)
)
"""Record id to source database and name there."""

UNCALIBRATED = frozenset(f"sel{i}" for i in (*SOURCES["ltdb"], 820, 821, 847, 853, 883, 891))
"""Recordings whose headers state a gain of 0."""

_SAME_PERSON = {"e0122": "e0121", "e0126": "e0124"}
_RAISED = frozenset({"sel100", "sel102", "sel103", "sel104"})
_RAISED_UV = 1024 / 200 * 1000
_ENDINGS = (".atr", ".dat", ".hea")
_HEADER_BYTES = 1 << 16


class QTDB(Dataset):
    """The QT Database as downloaded."""

    name: ClassVar[str] = "qtdb"
    source: ClassVar[Source] = Source(
        title="QT Database",
        version="1.0.0",
        homepage="https://physionet.org/content/qtdb/1.0.0/",
        licence="ODC-By 1.0",
        terms="Free to download from PhysioNet without an account.",
        citation="Laguna et al., A database for evaluation of algorithms for measurement of QT and other waveform intervals in the ECG, Computers in Cardiology 24:673-676 (1997), doi:10.13026/C24K53",
        download=Download(
            s3="s3://physionet-open/qtdb/1.0.0/",
            https="https://physionet.org/files/qtdb/1.0.0/",
            n_bytes=90_000_000,
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = ("ECG1", "ECG2")
    fs_hz: ClassVar[float] = 250.0
    has_beats: ClassVar[bool] = True
    quarantine_limit: ClassVar[float] = 0.1  # ten of 105 are not calibrated

    def files(self) -> list[Path]:
        """Headers, signals and beats of the 105 recordings that are there, and their list.

        Raises:
            DatasetError: not one recording is there.
        """
        if not self._there & {f"{r}.hea" for r in RECORDS}:
            raise DatasetError(f"{self.folder} holds no recording of the QT Database (sel100.hea ...); download it")
        return sorted(Path(n) for n in self._there & {"RECORDS", *(r + e for r in RECORDS for e in _ENDINGS)})

    def records(self) -> pd.DataFrame:
        """The 105 recordings, whether they are there or not. Own columns: source (database), lead_1, lead_2 ("" without a header)."""
        import pandas as pd

        from assets.holter import person

        patients = [patient(database, _SAME_PERSON.get(name, name)) for database, name in RECORDS.values()]
        people = [person(self.folder / f"{r}.hea") for r in RECORDS]
        leads = [self._lead_names(r) for r in RECORDS]
        return pd.DataFrame(
            {
                "record_id": list(RECORDS),
                "patient_id": patients,
                "fold": [fold_of(p) for p in patients],
                "age": [age for age, _ in people],
                "sex": [sex for _, sex in people],
                "site": "",
                "device": "",
                "acquired_at": "",
                "source": [database for database, _ in RECORDS.values()],
                "lead_1": [first for first, _ in leads],
                "lead_2": [second for _, second in leads],
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which recordings have a header."""
        return [f"{r}.hea" in self._there for r in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording of 15 minutes; there is one rate only.

        Raises:
            RecordError: reason lead_count where it has other than two leads; zero_gain for those that are not calibrated.
        """
        from assets.readers import read_record

        stem = self._stem(record_id)
        record = read_record(stem.with_suffix(".hea"))
        if len(record.leads) != len(self.leads):
            raise RecordError("lead_count", stem.with_suffix(".hea"), f"has {len(record.leads)} leads, not 2; restore the original file")
        signal_LT = record.signal_LT - _RAISED_UV if record_id in _RAISED else record.signal_LT
        return replace(record, signal_LT=signal_LT, leads=self.leads)

    def beats(self, record_id: str) -> Annotations:
        """Beats as the source database annotated them, sample numbers at 250 Hz.

        Raises:
            RecordError: reason "absent" for the recordings without such annotations.
        """
        from assets.holter import beats_of
        from assets.readers.annotations import read_annotations

        return beats_of(read_annotations(self._stem(record_id), "atr"))

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Twenty seconds of 42 recordings; one is not calibrated, one is damaged."""
        _write_fixture(folder, seed)

    @cached_property
    def _there(self) -> set[str]:
        return {p.name for p in self.folder.iterdir() if p.is_file()} if self.folder.is_dir() else set()

    def _stem(self, record_id: str) -> Path:
        if record_id not in RECORDS:
            raise RecordError("absent", self.folder, f"the QT Database has no recording {record_id!r}")
        return self.folder / record_id

    def _lead_names(self, record_id: str) -> tuple[str, str]:
        """What a header calls its leads."""
        if f"{record_id}.hea" not in self._there:
            return "", ""
        with (self.folder / f"{record_id}.hea").open("rb") as stream:
            lines = stream.read(_HEADER_BYTES).decode("latin-1").splitlines()[1:3]
        names = [" ".join(line.split()[8:]) for line in lines]
        return (names[0], names[1]) if len(names) == len(self.leads) else ("", "")


_FIXTURE_SOURCES = {"mitdb": 15, "stdb": 3, "svdb": 4, "nsrdb": 4, "edb": 12, "sddb": 4}
"""Recordings of each source in the imitation; the fourth of svdb is not calibrated."""

_DAMAGED = "sel233"
_SECONDS = 20.0
_DELAY = 7
"""Samples that the sudden deaths are shorter than the others, as in the original."""


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    from assets.readers.mit_write import Signal, write_annotations, write_signals
    from assets.signals.simulated_monitor import draw_beats, draw_ecg

    rng = np.random.default_rng(seed)
    fs_hz = QTDB.fs_hz
    names = [f"sel{name}" for database, n in _FIXTURE_SOURCES.items() for name in SOURCES[database][:n]]
    for number, record_id in enumerate(names):
        database, name = RECORDS[record_id]
        beats = draw_beats(rng, _SECONDS, early=0.1 if number % 3 == 0 else 0.0)
        counts_LT = np.rint(draw_ecg(beats, rng, fs_hz, _SECONDS, gains=(1.0, 0.5)) / 5).astype(int)
        gain, zero, rate, comments = "200", 0, "250", [f"Produced by xform from record {name}, beginning at 7:00.000"]
        leads = ("ECG1", "ECG2")
        if database == "mitdb":
            gain, zero, rate, leads = "200(0)" if record_id in _RAISED else "200", 1024, "250/360", ("MLII", "V1")
            comments.insert(0, f" {40 + number} {'MF'[number % 2]} 10{number:02d} 1629 x1")
        elif database == "edb":
            leads = ("D3", "V4") if number % 2 else ("V4", "D3")
            comments.insert(0, f"Age: {40 + number}  Sex: {'MF'[number % 2]}")
        elif record_id in UNCALIBRATED:
            gain = "0"
        elif database == "sddb":
            counts_LT = counts_LT[:, :-_DELAY]
        signals = [Signal(gain, lead, zero=zero, bits=11 if zero else 12) for lead in leads]
        write_signals(folder, record_id, 212, counts_LT + zero, signals, rate, comments)
        if database != "sddb":
            samples = np.rint(beats.time_N * fs_hz).astype(int).tolist()
            symbols = ["V" if early else "N" for early in beats.early_N]
            write_annotations(folder / f"{record_id}.atr", [3, *samples], ["+", *symbols], ["(N", *([""] * len(samples))])
    damaged = bytearray((folder / f"{_DAMAGED}.dat").read_bytes())
    damaged[3000] ^= 0x10
    (folder / f"{_DAMAGED}.dat").write_bytes(damaged)
    (folder / "RECORDS").write_text("".join(f"{name}\n" for name in RECORDS))
