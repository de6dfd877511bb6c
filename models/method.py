"""The contract of a method's network. A head or a protocol never asks which method it has in its hands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.types import Batch, Features, Losses


class Method(nn.Module, ABC):
    """A network with its objective.

    Attributes:
        config: the frozen dataclass it was built from.
        feature_width: F, the width of `Features.pooled_BF`.
    """

    config: Any
    feature_width: int

    @abstractmethod
    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, L, T) in microvolts. Must not read texts or labels."""

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """The pretraining objective; `total` is the scalar that is minimised."""

    @abstractmethod
    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        """Optimiser and schedule (stepped once per optimiser step) of the published recipe."""

    def prepare(self, texts: list[str]) -> None:
        """Learn what must be known before training from the training texts (a vocabulary, say). Default: nothing."""

    def extra_state(self) -> dict[str, Any]:
        """JSON that belongs to the encoder beside its weights (a vocabulary, say)."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore `extra_state`; called before weights are loaded."""

    def embed_text(self, texts: list[str]) -> Tensor:
        """Text embeddings (B, D), unit length, in the space of `Features.embedding_BD`.

        Raises:
            ConfigurationError: the method has no text tower.
        """
        raise ConfigurationError(f"{type(self).__name__} has no text tower, so it cannot be evaluated zero-shot")
