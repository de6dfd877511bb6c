"""Bidirectional selective state spaces over tokens of a signal: Vision Mamba (Vim, Zhu et al. 2024, arXiv 2401.09417) on 12 leads.

A short convolutional stem makes tokens, a class token stands among them, and every block adds a mixer of the normalised tokens:

    [x, z] = X W_in,    out = (f(x, z) + flip g(flip x, flip z)) / 2 W_out,

where f and g are branches with weights of their own, each a causal convolution over time and a selective scan (Gu and Dao 2023). In
Vim's published code the backward branch is left out wherever its fused kernels are off, and starts with steps of 0.69; here it never
is, and both branches start alike.

Letters: B batch, L leads, T time, N tokens with the class token, F width, E width within a mixer, S states, R rank of the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError
from models.scan import selective_scan
from models.types import LEADS

_FIRST_STEPS = (1e-3, 1e-1)
"""Between these the steps of the channels start, evenly on a logarithmic scale."""

_EPS = 1e-5


@dataclass(frozen=True)
class MambaShape:
    """Sizes and options of a `VisionMamba`.

    Attributes:
        n_samples: length of the signals.
        stem: width, kernel, stride and padding of the two convolutions; the last width is F.
        depth: blocks.
        state: S.
        kernel: of the convolution over tokens.
        expand: E is so many times F.
        drop_path: rate of the last block; it rises from 0 in the first.
        dropout: of what a block adds.
        class_token: where it stands.
        halve: whether the two directions are averaged rather than added.
        window: the convolution over tokens sees a token and those before it, or those around it.
    """

    n_samples: int
    stem: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]
    depth: int
    state: int = 16
    kernel: int = 4
    expand: int = 2
    drop_path: float = 0.1
    dropout: float = 0.0
    class_token: Literal["middle", "end"] = "middle"
    halve: bool = True
    window: Literal["causal", "centred"] = "causal"

    @property
    def width(self) -> int:
        """F."""
        return self.stem[-1][0]

    @property
    def n_patches(self) -> int:
        """Tokens without the class token.

        Raises:
            ConfigurationError: the signals are shorter than the kernels of the stem.
        """
        length = self.n_samples
        for _, kernel, stride, padding in self.stem:
            if length + 2 * padding < kernel:
                raise ConfigurationError(f"signals of {self.n_samples} samples are too short for the stem {self.stem}; choose longer ones")
            length = (length + 2 * padding - kernel) // stride + 1
        return length


class VisionMamba(nn.Module):
    """Encoder of signals of one length.

    Attributes:
        shape: what it was built by.
        place: index of the class token.
    """

    def __init__(self, shape: MambaShape, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        self.shape = shape
        M, F = shape.n_patches, shape.width
        self.place = M // 2 if shape.class_token == "middle" else M
        self.stem = _stem(shape, n_leads)
        self.class_token = nn.Parameter(torch.empty(1, 1, F))
        self.position = nn.Parameter(torch.empty(1, M + 1, F))
        rates = torch.linspace(0, shape.drop_path, shape.depth).tolist()
        self.blocks = nn.ModuleList(MambaBlock(shape, rate) for rate in rates)
        self.norm = nn.RMSNorm(F, eps=_EPS)
        for table in (self.class_token, self.position):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, signal_BLT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, L, T); returns the tokens (B, N, F), the class token at `place`, and the class token (B, F).

        Raises:
            ConfigurationError: T is not what the network was built for.
        """
        if signal_BLT.shape[2] != self.shape.n_samples:
            raise ConfigurationError(
                f"this network reads {self.shape.n_samples} samples, the signals have {signal_BLT.shape[2]}; set its length to theirs"
            )
        tokens_BNF = self.arranged(self.patches(signal_BLT))
        for block in self.blocks:
            tokens_BNF = block(tokens_BNF)
        tokens_BNF = self.norm(tokens_BNF)
        return tokens_BNF, tokens_BNF[:, self.place]

    def patches(self, signal_BLT: Tensor) -> Tensor:
        """Tokens (B, M, F) of the stem alone, float32."""
        maps_BFM: Tensor = self.stem(signal_BLT)
        return maps_BFM.transpose(1, 2).float()

    def arranged(self, patch_BMF: Tensor) -> Tensor:
        """With the class token among them and positions added, (B, N, F)."""
        token_B1F = self.class_token.expand(len(patch_BMF), -1, -1)
        return torch.cat([patch_BMF[:, : self.place], token_B1F, patch_BMF[:, self.place :]], dim=1) + self.position


