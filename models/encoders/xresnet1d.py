"""XResNet over time: the reference network of the PTB-XL benchmark, and the head that the benchmark's networks share.

Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL" (IEEE JBHI 2020): the residual network of
He et al. (2019, "Bag of Tricks", arXiv 1812.01187) with convolutions along time. What differs from the textbook network: a stem
of three convolutions, a bottleneck width that does not grow from stage to stage, an average pool before the shortcut's
convolution instead of a stride in it, and a last batch norm in each block that starts at zero, so that blocks start as identities.

Four stages shorten the sequence to ceil(T / 32).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.shapes import XResNetShape
from models.types import LEADS

_EXPANSION = 4
_HIDDEN = 128
"""Width that the benchmark's head gives to the last linear layer."""


class XResNet1d(nn.Module):
    """Residual encoder of a 12-lead signal.

    Attributes:
        width: F, channels of the last stage.
    """

    def __init__(self, shape: XResNetShape, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = n_leads
        for number, width in enumerate(shape.stem):
            layers.append(_convolution(width_in, width, shape.kernel, stride=2 if number == 0 else 1))
            width_in = width
        self.stem = nn.Sequential(*layers, nn.MaxPool1d(3, stride=2, padding=1))
        blocks: list[nn.Module] = []
        for stage, count in enumerate(shape.blocks):
            for number in range(count):
                blocks.append(_Bottleneck(width_in, shape, stride=2 if stage > 0 and number == 0 else 1))
                width_in = _EXPANSION * shape.width
        self.blocks = nn.Sequential(*blocks)
        self.width = width_in

    def forward(self, signal_BLT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, L, T); returns the sequence (B, N, F) and its mean over time (B, F)."""
        maps_BFN = self.blocks(self.stem(signal_BLT))
        return maps_BFN.transpose(1, 2), maps_BFN.mean(dim=2)


class ConcatPoolHead(nn.Module):
    """The benchmark's head without its last linear layer, which the classifier of fine-tuning adds.

    Maximum and mean over time side by side, batch norm, dropout .25, linear, ReLU, batch norm, dropout .5.

    Attributes:
        width: of its output, 128.
    """

    width = _HIDDEN

    def __init__(self, width_in: int) -> None:
        super().__init__()
        hidden = nn.Linear(2 * width_in, _HIDDEN)
        nn.init.kaiming_normal_(hidden.weight)
        nn.init.zeros_(hidden.bias)
        self.layers = nn.Sequential(_RecordNorm(2 * width_in), nn.Dropout(0.25), hidden, nn.ReLU(), _RecordNorm(_HIDDEN), nn.Dropout(0.5))

    def forward(self, tokens_BNF: Tensor) -> Tensor:
        """Pool (B, N, F) to (B, 128)."""
        out: Tensor = self.layers(torch.cat([tokens_BNF.amax(dim=1), tokens_BNF.mean(dim=1)], dim=1))
        return out


class _RecordNorm(nn.BatchNorm1d):
    """Batch norm over records; a batch of one has no spread, so it is normalised by what was seen before."""

    def forward(self, x_BF: Tensor) -> Tensor:
        if self.training and len(x_BF) == 1:
            return functional.batch_norm(x_BF, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x_BF)


def _convolution(width_in: int, width: int, kernel: int, stride: int = 1, gain: float = 1.0, activated: bool = True) -> nn.Sequential:
    """Convolution, batch norm that starts with `gain`, and ReLU where activated."""
    convolution = nn.Conv1d(width_in, width, kernel, stride=stride, padding=kernel // 2, bias=False)
    norm = nn.BatchNorm1d(width)
    nn.init.kaiming_normal_(convolution.weight)
    nn.init.constant_(norm.weight, gain)
    return nn.Sequential(convolution, norm, *([nn.ReLU()] if activated else []))


class _Bottleneck(nn.Module):
    def __init__(self, width_in: int, shape: XResNetShape, stride: int) -> None:
        super().__init__()
        width, width_out = shape.width, _EXPANSION * shape.width
        self.body = nn.Sequential(
            _convolution(width_in, width, 1),
            _convolution(width, width, shape.kernel, stride),
            _convolution(width, width_out, 1, gain=0.0, activated=False),
        )
        shortcut: list[nn.Module] = []
        if stride != 1:
            shortcut.append(nn.AvgPool1d(2, ceil_mode=True))
        if width_in != width_out:
            shortcut.append(_convolution(width_in, width_out, 1, activated=False))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x_BFN: Tensor) -> Tensor:
        return functional.relu(self.body(x_BFN) + self.shortcut(x_BFN))
