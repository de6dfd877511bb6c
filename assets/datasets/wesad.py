"""WESAD: chest-worn sensors of 15 people at rest, under stress, amused and meditating (Schmidt et al. 2018).

Layout of the original download, of which any part may be there; the dataset's folder is the one that holds S2:

    S2/S2.pkl           both devices, synchronised, with the protocol's label of every chest sample
    S2/S2_quest.csv     order and times of the protocol, questionnaires
    S2/S2_readme.txt    age, height, weight, gender
    S2/S2_E4_Data.zip, S2/S2_respiban.txt    the devices' own exports, which are not read

Subjects are S2 to S11 and S13 to S17. A record is one condition of one subject: the stretch that one label covers without a break.
So no window lies across two conditions, and labels are of windows of ten seconds, each that of its record. What is not labelled baseline, stress,
amusement or meditation is left out, and so are stretches shorter than a window. Their order must be that of the protocol.

Beside the three axes of the accelerometer stands their length, `ACC`, so that each of the six signals is one channel.

The pickles are read by `assets.readers.wesad_pickle`, which runs nothing. One subject's arrays are kept between reads.

Folds are subjects, S2 is fold 1 and S17 fold 15, so leaving one subject out is leaving one fold out. The default split is only one
of many; with 15 people its test figure (two subjects) says little.

Terms: the publisher's own page asks for academic, non-commercial use; the UCI archive, which links there, states CC BY 4.0. Anyone may
download it, so its class is open; keep to the narrower terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from assets.access import Access
from assets.affect_tasks import AFFECT_TASKS, AFFECTS, affect_table
from assets.dataset import Channel, Dataset, DatasetError, Download, Source, Split, Task
from assets.record import Record, RecordError
from assets.splits import patient

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

    from assets.readers.wesad_pickle import Session

SUBJECTS = tuple(f"S{i}" for i in (*range(2, 12), *range(13, 18)))
CONDITIONS = {"baseline": 1, "stress": 2, "amusement": 3, "meditation-1": 4, "meditation-2": 4}
"""Records of a subject and the labels of their samples; the two meditations are numbered in order of time."""

_PARTS = {"Base": 1, "TSST": 2, "Fun": 3, "Medi 1": 4, "Medi 2": 4}
"""Parts of the protocol in `S*_quest.csv` that are labelled; the others are readings of questionnaires."""

_WORDS = {1: "baseline", 2: "stress", 3: "amusement", 4: "meditation"}
_CHANNELS = (
    Channel("ACC_X", "ACC", "g", 0.00025),
    Channel("ACC_Y", "ACC", "g", 0.00025),
    Channel("ACC_Z", "ACC", "g", 0.00025),
    Channel("ECG", "ECG", "uV", 0.1),
    Channel("EMG", "EMG", "uV", 0.1),
    Channel("EDA", "EDA", "uS", 0.001),
    Channel("TEMP", "TEMP", "degC", 0.002),
    Channel("RESP", "RESP", "%", 0.002),
    Channel("ACC", "ACC", "g", 0.00025),
)
"""Scales hold the range of the device's 16-bit converter with room for filters: 6.6 g, 1.5 mV, 25 uS and 50 % of the strap's range."""

_TO_MICROVOLTS = 1000.0
_COLDEST = -273.0
"""What the conversion makes of a temperature sensor without contact; a smaller number is no temperature."""

_LONGEST_TEXT_FILE = 1 << 16


class _Segment(NamedTuple):
    label: int
    first: int
    end: int


class WESAD(Dataset):
    """WESAD as downloaded and unpacked: the chest device, at 700 Hz."""

    name: ClassVar[str] = "wesad"
    source: ClassVar[Source] = Source(
        title="WESAD",
        version="2018",
        homepage="https://archive.ics.uci.edu/dataset/465/wesad+wearable+stress+and+affect+detection",
        licence="academic, non-commercial use (publisher); CC BY 4.0 (UCI archive)",
        terms="Free to download; for academic research and other non-commercial purposes, with citation.",
        citation="Schmidt et al., Introducing WESAD, a multimodal dataset for wearable stress and affect detection, ICMI 2018, doi:10.1145/3242969.3242985",
        download=Download(
            checksums="",
            n_bytes=17_000_000_000,
            credentials="manual",
            directions=(
                "The UCI archive holds only a link. Get WESAD.zip (2.1 GB) from https://uni-siegen.sciebo.de/s/HGdUkoNlW1Ub0Gx, unpack it,"
                " and name the folder WESAD, which holds S2 to S17, in settings.yaml as `datasets.wesad`."
            ),
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = ("ECG",)
    fs_hz: ClassVar[float] = 700.0
    task_names: ClassVar[tuple[str, ...]] = tuple(AFFECT_TASKS)
    split: ClassVar[Split] = Split(train=tuple(range(1, 12)), validation=(12, 13), test=(14, 15))
    version: ClassVar[str] = "2"
    quarantine_limit: ClassVar[float] = 0.07  # five of 75: one subject

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._held: tuple[str, Session] | None = None

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """The signals of the chest device, voltages in microvolts, and the length of the acceleration."""
        return _CHANNELS

    def files(self) -> list[Path]:
        """Pickles, protocols and descriptions of the subjects that are there.

        Raises:
            DatasetError: not one subject is there.
        """
        named = [Path(s) / f"{s}{ending}" for s in SUBJECTS for ending in (".pkl", "_quest.csv", "_readme.txt")]
        found = sorted(path for path in named if (self.folder / path).is_file())
        if not found:
            raise DatasetError(f"{self.folder} holds no subject of WESAD (S2/S2.pkl ...); name the folder that does, or download it")
        return found

    def records(self) -> pd.DataFrame:
        """Five conditions of each of the 15 subjects, whether they are there or not. Own column: condition."""
        import pandas as pd

        rows = []
        for fold, subject in enumerate(SUBJECTS, start=1):
            age, sex = self._person(subject)
            rows += [
                {
                    "record_id": f"{subject}-{condition}",
                    "patient_id": patient(self.name, subject),
                    "fold": fold,
                    "age": age,
                    "sex": sex,
                    "site": "",
                    "device": "RespiBAN Professional",
                    "acquired_at": "",
                    "condition": condition.partition("-")[0],
                }
                for condition in CONDITIONS
            ]
        return pd.DataFrame(rows)

    def present(self, record_ids: list[str]) -> list[bool]:
        """Whose pickle is there."""
        there = {s for s in SUBJECTS if self._pickle(s).is_file()}
        return [r.partition("-")[0] in there for r in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a condition; its `start_s` is counted from the beginning of the subject's recording. There is one rate only.

        Raises:
            RecordError: reasons protocol_mismatch (labels do not follow the protocol), bad_protocol, wrong_subject, those of
                `assets.readers.wesad_pickle`, and "absent" when the subject is not there.
        """
        import numpy as np

        subject, _, condition = record_id.partition("-")
        if subject not in SUBJECTS or condition not in CONDITIONS:
            raise RecordError("absent", self.folder, f"has no record {record_id!r}")
        session = self._session(subject)
        segment = self._segments(subject, session)[condition]
        signal_LT = np.empty((len(_CHANNELS), segment.end - segment.first), np.float32)
        for row_T, channel in zip(signal_LT[:-1], _CHANNELS[:-1], strict=True):
            factor = _TO_MICROVOLTS if channel.unit == "uV" else 1.0
            row_T[:] = session.signals[channel.name][segment.first : segment.end] * factor
            if channel.kind == "TEMP":
                row_T[row_T <= _COLDEST] = np.nan
        signal_LT[-1] = magnitude(signal_LT[:3])
        return Record(
            signal_LT=signal_LT,
            leads=tuple(c.name for c in _CHANNELS),
            fs_hz=self.fs_hz,
            units=tuple(c.unit for c in _CHANNELS),
            source_checksum=session.source_checksum,
            start_s=segment.first / self.fs_hz,
        )

    def task(self, name: str) -> Task:
        """`affect3`: baseline, stress or amusement; `stress2`: stress against both others. Meditation has no label."""
        return AFFECT_TASKS.get(name) or super().task(name)

    def labels(self, task: str) -> pd.DataFrame:
        """One class a window, that of its condition. Subjects whose pickle is not there or cannot be used have none; the store names them.

        Raises:
            ConfigurationError: the dataset has no such task.
            DatasetError: there is no subject that can be read.
        """
        import pandas as pd

        asked, rows = self.task(task), []
        for subject in SUBJECTS:
            try:
                segments = self._segments(subject, self._session(subject))
            except RecordError:
                continue
            rows += [
                {"record_id": f"{subject}-{condition}", "start": start_s, "condition": condition}
                for condition, segment in segments.items()
                if condition in AFFECTS
                for start_s in self.window_starts(segment.first, segment.end)
            ]
        if not rows:
            raise DatasetError(f"{self.folder} holds no subject of WESAD whose pickle can be read, so there is no label; get S2/S2.pkl ...")
        return affect_table(pd.DataFrame(rows), asked.name)

    @classmethod
    def window_starts(cls, first: int, end: int) -> list[float]:
        """Seconds at which the windows of a stretch begin, counted from the recording's beginning: floor((n - T) / T) + 1 of T samples."""
        n_windows = (end - first) // round(cls.window_s * cls.fs_hz)
        return [first / cls.fs_hz + k * cls.window_s for k in range(n_windows)]

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Invented sessions of 11 subjects; one lacks its pickle, one wrote it in Python 2's text form as the originals are."""
        _write_fixture(folder, seed)

    def _pickle(self, subject: str) -> Path:
        return self.folder / subject / f"{subject}.pkl"

    def _session(self, subject: str) -> Session:
        """A subject's arrays; those of the last subject are kept."""
        from assets.readers.wesad_pickle import read_wesad_pickle

        if self._held is None or self._held[0] != subject:
            self._held = None
            session = read_wesad_pickle(self._pickle(subject))
            if session.subject != subject:
                raise RecordError(
                    "wrong_subject", self._pickle(subject), f"holds subject {session.subject[:20]!r}; restore the original file"
                )
            self._held = subject, session
        return self._held[1]

    def _segments(self, subject: str, session: Session) -> dict[str, _Segment]:
        """The conditions of a subject."""
        found = [s for s in _runs(session.label_T) if s.label in _WORDS and s.end - s.first >= self.window_s * self.fs_hz]
        order, expected = [s.label for s in found], self._protocol(subject)
        if order != expected if expected else sorted(order) != sorted(CONDITIONS.values()):
            said = ", ".join(_WORDS[c] for c in order) or "nothing"
            due = ", ".join(_WORDS[c] for c in expected or CONDITIONS.values())
            raise RecordError(
                "protocol_mismatch", self._pickle(subject), f"its labels say {said} where the session was {due}; restore the original files"
            )
        remaining = {label: iter([s for s in found if s.label == label]) for label in _WORDS}
        return {condition: next(remaining[label]) for condition, label in CONDITIONS.items()}

    def _protocol(self, subject: str) -> list[int]:
        """Labels in the order in which the subject's session had them; empty where its table is not there."""
        path = self.folder / subject / f"{subject}_quest.csv"
        lines = {words[0]: words[1:] for words in (line.split(";") for line in _text(path).splitlines()) if len(words) > 1}
        if not lines:
            return []
        parts, starts = lines.get("# ORDER", []), lines.get("# START", [])
        try:
            return [label for _, label in sorted((float(t), _PARTS[p]) for p, t in zip(parts, starts, strict=False) if p in _PARTS)]
        except ValueError as error:
            raise RecordError("bad_protocol", path, f"has a start that is no time ({error}); restore the original file") from error

    def _person(self, subject: str) -> tuple[float, str]:
        """Age and sex, NaN and "unknown" where the description is not there or silent."""
        text = _text(self.folder / subject / f"{subject}_readme.txt")
        age = re.search(r"^Age: *([0-9]{1,3})\s*$", text, re.MULTILINE)
        sex = re.search(r"^Gender: *(female|male)\s*$", text, re.MULTILINE)
        return float(age[1]) if age else float("nan"), sex[1] if sex else "unknown"


