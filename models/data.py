"""Batches over a signal store: which records, in which order, with which report or labels.

The order is a pure function of (seed, step), so a job that was killed goes on with exactly the batches it would have seen.
Reports and labels are joined to signals by record_id and labels to classes by name, never by position.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from models.errors import ConfigurationError, TrainingError
from models.image_store import ImageStore
from models.predictions import window_name
from models.resident import Resident, hold
from models.signal_scale import SignalScale, measure_scale, stack_scales
from models.store import Store
from models.types import Batch

IntArray = NDArray[np.int64]
AnyStore = Store | ImageStore


class TrainingData(Protocol):
    """What training sees of its data: records of one store, or samples of several."""

    @property
    def skipped(self) -> int:
        """Records left out."""

    @property
    def patients(self) -> IntArray:
        """Numbers of the records' patients, int64 (N,)."""

    def __len__(self) -> int: ...

    def batch(self, positions: IntArray) -> Batch:
        """The records at some positions."""

    def names(self, rows: Sequence[int]) -> list[str]:
        """Ids of some rows of batches."""

    def vocabulary(self) -> list[str]:
        """All texts, from which a tokenizer learns."""

    def scale(self) -> SignalScale:
        """Mean and spread of the channels over all records."""

    def on(self, device: torch.device) -> TrainingData:
        """The same data, its signals held on a device where they fit (`models.resident`)."""


def numbered(names: list[str]) -> IntArray:
    """Numbers, equal where names are, int64 (N,)."""
    _, numbers = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
    return numbers.astype(np.int64)


@dataclass(frozen=True)
class Records:
    """Records to learn from.

    Attributes:
        store: where the signals are.
        rows_N: rows of the store's index, int64 (N,).
        texts: the report of each row, or None for a method that reads none.
        skipped: records of the same folds left out because their report is missing or too short.
        resident: their signals on a device, where they are held on one.
    """

    store: Store
    rows_N: IntArray
    texts: list[str] | None = None
    skipped: int = 0
    resident: Resident | None = None

    def __len__(self) -> int:
        return len(self.rows_N)

    def batch(self, positions: IntArray) -> Batch:
        """The records at some positions of `rows_N`."""
        rows = self.rows_N[positions]
        texts = None if self.texts is None else [self.texts[i] for i in positions]
        group_B = torch.from_numpy(self.patients[positions])
        found = batch_of(self.resident or self.store, rows)
        found.texts, found.group_B = texts, group_B
        return found

    def names(self, rows: Sequence[int]) -> list[str]:
        """Ids of some rows of batches."""
        ids = self.store.index["record_id"]
        return [str(ids[int(row)]) for row in rows]

    def vocabulary(self) -> list[str]:
        """All texts, from which a tokenizer learns."""
        return self.texts or []

    def scale(self) -> SignalScale:
        """Mean and spread of the channels over these records."""
        return stack_scales([(str(self.store.facts["dataset"]), *measure_scale(self.store, self.rows_N))])

    def on(self, device: torch.device, budget: int | None = None) -> Records:
        """The same records, their signals held on a device where they fit into so many bytes (`models.resident.hold`)."""
        return replace(self, resident=hold(self.store, self.rows_N, device, budget))

    @cached_property
    def patients(self) -> IntArray:
        """Numbers of the records' patients."""
        return numbered(self.patient_ids())

    def patient_ids(self) -> list[str]:
        """The patient of each record."""
        patients = self.store.index["patient_id"].to_pylist()
        return [patients[row] for row in self.rows_N.tolist()]


def batch_of(store: AnyStore | Resident, rows_N: IntArray, device: torch.device | str = "cpu") -> Batch:
    """Rows of a store as a batch: recordings of a signal store, or images of an image store and no signal.

    Signals that are held on a device come from there, whatever `device` says.
    """
    rows = torch.from_numpy(rows_N)
    if isinstance(store, Resident):
        present_BL = store.store.present(rows_N)
        present = None if present_BL is None else torch.from_numpy(present_BL).to(store.device)
        return Batch(store.signals(rows_N), rows, present_BL=present)
    if isinstance(store, ImageStore):
        return Batch(torch.zeros(len(rows), 0, 0, device=device), rows, image_BHW=torch.from_numpy(store.images(rows_N)).to(device))
    present_BL = store.present(rows_N)
    present = None if present_BL is None else torch.from_numpy(present_BL).to(device)
    return Batch(torch.from_numpy(store.signals(rows_N)).to(device), rows, present_BL=present)


