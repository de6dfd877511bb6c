"""What happens at each step of pretraining: random states, losses, metrics, validation, checkpoints, interruption."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from models.config import TrainingConfig
from models.data import BatchOrder, Order, StepLoader, TrainingData
from models.errors import TrainingError
from models.jobs import PretrainJob
from models.loss_watch import LossWatch
from models.method import ContrastiveMethod, Method
from models.mixture import Mixture, MixtureOrder
from models.progress import MetricsFile, Progress
from models.throughput import Meter, peak_flops, spell_speed
from models.training_state import LAST
from models.types import Batch

if TYPE_CHECKING:
    import lightning.pytorch as pl


@dataclass
class Loop:
    """A training run in progress.

    Attributes:
        step: optimiser steps taken.
        final: last reported loss and its parts.
        precision: as Lightning names it.
        speed: records per second and the like, of the last logged interval.
        flops: floating-point operations of one record, or None if not counted.
        interrupted: it ended because it was told to, with its state saved.
    """

    job: PretrainJob
    config: TrainingConfig
    method: Method
    total_steps: int
    train: TrainingData
    validation: TrainingData | None
    progress: Progress
    metrics: MetricsFile
    precision: str = "32-true"
    step: int = 0
    final: dict[str, float] = field(default_factory=dict)
    speed: dict[str, float | None] = field(default_factory=dict)
    flops: float | None = None
    loader: StepLoader | None = None
    interrupted: bool = False

    @cached_property
    def watch(self) -> LossWatch:
        """What looks at losses."""
        return LossWatch(self.train)

    @property
    def waited_s(self) -> float:
        """Seconds waited for data so far."""
        return 0.0 if self.loader is None else self.loader.waited_s

    @property
    def batch_size(self) -> int:
        """Records of a step; where a pass has fewer, as many as can be cut into equal parts."""
        order = self.order(1)
        available = order.per_pass if isinstance(order, BatchOrder) else self.config.batch_size
        if available >= self.config.batch_size:
            return self.config.batch_size
        return available - available % (self.job.devices * self.job.nodes * self.config.accumulate)

    @property
    def parts(self) -> int:
        """Forward and backward passes of a step. Contrastive methods cut a batch themselves, since they compare all of it."""
        return 1 if isinstance(self.method, ContrastiveMethod) else self.config.accumulate

    def order(self, batch_size: int) -> Order:
        """In which order training sees its records."""
        if isinstance(self.train, Mixture):
            return MixtureOrder(batch_size, self.job.seed, self.train.starts, self.train.weights)
        groups = self.train.patients if self.config.distinct_patients else None
        return BatchOrder(len(self.train), batch_size, self.job.seed, groups)


def build_module(loop: Loop) -> pl.LightningModule:
    """The method as Lightning wants it."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.method = loop.method

        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
            reseed(loop.job.seed, self.global_step * loop.parts + batch_idx % loop.parts, self.global_rank)

        def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
            losses = self.method.loss(batch)
            loop.watch.note(self.global_step, losses, batch)
            return {"loss": losses.total, "parts": {k: v.detach() for k, v in losses.parts.items()}}

        def configure_optimizers(self) -> Any:
            optimizer, schedule = self.method.optimizers(loop.total_steps)
            return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return Module()


