"""Reads WFDB annotation files: beats, rhythm changes and notes at moments of a recording.

Written from the format's description (annot(5) of the WFDB manual). A common reader goes on behind the end mark, takes any
bytes for annotations and never returns from some; here a file is read as it is meant, or refused.
"""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from assets.readers import wfdb_files
from assets.readers.wfdb_header import parse_rate
from assets.record import Annotations, RecordError

SYMBOLS: dict[int, str] = dict(enumerate(
    ["N", "L", "R", "a", "V", "F", "J", "A", "S", "E", "j", "/", "Q", "~", "[15]", "|", "[17]", "s", "T", "*", "D", '"', "=", "p", "B",
     "^", "t", "+", "u", "?", "!", "[", "]", "e", "n", "@", "x", "f", "(", ")", "r"], start=1))  # fmt: skip
"""PhysioNet's symbols by annotation code; files may define codes from 42 to 49."""

_MOST_BYTES = 1 << 26
_NOTE = 22
_SKIP, _NUMBER, _SUBTYPE, _CHANNEL, _AUX = 59, 60, 61, 62, 63
_EXTENSION = re.compile(r"[A-Za-z0-9_-]{1,32}")
_RESOLUTION = re.compile(r"## time resolution: ([0-9]{1,9}(?:\.[0-9]{1,9})?)")
_DEFINITION = re.compile(r"(4[2-9])\s+(\S{1,20})(?:\s.*)?", re.DOTALL)
_AHA_CODES = frozenset(b"NVFEPQORU")


class _Found(NamedTuple):
    """Annotations as the file has them: sample numbers and codes side by side, notes by place."""

    samples: array[int]
    codes: bytearray
    notes: dict[int, str]


def read_annotations(path: Path, extension: str) -> Annotations:
    """Read the annotations of a record.

    Args:
        path: the record's header, or header and annotation file without their ending; the header may be missing where the
            annotation file states its own rate.
        extension: which annotations: "atr", "pu1", ...

    Returns:
        Moments in order of time, without those that only define what others mean.

    Raises:
        RecordError: reasons absent, unreadable, unsafe_path, lfs_pointer, too_large, missing_header, bad_header,
            record_name, sampling_rate, unsupported_format, bad_annotations, truncated, beyond_record.
    """
    if not _EXTENSION.fullmatch(extension):
        raise RecordError("unsafe_path", path, f"has no annotations {extension[:40]!r}; name the ending of a file beside the header")
    header_path = wfdb_files.header_of(path)
    file = header_path.removesuffix("hea") + extension
    raw = _read(file)
    found = _parse(file, raw)
    sample_N, code_N = np.array(found.samples, np.int64), np.frombuffer(found.codes, np.uint8)
    defining_N = (code_N == _NOTE) & (sample_N == 0)
    symbols, own_hz = _definitions([found.notes.get(i, "") for i in np.flatnonzero(defining_N).tolist()])
    kept = np.flatnonzero((code_N != 0) & ~defining_N)
    sample_N = sample_N[kept]
    rate, n_samples = _rate(header_path, file, own_hz)
    fs_hz = own_hz or rate
    if sample_N.size and (sample_N[0] < 0 or (np.diff(sample_N) < 0).any()):
        raise RecordError("bad_annotations", file, "its moments are not in order of time; download it again")
    if sample_N.size and n_samples is not None and sample_N[-1] * rate > n_samples * fs_hz:
        raise RecordError(
            "beyond_record", file, f"annotates sample {sample_N[-1]} of a record with {n_samples}; the two do not belong together"
        )
    return Annotations(
        sample_N=sample_N,
        symbols=tuple([symbols.get(code, f"[{code}]") for code in code_N[kept].tolist()]),
        notes=tuple([found.notes.get(i, "") for i in kept.tolist()]),
        fs_hz=fs_hz,
    )


def _read(file: str) -> bytes:
    try:
        size = wfdb_files.size_of(file)
    except RecordError as error:
        if error.reason != "missing_signal":
            raise
        raise RecordError("absent", file, "there are no such annotations") from error
    if size > _MOST_BYTES:
        raise RecordError("too_large", file, f"holds {size} bytes; annotations are read up to {_MOST_BYTES} bytes")
    raw = wfdb_files.read(file, 0, size).tobytes()
    if size % 2 or not size:
        raise RecordError("truncated", file, f"holds {size} bytes where annotations come in pairs of bytes; download it again")
    if size % 16 == 0 and raw[0] == 0 and raw[1] in _AHA_CODES:
        raise RecordError("unsupported_format", file, "is in the AHA's format; convert it with `rdann` and `wrann` of the WFDB tools")
    return raw


def _parse(file: str, raw: bytes) -> _Found:
    """All annotations up to the end mark."""
    words = memoryview(np.frombuffer(raw, "<u2").astype(np.uint16).tobytes()).cast("H")
    found = _Found(array("q"), bytearray(), {})
    at, time, n_words = 0, 0, len(words)
    while at < n_words:
        word = words[at]
        at += 1
        code, number = word >> 10, word & 1023
        if word == 0:
            if any(words[at:]):
                raise RecordError("bad_annotations", file, f"goes on behind its end mark at byte {2 * at}; download it again")
            return found
        if code == _SKIP:
            if at + 2 > n_words:
                break
            skip = words[at] << 16 | words[at + 1]
            time += skip - (1 << 32) if skip >> 31 else skip
            at += 2
        elif code == _AUX:
            end = at + (number + 1) // 2
            if number > 255 or end > n_words:
                break
            if not found.codes:
                raise RecordError("bad_annotations", file, "begins with a note that belongs to no annotation; download it again")
            found.notes[len(found.codes) - 1] = raw[2 * at : 2 * at + number].decode("latin-1").rstrip("\0")
            at = end
        elif code < _SKIP:
            if code > 49:
                raise RecordError("bad_annotations", file, f"has annotation code {code} at byte {2 * at - 2}; codes end at 49")
            time += number
            found.samples.append(time)
            found.codes.append(code)
    raise RecordError("truncated", file, "ends without its end mark; download it again")


def _definitions(notes: list[str]) -> tuple[dict[int, str], float]:
    """What codes mean, and the rate that the file states (0 where it does not), by the notes at its beginning."""
    symbols, fs_hz = dict(SYMBOLS), 0.0
    for note in notes:
        if match := _RESOLUTION.match(note):
            fs_hz = fs_hz or float(match[1])
        elif match := _DEFINITION.fullmatch(note):
            symbols[int(match[1])] = match[2]
    return symbols, fs_hz


def _rate(header_path: str, file: str, own_hz: float) -> tuple[float, int | None]:
    """Rate and length of the record, of which there is no more than the annotations' own rate without a header."""
    try:
        raw = wfdb_files.read_header(header_path)
    except RecordError as error:
        if error.reason not in ("absent", "missing_header"):
            raise
        if not own_hz:
            raise RecordError(
                "missing_header", file, "states no rate and has no header beside it that does; download the header again"
            ) from error
        return own_hz, None
    return parse_rate(header_path, raw)
