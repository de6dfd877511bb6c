"""The signals of a store held on a device as they are stored: int16, so that batches are gathered and scaled there.

Where they do not fit into a share of the free memory, and on a CPU, whose memory map is faster, nothing is held and records are
read from the memory map as ever. Both give the same numbers.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.store import Store

SHARE = 0.5
"""Of the device's free memory; the rest is for network, activations and optimiser."""

_CHUNK = 512
_log = logging.getLogger(__name__)


class Resident:
    """Windows of a store on a device.

    Attributes:
        store: where they come from.
        device: where they are.
        n_bytes: what they take.
    """

    def __init__(self, store: Store, rows_N: NDArray[np.int64], device: torch.device) -> None:
        """Copy rows of a store to a device.

        Raises:
            torch.OutOfMemoryError: they do not fit after all.
        """
        self.store = store
        self.device = device
        held = np.unique(rows_N)
        self._there = torch.from_numpy(np.flatnonzero(store.held)).to(device)
        self._whole = bool(store.held.all())
        self._counts_NLT = torch.empty((len(held), len(self._there), store.n_samples), dtype=torch.int16, device=device)
        for start in range(0, len(held), _CHUNK):
            rows = held[start : start + _CHUNK]
            self._counts_NLT[start : start + len(rows)] = torch.from_numpy(store.counts(rows)[:, store.held])
        self._place_N = np.full(len(store), -1, np.int64)
        self._place_N[held] = np.arange(len(held))
        self._scale_L1 = torch.from_numpy(store.scales[store.held]).to(device)
        self.n_bytes = self._counts_NLT.nbytes

    def signals(self, rows_N: NDArray[np.int64]) -> Tensor:
        """Windows in physical units, as `Store.signals` gives them, float32 (B, L, T) on the device.

        Args:
            rows_N: rows of the store among those held, shape (B,).

        Raises:
            IndexError: a row is not held.
        """
        place_B = self._place_N[rows_N]
        if (place_B < 0).any():
            raise IndexError(f"rows {rows_N[place_B < 0][:10].tolist()} of {self.store.folder} are not held on {self.device}")
        signal_BLT = self._counts_NLT[torch.from_numpy(place_B).to(self.device, non_blocking=True)].float().mul_(self._scale_L1)
        if self._whole:
            return signal_BLT
        whole_BLT = signal_BLT.new_zeros(len(place_B), len(self.store.channels), self.store.n_samples)
        whole_BLT[:, self._there] = signal_BLT
        return whole_BLT


def budget_of(device: torch.device) -> int:
    """Bytes of a device that may be filled with signals; none of a CPU."""
    return int(torch.cuda.mem_get_info(device)[0] * SHARE) if device.type == "cuda" else 0


def hold(store: Store, rows_N: NDArray[np.int64], device: torch.device, budget: int | None = None) -> Resident | None:
    """Rows of a store on a device, or None where they do not fit into the budget (`budget_of` the device where none is given)."""
    budget = budget_of(device) if budget is None else budget
    needed = len(np.unique(rows_N)) * int(store.held.sum()) * store.n_samples * 2
    if not 0 < needed <= budget:
        if budget:
            _log.info(
                "%s: %.1f GB of signals do not fit into %.1f GB of %s; read from disk", store.folder, needed / 1e9, budget / 1e9, device
            )
        return None
    try:
        resident = Resident(store, rows_N, device)
    except torch.OutOfMemoryError:
        _log.info("%s: %.1f GB of signals do not fit on %s after all; read from disk", store.folder, needed / 1e9, device)
        return None
    _log.info("%s: %.1f GB of signals held on %s", store.folder, needed / 1e9, device)
    return resident
