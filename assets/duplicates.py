"""Knows waveforms again that were stored before for somebody else.

Public collections hold the same recording under two names, and a copy in the test set of what was trained on makes every
number wrong. Memory is 24 bytes a waveform, whatever the size of the dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FRESH = 1 << 15
"""Waveforms that are kept in a dictionary before they are sorted away."""


def owner(patient_id: str, part: str) -> int:
    """A number for a patient in a part of the split."""
    return xxhash.xxh3_64_intdigest(f"{part} {patient_id}".encode()) >> 1


class SeenWaveforms:
    """Waveforms by hash, with the owner and the index row of each first one.

    The newest stand in a dictionary; the rest in sorted tables [hash, owner, row], merged like a binary counter.
    """

    def __init__(self) -> None:
        self._fresh: dict[int, tuple[int, int]] = {}
        self._sorted: list[NDArray[np.int64]] = []

    def first_row(self, key: int, owned_by: int) -> int | None:
        """The index row that holds the waveform of this key for another owner; None if there is none."""
        for table in self._sorted:  # the oldest first
            place = int(np.searchsorted(table[0], key))
            if place < table.shape[1] and table[0, place] == key:
                found: tuple[int, int] | None = (int(table[1, place]), int(table[2, place]))
                break
        else:
            found = self._fresh.get(key)
        return None if found is None or found[0] == owned_by else found[1]

    def add(self, key: int, owned_by: int, row: int) -> None:
        """Remember a stored waveform."""
        self._fresh.setdefault(key, (owned_by, row))
        if len(self._fresh) >= _FRESH:
            table = np.array([(key, *value) for key, value in self._fresh.items()], np.int64).T
            self._fresh = {}
            while self._sorted and self._sorted[-1].shape[1] <= table.shape[1]:
                table = np.concatenate([self._sorted.pop(), table], axis=1)
            # A stable sort keeps the first of equal hashes in front.
            self._sorted.append(np.ascontiguousarray(table[:, np.argsort(table[0], kind="stable")]))


def waveform_key(counts_LT: NDArray[np.int16]) -> int:
    """A number that two waveforms share if they are equal, and otherwise practically never."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(counts_LT).data) >> 1
