"""Mixing of training records with each other, signals and labels alike (mixup, Zhang et al. 2018, arXiv 1710.09412).

The non-uniform mix of ECG-Mamba's companion: a share of the records of a batch that grows from pass to pass; the others stay as they
are. Weights are drawn from Beta(0.2, 0.2), so that most mixtures are nearly one of the two.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.types import Batch

SHARES = (0.2, 0.4, 0.6, 0.8)
"""Of the records, in the first pass over the training records, the second, ...; the last holds from there on."""

_ALPHA = 0.2


def mixed(batch: Batch, passed: int, seed: int, step: int) -> Batch:
    """A batch in which records are mixed with others of it; a function of seed and step.

    Signals are mixed as they are, in microvolts, and a lead is there where either record has it.

    Args:
        batch: with labels.
        passed: passes over the training records that are done.
        seed: of the draws.
        step: of the training.
    """
    assert batch.labels_BC is not None, "training batches have targets"
    rng = np.random.default_rng([seed, step, 1])
    count = round(SHARES[min(passed, len(SHARES) - 1)] * len(batch))
    device = batch.signal_BLT.device
    row_K = torch.from_numpy(rng.permutation(len(batch))[:count]).to(device)
    other_K = torch.from_numpy(rng.integers(0, len(batch), count)).to(device)
    weight_K = torch.from_numpy(rng.beta(_ALPHA, _ALPHA, count).astype(np.float32)).to(device)

    def mix(value: torch.Tensor) -> torch.Tensor:
        weight = weight_K.view(-1, *[1] * (value.ndim - 1))
        return value.index_copy(0, row_K, weight * value[row_K] + (1 - weight) * value[other_K])

    present_BL = batch.present_BL
    if present_BL is not None:
        present_BL = present_BL.index_copy(0, row_K, present_BL[row_K] | present_BL[other_K])
    return replace(batch, signal_BLT=mix(batch.signal_BLT), labels_BC=mix(batch.labels_BC), present_BL=present_BL)
