"""Reads WFDB records: signal format 16, also behind a byte offset (the `16+24` of Challenge .mat files).

Written from the format's description (header(5) and signal(5) of the WFDB manual). Strict where a common reader guesses:
a gain of 0 is refused and not taken for 200, checksums are compared, a data file must have exactly the length that its
header states, and no header can make the reader open another folder or allocate more than the files hold.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from assets.record import Record, RecordError
from models.types import LEADS

if TYPE_CHECKING:
    from numpy.typing import NDArray

INVALID = -32768
"""The count that marks a missing sample in format 16."""

MICROVOLTS: dict[str, float] = {
    "uV": 1.0, "uv": 1.0, "µV": 1.0, "μV": 1.0,
    "mV": 1e3, "mv": 1e3,
    "V": 1e6, "v": 1e6,
}  # fmt: skip
"""Microvolts per unit. "MV" is missing on purpose: it may mean milli or mega."""

COARSEST_UV = 1000.0
"""A count as coarse as this cannot carry an ECG (R waves are about 1 mV tall): such a gain is a placeholder."""

_HEADER_BYTES = 1 << 20
_LFS = b"version https://git-lfs.github.com/spec/"
_CANONICAL = {lead.lower(): lead for lead in LEADS}
_NUMBER = r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?"
_FORMAT = re.compile(r"([0-9]{1,4})(?:x([0-9]{1,4}))?(?::([0-9]{1,9}))?(?:\+([0-9]{1,18}))?")
_GAIN = re.compile(rf"({_NUMBER})(?:\(([+-]?[0-9]{{1,9}})\))?(?:/(\S+))?")
_RATE = re.compile(rf"({_NUMBER})(?:/.*)?")
_COUNT = re.compile(r"[0-9]{1,18}")
_SIGNAL = re.compile(r"(\S+)\s+(\S+)(?:\s+(\S+)((?:\s+[+-]?[0-9]{1,18}(?!\S)){0,5})\s*(.*))?")
_DATA_FILE = re.compile(r"[^\x00-\x1f/\\]{1,255}")


class _Source(NamedTuple):
    """What the first three words of a signal line say; the baseline is None where they leave it open."""

    offset: int
    factor: float
    baseline: int | None
    unit: str


class _Signal(NamedTuple):
    """One signal line of a header: `physical = (count - baseline) * factor` in `unit`."""

    file: str
    offset: int
    factor: float
    baseline: int
    unit: str
    checksum: int | None
    lead: str


class _Header(NamedTuple):
    fs_hz: float
    n_samples: int | None
    signals: tuple[_Signal, ...]


def read_wfdb(path: Path) -> Record:
    """Read a WFDB record.

    Args:
        path: header, data file, or both without their ending.

    Returns:
        The record in the header's lead order; voltages in microvolts, signals of another kind in their own unit.

    Raises:
        RecordError: reasons absent, missing_header, missing_signal, unreadable, lfs_pointer, bad_header, record_name,
            unsafe_path, unsupported_format, sampling_rate, zero_gain, bad_gain, bad_units, unnamed_lead,
            duplicate_leads, truncated, length_mismatch, empty, checksum.
    """
    path = _header_path(path)
    raw = _read_file(path, "absent", _HEADER_BYTES)
    if len(raw) > _HEADER_BYTES:
        raise RecordError("bad_header", path, f"is longer than {_HEADER_BYTES} bytes and cannot be a WFDB header")
    header = _parse_header(path, raw)
    digest = xxhash.xxh3_128(raw)
    blocks = []
    for group in _by_file(path, header.signals):
        data_path = path.with_name(group[0].file)
        expected = _expected_bytes(header, group)
        data = _read_file(data_path, "missing_signal", expected)
        digest.update(data)
        blocks.append(_decode(data_path, data, expected, group))
    if len({block.shape[1] for block in blocks}) > 1:
        raise RecordError("length_mismatch", path, f"data files hold {[b.shape[1] for b in blocks]} samples per lead; they must agree")
    return Record(
        signal_LT=blocks[0] if len(blocks) == 1 else np.concatenate(blocks),
        leads=tuple(s.lead for s in header.signals),
        fs_hz=header.fs_hz,
        units=tuple(s.unit for s in header.signals),
        source_checksum=digest.hexdigest(),
    )


def _header_path(path: Path) -> Path:
    """The header that belongs to a path, whether or not it exists."""
    if path.suffix == ".hea":
        return path
    longer = path.with_name(path.name + ".hea")
    return path.with_suffix(".hea") if path.suffix and not longer.exists() and path.exists() else longer


def _read_file(path: Path, missing: str, limit: int | None = None) -> bytes:
    """The bytes of a file. With a limit, one byte more than that is read of a longer file, however long it is."""
    try:
        if not path.is_file():
            return _refuse_missing(path, missing)
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(size if limit is None else min(size, limit + 1))
    except (OSError, ValueError) as error:
        raise RecordError("unreadable", path, f"cannot be read ({type(error).__name__}); check its permissions and its disk") from error
    if data.startswith(_LFS):
        raise RecordError("lfs_pointer", path, "is a git-lfs pointer and not the file itself; run `git lfs pull` where it came from")
    return data


def _refuse_missing(path: Path, missing: str) -> bytes:
    if missing == "missing_signal":
        raise RecordError(missing, path, "the header names this data file, but it is not there; download it again")
    if any(path.with_suffix(ending).exists() for ending in (".dat", ".mat")):
        raise RecordError("missing_header", path, "the data file is there without its header; download the header again")
    raise RecordError(missing, path, "there is no such record")


def _parse_header(path: Path, raw: bytes) -> _Header:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise RecordError("bad_header", path, "holds no record line")
    name, n_signals, fs_hz, n_samples = _parse_record_line(path, lines[0])
    if path.stem not in (name, name.rpartition(".")[0]):
        raise RecordError("record_name", path, f"describes record {name[:80]!r} but is named {path.stem!r}; restore the original file name")
    if n_signals != len(lines) - 1:
        raise RecordError("bad_header", path, f"states {n_signals} signals but has {len(lines) - 1} signal lines")
    sources: dict[tuple[str, str, str], _Source] = {}
    signals = tuple(_parse_signal_line(path, line, sources) for line in lines[1:])
    names = [s.lead for s in signals]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise RecordError("duplicate_leads", path, f"names {', '.join(repeated)} more than once")
    return _Header(fs_hz, n_samples, signals)


def _parse_record_line(path: Path, line: str) -> tuple[str, int, float, int | None]:
    """Name, number of signals, sampling rate, samples per signal (None where the header leaves it open)."""
    name, *fields = line.split()
    if "/" in name:
        raise RecordError("unsupported_format", path, "is a record of several segments; this reader takes single-segment records")
    if not fields or not _COUNT.fullmatch(fields[0]) or int(fields[0]) == 0:
        raise RecordError("bad_header", path, f"record line {line[:80]!r} does not state a number of signals")
    rate = _RATE.fullmatch(fields[1]) if len(fields) > 1 else None
    fs_hz = float(rate[1]) if rate else 0.0
    if not (math.isfinite(fs_hz) and 0 < fs_hz <= 1e7):
        raise RecordError("sampling_rate", path, f"record line {line[:80]!r} states no usable sampling rate")
    if len(fields) < 3:
        return name, int(fields[0]), fs_hz, None
    if not _COUNT.fullmatch(fields[2]):
        raise RecordError("bad_header", path, f"record line {line[:80]!r} states {fields[2][:20]!r} samples per signal")
    return name, int(fields[0]), fs_hz, int(fields[2]) or None  # 0 means unspecified in this format


def _parse_signal_line(path: Path, line: str, sources: dict[tuple[str, str, str], _Source]) -> _Signal:
    """Parse a signal line; `sources` keeps what neighbouring lines repeat word for word."""
    match = _SIGNAL.fullmatch(line)
    if match is None:
        raise RecordError("bad_header", path, f"signal line {line[:80]!r} states no signal format")
    file, form, gain, integers, name = match.groups(default="")
    source = sources.get((file, form, gain))
    if source is None:
        source = sources[file, form, gain] = _parse_source(path, file, form, gain)
    numbers = [int(n) for n in integers.split()]  # resolution, zero, first value, checksum, block size; writers stop early
    lead = " ".join(name.split())
    if not lead:
        raise RecordError("unnamed_lead", path, f"signal line {line[:80]!r} names no lead; add its name at the end of the line")
    return _Signal(
        file=file,
        offset=source.offset,
        factor=source.factor,
        baseline=source.baseline if source.baseline is not None else (numbers[1] if len(numbers) > 1 else 0),
        unit=source.unit,
        checksum=numbers[3] if len(numbers) > 3 else None,
        lead=_CANONICAL.get(lead.lower(), lead),
    )


def _parse_source(path: Path, file: str, form: str, gain: str) -> _Source:
    if not _DATA_FILE.fullmatch(file) or file in ("-", ".", "..") or file.startswith("~"):
        raise RecordError("unsafe_path", path, f"names the data file {file[:80]!r}; only a plain file beside the header is read")
    match = _FORMAT.fullmatch(form)
    if match is None:
        raise RecordError("bad_header", path, f"{form[:40]!r} is no signal format")
    number, per_frame, skew, offset = match.groups()
    if int(number) != 16 or int(per_frame or 1) != 1 or int(skew or 0) != 0:
        raise RecordError("unsupported_format", path, f"signal format {form!r} is not read; this reader takes format 16")
    return _Source(int(offset or 0), *_parse_gain(path, gain))


def _parse_gain(path: Path, text: str) -> tuple[float, int | None, str]:
    """Physical units per count, baseline if stated, unit."""
    match = _GAIN.fullmatch(text)
    if match is None:
        raise RecordError("bad_gain", path, f"gain {text[:40]!r} is not a number of counts per unit; amplitudes would be unknown")
    gain, unit = float(match[1]), match[3] or "mV"
    if gain == 0:
        raise RecordError("zero_gain", path, "a gain of 0 leaves amplitudes unknown; take the gain from the recorder's documentation")
    if not 1e-9 <= gain <= 1e12:
        raise RecordError("bad_gain", path, f"gain {text[:40]!r} is negative or out of any sensible range")
    baseline = None if match[2] is None else int(match[2])
    if unit not in MICROVOLTS:
        if unit.lower().endswith("v"):
            raise RecordError("bad_units", path, f"unit {unit[:20]!r} is not known; voltages are read in {', '.join(sorted(MICROVOLTS))}")
        return 1.0 / gain, baseline, unit
    if MICROVOLTS[unit] / gain >= COARSEST_UV:
        raise RecordError("bad_gain", path, f"with gain {text[:40]!r} one count is {MICROVOLTS[unit] / gain:g} uV, too coarse for any ECG")
    return MICROVOLTS[unit] / gain, baseline, "uV"


def _by_file(path: Path, signals: tuple[_Signal, ...]) -> list[list[_Signal]]:
    """Neighbouring signals that share a data file, in the header's order."""
    groups: list[list[_Signal]] = []
    for signal in signals:
        if groups and groups[-1][0].file == signal.file:
            groups[-1].append(signal)
        else:
            groups.append([signal])
    if len({g[0].file for g in groups}) != len(groups):
        raise RecordError("bad_header", path, "signals of one data file must stand on neighbouring lines")
    if any(s.offset != g[0].offset for g in groups for s in g):
        raise RecordError("bad_header", path, "signals of one data file state different byte offsets")
    return groups


