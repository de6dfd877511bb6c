"""Downloads a dataset into its folder: only what is missing, every file checked against its publisher's checksum.

What is in the folder is the user's: a file with another checksum is reported, not replaced, unless the user says so. A download
that was stopped, in whatever way, goes on when it is asked for again. What is there of a partial download is usable.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from assets.dataset import Dataset, Download
from assets.download_file import Fetcher, Item, Patience, Received, agrees, beside, explain_disk, hash_file
from assets.download_https import HttpsTransport, WgetTransport
from assets.download_list import Verified, read_list, require_names_once, single_files
from assets.download_s3 import S3Transport
from assets.download_transport import DownloadError, RefusedError, Transport
from assets.download_tree import Tree
from assets.tables import some

MOST_FAULTS = 20
"""So many files that cannot be had end a download: the reason is hardly theirs."""

_REPORT_EVERY_S = 0.2


@dataclass
class Progress:
    """How far a download is.

    Attributes:
        n_files: files wanted.
        n_bytes: size of everything where it is known, else 0.
        n_kept: files that were there before; `n_read` of them had to be read to know.
        n_fetched: files that were fetched.
        n_unchecked: files for which the publisher states no checksum.
        n_bytes_there: bytes of the wanted files that were there at the beginning.
        received: bytes that came.
        faults: what is wrong with single files.
    """

    n_files: int = 0
    n_bytes: int = 0
    n_kept: int = 0
    n_read: int = 0
    n_fetched: int = 0
    n_unchecked: int = 0
    n_bytes_there: int = 0
    received: Received = field(default_factory=Received)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        only: patterns of paths, all files where there are none.
        workers: files fetched at once.
        source: "s3", "https" or the address of a mirror; "" for the dataset's first choice.
        replace: whether files with another checksum are replaced.
    """

    only: tuple[str, ...] = ()
    workers: int = 16
    source: str = ""
    replace: bool = False
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class _Had:
    """What became of a file."""

    item: Item
    how: Literal["kept", "fetched"]
    statuses: tuple[tuple[str, os.stat_result], ...]


def download(dataset: type[Dataset], folder: Path, cache: Path, wish: Wish, report: Callable[[Progress], None]) -> Progress:
    """Bring what is missing of a dataset into its folder.

    Args:
        dataset: declares where it is published.
        folder: made when it is not there.
        cache: folder for the checksum list and what was verified before.
        wish: which files, from where.
        report: called a few times a second.

    Raises:
        DownloadError: it cannot be downloaded, or some files could not be had; all others are in their places.
    """
    transport, progress = choose_transport(dataset, wish), Progress()
    transport.connect()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(cache, dataset.name):
            tree = Tree(folder)
            items = _plan(dataset, transport, tree, cache, wish, progress)
            with Verified(cache / f"verified-{sha256(str(tree.root).encode()).hexdigest()[:12]}.sqlite") as verified:
                _Work(tree, transport, verified, wish, progress, report).run(items())
    except KeyboardInterrupt:
        raise DownloadError("interrupted; what is complete is kept, run the same command to go on") from None
    except OSError as error:
        raise explain_disk(error, folder) from error
    report(progress)
    if progress.faults:
        more = f"; {len(progress.faults)} files in all" if len(progress.faults) > 1 else ""
        raise DownloadError(
            f"{'; '.join(progress.faults[:3])}{more}. {progress.n_kept + progress.n_fetched} of {progress.n_files} files are there"
        )
    return progress


def choose_transport(dataset: type[Dataset], wish: Wish) -> S3Transport | HttpsTransport | WgetTransport:
    """How the files of a dataset are fetched.

    Raises:
        DownloadError: it cannot be downloaded at all, or not from there; says what to do instead.
        RefusedError: credentials are missing.
    """
    source, declared = dataset.source, dataset.source.download
    if dataset.simulated:
        raise DownloadError(f"{dataset.name} is simulated and made on first use; there is nothing to download")
    directions = " ".join(filter(None, (source.terms, declared.directions, f"See {source.homepage}.")))
    if declared.credentials == "manual" or not (declared.s3 or declared.https or declared.files):
        raise DownloadError(f"{source.title} cannot be downloaded by a program. {directions}")
    signed = declared.credentials != "none"
    place = {"s3": declared.s3, "https": declared.https, "": declared.s3 or declared.https}.get(wish.source, wish.source)
    if wish.source in ("s3", "https") and not place and not (wish.source == "https" and declared.files):
        raise DownloadError(f"{source.title} declares no {wish.source} source; leave --source out or give an address. {directions}")
    if place and not place.startswith(("s3://", "https://", "http://")):
        raise DownloadError(f"--source {wish.source!r} is neither s3, https nor an address that begins with s3:// or https://")
    if place.startswith("s3://"):
        return S3Transport(place, workers=wish.workers, signed=signed, directions=directions)
    base = f"{place.rstrip('/')}/" if place else ""
    if signed:
        return WgetTransport(base, directions=directions)
    return HttpsTransport(base, workers=wish.workers, directions=directions)


