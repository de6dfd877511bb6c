"""Reads the pickles of WESAD without unpickling them.

Unpickling runs whatever program a file holds. This module walks through the file's instructions itself and knows only those that
build dictionaries, tuples, numbers, texts and numeric NumPy arrays, in the forms that Python 2 and 3 and NumPy 1 and 2 write them.
Nothing is imported, called or looked up by name; everything else is refused. Samples are read out of the memory-mapped file, so no
allocation is larger than the file, and a claim of a size that the bytes do not bear out is an error.

The dictionary (Schmidt et al. 2018, wesad_readme.pdf): `subject` ("S2"), `label` (n,) and `signal`, which holds `chest` (RespiBAN
Professional, 700 Hz: ACC (n, 3) in g, ECG and EMG (n, 1) in mV, EDA in microsiemens, Temp in degrees Celsius, Resp in percent) and
`wrist` (Empatica E4), which is not read.
"""

from __future__ import annotations

import codecs
import errno
import mmap
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import xxhash

from assets.record import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FS_HZ = 700.0

CHEST: dict[str, tuple[str, ...]] = {
    "ACC": ("ACC_X", "ACC_Y", "ACC_Z"),
    "ECG": ("ECG",),
    "EMG": ("EMG",),
    "EDA": ("EDA",),
    "Temp": ("TEMP",),
    "Resp": ("RESP",),
}
"""Arrays of the chest device and what their columns are called here."""

MOST_INSTRUCTIONS = 10_000
"""Instructions that a file may have; an original has some hundreds."""

_LONGEST_TEXT = 1024
_LFS = b"version https://git-lfs.github.com/spec/"
_DTYPE = re.compile(r"f[248]|[iu][1248]")
_GLOBALS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "_frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "_frombuffer",
    ("_codecs", "encode"): "encode",
}
"""Names that a file may mention. They are never looked up: each stands for a few lines below."""


@dataclass(frozen=True)
class Session:
    """The chest recording of one subject.

    Attributes:
        subject: as in the file, "S2".
        signals: by channel name, float arrays in the file's units, shape (samples,); they read the mapped file as long as they live.
        label_T: codes of the protocol: 0 transient, 1 baseline, 2 stress, 3 amusement, 4 meditation, 5 to 7 to be ignored.
        source_checksum: XXH3 (128 bits, hexadecimal) over the file.
    """

    subject: str
    signals: dict[str, NDArray[np.floating[Any]]]
    label_T: NDArray[np.integer[Any]]
    source_checksum: str


def read_wesad_pickle(path: Path) -> Session:
    """Read a subject's pickle.

    Raises:
        RecordError: reasons absent, unreadable, unsafe_path, empty, lfs_pointer; unsafe_pickle (it holds more than numbers and names),
            bad_pickle (cut short or no pickle), bad_layout (not the arrays of WESAD).
    """
    data = _map(path)
    return _session(path, _Machine(path, data).run(), xxhash.xxh3_128(data).hexdigest())


def _map(path: Path) -> mmap.mmap:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # does not wait at a named pipe
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise RecordError("unsafe_path", path, "is no regular file; put the original file in its place")
            if found.st_size == 0:
                raise RecordError("empty", path, "is an empty file; download it again")
            data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecordError("absent", path, "there is no such file") from error
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:
            raise RecordError("unsafe_path", path, "is a link, which is not followed; put the original file in its place") from error
        raise RecordError("unreadable", path, f"cannot be read ({type(error).__name__}); check its permissions and its disk") from error
    if data[: len(_LFS)] == _LFS:
        raise RecordError("lfs_pointer", path, "is a git-lfs pointer and not the file itself; run `git lfs pull` where it came from")
    return data


class _Text:
    """A string of the file that was not copied yet.

    Protocol 0 writes strings between quotes, with escapes (`escaped`), and Unicode with escapes of its own (`raw`).
    """

    def __init__(self, view: memoryview, escaped: bool = False, raw: bool = False) -> None:
        self.view = view
        self.escaped = escaped
        self.raw = raw

    def data(self) -> bytes | memoryview:
        try:
            return codecs.escape_decode(self.view)[0] if self.escaped else self.view
        except DeprecationWarning as warning:  # where warnings are errors
            raise ValueError(str(warning)) from warning

    def latin1(self) -> bytes:
        """The bytes that a Unicode text stands for."""
        return codecs.decode(self.view, "raw_unicode_escape" if self.raw else "utf-8").encode("latin-1")

    def name(self) -> str:
        if len(self.view) > _LONGEST_TEXT:
            raise ValueError("a name of that length")
        return bytes(self.data()).decode("latin-1")


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass
class _Dtype:
    """A numeric type; its byte order is set when its state follows."""

    code: str
    order: str = "="


