"""What a download consists of, and what of it is known to be there: the publisher's checksum list, read as a stream, and a table
of files verified before, so that a second run over a million files reads none of them again."""

from __future__ import annotations

import os
import re
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType

from assets.dataset import Download
from assets.download_file import Item
from assets.download_transport import DownloadError

_LINE = re.compile(rb"([0-9a-fA-F]{64})(?: [ *]?)([^ ].*)")
"""PhysioNet writes one blank between checksum and path, sha256sum two, or a blank and a star."""

_LONGEST_LINE = 4096 + 100


def require_path(path: str, where: str) -> str:
    """A relative path that stays in its folder, as it is.

    Raises:
        DownloadError: it is absolute, leads out of the folder, or is written in a way that no dataset's files are.
    """
    framed = f"/{path}/"
    if "//" in framed or "/./" in framed or "/../" in framed or "\\" in path or not path.isprintable():
        raise DownloadError(f"{where} names {path[:200]!r}, which is no path below the dataset's folder; nothing is downloaded")
    return path


def read_list(path: Path, only: Sequence[str] = ()) -> Iterator[Item]:
    """The files of a checksum list that fit one of the patterns, in its order.

    Raises:
        DownloadError: a line is not "<sha256> <path>", or its path leads out of the folder.
    """
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            found = _LINE.fullmatch(line.rstrip(b"\r\n"))
            try:
                name = found[2].decode() if found and (line.endswith(b"\n") or len(line) < _LONGEST_LINE) else ""
            except UnicodeDecodeError:
                name = ""
            if found is None or not name:
                hint = " (the server sent a web page)" if line.lstrip()[:1] == b"<" else ""
                raise DownloadError(f"line {number} of the checksum list {path} is not '<sha256> <path>'{hint}; nothing is downloaded")
            require_path(name, f"line {number} of the checksum list {path}")
            if chosen(name, only):
                yield Item(name, name, f"sha256:{found[1].decode().lower()}")


def require_names_once(items: Iterator[Item]) -> Iterator[Item]:
    """The same items.

    Raises:
        DownloadError: at the end, if two have the same path. Eight bytes an item are kept, not the paths.
    """
    import numpy as np

    seen = array("q")
    for item in items:
        seen.append(hash(item.path))
        yield item
    values = np.sort(np.frombuffer(seen, dtype=np.int64))
    if (values[1:] == values[:-1]).any():
        raise DownloadError("the checksum list names a file twice; nothing is downloaded, tell the publisher")


def single_files(download: Download, only: Sequence[str], *, mirrored: bool) -> list[Item]:
    """The files that a dataset declares one by one; from a mirror by path, else each from its own address."""
    items = []
    for file in download.files:
        require_path(file.path, "the dataset's declaration")
        if chosen(file.path, only):
            items.append(Item(file.path, file.path if mirrored else file.url, file.checksum, file.n_bytes, file.unpack))
    return items


def chosen(path: str, only: Sequence[str]) -> bool:
    """Whether a path fits one of the patterns, in which a star stands for slashes as well; always, where there are none."""
    return not only or any(fnmatchcase(path, pattern) for pattern in only)


class Verified:
    """Files whose checksum was compared, by path, with the size and modification time that they had then. Used by one thread.

    A cache: what is lost is verified again.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(path)
        except sqlite3.DatabaseError:
            path.unlink()
            self._open(path)

    def _open(self, path: Path) -> None:
        self._base = sqlite3.connect(path)
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, modified_ns INTEGER, checksum TEXT, archive TEXT)"
            " WITHOUT ROWID"
        )
        self._base.execute("SELECT * FROM files LIMIT 1").fetchall()

    def __enter__(self) -> Verified:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._base.commit()
        self._base.close()

    def holds(self, path: str, checksum: str, status: os.stat_result) -> bool:
        """Whether a file is as it was when it was found to have this checksum."""
        row = self._base.execute("SELECT size, modified_ns, checksum FROM files WHERE path = ?", (path,)).fetchone()
        return bool(row == (status.st_size, status.st_mtime_ns, checksum))

    def add(self, path: str, checksum: str, status: os.stat_result, archive: str = "") -> None:
        """Remember a file; `archive` is what it was unpacked from."""
        row = (path, status.st_size, status.st_mtime_ns, checksum, archive)
        self._base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)

    def commit(self) -> None:
        """Let what was added outlive the process."""
        self._base.commit()

    def unpacked(self, archive: str) -> list[tuple[str, int, int]]:
        """Path, size and modification time of the files that an archive was unpacked into."""
        return list(self._base.execute("SELECT path, size, modified_ns FROM files WHERE archive = ?", (archive,)))
