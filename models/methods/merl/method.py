"""MERL (Liu et al., ICML 2024, arXiv 2403.06659): contrastive pretraining of ECG and report.

Two losses over a batch, both InfoNCE with tau = 0.07, both directions summed, negatives from all processes:

    CMA = L(p_e, p_t)      cross-modal: pooled ECG embedding against projected report embedding
    UMA = L(v1, v2)        uni-modal: v_k = Dropout(W_k u), two maps of the pooled ECG latent u
    total = CMA + UMA

    ResNet: H = conv1x1(encoder), u = mean_t H,   p_e = attention pool of H
    ViT:    u = encoder output,                    p_e = Linear, BN, ReLU, Linear, BN of u
    text:   p_t = Linear, GELU, Linear of BERT's pooler output; the language model itself is frozen

What differs from the published code: records are scaled to [0, 1] inside the network; embeddings are gathered with
gradients, so that results do not depend on the number of devices; the length of the attention pool follows the configured
record length; leads are matched by name by the store.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.backbone import create_backbone
from models.encoders.report_text import clean_report
from models.encoders.resnet1d import ResNet1d
from models.encoders.text import LocalBert, OfflineBert, TextEncoder
from models.errors import ConfigurationError, TrainingError
from models.layers import AttentionPool, Mlp, scale_to_unit
from models.method import ContrastiveMethod
from models.methods.merl.spec import MerlConfig
from models.objectives.contrastive import info_nce
from models.optim import adamw
from models.types import Batch, Features, Losses


class Merl(ContrastiveMethod):
    """ECG tower, text tower and the two projections between them.

    `Features.pooled_BF` is the backbone's output (what probes read), `embedding_BD` is p_e.
    """

    config: MerlConfig

    def __init__(self, config: MerlConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = create_backbone(config.backbone, config.n_samples)
        self.feature_width = self.backbone.width
        self.head = (
            _PoolHead(config, self.backbone) if isinstance(self.backbone, ResNet1d) else _ProjectionHead(config, self.backbone.width)
        )
        self.view1 = nn.Linear(self.head.latent_width, config.projection, bias=False)
        self.view2 = nn.Linear(self.head.latent_width, config.projection, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.text = _text_encoder(config)
        self.text_projection = Mlp(config.text_width, config.projection, config.projection)

    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, 12, T) in microvolts; leads in the order of `models.types.LEADS`."""
        tokens_BNF, pooled_BF = self.backbone(scale_to_unit(batch.signal_BLT))
        _, embedding_BD = self.head(tokens_BNF, pooled_BF)
        return Features(pooled_BF, embedding_BD, tokens_BNF)

    def towers(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings of ECG and report, and two views of the ECG's latent.

        Raises:
            TrainingError: the batch has no texts.
        """
        if batch.texts is None:
            raise TrainingError("MERL learns from reports, but the batch has none; give the job a reports table")
        latent_BK, embedding_BD = self.head(*self.backbone(scale_to_unit(batch.signal_BLT)))
        text_BD = self.text_projection(self.text([clean_report(t) for t in batch.texts]).pooled_BW)
        view1_BD, view2_BD = self.dropout(self.view1(latent_BK)), self.dropout(self.view2(latent_BK))
        return {"ecg": embedding_BD, "text": text_BD, "view1": view1_BD, "view2": view2_BD}

    def contrast(self, towers: dict[str, Tensor]) -> Losses:
        """CMA + UMA."""
        cross_modal = self._contrast(towers["ecg"], towers["text"])
        uni_modal = self._contrast(towers["view1"], towers["view2"])
        return Losses(cross_modal + uni_modal, {"cma": cross_modal, "uma": uni_modal})

    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit-length embeddings (B, D) of prompts, which are read in lower case."""
        return functional.normalize(self.text_projection(self.text([t.lower() for t in texts]).pooled_BW), dim=1)

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW (0.9, 0.999) over everything that learns, with the configured cosine."""
        config = self.config
        optimizer = adamw([p for p in self.parameters() if p.requires_grad], lr=config.lr, weight_decay=config.weight_decay)
        if config.schedule == "cosine_restarts":
            return optimizer, torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, config.restart_steps, eta_min=1e-8)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total_steps), eta_min=1e-8)

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary, or read the local text weights."""
        self.text.prepare([clean_report(t) for t in texts])

    def extra_state(self) -> dict[str, Any]:
        """Vocabulary, or configuration and tokenizer of the local text model."""
        return {"text": self.text.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the text encoder around its weights."""
        self.text.restore(state.get("text", {}))

    def _contrast(self, x_BD: Tensor, y_BD: Tensor) -> Tensor:
        return info_nce(x_BD, y_BD, self.config.temperature, self.config.direction_reduction)


class _PoolHead(nn.Module):
    """Down-projection and attention pool of a ResNet; gives u (B, K) and p_e (B, D) with K = D."""

    def __init__(self, config: MerlConfig, backbone: ResNet1d) -> None:
        super().__init__()
        self.latent_width = config.projection
        self.down = nn.Conv1d(backbone.width, config.projection, 1)
        self.pool = AttentionPool(backbone.n_tokens(config.n_samples), config.projection, config.pool_heads)

    def forward(self, tokens_BNF: Tensor, pooled_BF: Tensor) -> tuple[Tensor, Tensor]:
        latent_BNK = self.down(tokens_BNF.transpose(1, 2)).transpose(1, 2)
        return latent_BNK.mean(dim=1), self.pool(latent_BNK)


class _ProjectionHead(nn.Module):
    """Head of a ViT; u is the encoder output itself, so K = F."""

    def __init__(self, config: MerlConfig, width: int) -> None:
        super().__init__()
        self.latent_width = width
        D = config.projection
        self.project = nn.Sequential(nn.Linear(width, D), nn.BatchNorm1d(D), nn.ReLU(), nn.Linear(D, D), nn.BatchNorm1d(D))

    def forward(self, tokens_BNF: Tensor, pooled_BF: Tensor) -> tuple[Tensor, Tensor]:
        return pooled_BF, self.project(pooled_BF)


def _text_encoder(config: MerlConfig) -> TextEncoder:
    if config.text_weights is not None:
        return LocalBert(config.text_weights, config.text_width, config.text_max_tokens, config.text_trainable_layers)
    return OfflineBert(
        config.text_vocabulary,
        config.text_width,
        config.text_layers,
        config.text_heads,
        config.text_max_tokens,
        config.text_dropout,
        config.text_trainable_layers,
    )


def create(config: MerlConfig) -> Merl:
    """Build MERL.

    Raises:
        ConfigurationError: options that do not fit together.
    """
    if config.temperature <= 0:
        raise ConfigurationError(f"temperature must be above 0, not {config.temperature}")
    return Merl(config)
