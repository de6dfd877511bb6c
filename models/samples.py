"""Batches over several stores: which ECG, image, lab panel and texts belong together, as a pairing's tables say.

A sample may lack modalities: its tensors are zeros then, its texts "", and `Batch.observed` says so. What the tables name but
the stores do not hold (it was quarantined, or its file never came) counts as missing; samples that are left with fewer than two
modalities are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from models.data import IntArray, numbered, read_texts
from models.errors import ConfigurationError, TrainingError
from models.image_store import ImageStore
from models.resident import Resident, hold
from models.signal_scale import SignalScale, measure_scale, stack_scales
from models.store import Store
from models.types import Batch, Modality

_COLUMNS = ("sample_id", "patient_id", "fold", "ecg_id", "image_id", "panel_id")


@dataclass(frozen=True)
class Panels:
    """Lab panels: percentiles float32 (N, P) and what was measured, bool (N, P), by panel id."""

    place: dict[str, int]
    percentiles_NP: NDArray[np.float32]
    observed_NP: NDArray[np.bool_]


@dataclass(frozen=True)
class Sources:
    """Open stores and tables that samples point into; None for what a method does not read.

    Attributes:
        signals: ECG store, its channels chosen.
        images: image store.
        panels: lab panels.
        texts: report by id of the ECG.
        image_texts: report by id of the image.
        min_words: reports of fewer words count as missing.
        resident: the signals on a device, where they are held on one.
    """

    signals: Store | None = None
    images: ImageStore | None = None
    panels: Panels | None = None
    texts: dict[str, str] | None = None
    image_texts: dict[str, str] | None = None
    min_words: int = 1
    resident: Resident | None = None


@dataclass(frozen=True)
class Samples:
    """Samples of some folds. Rows of the arrays are samples; -1 stands for a missing item.

    Attributes:
        ids: sample ids.
        patients: numbers of patients.
        ecg_N, image_N, panel_N: rows in the signal store, the image store and the panels.
        ecg_ids, image_ids: ids of recordings and pictures, "" where missing.
        texts: reports of the ECGs, "" where missing; None where none are read.
        image_texts: reports of the images likewise.
        skipped: samples left out because fewer than two modalities are there.
    """

    sources: Sources
    ids: list[str]
    patients: IntArray
    ecg_N: IntArray
    image_N: IntArray
    panel_N: IntArray
    ecg_ids: list[str] = field(default_factory=list)
    image_ids: list[str] = field(default_factory=list)
    texts: list[str] | None = None
    image_texts: list[str] | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Ids of some rows of batches."""
        return [self.ids[int(row)] for row in rows]

    def vocabulary(self) -> list[str]:
        """All texts, from which a tokenizer learns."""
        return [text for text in [*(self.texts or []), *(self.image_texts or [])] if text]

    def scale(self) -> SignalScale:
        """Mean and spread of the channels over the recordings of these samples, each counted once.

        Raises:
            ConfigurationError: the samples have no signals.
        """
        store = self.sources.signals
        if store is None:
            raise ConfigurationError("these samples have no signals whose scale could be measured")
        rows_N = np.unique(self.ecg_N[self.ecg_N >= 0])
        return stack_scales([(str(store.facts["dataset"]), *measure_scale(store, rows_N))])

    def on(self, device: torch.device) -> Samples:
        """The same samples, their recordings held on a device where they fit."""
        signals = self.sources.signals
        held = None if signals is None else hold(signals, self.ecg_N[self.ecg_N >= 0], device)
        return replace(self, sources=replace(self.sources, resident=held))

    def batch(self, positions: IntArray) -> Batch:
        """The samples at some positions."""
        s = self.sources
        observed: dict[str, torch.Tensor] = {}
        signal_BLT = torch.zeros(len(positions), 0, 0)
        if s.signals is not None:
            signal_BLT = _signals(s.resident or s.signals, self.ecg_N[positions])
            observed[Modality.ECG] = torch.from_numpy(self.ecg_N[positions] >= 0)
        image_BHW = labs_BP = labs_observed_BP = None
        if s.images is not None:
            image_N = self.image_N[positions]
            image_BHW = torch.from_numpy(_placed((len(positions), s.images.height, s.images.width), image_N, s.images.images, np.uint8))
            observed[Modality.IMAGE] = torch.from_numpy(image_N >= 0)
        if s.panels is not None:
            panel_N, panels = self.panel_N[positions], s.panels
            panel_shape = (len(positions), panels.percentiles_NP.shape[1])
            labs_BP = torch.from_numpy(_placed(panel_shape, panel_N, lambda rows: panels.percentiles_NP[rows], np.float32))
            labs_observed_BP = torch.from_numpy(_placed(panel_shape, panel_N, lambda rows: panels.observed_NP[rows], np.bool_))
            observed[Modality.LABS] = torch.from_numpy(panel_N >= 0)
        texts, image_texts = (None if t is None else [t[i] for i in positions] for t in (self.texts, self.image_texts))
        if texts is not None or image_texts is not None:
            pairs = zip(texts or [""] * len(positions), image_texts or [""] * len(positions), strict=True)
            observed[Modality.TEXT] = torch.tensor([bool(a or b) for a, b in pairs])
        return Batch(
            signal_BLT=signal_BLT,
            row_B=torch.from_numpy(np.asarray(positions, np.int64)),
            texts=texts,
            image_BHW=image_BHW,
            image_texts=image_texts,
            labs_BP=labs_BP,
            labs_observed_BP=labs_observed_BP,
            observed=observed,
            group_B=torch.from_numpy(self.patients[positions]),
        )


