"""Builds an ECG backbone by name."""

from __future__ import annotations

from models.encoders.resnet1d import ResNet1d
from models.encoders.shapes import BACKBONES, ResNetShape
from models.encoders.vit1d import ViT1d
from models.errors import ConfigurationError

Backbone = ResNet1d | ViT1d


def create_backbone(name: str, n_samples: int) -> Backbone:
    """Build the backbone of that name for records of so many samples.

    Raises:
        ConfigurationError: no such backbone, or a length it cannot take.
    """
    if name not in BACKBONES:
        raise ConfigurationError(f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    shape = BACKBONES[name]
    return ResNet1d(shape) if isinstance(shape, ResNetShape) else ViT1d(shape, n_samples)
