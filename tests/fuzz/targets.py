"""What is fuzzed: every reader with its seeds, and what counts as a fault of it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from assets.record import Record, RecordError
from models.errors import EinthovenError
from tests.fuzz import encoders as en

SLOW_S = 5.0
"""Longer than this for an input of at most 64 KiB is a fault."""

_RNG = np.random.default_rng(0)
_COUNTS = {name: np.cumsum(_RNG.integers(-40, 40, 60)) for name in en.SCP_CODES}
_WFDB_FORMATS = (8, 16, 24, 32, 61, 80, 160, 212, 310, 311, 508, 516, 524)


@dataclass(frozen=True)
class Target:
    """A reader under test: `run` gets an empty folder and the bytes of a file, and may raise typed errors only.

    `private`: files of this format name patients, and messages must not.
    """

    run: Callable[[Path, bytes], Any]
    seeds: Callable[[], list[bytes]]
    private: bool = False


def _record(name: str, repair: Callable[[bytes], bytes] | None = None) -> Callable[[Path, bytes], Any]:
    def run(folder: Path, data: bytes) -> Record:
        from assets.readers import read_record

        path = folder / name
        path.write_bytes(repair(data) if repair else data)
        return read_record(path)

    return run


def _wfdb_header(folder: Path, data: bytes) -> Any:
    from assets.readers.wfdb import read_wfdb, read_wfdb_segments

    (folder / "r.hea").write_bytes(data)
    (folder / "r.dat").write_bytes(bytes(range(256)) * 8)
    (folder / "s.hea").write_text("s 1 100 20\ns.dat 16 200/mV 16 0 0 0 0 II\n")
    (folder / "s.dat").write_bytes(bytes(40))
    with contextlib.suppress(RecordError):
        for _ in read_wfdb_segments(folder / "r.hea"):
            pass
    return read_wfdb(folder / "r.hea")


def _wfdb_data(folder: Path, data: bytes) -> Any:
    from assets.readers.wfdb import read_wfdb

    kind = _WFDB_FORMATS[data[0] % len(_WFDB_FORMATS)] if data else 16
    length = "" if not data or data[0] & 128 else " 40"
    lines = "\n".join(f"r.dat {kind} 200/mV 16 0 {lead}" for lead in ("II", "V1"))
    (folder / "r.hea").write_text(f"r 2 100{length}\n{lines}\n")
    (folder / "r.dat").write_bytes(data[1:])
    return read_wfdb(folder / "r.hea")


def _annotations(folder: Path, data: bytes) -> Any:
    from assets.readers.annotations import read_annotations

    (folder / "r.hea").write_text("r 1 100 2000\nr.dat 16 200/mV 16 0 0 0 0 II\n")
    (folder / "r.atr").write_bytes(data)
    return read_annotations(folder / "r.hea", "atr")


def _wesad(folder: Path, data: bytes) -> Any:
    from assets.readers.wesad_pickle import read_wesad_pickle

    (folder / "S2.pkl").write_bytes(data)
    return read_wesad_pickle(folder / "S2.pkl")


def _rows(folder: Path, data: bytes) -> Any:
    from assets.readers.hdf5 import iterate_code15

    (folder / "a.hdf5").write_bytes(data)
    return list(iterate_code15(folder / "a.hdf5"))


def _archive(folder: Path, data: bytes) -> Any:
    from assets.readers import archives

    (folder / "archive").write_bytes(data)
    found = archives.unpack(folder / "archive", folder / "out", limit_bytes=1 << 22)
    outside = {p for p in folder.iterdir() if p.name not in ("archive", "out")}
    assert not outside and all(p.is_file() and not p.is_symlink() for p in found), "something was written that should not be"
    return found


# Seeds


def _mat_seeds() -> list[bytes]:
    signal_LT = _RNG.normal(0, 1, (12, 20))
    lead = {"ecg": signal_LT[:1].T}
    return [en.cpsc2018(signal_LT), en.cpsc2018(signal_LT, compressed=False), en.mat(lead), en.mat(lead, compressed=False)]


def _hdf5_seeds() -> list[bytes]:
    tracings = _RNG.normal(0, 1, (3, 20, 12)).astype(np.float32)
    packed = en.code15(tracings, (5, 6, 0), compression="gzip", shuffle=True, chunks=(1, 20, 12))
    return [en.code15(tracings[:1]), en.code15(tracings, (5, 6, 0)), packed]


def _edf_seeds() -> list[bytes]:
    records = _COUNTS["I"].reshape(3, 20)
    two = [en.edf_signal("ECG II", list(records)), en.edf_signal("Resp", list(records[:, :5]), unit="")]
    note = en.edf_signal("EDF Annotations", list(np.full((3, 8), 0x1414)), unit="")
    return [en.edf(two[:1]), en.edf(two), en.edf([two[0], note], kind="EDF+C"), en.edf(two[:1], kind="EDF+D")]


def _dicom_seeds() -> list[bytes]:
    counts_TL = _COUNTS["I"][:40].reshape(20, 2).astype("<i2")
    channels = [en.dicom_channel("5.6.3-9-1"), en.dicom_channel("2:62", "MDC", unit="mV", ChannelSensitivity="0.005")]
    group = en.dicom_group(counts_TL, channels)
    beat = en.dicom_group(counts_TL[:5].astype("i1"), channels, WaveformPaddingValue=b"\x80")
    return [en.dicom([group], syntax=s) for s in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")] + [en.dicom([group, beat])]


def _muse_seeds() -> list[bytes]:
    return [
        en.muse([en.muse_lead(n, _COUNTS[n][:12], LeadDataCRC32=None) for n in ("I", "II", "V1")]),
        en.muse([en.muse_lead("I", _COUNTS["I"][:4])]),
    ]


def _aecg_seeds() -> list[bytes]:
    leads = [en.aecg_lead(f"MDC_ECG_LEAD_{n.upper()}", _COUNTS[n][:12]) for n in ("I", "aVF")]
    return [en.aecg([en.aecg_set(leads)]), en.aecg([en.aecg_set(leads[:1]), en.aecg_set(leads[1:], increment="2", unit="ms")])]


def _scp_seeds() -> list[bytes]:
    two = {n: _COUNTS[n] for n in ("I", "V6")}
    return [en.scp(two, packed=packed, order=order) for packed in (True, False) for order in (0, 1, 2)]


def _csv_seeds() -> list[bytes]:
    return [
        b"Time [s],II [mV],RESP\n0,1,2\n0.01,-.5,1e-3\n0.02,,nan\n",
        b"t;I (uV)\n0;1\n1;2\n",
        *(b"%d" % i + b",1" * 12 + b"\n" for i in range(1)),
    ]


def _header_seeds() -> list[bytes]:
    texts = [
        "r 1 100 20\nr.dat 16 200(0)/mV 16 0 0 0 0 II\n",
        "r 2 360/720(10) 100 12:00:00 01/01/2000\nr.dat 212 200 11 1024 0 0 0 MLII\nr.dat 212 200 11 1024 0 0 0 V1\n# age 3\n",
        "r 2 250\nr.dat 16x2:3+24 1000.5(-7)/uV 16 0 II\nr.dat 16 0.5/mmHg 12 0 ABP\n",
        "r/2 1 100 40\ns 20\n~ 20\n",
        "r/1 1 100 20\ns 20\n",
        "r 1 100 20\nr.dat 310 200 10 512 0 0 0 II\n",
    ]
    return [t.encode() for t in texts]


def _data_seeds() -> list[bytes]:
    # From 130 on the header states no length: 130 is a multiple of the number of formats.
    plain = [bytes([first + i]) + bytes(range(240)) for first in (0, 130) for i in range(len(_WFDB_FORMATS))]
    return plain + [bytes([first + i]) + en.flac(2, 40) for first in (0, 130) for i in (10, 11, 12)]


def _annotation_seeds() -> list[bytes]:
    plain = [(10, 1), (100, 5), (2000, 28), (50, 22)]
    return [
        en.annotations(plain),
        en.annotations(plain, notes={2: b"(AFIB\0", 3: b"x"}),
        en.annotations([(0, 22), (4, 1)], notes={0: b"## time resolution: 360"}),
    ]


def _wesad_seeds() -> list[bytes]:
    return [en.wesad_pickle(40)]


def _archive_seeds() -> list[bytes]:
    members = {"a/x.txt": b"1" * 300, "b": bytes(20)}
    link = tarfile.TarInfo("l")
    link.type, link.linkname = tarfile.SYMTYPE, "a"
    listed: list[tuple[tarfile.TarInfo | str, bytes]] = [*members.items(), ("n" * 150, b"long")]
    return [en.zip_of(members), en.zip_of(members, method=0), en.tar_of(listed), en.tar_of(listed, mode="w:gz"), en.tar_of([(link, b"")])]


TARGETS: dict[str, Target] = {
    "mat": Target(_record("a.mat"), _mat_seeds, private=True),
    "hdf5": Target(_rows, _hdf5_seeds),
    "edf": Target(_record("a.edf"), _edf_seeds, private=True),
    "dicom": Target(_record("a.dcm"), _dicom_seeds, private=True),
    "muse": Target(_record("a.xml"), _muse_seeds, private=True),
    "aecg": Target(_record("a.xml"), _aecg_seeds, private=True),
    "scp": Target(_record("a.scp"), _scp_seeds, private=True),
    "scp_repaired": Target(_record("a.scp", en.scp_repaired), _scp_seeds, private=True),
    "csv": Target(_record("a.csv"), _csv_seeds),
    "wfdb_header": Target(_wfdb_header, _header_seeds),
    "wfdb_data": Target(_wfdb_data, _data_seeds),
    "annotations": Target(_annotations, _annotation_seeds),
    "wesad": Target(_wesad, _wesad_seeds),
    "archive": Target(_archive, _archive_seeds),
}


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="einthoven-fuzz-"))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, emptied again afterwards."""
    folder = _scratch() / "work"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def remove_scratch() -> None:
    """Remove what `scratch` has made."""
    if _scratch.cache_info().currsize:
        shutil.rmtree(_scratch(), ignore_errors=True)
        _scratch.cache_clear()


