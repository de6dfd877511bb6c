"""The objective of a variational autoencoder: squared error of the reconstruction and divergence of the latent from a normal one.

L = mean (xhat - x)^2 + weight mean_{B,N} sum_Z (mean^2 + exp(lv) - 1 - lv) / 2
"""

from __future__ import annotations

import torch
from torch import Tensor


def vae_loss(predicted_BTL: Tensor, signal_BTL: Tensor, divergence: Tensor, weight: float) -> Tensor:
    """Mean squared error over batch, time and all leads, plus a weighted divergence, shape ()."""
    return (predicted_BTL - signal_BTL).square().mean() + weight * divergence


def normal_divergence(mean_BZN: Tensor, log_variance_BZN: Tensor) -> Tensor:
    """KL divergence of independent normal distributions from the standard one, shape ().

    Summed over the channels Z of the latent, averaged over batch and places.
    """
    each_BZN = 0.5 * (mean_BZN.square() + torch.exp(log_variance_BZN) - 1 - log_variance_BZN)
    return each_BZN.sum(dim=1).mean()