def _plan(
    dataset: type[Dataset], transport: Transport, tree: Tree, cache: Path, wish: Wish, progress: Progress
) -> Callable[[], Iterator[Item]]:
    """Look through everything that is wanted, once and before anything is fetched; returns a way to go through it again."""
    declared = dataset.source.download
    if declared.files:
        listed = single_files(declared, wish.only, mirrored=wish.source not in ("", "s3", "https"))

        def items() -> Iterator[Item]:
            return iter(listed)
    else:
        path = _checksum_list(declared, transport, cache, wish)

        def items() -> Iterator[Item]:
            return read_list(path, wish.only)

    for item in require_names_once(items()):
        progress.n_files += 1
        progress.n_bytes_there += tree.size(item.path)
    if not declared.files:
        _settle_list(path, declared.checksums, transport, tree, wish)
    if not progress.n_files:
        raise DownloadError(f"no file of {dataset.source.title} fits {', '.join(wish.only)}; patterns look like 'records100/*' or '*.csv'")
    if not wish.only:
        progress.n_bytes = declared.n_bytes
        missing, free = declared.n_bytes - progress.n_bytes_there, shutil.disk_usage(tree.root).free
        if missing > free:
            raise RefusedError(
                f"{dataset.source.title} needs about {missing / 1e9:.1f} GB more and the disk that holds {tree.root} has {free / 1e9:.1f} GB "
                "free; choose another --folder, or a part of it with --only"
            )
    return items


def _checksum_list(declared: Download, transport: Transport, cache: Path, wish: Wish) -> Path:
    """Fetch the publisher's checksum list.

    Raises:
        DownloadError: it cannot be had.
    """
    if not declared.checksums:
        raise DownloadError(f"{transport.name} has no checksum list, so nothing could be verified; download it by hand")
    path = cache / "checksums.txt"
    Fetcher(transport, Received(), threading.Event(), wish.patience).fetch(Item(declared.checksums, declared.checksums, ""), path)
    return path


def _settle_list(path: Path, name: str, transport: Transport, tree: Tree, wish: Wish) -> None:
    """Put a copy of the checksum list into the dataset's folder.

    Raises:
        DownloadError: another list lies there, so the files are another version's.
    """
    copy, checksum = tree.place(name), f"sha256:{hash_file(path, '').hexdigest()}"
    if copy.exists() and agrees(hash_file(copy, checksum), checksum):
        return
    if copy.exists() and not wish.replace:
        raise DownloadError(
            f"{copy} is not the list that {transport.name} publishes now: your files are of another version, or the list was altered. "
            "Choose another --folder, or accept the new list with --replace"
        )
    part = beside(copy, "part")
    shutil.copyfile(path, part)
    os.replace(part, copy)


