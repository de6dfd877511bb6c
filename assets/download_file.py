"""Fetches one file: from where an earlier try stopped, checked against its published checksum, put in place by a rename.

Beside the place where `x.dat` is to be lie `.x.dat.part`, what has come so far, and for large files `.x.dat.part.json`, which
says of which version that is. What comes twice with a wrong checksum is kept as `.x.dat.bad`, for a look at it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.download_transport import PIECE_BYTES, Answer, ChangedError, DownloadError, RefusedError, TransientError, Transport

RESUMED_FROM_BYTES = 1 << 20
"""Files below this size are begun again: that is cheaper than keeping notes about them."""

_LONGEST_WAIT_S = 60.0


class StoppedError(DownloadError):
    """The download as a whole is ending."""


@dataclass(frozen=True)
class Item:
    """A file to have.

    Attributes:
        path: below the dataset's folder, checked.
        address: what its transport knows it by.
        checksum: "sha256:<hex>" or "md5:<hex>", "" where the publisher states none.
        n_bytes: size, 0 where unknown.
        unpack: whether its members become the dataset's files.
    """

    path: str
    address: str
    checksum: str
    n_bytes: int = 0
    unpack: bool = False


@dataclass
class Patience:
    """How often a file is tried without a single new byte, and how long the first wait is; each is twice the one before."""

    tries: int = 6
    first_wait_s: float = 0.5


@dataclass
class Received:
    """Counts bytes as they come, in all threads."""

    n_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, n_bytes: int) -> None:
        """Count some more."""
        with self._lock:
            self.n_bytes += n_bytes


def beside(target: Path, ending: str) -> Path:
    """The hidden file of ours beside a place: no dataset takes it for one of its own."""
    return target.with_name(f".{target.name}.{ending}")


def new_hash(checksum: str) -> Any:
    """A hash of the kind that a checksum is of; SHA-256 where there is none."""
    kind = checksum.partition(":")[0] or "sha256"
    if kind not in ("sha256", "md5"):
        raise DownloadError(f"checksum {checksum[:80]!r} is neither sha256 nor md5")
    return hashlib.new(kind, usedforsecurity=False)


def hash_file(path: Path, checksum: str) -> Any:
    """The hash of a file that is there; links are not followed."""
    digest = new_hash(checksum)
    with _open(path, os.O_RDONLY) as stream:
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
    return digest


def agrees(digest: Any, checksum: str) -> bool:
    """Whether a hash is the published one; always, where none is published."""
    return not checksum or digest.hexdigest() == checksum.partition(":")[2].lower()


class Fetcher:
    """Fetches files with one transport. Used by several threads, each for another file."""

    def __init__(self, transport: Transport, received: Received, stop: threading.Event, patience: Patience) -> None:
        self._transport, self._received, self._stop, self._patience = transport, received, stop, patience

    def fetch(self, item: Item, target: Path) -> None:
        """Put a file in its place, or leave the place as it was.

        Raises:
            DownloadError: it could not be had, or its checksum is wrong twice.
            RefusedError: no file can be had until somebody does something.
            StoppedError: the download is ending.
        """
        part = beside(target, "part")
        try:
            self._fetch(item, target, part)
            os.replace(part, target)
            _forget(part)
            beside(target, "bad").unlink(missing_ok=True)
        except OSError as error:
            raise explain_disk(error, target) from error
        finally:
            if part.exists() and not _note(part).exists():
                part.unlink()  # too small to go on from

    def _fetch(self, item: Item, target: Path, part: Path) -> None:
        failures, wrong = 0, False
        while True:
            before = _size(part)
            try:
                digest = self._receive(item, part)
            except (TransientError, ChangedError) as error:
                if isinstance(error, ChangedError):
                    _discard(part)
                failures = 1 if _size(part) > before else failures + 1
                if failures >= self._patience.tries:
                    raise DownloadError(f"{error}; given up after {failures} tries, run the same command later to go on") from error
                self._wait(failures, getattr(error, "wait_s", 0.0))
                continue
            if agrees(digest, item.checksum):
                return
            if wrong:
                bad = beside(target, "bad")
                os.replace(part, bad)
                _forget(part)
                raise DownloadError(
                    f"{self._transport.name}: {item.path} came twice with a checksum other than the published one ({digest.hexdigest()[:12]}..., "
                    f"not {item.checksum.partition(':')[2][:12]}...); what came is kept as {bad}. "
                    "Something on the way alters it, or the publisher's list is wrong: try another --source, or tell the publisher"
                )
            wrong = True
            _discard(part)

    def _wait(self, failures: int, asked_s: float) -> None:
        seconds = self._patience.first_wait_s * 2 ** (failures - 1) * random.uniform(0.5, 1.0)
        self._stop.wait(min(max(seconds, asked_s), _LONGEST_WAIT_S))

    def _receive(self, item: Item, part: Path) -> Any:
        """Bring the part to its end; returns its hash."""
        if self._stop.is_set():
            raise StoppedError("the download is ending")
        start, etag, whole = _resume(part, item)
        digest = hash_file(part, item.checksum) if start else new_hash(item.checksum)
        if start and start == whole:
            return digest
        answer = self._transport.open(item.address, start, etag)
        try:
            _require_room(part, answer, start)
            if not start:
                _forget(part)
            with _open(part, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if start else os.O_TRUNC)) as out:
                if answer.n_bytes is None or answer.n_bytes >= RESUMED_FROM_BYTES:
                    _keep_note(part, item, answer)
                for piece in answer.pieces:
                    out.write(piece)
                    digest.update(piece)
                    self._received.add(len(piece))
                    if self._stop.is_set():
                        raise StoppedError("the download is ending")
                out.flush()
                os.fsync(out.fileno())
        finally:
            answer.close()
        return digest


def explain_disk(error: OSError, target: Path) -> DownloadError:
    """The typed error of what went wrong on this side."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RefusedError(f"the disk that holds {target.parent} is full; free some space and run the same command to go on")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RefusedError(f"{target} cannot be written ({error.strerror}); give this user the right to, or choose another --folder")
    return DownloadError(f"{target} cannot be written ({error.strerror or error})")


