"""Prediction of hidden patches in feature space: which patches are hidden, and the loss (Weimann and Conrad, arXiv 2410.13867).

Patches are numbered by time, and all leads of a patch are hidden together. Every sampler draws from torch's CPU generator and
gives all records of a batch equally many kept patches, so that tensors stay rectangular. Letters: B batch, N patches, K kept
patches, H hidden ones.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MaskKind = Literal["blocks", "union", "columns"]
LossKind = Literal["l1", "smooth_l1"]
IntArray = NDArray[np.int64]

_ROOM = 16
"""Intervals of a record that room is made for at once."""


class Masks(NamedTuple):
    """Numbers of kept patches, int64 (B, K), and of hidden ones (B, H); ascending, and together each of 0 .. N-1 once."""

    keep_BK: Tensor
    hide_BH: Tensor


def sample_masks(kind: MaskKind, batch: int, n_patches: int, low: float, high: float, min_block: int) -> Masks:
    """Draw which patches are hidden.

    Args:
        kind: "blocks" hides consecutive patches of each record apart, down to one share of kept patches for the batch, drawn
            from U(low, high) (Weimann and Conrad); "union" hides the union of four blocks of U(low, high) each and "columns"
            a share of U(low, high) at random, the same in every record (Kim, arXiv 2410.08559).
        batch: B.
        n_patches: N.
        low: see `kind`.
        high: see `kind`.
        min_block: shortest run of hidden patches of "blocks".
    """
    share = low + (high - low) * torch.rand((), dtype=torch.float64).item()
    if kind == "blocks":
        return _as_masks(hide_blocks(batch, n_patches, math.ceil(share * n_patches), min_block))
    hidden_N = np.zeros(n_patches, bool)
    if kind == "columns":
        hidden_N[torch.randperm(n_patches)[: int(share * n_patches)].numpy()] = True
    else:
        for length in [int((low + (high - low) * r) * n_patches) for r in torch.rand(4, dtype=torch.float64).tolist()]:
            start = int(torch.randint(n_patches - length + 1, ()))
            hidden_N[start : start + length] = True
    return _as_masks(np.broadcast_to(hidden_N, (batch, n_patches)))


def hide_blocks(batch: int, n_patches: int, keep: int, min_block: int) -> NDArray[np.bool_]:
    """Hide all but `keep` patches of each record in blocks of at least `min_block`, True where hidden, (B, N).

    Until enough is hidden: an interval of free patches is picked with a probability proportional to its length. A block of
    uniform length between `min_block` and what is left to hide is placed in it uniformly, or hides all of it where it does
    not fit. What is left below `min_block` is glued to a block that is there. All records take such a turn at once.
    """
    begin_BI, end_BI = (np.zeros((batch, _ROOM), np.int64) for _ in range(2))
    end_BI[:, 0] = n_patches
    todo_B = np.full(batch, n_patches - keep, np.int64)
    active_A, n_intervals = np.flatnonzero(todo_B), 1
    while len(active_A):
        if n_intervals == begin_BI.shape[1]:
            begin_BI, end_BI = (np.pad(x_BI, ((0, 0), (0, _ROOM))) for x_BI in (begin_BI, end_BI))
        draw_A3 = torch.rand(len(active_A), 3, dtype=torch.float64).numpy()
        total_AI = (end_BI[active_A, :n_intervals] - begin_BI[active_A, :n_intervals]).cumsum(axis=1)
        picked_A = (total_AI <= _below(draw_A3[:, 0], total_AI[:, -1])[:, None]).sum(axis=1)
        first_A, last_A, todo_A = begin_BI[active_A, picked_A], end_BI[active_A, picked_A], todo_B[active_A]
        apart_A = todo_A >= min_block
        size_A = np.where(apart_A, min_block + _below(draw_A3[:, 1], todo_A - min_block + 1), todo_A)
        size_A = np.minimum(size_A, last_A - first_A)
        to_left_A = np.where((first_A > 0) & (last_A < n_patches), draw_A3[:, 2] < 0.5, first_A > 0)
        glued_A = np.where(to_left_A, first_A, last_A - size_A)
        start_A = np.where(apart_A, first_A + _below(draw_A3[:, 2], last_A - first_A - size_A + 1), glued_A)
        end_BI[active_A, picked_A] = start_A
        begin_BI[active_A, n_intervals], end_BI[active_A, n_intervals] = start_A + size_A, last_A
        n_intervals += 1
        todo_B[active_A] -= size_A
        active_A = active_A[todo_B[active_A] > 0]
    return _outside(begin_BI[:, :n_intervals], end_BI[:, :n_intervals], n_patches)


def _outside(begin_BI: IntArray, end_BI: IntArray, n_patches: int) -> NDArray[np.bool_]:
    """What no interval of a record covers, bool (B, N)."""
    rows_B = np.arange(len(begin_BI))
    edge_BN = np.zeros((len(begin_BI), n_patches + 1), np.int16)
    for begin_B, end_B in zip(begin_BI.T, end_BI.T, strict=True):  # a record has one edge in each turn, so none is lost
        edge_BN[rows_B, begin_B] += 1
        edge_BN[rows_B, end_B] -= 1
    outside_BN: NDArray[np.bool_] = edge_BN[:, :-1].cumsum(axis=1, dtype=np.int16) == 0
    return outside_BN


def _below(uniform_A: NDArray[np.float64], limit_A: IntArray) -> IntArray:
    """Whole numbers from 0 to before a limit, from uniform ones of [0, 1)."""
    return (uniform_A * limit_A).astype(np.int64)


def _as_masks(hidden_BN: NDArray[np.bool_]) -> Masks:
    batch, n_patches = hidden_BN.shape
    before_B1 = n_patches * np.arange(batch)[:, None]
    parts = [np.flatnonzero(part_BN).reshape(batch, -1) - before_B1 for part_BN in (~hidden_BN, hidden_BN)]
    return Masks(*(torch.from_numpy(part) for part in parts))


def jepa_loss(prediction: Tensor, target: Tensor, kind: LossKind) -> Tensor:
    """Mean over records, hidden patches and features of |p - t|, or of Huber's form of it with beta 1; computed in float32."""
    compare = functional.l1_loss if kind == "l1" else functional.smooth_l1_loss
    return compare(prediction.float(), target.float())


def feature_spread(target: Tensor) -> Tensor:
    """Mean over features of the standard deviation over records and patches; near 0 when all targets have become one."""
    return target.flatten(0, -2).float().std(dim=0).mean()
