"""Opens the files of a WFDB record: no link out of the folder is followed, and nothing but a regular file is read.

Plain descriptors instead of `Path.open`: a record of ten seconds is decoded in the time that one `Path` needs to find its file.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.record import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES = 1 << 20
"""Longest header; a hundred thousand segments fit."""

_FIRST_BYTES = 1 << 13
_LFS = b"version https://git-lfs.github.com/spec/"
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # not to wait at a named pipe for someone who writes
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def header_of(path: Path) -> str:
    """The header that belongs to a header, a data file, or both without their ending, whether or not it exists."""
    if path.suffix == ".hea":
        return str(path)
    longer = path.with_name(path.name + ".hea")
    return str(path.with_suffix(".hea") if path.suffix and not longer.exists() and path.exists() else longer)


def read_header(path: str, missing: str = "absent") -> bytes:
    """The bytes of a header.

    Raises:
        RecordError: reasons unreadable, unsafe_path, lfs_pointer, bad_header; missing_header where the data file is there
            without it, else `missing`.
    """
    try:
        descriptor = _open(path)
        try:
            raw = os.read(descriptor, _FIRST_BYTES)
            if len(raw) == _FIRST_BYTES:
                while part := os.read(descriptor, HEADER_BYTES + 1 - len(raw)):
                    raw += part
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in _ABSENT:
            raise _unreadable(path, error) from error
        if missing == "absent" and any(Path(path).with_suffix(ending).exists() for ending in (".dat", ".mat")):
            raise RecordError("missing_header", path, "the data file is there without its header; download the header again") from error
        sentence = (
            "there is no such record" if missing == "absent" else "the record names this segment, but it is not there; download it again"
        )
        raise RecordError(missing, path, sentence) from error
    if raw.startswith(_LFS):
        raise _lfs_pointer(path)
    if len(raw) > HEADER_BYTES:
        raise RecordError("bad_header", path, f"is longer than {HEADER_BYTES} bytes and cannot be a WFDB header")
    return raw


def size_of(path: str) -> int:
    """Bytes of a data file.

    Raises:
        RecordError: reasons missing_signal, unreadable, unsafe_path, lfs_pointer.
    """
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            found = os.lstat(_inside(path))
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in _ABSENT:
            raise _unreadable(path, error) from error
        raise RecordError("missing_signal", path, "the header names this data file, but it is not there; download it again") from error
    if not stat.S_ISREG(found.st_mode):
        raise RecordError("missing_signal", path, "the header names this data file, but it is none; download it again")
    if found.st_size < 1024 and bytes(read(path, 0, min(found.st_size, len(_LFS)))) == _LFS:
        raise _lfs_pointer(path)
    return found.st_size


def read(path: str, start: int, size: int, room: int = 0) -> NDArray[np.uint8]:
    """Bytes of a file, shape (size,); with `room` at least so many, zeros behind the last.

    Raises:
        RecordError: reasons unreadable, unsafe_path, truncated.
    """
    buffer = np.empty(max(size, room), np.uint8)
    buffer[size:] = 0
    view = memoryview(buffer)  # type: ignore[arg-type]
    done = 0
    try:
        descriptor = _open(path)
        try:
            while done < size and (n := os.preadv(descriptor, [view[done:size]], start + done)):
                done += n
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if done < size:
        raise RecordError("truncated", path, f"ended at byte {start + done} while it was read; is it still being written?")
    return buffer


@contextmanager
def opened(path: str) -> Iterator[io.FileIO]:
    """A file open for reading.

    Raises:
        RecordError: reasons unreadable, unsafe_path.
    """
    try:
        stream = os.fdopen(_open(path), "rb", buffering=0)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    with stream:
        yield stream


def below(folder: str, name: str) -> str:
    """The path of a segment that may lie in a folder below.

    Raises:
        RecordError: reason unsafe_path, where a folder on the way is a link that leads out.
    """
    path = f"{folder}{name}"
    if "/" in name and not _is_inside(os.path.realpath(os.path.dirname(path)), os.path.realpath(folder)):  # noqa: PTH120
        raise _unsafe(path)
    return path


def _open(path: str) -> int:
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return os.open(_inside(path), _FLAGS)


def _inside(path: str) -> str:
    """Where a link leads, as long as it stays in its folder."""
    target = os.path.realpath(path, strict=True)
    if not _is_inside(target, os.path.realpath(os.path.dirname(path))):  # noqa: PTH120
        raise _unsafe(path)
    return target


def _is_inside(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


def _unsafe(path: str) -> RecordError:
    return RecordError("unsafe_path", path, "is or passes through a link that leads out of the record's folder; put the file itself there")


def _lfs_pointer(path: str) -> RecordError:
    return RecordError("lfs_pointer", path, "is a git-lfs pointer and not the file itself; run `git lfs pull` where it came from")


def _unreadable(path: str, error: Exception) -> RecordError:
    return RecordError("unreadable", path, f"cannot be read ({type(error).__name__}); check its permissions and its disk")
