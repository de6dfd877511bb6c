"""A transformer over patches of any set of channels and the pieces of a text (Gu et al., 2025, CSFM).

A token is a patch of one channel; channel and place in time are added as learned vectors, so that the same network reads twelve
leads, one lead, or a pulse wave. Records of a batch may have different channels: tokens that a record lacks are padding, which no
token attends to. Letters: N tokens, P samples of a patch, W pieces of a text, F width, S places in time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_SELF_LOGIT = 8.0
"""About what the logit of a token of unit variance with itself is at the start."""

_VALUE_GAIN = 2.0
"""By how much attended values are added to a token at the start."""


@dataclass
class Patches:
    """Signal tokens.

    Attributes:
        sample_BNP: float32 samples.
        channel_BN: int64 row of the table of channels.
        place_BN: int64 row of the table of times.
        real_BN: bool, False for padding; None where all are real.
    """

    sample_BNP: Tensor
    channel_BN: Tensor
    place_BN: Tensor
    real_BN: Tensor | None = None


@dataclass
class Words:
    """Pieces of texts.

    Attributes:
        number_BW: int64 number in the vocabulary.
        place_BW: int64 row of the table of positions.
        real_BW: bool, False for padding.
    """

    number_BW: Tensor
    place_BW: Tensor
    real_BW: Tensor


class HeadedAttention(nn.Module):
    """Self-attention whose heads have a width of their own, whatever the width of the tokens.

    Keys start equal to queries, so that tokens attend to those that are like them (of the same moment or channel, say), and values
    go through unchanged but for a factor (mimetic initialisation; Trockman and Kolter, ICML 2023). From weights without order, small
    networks took many hundred steps to find where a hidden patch can be copied from.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)
        with torch.no_grad():
            query, key, value = self.qkv.weight.chunk(3)
            query.normal_(std=(_SELF_LOGIT / (width * head_width**0.5)) ** 0.5)
            key.copy_(query)
            nn.init.orthogonal_(value)
            self.out.weight.copy_(_VALUE_GAIN * value.T)

    def forward(self, x_BNF: Tensor, real_BN: Tensor | None) -> Tensor:
        """Map (B, N, F) to (B, N, F); tokens that are not real are not attended to."""
        B, N, _ = x_BNF.shape
        query, key, value = self.qkv(x_BNF).view(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if real_BN is None else real_BN[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(B, N, -1))
        return out


class HeadedBlock(nn.Module):
    """Pre-norm transformer block with dropout on attention weights and after every map."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = HeadedAttention(width, heads, head_width, dropout)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BNF: Tensor, real_BN: Tensor | None) -> Tensor:
        """Map (B, N, F) to (B, N, F)."""
        x_BNF = x_BNF + self.dropout(self.attention(self.norm_attention(x_BNF), real_BN))
        hidden_BNX = self.dropout(functional.gelu(self.fc1(self.norm_mlp(x_BNF))))
        out: Tensor = x_BNF + self.dropout(self.fc2(hidden_BNX))
        return out


class ChannelTransformer(nn.Module):
    """The encoder.

    Args:
        channels: rows of the table of channels.
        places: S, rows of the table of times; shorter recordings use the first ones.
        patch: P.
        vocabulary: V.
        text_places: longest text, in pieces.
        width: F.
        depth: blocks.
        heads: of attention.
        head_width: width of a head.
        hidden: width inside the MLP.
        dropout: on the sum of embeddings and inside the blocks.
    """

    def __init__(
        self,
        *,
        channels: int,
        places: int,
        patch: int,
        vocabulary: int,
        text_places: int,
        width: int,
        depth: int,
        heads: int,
        head_width: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.width, self.depth, self.patch, self.places = width, depth, patch, places
        self.patch_embedding = nn.Sequential(nn.LayerNorm(patch), nn.Linear(patch, width), nn.LayerNorm(width))
        self.word_embedding = nn.Sequential(nn.Embedding(vocabulary, width), nn.LayerNorm(width))
        self.cls = nn.Parameter(torch.randn(width))
        self.channel_table = nn.Parameter(torch.randn(channels, width))
        self.time_table = nn.Parameter(torch.randn(places, width))
        self.text_type = nn.Parameter(torch.randn(width))
        self.text_table = nn.Parameter(torch.randn(text_places, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(HeadedBlock(width, heads, head_width, hidden, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Patches, words: Words | None = None) -> Tensor:
        """Normalised states (B, 1 + N + W, F): class token, patches, pieces of the text."""
        state, _ = self.forward_tapped(patches, words, ())
        return state

    def forward_tapped(self, patches: Patches, words: Words | None, after: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        """The same, with the states behind some blocks (counted from 1) as they are before normalisation."""
        x_BNF, real_BN = self._embed(patches, words)
        tapped = []
        for number, block in enumerate(self.blocks, 1):
            x_BNF = block(x_BNF, real_BN)
            if number in after:
                tapped.append(x_BNF)
        return self.norm(x_BNF), tapped

    def set_dropout(self, rate: float) -> None:
        """Set dropout everywhere."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate
            elif isinstance(module, HeadedAttention):
                module.dropout = rate

    def _embed(self, patches: Patches, words: Words | None) -> tuple[Tensor, Tensor | None]:
        signal_BNF = self.patch_embedding(patches.sample_BNP) + self.channel_table[patches.channel_BN] + self.time_table[patches.place_BN]
        parts = [self.cls.expand(len(signal_BNF), 1, -1), signal_BNF]
        if words is not None:
            parts.append(self.word_embedding(words.number_BW) + self.text_table[words.place_BW] + self.text_type)
        x_BNF = self.dropout(torch.cat(parts, dim=1))
        return x_BNF, real_tokens(patches, words)


def real_tokens(patches: Patches, words: Words | None) -> Tensor | None:
    """Which of the class token, patches and pieces are real, bool (B, 1 + N + W); None where all are."""
    if patches.real_BN is None and (words is None or words.real_BW.shape[1] == 0):
        return None
    B, N = patches.channel_BN.shape
    signal_BX = functional.pad(
        torch.ones(B, N, dtype=torch.bool, device=patches.channel_BN.device) if patches.real_BN is None else patches.real_BN,
        (1, 0),
        value=True,
    )
    return signal_BX if words is None else torch.cat([signal_BX, words.real_BW], dim=1)
