"""Vision transformer over patches of time: MERL's alternative ECG encoder.

What differs from the textbook network: a patch covers all leads and 50 samples, its map has no bias, there is no class
token, and the mean over tokens is taken before the last LayerNorm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.encoders.shapes import ViTShape
from models.errors import ConfigurationError
from models.layers import PreNormBlock
from models.types import LEADS


class ViT1d(nn.Module):
    """Transformer encoder of a 12-lead signal of fixed length.

    Attributes:
        width: F, the embedding width.
    """

    def __init__(self, shape: ViTShape, n_samples: int, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        if n_samples % shape.patch:
            raise ConfigurationError(
                f"records of {n_samples} samples cannot be cut into patches of {shape.patch}; choose a multiple as n_samples"
            )
        self.n_samples, self.width = n_samples, shape.width
        self.patches = nn.Conv1d(n_leads, shape.width, shape.patch, stride=shape.patch, bias=False)
        self.positions = nn.Parameter(torch.randn(1, n_samples // shape.patch, shape.width))
        self.blocks = nn.Sequential(*(PreNormBlock(shape.width, shape.heads, shape.hidden) for _ in range(shape.depth)))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, signal_BLT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, L, T); returns tokens (B, N, F) and the normalised mean token (B, F).

        Raises:
            ConfigurationError: T is not the length this network was built for.
        """
        if signal_BLT.shape[2] != self.n_samples:
            raise ConfigurationError(
                f"this network was built for {self.n_samples} samples, got {signal_BLT.shape[2]}; set n_samples to the length of the records"
            )
        tokens_BNF = self.blocks(self.patches(signal_BLT).transpose(1, 2) + self.positions)
        return tokens_BNF, self.norm(tokens_BNF.mean(dim=1))
