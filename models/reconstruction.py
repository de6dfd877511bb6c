"""What reconstructed leads are held against: errors of a record, identities of limb leads, and leads from a line of the kept ones.

Everything is in millivolts. Letters: N records, M missing leads, K kept leads, L all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingError

UV_PER_MV = 1000.0
IDENTITIES: tuple[tuple[str, dict[str, float]], ...] = (
    ("III", {"II": 1.0, "I": -1.0}),
    ("aVR", {"I": -0.5, "II": -0.5}),
    ("aVL", {"I": 1.0, "II": -0.5}),
    ("aVF", {"II": 1.0, "I": -0.5}),
)
"""Limb leads as sums of I and II: what electrodes make true of every recording, and no network of every reconstruction."""

_CHUNK = 64
_FLAT = 1e-6


@dataclass(frozen=True)
class Errors:
    """Errors of each record and missing lead, (N, M), and by how much the limb leads miss their identities, (N, 4).

    Attributes:
        mse_NM: mean squared error, mV^2.
        mae_NM: mean absolute error, mV.
        pearson_NM: correlation; NaN where the true or the reconstructed lead is flat.
        residual_NI: mean absolute residual of `IDENTITIES` in the reconstruction, mV; NaN where a lead of it is not read.
    """

    mse_NM: NDArray[np.float64]
    mae_NM: NDArray[np.float64]
    pearson_NM: NDArray[np.float64]
    residual_NI: NDArray[np.float64]


def errors_of(found_NLT: NDArray[Any], true_NLT: NDArray[Any], leads: Sequence[str], missing: Sequence[str]) -> Errors:
    """Errors of reconstructions; kept leads do not count.

    Args:
        found_NLT: reconstructed, mV.
        true_NLT: recorded, mV.
        leads: names of the leads of both.
        missing: those whose errors are wanted.
    """
    place = {name: i for i, name in enumerate(leads)}
    rows_M = [place[name] for name in missing]
    found_NMT, true_NMT = (x_NLT[:, rows_M].astype(np.float64) for x_NLT in (found_NLT, true_NLT))
    apart_NMT = found_NMT - true_NMT
    residuals = [_residual(found_NLT, place, name, parts) for name, parts in IDENTITIES]
    return Errors(
        np.square(apart_NMT).mean(axis=2), np.abs(apart_NMT).mean(axis=2), _pearson(found_NMT, true_NMT), np.stack(residuals, axis=1)
    )


def _pearson(found_NMT: NDArray[np.float64], true_NMT: NDArray[np.float64]) -> NDArray[np.float64]:
    a_NMT, b_NMT = (x_NMT - x_NMT.mean(axis=2, keepdims=True) for x_NMT in (found_NMT, true_NMT))
    spread_NM = np.sqrt(np.square(a_NMT).mean(axis=2)), np.sqrt(np.square(b_NMT).mean(axis=2))
    flat_NM = np.minimum(*spread_NM) <= _FLAT
    product_NM = (a_NMT * b_NMT).mean(axis=2) / np.where(flat_NM, 1.0, spread_NM[0] * spread_NM[1])
    return np.where(flat_NM, np.nan, product_NM.clip(-1.0, 1.0))


def _residual(signal_NLT: NDArray[Any], place: dict[str, int], name: str, parts: dict[str, float]) -> NDArray[np.float64]:
    if not {name, *parts} <= set(place):
        return np.full(len(signal_NLT), np.nan)
    expected_NT = sum(factor * signal_NLT[:, place[part]].astype(np.float64) for part, factor in parts.items())
    residual_N: NDArray[np.float64] = np.abs(signal_NLT[:, place[name]] - expected_NT).mean(axis=1)
    return residual_N


@dataclass(frozen=True)
class LinearLeads:
    """Linear regression from the kept leads of a moment to all leads of it, with a constant.

    Attributes:
        weight_LK: of each lead.
        constant_L: in the unit of the signals.
        kept: places of the kept leads.
    """

    weight_LK: NDArray[np.float64]
    constant_L: NDArray[np.float64]
    kept: list[int]

    def __call__(self, signal_NLT: NDArray[np.float32]) -> NDArray[np.float32]:
        """All leads from the kept ones, float32 (N, L, T)."""
        found_NLT = np.einsum("lk,nkt->nlt", self.weight_LK, signal_NLT[:, self.kept], optimize=True) + self.constant_L[:, None]
        lines_NLT: NDArray[np.float32] = found_NLT.astype(np.float32)
        return lines_NLT


def fit_linear(read: Callable[[NDArray[np.int64]], NDArray[np.float32]], rows_N: NDArray[np.int64], kept: list[int]) -> LinearLeads:
    """Least squares over all samples of some rows, which are read a few at a time.

    Raises:
        TrainingError: there are no rows.
    """
    if not len(rows_N):
        raise TrainingError("there is no training record to fit a linear regression of leads on; check the folds")
    n_seen = len(kept) + 1
    products, targets = np.zeros((n_seen, n_seen)), np.zeros((n_seen, read(rows_N[:1]).shape[1]))
    for start in range(0, len(rows_N), _CHUNK):
        signal_NLT = read(rows_N[start : start + _CHUNK]).astype(np.float64)
        all_LX = signal_NLT.transpose(1, 0, 2).reshape(signal_NLT.shape[1], -1)
        seen_KX = np.concatenate([all_LX[kept], np.ones((1, all_LX.shape[1]))])
        products, targets = products + seen_KX @ seen_KX.T, targets + seen_KX @ all_LX.T
    # A kept lead that is flat throughout has no weight.
    solved_KL = np.linalg.lstsq(products, targets, rcond=None)[0].astype(np.float64)
    return LinearLeads(solved_KL[:-1].T, solved_KL[-1], kept)
