"""Networks over stacked scalograms (`models.scalogram`): pictures seen by a 2-D network, or as many signals by a 1-D one.

Each gives a vector for every second of a recording, which a linear layer reads; over ten seconds in a row it gives one for the recording.

Letters beside those of `models.types`: M pictures, R rows (signals), W columns (steps of time), S seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.encoders.densenet import DenseNet
from models.encoders.mobile_networks import EfficientNetB0, MobileNetV3Large
from models.encoders.resnet2d import ResNet2d, create_resnet2d
from models.encoders.shapes import ResNetShape
from models.errors import ConfigurationError

PICTURES = ("resnet50", "densenet121", "mobilenet_v3_large", "efficientnet_b0", "residual_mini")
"""Families that see pictures; the others see rows."""

_MINI = ResNetShape((8, 16, 32), (1, 1, 1))
_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": lambda: create_resnet2d("resnet50"),
    "densenet121": DenseNet,
    "mobilenet_v3_large": MobileNetV3Large,
    "efficientnet_b0": EfficientNetB0,
    "residual_mini": lambda: ResNet2d(_MINI),
}


class Rows(nn.Module):
    """What the 1-D networks share: three convolutions over time, whose channels are the rows of a picture.

    Each is followed by a norm, ReLU and halving of the steps.

    Attributes:
        width: channels of the last.
    """

    def __init__(self, rows: int, widths: tuple[int, ...], kernels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width, kernel in zip((rows, *widths[:-1]), widths, kernels, strict=True):
            layers += [nn.Conv1d(width_in, width, kernel, padding=kernel // 2), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2)]
        self.layers = nn.Sequential(*layers)
        self.width = widths[-1]

    def forward(self, rows_MRW: Tensor) -> Tensor:
        """Sequences (M, F, W / 8) of rows (M, R, W)."""
        found: Tensor = self.layers(rows_MRW)
        return found


class Cnn1d(nn.Module):
    """Convolutions over time, their mean, and one hidden layer. `width` is that of the hidden layer."""

    def __init__(self, rows: int, widths: tuple[int, ...], kernels: tuple[int, ...], hidden: int, dropout: float) -> None:
        super().__init__()
        self.trunk = Rows(rows, widths, kernels)
        self.head = nn.Sequential(nn.Linear(self.trunk.width, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.width = hidden

    def forward(self, rows_MRW: Tensor) -> Tensor:
        """Vectors (M, F) of rows (M, R, W)."""
        found: Tensor = self.head(self.trunk(rows_MRW).mean(dim=2))
        return found


class CnnLstm(nn.Module):
    """Convolutions over time, then an LSTM over the steps of a second, whose last state is read. `width` is that of its state."""

    def __init__(self, rows: int, widths: tuple[int, ...], kernels: tuple[int, ...], hidden: int, dropout: float) -> None:
        super().__init__()
        self.trunk = Rows(rows, widths, kernels)
        self.lstm = nn.LSTM(self.trunk.width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.width = hidden

    def forward(self, rows_MRW: Tensor) -> Tensor:
        """Vectors (M, F) of rows (M, R, W)."""
        return self.last(self.trunk(rows_MRW).transpose(1, 2))

    def last(self, sequence_BNF: Tensor) -> Tensor:
        """The last state (B, F) of a sequence."""
        state_BNF, _ = self.lstm(sequence_BNF)
        dropped_BF: Tensor = self.dropout(state_BNF[:, -1])
        return dropped_BF


class CnnLstmRecord(CnnLstm):
    """The same LSTM over the seconds of a recording, each the mean of its steps."""

    def seconds(self, rows_MRW: Tensor) -> Tensor:
        """Vectors (M, trunk's width) of rows (M, R, W) of one second each."""
        mean_MF: Tensor = self.trunk(rows_MRW).mean(dim=2)
        return mean_MF


def picture_network(family: str) -> nn.Module:
    """A network (M, 3, H, W) -> (M, F) with an attribute `width`, F, and random weights.

    Raises:
        ConfigurationError: there is no such family of pictures.
    """
    if family not in _BUILDERS:
        raise ConfigurationError(f"there is no network {family!r} for pictures; choose one of {', '.join(PICTURES)}")
    return _BUILDERS[family]()


def jet(grey_M1HW: Tensor) -> Tensor:
    """Grey in [0, 1] as red, green and blue: from dark blue by green to dark red."""
    middles = torch.tensor([3.0, 2.0, 1.0], device=grey_M1HW.device)[:, None, None]
    return (1.5 - (4 * grey_M1HW - middles).abs()).clamp(0, 1)