def _require_room(part: Path, answer: Answer, start: int) -> None:
    if answer.n_bytes is not None and answer.n_bytes - start > (free := shutil.disk_usage(part.parent).free):
        raise RefusedError(
            f"the disk that holds {part.parent} is full: {part.name[1:-5]} needs {answer.n_bytes - start:,} bytes more, {free:,} are free; "
            "free some space and run the same command to go on"
        )


def _resume(part: Path, item: Item) -> tuple[int, str, int | None]:
    """From which byte to go on, of which version, and how long it is; (0, "", None) to begin."""
    try:
        note = json.loads(_note(part).read_text())
        size, etag, whole = part.lstat().st_size, str(note["etag"]), note["n_bytes"]
        same = [note["path"], note["checksum"]] == [item.path, item.checksum] and (whole is None or size <= int(whole))
    except (OSError, ValueError, KeyError, TypeError):
        return 0, "", None
    # Without a name for the version only the checksum tells whether both parts belong together.
    return (size, etag, whole) if same and (etag or item.checksum) else (0, "", None)


def _keep_note(part: Path, item: Item, answer: Answer) -> None:
    text = json.dumps({"path": item.path, "checksum": item.checksum, "etag": answer.etag, "n_bytes": answer.n_bytes})
    with _open(_note(part), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as out:
        out.write(text.encode())


def _open(path: Path, flags: int) -> Any:
    """A file opened without following a link."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DownloadError(f"{path} is a device or a folder where a file of the dataset should be; move it away")
    return os.fdopen(descriptor, {os.O_RDONLY: "rb"}.get(flags & os.O_ACCMODE, "ab" if flags & os.O_APPEND else "wb"))


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(part: Path) -> int:
    try:
        return part.lstat().st_size
    except FileNotFoundError:
        return 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _forget(part)


def _forget(part: Path) -> None:
    _note(part).unlink(missing_ok=True)
