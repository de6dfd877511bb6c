"""A head that writes a waveform from states of four depths of a transformer over channels (DPT; Ranftl et al., ICCV 2021, in 1-D).

Stages read coarser pictures the deeper they lie (four, two, one and half a step a token); they are joined from the deepest to the
shallowest, each time at twice the steps. Letters: C channels of a fixed layout, S places in time, F width of the states, K width of
the head, T samples, O waveforms.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError

_STAGES = 4


class DenseHead(nn.Module):
    """Waveforms of a recording.

    Args:
        channels: C.
        width: F.
        n_samples: T, length of what is written.
        outputs: O, how many waveforms.
        features: K.
    """

    def __init__(self, channels: int, width: int, n_samples: int, outputs: int = 1, features: int = 256) -> None:
        super().__init__()
        self.n_samples = n_samples
        joined = channels * width
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv1d(joined, features, 1), nn.ConvTranspose1d(features, features, 4, stride=4)),
                nn.Sequential(nn.Conv1d(joined, features, 1), nn.ConvTranspose1d(features, features, 2, stride=2)),
                nn.Sequential(nn.Conv1d(joined, features, 1)),
                nn.Sequential(nn.Conv1d(joined, features, 1), nn.Conv1d(features, features, 3, stride=2, padding=1)),
            ]
        )
        self.project = nn.ModuleList(nn.Conv1d(features, features, 3, padding=1, bias=False) for _ in range(_STAGES))
        self.refine = nn.ModuleList(_Refinement(features) for _ in range(_STAGES))
        self.head = nn.Sequential(
            nn.Conv1d(features, features // 2, 3, padding=1),
            nn.Conv1d(features // 2, features // 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(features // 4, outputs, 1),
        )

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Map four states (B, C, S, F), the shallowest first, to waveforms (B, O, T).

        Raises:
            ConfigurationError: not four of them.
        """
        if len(states) != _STAGES:
            raise ConfigurationError(f"a dense head reads the states of {_STAGES} depths, got {len(states)}")
        path: Tensor | None = None
        for place in reversed(range(_STAGES)):
            B, C, S, F = states[place].shape
            joined_BXS = states[place].permute(0, 1, 3, 2).reshape(B, C * F, S)
            path = self.refine[place](self.project[place](self.stages[place](joined_BXS)), path)
        return functional.interpolate(self.head(path), size=self.n_samples, mode="linear", align_corners=False)


class _Refinement(nn.Module):
    """Adds a stage to what comes from below, refines it, and doubles its steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = _Residual(width), _Residual(width)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, stage_BKX: Tensor, below_BKX: Tensor | None) -> Tensor:
        joined = stage_BKX
        if below_BKX is not None:
            # Half of an odd number of steps is rounded up, so that its double is one too many.
            joined = self.enter(stage_BKX) + below_BKX[:, :, : stage_BKX.shape[2]]
        out: Tensor = self.out(functional.interpolate(self.leave(joined), scale_factor=2, mode="linear", align_corners=True))
        return out


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1))

    def forward(self, x_BKX: Tensor) -> Tensor:
        out: Tensor = x_BKX + self.body(x_BKX)
        return out
