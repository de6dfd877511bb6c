"""The sizes of the ECG backbones, free of torch so that forms and command lines can offer them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal[
    "resnet_mini", "resnet18", "resnet34", "resnet50", "resnet101", "vit_mini", "vit_tiny", "vit_small", "vit_middle", "vit_base"
]


@dataclass(frozen=True)
class ResNetShape:
    """Residual network.

    Attributes:
        widths: channels of the four stages, before the expansion of bottleneck blocks.
        blocks: residual blocks of each stage.
        bottleneck: three convolutions a block and four times the width at its end, instead of two.
    """

    widths: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    bottleneck: bool = False


@dataclass(frozen=True)
class ViTShape:
    """Vision transformer over patches of time.

    Attributes:
        width: embedding width, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        hidden: width inside the MLP.
        patch: samples of a patch.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int = 50


_WIDE = (64, 128, 256, 512)

BACKBONES: dict[str, ResNetShape | ViTShape] = {
    "resnet_mini": ResNetShape((8, 16, 32, 64), (1, 1, 1, 1)),
    "resnet18": ResNetShape(_WIDE, (2, 2, 2, 2)),
    "resnet34": ResNetShape(_WIDE, (3, 4, 6, 3)),
    "resnet50": ResNetShape(_WIDE, (3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetShape(_WIDE, (3, 4, 23, 3), bottleneck=True),
    "vit_mini": ViTShape(32, 2, 2, 64),
    "vit_tiny": ViTShape(192, 12, 3, 768),
    "vit_small": ViTShape(384, 12, 6, 1536),
    "vit_middle": ViTShape(512, 12, 8, 2048),
    "vit_base": ViTShape(768, 12, 12, 3072),
}
