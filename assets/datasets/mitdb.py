"""MIT-BIH Arrhythmia Database: 48 half-hour Holter recordings of 47 people, every beat annotated (Moody and Mark 2001).

Layout of the original download, of which any part may be there:

    RECORDS               names of the 48 recordings
    100.hea 100.dat       two leads, 360 Hz, signal format 212
    100.atr               beats, changes of rhythm and of quality, by two cardiologists

Leads vary: MLII and V1 in 40 recordings, MLII with V2, V4 or V5 in five, V5 and V2 in 102 and 104, and V5 before MLII in 114. They are
taken by name, so a recording has two of the store's five channels; the others are zeros and flagged.

Recordings 201 and 202 were cut from one tape and are one patient. The column de_chazal says where the published inter-patient
split has a recording ("DS1" to train, "DS2" to test, "paced" neither; de Chazal et al. 2004). That split has 201 in DS1 and 202 in
DS2, so this one person is on both sides of it. Folds, by hash of the patient, do not follow it. `x_mitdb`, which repeats 23 of the
recordings, is not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.dataset import Dataset, DatasetError, Download, Source
from assets.record import Annotations, Record, RecordError
from assets.splits import fold_of, patient

if TYPE_CHECKING:
    import pandas as pd

DS1 = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122",
    "124", "201", "203", "205", "207", "208", "209", "215", "220", "223", "230",
)  # fmt: skip
DS2 = (
    "100", "103", "105", "111", "113", "117", "121", "123", "200", "202", "210",
    "212", "213", "214", "219", "221", "222", "228", "231", "232", "233", "234",
)  # fmt: skip
PACED = ("102", "104", "107", "217")
RECORDS = tuple(sorted((*DS1, *DS2, *PACED)))

_SAME_PERSON = {"202": "201"}
_ENDINGS = (".atr", ".dat", ".hea")


class MITDB(Dataset):
    """The MIT-BIH Arrhythmia Database as downloaded."""

    name: ClassVar[str] = "mitdb"
    source: ClassVar[Source] = Source(
        title="MIT-BIH Arrhythmia Database",
        version="1.0.0",
        homepage="https://physionet.org/content/mitdb/1.0.0/",
        licence="ODC-By 1.0",
        terms="Free to download from PhysioNet without an account.",
        citation="Moody and Mark, The impact of the MIT-BIH Arrhythmia Database, IEEE Eng Med Biol 20(3):45-50 (2001), doi:10.13026/C2F305",
        download=Download(
            s3="s3://physionet-open/mitdb/1.0.0/",
            https="https://physionet.org/files/mitdb/1.0.0/",
            n_bytes=110_000_000,
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = ("MLII", "V1", "V2", "V4", "V5")
    fs_hz: ClassVar[float] = 360.0
    required_channels: ClassVar[tuple[str, ...] | None] = ()
    has_beats: ClassVar[bool] = True

    def files(self) -> list[Path]:
        """Headers, signals and annotations of the 48 recordings that are there, and their list.

        Raises:
            DatasetError: not one recording is there.
        """
        there = {p.name for p in self.folder.iterdir() if p.is_file()} if self.folder.is_dir() else set()
        if not there & {f"{r}.hea" for r in RECORDS}:
            raise DatasetError(f"{self.folder} holds no recording of the MIT-BIH Arrhythmia Database (100.hea ...); download it")
        return sorted(Path(n) for n in there & {"RECORDS", *(r + e for r in RECORDS for e in _ENDINGS)})

    def records(self) -> pd.DataFrame:
        """The 48 recordings, whether they are there or not; ages and sexes from headers. Own column: de_chazal."""
        import pandas as pd

        from assets.holter import person

        patients = [patient("mitdb", _SAME_PERSON.get(r, r)) for r in RECORDS]
        people = [person(self.folder / f"{r}.hea") for r in RECORDS]
        return pd.DataFrame(
            {
                "record_id": RECORDS,
                "patient_id": patients,
                "fold": [fold_of(p) for p in patients],
                "age": [age for age, _ in people],
                "sex": [sex for _, sex in people],
                "site": "Beth Israel Hospital",
                "device": "Del Mar Avionics 445",
                "acquired_at": "",
                "de_chazal": ["DS1" if r in DS1 else "DS2" if r in DS2 else "paced" for r in RECORDS],
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which recordings have a header."""
        return [(self.folder / f"{r}.hea").is_file() for r in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording of half an hour; there is one rate only."""
        from assets.readers import read_record

        return read_record(self._stem(record_id).with_suffix(".hea"))

    def beats(self, record_id: str) -> Annotations:
        """Beats of the reference annotations, sample numbers at 360 Hz; other annotations are left out."""
        from assets.holter import beats_of
        from assets.readers.annotations import read_annotations

        return beats_of(read_annotations(self._stem(record_id), "atr"))

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Twenty seconds of each recording but one, with their leads."""
        _write_fixture(folder, seed)

    def _stem(self, record_id: str) -> Path:
        if record_id not in RECORDS:
            raise RecordError("absent", self.folder, f"the MIT-BIH Arrhythmia Database has no recording {record_id!r}")
        return self.folder / record_id


_OTHER_LEADS = {
    "100": ("MLII", "V5"), "123": ("MLII", "V5"), "103": ("MLII", "V2"), "117": ("MLII", "V2"), "124": ("MLII", "V4"),
    "102": ("V5", "V2"), "104": ("V5", "V2"), "114": ("V5", "MLII"),
}  # fmt: skip
_NOT_THERE = "234"
_SECONDS = 20.0


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    from assets.readers.mit_write import Signal, write_annotations, write_signals
    from assets.signals.simulated_monitor import draw_beats, draw_ecg

    rng = np.random.default_rng(seed)
    fs_hz = MITDB.fs_hz
    for number, name in enumerate(RECORDS):
        beats = draw_beats(rng, _SECONDS, early=0.15 if name in DS1 else 0.0)
        signal_LT = draw_ecg(beats, rng, fs_hz, _SECONDS, gains=(1.0, -0.5 if number % 2 else 0.6))
        if name == _NOT_THERE:
            continue
        signals = [Signal("200", lead, zero=1024, bits=11) for lead in _OTHER_LEADS.get(name, ("MLII", "V1"))]
        counts_LT = np.rint(signal_LT / 5).astype(int) + 1024
        who = f" {-1 if name == '103' else 24 + number} {'MF'[number % 2]} {1000 + number} 654 x1"
        write_signals(folder, name, 212, counts_LT, signals, "360", [who, " Digoxin"])
        samples = np.rint(beats.time_N * fs_hz).astype(int).tolist()
        symbols = ["V" if early else "/" if name in PACED else "N" for early in beats.early_N]
        write_annotations(folder / f"{name}.atr", [5, *samples], ["+", *symbols], ["(N", *([""] * len(samples))])
    (folder / "RECORDS").write_text("".join(f"{name}\n" for name in RECORDS))
