"""MobileNetV3-Large (Howard et al., ICCV 2019) and EfficientNet-B0 (Tan and Le, ICML 2019): narrow pictures made wide, filtered
channel by channel, weighed by channel, and made narrow again. Parameter names are those under which public weights are distributed.

The classifier is the caller's: what comes out is the mean of the last map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


@dataclass(frozen=True)
class _Norm:
    eps: float
    momentum: float


@dataclass(frozen=True)
class _Shape:
    """One block: kernel, channels in, within and out, those of its squeeze (0 for none), stride, and how often it is left out."""

    kernel: int
    width_in: int
    within: int
    width_out: int
    squeeze: int
    stride: int
    left_out: float = 0.0


class MobileNetV3Large(nn.Module):
    """MobileNetV3-Large as an encoder of pictures; `width` (F) is 960."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        norm = _Norm(1e-3, 0.01)
        layers: list[nn.Module] = [_conv(channels, 16, 3, norm, nn.Hardswish, stride=2)]
        width_in = 16
        for kernel, within, width_out, squeezes, activation, stride in _MOBILE:
            squeeze = _of_eight(within // 4) if squeezes else 0
            shape = _Shape(kernel, width_in, within, width_out, squeeze, stride)
            layers.append(_Inverted(shape, norm, nn.Hardswish if activation == "HS" else nn.ReLU, nn.ReLU, nn.Hardsigmoid))
            width_in = width_out
        self.width = 6 * width_in
        layers.append(_conv(width_in, self.width, 1, norm, nn.Hardswish))
        self.features = nn.Sequential(*layers)
        _start(self)

    def forward(self, picture_BCHW: Tensor) -> Tensor:
        """Encode pictures (B, C, H, W) into (B, F)."""
        pooled_BF: Tensor = self.features(picture_BCHW).mean(dim=(2, 3))
        return pooled_BF


class EfficientNetB0(nn.Module):
    """EfficientNet-B0 as an encoder of pictures; `width` (F) is 1280. In training later blocks are left out more often, up to 1 in 5."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        norm = _Norm(1e-5, 0.1)
        stages: list[nn.Module] = [_conv(channels, 32, 3, norm, nn.SiLU, stride=2)]
        width_in, number, total = 32, 0, sum(row[-1] for row in _EFFICIENT)
        for expansion, kernel, stride, width_out, count in _EFFICIENT:
            blocks: list[nn.Module] = []
            for place in range(count):
                squeeze, left_out = max(1, width_in // 4), 0.2 * number / total
                first = stride if place == 0 else 1
                shape = _Shape(kernel, width_in, width_in * expansion, width_out, squeeze, first, left_out)
                blocks.append(_Inverted(shape, norm, nn.SiLU, nn.SiLU, nn.Sigmoid))
                width_in, number = width_out, number + 1
            stages.append(nn.Sequential(*blocks))
        self.width = 4 * width_in
        stages.append(_conv(width_in, self.width, 1, norm, nn.SiLU))
        self.features = nn.Sequential(*stages)
        _start(self)

    def forward(self, picture_BCHW: Tensor) -> Tensor:
        """Encode pictures (B, C, H, W) into (B, F)."""
        pooled_BF: Tensor = self.features(picture_BCHW).mean(dim=(2, 3))
        return pooled_BF


_MOBILE = (
    (3, 16, 16, False, "RE", 1), (3, 64, 24, False, "RE", 2), (3, 72, 24, False, "RE", 1), (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1), (5, 120, 40, True, "RE", 1), (3, 240, 80, False, "HS", 2), (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1), (3, 184, 80, False, "HS", 1), (3, 480, 112, True, "HS", 1), (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2), (5, 960, 160, True, "HS", 1), (5, 960, 160, True, "HS", 1),
)  # fmt: skip
"""Kernel, channels within, channels out, whether channels are weighed, activation, stride: table 1 of the paper."""

_EFFICIENT = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride, channels out, blocks: table 1 of the paper."""


class _Inverted(nn.Module):
    def __init__(self, shape: _Shape, norm: _Norm, activation: Activation, squeezed: Activation, weight: Activation) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if shape.within != shape.width_in:
            layers.append(_conv(shape.width_in, shape.within, 1, norm, activation))
        layers.append(_conv(shape.within, shape.within, shape.kernel, norm, activation, shape.stride, groups=shape.within))
        if shape.squeeze:
            layers.append(_SqueezeExcitation(shape.within, shape.squeeze, squeezed, weight))
        layers.append(_conv(shape.within, shape.width_out, 1, norm, None))
        self.block = nn.Sequential(*layers)
        self.residual = shape.stride == 1 and shape.width_in == shape.width_out
        self.left_out = shape.left_out

    def forward(self, x_BFHW: Tensor) -> Tensor:
        y_BFHW: Tensor = self.block(x_BFHW)
        if not self.residual:
            return y_BFHW
        if self.training and self.left_out:
            kept_B111 = torch.rand(len(y_BFHW), 1, 1, 1, device=y_BFHW.device) >= self.left_out
            y_BFHW = y_BFHW * kept_B111 / (1 - self.left_out)
        return x_BFHW + y_BFHW


class _SqueezeExcitation(nn.Module):
    """Weighs channels by what their means say together."""

    def __init__(self, width: int, squeeze: int, activation: Activation, weight: Activation) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, squeeze, 1), nn.Conv2d(squeeze, width, 1)
        self.activation, self.weight = activation(), weight()

    def forward(self, x_BFHW: Tensor) -> Tensor:
        mean_BF11 = x_BFHW.mean(dim=(2, 3), keepdim=True)
        weighed_BFHW: Tensor = x_BFHW * self.weight(self.fc2(self.activation(self.fc1(mean_BF11))))
        return weighed_BFHW


def _conv(
    width_in: int, width_out: int, kernel: int, norm: _Norm, activation: Activation | None, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(width_in, width_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width_out, norm.eps, norm.momentum),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


def _of_eight(width: int) -> int:
    """The nearest multiple of 8, but not less than nine tenths of it."""
    found = max(8, (width + 4) // 8 * 8)
    return found if found >= 0.9 * width else found + 8


def _start(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
