"""One patch transformer over one signal, normalised by constants of training windows, by those of its rows, or window by window."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.encoders.patch_transformer import PatchTransformer, PatchTransformerShape
from models.layers import SelfAttention
from models.method import SupervisedMethod
from models.methods.wesad.spec import WesadConfig
from models.signal_scale import SignalScale
from models.types import Batch, Features

_STILL = 1e-6
"""Smallest deviation that a window is divided by, in the signal's unit."""


class WesadTransformer(SupervisedMethod):
    """The network of one signal. What it is normalised by belongs to the signal that it is shown, not to its weights."""

    config: WesadConfig
    needs_scale: ClassVar[bool] = True
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: WesadConfig) -> None:
        super().__init__()
        self.config = config
        shape = PatchTransformerShape(
            config.patch, config.width, config.depth, config.heads, config.hidden, config.dropout, config.positions, config.pool
        )
        self.network = PatchTransformer(shape, config.n_samples)
        self.feature_width = config.width
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self._row_scale: tuple[Tensor, Tensor] | None = None

    def set_scale(self, scale: SignalScale) -> None:
        """Mean and deviation of the signal over the training windows; they travel with the weights."""
        self.mean.fill_(float(scale.mean_SL[-1, 0]))
        self.deviation.fill_(float(scale.std_SL[-1, 0]))

    def use_rows(self, mean_N: Tensor, deviation_N: Tensor) -> None:
        """From now on every window is normalised by the mean and deviation of its row in the store, both (rows,)."""
        self._row_scale = mean_N, deviation_N

    def scaled(self, batch: Batch) -> Tensor:
        """Windows (B, 1, T) in their unit as the network reads them, (B, T)."""
        signal_BT = batch.signal_BLT[:, 0]
        if self.config.normalisation == "per_window":
            return per_window(signal_BT)
        if self._row_scale is None:
            return (signal_BT - self.mean) / self.deviation
        mean_B, deviation_B = (values_N[batch.row_B.to(values_N.device)].to(signal_BT) for values_N in self._row_scale)
        return (signal_BT - mean_B[:, None]) / deviation_B[:, None]

    def encode(self, batch: Batch) -> Features:
        """Encode windows (B, 1, T) in the unit of their signal."""
        tokens_BNF, pooled_BF = self.network(self.scaled(batch))
        return Features(pooled_BF, tokens_BNF=tokens_BNF)

    def set_dropout(self, rate: float) -> None:
        """Set the dropout of all blocks."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate
            elif isinstance(module, SelfAttention):
                module.dropout = rate


def per_window(signal_BT: Tensor) -> Tensor:
    """Each window less its mean, over its deviation; a flat window becomes zeros."""
    centred_BT = signal_BT - signal_BT.mean(dim=1, keepdim=True)
    return centred_BT / centred_BT.square().mean(dim=1, keepdim=True).sqrt().clamp_min(_STILL)


def create(config: WesadConfig) -> WesadTransformer:
    """Build the network of the signal that the configuration names."""
    return WesadTransformer(config)
