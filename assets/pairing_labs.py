"""Lab panels of pairing: the earliest number of each item in a window, and percentiles fitted on the training part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.pairing_rules import LabPanel
from assets.pairing_times import TimeIndex, Timeline, ranges

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
"""Patient codes, places in the panel, seconds, numbers."""


def read_labs(path: Path, known: pd.Index, items: tuple[str, ...]) -> Iterator[LabBatch]:
    """Numbers of known patients for the items of a panel, from labs.parquet a part at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    patients, wanted = pa.array(known.to_numpy(object), pa.string()), pa.array(items, pa.string())
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["patient_id", "charted_at", "item_id", "value"]):
            patient, item = pc.index_in(batch["patient_id"], patients), pc.index_in(batch["item_id"], wanted)
            sound = pc.and_(pc.fill_null(pc.is_finite(batch["value"]), False), pc.not_equal(batch["charted_at"], ""))
            kept = pc.and_(sound, pc.and_(pc.is_valid(patient), pc.is_valid(item)))
            moments = pc.filter(batch["charted_at"], kept).cast(pa.timestamp("us")).cast(pa.int64())
            yield (
                pc.filter(patient, kept).cast(pa.int64()).to_numpy(zero_copy_only=False),
                pc.filter(item, kept).cast(pa.int64()).to_numpy(zero_copy_only=False),
                moments.to_numpy(zero_copy_only=False) // 1_000_000,
                pc.filter(batch["value"], kept).to_numpy(zero_copy_only=False),
            )


def collect_panels(batches: Iterable[LabBatch], stays: Timeline, panel: LabPanel) -> Panels:
    """The earliest number of each item in the window of each stay; of several at the same second, the first in the table.

    Memory holds a number and a time for each stay and item, however many results there are.
    """
    n_items = len(panel.items)
    value_E = np.full(len(stays) * n_items, np.nan)
    time_E = np.full(len(stays) * n_items, _NEVER_S)
    index = TimeIndex(stays.patient_N, stays.time_N)
    for patient_R, item_R, time_R, number_R in batches:
        row, place = ranges(*index.between(patient_R, time_R - panel.window.last_s, time_R - panel.window.first_s))
        entry = index.order_N[place] * n_items + item_R[row]
        order = np.lexsort((row, time_R[row], entry))
        entry, row = entry[order], row[order]
        first = np.flatnonzero(np.diff(entry, prepend=-1))
        entry, row = entry[first], row[first]
        earlier = time_R[row] < time_E[entry]
        entry, row = entry[earlier], row[earlier]
        time_E[entry], value_E[entry] = time_R[row], number_R[row]
    values_NP, time_NP = value_E.reshape(-1, n_items), time_E.reshape(-1, n_items)
    there_NP = time_NP != _NEVER_S
    kept = (there_NP.sum(axis=1) >= max(panel.at_least, 1)).nonzero()[0]
    last_N = np.where(there_NP[kept], time_NP[kept], -_NEVER_S).max(axis=1, initial=-_NEVER_S)
    return Panels(kept, values_NP[kept], time_NP[kept].min(axis=1, initial=_NEVER_S), last_N)


@dataclass(frozen=True)
class LabScale:
    """Empirical distribution of each item, fitted on the training part alone.

    Attributes:
        values: different values of each item, ascending.
        shares: share of the values that are at most that, for each of them.
        means_P: mean percentile of the training values; a missing value gets it.
    """

    items: tuple[str, ...]
    values: tuple[Floats, ...]
    shares: tuple[Floats, ...]
    means_P: Floats

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

    def apply(self, values_NP: Floats) -> NDArray[np.float32]:
        """Percentiles, 0 to 1: the share of training values that are at most the value; the mean where it is missing."""
        percentile_NP = np.tile(self.means_P, (len(values_NP), 1))
        for p, (values, shares) in enumerate(zip(self.values, self.shares, strict=True)):
            there = ~np.isnan(values_NP[:, p])
            if len(values):
                percentile_NP[there, p] = np.append(0.0, shares)[np.searchsorted(values, values_NP[there, p], "right")]
        return percentile_NP.astype(np.float32)

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
