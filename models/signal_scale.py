"""Mean and spread of each channel over training records, for networks that normalise by constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.store import Store

_CHUNK = 256


@dataclass(frozen=True)
class SignalScale:
    """Mean and standard deviation over records and time, in the units of the store.

    Attributes:
        mean_SL: float64, shape (S, L): one row a member of the mixture, then that of the dataset which the encoder is judged on; the
            latter alone where there is no mixture.
        std_SL: the same; 1 where a channel is constant or no record has it.
        names: S names of datasets, or of a dataset and one of its sites ("cinc2021/georgia").
    """

    mean_SL: NDArray[np.float64]
    std_SL: NDArray[np.float64]
    names: tuple[str, ...]

    def followed_by(self, last: SignalScale) -> SignalScale:
        """The rows of both."""
        return SignalScale(
            np.concatenate([self.mean_SL, last.mean_SL]), np.concatenate([self.std_SL, last.std_SL]), self.names + last.names
        )


def measure_scale(store: Store, rows_N: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (L,) of each channel over some rows; channels that a record lacks do not count.

    Two passes are saved by summing in float64 about the first record's mean, which keeps the squares small.
    """
    n_channels = len(store.channels)
    count_L, sum_L, square_L = (np.zeros(n_channels) for _ in range(3))
    shift_L1: NDArray[np.float64] | None = None
    for start in range(0, len(rows_N), _CHUNK):
        rows = rows_N[start : start + _CHUNK]
        signal_BLT = store.signals(rows).astype(np.float64)
        present_BL = store.present(rows)
        if shift_L1 is None:
            shift_L1 = signal_BLT[0].mean(axis=1, keepdims=True)
        centred_BLT = signal_BLT - shift_L1
        if present_BL is not None:
            centred_BLT *= present_BL[:, :, None]
        length = signal_BLT.shape[2]
        count_L += length * (len(rows) if present_BL is None else present_BL.sum(axis=0))
        sum_L += centred_BLT.sum(axis=(0, 2))
        square_L += np.einsum("blt,blt->l", centred_BLT, centred_BLT)
    if shift_L1 is None:
        return np.zeros(n_channels), np.ones(n_channels)
    seen = count_L > 0
    offset_L = np.divide(sum_L, count_L, out=np.zeros(n_channels), where=seen)
    variance_L = np.divide(square_L, count_L, out=np.zeros(n_channels), where=seen) - offset_L**2
    std_L = np.sqrt(np.maximum(variance_L, 0))
    return np.where(seen, shift_L1[:, 0] + offset_L, 0.0), np.where(std_L > 1e-9, std_L, 1.0)


def spread(n_records: int, most: int = 1024, at_once: int = 16) -> Iterator[NDArray[np.int64]]:
    """Positions, a few at a time, of at most so many records, evenly over all: enough to measure a constant from."""
    chosen_N = np.unique(np.linspace(0, n_records - 1, min(most, n_records)).astype(np.int64))
    for start in range(0, len(chosen_N), at_once):
        yield chosen_N[start : start + at_once]


def stack_scales(parts: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]]) -> SignalScale:
    """One scale of the members of a mixture, each given by name, mean (L,) and standard deviation (L,)."""
    return SignalScale(
        np.stack([mean for _, mean, _ in parts]), np.stack([std for _, _, std in parts]), tuple(name for name, _, _ in parts)
    )
