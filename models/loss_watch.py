"""Sees to it that no loss that is not finite goes unnoticed, without making a GPU wait for its answer at every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.data import TrainingData
from models.errors import TrainingError
from models.types import Batch, Losses

LOOKED_AT_ONCE = ("cpu",)
"""Kinds of devices that answer without being waited for."""

_SHOWN = 20


@dataclass(frozen=True)
class _Step:
    """Losses of a step, its records, and which of them (bool (B,)) have finite samples alone; on the device."""

    number: int
    total: torch.Tensor
    parts: dict[str, torch.Tensor]
    row_B: torch.Tensor
    whole_B: torch.Tensor


class LossWatch:
    """Looks at losses: on a CPU at once, on a GPU when `inspect` is called, as it must be before weights are kept.

    Until then losses and record numbers of the steps stay on the device.
    """

    def __init__(self, data: TrainingData) -> None:
        """`data` names the records."""
        self._data = data
        self._seen: list[_Step] = []

    def note(self, step: int, losses: Losses, batch: Batch) -> None:
        """Take the losses of a step.

        Raises:
            TrainingError: as `inspect` does, on a CPU.
        """
        parts = {name: value.detach() for name, value in losses.parts.items()}
        whole_B = torch.isfinite(batch.signal_BLT).flatten(1).all(dim=1)
        self._seen.append(_Step(step, losses.total.detach(), parts, batch.row_B, whole_B))
        if losses.total.device.type in LOOKED_AT_ONCE:
            self.inspect()

    def inspect(self) -> None:
        """Look at all losses since the last time.

        Raises:
            TrainingError: one is not finite; names the first such step and its records.
        """
        seen, self._seen = self._seen, []
        if not seen:
            return
        finite_N = torch.isfinite(torch.stack([step.total for step in seen])).tolist()
        for step, finite in zip(seen, finite_N, strict=True):
            if not finite:
                raise TrainingError(self._explain(step))

    def _explain(self, step: _Step) -> str:
        parts = ", ".join(f"{name} {value.item():g}" for name, value in step.parts.items())
        said = f"the loss of step {step.number} is {step.total.item():g} ({parts}); "
        if step.whole_B.all():
            return f"{said}records {self._named(step.row_B)}; look at these records or lower the learning rate"
        faulty = self._named(step.row_B[~step.whole_B])
        return f"{said}records {faulty} have samples that are not finite; take them out of the store, or prepare them again"

    def _named(self, row_B: torch.Tensor) -> str:
        others = f" and {len(row_B) - _SHOWN} more" if len(row_B) > _SHOWN else ""
        return ", ".join(self._data.names(row_B[:_SHOWN].tolist())) + others
