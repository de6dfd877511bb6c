"""Residual networks for pictures (He et al., 2016), with the parameter names under which public weights are distributed.

As in the textbook: a stem of 7 x 7 with stride 2, max-pooling, four stages (or as many as the shape has), mean over the picture.
The stride of a bottleneck stands in its 3 x 3 convolution. The classifier is the caller's: what comes out is what it would read.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from models.encoders.picture_shapes import PICTURE_RESNETS
from models.encoders.shapes import ResNetShape
from models.errors import ConfigurationError


class ResNet2d(nn.Module):
    """Residual encoder of pictures.

    Args:
        shape: widths and numbers of blocks.
        channels: channels of the picture.

    Attributes:
        width: F, channels of the last stage.
        stages: how many there are.
    """

    def __init__(self, shape: ResNetShape, channels: int = 3) -> None:
        super().__init__()
        first = shape.widths[0]
        self.conv1 = nn.Conv2d(channels, first, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        block = _Bottleneck if shape.bottleneck else _BasicBlock
        expansion = 4 if shape.bottleneck else 1
        width_in = first
        for number, (width, count) in enumerate(zip(shape.widths, shape.blocks, strict=True), start=1):
            blocks: list[nn.Module] = []
            for place in range(count):
                blocks.append(block(width_in, width, stride=2 if number > 1 and place == 0 else 1))
                width_in = width * expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.width, self.stages = width_in, len(shape.widths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, picture_BCHW: Tensor) -> Tensor:
        """Encode pictures (B, C, H, W) into (B, F)."""
        x_BFHW = functional.relu(self.bn1(self.conv1(picture_BCHW)))
        x_BFHW = functional.max_pool2d(x_BFHW, 3, stride=2, padding=1)
        for number in range(1, self.stages + 1):
            x_BFHW = getattr(self, f"layer{number}")(x_BFHW)
        pooled_BF: Tensor = x_BFHW.mean(dim=(2, 3))
        return pooled_BF


def create_resnet2d(name: str, channels: int = 3) -> ResNet2d:
    """Build the residual network of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in PICTURE_RESNETS:
        raise ConfigurationError(f"there is no residual network {name!r} for pictures; choose one of {', '.join(PICTURE_RESNETS)}")
    return ResNet2d(PICTURE_RESNETS[name], channels)


def _downsample(width_in: int, width_out: int, stride: int) -> nn.Module | None:
    if stride == 1 and width_in == width_out:
        return None
    return nn.Sequential(nn.Conv2d(width_in, width_out, 1, stride=stride, bias=False), nn.BatchNorm2d(width_out))


def _shortcut(downsample: nn.Module | None, x_BFHW: Tensor) -> Tensor:
    return x_BFHW if downsample is None else downsample(x_BFHW)


class _BasicBlock(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(width_in, width, stride)

    def forward(self, x_BFHW: Tensor) -> Tensor:
        y_BFHW = functional.relu(self.bn1(self.conv1(x_BFHW)))
        return functional.relu(self.bn2(self.conv2(y_BFHW)) + _shortcut(self.downsample, x_BFHW))


class _Bottleneck(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _downsample(width_in, 4 * width, stride)

    def forward(self, x_BFHW: Tensor) -> Tensor:
        y_BFHW = functional.relu(self.bn1(self.conv1(x_BFHW)))
        y_BFHW = functional.relu(self.bn2(self.conv2(y_BFHW)))
        return functional.relu(self.bn3(self.conv3(y_BFHW)) + _shortcut(self.downsample, x_BFHW))
