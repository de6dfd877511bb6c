"""Gets the bytes of a file for a reader: bounded, hashed, with a typed error for every way in which they cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import xxhash

from assets.record import RecordError

BINARY_LIMIT = 1 << 31
"""Largest binary recording that is read in one piece; 2 GiB hold a week of twelve leads at 128 Hz."""

TEXT_LIMIT = 1 << 28
"""Largest recording written as text (CSV, XML): numbers take several times the memory of their digits."""

_LFS = b"version https://git-lfs.github.com/spec/"


def read_source(path: Path, limit: int = BINARY_LIMIT) -> bytes:
    """The bytes of a file.

    Raises:
        RecordError: reasons absent, unreadable, too_large, empty, lfs_pointer.
    """
    return _read(path, limit, None)


def read_head(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a file, however long it is. Raises as `read_source`, but never too_large."""
    return _read(path, None, n_bytes)


def _read(path: Path, limit: int | None, n_bytes: int | None) -> bytes:
    try:
        if not path.is_file():
            raise RecordError("absent", path, "there is no such file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if limit is not None and size > limit:
                raise RecordError("too_large", path, f"holds {size} bytes; recordings of this format are read up to {limit} bytes")
            data = stream.read(size if n_bytes is None else min(size, n_bytes))
    except (OSError, ValueError) as error:
        raise RecordError("unreadable", path, f"cannot be read ({type(error).__name__}); check its permissions and its disk") from error
    if not data:
        raise RecordError("empty", path, "is an empty file; download it again")
    if data.startswith(_LFS):
        raise RecordError("lfs_pointer", path, "is a git-lfs pointer and not the file itself; run `git lfs pull` where it came from")
    return data


def checksum(*parts: bytes) -> str:
    """XXH3 (128 bits, hexadecimal) over bytes, as `Record.source_checksum` has it."""
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
