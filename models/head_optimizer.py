"""The optimiser of gradient-trained heads: groups of parameters by decay and depth, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from models.head_recipes import HeadRecipe
from models.optim import adamw
from models.readouts import Classifier
from models.schedules import Cosine, linear


def build_optimizer(
    network: Classifier, learns: Sequence[nn.Parameter], recipe: HeadRecipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW or Adam over what learns, fused on a GPU, and its schedule, which is to be stepped after each step.

    Args:
        network: encoder and readout.
        learns: parameters of the encoder that are trained.
        recipe: rates, decay, betas and schedule.
    """
    groups = parameter_groups(network, learns, recipe)
    # Without weight decay AdamW is Adam.
    optimizer = adamw(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay)
    if recipe.schedule == "one_cycle":
        peaks = [group["lr"] for group in groups]
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peaks, total_steps=max(recipe.steps, 2))
    if recipe.schedule == "plateau":
        return optimizer, Halving(optimizer, recipe.plateau)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(recipe, step) / recipe.lr)


class Halving(torch.optim.lr_scheduler.LambdaLR):
    """Halves the learning rates after more than `patience` looks in a row that do no better than the best before."""

    def __init__(self, optimizer: torch.optim.Optimizer, patience: int) -> None:
        self._patience, self._best, self._waited, self._factor = patience, -math.inf, 0, 1.0
        super().__init__(optimizer, lambda _: self._factor)

    def look(self, value: float) -> None:
        """Take note of how good the network is; larger is better, and NaN counts as better, as in training. Holds from the next step on."""
        if value <= self._best:
            self._waited += 1
        else:
            self._best, self._waited = self._best if math.isnan(value) else value, 0
        if self._waited > self._patience:
            self._factor, self._waited = self._factor / 2, 0


def parameter_groups(network: Classifier, learns: Sequence[nn.Parameter], recipe: HeadRecipe) -> list[dict[str, Any]]:
    """Groups of one learning rate and one weight decay.

    Weights decay as the method says, and the matrices of the readout; its biases and its query do not. By layer, the rate of a
    parameter is `lr * layer_decay ** (top - layer)`: the readout and the encoder's last layer have the full one.
    """
    encoder = network.encoder
    wanted = {id(p) for p in learns}
    named = [(name, p) for name, p in encoder.named_parameters() if id(p) in wanted]
    layers = {name: 0 if recipe.layer_decay is None else encoder.layer_of(name) for name, _ in named}
    top = max(layers.values(), default=0)
    factor = 1.0 if recipe.layer_decay is None else recipe.layer_decay
    members = [(factor ** (top - layers[name]), encoder.decays(name, p), p) for name, p in named]
    members += [(1.0, p.ndim == 2, p) for p in network.head.parameters()]
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for scale, decays, parameter in members:
        new = {"params": [], "lr": recipe.lr * scale, "weight_decay": recipe.weight_decay if decays else 0.0}
        groups.setdefault((scale, decays), new)["params"].append(parameter)
    return list(groups.values())


def learning_rate(recipe: HeadRecipe, step: int) -> float:
    """Of a step, counted from 0, by a constant, cosine, linear or Noam schedule with a linear warm-up.

    The cosine reaches its end at the last step, the line after it. Noam's (Vaswani et al., 2017) is, with s = step + 1 and the peak at
    s = warmup, lr min(sqrt(warmup / s), s / warmup).
    """
    if recipe.schedule == "noam":
        return recipe.lr * min(math.sqrt(recipe.warmup / (step + 1)), (step + 1) / recipe.warmup)
    if recipe.schedule == "linear" and recipe.final_lr is not None and step >= recipe.warmup:
        return linear(step - recipe.warmup, recipe.steps - recipe.warmup, recipe.lr, recipe.final_lr)
    final = recipe.lr if recipe.final_lr is None else recipe.final_lr
    return Cosine(recipe.steps, recipe.lr, final, recipe.warmup, recipe.first_lr)(step)
