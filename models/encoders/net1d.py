"""Net1D, the residual network of grouped convolutions with squeeze and excitation that ECGFounder (Li et al., 2024) is.

Modules carry the published names, so that its weights, converted to safetensors, load as they are. Batch norms are created and
never used, as there. Letters: C channels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError
from models.types import LEADS


@dataclass(frozen=True)
class Net1dShape:
    """Sizes of the network.

    Attributes:
        base: channels of the first convolution.
        widths: channels of each stage, multiples of `group_width`; no stage is narrower than the one before.
        blocks: residual blocks of each stage, the first of which halves the length.
        group_width: channels of a group of the middle convolution.
        kernel: samples that the first and the middle convolutions see.
    """

    base: int = 64
    widths: tuple[int, ...] = (64, 160, 160, 400, 400, 1024, 1024)
    blocks: tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)
    group_width: int = 16
    kernel: int = 16

    def __post_init__(self) -> None:
        """Raises ConfigurationError where sizes do not fit each other."""
        if len(self.widths) != len(self.blocks) or any(w % self.group_width for w in self.widths):
            raise ConfigurationError(
                f"stages of {self.widths} channels and {self.blocks} blocks: each width needs a number of blocks and must be a multiple of {self.group_width}"
            )
        if any(after < before for before, after in zip((self.base, *self.widths), self.widths, strict=False)):
            raise ConfigurationError(f"stages of {self.widths} channels from {self.base} grow narrower; a shortcut can only add channels")


ECG_FOUNDER = Net1dShape()
TINY = Net1dShape(base=8, widths=(8, 16, 16), blocks=(1, 1, 1), group_width=4)


class Net1d(nn.Module):
    """Classifier of a 12-lead signal.

    Attributes:
        width: F, channels of the last stage.
    """

    def __init__(self, shape: Net1dShape, n_classes: int, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        self.width = shape.widths[-1]
        self.first_conv = _SameConv(n_leads, shape.base, shape.kernel, stride=2)
        self.first_bn = _unused_norm(shape.base)
        self.stage_list = nn.ModuleList()
        width_in = shape.base
        for stage, (width, count) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
            self.stage_list.append(_Stage(width_in, width, count, shape, first=stage == 0))
            width_in = width
        self.dense = nn.Linear(self.width, n_classes)

    def stages(self, signal_BLT: Tensor) -> list[Tensor]:
        """The output (B, C, T') of each stage."""
        x_BCT = functional.silu(self.first_conv(signal_BLT))
        found = []
        for stage in self.stage_list:
            x_BCT = stage(x_BCT)
            found.append(x_BCT)
        return found

    def features(self, signal_BLT: Tensor) -> Tensor:
        """The mean over time of the last stage, (B, F)."""
        return self.stages(signal_BLT)[-1].mean(dim=2)

    def forward(self, signal_BLT: Tensor) -> Tensor:
        """Logits (B, K) of signals (B, L, T)."""
        logits_BK: Tensor = self.dense(self.features(signal_BLT))
        return logits_BK


class _SameConv(nn.Module):
    """Convolution whose output has ceil(T / stride) samples; where an odd number of zeros is needed, one more stands right."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width_in, width, kernel, stride=stride, groups=groups)
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCT: Tensor) -> Tensor:
        length = x_BCT.shape[2]
        pad = max(0, (-(-length // self.stride) - 1) * self.stride + self.kernel - length)
        out: Tensor = self.conv(functional.pad(x_BCT, (pad // 2, pad - pad // 2)))
        return out


class _Stage(nn.Module):
    def __init__(self, width_in: int, width: int, count: int, shape: Net1dShape, *, first: bool) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(
            _Block(width if block else width_in, width, shape, halves=block == 0, activates=not (first and block == 0))
            for block in range(count)
        )

    def forward(self, x_BCT: Tensor) -> Tensor:
        for block in self.block_list:
            x_BCT = block(x_BCT)
        return x_BCT


class _Block(nn.Module):
    """A pointwise, a grouped and a pointwise convolution, each behind Swish (the very first not), scaled by channel, plus a shortcut."""

    def __init__(self, width_in: int, width: int, shape: Net1dShape, *, halves: bool, activates: bool) -> None:
        super().__init__()
        self.halves, self.activates, self.added = halves, activates, width - width_in
        self.bn1, self.bn2, self.bn3 = (_unused_norm(w) for w in (width_in, width, width))
        self.conv1 = _SameConv(width_in, width, 1)
        self.conv2 = _SameConv(width, width, shape.kernel, stride=2 if halves else 1, groups=width // shape.group_width)
        self.conv3 = _SameConv(width, width, 1)
        self.se_fc1, self.se_fc2 = nn.Linear(width, width // 2), nn.Linear(width // 2, width)

    def forward(self, x_BCT: Tensor) -> Tensor:
        out_BCT = self.conv1(functional.silu(x_BCT) if self.activates else x_BCT)
        out_BCT = self.conv3(functional.silu(self.conv2(functional.silu(out_BCT))))
        gate_BC = torch.sigmoid(self.se_fc2(functional.silu(self.se_fc1(out_BCT.mean(dim=2)))))
        if self.halves:
            x_BCT = functional.max_pool1d(functional.pad(x_BCT, (0, 1)), 2)
        if self.added:
            x_BCT = functional.pad(x_BCT, (0, 0, self.added // 2, self.added - self.added // 2))
        summed: Tensor = out_BCT * gate_BC[:, :, None] + x_BCT
        return summed


def _unused_norm(width: int) -> nn.BatchNorm1d:
    """A batch norm that is part of the published weights and of no computation, so it has no gradient."""
    norm = nn.BatchNorm1d(width)
    norm.requires_grad_(False)
    return norm
