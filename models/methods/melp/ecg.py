"""MELP's ECG side: encoder, and two sets of learned queries that pool its tokens into beats and into a memory for captions.

Letters: N tokens, F width of the encoder, Q queries, K beats, M memory tokens, D width of the shared space, W of the text encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encoders.backbone import create_backbone
from models.encoders.conv_transformer import ConvTransformer
from models.encoders.shapes import CONV_TRANSFORMERS
from models.layers import scale_to_unit
from models.methods.melp.spec import MelpConfig


class QueryPool(nn.Module):
    """Attention of learned queries over tokens, then layer norm (CoCa's attentional pooler; paper, section 3.2).

    No residual and no MLP: what comes out is a mixture of tokens alone. The number of rows does not depend on the record's length.
    """

    def __init__(self, queries: int, width: int, width_in: int, heads: int) -> None:
        super().__init__()
        self.query_QD = nn.Parameter(torch.randn(queries, width))
        self.norm_query, self.norm_tokens, self.norm = nn.LayerNorm(width), nn.LayerNorm(width_in), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, kdim=width_in, vdim=width_in, batch_first=True)

    def forward(self, tokens_BNF: Tensor) -> Tensor:
        """Pool (B, N, F) to (B, Q, D)."""
        tokens_BNF = self.norm_tokens(tokens_BNF)
        query_BQD = self.norm_query(self.query_QD).expand(len(tokens_BNF), -1, -1)
        pooled_BQD, _ = self.attention(query_BQD, tokens_BNF, tokens_BNF, need_weights=False)
        out: Tensor = self.norm(pooled_BQD)
        return out


@dataclass
class EcgFeatures:
    """What the ECG side makes of a batch.

    Attributes:
        tokens_BNF: the encoder's tokens, E in the paper.
        beats_BKD: the beats in the shared space.
        embedding_BD: their mean, not normalised.
        probe_BD: mean of the beats before they are projected into that space.
    """

    tokens_BNF: Tensor
    beats_BKD: Tensor
    embedding_BD: Tensor
    probe_BD: Tensor


class EcgTower(nn.Module):
    """Signals to beats, and to the memory that reports are written from."""

    def __init__(self, config: MelpConfig) -> None:
        super().__init__()
        D = config.projection
        if config.backbone in CONV_TRANSFORMERS:
            self.backbone: nn.Module = ConvTransformer(CONV_TRANSFORMERS[config.backbone], config.dropout, config.gradient_scale)
            self.down: nn.Module = nn.Identity()
            width = CONV_TRANSFORMERS[config.backbone].width
        else:
            self.backbone = backbone = create_backbone(config.backbone, config.n_samples)
            self.down = nn.Linear(backbone.width, D)  # a convolution of kernel 1 over the tokens
            width = D
        self.beat_pool = QueryPool(config.beats, D, width, config.pool_heads)
        self.project_DD = nn.Parameter(torch.randn(D, D) * width**-0.5)
        self.memory_pool = QueryPool(config.memory_tokens, config.text_width, width, config.pool_heads)

    def forward(self, signal_BLT: Tensor, lead_mask: float = 0.0) -> EcgFeatures:
        """Encode (B, L, T) in microvolts, each lead left out with probability `lead_mask` after the record was scaled to [0, 1]."""
        tokens_BNF, _ = self.backbone(mask_leads(scale_to_unit(signal_BLT), lead_mask))
        tokens_BNF = self.down(tokens_BNF)
        raw_BKD = self.beat_pool(tokens_BNF)
        beats_BKD = raw_BKD @ self.project_DD
        return EcgFeatures(tokens_BNF, beats_BKD, beats_BKD.mean(dim=1), raw_BKD.mean(dim=1))

    def memory(self, tokens_BNF: Tensor) -> Tensor:
        """The memory (B, M, W) of captions."""
        out: Tensor = self.memory_pool(tokens_BNF)
        return out


def mask_leads(signal_BLT: Tensor, probability: float) -> Tensor:
    """Set each lead of each record to zero with some probability; a record may lose all of them."""
    if not probability:
        return signal_BLT
    kept_BL1 = torch.rand(*signal_BLT.shape[:2], 1, device=signal_BLT.device) >= probability
    return signal_BLT * kept_BL1
