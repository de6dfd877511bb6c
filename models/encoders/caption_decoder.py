"""Decoder that writes a report from pooled ECG tokens: the multimodal decoder of CoCa (Yu et al., 2022) as MELP uses it.

It reads the states of a causal text encoder, which carry positions already, so it has none of its own. Letters: M memory
tokens, N text tokens, W width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers import Mlp, SelfAttention


class CaptionDecoder(nn.Module):
    """Pairs of blocks, causal self-attention and then cross-attention to the memory, each with an MLP; all pre-norm, no dropout.

    Attributes:
        output_WV: matrix from states to logits. The published module leaves it uninitialised; here it is N(0, 1 / width).
    """

    def __init__(self, width: int, blocks: int, heads: int, vocabulary: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Pair(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.output_WV = nn.Parameter(torch.randn(width, vocabulary) * width**-0.5)

    def states(self, text_BNW: Tensor, memory_BMW: Tensor) -> Tensor:
        """Final states (B, N, W); row j depends on text states 0 to j and on the memory."""
        N = text_BNW.shape[1]
        causal_1NN = torch.ones(N, N, dtype=torch.bool, device=text_BNW.device).tril()[None]
        for block in self.blocks:
            text_BNW = block(text_BNW, memory_BMW, causal_1NN)
        out: Tensor = self.norm(text_BNW)
        return out

    def forward(self, text_BNW: Tensor, memory_BMW: Tensor) -> Tensor:
        """Logits (B, N, V) of the token that follows each text state."""
        return self.states(text_BNW, memory_BMW) @ self.output_WV


class _Pair(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.memory_attention = SelfAttention(width, heads), nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp, self.memory_mlp = Mlp(width, 4 * width, width), Mlp(width, 4 * width, width)
        self.norm_attention, self.norm_mlp, self.norm_query, self.norm_memory, self.norm_memory_mlp = (
            nn.LayerNorm(width) for _ in range(5)
        )

    def forward(self, x_BNW: Tensor, memory_BMW: Tensor, causal_1NN: Tensor) -> Tensor:
        x_BNW = x_BNW + self.attention(self.norm_attention(x_BNW), causal_1NN)
        x_BNW = x_BNW + self.mlp(self.norm_mlp(x_BNW))
        memory_BMW = self.norm_memory(memory_BMW)
        read_BNW, _ = self.memory_attention(self.norm_query(x_BNW), memory_BMW, memory_BMW, need_weights=False)
        x_BNW = x_BNW + read_BNW
        out: Tensor = x_BNW + self.memory_mlp(self.norm_memory_mlp(x_BNW))
        return out
