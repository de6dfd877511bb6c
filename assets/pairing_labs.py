"""Lab panels of pairing: the earliest number of each item in a window, and percentiles fitted on the training part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from assets.pairing_rules import LabPanel
from assets.pairing_times import TimeIndex, Timeline, ranges
from models import lab_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]

_BATCH_ROWS = 1 << 20
_NEVER_S = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Panels:
    """Lab panels, a row each.

    Attributes:
        stay_N: rows of their stays in the timeline that they were collected for.
        values_NP: earliest number of each item, NaN where there is none.
        first_N, last_N: times of the earliest and the latest of them.
    """

    stay_N: Integers
    values_NP: Floats
    first_N: Integers
    last_N: Integers

    def take(self, row_N: Integers) -> Panels:
        """Some of the panels."""
        return Panels(self.stay_N[row_N], self.values_NP[row_N], self.first_N[row_N], self.last_N[row_N])


LabBatch = tuple["Integers", "Integers", "Integers", "Floats"]
"""Codes of patients or stays, places in the panel, seconds, numbers."""


def read_labs(
    path: Path, known: pd.Index, items: tuple[str, ...], by: Literal["patient_id", "encounter_id"] = "patient_id"
) -> Iterator[LabBatch]:
    """Numbers of known patients or stays for the items of a panel, from labs.parquet a part at a time.

    Results without a time are left out where they are looked for by patient; of a stay they come after all others.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    owners, wanted = pa.array(known.to_numpy(object), pa.string()), pa.array(items, pa.string())
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=[by, "charted_at", "item_id", "value"]):
            owner, item = pc.index_in(batch[by], owners), pc.index_in(batch["item_id"], wanted)
            timed = pc.not_equal(batch["charted_at"], "")
            sound = pc.fill_null(pc.is_finite(batch["value"]), False)
            kept = pc.and_(pc.and_(sound, timed) if by == "patient_id" else sound, pc.and_(pc.is_valid(owner), pc.is_valid(item)))
            moments = pc.if_else(timed, batch["charted_at"], None).filter(kept).cast(pa.timestamp("us")).cast(pa.int64())
            moments = pc.fill_null(moments, _NEVER_S)  # in microseconds, so that in seconds it is before never
            yield (
                pc.filter(owner, kept).cast(pa.int64()).to_numpy(zero_copy_only=False),
                pc.filter(item, kept).cast(pa.int64()).to_numpy(zero_copy_only=False),
                moments.to_numpy(zero_copy_only=False) // 1_000_000,
                pc.filter(batch["value"], kept).to_numpy(zero_copy_only=False),
            )


class _Earliest:
    """The earliest number of each item of each stay; of several at the same second, the first that came.

    Memory holds a number and a time for each stay and item, however many results there are.
    """

    def __init__(self, n_stays: int, n_items: int) -> None:
        self._n_items = n_items
        self._value_E = np.full(n_stays * n_items, np.nan)
        self._time_E = np.full(n_stays * n_items, _NEVER_S)

    def add(self, stay_R: Integers, item_R: Integers, time_R: Integers, number_R: Floats) -> None:
        """Take the next results, a row each, in the order of the table."""
        entry = stay_R * self._n_items + item_R
        order = np.lexsort((np.arange(len(entry)), time_R, entry))
        first = order[np.flatnonzero(np.diff(entry[order], prepend=-1))]
        first = first[time_R[first] < self._time_E[entry[first]]]
        self._time_E[entry[first]], self._value_E[entry[first]] = time_R[first], number_R[first]

    def panels(self, at_least: int) -> Panels:
        """Panels of the stays that have enough items."""
        values_NP, time_NP = self._value_E.reshape(-1, self._n_items), self._time_E.reshape(-1, self._n_items)
        there_NP = time_NP != _NEVER_S
        kept = (there_NP.sum(axis=1) >= max(at_least, 1)).nonzero()[0]
        last_N = np.where(there_NP[kept], time_NP[kept], -_NEVER_S).max(axis=1, initial=-_NEVER_S)
        return Panels(kept, values_NP[kept], time_NP[kept].min(axis=1, initial=_NEVER_S), last_N)


def collect_own(batches: Iterable[LabBatch], n_stays: int, panel: LabPanel) -> Panels:
    """The earliest number of each item of each stay, whenever it was taken; batches hold codes of stays."""
    earliest = _Earliest(n_stays, len(panel.items))
    for batch in batches:
        earliest.add(*batch)
    return earliest.panels(panel.at_least)


def collect_panels(batches: Iterable[LabBatch], stays: Timeline, panel: LabPanel) -> Panels:
    """The earliest number of each item in the window of each stay; batches hold codes of patients."""
    assert panel.window is not None, "results of patients are told apart by a window"
    earliest = _Earliest(len(stays), len(panel.items))
    index = TimeIndex(stays.patient_N, stays.time_N)
    for patient_R, item_R, time_R, number_R in batches:
        row, place = ranges(*index.between(patient_R, time_R - panel.window.last_s, time_R - panel.window.first_s))
        earliest.add(index.order_N[place], item_R[row], time_R[row], number_R[row])
    return earliest.panels(panel.at_least)


class LabScale(lab_scale.LabScale):
    """Empirical distribution of each item, fitted on the training part alone; it travels with the encoders that read panels."""

    @classmethod
    def fit(cls, items: tuple[str, ...], values_NP: Floats) -> LabScale:
        """From the panels of the training part; an item without any value there has the mean 0.5."""
        values, shares, means = [], [], []
        for column in values_NP.T:
            different, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            share = np.cumsum(counts) / max(counts.sum(), 1)
            values.append(different)
            shares.append(share)
            means.append(float(np.average(share, weights=counts)) if len(different) else 0.5)
        return cls(items, tuple(values), tuple(shares), np.array(means))

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The steps (item_id, value, percentile), and one row an item (item_id, mean_percentile)."""
        names = np.repeat(np.array(self.items, object), [len(v) for v in self.values])
        steps = {"item_id": names, "value": np.concatenate(self.values), "percentile": np.concatenate(self.shares)}
        return pd.DataFrame(steps).astype({"item_id": "str"}), pd.DataFrame({"item_id": list(self.items), "mean_percentile": self.means_P})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of items, steps and means."""
        digest = hashlib.sha256("\n".join(self.items).encode())
        for array in (*self.values, *self.shares, self.means_P):
            digest.update(len(array).to_bytes(8, "little") + np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()
