"""Masked language modelling (Devlin et al., 2019): hide some tokens of a text and predict them from the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HIDDEN, _SWAPPED = 0.8, 0.1  # of the chosen tokens; the rest stay as they are


def mask_tokens(number_BN: Tensor, eligible_BN: Tensor, mask_number: int, ordinary_V: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Choose tokens of each text and hide them: 80 % behind the mask, 10 % behind a random token, 10 % not at all.

    A share of each text's tokens is chosen, rounded, and at least one wherever there is any.

    Args:
        number_BN: int64 tokens.
        eligible_BN: bool, which may be chosen: neither special nor padding.
        mask_number: number of [MASK].
        ordinary_V: int64 numbers of the tokens that random ones are drawn from.
        share: between 0 and 1, 0.15 in BERT.

    Returns:
        The tokens to read (B, N), and which were chosen, bool (B, N).
    """
    device = number_BN.device
    wanted_B = (eligible_BN.sum(dim=1) * share).round().clamp(min=1)
    order_BN = torch.rand(number_BN.shape, device=device).masked_fill(~eligible_BN, 2.0).argsort(dim=1)
    chosen_BN = (order_BN.argsort(dim=1) < wanted_B[:, None]) & eligible_BN
    fate_BN = torch.rand(number_BN.shape, device=device)
    random_BN = ordinary_V[torch.randint(len(ordinary_V), number_BN.shape, device=device)]
    read_BN = number_BN.masked_fill(chosen_BN & (fate_BN < _HIDDEN), mask_number)
    swapped_BN = chosen_BN & (fate_BN >= _HIDDEN) & (fate_BN < _HIDDEN + _SWAPPED)
    return torch.where(swapped_BN, random_BN, read_BN), chosen_BN


class LanguageHead(nn.Module):
    """BERT's head for hidden tokens: Linear, GELU, LayerNorm. Logits are its output times the table of embeddings, plus a bias.

    Attributes:
        bias_V: the bias, one number a token.
    """

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias_V = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, state_BNW: Tensor) -> Tensor:
        """What the table of embeddings is multiplied with, shape (B, N, W)."""
        out: Tensor = self.transform(state_BNW)
        return out
