"""Variational autoencoder of a signal over time: the image autoencoder of latent diffusion (Rombach et al., 2022) in one dimension.

Three halvings of the length, three doublings back, no skip connections; one self-attention over time on either side of the latent. As
WearECG (Guan et al., 2025) builds it, signals stand time first: (B, T, L) in and out, T a multiple of 8. Letters: C channels, N places
of the latent (T / 8), Z channels of the latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError
from models.types import LEADS

REDUCTION = 8
"""Samples of a signal for each place of its latent."""

SCALE = 0.18215
"""Factor between what the encoder samples and what the decoder is given, kept from the published image autoencoder."""

_LOG_VARIANCE = (-30.0, 20.0)


@dataclass(frozen=True)
class VaeShape:
    """Sizes of encoder and decoder.

    Attributes:
        widths: channels at full, half and quarter length (and at an eighth); all multiples of `groups`.
        groups: of the group norms.
        latent: Z, channels of the latent.
        n_leads: L.
        attention_norm: whether the group norm of the attention is applied; the released network creates it and does not.
    """

    widths: tuple[int, int, int] = (128, 256, 512)
    groups: int = 32
    latent: int = 4
    n_leads: int = len(LEADS)
    attention_norm: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigurationError where widths cannot be cut into groups."""
        if odd := [w for w in self.widths if w % self.groups]:
            raise ConfigurationError(f"channels {odd} cannot be cut into {self.groups} groups; choose widths that are multiples of it")


class Latent(NamedTuple):
    """What the encoder says of a signal: a normal distribution of each number of its latent, mean and log variance (B, Z, N)."""

    mean_BZN: Tensor
    log_variance_BZN: Tensor

    def sample(self, noise_BZN: Tensor | float = 0.0) -> Tensor:
        """`SCALE` (mean + exp(log variance / 2) noise), (B, Z, N); the mean where the noise is 0."""
        return SCALE * (self.mean_BZN + torch.exp(self.log_variance_BZN / 2) * noise_BZN)


class VaeEncoder(nn.Module):
    """Signals (B, T, L) to the distribution of their latents."""

    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        first, second, third = shape.widths
        g, last = shape.groups, 2 * shape.latent
        self.blocks = nn.Sequential(
            _conv(shape.n_leads, first),
            *(_Residual(first, first, g), _Residual(first, first, g), _Halve(first)),
            *(_Residual(first, second, g), _Residual(second, second, g), _Halve(second)),
            *(_Residual(second, third, g), _Residual(third, third, g), _Halve(third)),
            *(_Residual(third, third, g) for _ in range(3)),
            _Attention(third, g, normalise=shape.attention_norm),
            _Residual(third, third, g),
            *(nn.GroupNorm(g, third), nn.SiLU(), _conv(third, last), nn.Conv1d(last, last, 1)),
        )

    def forward(self, signal_BTL: Tensor) -> Latent:
        """The distribution of the latent, its log variance between -30 and 20.

        Raises:
            ConfigurationError: the length is no multiple of 8.
        """
        if signal_BTL.shape[1] % REDUCTION:
            raise ConfigurationError(
                f"signals of {signal_BTL.shape[1]} samples cannot be halved {REDUCTION.bit_length() - 1} times; choose n_samples a multiple of {REDUCTION}"
            )
        mean_BZN, log_variance_BZN = self.blocks(signal_BTL.transpose(1, 2)).chunk(2, dim=1)
        return Latent(mean_BZN, log_variance_BZN.clamp(*_LOG_VARIANCE))


class VaeDecoder(nn.Module):
    """Latents (B, Z, N), scaled by `SCALE`, to signals (B, T, L)."""

    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        _, second, third = shape.widths
        g, z = shape.groups, shape.latent
        self.blocks = nn.Sequential(
            *(nn.Conv1d(z, z, 1), _conv(z, third)),
            *(_Residual(third, third, g), _Attention(third, g, normalise=shape.attention_norm)),
            *(_Residual(third, third, g) for _ in range(4)),
            *(_double(third), *(_Residual(third, third, g) for _ in range(3))),
            *(_double(third), *(_Residual(third, third, g) for _ in range(3))),
            *(_double(third), _Residual(third, second, g), _Residual(second, second, g), _Residual(second, second, g)),
            *(nn.GroupNorm(g, second), nn.SiLU(), _conv(second, shape.n_leads)),
        )

    def forward(self, latent_BZN: Tensor) -> Tensor:
        """Signals (B, T, L); the latent is left as it is."""
        signal_BLT: Tensor = self.blocks(latent_BZN / SCALE)
        return signal_BLT.transpose(1, 2)


def _conv(width_in: int, width: int) -> nn.Conv1d:
    return nn.Conv1d(width_in, width, 3, padding=1)


def _double(width: int) -> nn.Sequential:
    """Twice the length: every place stands twice, then a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2), _conv(width, width))


class _Residual(nn.Module):
    def __init__(self, width_in: int, width: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.GroupNorm(groups, width_in), nn.SiLU(), _conv(width_in, width)),
            *(nn.GroupNorm(groups, width), nn.SiLU(), _conv(width, width)),
        )
        self.shortcut = nn.Identity() if width_in == width else nn.Conv1d(width_in, width, 1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        out: Tensor = self.body(x_BCT) + self.shortcut(x_BCT)
        return out


class _Halve(nn.Conv1d):
    """Half the length, rounded down: one zero on the right, then a convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, stride=2)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C, T / 2)."""
        return super().forward(functional.pad(x_BCT, (0, 1)))


class _Attention(nn.Module):
    """One head of self-attention over time, added to its input; the published network has a norm here that it does not apply."""

    def __init__(self, width: int, groups: int, *, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise
        self.norm = nn.GroupNorm(groups, width).requires_grad_(normalise)
        self.inputs, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BCN: Tensor) -> Tensor:
        """Map (B, C, N) to (B, C, N)."""
        read_BNC = (self.norm(x_BCN) if self.normalise else x_BCN).transpose(1, 2)
        query, key, value = self.inputs(read_BNC).chunk(3, dim=2)
        weight_BNN = (query @ key.transpose(1, 2) / math.sqrt(x_BCN.shape[1])).softmax(dim=2)
        out: Tensor = x_BCN + self.out(weight_BNN @ value).transpose(1, 2)
        return out