def magnitude(axes_3T: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Length of the acceleration at each sample, (T,), from its three axes (3, T)."""
    import numpy as np

    length_T: NDArray[np.float32] = np.sqrt(np.square(axes_3T, dtype=np.float32).sum(axis=0))
    return length_T


def _text(path: Path) -> str:
    """A small text file, "" where there is none."""
    try:
        with path.open("rb") as stream:
            return stream.read(_LONGEST_TEXT_FILE).decode("latin-1")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}); check its permissions and its disk") from error


def _runs(label_T: NDArray[np.integer[Any]]) -> Iterator[_Segment]:
    """Stretches of one label, in order."""
    import numpy as np

    edges = [0, *(np.flatnonzero(np.diff(label_T)) + 1).tolist(), len(label_T)]
    for first, end in pairwise(edges):
        if end > first:
            yield _Segment(int(label_T[first]), first, end)


_FIXTURE_SUBJECTS = ("S2", "S3", "S4", "S5", "S6", "S9", "S11", "S14", "S15", "S16", "S17")
_WITHOUT_PICKLE = "S9"
_IN_TEXT_FORM = "S3"
_STRETCH_S = 10.2


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    for number, subject in enumerate(_FIXTURE_SUBJECTS):
        (folder / subject).mkdir(parents=True, exist_ok=True)
        stress_first = number % 2 == 0
        order = ("Base", "TSST", "Medi 1", "Fun", "Medi 2") if stress_first else ("Base", "Fun", "Medi 1", "TSST", "Medi 2")
        cells = "".join(f";{2 + 15 * i}.{number:02d}" for i in range(len(order)))
        ends = "".join(f";{12 + 15 * i}.5" for i in range(len(order)))
        (folder / subject / f"{subject}_quest.csv").write_text(
            f"# Subj;{subject}\n# ORDER;{';'.join(order)};bRead\n# START{cells};14\n# END{ends};15\n;;\n# STAI;2;1\n"
        )
        (folder / subject / f"{subject}_readme.txt").write_text(
            f"### Personal information ###\nAge: {24 + number}\nHeight (cm): 17{number % 10}\nGender: {('male', 'female')[number % 2]}\n"
        )
        if subject != _WITHOUT_PICKLE:
            labels = [0, *(v for part in order for v in (_PARTS[part], 0)), 7]
            data = _session_pickle(subject, labels, rng, text=subject == _IN_TEXT_FORM)
            (folder / subject / f"{subject}.pkl").write_bytes(data)


def _session_pickle(subject: str, labels: list[int], rng: Generator, text: bool) -> bytes:
    """A session as Python 2 would pickle it: stretches of the labels, the unlabelled ones of a quarter of a second."""
    import numpy as np

    fs_hz = int(WESAD.fs_hz)
    lengths = [round(_STRETCH_S * fs_hz) if label in _WORDS else fs_hz // 4 for label in labels]
    label_T = np.repeat(np.array(labels, np.int32), lengths)
    time_T = np.arange(len(label_T)) / fs_hz
    excited_T = np.isin(label_T, (2, 3)) * np.where(label_T == 2, 1.0, 0.4)
    phase_T = np.cumsum(1.05 + 0.5 * excited_T) / fs_hz % 1.0
    waves = np.array([(0.1, 0.3, 0.03), (1.1, 0.5, 0.012), (0.25, 0.75, 0.05)])
    ecg_T = sum((a * np.exp(-0.5 * ((phase_T - at) / w) ** 2) for a, at, w in waves), np.zeros(len(time_T)))

    def column(values_T: NDArray[Any], noise: float, step: float) -> NDArray[np.float64]:
        return (np.rint((values_T + noise * rng.standard_normal(len(time_T))) / step) * step)[:, None]

    zeros_T = np.zeros(len(time_T))
    temperature_T = 33.5 + rng.uniform(0, 1) - 0.1 * excited_T
    if subject == "S5":
        temperature_T[20_000:20_003] = -273.15  # a sensor without contact
    chest = {
        "ACC": np.concatenate([column(zeros_T + g, 0.01, 2e-4) for g in (0.9, 0.05, -0.3)], axis=1),
        "ECG": column(ecg_T, 0.01, 3 / 65536),
        "EMG": column(zeros_T, 0.01, 3 / 65536),
        "EDA": column(2 + excited_T + 0.2 * np.sin(time_T / 9), 0.002, 25 / 65536),
        "Temp": column(temperature_T, 0.01, 0.0015).astype(np.float32),
        "Resp": column(4 * np.sin(2 * np.pi * (0.25 + 0.1 * excited_T) * time_T), 0.05, 100 / 65536),
    }
    wrist = {"BVP": rng.standard_normal((64, 1)), "ACC": rng.standard_normal((32, 3))}
    return _pickled({"signal": {"chest": chest, "wrist": wrist}, "label": label_T, "subject": subject}, text) + b"."


def _pickled(value: Any, text: bool) -> bytes:
    """A value as Python 2 and NumPy 1 pickle it. Samples are text between quotes (protocol 0) or binary (protocol 2)."""
    if isinstance(value, dict):
        return b"(" + b"".join(_pickled(k, text) + _pickled(v, text) for k, v in value.items()) + b"d"
    if isinstance(value, str):
        return f"S'{value}'\n".encode()
    data = value.tobytes()
    samples = b"S" + repr(data)[1:].encode() + b"\n" if text else b"T" + len(data).to_bytes(4, "little") + data
    shape = "".join(f"I{n}\n" for n in value.shape)
    dtype = f"cnumpy\ndtype\n(S'{value.dtype.str[1:]}'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    head = f"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n({shape}t{dtype}I00\n"
    return head.encode() + samples + b"tb"
