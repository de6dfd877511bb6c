"""WearECG (Guan et al., 2025): a variational autoencoder that sees II, V1 and V5 and is asked for all twelve leads.

    L = mean (xhat - x)^2 + weight KL(q(z | x masked) || N(0, 1)),  x in millivolts

The mask is inside the network, in training and afterwards. The released scripts leave it out and so train an autoencoder of twelve
full leads; here the paper is followed. Afterwards the mean of the latent is decoded, so that a record has one reconstruction.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from models import optim
from models.encoders.vae1d import Latent, VaeDecoder, VaeEncoder, VaeShape
from models.errors import ConfigurationError
from models.method import Method
from models.methods.wearecg.spec import WearEcgConfig
from models.objectives.vae import normal_divergence, vae_loss
from models.types import Batch, Features, Losses

_UV_PER_MV = 1000.0


class WearEcg(Method):
    """Encoder and decoder over signals in millivolts."""

    config: WearEcgConfig
    kept_L: Tensor

    def __init__(self, config: WearEcgConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_width = 2 * config.latent
        shape = VaeShape(config.widths, config.groups, config.latent, len(config.channels), config.attention_norm)
        self.encoder, self.decoder = VaeEncoder(shape), VaeDecoder(shape)
        self.register_buffer("kept_L", torch.tensor([name in config.kept for name in config.channels]), persistent=False)

    def latent(self, signal_BTL: Tensor) -> Latent:
        """What the encoder says of signals (B, T, L) in millivolts; of their missing leads it sees nothing."""
        latent: Latent = self.encoder(torch.where(self.kept_L, signal_BTL, 0.0))
        return latent

    def encode(self, batch: Batch) -> Features:
        """Mean and spread over time of the latent's mean, and this itself as tokens."""
        tokens_BNF = self.latent(_millivolts(batch)).mean_BZN.transpose(1, 2)
        return Features(torch.cat([tokens_BNF.mean(dim=1), tokens_BNF.std(dim=1)], dim=1), tokens_BNF=tokens_BNF)

    def reconstruct(self, batch: Batch) -> Tensor:
        """All leads (B, L, T) in microvolts from the kept ones: the mean of the latent, decoded."""
        decoded_BTL: Tensor = self.decoder(self.latent(_millivolts(batch)).sample())
        return decoded_BTL.transpose(1, 2) * _UV_PER_MV

    def loss(self, batch: Batch) -> Losses:
        """The objective with a sampled latent. In evaluation mode what chooses the weights: the error of the missing leads without noise."""
        signal_BTL = _millivolts(batch)
        latent = self.latent(signal_BTL)
        noise = torch.randn_like(latent.mean_BZN) if self.training else 0.0
        predicted_BTL: Tensor = self.decoder(latent.sample(noise))
        missing = (predicted_BTL - signal_BTL).square()[:, :, ~self.kept_L].mean()
        divergence = normal_divergence(*latent)
        total = vae_loss(predicted_BTL, signal_BTL, divergence, self.config.kl_weight) if self.training else missing
        return Losses(total, {"missing_mse": missing, "kl": divergence})

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, OneCycleLR]:
        """AdamW in one cycle."""
        config = self.config
        learning = [p for p in self.parameters() if p.requires_grad]
        optimizer = optim.adamw(learning, lr=config.lr, weight_decay=config.weight_decay)
        return optimizer, OneCycleLR(optimizer, config.lr, total_steps=total_steps, pct_start=config.warmup)


def _millivolts(batch: Batch) -> Tensor:
    """Signals (B, T, L)."""
    return batch.signal_BLT.float().transpose(1, 2) / _UV_PER_MV


def create(config: WearEcgConfig) -> WearEcg:
    """Build WearECG.

    Raises:
        ConfigurationError: no lead is kept or all are, a kept lead is not among the channels, or widths do not fit their groups.
    """
    unknown = [name for name in config.kept if name not in config.channels]
    if unknown or not 0 < len(set(config.kept)) < len(config.channels):
        raise ConfigurationError(
            f"kept leads {', '.join(config.kept) or 'none'}: choose some, not all, of the channels {', '.join(config.channels)}"
        )
    return WearEcg(config)
