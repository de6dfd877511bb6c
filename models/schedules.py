"""Schedules of learning rate, weight decay and momentum as functions of the step, and the optimiser they move.

A value depends on step and total alone, so a run that goes on after a stop has the values of one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from models import optim


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
    """Sets the learning rate of all groups at each step, and the weight decay of those marked with "decayed".

    Its state is the number of the step. What the values are follows from its arguments, which a resumed run gives again.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, lr: Callable[[int], float], weight_decay: Callable[[int], float]) -> None:
        self._lr, self._weight_decay = lr, weight_decay
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group."""
        return [self._lr(self.last_epoch) for _ in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next step."""
        super().step(epoch)
        for group in self.optimizer.param_groups:
            if group.get("decayed"):
                group["weight_decay"] = self._weight_decay(self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """The step, in plain values."""
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count, "_last_lr": [float(x) for x in self._last_lr]}


def adamw(
    named: Iterable[tuple[str, nn.Parameter]],
    decays: Callable[[str, Tensor], bool],
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> torch.optim.AdamW:
    """AdamW over what learns, in two groups: those that `decays` names, marked for `StepSchedule`, and those without decay."""
    learning = [(name, value) for name, value in named if value.requires_grad]
    groups = [
        {"params": [value for name, value in learning if decays(name, value) == decayed], "weight_decay": decay, "decayed": decayed}
        for decayed, decay in ((True, weight_decay), (False, 0.0))
    ]
    return optim.adamw(groups, lr=lr, betas=betas, eps=eps)
