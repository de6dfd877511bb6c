"""Moments of patients in sorted order, to be asked in bulk which of them lie between two times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from models.errors import EinthovenError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

MOST_PAIRS = 100_000_000
"""More combinations than this are a mistake in a rule and would fill the memory."""


class PairingError(EinthovenError):
    """A rule that yields nothing, or far too much."""


class TimeIndex:
    """Moments of patients, to be asked which of them lie between two times."""

    def __init__(self, patient_N: Integers, time_N: Integers) -> None:
        """`patient_N` are codes from 0, `time_N` seconds. Moments of one patient at the same second keep their order."""
        self.order_N: Integers = np.lexsort((time_N, patient_N))
        self._base = int(time_N.min()) - 1 if len(time_N) else 0
        self._span = int(time_N.max()) - self._base + 2 if len(time_N) else 2
        self._key_N = (patient_N * self._span + (time_N - self._base))[self.order_N]

    def between(self, patient_Q: Integers, first_Q: Integers, last_Q: Integers) -> tuple[Integers, Integers]:
        """For each question the range of `order_N` that holds the patient's moments from first to last second, both included."""
        start_Q = np.searchsorted(self._key_N, self._keys(patient_Q, first_Q), "left")
        stop_Q = np.searchsorted(self._key_N, self._keys(patient_Q, last_Q), "right")
        return start_Q, np.maximum(start_Q, stop_Q)

    def _keys(self, patient_Q: Integers, time_Q: Integers) -> Integers:
        return patient_Q * self._span + np.clip(time_Q - self._base, 0, self._span - 1)


def ranges(start_Q: Integers, stop_Q: Integers) -> tuple[Integers, Integers]:
    """All positions of many ranges: (number of the range, position).

    Raises:
        PairingError: there are more than `MOST_PAIRS`.
    """
    count_Q = stop_Q - start_Q
    total = int(count_Q.sum())
    if total > MOST_PAIRS:
        raise PairingError(f"the rule combines {total:,} pairs, more than {MOST_PAIRS:,}; narrow its window or take the earliest only")
    number = np.repeat(np.arange(len(count_Q)), count_Q)
    before_Q = np.cumsum(count_Q) - count_Q
    return number, np.arange(total) - before_Q[number] + start_Q[number]


@dataclass(frozen=True)
class Timeline:
    """Things of patients at times.

    Attributes:
        ids: of recordings, pictures or stays; their places are the rows that other functions speak of.
        patient_N: codes into the patients that all timelines of a rule share.
        time_N: seconds.
        official: part of the published split, "" where there is none.
    """

    ids: pd.Series
    patient_N: Integers
    time_N: Integers
    official: pd.Series

    def __len__(self) -> int:
        return len(self.time_N)

    def take(self, row_N: Integers) -> Timeline:
        """Some of the things."""
        return Timeline(taken(self.ids, row_N), self.patient_N[row_N], self.time_N[row_N], taken(self.official, row_N))


def taken(column: pd.Series, row_N: Integers) -> pd.Series:
    """Values of rows, null for row -1."""
    return column.reindex(row_N).reset_index(drop=True)


def timeline(table: pd.DataFrame, id_column: str, time_column: str, known: pd.Index) -> Timeline:
    """A timeline of the rows of known patients that have a time, by id. Fractions of seconds are cut off, as published code does."""
    code_N = known.get_indexer(pd.Index(table["patient_id"]))
    kept = ((code_N >= 0) & (table[time_column] != "").to_numpy()).nonzero()[0]
    kept = kept[np.argsort(table[id_column].to_numpy(object)[kept], kind="stable")]
    held = table.iloc[kept].reset_index(drop=True)
    times = pd.to_datetime(held[time_column], format="ISO8601").astype("datetime64[us]").astype("int64").to_numpy() // 1_000_000
    official = held["official_split"] if "official_split" in held else pd.Series("", index=held.index)
    return Timeline(held[id_column], code_N[kept].astype(np.int64), times.astype(np.int64), official)