@dataclass
class _Array:
    """An array of the file, made when it is asked for."""

    shape: tuple[int, ...] = ()
    kind: _Dtype | None = None
    order: str = "C"
    samples: _Text | None = None

    def array(self) -> NDArray[Any]:
        """Raises ValueError where shape, type and bytes do not agree."""
        if self.samples is None or self.kind is None:
            raise ValueError("an array without samples")
        flat = np.frombuffer(self.samples.data(), np.dtype(self.kind.order + self.kind.code))
        count = 1
        for n in self.shape:
            count *= n
        if count != len(flat):
            raise ValueError(f"an array of shape {self.shape} with {len(flat)} samples")
        return flat.reshape(self.shape, order="F" if self.order == "F" else "C")


_MARK = object()


class _Machine:
    """Follows the instructions of one pickle, without doing anything that they do not spell out."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._view = memoryview(data)
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value that the pickle describes; strings and arrays are left where they are."""
        try:
            for _ in range(MOST_INSTRUCTIONS):
                code = self._take(1).tobytes()
                if code == b".":
                    return self._pop()
                instruction = _INSTRUCTIONS.get(code)
                if instruction is None:
                    self._refuse(f"instruction {code!r} at byte {self._at - 1}")
                instruction(self)
        except RecordError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
            raise RecordError(
                "bad_pickle", self._path, f"is no whole pickle of WESAD ({error} before byte {self._at}); download it again"
            ) from error
        return self._refuse(f"more than {MOST_INSTRUCTIONS} instructions")

    def _refuse(self, what: str) -> NoReturn:
        raise RecordError(
            "unsafe_pickle", self._path, f"holds {what}, which no file of WESAD needs; do not unpickle it, download the original"
        )

    def _take(self, n: int) -> memoryview:
        if not 0 <= n <= len(self._view) - self._at:
            raise ValueError(f"{n} bytes asked for")
        self._at += n
        return self._view[self._at - n : self._at]

    def _line(self) -> memoryview:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise ValueError("a line without an end")
        line = self._take(end - self._at)
        self._at += 1
        return line

    def _short_line(self) -> str:
        line = self._line()
        if len(line) > _LONGEST_TEXT:
            raise ValueError("a line of that length")
        return line.tobytes().decode("latin-1")

    def _number(self, form: str) -> int:
        value: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark in place of a value")
        return value

    def _pop_to_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_text(self, size: str) -> None:
        self._push(_Text(self._take(self._number(size))))

    def _quoted(self) -> None:
        line = self._line()
        if len(line) < 2 or line[0] != line[-1] or line[0] not in b"'\"":
            raise ValueError("a string without quotes")
        self._push(_Text(line[1:-1], escaped=True))

    def _plain_number(self) -> None:
        text = self._short_line()
        if not re.fullmatch(r"-?[0-9]{1,19}L?", text):
            raise ValueError(f"{text[:20]!r} as a number")
        self._push({"00": False, "01": True}.get(text, int(text.rstrip("L"))))

    def _long(self) -> None:
        size = self._number("<B")
        if size > 9:
            raise ValueError(f"a number of {size} bytes")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _put(self, key: int) -> None:
        value = self._pop()
        self._push(value)
        self._memo[key] = value

    def _global(self, module: str, name: str) -> None:
        known = _GLOBALS.get((module, name))
        if known is None:
            self._refuse(f"the name {module[:80] + '.' + name[:80]!r}")
        self._push(_Global(known))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, _Text) or not isinstance(module, _Text):
            self._refuse("a name that is no text")
        self._global(module.name(), name.name())

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise ValueError("items without a dictionary")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, _Text):
                raise ValueError("a key that is no text")
            target[key.name()] = value

    def _dictionary(self) -> None:
        pairs = self._pop_to_mark()
        self._push({})
        self._set(pairs)

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _tuple(self, n: int) -> None:
        values = [self._pop() for _ in range(n)]
        self._push(tuple(reversed(values)))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            self._refuse("a call of something other than NumPy's own")
        match function.name, arguments:
            case "_reconstruct", (_Global("ndarray"), (0,), _Text()):
                self._push(_Array())
            case "dtype", (_Text() as code, *_):
                if not _DTYPE.fullmatch(code.name()):
                    self._refuse(f"arrays of type {code.name()[:40]!r}")
                self._push(_Dtype(code.name()))
            case "encode", (_Text() as text, _Text() as encoding) if encoding.name() in ("latin1", "latin-1"):
                self._push(_Text(memoryview(text.latin1())))
            case "_frombuffer", (_Text() as samples, _Dtype() as kind, tuple() as shape, _Text() as order):
                self._push(_Array(_shape(shape), kind, order.name(), samples))
            case _:
                self._refuse(f"a call of {function.name} with other arguments than NumPy writes")

    def _build(self) -> None:
        """Give a type or an array its state."""
        state, target = self._pop(), self._stack[-1]
        match target, state:
            case _Dtype(), (int(), _Text() as order, None, None, None, int(), int(), int()) if order.name() in ("<", ">", "|", "="):
                target.order = order.name()
            case _Array(), (int(), tuple() as shape, _Dtype() as kind, bool() | 0 | 1 as fortran, _Text() as samples):
                target.shape, target.kind, target.samples = _shape(shape), kind, samples
                target.order = "F" if fortran else "C"
            case _:
                self._refuse("a state other than that of an array of numbers")


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    if not 1 <= len(shape) <= 2 or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array whose shape is not one or two sizes")
    return shape


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m._take(1),  # PROTO
    b"\x95": lambda m: m._take(8),  # FRAME: says how much to read ahead, which a mapped file does not need
    b"(": lambda m: m._push(_MARK),
    b"0": lambda m: m._pop(),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"I": _Machine._plain_number,
    b"L": _Machine._plain_number,
    b"J": lambda m: m._push(m._number("<i")),
    b"K": lambda m: m._push(m._number("<B")),
    b"M": lambda m: m._push(m._number("<H")),
    b"\x8a": _Machine._long,
    b"S": _Machine._quoted,
    b"T": lambda m: m._push_text("<i"),
    b"U": lambda m: m._push_text("<B"),
    b"V": lambda m: m._push(_Text(m._line(), raw=True)),
    b"X": lambda m: m._push_text("<I"),
    b"\x8c": lambda m: m._push_text("<B"),
    b"\x8d": lambda m: m._push_text("<Q"),
    b"B": lambda m: m._push_text("<I"),
    b"C": lambda m: m._push_text("<B"),
    b"\x8e": lambda m: m._push_text("<Q"),
    b"\x96": lambda m: m._push_text("<Q"),  # BYTEARRAY8
    b"}": lambda m: m._push({}),
    b"d": _Machine._dictionary,
    b"s": _Machine._set_one,
    b"u": lambda m: m._set(m._pop_to_mark()),
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(tuple(m._pop_to_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"p": lambda m: m._put(int(m._short_line())),
    b"q": lambda m: m._put(m._number("<B")),
    b"r": lambda m: m._put(m._number("<I")),
    b"\x94": lambda m: m._put(len(m._memo)),
    b"g": lambda m: m._push(m._memo[int(m._short_line())]),
    b"h": lambda m: m._push(m._memo[m._number("<B")]),
    b"j": lambda m: m._push(m._memo[m._number("<I")]),
    b"c": lambda m: m._global(m._short_line(), m._short_line()),
    b"\x93": _Machine._stack_global,
    b"R": _Machine._reduce,
    b"b": _Machine._build,
}
"""What is followed, by opcode. NEWOBJ, INST, OBJ, persistent ids, extensions, lists, sets and foreign buffers are not."""


def _session(path: Path, value: Any, checksum: str) -> Session:
    def lacks(what: str) -> RecordError:
        return RecordError("bad_layout", path, f"{what}; it is no subject's file of WESAD, download the original")

    match value:
        case {"subject": _Text() as subject, "label": _Array() as label, "signal": {"chest": dict(chest)}}:
            pass
        case _:
            raise lacks("does not hold subject, label and signal/chest")
    try:
        name, label_T = subject.name(), label.array()
        if label_T.ndim != 1 or label_T.dtype.kind not in "iu":
            raise lacks(f"its label has shape {label_T.shape} and type {label_T.dtype}")
        signals: dict[str, NDArray[np.floating[Any]]] = {}
        for key, channels in CHEST.items():
            held = chest.get(key)
            array = held.array() if isinstance(held, _Array) else None
            if array is None or array.shape != (len(label_T), len(channels)) or array.dtype.kind != "f":
                found = "missing" if array is None else f"of shape {array.shape} and type {array.dtype}"
                raise lacks(f"chest signal {key} is {found} where {len(label_T)} x {len(channels)} numbers are due")
            signals |= {channel: array[:, i] for i, channel in enumerate(channels)}
    except ValueError as error:
        raise RecordError("bad_pickle", path, f"holds {error}; download it again") from error
    return Session(name, signals, label_T, checksum)
