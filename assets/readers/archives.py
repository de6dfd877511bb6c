"""Unpacks downloaded archives (zip, tar, tar.gz) without trusting them.

Refused are links, devices, names that lead out of the folder or that two members share, encrypted members, more bytes than
the caller allows or the disk has, and what is packed tighter than any data (bombs). Everything is unpacked beside its place
first and moved there file by file when the whole archive was sound, so a file is either there whole or not at all.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from models.errors import EinthovenError

_PIECE = 1 << 20
_LONGEST_HEADER = 1 << 22
_LONGEST_NAME = 4096
_DEEPEST = 32
_MOST_MEMBERS = 2_000_000
_TIGHTEST = 200
"""Unpacked bytes per packed byte above which an archive of more than `_NEVER_A_BOMB` is refused; recordings reach about 10."""

_NEVER_A_BOMB = 1 << 28
_KEEP_FREE = 1 << 28


class ArchiveError(EinthovenError):
    """An archive that is damaged, or that must not be unpacked."""


class _Member(NamedTuple):
    """A file of an archive; `stream` is None for a folder."""

    name: str
    n_bytes: int
    stream: IO[bytes] | None


def unpack(archive: Path, folder: Path, *, limit_bytes: int) -> list[Path]:
    """Unpack an archive into a folder; files of the same name there are replaced.

    Args:
        archive: zip, tar or tar.gz, told apart by content.
        folder: made when it is not there.
        limit_bytes: the most that all members together may hold.

    Returns:
        The files, sorted.

    Raises:
        ArchiveError: it cannot be read, must not be unpacked, or does not fit; no file of it is in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as name:
            names = _write(archive, Path(name), limit_bytes)
            return _move(archive, Path(name), folder, names)
    except OSError as error:
        raise ArchiveError(f"{archive} cannot be unpacked into {folder} ({error.strerror or error}); check permissions and disk") from error


def _write(archive: Path, place: Path, limit_bytes: int) -> list[PurePosixPath]:
    """Unpack into an empty folder; returns the files' names."""
    budget = _Budget(archive, place, limit_bytes)
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    try:
        for member in _members(archive, limit_bytes):
            path = _safe(archive, member.name)
            budget.plan(member.n_bytes)
            if member.stream is None:
                folders |= {path, *path.parents}
                continue
            if path in files or not path.parts:
                raise ArchiveError(f"{archive} holds {str(path)[:80]!r} twice, or a file without a name; it is not unpacked")
            files.add(path)
            folders |= set(path.parents)
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                _copy(archive, member, out)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
        gzip.BadGzipFile,
        RuntimeError,
        ValueError,
    ) as error:
        raise ArchiveError(f"{archive} is damaged ({type(error).__name__}); download it again") from error
    if clash := files & folders:
        raise ArchiveError(f"{archive} holds {str(min(clash))[:80]!r} as a file and as a folder; it is not unpacked")
    return sorted(files)


class _Budget:
    """Keeps count of what an archive asks for."""

    def __init__(self, archive: Path, place: Path, limit_bytes: int) -> None:
        self._archive, self._limit, self._total, self._members = archive, limit_bytes, 0, 0
        self._free = shutil.disk_usage(place).free - _KEEP_FREE
        self._size = archive.stat().st_size

    def plan(self, n_bytes: int) -> None:
        self._total += n_bytes
        self._members += 1
        if self._total > self._limit or self._members > _MOST_MEMBERS:
            raise ArchiveError(
                f"{self._archive} holds more than the {self._limit} bytes or {_MOST_MEMBERS} members that are allowed; it is not unpacked"
            )
        if self._total > max(_NEVER_A_BOMB, self._size * _TIGHTEST):
            raise ArchiveError(f"{self._archive} is packed tighter than any recording; it is taken for a bomb and not unpacked")
        if self._total > self._free:
            raise ArchiveError(
                f"{self._archive} holds {self._total} bytes or more, and the disk has room for {max(self._free, 0)}; make room"
            )


