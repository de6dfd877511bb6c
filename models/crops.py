"""Crops of recordings: one at random in training, all at a stride in evaluation, and what a record's crops come to.

A record of which less was recorded than a store's windows hold ends in padding; crops are taken from what was recorded, and one
crop from its beginning where that is shorter than a crop.

Letters beside those of `models.types`: M crops of N records.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from models.data import AnyStore, IntArray
from models.errors import ConfigurationError, TrainingError
from models.store import Store
from models.types import Batch

Aggregate = Literal["mean", "maximum", "mean_probability"]


def recorded_samples(store: AnyStore, rows_N: IntArray, crop: int) -> IntArray:
    """How many samples of rows of a store crops can be taken from, int64 (N,): at least one crop.

    Raises:
        ConfigurationError: it is a store of images.
        TrainingError: its windows are shorter than a crop.
    """
    if not isinstance(store, Store):
        raise ConfigurationError(
            f"{store.folder} holds images, and the head's recipe takes crops of {crop} samples; choose one without a crop"
        )
    if store.n_samples < crop:
        raise TrainingError(
            f"records of {store.folder} have {store.n_samples} samples, fewer than the {crop} of a crop; clean them by a recipe with longer windows"
        )
    recorded_N = store.index["n_samples"].to_numpy().astype(np.int64)[rows_N]
    usable_N: IntArray = np.clip(recorded_N, crop, store.n_samples)
    return usable_N


def random_starts(recorded_B: IntArray, crop: int, seed: int, step: int) -> IntArray:
    """Where the crop of each record of a step begins, int64 (B,); a function of seed and step alone."""
    start_B: IntArray = np.random.default_rng([seed, step]).integers(0, recorded_B - crop, endpoint=True)
    return start_B


def shifted_starts(recorded_B: IntArray, crop: int, stride: int, shift: int, seed: int, step: int) -> IntArray:
    """The same, at most `shift` samples behind one of the crops at a stride and within what was recorded."""
    rng = np.random.default_rng([seed, step])
    last_B = recorded_B - crop
    start_B: IntArray = np.minimum(
        rng.integers(0, last_B // stride, endpoint=True) * stride + rng.integers(0, shift, len(last_B), endpoint=True), last_B
    )
    return start_B


def strided_starts(recorded_N: IntArray, crop: int, stride: int) -> tuple[IntArray, IntArray]:
    """All crops at a stride that lie within what was recorded.

    Returns:
        To which record each crop belongs, ascending, and where it begins, both int64 (M,).
    """
    count_N = (recorded_N - crop) // stride + 1
    record_M = np.repeat(np.arange(len(recorded_N)), count_N)
    first_M = np.repeat(np.cumsum(count_N) - count_N, count_N)
    return record_M, (np.arange(len(record_M)) - first_M) * stride


def cut(batch: Batch, record_M: IntArray, start_M: IntArray, crop: int) -> Batch:
    """Crops of the recordings of a batch as a batch of their own, on the same device.

    Args:
        batch: recordings (N, L, T).
        record_M: which recording each crop is taken of.
        start_M: its first sample.
        crop: its length.
    """
    device = batch.signal_BLT.device
    record, start = torch.from_numpy(record_M).to(device), torch.from_numpy(start_M).to(device)
    # All places of a crop, (N, L, places, crop), as a view; only what is picked is copied.
    signal_MLT = batch.signal_BLT.unfold(2, crop, 1)[record, :, start]
    present_ML = None if batch.present_BL is None else batch.present_BL[record]
    return Batch(signal_MLT, batch.row_B[torch.from_numpy(record_M)], present_BL=present_ML)


def aggregate(scores_MC: NDArray[np.float32], record_M: IntArray, how: Aggregate, exclusive: bool = True) -> NDArray[np.float32]:
    """Scores of records (N, C) from those of their crops: the mean of logits, the class-wise maximum, or the mean of probabilities.

    The maximum of logits is that of their sigmoids, but the mean of logits is not that of probabilities. Of mean probabilities the
    logits are given: their logarithm where classes exclude each other, whose softmax they are, else log(p / (1 - p)).

    Args:
        scores_MC: logits of the crops.
        record_M: to which record each belongs, ascending from 0 without gaps.
        how: of the three.
        exclusive: whether probabilities are the softmax of logits, or the sigmoid of each.
    """
    first_N = np.flatnonzero(np.diff(record_M, prepend=-1))
    if how == "maximum":
        found: NDArray[np.float32] = np.maximum.reduceat(scores_MC, first_N, axis=0)
        return found
    count_N = np.diff(first_N, append=len(record_M))
    values_MC = scores_MC.astype(np.float64)
    if how == "mean_probability":
        values_MC = softmax(values_MC, axis=1) if exclusive else expit(values_MC)
    mean_NC = np.add.reduceat(values_MC, first_N, axis=0) / count_N[:, None]
    if how == "mean_probability":
        least = float(np.finfo(np.float32).tiny)
        mean_NC = np.log(np.maximum(mean_NC, least)) if exclusive else logit(mean_NC.clip(least, 1 - np.finfo(np.float64).epsneg))
    return mean_NC.astype(np.float32)