def _expected_bytes(header: _Header, signals: list[_Signal]) -> int | None:
    """Length of a data file as the header has it, or None where it leaves that open."""
    return None if header.n_samples is None else signals[0].offset + header.n_samples * 2 * len(signals)


def _check_length(path: Path, length: int, offset: int, width: int, expected: int | None) -> None:
    if length < offset or (expected is not None and length < expected) or (expected is None and (length - offset) % width):
        wanted = f"{expected} bytes" if expected is not None else f"whole frames of {width} bytes from byte {offset} on"
        raise RecordError("truncated", path, f"holds {length} bytes where its header asks for {wanted}; download it again")
    if expected is not None and length > expected:
        raise RecordError("length_mismatch", path, f"holds more than the {expected} bytes of its header; the two do not belong together")
    if length == offset:
        raise RecordError("empty", path, "holds no samples")


def _decode(path: Path, data: bytes, expected: int | None, signals: list[_Signal]) -> NDArray[np.float32]:
    """Physical values of the signals of one data file, shape (leads, samples)."""
    offset = signals[0].offset
    _check_length(path, len(data), offset, 2 * len(signals), expected)
    counts_LT = np.ascontiguousarray(np.frombuffer(data, "<i2", offset=offset).reshape(-1, len(signals)).T)
    sums_L = counts_LT.sum(axis=1, dtype=np.int64)
    wrong = [s.lead for s, total in zip(signals, sums_L.tolist(), strict=True) if s.checksum is not None and (total - s.checksum) & 0xFFFF]
    if wrong:
        raise RecordError("checksum", path, f"the samples of {', '.join(wrong)} do not add up to the header's checksums; download it again")
    baseline_L1 = np.array([[s.baseline] for s in signals], np.float64)
    factor_L1 = np.array([[s.factor] for s in signals], np.float64)
    signal_LT = ((counts_LT - baseline_L1) * factor_L1).astype(np.float32)
    signal_LT[counts_LT == INVALID] = np.nan
    return signal_LT
