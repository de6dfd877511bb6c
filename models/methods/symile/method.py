"""Symile (Saporta et al., NeurIPS 2024, arXiv 2411.01053): contrastive pretraining of tuples of any number of modalities.

Each modality has an encoder (`towers`); the loss is that of `models.objectives.symile` over whole tuples, or, as the baseline
with the same encoders, the sum of InfoNCE over all pairs. Symile-MIMIC's: ECG as a picture of one channel, X-ray, 50 lab tests.
The score of a candidate for a query is s MIP(query parts, candidate); a part that is left out counts as ones.

What differs from the published code: records are scaled inside the network; the scale starts where logits spread as they do for
two modalities of unit vectors, and has no weight decay; missing modalities have a learned vector of their own; results do not
depend on the number of devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.text import OfflineBert
from models.errors import ConfigurationError
from models.method import ContrastiveMethod
from models.methods.symile.spec import SymileConfig
from models.methods.symile.towers import Encoded, TextTower, Tower, create_tower
from models.objectives.contrastive import LogitScale
from models.objectives.symile import (
    check_negatives,
    information_bound,
    initial_log_scale,
    mip_scores,
    pairwise_loss,
    symile_loss,
)
from models.optim import adamw
from models.types import Batch, Features, Losses


class Symile(ContrastiveMethod):
    """Encoders of the configured modalities and one scale.

    `Features.pooled_BF` is the trunk's output (what probes read), `embedding_BD` the vector in the shared space.
    """

    config: SymileConfig

    def __init__(self, config: SymileConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleDict({m: create_tower(m, config) for m in config.modalities})
        self.feature_width = self._tower("ecg").feature_width
        self.scale = LogitScale(_initial_scale(config), maximum=config.maximum_scale, minimum=1e-12)

    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, L, T) of any unit; channels in the order of `SymileConfig.channels`."""
        return self._features("ecg", batch)

    def encode_image(self, batch: Batch) -> Features:
        """Encode pictures (B, H, W), uint8 grey.

        Raises:
            ConfigurationError: the configuration reads no images.
        """
        if "image" not in self.encoders:
            return super().encode_image(batch)
        return self._features("image", batch)

    def towers(self, batch: Batch) -> dict[str, Tensor]:
        """Vectors of all modalities, and "has_<modality>" for who has them.

        Raises:
            TrainingError: the batch lacks a modality altogether.
            ConfigurationError: lab panels of another width.
        """
        found = {}
        for name in self.config.modalities:
            encoded: Encoded = self._tower(name)(batch)
            found[name], found[f"has_{name}"] = self._finish(encoded.embedding_BD), encoded.observed_B
        return found

    def contrast(self, towers: dict[str, Tensor]) -> Losses:
        """The loss; parts: what it says about the total correlation in nats, or how many pairs were too rare to compare."""
        config = self.config
        embeddings = [towers[m] for m in config.modalities]
        if config.objective == "pairwise":
            total, skipped = pairwise_loss(embeddings, self.scale(), [towers[f"has_{m}"] for m in config.modalities])
            return Losses(total, {"skipped_pairs": total.new_tensor(float(skipped))})
        total = symile_loss(embeddings, self.scale(), config.negatives)
        bound = information_bound(total, config.negatives, len(embeddings), len(embeddings[0]))
        return Losses(total, {"information_bound": bound})

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Vectors (B, D) of the modalities that the batch holds; of unit length only if the configuration normalises."""
        given = [m for m in self.config.modalities if self._tower(m).given(batch)]
        return {m: self._finish(self._tower(m)(batch).embedding_BD).float() for m in given}

    def similarity(self, query: Mapping[str, Tensor], candidate_CD: Tensor, target: str) -> Tensor:
        """Scores (Q, C): s MIP of query parts and candidate; for pairwise training s times the sum of dot products.

        Raises:
            ConfigurationError: a query without a modality.
        """
        pairwise = self.config.objective == "pairwise"
        scores_QC = super().similarity(query, candidate_CD, target) if pairwise else mip_scores(list(query.values()), candidate_CD)
        scaled_QC: Tensor = self.scale() * scores_QC
        return scaled_QC

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, None]:
        """AdamW (0.9, 0.999) at a constant learning rate; the scale is not decayed."""
        decayed = [p for n, p in self.named_parameters() if p.requires_grad and not n.startswith("scale.")]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": list(self.scale.parameters()), "weight_decay": 0.0}]
        optimizer = adamw(groups, lr=self.config.lr, weight_decay=self.config.weight_decay)
        if self.config.maximum_scale is not None:
            self.scale.clamp_after(optimizer)
        return optimizer, None

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary, if reports are read."""
        if (text := self._text()) is not None:
            text.prepare(texts)

    def extra_state(self) -> dict[str, Any]:
        """The vocabulary, if reports are read."""
        text = self._text()
        return {} if text is None else {"text": text.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the vocabulary."""
        if (text := self._text()) is not None:
            text.restore(state.get("text", {}))

    def _tower(self, modality: str) -> Tower:
        tower = self.encoders[modality]
        assert isinstance(tower, Tower)
        return tower

    def _text(self) -> OfflineBert | None:
        return next((e.trunk for e in self.encoders.values() if isinstance(e, TextTower)), None)

    def _features(self, modality: str, batch: Batch) -> Features:
        encoded: Encoded = self._tower(modality)(batch)
        return Features(encoded.pooled_BF, self._finish(encoded.embedding_BD))

    def _finish(self, embedding_BD: Tensor) -> Tensor:
        return functional.normalize(embedding_BD.float(), dim=1) if self.config.normalise == "l2" else embedding_BD


def _initial_scale(config: SymileConfig) -> float:
    """Where the multiplier of scores starts.

    Vectors after LayerNorm are sqrt(D) long, so their products of m are D^(m/2) times those of unit vectors.
    """
    n_modalities = 2 if config.objective == "pairwise" else len(config.modalities)
    start = initial_log_scale(config.scale, n_modalities, config.width)
    return math.exp(start - (0 if config.normalise == "l2" else n_modalities / 2 * math.log(config.width)))


def create(config: SymileConfig) -> Symile:
    """Build Symile.

    Raises:
        ConfigurationError: options that do not fit together.
    """
    modalities, pulse = config.modalities, config.ppg_channels
    if len(set(modalities)) != len(modalities) or len(modalities) < 2 or "ecg" not in modalities:
        raise ConfigurationError(
            f"modalities must be two or more different ones with ecg among them, not {', '.join(modalities) or 'none'}"
        )
    if set(pulse) - set(config.channels) or not set(config.channels) - set(pulse):
        raise ConfigurationError(
            f"ppg_channels ({', '.join(pulse) or 'none'}) must be some of channels ({', '.join(config.channels)}) and leave one to the ECG"
        )
    if ("ppg" in modalities) != bool(pulse):
        raise ConfigurationError("ppg_channels names the pulse wave's channels where modalities has ppg, and is empty otherwise")
    if config.scale <= 0:
        raise ConfigurationError(f"scale must be above 0, not {config.scale}")
    for name, chosen, known in (("objective", config.objective, ("symile", "pairwise")), ("normalise", config.normalise, ("l2", "none"))):
        if chosen not in known:
            raise ConfigurationError(f"there is no {name} {chosen!r}; choose one of {', '.join(known)}")
    check_negatives(config.negatives)
    return Symile(config)
