"""Schedules of learning rate, weight decay and momentum as functions of the step, and the optimiser they move.

A value depends on step and total alone, so a run that goes on after a stop has the values of one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class Cosine:
    """From `first` to `start` in a line of `warmup` steps, then to `final` in half a cosine that ends with the last step.

        final + (1 + cos(pi (t - warmup) / (total - warmup - 1))) / 2 (start - final)

    Attributes:
        total: steps of the run; `final` holds from there on.
    """

    total: int
    start: float
    final: float
    warmup: int = 0
    first: float = 0.0

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        if step < self.warmup:
            return self.first + (self.start - self.first) * step / self.warmup
        share = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup - 1))
        return self.final + 0.5 * (1 + math.cos(math.pi * share)) * (self.start - self.final)


def linear(step: int, total: int, start: float, final: float) -> float:
    """From `start` at step 0 to `final` at step `total`, and `final` from there on."""
    return start + (final - start) * min(1.0, step / max(1, total))


class StepSchedule(LRScheduler):
    """Sets learning rate and weight decay of each step; the decay in the groups that have any.

    Its state is the number of the step. What the values are follows from its arguments, which a resumed run gives again.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, lr: Callable[[int], float], weight_decay: Callable[[int], float]) -> None:
        self._lr, self._weight_decay = lr, weight_decay
        self._decayed = [group["weight_decay"] > 0 for group in optimizer.param_groups]
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group."""
        return [self._lr(self.last_epoch) for _ in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next step."""
        super().step(epoch)
        for group, decayed in zip(self.optimizer.param_groups, self._decayed, strict=True):
            if decayed:
                group["weight_decay"] = self._weight_decay(self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """The step, in plain values."""
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count, "_last_lr": [float(x) for x in self._last_lr]}


def adamw(
    named: Iterable[tuple[str, Tensor]],
    decays: Callable[[str, Tensor], bool],
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> torch.optim.AdamW:
    """AdamW over what learns, with decay where `decays` says so; in one fused kernel where the parameters are on a GPU."""
    learning = [(name, value) for name, value in named if value.requires_grad]
    groups = [
        {"params": [value for name, value in learning if decays(name, value)], "weight_decay": weight_decay},
        {"params": [value for name, value in learning if not decays(name, value)], "weight_decay": 0.0},
    ]
    fused = all(value.is_cuda for _, value in learning)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, weight_decay=0.0, fused=fused or None)
