"""Reads MATLAB files of level 5 as challenges publish them: CPSC 2018 (struct `ECG`) and CPSC 2019 (matrix `ecg`).

A parser of our own reads just what these files hold: numeric matrices and structs of them, compressed or not. Nothing is
allocated beyond what the file holds or, in a compressed variable, what deflate can make of it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.readers.source import checksum, read_source
from assets.readers.units import MICROVOLTS, as_samples
from assets.record import Record, RecordError
from models.types import LEADS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPSC_HZ = 500.0
"""Rate of CPSC 2018 and 2019, from their descriptions; the files do not state it."""

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT_CLASS = 2
_NUMERIC_CLASSES = range(6, 16)
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_UNPACKED_LIMIT = 1 << 28
_DEEPEST = 4
_MOST_FIELDS = 64


@dataclass(frozen=True)
class _Variable:
    """A variable of a file: a matrix, the fields of a 1x1 struct, or None for a kind that recordings do not use."""

    name: str
    matrix: NDArray[np.float64] | None = None
    fields: dict[str, _Variable] | None = None


def read_mat(path: Path) -> Record:
    """Read a recording of CPSC 2018 or CPSC 2019.

    CPSC 2018: struct `ECG`, field `data` of shape (12, samples) in the standard lead order. CPSC 2019: matrix `ecg`, one
    lead, which lead is not said: it is called "ECG". Both in millivolts at 500 Hz, which their descriptions say and the
    files do not. Challenge files with a matrix `val` are read through their header (`assets.readers.wfdb`).

    Raises:
        RecordError: reasons of `assets.readers.source`; bad_matlab (no sound level 5 file), truncated,
            unknown_layout (other variables than these), bad_samples (infinite ones), empty.
    """
    data = read_source(path)
    variables = {variable.name: variable for variable in _variables(path, data)}
    if "ECG" in variables and (fields := variables["ECG"].fields) is not None and "data" in fields:
        signal_LT, leads = fields["data"].matrix, LEADS
    elif "ecg" in variables and (matrix := variables["ecg"].matrix) is not None and 1 in matrix.shape:
        signal_LT, leads = matrix.reshape(1, -1), ("ECG",)
    else:
        signal_LT, leads = None, ()
    if signal_LT is None or signal_LT.ndim != 2 or signal_LT.shape[0] != len(leads):
        raise RecordError(
            "unknown_layout",
            path,
            "holds neither the struct ECG of CPSC 2018 (data, 12 x samples) nor the matrix ecg of CPSC 2019 (one lead)",
        )
    with np.errstate(over="ignore"):
        signal_LT = signal_LT * MICROVOLTS["mV"]
    return Record(as_samples(path, signal_LT), leads, CPSC_HZ, ("uV",) * len(leads), checksum(data))


def _variables(path: Path, data: bytes) -> list[_Variable]:
    """The variables of a file, matrices among them as float64 in MATLAB's shape."""
    if not data.startswith(b"MATLAB 5.0 MAT-file") or data[126:128] not in (b"IM", b"MI"):
        raise RecordError("bad_matlab", path, "is no MATLAB file of level 5; save it with `save -v7`, or restore its WFDB header")
    order = "<" if data[126:128] == b"IM" else ">"
    found, position = [], _HEADER_BYTES
    body = memoryview(data)
    while position < len(body):
        kind, content, position = _element(path, body, position, order)
        if kind == _COMPRESSED:
            kind, content, _ = _element(path, memoryview(_inflate(path, content)), 0, order)
        if kind == _MATRIX:
            found.append(_variable(path, content, order, 0))
    return found


def _inflate(path: Path, content: memoryview) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(content, _UNPACKED_LIMIT)
    except zlib.error as error:
        raise RecordError("truncated", path, "a compressed variable cannot be unpacked; download it again") from error
    if unpacker.unconsumed_tail:
        raise RecordError("too_large", path, f"a compressed variable holds more than {_UNPACKED_LIMIT} bytes")
    if not unpacker.eof:
        raise RecordError("truncated", path, "a compressed variable ends early; download it again")
    return unpacked


def _element(path: Path, body: memoryview, position: int, order: str) -> tuple[int, memoryview, int]:
    """Kind and content of the data element at a position, and where the next one begins."""
    if position + 8 > len(body):
        raise RecordError("truncated", path, "ends within a data element; download it again")
    kind, size = struct.unpack_from(order + "II", body, position)
    if kind >> 16:  # up to four bytes stand in the tag itself
        size, kind = kind >> 16, kind & 0xFFFF
        start, following = position + 4, position + 8
        if size > 4:
            raise RecordError("bad_matlab", path, "a small data element states more than four bytes")
    else:
        start = position + 8
        following = start + size
        # Compressed elements are not padded to eight bytes, all others are.
        following += 0 if kind == _COMPRESSED else -size % 8
    if start + size > len(body):
        raise RecordError("truncated", path, "ends within a data element; download it again")
    return kind, body[start : start + size], following


def _variable(path: Path, content: memoryview, order: str, depth: int) -> _Variable:
    if depth > _DEEPEST:
        raise RecordError("bad_matlab", path, f"nests structs more than {_DEEPEST} deep")
    if not len(content):
        return _Variable("")
    kinds, parts, position = [], [], 0
    for _ in range(3):
        kind, part, position = _element(path, content, position, order)
        kinds.append(kind)
        parts.append(part)
    flags, dimensions, name = parts
    if kinds[0] != 6 or len(flags) != 8 or kinds[1] != 5 or len(dimensions) % 4 or not 8 <= len(dimensions) <= 32:
        raise RecordError("bad_matlab", path, "a variable has no sound description")
    word = struct.unpack_from(order + "I", flags)[0]
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    label = bytes(name[:64]).decode("ascii", "replace")
    if word & 0xFF == _STRUCT_CLASS and all(n == 1 for n in shape):
        return _Variable(label, fields=_fields(path, content, position, order, depth))
    if word & 0xFF in _NUMERIC_CLASSES and not word & 0x800:  # 0x800: complex
        return _Variable(label, matrix=_matrix(path, content, position, order, shape))
    return _Variable(label)


def _fields(path: Path, content: memoryview, position: int, order: str, depth: int) -> dict[str, _Variable]:
    _, width, position = _element(path, content, position, order)
    _, names, position = _element(path, content, position, order)
    size = struct.unpack_from(order + "i", width)[0] if len(width) == 4 else 0
    if size <= 0 or len(names) % size or len(names) // size > _MOST_FIELDS:
        raise RecordError("bad_matlab", path, "the fields of a struct have no sound names")
    found = {}
    for start in range(0, len(names), size):
        kind, part, position = _element(path, content, position, order)
        if kind != _MATRIX:
            raise RecordError("bad_matlab", path, "a field of a struct is no variable")
        name = bytes(names[start : start + size]).split(b"\0")[0].decode("ascii", "replace")
        found[name] = _variable(path, part, order, depth + 1)
    return found


def _matrix(path: Path, content: memoryview, position: int, order: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    kind, numbers, _ = _element(path, content, position, order)
    if kind not in _NUMBERS:
        raise RecordError("bad_matlab", path, f"holds numbers of the unknown kind {kind}")
    dtype = np.dtype(order + _NUMBERS[kind])
    size = 1
    for n in shape:
        size *= n
    if min(shape) < 0 or size * dtype.itemsize != len(numbers):
        raise RecordError("bad_matlab", path, "a matrix does not hold as many numbers as its size says")
    return np.frombuffer(numbers, dtype).reshape(shape, order="F").astype(np.float64)
