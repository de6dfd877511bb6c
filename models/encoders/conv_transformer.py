"""Convolutions, then a transformer over time: the wav2vec 2.0 encoder (Baevski et al., 2020) as MELP and ECG-FM use it.

Four convolutions of kernel 2 and stride 2 make floor(T / 16) tokens. A wide grouped convolution over the tokens gives them
their positions, so records of any length can be read. Layers normalise after each sum (post-norm), as in BERT. Letters: N
tokens, F width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.shapes import ConvTransformerShape
from models.layers import Mlp, SelfAttention
from models.types import LEADS

_STAGES = 4


class ConvTransformer(nn.Module):
    """Encoder of a 12-lead signal.

    The gradient that flows back into the convolutions is multiplied by `gradient_scale`; the forward pass is as without.

    Attributes:
        width: F, the transformer's width.
    """

    def __init__(self, shape: ConvTransformerShape, dropout: float = 0.1, gradient_scale: float = 0.1, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        self.width, self.gradient_scale = shape.width, gradient_scale
        stages: list[nn.Module] = []
        for stage in range(_STAGES):
            conv = nn.Conv1d(shape.channels if stage else n_leads, shape.channels, 2, stride=2, bias=False)
            nn.init.kaiming_normal_(conv.weight)
            stages += [conv, nn.GELU()] if stage else [conv, nn.GroupNorm(shape.channels, shape.channels), nn.GELU()]
        self.convolutions = nn.Sequential(*stages)
        self.norm_convolutions = nn.LayerNorm(shape.channels)
        self.project = nn.Linear(shape.channels, shape.width)
        self.positions = ConvPositions(shape.width, shape.position_kernel, shape.position_groups)
        self.norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(shape, dropout) for _ in range(shape.depth))

    @staticmethod
    def n_tokens(n_samples: int) -> int:
        """Length of the output sequence: floor(T / 16)."""
        return n_samples >> _STAGES

    def forward(self, signal_BLT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, L, T); returns the sequence (B, N, F) and its mean over time (B, F)."""
        maps_BCN = scale_gradient(self.convolutions(signal_BLT), self.gradient_scale)
        x_BNF = self.dropout(self.project(self.norm_convolutions(maps_BCN.transpose(1, 2))))
        x_BNF = self.dropout(self.norm(x_BNF + self.positions(x_BNF)))
        for layer in self.layers:
            x_BNF = layer(x_BNF)
        return x_BNF, x_BNF.mean(dim=1)


class ConvPositions(nn.Module):
    """Relative positions by a grouped convolution with weight norm over its taps (wav2vec 2.0, section 2)."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=math.sqrt(4 / (kernel * width)))
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)
        self.gelu = nn.GELU()

    def forward(self, x_BNF: Tensor) -> Tensor:
        """What is added to the tokens (B, N, F)."""
        placed_BFN = self.conv(x_BNF.transpose(1, 2))
        out: Tensor = self.gelu(placed_BFN[..., : x_BNF.shape[1]]).transpose(1, 2)
        return out


class _Layer(nn.Module):
    def __init__(self, shape: ConvTransformerShape, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(shape.width, shape.heads, dropout)
        self.mlp = Mlp(shape.width, shape.hidden, shape.width)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BNF: Tensor) -> Tensor:
        x_BNF = self.norm_attention(x_BNF + self.dropout(self.attention(x_BNF)))
        out: Tensor = self.norm_mlp(x_BNF + self.dropout(self.mlp(x_BNF)))
        return out


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The same values; on the way back the gradient is multiplied by `factor`."""
    out: Tensor = _ScaleGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return out


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None
