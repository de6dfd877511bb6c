"""Where stages put what they make, so that a reader sees a whole output or none.

    <workspace>/<stage>/<name>/<partition>/<identity>/...files..., manifest.json
    <workspace>/<stage>/<name>/<partition>/CURRENT            names the identity that readers use

The identity is a hash of everything that goes in (code version, configuration, upstream data versions), so the same
question is answered once. An output is built under a temporary name, flushed, given its manifest last and renamed;
then CURRENT is replaced. Identity folders are never changed afterwards. The data version of an output is the hash of
its manifest, which lists every file with its SHA-256.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.access import Access
from models.errors import EinthovenError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


class OutputError(EinthovenError):
    """An output that is missing, altered, or could not be written."""


@dataclass(frozen=True)
class Key:
    """Address of an output: the asset key and, for partitioned assets, the partition."""

    parts: tuple[str, ...]
    partition: str | None = None

    def __str__(self) -> str:
        return "/".join(self.parts) + (f"[{self.partition}]" if self.partition else "")

    @property
    def stage(self) -> str:
        """The first part: raw, cleaned, labels, reports, encoder, ..."""
        return self.parts[0]

    @property
    def path(self) -> Path:
        """Folder relative to the workspace."""
        return Path(*self.parts, self.partition or "all")


@dataclass
class Built:
    """What a builder reports about the files it wrote.

    Attributes:
        rows: the number that describes the size of the output to people.
        facts: anything JSON that belongs to the data and enters the data version.
        notes: anything JSON that is worth keeping but may differ between equal outputs (timings, hosts).
    """

    rows: int
    facts: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """A published output. `reused` is True when nothing had to be built."""

    key: Key
    folder: Path
    manifest: dict[str, Any]
    reused: bool = False

    @property
    def data_version(self) -> str:
        """Hash of the manifest without its notes."""
        return data_version(self.manifest)

    @property
    def access(self) -> Access:
        """Access class, inherited from everything upstream."""
        return Access(self.manifest["access"])

    @property
    def rows(self) -> int:
        """Size as reported by the builder."""
        return int(self.manifest["rows"])

    @property
    def facts(self) -> dict[str, Any]:
        """Facts as reported by the builder."""
        facts: dict[str, Any] = self.manifest["facts"]
        return facts

    def path(self, name: str) -> Path:
        """A file of the output.

        Raises:
            OutputError: the output has no such file.
        """
        path = self.folder / name
        if not path.exists():
            raise OutputError(f"{self.key}: {path} is missing; delete the folder {self.folder} and materialise {self.key} again")
        return path


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def data_version(manifest: Mapping[str, Any]) -> str:
    """The data version that a manifest stands for; figures and notes do not enter it."""
    return digest({k: v for k, v in manifest.items() if k not in ("notes", "figures")})


def identify(code_version: str, config: Mapping[str, Any], upstream: Mapping[str, str], access: Access = Access.OPEN) -> str:
    """The folder name of the output that these inputs lead to. A dataset whose class has changed is made anew."""
    restricted = {} if access is Access.OPEN else {"access": str(access)}
    return digest({"code_version": code_version, "config": dict(config), "upstream": dict(upstream), **restricted})[:16]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a small file so that readers see the old or the new content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; it is released when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class Workspace:
    """The folder that holds every output."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()

    def folder(self, key: Key) -> Path:
        """The folder that holds all identities of an output."""
        return self.root / key.path

    def current(self, key: Key) -> Output | None:
        """The output that readers use now, or None if it was never made."""
        pointer = self.folder(key) / "CURRENT"
        try:
            identity = pointer.read_text().strip()
        except FileNotFoundError:
            return None
        return self._load(key, self.folder(key) / identity)

    def require(self, key: Key) -> Output:
        """The current output.

        Raises:
            OutputError: it was never made, or its manifest is unreadable.
        """
        output = self.current(key)
        if output is None:
            raise OutputError(f"{key} has not been made yet; materialise it first")
        return output

    def publish(
        self,
        key: Key,
        build: Callable[[Path], Built],
        *,
        code_version: str,
        access: Access,
        config: Mapping[str, Any] | None = None,
        upstream: Mapping[str, str] | None = None,
    ) -> Output:
        """Make an output, or find that the same inputs were answered before, and let readers see it.

        Args:
            key: address.
            build: writes files into the folder it is given (it may make subfolders) and returns what it wrote. Files
                below `figures/` are kept but do not enter the data version.
            code_version: of the code that builds; part of the identity, as are the next two.
            access: class of the output, already joined over its inputs.
            config: what was asked.
            upstream: data versions of the inputs by name.

        Raises:
            OutputError: the disk is full. Nothing is left behind and the old output stays.
        """
        inputs: dict[str, Any] = {"code_version": code_version, "config": dict(config or {}), "upstream": dict(upstream or {})}
        identity = identify(**inputs, access=access)
        home = self.folder(key)
        with locked(home / f".lock-{identity}"):
            final = home / identity
            reused = _is_whole(final)
            if not reused:
                self._build(key, home, final, build, inputs, access)
            write_atomic(home / "CURRENT", identity)
            return self._load(key, final, reused=reused)

    def run_folder(self, key: Key, identity: str) -> Path:
        """Where the training job behind an output keeps checkpoints until the output is published.

        It depends on what is asked, never on who asks, so a retry or a restarted orchestrator finds the job again.
        """
        return self.root / "runs" / key.path / identity

    def _build(self, key: Key, home: Path, final: Path, build: Callable[[Path], Built], inputs: dict[str, Any], access: Access) -> None:
        temporary = home / f".building-{final.name}"
        try:
            if temporary.exists():  # we hold the lock: whoever wrote it is dead
                shutil.rmtree(temporary)
            temporary.mkdir(parents=True)
            built = build(temporary)
            manifest = {
                "format_version": FORMAT_VERSION,
                "asset": "/".join(key.parts),
                "partition": key.partition,
                "access": str(access),
                **inputs,
                "rows": built.rows,
                "facts": built.facts,
                "files": _seal(temporary, figures=False),
                "figures": _seal(temporary, figures=True),
                "notes": built.notes,
            }
            write_atomic(temporary / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False))
            if final.exists():  # an identity whose files were damaged
                shutil.rmtree(final)
            os.rename(temporary, final)
            fsync_folder(home)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutputError(
                    f"{key}: the disk that holds {home} is full; free some space and materialise it again. Nothing was changed"
                ) from error
            raise

    def _load(self, key: Key, folder: Path, reused: bool = False) -> Output:
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise OutputError(f"{key}: {folder / MANIFEST} cannot be read ({error}); materialise {key} again") from error
        if manifest.get("format_version") != FORMAT_VERSION:
            raise OutputError(
                f"{key}: {folder} has format version {manifest.get('format_version')}, this code reads {FORMAT_VERSION}; materialise {key} again"
            )
        return Output(key, folder, manifest, reused)


def verify(output: Output) -> None:
    """Read every file of an output and compare it with the manifest.

    Raises:
        OutputError: names the first file that is missing or differs.
    """
    for entry in output.manifest["files"]:
        path = output.folder / entry["path"]
        if not path.is_file():
            raise OutputError(f"{output.key}: {path} is missing")
        if sha256_file(path) != entry["sha256"]:
            raise OutputError(
                f"{output.key}: {path} differs from its manifest; restore it with `dvc pull` or materialise {output.key} again"
            )


def _is_whole(folder: Path) -> bool:
    """Whether an identity folder has its manifest and files of the right size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest["format_version"] == FORMAT_VERSION and all(
            (folder / f["path"]).stat().st_size == f["bytes"] for f in manifest["files"]
        )
    except (OSError, json.JSONDecodeError, KeyError):
        return False


def _seal(folder: Path, *, figures: bool) -> list[dict[str, Any]]:
    """Flush and list the files of a folder, or those below `figures/`."""
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder)
        if (relative.parts[0] == "figures") is not figures:
            continue
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        entries.append({"path": relative.as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)})
    return entries
