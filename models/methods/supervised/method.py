"""Supervised baseline: a backbone with random weights, to be trained on labels by the protocol `finetune`.

It exists so that every pretrained encoder stands beside a network of the same size that has seen labels only.
"""

from __future__ import annotations

import torch

from models.encoders.backbone import create_backbone
from models.errors import ConfigurationError
from models.layers import scale_to_unit
from models.method import Method
from models.methods.supervised.spec import SupervisedConfig
from models.types import Batch, Features, Losses


class Supervised(Method):
    """A backbone over records scaled to [0, 1]."""

    config: SupervisedConfig

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = create_backbone(config.backbone, config.n_samples)
        self.feature_width = self.backbone.width

    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, 12, T) in microvolts."""
        tokens_BNF, pooled_BF = self.backbone(scale_to_unit(batch.signal_BLT))
        return Features(pooled_BF, tokens_BNF=tokens_BNF)

    def loss(self, batch: Batch) -> Losses:
        """There is none without a task.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("the supervised baseline has no pretraining; leave max_steps at 0 and train it with the protocol finetune")

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, None]:
        """AdamW; only reached when somebody asks for pretraining, which `loss` refuses."""
        return torch.optim.AdamW(self.parameters(), lr=self.config.finetune_lr), None


def create(config: SupervisedConfig) -> Supervised:
    """Build the baseline."""
    return Supervised(config)