class _Work:
    """Goes through the files with some threads; this thread hands out, remembers and reports."""

    def __init__(
        self, tree: Tree, transport: Transport, verified: Verified, wish: Wish, progress: Progress, report: Callable[[Progress], None]
    ) -> None:
        self._tree, self._verified, self._wish, self._progress, self._report = tree, verified, wish, progress, report
        self._stop = threading.Event()
        self._fetcher = Fetcher(transport, progress.received, self._stop, wish.patience)

    def run(self, items: Iterator[Item]) -> None:
        """Have every file, or a fault that says why not.

        Raises:
            RefusedError: nothing can be fetched any more.
            DownloadError: interrupted, or too many faults.
        """
        pool = ThreadPoolExecutor(self._wish.workers, thread_name_prefix="download")
        running: set[Future[_Had]] = set()
        try:
            for item in items:
                if self._known(item):
                    self._progress.n_kept += 1
                    if self._progress.n_kept % 10_000 == 0:
                        self._report(self._progress)
                    continue
                running.add(pool.submit(self._have, item))
                while len(running) >= 4 * self._wish.workers:
                    running = self._collect(running)
            while running:
                running = self._collect(running)
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)
            self._collect_last(running)

    def _known(self, item: Item) -> bool:
        """Whether a file is as it was when it was verified."""
        if item.unpack:
            members = self._verified.unpacked(item.path)
            found = [(self._tree.status(path), size, modified_ns) for path, size, modified_ns in members]
            return bool(members) and all(s is not None and (s.st_size, s.st_mtime_ns) == (size, ns) for s, size, ns in found)
        status = self._tree.status(item.path)
        return status is not None and self._verified.holds(item.path, item.checksum, status)

    def _collect(self, running: set[Future[_Had]]) -> set[Future[_Had]]:
        done, left = wait(running, timeout=_REPORT_EVERY_S, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                self._remember(future.result())
            except RefusedError:
                raise
            except DownloadError as error:
                self._progress.faults.append(str(error))
        self._report(self._progress)
        if len(self._progress.faults) >= MOST_FAULTS:
            faults = self._progress.faults
            raise DownloadError(f"{len(faults)} files could not be had, so the download was ended. {some(faults, 3)}")
        return left

    def _collect_last(self, running: Iterable[Future[_Had]]) -> None:
        """Remember what was completed while the download was ending."""
        for future in running:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._remember(future.result())
        self._verified.commit()

    def _remember(self, had: _Had) -> None:
        progress = self._progress
        for path, status in had.statuses:
            self._verified.add(path, had.item.checksum, status, had.item.path if had.item.unpack else "")
        progress.n_kept += had.how == "kept"
        progress.n_read += had.how == "kept"
        progress.n_fetched += had.how == "fetched"
        progress.n_unchecked += not had.item.checksum
        if (progress.n_fetched + progress.n_read) % 1000 == 0:
            self._verified.commit()

    def _have(self, item: Item) -> _Had:
        """Have a file in its place. Runs in a thread of the pool."""
        target = self._tree.place(item.path)
        try:
            if item.unpack:
                return self._have_members(item, target)
            how = self._have_file(item, target)
            return _Had(item, how, ((item.path, target.lstat()),))
        except OSError as error:
            raise explain_disk(error, target) from error

    def _have_file(self, item: Item, target: Path) -> Literal["kept", "fetched"]:
        if target.exists():
            if agrees(hash_file(target, item.checksum), item.checksum):
                return "kept"
            if not self._wish.replace:
                raise DownloadError(
                    f"{target} is there with another checksum than the published one and was left as it is: cut short by another program, "
                    "or altered; --replace fetches it again"
                )
        self._fetcher.fetch(item, target)
        return "fetched"

    def _have_members(self, item: Item, target: Path) -> _Had:
        """Fetch and unpack an archive, unless the user has it; ours is deleted afterwards."""
        from assets.readers.archives import ArchiveError, unpack

        theirs = target.exists()
        archive = target if theirs else beside(target, "archive")
        self._have_file(item, archive)
        staging = beside(target, "unpacked")
        try:
            found = unpack(archive, staging, limit_bytes=shutil.disk_usage(self._tree.root).free)
            statuses = tuple(self._settle(path, staging, target) for path in found)
        except ArchiveError as error:
            if not theirs:
                os.replace(archive, beside(target, "bad"))
            raise DownloadError(str(error)) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        if not theirs:
            archive.unlink()
        return _Had(item, "fetched", statuses)

    def _settle(self, path: Path, staging: Path, archive: Path) -> tuple[str, os.stat_result]:
        """Move a member of an archive to its place."""
        name = (archive.parent.relative_to(self._tree.root) / path.relative_to(staging)).as_posix()
        target = self._tree.place(name)
        if target.exists() and not self._wish.replace and hash_file(target, "").digest() != hash_file(path, "").digest():
            raise DownloadError(
                f"{target} is there and differs from the one in {archive.name}; it was left as it is, --replace replaces it"
            )
        os.replace(path, target)
        return name, target.lstat()


@contextmanager
def _alone(cache: Path, name: str) -> Iterator[None]:
    """Keep a second download of the same dataset out.

    Raises:
        DownloadError: one is running.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"another download of {name} is running; wait for it, or end it first") from error
        yield
