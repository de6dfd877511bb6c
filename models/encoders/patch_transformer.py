"""Transformer over patches of one signal: the single-modality networks of the WESAD study.

A window of T samples is cut into T / P patches without overlap; each becomes a token by one linear map. A learned class token goes first
and positions are added to all; after pre-norm blocks and a last LayerNorm the class token is the embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.layers import Mlp, SelfAttention

_SPREAD = 0.02
"""Standard deviation of class token and positions before training."""


@dataclass(frozen=True)
class PatchTransformerShape:
    """Sizes of the network.

    Attributes:
        patch: samples of a patch.
        width: F, of the tokens.
        depth: blocks.
        heads: of attention.
        hidden: width of the hidden layer of a block.
        dropout: of attention weights and of what each half of a block adds.
        positions: a learned table, or sines and cosines.
        pool: whether the embedding is the class token or the mean of all others.
    """

    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    dropout: float = 0.1
    positions: Literal["learned", "sinusoidal"] = "learned"
    pool: Literal["class_token", "mean"] = "class_token"


class PatchTransformer(nn.Module):
    """Encoder of a window of one signal.

    Attributes:
        width: F, the width of the embedding.
        n_samples: T, the length of a window.
    """

    position_NF: Tensor

    def __init__(self, shape: PatchTransformerShape, n_samples: int) -> None:
        """Build the network.

        Raises:
            ConfigurationError: windows cannot be cut into patches, or the width divided among heads.
        """
        super().__init__()
        if n_samples % shape.patch:
            raise ConfigurationError(
                f"windows of {n_samples} samples cannot be cut into patches of {shape.patch}; choose a divisor of {n_samples} as patch"
            )
        self.shape, self.width, self.n_samples = shape, shape.width, n_samples
        n_tokens = n_samples // shape.patch + 1
        self.embed = nn.Linear(shape.patch, shape.width)
        self.class_token = nn.Parameter(_SPREAD * torch.randn(1, 1, shape.width))
        if shape.positions == "learned":
            self.position_NF = nn.Parameter(_SPREAD * torch.randn(n_tokens, shape.width))
        else:
            self.register_buffer("position_NF", sinusoids(n_tokens, shape.width), persistent=False)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, signal_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode windows (B, T); returns the tokens of the patches (B, N, F) and the embedding (B, F).

        Raises:
            ConfigurationError: T is not the length this network was built for.
        """
        if signal_BT.shape[1] != self.n_samples:
            raise ConfigurationError(
                f"this network was built for {self.n_samples} samples, got {signal_BT.shape[1]}; set n_samples to the length of the windows"
            )
        patch_BNF = self.embed(signal_BT.view(len(signal_BT), -1, self.shape.patch))
        token_BNF = torch.cat([self.class_token.expand(len(patch_BNF), -1, -1), patch_BNF], dim=1) + self.position_NF
        for block in self.blocks:
            token_BNF = block(token_BNF)
        token_BNF = self.norm(token_BNF)
        pooled_BF = token_BNF[:, 0] if self.shape.pool == "class_token" else token_BNF[:, 1:].mean(dim=1)
        return token_BNF[:, 1:], pooled_BF


class Block(nn.Module):
    """t + MHSA(LN t), then t + FFN(LN t), with dropout on what is added."""

    def __init__(self, shape: PatchTransformerShape) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.attention = SelfAttention(shape.width, shape.heads, shape.dropout)
        self.mlp = Mlp(shape.width, shape.hidden, shape.width)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, token_BNF: Tensor) -> Tensor:
        """Map (B, N, F) to (B, N, F)."""
        token_BNF = token_BNF + self.drop(self.attention(self.norm_attention(token_BNF)))
        found: Tensor = token_BNF + self.drop(self.mlp(self.norm_mlp(token_BNF)))
        return found


def sinusoids(n_tokens: int, width: int) -> Tensor:
    """Fixed positions (N, F): sines in even columns, cosines in odd ones, wavelengths from 2 pi to 20,000 pi (Vaswani et al., 2017)."""
    angle_NF = torch.arange(n_tokens)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([angle_NF.sin(), angle_NF.cos()], dim=2).flatten(1)[:, :width]