def _signals(source: Store | Resident, row_B: IntArray) -> torch.Tensor:
    """Recordings (B, L, T), zeros where there is none (-1)."""
    store = source.store if isinstance(source, Resident) else source
    shape = (len(row_B), len(store.channels), store.n_samples)
    if not isinstance(source, Resident):
        return torch.from_numpy(_placed(shape, row_B, source.signals, np.float32))
    there = np.flatnonzero(row_B >= 0)
    found_BLT = torch.zeros(shape, device=source.device)
    found_BLT[torch.from_numpy(there).to(source.device)] = source.signals(row_B[there])
    return found_BLT


def _placed(shape: tuple[int, ...], row_B: IntArray, read: Callable[[IntArray], NDArray[Any]], dtype: Any) -> NDArray[Any]:
    """Zeros with what `read` gives in the rows that are there."""
    found = np.zeros(shape, dtype)
    there = np.flatnonzero(row_B >= 0)
    if len(there):
        found[there] = read(row_B[there])
    return found


def read_panels(pairing: Path) -> Panels:
    """The lab panels of a pairing.

    Raises:
        TrainingError: the table cannot be read, names a panel twice, or holds percentiles outside [0, 1].
    """
    path = pairing / "panels.parquet"
    try:
        table = pq.read_table(path, columns=["panel_id", "percentiles", "observed"])
        percentiles_NP, observed_NP = _matrix(table["percentiles"], np.float32), _matrix(table["observed"], np.bool_)
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        raise TrainingError(f"{path} is no table of lab panels ({error}); materialise the pairing again") from error
    if percentiles_NP.shape != observed_NP.shape:
        raise TrainingError(
            f"{path} holds {percentiles_NP.shape[1]} percentiles a panel and says of {observed_NP.shape[1]} whether they were measured; materialise the pairing again"
        )
    ids = table["panel_id"].to_pylist()
    # Written so that NaN fails too.
    wrong = np.flatnonzero(~((percentiles_NP >= 0) & (percentiles_NP <= 1)).all(axis=1))
    if len(wrong):
        named = ", ".join(str(ids[i]) for i in wrong[:10])
        raise TrainingError(f"{path} holds percentiles outside [0, 1] in {len(wrong)} panels ({named}); materialise the pairing again")
    place = {panel: i for i, panel in enumerate(ids)}
    if len(place) != len(ids):
        raise TrainingError(f"{path} names {len(ids) - len(place)} panels twice; materialise the pairing again")
    return Panels(place, percentiles_NP, observed_NP)


