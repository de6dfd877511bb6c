"""ResNet over time: the ECG encoder of MERL, the 2-D residual network of He et al. (2016) with convolutions along time.

What differs from the textbook network: no max-pool after the stem (16-fold reduction instead of 32), a stem kernel of 7,
kernels of 3 elsewhere, and no classifier. Output length is ceil(T / 16).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from models.encoders.shapes import ResNetShape
from models.types import LEADS


class ResNet1d(nn.Module):
    """Residual encoder of a 12-lead signal.

    Attributes:
        width: F, channels of the last stage.
    """

    def __init__(self, shape: ResNetShape, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        expansion = 4 if shape.bottleneck else 1
        block = _Bottleneck if shape.bottleneck else _BasicBlock
        self.stem = nn.Sequential(
            nn.Conv1d(n_leads, shape.widths[0], 7, stride=2, padding=3, bias=False), nn.BatchNorm1d(shape.widths[0]), nn.ReLU()
        )
        stages: list[nn.Module] = []
        width_in = shape.widths[0]
        for stage, (width, count) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
            for number in range(count):
                stages.append(block(width_in, width, stride=2 if stage > 0 and number == 0 else 1))
                width_in = width * expansion
        self.blocks = nn.Sequential(*stages)
        self.width = width_in

    @staticmethod
    def n_tokens(n_samples: int) -> int:
        """Length of the output sequence: ceil(T / 16)."""
        return -(-n_samples // 16)

    def forward(self, signal_BLT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, L, T); returns the sequence (B, N, F) and its mean over time (B, F)."""
        maps_BFN = self.blocks(self.stem(signal_BLT))
        return maps_BFN.transpose(1, 2), maps_BFN.mean(dim=2)


def _shortcut(width_in: int, width_out: int, stride: int) -> nn.Module:
    if stride == 1 and width_in == width_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv1d(width_in, width_out, 1, stride=stride, bias=False), nn.BatchNorm1d(width_out))


class _BasicBlock(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width_in, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm1d(width),
        )
        self.shortcut = _shortcut(width_in, width, stride)

    def forward(self, x_BFN: Tensor) -> Tensor:
        return functional.relu(self.body(x_BFN) + self.shortcut(x_BFN))


class _Bottleneck(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width_in, width, 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 4 * width, 1, bias=False),
            nn.BatchNorm1d(4 * width),
        )
        self.shortcut = _shortcut(width_in, 4 * width, stride)

    def forward(self, x_BFN: Tensor) -> Tensor:
        return functional.relu(self.body(x_BFN) + self.shortcut(x_BFN))
