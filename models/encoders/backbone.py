"""Builds an ECG backbone by name."""

from __future__ import annotations

from models.encoders.cnn1d import Cnn1d
from models.encoders.resnet1d import ResNet1d
from models.encoders.s4 import S4
from models.encoders.shapes import BACKBONES, CnnShape, ResNetShape, S4Shape, ViTShape
from models.encoders.vit1d import ViT1d
from models.encoders.xresnet1d import XResNet1d
from models.errors import ConfigurationError

Backbone = ResNet1d | ViT1d | XResNet1d | S4 | Cnn1d


def create_backbone(name: str, n_samples: int) -> Backbone:
    """Build the backbone of that name for records of so many samples; only those of patches are bound to that length.

    Raises:
        ConfigurationError: no such backbone, or a length it cannot take.
    """
    if name not in BACKBONES:
        raise ConfigurationError(f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    shape = BACKBONES[name]
    if isinstance(shape, ResNetShape):
        return ResNet1d(shape)
    if isinstance(shape, ViTShape):
        return ViT1d(shape, n_samples)
    if isinstance(shape, S4Shape):
        return S4(shape)
    return Cnn1d(shape) if isinstance(shape, CnnShape) else XResNet1d(shape)