@dataclass(frozen=True)
class Labelled:
    """Records, or windows of recordings, with labels of one task, in store order.

    Attributes:
        store: where the signals or images are.
        rows_N: rows of the store's index, int64 (N,).
        classes: names of the columns of `labels_NC`, sorted.
        labels_NC: int8 zeros and ones; float32 in the target's unit where `kind` is "regression".
        kind: of the task: "multilabel", "single_label" or "regression".
        per_window: whether a row is a window of a recording rather than a recording.
    """

    store: AnyStore
    rows_N: IntArray
    classes: tuple[str, ...]
    labels_NC: NDArray[Any]
    kind: str = "multilabel"
    per_window: bool = False

    def of_folds(self, folds: Sequence[int]) -> IntArray:
        """Positions whose record is in one of the folds."""
        fold_N = np.asarray(self.store.index["fold"])[self.rows_N]
        return np.flatnonzero(np.isin(fold_N, list(folds)))

    def column(self, name: str) -> NDArray[np.str_]:
        """A text column of the store's index for these rows; for "record_id" of windows their names, so that no name comes twice."""
        values = self.store.index[name].to_pylist()
        if name == "record_id" and self.per_window:
            start_N = self.store.index["start"].to_numpy()
            return np.array([window_name(values[i], start_N[i]) for i in self.rows_N], dtype=np.str_)
        return np.array([values[i] for i in self.rows_N], dtype=np.str_)


def records_with_reports(store: Store, folds: Sequence[int], reports: Path | None, min_words: int) -> Records:
    """The records of some folds, with their reports where a table is given.

    Records without a report of at least `min_words` words are left out and counted. A word holds a letter or digit.

    Raises:
        TrainingError: nothing is left, or the table cannot be read.
    """
    rows_N = np.asarray(store.rows_of_folds(tuple(folds)), dtype=np.int64)
    return rows_with_reports(store, rows_N, reports, min_words, f"folds {list(folds)} of the store")


def rows_with_reports(store: Store, rows_N: IntArray, reports: Path | None, min_words: int, what: str) -> Records:
    """The records of some rows likewise; `what` calls them for the error."""
    texts = None
    total = len(rows_N)
    if reports is not None:
        text_of = read_texts(reports)
        ids = store.index["record_id"].to_pylist()
        kept = [(row, text_of.get(ids[row], "")) for row in rows_N.tolist()]
        kept = [(row, text) for row, text in kept if count_words(text) >= min_words]
        rows_N, texts = np.array([row for row, _ in kept], dtype=np.int64), [text for _, text in kept]
    if not len(rows_N):
        raise TrainingError(
            f"no record to learn from: {what} hold {total} records, and none has a usable report in {reports}; check folds and reports"
        )
    return Records(store, rows_N, texts, total - len(rows_N))


def count_words(text: str) -> int:
    """Words with a letter or digit."""
    return sum(any(c.isalnum() for c in word) for word in text.split())


def read_texts(path: Path) -> dict[str, str]:
    """The reports of a table by record id.

    Raises:
        TrainingError: the table cannot be read.
    """
    try:
        table = pq.read_table(path, columns=["record_id", "text"])
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is not a reports table ({error}); materialise the reports again") from error
    return dict(zip(table["record_id"].to_pylist(), (t or "" for t in table["text"].to_pylist()), strict=True))


def labelled_records(store: AnyStore, labels: Path, kind: str = "multilabel") -> Labelled:
    """The records of a store that a label table knows; of a recording that was cut into windows, the first one.

    A table with a column `start` (seconds) is about windows; those that the store left out are left out here.

    Args:
        store: signals or images.
        labels: a label table.
        kind: of the task, see `Labelled`.

    Raises:
        TrainingError: the table cannot be read, names a record twice, holds what no label of the kind is, shares no record with
            the store, or names windows where the store has none.
    """
    try:
        table = pq.read_table(labels)
        names = table["record_id"].to_pylist()
        per_window = "start" in table.column_names
        starts_N = table["start"].to_numpy() if per_window else np.zeros(len(names))
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{labels} is not a label table ({error}); materialise the labels again") from error
    classes = tuple(sorted(name for name in table.column_names if name not in ("record_id", "start")))
    if not classes:
        raise TrainingError(f"{labels} has no class column; check the task")
    label_ids = [window_name(*named) for named in zip(names, starts_N, strict=True)] if per_window else names
    place = {record: i for i, record in enumerate(label_ids)}
    if len(place) != len(label_ids):
        raise TrainingError(f"{labels} names {len(label_ids) - len(place)} records twice; materialise the labels again")
    values_NC = _checked_labels(labels, label_ids, np.stack([table[c].to_numpy() for c in classes], axis=1), kind)
    found = _windows(store, labels, place, set(names)) if per_window else _first_windows(store, place)
    if not found:
        raise TrainingError(f"{labels} and the store share no record; they belong to different datasets")
    rows_N, order_N = np.array(sorted(found), dtype=np.int64).T
    return Labelled(store, np.ascontiguousarray(rows_N), classes, values_NC[order_N], kind, per_window)


