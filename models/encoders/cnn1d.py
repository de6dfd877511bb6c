"""A small convolutional network over time: the cheapest baseline that sees all leads at once. The house's own, from no paper."""

from __future__ import annotations

from torch import Tensor, nn

from models.encoders.shapes import CnnShape
from models.types import LEADS


class Cnn1d(nn.Module):
    """Convolutions of stride 2 with batch norm and ReLU.

    Attributes:
        width: F, channels of the last one.
    """

    def __init__(self, shape: CnnShape, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = n_leads
        for width, kernel in zip(shape.widths, shape.kernels, strict=True):
            convolution = nn.Conv1d(width_in, width, kernel, stride=2, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm1d(width), nn.ReLU()]
            width_in = width
        self.layers = nn.Sequential(*layers)
        self.width = width_in

    def forward(self, signal_BLT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, L, T); returns the sequence (B, N, F), T halved by every convolution and rounded up, and its mean (B, F)."""
        maps_BFN = self.layers(signal_BLT)
        return maps_BFN.transpose(1, 2), maps_BFN.mean(dim=2)
