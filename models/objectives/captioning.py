"""Cross-entropy of tokens, kept apart by record, so that a batch can be encoded in parts and averaged as a whole.

Letters: N positions, W width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.objectives.contrastive import full, gather, world_size


def token_sums(
    state_BNW: Tensor, output_WV: Tensor, target_BN: Tensor, counts_BN: Tensor, bias_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of the target tokens, summed over each record.

    Logits are computed where they count only: with a vocabulary of 30,000 they are most of the memory of a step.

    Args:
        state_BNW: what each prediction is made from.
        output_WV: logits are `state @ output + bias`.
        target_BN: int64 numbers of the tokens to be predicted.
        counts_BN: bool, which predictions count.
        bias_V: None for none.

    Returns:
        The sum of each record, shape (B,), 0 where nothing counts, and how many tokens it is of, float (B,).
    """
    logits_KV = state_BNW[counts_BN] @ output_WV
    if bias_V is not None:
        logits_KV = logits_KV + bias_V
    loss_K = functional.cross_entropy(full(logits_KV), target_BN[counts_BN], reduction="none")
    loss_BN = torch.zeros(counts_BN.shape, dtype=loss_K.dtype, device=loss_K.device)
    loss_BN[counts_BN] = loss_K
    return loss_BN.sum(dim=1), counts_BN.sum(dim=1).to(loss_K.dtype)


def token_mean(sum_B: Tensor, count_B: Tensor) -> Tensor:
    """Mean over the tokens of all processes, scalar; 0 if there is none.

    The mean of this value over processes is the loss of the whole batch, although their texts differ in length.

    Args:
        sum_B: sums of this process's records (`token_sums`).
        count_B: numbers of tokens in them.
    """
    total = gather(count_B.detach()).sum().clamp(min=1)
    return sum_B.sum() * world_size() / total