class MambaBlock(nn.Module):
    """t + DropPath(mixer(RMSNorm(t))), with its residual in float32; no MLP.

    Attributes:
        drop_path: share of records to which nothing is added in training.
    """

    def __init__(self, shape: MambaShape, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm = nn.RMSNorm(shape.width, eps=_EPS)
        self.mixer = Mixer(shape)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, token_BNF: Tensor) -> Tensor:
        """Map (B, N, F) to (B, N, F)."""
        added_BNF = self.dropout(self.mixer(self.norm(token_BNF)))
        if self.training and self.drop_path:
            kept_B = torch.rand(len(added_BNF), device=added_BNF.device) >= self.drop_path
            added_BNF = added_BNF * (kept_B / (1 - self.drop_path))[:, None, None]
        out_BNF: Tensor = token_BNF + added_BNF
        return out_BNF


class Mixer(nn.Module):
    """Both directions between one map in and one map out, neither of which has a bias."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        E = shape.expand * shape.width
        self.halve = shape.halve
        self.in_proj = nn.Linear(shape.width, 2 * E, bias=False)
        self.forwards, self.backwards = Branch(shape), Branch(shape)
        self.out_proj = nn.Linear(E, shape.width, bias=False)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(shape.depth)

    def forward(self, x_BNF: Tensor) -> Tensor:
        """Map (B, N, F) to (B, N, F)."""
        x_BNE, z_BNE = self.in_proj(x_BNF).chunk(2, dim=2)
        y_BNE = self.forwards(x_BNE, z_BNE) + self.backwards(x_BNE.flip(1), z_BNE.flip(1)).flip(1)
        out_BNF: Tensor = self.out_proj(y_BNE / 2 if self.halve else y_BNE)
        return out_BNF


class Branch(nn.Module):
    """One direction: convolution over time, selective scan, gate. Parameters are named as in Mamba's code."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        E, S, R = shape.expand * shape.width, shape.state, math.ceil(shape.width / 16)
        self.sizes = (R, S, S)
        after = 0 if shape.window == "causal" else (shape.kernel - 1) // 2
        self.padding = (shape.kernel - 1 - after, after)
        self.conv1d = nn.Conv1d(E, E, shape.kernel, groups=E)
        self.x_proj = nn.Linear(E, R + 2 * S, bias=False)
        self.dt_proj = nn.Linear(R, E)
        self.A_log = nn.Parameter(torch.arange(1, S + 1, dtype=torch.float32).log().repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E))
        nn.init.uniform_(self.dt_proj.weight, -(R**-0.5), R**-0.5)
        low, high = (math.log(step) for step in _FIRST_STEPS)
        step_E = (low + (high - low) * torch.rand(E)).exp().clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step_E + (-torch.expm1(-step_E)).log())  # the inverse of softplus

    def forward(self, x_BNE: Tensor, z_BNE: Tensor) -> Tensor:
        """Map (B, N, E) to (B, N, E), gated by z."""
        u_BNE = functional.silu(self.convolved(x_BNE))
        rank_BNR, b_BNS, c_BNS = self.x_proj(u_BNE).split(self.sizes, dim=2)
        y_BNE = selective_scan(u_BNE, self.steps(rank_BNR), self.rates(), b_BNS, c_BNS, self.D)
        return y_BNE * functional.silu(z_BNE)

    def convolved(self, x_BNE: Tensor) -> Tensor:
        """The convolution over time, (B, N, E)."""
        maps_BEN: Tensor = self.conv1d(functional.pad(x_BNE.transpose(1, 2), self.padding))
        return maps_BEN.transpose(1, 2)

    def steps(self, rank_BNR: Tensor) -> Tensor:
        """Delta, (B, N, E), above 0, float32."""
        return functional.softplus(self.dt_proj(rank_BNR).float())

    def rates(self) -> Tensor:
        """A, (E, S), below 0, float32."""
        return -self.A_log.float().exp()


def _stem(shape: MambaShape, n_leads: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, kernel, stride, padding in shape.stem:
        layers += [nn.Conv1d(n_leads, width, kernel, stride, padding), nn.BatchNorm1d(width), nn.ReLU()]
        n_leads = width
    return nn.Sequential(*layers)
