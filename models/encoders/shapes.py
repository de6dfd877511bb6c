"""The sizes of the ECG backbones, free of torch so that forms and command lines can offer them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal[
    "resnet_mini", "resnet18", "resnet34", "resnet50", "resnet101", "vit_mini", "vit_tiny", "vit_small", "vit_middle", "vit_base",
    "xresnet_mini", "xresnet1d101", "s4_mini", "s4", "cnn"
]  # fmt: skip

ScalogramFamily = Literal[
    "resnet50", "densenet121", "mobilenet_v3_large", "efficientnet_b0", "residual_mini", "cnn1d", "cnn_lstm", "cnn_lstm_record"
]
"""Networks over stacked scalograms (`models.encoders.scalogram_cnn`)."""


@dataclass(frozen=True)
class ResNetShape:
    """Residual network.

    Attributes:
        widths: channels of the stages (four, of signals), before the expansion of bottleneck blocks.
        blocks: residual blocks of each stage.
        bottleneck: three convolutions a block and four times the width at its end, instead of two.
    """

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
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


@dataclass(frozen=True)
class XResNetShape:
    """Residual network with a stem of three convolutions and bottlenecks of one width in every stage.

    Attributes:
        blocks: bottlenecks of each stage; every stage but the first halves the length.
        stem: channels of the three convolutions before them.
        width: channels inside a bottleneck; it ends with four times as many.
        kernel: samples that the convolutions along time see, an odd number.
    """

    blocks: tuple[int, ...]
    stem: tuple[int, int, int] = (32, 32, 64)
    width: int = 64
    kernel: int = 5


@dataclass(frozen=True)
class S4Shape:
    """Structured state-space network.

    Attributes:
        width: channels, each with state spaces of its own.
        depth: layers.
        state: numbers in the state of such a space, an even number.
        dropout: share of whole channels that a layer loses in training, twice.
    """

    width: int
    depth: int
    state: int = 8
    dropout: float = 0.2


@dataclass(frozen=True)
class CnnShape:
    """Plain convolutions, each of which halves the length.

    Attributes:
        widths: channels of each.
        kernels: samples that each sees, odd numbers.
    """

    widths: tuple[int, ...]
    kernels: tuple[int, ...]


@dataclass(frozen=True)
class ConvTransformerShape:
    """Convolutions, then a transformer (wav2vec 2.0).

    Attributes:
        width: of the transformer, a multiple of `heads` and of `position_groups`.
        depth: transformer layers.
        heads: attention heads.
        hidden: width inside the MLP.
        channels: of the convolutions.
        position_kernel: tokens that the convolution of positions sees.
        position_groups: its groups.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    channels: int = 256
    position_kernel: int = 128
    position_groups: int = 16


_WIDE = (64, 128, 256, 512)

BackboneShape = ResNetShape | ViTShape | XResNetShape | S4Shape | CnnShape

BACKBONES: dict[str, BackboneShape] = {
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
    "xresnet_mini": XResNetShape((1, 1, 1, 1), stem=(8, 8, 16), width=8),
    "xresnet1d101": XResNetShape((3, 4, 23, 3)),
    "s4_mini": S4Shape(32, 2),
    "s4": S4Shape(512, 4),
    "cnn": CnnShape((32, 64, 128, 128), (7, 5, 5, 5)),
}

ConvTransformerName = Literal["conv_transformer_mini", "conv_transformer_small", "conv_transformer_base", "conv_transformer_large"]

CONV_TRANSFORMERS: dict[str, ConvTransformerShape] = {
    "conv_transformer_mini": ConvTransformerShape(32, 2, 2, 64, channels=16, position_kernel=16, position_groups=4),
    "conv_transformer_small": ConvTransformerShape(768, 8, 12, 3072),
    "conv_transformer_base": ConvTransformerShape(768, 12, 12, 3072),
    "conv_transformer_large": ConvTransformerShape(1024, 24, 16, 4096),
}
