"""What the sources of downloads share: an open answer, the ways in which one fails, and which failures are worth another try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from models.errors import EinthovenError

PIECE_BYTES = 1 << 18
CONNECT_TIMEOUT_S = 20.0
READ_TIMEOUT_S = 30.0


class DownloadError(EinthovenError):
    """Something that could not be downloaded, or must not be kept."""


class TransientError(DownloadError):
    """A failure that may be gone a little later: a server in trouble, a connection that broke, a body that was cut short."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        """`wait_s` is how long the server asked to be left alone."""
        super().__init__(message)
        self.wait_s = wait_s


class ChangedError(DownloadError):
    """What lies at the address is not what the first part was fetched from; begin again."""


class RefusedError(DownloadError):
    """Nothing can be fetched until somebody does something: credentials are missing, wrong or expired, or the disk is full."""


@dataclass(frozen=True)
class Answer:
    """A file that is being sent.

    Attributes:
        n_bytes: size of the whole file; None where the server does not say.
        etag: what the server calls this version of it; "" where it does not say.
        pieces: the bytes from where they were asked for. Raises `TransientError` when they stop early.
        close: to be called when no more are wanted.
    """

    n_bytes: int | None
    etag: str
    pieces: Iterator[bytes]
    close: Callable[[], None]


class Transport(Protocol):
    """A place to fetch files from. Used by several threads at once."""

    name: str
    """Where that is, for messages."""

    def open(self, address: str, start: int, etag: str) -> Answer:
        """Ask for a file from a byte on.

        Args:
            address: path below the place, or a whole address.
            start: first byte wanted.
            etag: of the version whose first `start` bytes are there; "" where it is not known.

        Raises:
            TransientError, ChangedError, RefusedError, DownloadError.
        """
        ...


def refuse_status(status: int, headers: Mapping[str, str], what: str, *, directions: str) -> DownloadError:
    """The error that an HTTP status other than success stands for; header names in lower case."""
    if status in (412, 416):
        return ChangedError(f"{what} is not what it was when its first part was fetched")
    if status in (408, 425, 429) or status >= 500:
        asked = headers.get("retry-after", "")
        return TransientError(f"{what}: the server answered {status}", wait_s=float(asked) if asked.isdigit() else 0.0)
    if status == 401:
        return RefusedError(f"{what}: the server asks who you are (401). {directions}")
    if status == 403:
        return DownloadError(f"{what}: the server does not let you have it (403). {directions}")
    if status in (404, 410):
        return DownloadError(f"{what} is not there ({status}); the publisher has moved or withdrawn it, see the dataset's homepage")
    if status in (301, 302, 303, 307, 308):
        moved = headers.get("location", "another address")
        return DownloadError(f"{what} has moved to {moved} ({status}); if you trust that address, give it as --source")
    return DownloadError(f"{what}: the server answered {status}, which a download cannot go on from")


def content_range(headers: Mapping[str, str]) -> tuple[int, int | None]:
    """First byte and whole size of a partial answer; (-1, None) where its header cannot be read."""
    unit, _, rest = headers.get("content-range", "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        return -1, None
    return int(first), int(total) if total.isdigit() else None


def opened(status: int, headers: Mapping[str, str], start: int, what: str, *, directions: str) -> int | None:
    """Look at the beginning of an HTTP answer to a request from `start` on; returns the size of the whole file, if said.

    Raises:
        ChangedError: the server sends another part than asked for, because the file is another one or it knows no parts.
        DownloadError: as `refuse_status`.
    """
    if status not in (200, 206):
        raise refuse_status(status, headers, what, directions=directions)
    length = headers.get("content-length", "")
    if status == 206:
        first, total = content_range(headers)
        if first != start:
            raise ChangedError(f"{what}: the server sent another part than asked for")
        return total if total is not None else (start + int(length) if length.isdigit() else None)
    if start:
        raise ChangedError(f"{what}: the server sends it from its beginning only, or it is not what its first part was fetched from")
    return int(length) if length.isdigit() else None
