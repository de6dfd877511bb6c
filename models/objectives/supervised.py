"""Losses on labels: the asymmetric loss for classes that do not exclude each other (Ridnik et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = 1e-8


def asymmetric_loss(
    logits_BC: Tensor, target_BC: Tensor, gamma_positive: float = 1.0, gamma_negative: float = 4.0, clip: float = 0.05
) -> Tensor:
    """Cross-entropy that counts easy negatives little, summed over records and classes.

    With p the probability of a class, y its target and q = min(1 - p + clip, 1) the probability of its absence, negatives below
    `clip` cost nothing:

        loss = -sum (1 - p y - q (1 - y))^(gamma_positive y + gamma_negative (1 - y)) (y log p + (1 - y) log q)

    Computed in float32, and with its gradient through the weights too.

    Args:
        logits_BC: scores before the sigmoid.
        target_BC: zeros and ones.
        gamma_positive: how much less well-recognised positives count.
        gamma_negative: the same for negatives.
        clip: how far the probability of a negative is shifted.

    Returns:
        The sum, shape ().
    """
    present_BC = torch.sigmoid(logits_BC.float())
    absent_BC = (1 - present_BC + clip).clamp(max=1)
    positive_BC = target_BC > 0
    right_BC = torch.where(positive_BC, present_BC, absent_BC)
    gamma_BC = torch.where(positive_BC, gamma_positive, gamma_negative)
    # The base of the power stays above 0, where its gradient is finite for every exponent.
    weight_BC = (1 - right_BC).clamp(min=_SMALLEST) ** gamma_BC
    return -(weight_BC * right_BC.clamp(min=_SMALLEST).log()).sum()