def reseed(seed: int, step: int, rank: int) -> None:
    """Make the random numbers of a step a function of seed, step and process, so that a resumed run draws them again."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))


def build_callback(loop: Loop) -> pl.Callback:
    """The callback that logs, validates, saves and stops."""
    import lightning.pytorch as pl

    class Watch(pl.Callback):
        def __init__(self) -> None:
            self.told_to_stop = False
            self.best: dict[str, Any] = {"loss": math.inf, "failures": 0, "weights": {}}
            self.started = time.perf_counter()
            self.window_step = 0
            self.meter = Meter(loop.flops)

        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            # Set here because Lightning installs a handler of its own before, which saves nothing.
            signal.signal(signal.SIGTERM, self._tell_to_stop)
            loop.step = self.window_step = trainer.global_step
            if trainer.is_global_zero:
                loop.metrics.drop_after(trainer.global_step)
                self.meter.peak = peak_flops(pl_module.device, loop.precision) * trainer.world_size
            self.meter.start(loop.waited_s)

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == loop.step:  # a part of a batch: the optimiser has not stepped yet
                return
            loop.step = trainer.global_step
            loop.method.after_step(loop.step - 1, loop.total_steps)
            last = loop.step >= loop.total_steps
            validate = loop.validation is not None and (loop.step % loop.config.validate_every == 0 or last)
            if loop.step % loop.config.log_every == 0 or last or validate:
                loop.watch.inspect()
                loop.speed = self._speed()
                self._log(trainer, outputs, self._validate(trainer) if validate else None)
                self.meter.start(loop.waited_s)
            exhausted = loop.config.patience is not None and self.best["failures"] > loop.config.patience
            stop = self._agreed(trainer, self.told_to_stop or self._out_of_time()) and not last
            if (loop.step % loop.config.checkpoint_every == 0 and not last) or stop:
                loop.watch.inspect()
                trainer.save_checkpoint(loop.job.output / LAST)
            loop.interrupted = stop
            if stop or exhausted:
                trainer.should_stop = True

        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if loop.config.patience is not None and self.best["weights"] and not loop.interrupted:
                loop.method.load_state_dict(self.best["weights"])

        def state_dict(self) -> dict[str, Any]:
            return self.best

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.best = state_dict

        def _tell_to_stop(self, *_: Any) -> None:
            self.told_to_stop = True

        def _out_of_time(self) -> bool:
            limit = loop.job.time_limit_s
            return limit is not None and time.perf_counter() - self.started > limit

        def _agreed(self, trainer: pl.Trainer, stop: bool) -> bool:
            return trainer.strategy.reduce_boolean_decision(stop, all=False) if trainer.world_size > 1 else stop

        def _validate(self, trainer: pl.Trainer) -> float:
            loss = validation_loss(loop, trainer)
            if loss < self.best["loss"]:
                keep = loop.config.patience is not None
                weights = {k: v.detach().cpu().clone() for k, v in loop.method.state_dict().items()} if keep else {}
                self.best = {"loss": loss, "failures": 0, "weights": weights}
            else:
                self.best = {**self.best, "failures": self.best["failures"] + 1}
            return loss

        def _log(self, trainer: pl.Trainer, outputs: dict[str, Any], validation: float | None) -> None:
            losses = {"loss": outputs["loss"], **outputs["parts"]}
            values = {k: float(trainer.strategy.reduce(v.detach(), reduce_op="mean")) for k, v in losses.items()}
            if not trainer.is_global_zero:
                return
            loop.final = values if validation is None else {**values, "validation_loss": validation}
            row = {"step": loop.step, "lr": trainer.optimizers[0].param_groups[0]["lr"], **loop.final, **loop.speed}
            loop.metrics.append(row)
            text = f"step {loop.step} of {loop.total_steps}, loss {values['loss']:.4f}, {spell_speed(loop.speed)}"
            loop.progress.metrics(row, text)

        def _speed(self) -> dict[str, float | None]:
            records = (loop.step - self.window_step) * loop.batch_size
            self.window_step = loop.step
            return self.meter.read(records, loop.waited_s)

    return Watch()


def validation_loss(loop: Loop, trainer: pl.Trainer) -> float:
    """Mean loss over the validation records in evaluation mode, always over the same batches and random numbers."""
    if loop.validation is None:
        raise TrainingError("there are no validation records to measure a loss on; name validation folds or set validate_every to 0")
    records = loop.validation
    groups = records.patients if loop.config.distinct_patients else None
    per_pass = BatchOrder(len(records), 1, loop.job.seed, groups).per_pass
    size = min(loop.batch_size, per_pass)
    n_parts = trainer.world_size * loop.config.accumulate
    if size < n_parts:
        raise TrainingError(
            f"{size} validation records or patients cannot be cut into {n_parts} parts; lower accumulate, name more folds or set validate_every to 0"
        )
    size -= size % n_parts
    order: Order = BatchOrder(len(records), size, loop.job.seed, groups)
    if isinstance(records, Mixture):  # validated as it is trained on: by as many draws as it has records
        order = MixtureOrder(size, loop.job.seed, records.starts, records.weights)
    device = trainer.strategy.root_device
    losses: list[Tensor] = []
    loop.method.eval()
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        trainer.precision_plugin.forward_context(),
    ):
        reseed(loop.job.seed, 0, trainer.global_rank)
        for step in range(per_pass // size):
            batch = records.batch(order.share(step, trainer.global_rank, trainer.world_size))
            losses.append(loop.method.loss(trainer.strategy.batch_to_device(batch)).total)
    loop.method.train()
    return float(trainer.strategy.reduce(torch.stack(losses).mean(), reduce_op="mean"))
