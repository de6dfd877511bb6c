"""Supervised baseline: a backbone with random weights, to be trained on labels by the protocol `finetune`.

It exists so that every pretrained encoder stands beside a network of the same size that has seen labels only.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models.encoders.backbone import create_backbone
from models.encoders.s4 import STATE_PARAMETERS
from models.encoders.xresnet1d import ConcatPoolHead
from models.errors import ConfigurationError
from models.layers import scale_to_unit
from models.method import SupervisedMethod
from models.methods.supervised.spec import SupervisedConfig
from models.signal_scale import SignalScale
from models.types import Batch, Features


class Supervised(SupervisedMethod):
    """A backbone over records scaled to [0, 1]."""

    config: SupervisedConfig

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = create_backbone(config.backbone, config.n_samples)
        self.head = ConcatPoolHead(self.backbone.width) if config.head == "concat_pool" else None
        self.feature_width = self.backbone.width

    def scaled(self, signal_BLT: Tensor) -> Tensor:
        """Signals (B, L, T) in microvolts as the backbone reads them."""
        return scale_to_unit(signal_BLT)

    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, 12, T) in microvolts."""
        tokens_BNF, pooled_BF = self.backbone(self.scaled(batch.signal_BLT))
        return Features(pooled_BF, tokens_BNF=tokens_BNF)

    def finetune_features(self, features: Features) -> Tensor:
        """What the last linear layer reads: the mean over time, or what the benchmark's head makes of the sequence.

        Raises:
            ConfigurationError: features without their sequence.
        """
        if self.head is None:
            return features.pooled_BF
        if features.tokens_BNF is None:
            raise ConfigurationError("the benchmark's head pools a sequence, but these features have none; take those that `encode` gives")
        pooled_BF: Tensor = self.head(features.tokens_BNF)
        return pooled_BF

    def decays(self, parameter: str, value: Tensor) -> bool:
        """Weight decay holds for everything, as in the benchmark's code, but for how the states of S4 move."""
        return parameter.rpartition(".")[2] not in STATE_PARAMETERS


class Standardised(Supervised):
    """A backbone over records from which one mean is taken and that are divided by one deviation, as the PTB-XL benchmark does.

    Both are numbers of all leads and samples of the training records, and travel with the weights.
    """

    needs_scale: ClassVar[bool] = True
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__(config)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def set_scale(self, scale: SignalScale) -> None:
        """Mean and deviation over all leads (of all members of a mixture alike) from those of each lead."""
        mean = float(scale.mean_SL.mean())
        variance = float((scale.std_SL**2 + (scale.mean_SL - mean) ** 2).mean())
        self.mean.fill_(mean)
        self.deviation.fill_(variance**0.5)

    def scaled(self, signal_BLT: Tensor) -> Tensor:
        """Signals (B, L, T) in microvolts, standardised."""
        return (signal_BLT - self.mean) / self.deviation


def create(config: SupervisedConfig) -> Supervised:
    """Build the baseline."""
    return Standardised(config) if config.scaling == "constants" else Supervised(config)
