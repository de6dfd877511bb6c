"""Heads trained by gradient descent: attentive probes over frozen encoders, and fine-tuning. Works for every method.

Which records a step sees, where their crops begin and what dropout draws are functions of seed and step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.crops import aggregate, cut, random_starts, recorded_samples, shifted_starts, strided_starts
from models.data import AnyStore, BatchOrder, IntArray, Labelled, StepLoader, batch_of
from models.errors import ConfigurationError, TrainingError
from models.head_objectives import Objective, objective_of
from models.head_optimizer import Halving, build_optimizer
from models.head_recipes import HeadRecipe
from models.heads import EpochReport
from models.image_store import ImageStore
from models.method import Method
from models.mixup import mixed
from models.pretraining_loop import reseed
from models.readouts import Classifier, read_of
from models.resident import Resident, hold
from models.store import Store
from models.types import Batch, Modality

_RECORDS = 64
"""Records that are scored at a time, each with all its crops."""


@dataclass(frozen=True)
class Parts:
    """Positions of labelled records: those to learn from, those that choose the step, those to score in the end."""

    train_N: IntArray
    validation_N: IntArray
    judged_N: IntArray


@dataclass(frozen=True)
class Trained:
    """Scores (N, C) of the judged records after `chosen` steps, the weights of then that training changed, and all looks."""

    scores_NC: NDArray[np.float32]
    state: dict[str, Tensor]
    chosen: int
    history: list[EpochReport]


def train_head(
    encoder: Method,
    recipe: HeadRecipe,
    data: Labelled,
    parts: Parts,
    seed: int,
    device: torch.device,
    start: Mapping[str, Tensor] | None = None,
) -> Trained:
    """Train a head on labels by its recipe.

    A look at which no class has both outcomes counts as better than those before.

    Args:
        encoder: any method; it is changed unless the recipe freezes it.
        recipe: how.
        data: labelled records.
        parts: which of them learn, choose and are scored.
        seed: of the head, the order of records, their crops and dropout.
        device: where to train.
        start: weights that an earlier recipe has trained on this encoder (`Trained.state`).

    Raises:
        TrainingError: a loss or a score is not finite, or records are shorter than a crop.
        ConfigurationError: the encoder or the task does not give what the recipe asks for.
    """
    recipe = recipe.on(len(parts.train_N))
    network = build_classifier(encoder, recipe, data, parts, seed, device)
    objective = objective_of(data.kind, recipe, data.labels_NC[parts.train_N], data.classes)
    if start is not None:
        network.load_state_dict(network.state_dict() | dict(start))
    optimizer, schedule = build_optimizer(network, _learns(network, data), recipe)
    source = _held(data, parts, device)
    batches = StepLoader(_batches(recipe, objective, data, source, parts.train_N, seed, device), lambda: 0, recipe.steps)
    look = partial(_scores, network, objective, data, source, device=device)
    best, state, chosen, total = -math.inf, network.learned(), 0, 0.0
    history: list[EpochReport] = []
    for step, batch in enumerate(batches, 1):
        reseed(seed, step - 1, 0)
        total += _step(network.train(), objective, batch, optimizer, data)
        schedule.step()
        if step % recipe.look_every and step < recipe.steps:
            continue
        value = objective.value(look(parts.validation_N), data.labels_NC[parts.validation_N])
        history.append(EpochReport(step, total / step, value))
        if isinstance(schedule, Halving):
            schedule.look(value)
        if recipe.keep == "last" or math.isnan(value) or value > best:
            state, chosen, best = network.learned(), step, best if math.isnan(value) else value
        if recipe.patience is not None and step - chosen >= recipe.patience:
            break
    network.load_state_dict(network.state_dict() | state)
    return Trained(look(parts.judged_N), state, chosen, history)


def build_classifier(encoder: Method, recipe: HeadRecipe, data: Labelled, parts: Parts, seed: int, device: torch.device) -> Classifier:
    """The encoder with a new head as wide as what it reads. Raises as `train_head`."""
    encoder = encoder.to(device).eval()
    with torch.inference_mode():
        batch = _all_crops(recipe, data, data.store, parts.train_N[:1], device)[0]
        width = read_of(encoder, recipe, batch)[0].shape[-1]
    torch.manual_seed(seed)
    return Classifier(encoder, recipe, len(data.classes), width).to(device)


def _learns(network: Classifier, data: Labelled) -> list[nn.Parameter]:
    """Make the encoder ready and give what learns of it."""
    encoder, recipe = network.encoder, network.recipe
    if recipe.frozen:
        encoder.requires_grad_(False)
        return []
    if recipe.dropout is not None:
        encoder.set_dropout(recipe.dropout)
    return encoder.finetune_parameters(Modality.IMAGE if isinstance(data.store, ImageStore) else Modality.ECG)


def _held(data: Labelled, parts: Parts, device: torch.device) -> AnyStore | Resident:
    """What signals are read from: the device, where they fit there."""
    if not isinstance(data.store, Store):
        return data.store
    wanted_N = np.concatenate([parts.train_N, parts.validation_N, parts.judged_N])
    return hold(data.store, data.rows_N[wanted_N], device) or data.store


def _batches(
    recipe: HeadRecipe,
    objective: Objective,
    data: Labelled,
    source: AnyStore | Resident,
    train_N: IntArray,
    seed: int,
    device: torch.device,
) -> Callable[[int], Batch]:
    """Gives the batch of a step, with targets in the place of labels: whole records, or a random crop of each."""
    if recipe.mix and data.kind != "multilabel":
        raise ConfigurationError(f"records can only be mixed for multi-label tasks, and this one is {data.kind}; set mix to False")
    order = BatchOrder(len(train_N), min(recipe.batch_size, len(train_N)), seed)
    target_NC = objective.targets(data.labels_NC[train_N])
    recorded_N = None if recipe.crop is None else recorded_samples(data.store, data.rows_N[train_N], recipe.crop)

    def read(step: int) -> Batch:
        chosen = order.positions(step)
        batch = batch_of(source, data.rows_N[train_N[chosen]], device)
        if recipe.crop is not None and recorded_N is not None:
            batch = cut(batch, np.arange(len(chosen)), _starts(recipe, recorded_N[chosen], recipe.crop, seed, step), recipe.crop)
        batch = replace(batch, labels_BC=torch.from_numpy(target_NC[chosen]).to(device))
        return mixed(batch, step // (len(train_N) // order.batch_size), seed, step) if recipe.mix else batch

    return read


def _starts(recipe: HeadRecipe, recorded_B: IntArray, crop: int, seed: int, step: int) -> IntArray:
    """Where the crops of a step begin."""
    if recipe.stride is None or recipe.shift is None:
        return random_starts(recorded_B, crop, seed, step)
    return shifted_starts(recorded_B, crop, recipe.stride, recipe.shift, seed, step)


def _step(network: Classifier, objective: Objective, batch: Batch, optimizer: torch.optim.Optimizer, data: Labelled) -> float:
    assert batch.labels_BC is not None, "training batches have targets"
    outputs = network(batch)
    loss = objective.loss(outputs, batch.labels_BC.repeat_interleave(len(outputs) // len(batch), dim=0))
    value = loss.item()
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss of the head is {value:g} on records {_named(data, batch.row_B.numpy())}; look at these records or lower the learning rate"
        )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if network.recipe.clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), network.recipe.clip)
    optimizer.step()
    return value


def _scores(
    network: Classifier, objective: Objective, data: Labelled, source: AnyStore | Resident, positions: IntArray, device: torch.device
) -> NDArray[np.float32]:
    """Scores (N, C) of records, those of a record's crops aggregated."""
    network.eval()
    found, how = [], "mean" if data.kind == "regression" else network.recipe.aggregate
    with torch.inference_mode():
        for start in range(0, len(positions), _RECORDS):
            batch, record_M = _all_crops(network.recipe, data, source, positions[start : start + _RECORDS], device)
            outputs = network(batch).cpu().numpy()
            record_M = np.repeat(record_M, len(outputs) // len(record_M))
            found.append(aggregate(outputs, record_M, how, exclusive=data.kind == "single_label"))
    outputs_NC = np.concatenate(found)
    bad_N = ~np.isfinite(outputs_NC).all(axis=1)
    if bad_N.any():
        named = _named(data, data.rows_N[positions[bad_N]])
        raise TrainingError(f"the head gives scores that are not finite for {int(bad_N.sum())} records ({named}); train it again")
    return objective.scores(outputs_NC)


def _all_crops(
    recipe: HeadRecipe, data: Labelled, source: AnyStore | Resident, positions: IntArray, device: torch.device
) -> tuple[Batch, IntArray]:
    """What evaluation reads of some records, and to which of them each crop belongs."""
    rows_N = data.rows_N[positions]
    batch = batch_of(source, rows_N, device)
    if recipe.crop is None or recipe.stride is None:
        return batch, np.arange(len(rows_N))
    record_M, start_M = strided_starts(recorded_samples(data.store, rows_N, recipe.crop), recipe.crop, recipe.stride)
    return cut(batch, record_M, start_M, recipe.crop), record_M


def _named(data: Labelled, rows: NDArray[np.int64]) -> str:
    return ", ".join(str(data.store.index["record_id"][int(row)]) for row in rows[:20])