def _copy(archive: Path, member: _Member, out: IO[bytes]) -> None:
    assert member.stream is not None
    left = member.n_bytes
    while piece := member.stream.read(min(_PIECE, left + 1)):
        left -= len(piece)
        if left < 0:
            break
        out.write(piece)
    out.flush()
    os.fsync(out.fileno())
    if left:
        raise ArchiveError(f"{archive} holds {member.name[:80]!r} with another length than it states; download it again")


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    odd = "\\" in name or not name.isprintable() or len(name) > _LONGEST_NAME or len(path.parts) > _DEEPEST
    drive = bool(path.parts) and path.parts[0].endswith(":")
    if odd or drive or path.is_absolute() or ".." in path.parts:
        raise ArchiveError(f"{archive} holds a member whose name leads out of the folder or is unusual ({name[:80]!r}); it is not unpacked")
    return path


def _members(archive: Path, limit_bytes: int) -> Iterator[_Member]:
    with archive.open("rb") as stream:
        head = stream.read(4)
        stream.seek(0)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(stream) as unpacked:
                yield from _tar_members(archive, _Forward(archive, unpacked, limit_bytes))
        elif head in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _zip_members(archive, stream)
        else:
            yield from _tar_members(archive, _Forward(archive, stream, limit_bytes))


def _zip_members(archive: Path, stream: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if not info.filename or kind not in (0, stat.S_IFREG, stat.S_IFDIR) or info.flag_bits & 1:
                raise ArchiveError(
                    f"{archive} holds a link, a device, an encrypted member or one without a name ({info.filename[:80]!r}); it is not unpacked"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(f"{archive} is packed by another method than deflate; unpack it by hand")
            if info.is_dir():
                yield _Member(info.filename, 0, None)
            else:
                with opened.open(info) as member:
                    yield _Member(info.filename, info.file_size, member)


def _tar_members(archive: Path, stream: _Forward) -> Iterator[_Member]:
    # tarfile wants an object of all methods of a file, but uses these three.
    with tarfile.open(fileobj=stream, mode="r:") as opened:  # type: ignore[call-overload]
        for info in opened:
            opened.members = []  # a list of everything seen, which nobody asks for
            if info.isdir():
                yield _Member(info.name, 0, None)
            elif info.isreg() and not info.issparse():
                yield _Member(info.name, info.size, opened.extractfile(info))
            else:
                raise ArchiveError(f"{archive} holds a link, a device or a sparse file ({info.name[:80]!r}); it is not unpacked")
    while stream.read(_PIECE):  # gzip compares its checksum at the end
        pass


class _Forward:
    """A stream that is read once from front to end, in bounded pieces; what comes after the limit is refused."""

    def __init__(self, archive: Path, stream: IO[bytes] | gzip.GzipFile, limit_bytes: int) -> None:
        self._archive, self._stream, self._position = archive, stream, 0
        # Headers and padding come on top of the members' bytes.
        self._end = 8 * limit_bytes + _LONGEST_HEADER

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        while self._position < position:
            if not self.read(min(_PIECE, position - self._position)):
                break
        if self._position > position:
            raise tarfile.ReadError("members overlap")
        return self._position

    def read(self, n: int) -> bytes:
        if n > _LONGEST_HEADER or self._position + n > self._end:
            raise ArchiveError(f"{self._archive} holds a header or padding longer than any; it is not unpacked")
        data = self._stream.read(n)
        self._position += len(data)
        return data


def _move(archive: Path, place: Path, folder: Path, names: list[PurePosixPath]) -> list[Path]:
    parents = sorted({p for name in names for p in name.parents if p.parts})
    if blocked := [p for p in parents if (folder / p).is_symlink()] or [name for name in names if (folder / name).is_dir()]:
        raise ArchiveError(f"{folder / blocked[0]} is a link or a folder where {archive} has a folder or a file; move it away")
    for parent in parents:
        (folder / parent).mkdir(exist_ok=True)
    for name in names:
        os.replace(place / name, folder / name)
    return [folder / name for name in names]