def _checked_labels(labels: Path, label_ids: list[str], values_NC: NDArray[Any], kind: str) -> NDArray[Any]:
    """Labels in the type of their kind."""
    if kind == "regression":
        numbers_NC: NDArray[np.float32] = values_NC.astype(np.float32)
        bad_N = ~np.isfinite(numbers_NC).all(axis=1)
        if bad_N.any():
            named = ", ".join(label_ids[i] for i in np.flatnonzero(bad_N)[:5])
            raise TrainingError(
                f"{labels} holds targets that are no finite number for {int(bad_N.sum())} records ({named}); leave these out of the task's labels"
            )
        return numbers_NC
    if not np.isin(values_NC, (0, 1)).all():
        raise TrainingError(f"{labels} holds labels other than 0 and 1; materialise the labels again")
    if kind == "single_label" and (bad_N := values_NC.sum(axis=1) != 1).any():
        named = ", ".join(label_ids[i] for i in np.flatnonzero(bad_N)[:5])
        raise TrainingError(f"{labels} gives {int(bad_N.sum())} records none or several of the classes ({named}); exactly one must hold")
    return values_NC.astype(np.int8)


def _first_windows(store: AnyStore, place: Mapping[str, int]) -> list[tuple[int, int]]:
    """Store row and label row of the first window of each labelled record."""
    start_N = store.index["start"].to_numpy() if isinstance(store, Store) else np.zeros(len(store))
    first: dict[str, int] = {}
    for row, record in enumerate(store.index["record_id"].to_pylist()):
        if record in place and (record not in first or start_N[row] < start_N[first[record]]):
            first[record] = row
    return [(row, place[record]) for record, row in first.items()]


def _windows(store: AnyStore, labels: Path, place: Mapping[str, int], recordings: set[str]) -> list[tuple[int, int]]:
    """Store row and label row of each labelled window."""
    if not isinstance(store, Store):
        raise TrainingError(f"{labels} is about windows of recordings, and {store.folder} holds images; choose a task about images")
    names, start_N = store.index["record_id"].to_pylist(), store.index["start"].to_numpy()
    rows = {window_name(name, start_s): row for row, (name, start_s) in enumerate(zip(names, start_N, strict=True))}
    found = [(row, place[name]) for name, row in rows.items() if name in place]
    if not found and (shared := recordings & set(names)):
        example = next(name for name in place if name.rpartition("@")[0] in shared)
        raise TrainingError(
            f"{labels} names windows that the store does not have, {example!r} is one of them; choose a recipe whose windows are as long as the task's"
        )
    return found


class Order(ABC):
    """Which records each step sees."""

    batch_size: int

    @abstractmethod
    def positions(self, step: int) -> IntArray:
        """Positions of the records of a step, int64 (batch_size,)."""

    def share(self, step: int, rank: int, world: int) -> IntArray:
        """The part of a step's records that one of several processes works on.

        Raises:
            ConfigurationError: the batch cannot be divided evenly.
        """
        if self.batch_size % world:
            raise ConfigurationError(
                f"a batch of {self.batch_size} cannot be divided among {world} devices; choose a multiple as batch_size"
            )
        part = self.batch_size // world
        return self.positions(step)[rank * part : (rank + 1) * part]


@dataclass(frozen=True)
class BatchOrder(Order):
    """Which records a step sees: each pass over `n_records` is shuffled anew, and its incomplete last batch is dropped.

    Attributes:
        group_N: where given, numbers of patients; a pass then takes one record of each, so that no batch holds a patient twice.
    """

    n_records: int
    batch_size: int
    seed: int
    group_N: IntArray | None = None
    _last: dict[int, IntArray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def per_pass(self) -> int:
        """Records of a pass."""
        return self.n_records if self.group_N is None else len(np.unique(self.group_N))

    def positions(self, step: int) -> IntArray:
        """Positions of the records of a step, int64 (batch_size,).

        Raises:
            ConfigurationError: a pass has fewer records than a batch.
        """
        if not 0 < self.batch_size <= self.per_pass:
            raise ConfigurationError(
                f"a batch of {self.batch_size} cannot be drawn from {self.per_pass} records or patients; choose a smaller batch_size or accumulate"
            )
        passed, place = divmod(step, self.per_pass // self.batch_size)
        return self._order(passed)[place * self.batch_size : (place + 1) * self.batch_size]

    def _order(self, passed: int) -> IntArray:
        """The records of a pass in their order; that of the last pass asked for is kept, since steps ask for it in turn."""
        found = self._last.get(passed)
        if found is None:
            rng = np.random.default_rng([self.seed, passed])
            found = rng.permutation(self.n_records)
            if self.group_N is not None:
                _, first = np.unique(self.group_N[found], return_index=True)
                # Shuffled again: patients with many records would otherwise come first, and those with one be dropped at the end.
                found = rng.permutation(found[first])
            self._last.clear()
            self._last[passed] = found
        return found


class StepLoader:
    """Iterates over the batches of steps, reading the next one while the present one is worked on.

    Attributes:
        waited_s: seconds that iteration had to wait for data so far.
    """

    def __init__(self, read: Callable[[int], Batch], first_step: Callable[[], int], total_steps: int) -> None:
        self._read, self._first_step, self._total = read, first_step, total_steps
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(max_workers=1) as reader:
            step = self._first_step()
            coming: Future[Batch] | None = reader.submit(self._read, step) if step < self._total else None
            while coming is not None:
                started = time.perf_counter()
                batch = coming.result()
                self.waited_s += time.perf_counter() - started
                step += 1
                coming = reader.submit(self._read, step) if step < self._total else None
                yield batch
