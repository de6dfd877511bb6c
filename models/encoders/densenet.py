"""DenseNet-121 for pictures (Huang et al., CVPR 2017), with the parameter names under which public weights are distributed.

Every layer of a block reads what all layers before it gave. The classifier is the caller's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class DenseNet(nn.Module):
    """Densely connected encoder of pictures.

    Args:
        blocks: layers of each block.
        growth: channels that a layer adds.
        first: channels of the stem.
        channels: channels of the picture.

    Attributes:
        width: F, channels of the last block.
    """

    def __init__(self, blocks: tuple[int, ...] = (6, 12, 24, 16), growth: int = 32, first: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(channels, first, 7, stride=2, padding=3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(first))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        width = first
        for number, count in enumerate(blocks, start=1):
            self.features.add_module(f"denseblock{number}", _DenseBlock(width, count, growth))
            width += count * growth
            if number < len(blocks):
                self.features.add_module(f"transition{number}", _Transition(width, width // 2))
                width //= 2
        self.features.add_module(f"norm{len(blocks) + 1}", nn.BatchNorm2d(width))
        self.width = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, picture_BCHW: Tensor) -> Tensor:
        """Encode pictures (B, C, H, W) into (B, F)."""
        pooled_BF: Tensor = functional.relu(self.features(picture_BCHW)).mean(dim=(2, 3))
        return pooled_BF


class _DenseBlock(nn.Module):
    def __init__(self, width: int, count: int, growth: int) -> None:
        super().__init__()
        for number in range(count):
            self.add_module(f"denselayer{number + 1}", _DenseLayer(width + number * growth, growth))

    def forward(self, x_BFHW: Tensor) -> Tensor:
        found = [x_BFHW]
        for layer in self.children():
            found.append(layer(torch.cat(found, dim=1)))
        return torch.cat(found, dim=1)


class _DenseLayer(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x_BFHW: Tensor) -> Tensor:
        narrow_BFHW = self.conv1(functional.relu(self.norm1(x_BFHW)))
        added_BFHW: Tensor = self.conv2(functional.relu(self.norm2(narrow_BFHW)))
        return added_BFHW


class _Transition(nn.Module):
    def __init__(self, width: int, narrower: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, narrower, 1, bias=False)

    def forward(self, x_BFHW: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(x_BFHW))), 2)