def _matrix(column: pa.ChunkedArray, dtype: Any) -> NDArray[Any]:
    """A column of lists of equal length as (N, P).

    Raises:
        ValueError: a list or one of its values is null.
    """
    values = column.combine_chunks().flatten()
    width = column.type.list_size
    if column.null_count or values.null_count or len(values) != len(column) * width:
        raise ValueError("a list or a value is null")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), width).astype(dtype)


def read_samples(pairing: Path, folds: Sequence[int], sources: Sources) -> Samples:
    """The samples of some folds of a pairing.

    Raises:
        TrainingError: the table cannot be read, or no sample with two modalities is left.
    """
    path = pairing / "samples.parquet"
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise TrainingError(f"{path} is no table of samples ({error}); materialise the pairing again") from error
    table = table.filter(pa.array(np.isin(table["fold"].to_numpy(), list(folds))))
    ecg_ids, image_ids, panel_ids = ([v or "" for v in table[c].to_pylist()] for c in ("ecg_id", "image_id", "panel_id"))
    ecg_N = _rows(ecg_ids, {} if sources.signals is None else first_rows(sources.signals))
    image_N = _rows(image_ids, {} if sources.images is None else _image_rows(sources.images))
    panel_N = _rows(panel_ids, {} if sources.panels is None else sources.panels.place)
    texts = None if sources.texts is None else [_long_enough(sources.texts.get(i, ""), sources.min_words) for i in ecg_ids]
    image_texts = (
        None if sources.image_texts is None else [_long_enough(sources.image_texts.get(i, ""), sources.min_words) for i in image_ids]
    )
    has_text = np.array(
        [bool(a or b) for a, b in zip(texts or [""] * len(ecg_N), image_texts or [""] * len(ecg_N), strict=True)], dtype=bool
    )
    n_modalities = (ecg_N >= 0).astype(int) + (image_N >= 0) + (panel_N >= 0) + has_text
    kept = np.flatnonzero(n_modalities >= 2)
    if not len(kept):
        raise TrainingError(
            f"no sample to learn from: folds {list(folds)} of {path} hold {table.num_rows} samples, and none has two modalities in the stores; check folds and recipes"
        )
    patients = numbered(table["patient_id"].to_pylist())

    def take(values: list[str]) -> list[str]:
        return [values[i] for i in kept]

    return Samples(
        sources,
        take(table["sample_id"].to_pylist()),
        patients[kept],
        ecg_N[kept],
        image_N[kept],
        panel_N[kept],
        take(ecg_ids),
        take(image_ids),
        None if texts is None else take(texts),
        None if image_texts is None else take(image_texts),
        table.num_rows - len(kept),
    )


def texts_by_id(path: Path | None) -> dict[str, str] | None:
    """The reports of a table by record id; None for no table."""
    return None if path is None else read_texts(path)


def first_rows(store: Store) -> dict[str, int]:
    """The earliest window of each recording of a store."""
    start_N = store.index["start"].to_numpy()
    found: dict[str, int] = {}
    for row, record_id in enumerate(store.record_ids()):
        if record_id not in found or start_N[row] < start_N[found[record_id]]:
            found[record_id] = row
    return found


def _image_rows(store: ImageStore) -> dict[str, int]:
    return {record_id: row for row, record_id in enumerate(store.index["record_id"].to_pylist())}


def _rows(ids: list[str], place: dict[str, int]) -> IntArray:
    return np.array([place.get(i, -1) if i else -1 for i in ids], dtype=np.int64)


def _long_enough(text: str, min_words: int) -> str:
    return text if sum(any(c.isalnum() for c in word) for word in text.split()) >= max(1, min_words) else ""
