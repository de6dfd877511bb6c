"""The sizes of residual networks for pictures, free of torch so that forms and command lines can offer them."""

from __future__ import annotations

from typing import Literal

from models.encoders.shapes import ResNetShape

PictureBackbone = Literal["resnet_mini", "bottleneck_mini", "resnet18", "resnet50"]

_WIDE = (64, 128, 256, 512)

PICTURE_RESNETS: dict[str, ResNetShape] = {
    "resnet_mini": ResNetShape((8, 16, 32, 64), (1, 1, 1, 1)),
    "bottleneck_mini": ResNetShape((8, 16, 32, 64), (1, 1, 1, 1), bottleneck=True),
    "resnet18": ResNetShape(_WIDE, (2, 2, 2, 2)),
    "resnet50": ResNetShape(_WIDE, (3, 4, 6, 3), bottleneck=True),
}
