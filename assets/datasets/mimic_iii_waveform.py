"""MIMIC-III Waveform Database, Matched Subset: bedside monitors of 10,282 people in intensive care (Moody et al. 2020).

Layout of the original download, of which any part may be there:

    RECORDS-waveforms                                names of the 22,317 recordings, "p00/p000020/p000020-2183-04-28-17-47"
    p00/p000020/p000020-2183-04-28-17-47.hea         a recording: its segments in order, "~" where nothing was recorded
    p00/p000020/3544749_layout.hea                   all signals of its segments
    p00/p000020/3544749_0001.hea, 3544749_0001.dat   a segment: signals that do not change, signal format 80, 125 Hz
    p00/p000020/p000020-2183-04-28-17-47n.hea, 3544749n.dat   numbers of the monitor once a minute, which are not read

Without RECORDS-waveforms the headers that are there are the recordings, so one patient's folder is enough.

Recordings last hours to weeks. They are read segment by segment, in parts of ten minutes at most, and never across a gap. A segment
begins whenever a lead comes, goes or changes its gain, so many are shorter than a window; those are quarantined one by one. A
segment that cannot be used is told at the end of its recording, after the others were read. (A checksum is known at the end of its
segment only; parts of a longer segment are in the store by then.)

Channels are what monitors here show most: leads I, II, III and aVR, the chest leads V (where on the chest is not recorded) and
MCL1, and the pulse wave. None is required, for methods differ in what they need: a window is kept if it has one of them, and says
which are absent. ABP, RESP and rarer leads are left out. PLETH has no physical unit ("NU"); its 8 bits span one unit, 4,000 counts
of the store.

Patients carry MIMIC-III's subject id, which is that of MIMIC-II too. MIMIC-IV holds some of the same people under other ids, and
nothing published tells which. Times are surrogates.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.dataset import Channel, Dataset, DatasetError, Download, Source
from assets.record import Record, RecordError
from assets.splits import fold_of, folds_of, patient

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

NAMESPACE = "mimic3"
LIST = "RECORDS-waveforms"
PART_S = 600
"""Longest part that is read at once, a multiple of the window."""

_RECORD = re.compile(r"(p[0-9]{2})/(p[0-9]{6})/(p[0-9]{6}-[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2})")
_MASTER = re.compile(r"p[0-9]{6}-[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}\.hea")
_WAVEFORM = re.compile(r"(?:p[0-9]{6}(?:-[0-9]+){5}\.hea|[0-9]{7}_(?:layout\.hea|[0-9]{4,5}\.(?:hea|dat)))")
_LIST_BYTES = 1 << 24


class MIMICIIIWaveform(Dataset):
    """MIMIC-III Waveform Database Matched Subset as downloaded: waveforms, without the monitors' numbers."""

    name: ClassVar[str] = "mimic_iii_waveform"
    source: ClassVar[Source] = Source(
        title="MIMIC-III Waveform Database Matched Subset",
        version="1.0",
        homepage="https://physionet.org/content/mimic3wdb-matched/1.0/",
        licence="ODbL 1.0",
        terms="Free to download from PhysioNet without an account; databases made from it must be offered under the same licence.",
        citation="Moody et al., MIMIC-III Waveform Database Matched Subset, PhysioNet (2020), doi:10.13026/c2294b",
        download=Download(
            s3="s3://physionet-open/mimic3wdb-matched/1.0/",
            https="https://physionet.org/files/mimic3wdb-matched/1.0/",
            n_bytes=2_400_000_000_000,
            directions="The whole is 2.4 TB; folders of single patients (p00/p000020/) can be downloaded and are read as they are.",
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = ("I", "II", "III", "aVR", "V", "MCL1")
    fs_hz: ClassVar[float] = 125.0
    required_channels: ClassVar[tuple[str, ...] | None] = ()
    quarantine_limit: ClassVar[float] = 0.05
    """Some recordings hold pressures only, or nothing but short segments."""

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """Six ECG leads and the pulse wave."""
        return (*map(Channel, cls.leads), Channel("PLETH", "PPG", "NU", 1 / 4000))

    def files(self) -> list[Path]:
        """Headers and signals of waveforms that are there, and their list.

        Raises:
            DatasetError: there are none.
        """
        found = [Path(LIST)] if (self.folder / LIST).is_file() else []
        for folder in self._patient_folders():
            relative = folder.relative_to(self.folder)
            found += [relative / name for name in _names(folder) if _WAVEFORM.fullmatch(name)]
        if not found:
            raise DatasetError(
                f"{self.folder} holds no recording of the MIMIC-III Waveform Database (p00/p000020/ ...); download it, or a part of it"
            )
        return sorted(found)

    def records(self) -> pd.DataFrame:
        """The recordings that the list names, or without one those that are there. Ages and sexes are not published with them.

        Raises:
            DatasetError: there are none, or the list names something else.
        """
        import pandas as pd

        ids = pd.Series(self._ids, dtype=str)
        patients = [patient(NAMESPACE, subject) for subject in ids.str[1:7].astype(int).astype(str)]
        return pd.DataFrame(
            {
                "record_id": ids,
                "patient_id": patients,
                "fold": folds_of(patients),
                "age": float("nan"),
                "sex": "unknown",
                "site": "Beth Israel Deaconess Medical Center",
                "device": "",
                "acquired_at": ids.str[8:18] + "T" + ids.str[19:21] + ":" + ids.str[22:24] + ":00",
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which recordings have their header."""
        return [(self.folder / r[:3] / r[:7] / f"{r}.hea").is_file() for r in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a whole recording, gaps as NaN: gigabytes for one of a week; `pieces` reads it in parts. There is one rate only."""
        from assets.readers import read_record

        return read_record(self._header(record_id))

    def pieces(self, record_id: str, fs_hz: float | None = None) -> Iterator[Record]:
        """Parts of at most ten minutes, each with the signals of its segment.

        Raises:
            RecordError: reason "absent" when the recording is not there; after the last part, the fault of the first segment that
                could not be used.
        """
        from assets.readers.wfdb import read_wfdb_segments

        faults: list[RecordError] = []
        yield from read_wfdb_segments(self._header(record_id), max_samples=round(PART_S * self.fs_hz), on_fault=faults.append)
        if faults:
            more = f" ({len(faults)} segments of this recording cannot be used)" if len(faults) > 1 else ""
            raise RecordError(faults[0].reason, faults[0].path, faults[0].explanation + more)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """One recording of each of 30 people, 40 to 60 s; one is listed only, one lacks a segment, one has a segment without a gain."""
        _write_fixture(folder, seed)

    def _patient_folders(self) -> Iterator[Path]:
        for group in sorted(self.folder.glob("p[0-9][0-9]")):
            yield from sorted(path for path in group.glob("p" + "[0-9]" * 6) if path.is_dir())

    def _header(self, record_id: str) -> Path:
        if not _MASTER.fullmatch(f"{record_id}.hea"):
            raise RecordError("absent", self.folder, f"has no record {record_id!r}")
        return self.folder / record_id[:3] / record_id[:7] / f"{record_id}.hea"

    @cached_property
    def _ids(self) -> list[str]:
        path = self.folder / LIST
        if not path.is_file():
            found = [name[:-4] for folder in self._patient_folders() for name in _names(folder) if _MASTER.fullmatch(name)]
            if not found:
                raise DatasetError(f"{path} is missing, and there is no recording in {self.folder}; download it, or a part of it")
            return found
        with path.open("rb") as stream:
            lines = stream.read(_LIST_BYTES).decode("latin-1").split()
        matches = [_RECORD.fullmatch(line) for line in lines]
        wrong = [line for line, m in zip(lines, matches, strict=True) if not m or not m[3].startswith(m[2]) or not m[2].startswith(m[1])]
        if wrong or not lines:
            raise DatasetError(f"{path} lists {wrong[0][:80]!r}, no recording" if wrong else f"{path} is empty; download it again")
        ids = [m[3] for m in matches if m]
        if len(set(ids)) < len(ids):
            raise DatasetError(f"{path} names a recording twice; download it again")
        return ids


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


_PER_FOLD = 3
_ABSENT, _LACKS_A_SEGMENT, _WITHOUT_GAIN = 4, 9, 14
"""Places of people with something amiss."""

_ECG_GAIN, _PLETH_GAIN, _ABP_GAIN = "127(-64)/mV", "255(-128)/NU", "1.28(-109)/mmHg"


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    places = dict.fromkeys(range(1, 11), 0)
    names: list[str] = []
    subject = 19 + int(rng.integers(50))
    while sum(places.values()) < _PER_FOLD * len(places):
        subject += 1 + int(rng.integers(400))
        fold = fold_of(patient(NAMESPACE, str(subject)))
        if places[fold] == _PER_FOLD:
            continue
        places[fold] += 1
        person = f"p{subject:06d}"
        name = f"{person}-2183-04-{1 + len(names) % 28:02d}-17-{len(names):02d}"
        if len(names) != _ABSENT:
            _write_record(folder / person[:3] / person, name, 3_000_003 + subject, len(names), rng)
        names.append(f"{person[:3]}/{person}/{name}")
    (folder / LIST).write_text("".join(f"{name}\n" for name in sorted(names)))
    (folder / "RECORDS").write_text("".join(f"{n.rpartition('/')[0]}/\n" for n in sorted(names)))
    (folder / "RECORDS-numerics").write_text("".join(f"{n}n\n" for n in sorted(names)))


def _write_record(folder: Path, name: str, case: int, place: int, rng: Generator) -> None:
    """A recording of four segments and a gap. The second brings pressure and other leads, the third is short."""
    from assets.readers.mit_write import Signal, write_signals

    segments = [
        (22 + place % 7, ("II", "PLETH")),
        (12, ("II", "I", "III", "AVR", "ABP")),
        (1, ("II", "PLETH")),
        (12, ("V", "MCL1", "PLETH") if place % 3 else ("ABP",)),
    ]
    gains = {"PLETH": _PLETH_GAIN, "ABP": _ABP_GAIN}
    lines = [f"{case}_layout 0", "~ 625"]
    length = 625
    for number, (seconds, leads) in enumerate(segments, start=1):
        part = f"{case}_{number:04d}"
        gain = "1/mV" if place == _WITHOUT_GAIN and number == 2 else _ECG_GAIN
        write_signals(folder, part, 80, _counts(leads, seconds, rng), [Signal(gains.get(x, gain), x, bits=8) for x in leads], "125")
        lines.append(f"{part} {seconds * 125}")
        length += seconds * 125
    if place == _LACKS_A_SEGMENT:
        (folder / f"{case}_0002.dat").unlink()
    known = sorted({lead for _, leads in segments for lead in leads})
    layout = [f"~ 0 {gains.get(lead, _ECG_GAIN)} 8 0 -128 0 0 {lead}" for lead in known]
    (folder / f"{case}_layout.hea").write_text("\n".join([f"{case}_layout {len(known)} 125 0 17:00:00", *layout]) + "\n")
    date = "/".join(reversed(name[8:18].split("-")))
    head = f"{name}/{len(lines)} {len(known)} 125 {length} 17:00:00.000 {date}"
    (folder / f"{name}.hea").write_text("\n".join([head, *lines]) + "\n")
    (folder / f"{name}n.hea").write_text(f"{name}n 1 0.0166666666667/125 2 17:00:00\n{case}n.dat 16 10/bpm 16 0 800 1605 0 HR\n")
    (folder / f"{case}n.dat").write_bytes(bytes((0x20, 0x03, 0x25, 0x03)))


def _counts(leads: tuple[str, ...], seconds: int, rng: Generator) -> NDArray[np.int64]:
    """Counts of format 80 as the gains of `_write_record` have them, shape (leads, samples); the lowest, missing, in a few places."""
    import numpy as np

    from assets.signals.simulated_monitor import draw_beats, draw_ecg, draw_pulse_wave

    seen = {"I": 0.5, "II": 0.9, "III": 0.4, "AVR": -0.3, "V": 0.7, "MCL1": -0.35}
    beats = draw_beats(rng, seconds)
    pulse_T = draw_pulse_wave(beats, rng, 125.0, seconds)
    counts = {"PLETH": 255 * pulse_T - 128, "ABP": 1.28 * (75 + 45 * pulse_T) - 109}
    ecg_leads = [lead for lead in leads if lead in seen]
    ecg_LT = draw_ecg(beats, rng, 125.0, seconds, gains=tuple(seen[lead] for lead in ecg_leads))
    counts |= dict(zip(ecg_leads, 127 * ecg_LT / 1000 - 64, strict=True))
    counts_LT = np.clip(np.rint(np.stack([counts[lead] for lead in leads])), -127, 127).astype(np.int64)
    counts_LT[0, 60:63] = -128
    return counts_LT
