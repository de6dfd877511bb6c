"""Layers that several networks share: record scaling, self-attention, transformer block, attention pool.

Shape letters are those of `models.types`; K is the width of the pooled embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError


def scale_to_unit(signal_BLT: Tensor) -> Tensor:
    """Scale each record to [0, 1] with one minimum and one maximum over all its leads (as MERL does).

    Invariant to x -> a x + b with a > 0. A constant record becomes zero.
    """
    flat_BX = signal_BLT.flatten(1)
    low_B11 = flat_BX.amin(1)[:, None, None]
    high_B11 = flat_BX.amax(1)[:, None, None]
    return (signal_BLT - low_B11) / (high_B11 - low_B11 + 1e-8)


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate query, key and value maps (adapters need them apart).

    `dropout` is the share of attention weights that are dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(f"an attention width of {width} cannot be divided among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BND: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend over N tokens (B, N, D); `mask` is True where a token may be attended to.

        It has shape (B, N), or (1 or B, N, N) with the rows of those that attend, for causal attention, say.
        """
        B, N, D = x_BND.shape

        def split(y_BND: Tensor) -> Tensor:
            return y_BND.view(B, N, self.heads, D // self.heads).transpose(1, 2)

        allowed = mask if mask is None else mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        mixed = functional.scaled_dot_product_attention(
            split(self.query(x_BND)),
            split(self.key(x_BND)),
            split(self.value(x_BND)),
            attn_mask=allowed,
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(B, N, D))
        return out


class Mlp(nn.Sequential):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, hidden: int, width_out: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width_out))


class PreNormBlock(nn.Module):
    """Transformer block that normalises before attention and MLP (Dosovitskiy et al., 2021)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.mlp = Mlp(width, hidden, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        x_BND = x_BND + self.attention(self.norm_attention(x_BND))
        out: Tensor = x_BND + self.mlp(self.norm_mlp(x_BND))
        return out


class AttentionPool(nn.Module):
    """Pool a sequence of fixed length with one learned query (MERL's ECG head).

    The query token is cls + pos[0]; positions are added to the whole sequence afterwards, so pos[0] enters it twice. That
    is how the published network is built, and its weights depend on it.
    """

    def __init__(self, n_tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, n_tokens + 1, width) / width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.out = nn.Linear(width, width)

    def forward(self, x_BNK: Tensor) -> Tensor:
        """Pool (B, N, K) to (B, K).

        Raises:
            ConfigurationError: N is not the length this pool was built for.
        """
        if x_BNK.shape[1] != self.n_tokens:
            raise ConfigurationError(
                f"attention pool was built for {self.n_tokens} tokens, got {x_BNK.shape[1]}; set n_samples to the length of the records"
            )
        query = (self.cls + self.positions[:, :1]).expand(len(x_BNK), -1, -1)
        sequence = torch.cat([query, x_BNK], dim=1) + self.positions
        pooled, _ = self.attention(sequence[:, :1], sequence, sequence, need_weights=False)
        out: Tensor = self.out(pooled[:, 0])
        return out
