"""A loss that is not finite is found before weights are kept, with the step and the records at fault."""

from __future__ import annotations

import pytest
import torch

import models.loss_watch
from models.errors import TrainingError
from models.loss_watch import LossWatch
from models.types import Batch, Losses


class Named:
    """Records called r0, r1, ..."""

    def names(self, rows: list[int]) -> list[str]:
        return [f"r{row}" for row in rows]


def batch(*rows: int, bad: tuple[int, ...] = ()) -> Batch:
    signal_BLT = torch.zeros(len(rows), 2, 5)
    for i in bad:
        signal_BLT[i, 1, 3] = torch.nan
    return Batch(signal_BLT, torch.tensor(rows))


def losses(value: float) -> Losses:
    return Losses(torch.tensor(value), {"part": torch.tensor(value)})


def test_on_a_cpu_it_is_found_at_once() -> None:
    watch = LossWatch(Named())  # type: ignore[arg-type]
    watch.note(0, losses(1.0), batch(4, 5))
    with pytest.raises(
        TrainingError, match=r"the loss of step 1 is nan \(part nan\); records r6, r7; look at these records or lower the learning rate"
    ):
        watch.note(1, losses(float("nan")), batch(6, 7))


def test_records_with_samples_that_are_not_finite_are_named_alone() -> None:
    watch = LossWatch(Named())  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"records r8 have samples that are not finite; take them out"):
        watch.note(3, losses(float("inf")), batch(6, 8, 7, bad=(1,)))


def test_on_a_gpu_it_is_found_when_somebody_looks_and_the_first_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.loss_watch, "LOOKED_AT_ONCE", ())
    watch = LossWatch(Named())  # type: ignore[arg-type]
    for step, value in enumerate((1.0, float("nan"), float("inf"), 2.0)):
        watch.note(step, losses(value), batch(step, step + 10))
    with pytest.raises(TrainingError, match=r"the loss of step 1 is nan .*records r1, r11;"):
        watch.inspect()
    watch.inspect()  # all have been looked at
    watch.note(4, losses(1.0), batch(1))
    watch.inspect()


def test_many_records_are_counted() -> None:
    watch = LossWatch(Named())  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"r19 and 5 more; look"):
        watch.note(0, losses(float("nan")), batch(*range(25)))
