"""Reads signal stores: memory-mapped int16 shards behind an Arrow index (numpy and pyarrow only).

An open store keeps its shards mapped. Outputs are never changed in place, so it reads what it opened even after a newer
store was published, or this one deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.errors import StoreError

FORMAT_VERSIONS = (1, 2)
"""Versions that are read as they are: 2 added columns and renamed the source checksum, neither of which is needed here."""

MANIFEST_VERSION = 1
REQUIRED_COLUMNS = ("dataset", "record_id", "patient_id", "start", "row", "shard", "fold", "n_samples")


@dataclass(frozen=True)
class Channel:
    """One channel of a store.

    Attributes:
        kind: of signal: ECG, PPG, EDA, ACC, ...
        unit: physical unit, "uV" for ECG.
        scale: physical units per stored count.
    """

    name: str
    kind: str
    unit: str
    scale: float
    fs_hz: float


class Store:
    """An open store. A row number is the position in the index. Open with `open_store`.

    Attributes:
        folder: where it was opened.
        facts: as in the manifest.
        index: one row a window; columns as written by `assets.store`.
        channels: in the order of the second axis of `signals()`.
        fs_hz: sampling rate of all channels.
        n_samples: samples per channel in a window.
    """

    def __init__(
        self, folder: Path, facts: dict[str, Any], index: pa.Table, channels: tuple[Channel, ...], shards: list[NDArray[np.int16]]
    ) -> None:
        self.folder = folder
        self.facts = facts
        self.index = index
        self.channels = channels
        self.fs_hz = channels[0].fs_hz
        self.n_samples = shards[0].shape[2] if shards else round(float(facts["window_s"]) * self.fs_hz)
        self._shards = shards
        self._shard_N = index["shard"].to_numpy().astype(np.int64)
        self._row_N = index["row"].to_numpy()
        self._fold_N = index["fold"].to_numpy()
        self._all_scales_L1 = np.array([[c.scale] for c in channels], np.float32)
        self._picked_L: NDArray[np.int64] | None = None
        self._lacking_L: NDArray[np.bool_] | None = None
        absent = index["absent"].to_numpy().astype(np.int64) if "absent" in index.column_names else None
        self._absent_N = absent if absent is not None and absent.any() else None

    def select(self, names: Sequence[str], *, fill: bool = False) -> Store:
        """The same store, read as if it held these channels alone, in this order.

        Args:
            names: of channels.
            fill: whether channels that it lacks are read as zeros, and as absent by `present`, as long as it has one of them.

        Raises:
            StoreError: it has no such channel, or none of them where it may lack some.
        """
        held = [c.name for i, c in enumerate(self.channels) if self._lacking_L is None or not self._lacking_L[i]]
        missing = [name for name in names if name not in held]
        if (missing and not fill) or len(missing) == len(names):
            raise StoreError(f"{self.folder} has channels {', '.join(held)}, not {', '.join(missing) or 'an empty list'}")
        if list(names) == [c.name for c in self.channels]:
            return self
        place = {c.name: i for i, c in enumerate(self.channels)}
        stored_L = np.arange(len(self.channels)) if self._picked_L is None else self._picked_L
        view = copy(self)
        view.channels = tuple(self.channels[place[n]] if n in held else Channel(n, "", "", 1.0, self.fs_hz) for n in names)
        # A channel that is not there points to the first one, whose samples are overwritten by zeros.
        view._picked_L = np.array([stored_L[place[n]] if n in held else 0 for n in names], np.int64)
        view._lacking_L = np.array([n in missing for n in names]) if missing else None
        return view

    def __len__(self) -> int:
        return int(self.index.num_rows)

    @property
    def scales(self) -> NDArray[np.float32]:
        """Physical units per count of each channel, (L, 1)."""
        return self._all_scales_L1 if self._picked_L is None else self._all_scales_L1[self._picked_L]

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which channels there are, as `select` may have filled in others, bool (L,)."""
        return np.ones(len(self.channels), np.bool_) if self._lacking_L is None else ~self._lacking_L

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Windows as they are stored, int16 (B, L, T); times `scales` they are `signals`. Raises as it does."""
        rows = check_rows(self.folder, rows, len(self))
        return self._gather(rows, np.int16)

    def signals(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Windows in physical units (microvolts for ECG).

        Args:
            rows: row numbers in any order, repeats allowed, shape (B,).

        Returns:
            float32 array of shape (B, L, T).

        Raises:
            StoreError: a row number is no integer or not in the store.
        """
        rows = check_rows(self.folder, rows, len(self))
        signal_BLT: NDArray[np.float32] = self._gather(rows, np.float32)
        if (self.scales != 1).any():
            signal_BLT *= self.scales
        return signal_BLT

    def _gather(self, rows: NDArray[np.int64], dtype: Any) -> NDArray[Any]:
        """Counts of some rows, (B, L, T), of any type that holds them."""
        found_BLT = np.empty((len(rows), len(self.channels), self.n_samples), dtype)
        for i, (shard, place) in enumerate(zip(self._shard_N[rows].tolist(), self._row_N[rows].tolist(), strict=True)):
            window_LT = self._shards[shard][place]
            np.copyto(found_BLT[i], window_LT if self._picked_L is None else window_LT[self._picked_L])
        if self._lacking_L is not None:
            found_BLT[:, self._lacking_L] = 0
        return found_BLT

    def present(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which channels the recordings of some rows have, bool (B, L); None where all of them have all."""
        absent_B = np.zeros(len(rows), np.int64) if self._absent_N is None else self._absent_N[rows]
        if self._lacking_L is None and not absent_B.any():
            return None
        picked_L = np.arange(len(self.channels)) if self._picked_L is None else self._picked_L
        present_BL: NDArray[np.bool_] = (absent_B[:, None] >> picked_L[None, :]) & 1 == 0
        return present_BL if self._lacking_L is None else present_BL & ~self._lacking_L

    def rows_of_folds(self, folds: Iterable[int]) -> NDArray[np.int64]:
        """Row numbers of the windows of some folds, ascending."""
        return np.flatnonzero(np.isin(self._fold_N, list(folds))).astype(np.int64)

    def record_ids(self) -> list[str]:
        """Record of every row."""
        ids: list[str] = self.index["record_id"].to_pylist()
        return ids


def check_rows(folder: Path, rows: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
    """Row numbers as int64.

    Raises:
        StoreError: a row number is no integer or not in the store.
    """
    rows = np.asarray(rows)
    if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or rows.size == 0):
        raise StoreError(f"{folder}: row numbers must be a list of integers, not {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= n_rows):
        raise StoreError(f"{folder}: rows {rows.min()} to {rows.max()} were asked for, the store has {n_rows}")
    return rows


def open_store(folder: Path) -> Store:
    """Open a published store and hold what it says about itself against its files (sizes, shapes and counts; not hashes).

    Raises:
        StoreError: a file is missing, torn, or does not hold what manifest and index say; or the format is another version.
    """
    manifest = read_manifest(folder, "store", FORMAT_VERSIONS)
    facts: dict[str, Any] = manifest["facts"]
    try:
        sizes = {f["path"]: f["bytes"] for f in manifest["files"]}
        channels = tuple(Channel(c["name"], c["kind"], c["unit"], float(c["scale"]), float(c["fs_hz"])) for c in facts["channels"])
        shards = [(s["file"], s["rows"], tuple(s["channels"]), s["n_samples"]) for s in facts["shards"]]
        index_name = facts["index"]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{folder / 'manifest.json'} does not describe a store ({error!r}); make the store again") from error
    if len({c.fs_hz for c in channels}) != 1:
        raise StoreError(f"{folder}: channels of different rates {sorted({c.fs_hz for c in channels})}; this reader takes one rate")
    names = tuple(c.name for c in channels)
    if any(s[2] != names for s in shards) or len({s[3] for s in shards}) > 1:
        raise StoreError(f"{folder}: shards differ in channels or length; this reader takes stores of one kind of window")
    arrays = [map_shard(folder, file, sizes, "<i2", (rows, len(channels), n_samples)) for file, rows, _, n_samples in shards]
    index = read_index(folder / index_name, sizes.get(index_name), REQUIRED_COLUMNS, [s[1] for s in shards])
    return Store(folder, facts, index, channels, arrays)


def read_manifest(folder: Path, kind: str, versions: tuple[int, ...]) -> dict[str, Any]:
    """The manifest of a published output of a kind, in a format version that can be read.

    Raises:
        StoreError: it is missing, cannot be read, or describes something else.
    """
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: {folder} is no published store; materialise the cleaned stage first") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); make the store again") from error
    facts = manifest.get("facts") if isinstance(manifest, dict) else None
    if not isinstance(facts, dict) or facts.get("kind") != kind:
        raise StoreError(f"{path} describes something else than a {kind.replace('_', ' ')}; give the folder of a cleaned output")
    for found, known in ((manifest.get("format_version"), (MANIFEST_VERSION,)), (facts.get("format_version"), versions)):
        if found not in known:
            raise StoreError(f"{path} has format version {found}, this code reads {max(known)}; make the store again or update Einthoven")
    return manifest


def map_shard(folder: Path, file: str, sizes: dict[str, int], dtype: str, shape: tuple[int, int, int]) -> NDArray[Any]:
    """A shard, memory-mapped.

    Raises:
        StoreError: it is missing, torn, or of another type or shape.
    """
    path = folder / file
    if Path(file).name != file:
        raise StoreError(f"{folder / 'manifest.json'} names the shard {file!r}, which is no file of its folder; make the store again")
    _check_size(path, sizes.get(file))
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is no readable shard ({error}); make the store again") from error
    if shard.dtype != np.dtype(dtype) or shard.shape != shape:
        raise StoreError(
            f"{path} holds {shard.dtype} of shape {shard.shape}, its manifest says {np.dtype(dtype)} of shape {shape}; make the store again"
        )
    return np.asarray(shard)


def _check_size(path: Path, expected: int | None) -> None:
    if expected is None:
        raise StoreError(f"{path} is not listed in the manifest; make the store again")
    try:
        found = path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path} is missing; restore it with `dvc pull` or make the store again") from error
    if found != expected:
        raise StoreError(f"{path} has {found} bytes, its manifest says {expected}; restore it with `dvc pull` or make the store again")


def read_index(path: Path, expected: int | None, columns: tuple[str, ...], shard_rows: list[int]) -> pa.Table:
    """An index, memory-mapped.

    Raises:
        StoreError: it is missing, torn, lacks a column, or does not fit the shards.
    """
    _check_size(path, expected)
    try:
        with pa.memory_map(str(path)) as source:
            index = pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"{path} is no readable index ({error}); make the store again") from error
    _check_index(path, index, columns, shard_rows)
    return index


def _check_index(path: Path, index: pa.Table, columns: tuple[str, ...], shard_rows: list[int]) -> None:
    if lacking := [c for c in columns if c not in index.column_names]:
        raise StoreError(f"{path} has no column {', '.join(lacking)}; make the store again")
    if index.num_rows != sum(shard_rows):
        raise StoreError(f"{path} lists {index.num_rows} windows, the shards hold {sum(shard_rows)}; make the store again")
    shard_N, row_N = index["shard"].to_numpy(), index["row"].to_numpy()
    if not len(shard_N):
        return
    known = (shard_N >= 0) & (shard_N < len(shard_rows)) & (row_N >= 0)
    if not known.all() or (row_N >= np.array(shard_rows)[shard_N]).any():
        raise StoreError(f"{path} points to windows that no shard holds; make the store again")