def check_record(record: Record, n_bytes: int) -> None:
    """What every record promises, whatever it was read from."""
    assert record.signal_LT.dtype == np.float32 and record.signal_LT.flags.c_contiguous and record.signal_LT.size
    assert len(set(record.leads)) == len(record.leads) == len(record.units) == record.signal_LT.shape[0]
    assert 0 < record.fs_hz <= 1e7 and not np.isinf(record.signal_LT).any()
    assert len(record.source_checksum) == 32 and all(u and len(u) <= 64 for u in (*record.units, *record.leads))
    assert record.signal_LT.nbytes <= 64 * n_bytes * 1100, "more samples than the file can hold"


def outcome(target: Target, data: bytes) -> tuple[str, str]:
    """What came of an input: "record" or the reason of a typed error, and the traceback of a fault ("" where there is none)."""
    start = time.perf_counter()
    with scratch() as folder:
        try:
            found = target.run(folder, data)
            for record in found if isinstance(found, list) else [found]:
                if isinstance(record, Record):
                    check_record(record, len(data) + 4096)
            result, fault = "record", ""
        except EinthovenError as error:
            result = getattr(error, "reason", type(error).__name__)
            fault = f"names the patient: {error}" if target.private and en.PATIENT in str(error) else ""
        except Exception:  # MemoryError among them: the limit of the process stands for a small machine
            result, fault = "fault", traceback.format_exc()
    if not fault and (took := time.perf_counter() - start) > SLOW_S:
        return "slow", f"took {took:.1f} s"
    return result, fault


class Observer:
    """Runs inputs, counts what came of them and keeps one input of each kind of fault."""

    def __init__(self, crashes: Path) -> None:
        self.crashes = crashes
        self.counts: dict[str, Counter[str]] = {}
        self._seen: set[str] = set()

    def observe(self, name: str, data: bytes) -> None:
        """Run an input; a fault is written as `<target>-<hash>.bin` with its traceback beside it."""
        result, fault = outcome(TARGETS[name], data)
        self.counts.setdefault(name, Counter())[result] += 1
        if not fault:
            return
        where = [line.strip() for line in fault.splitlines() if line.lstrip().startswith("File ")]
        kind = f"{name} {fault.splitlines()[-1].split(':')[0]} {where[-1] if where else ''}"
        if kind not in self._seen:
            self._seen.add(kind)
            self.crashes.mkdir(parents=True, exist_ok=True)
            stem = f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            (self.crashes / f"{stem}.bin").write_bytes(data)
            (self.crashes / f"{stem}.txt").write_text(fault)
