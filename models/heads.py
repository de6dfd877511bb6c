"""Linear probes on frozen features, trained many at a time with the published recipe.

A probe is one linear layer on standardised features with binary cross-entropy: Adam 1e-3 with L2 1e-4, batches of 16,
100 epochs, learning rate x 0.1 after epoch 40 (the recipe of MERL's published code). Probes of several encoders on the same records (an
encoder and its random twin) share every batch and are trained in one matrix product, with the gradient written out: the
loss of a linear layer needs no autograd, and 20,000 steps of batch 16 cost a second instead of minutes.

Letters: A arms (encoders), N records, F features, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

from models.metrics.classification import auroc_per_class

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ProbeRecipe:
    """How a probe is trained; the defaults are the published ones."""

    lr: float = 1e-3
    l2: float = 1e-4
    batch_size: int = 16
    epochs: int = 100
    milestone: int = 40
    decay: float = 0.1


@dataclass(frozen=True)
class Probe:
    """A trained linear layer over standardised features.

    Attributes:
        weight_CF: float32 (C, F).
        bias_C: float32 (C,).
        mean_F: of the training features.
        spread_F: standard deviation of the training features; 1 where a feature is constant.
        epoch: the epoch it was taken from, counted from 1.
    """

    weight_CF: FloatArray
    bias_C: FloatArray
    mean_F: FloatArray
    spread_F: FloatArray
    epoch: int

    def scores(self, features_NF: FloatArray) -> FloatArray:
        """Logits, float32 (N, C)."""
        scores_NC = ((features_NF - self.mean_F) / self.spread_F) @ self.weight_CF.T + self.bias_C
        return scores_NC.astype(np.float32)


@dataclass(frozen=True)
class EpochReport:
    """What an epoch of one arm came to; `validation` is a macro AUROC, NaN where no class has both outcomes."""

    epoch: int
    loss: float
    validation: float


def train_probes(
    features_ANF: FloatArray,
    labels_NC: NDArray[np.int8],
    train_N: IntArray,
    validation_N: IntArray,
    seed: int,
    recipe: ProbeRecipe | None = None,
    *,
    exclusive: bool = False,
) -> list[tuple[Probe, list[EpochReport]]]:
    """Train one probe per arm and keep the epoch with the best validation macro AUROC.

    Args:
        features_ANF: features of all records, float32 (A, N, F).
        labels_NC: zeros and ones, (N, C).
        train_N: positions of training records.
        validation_N: positions of validation records.
        seed: of initial weights and order; both are the same for all arms.
        recipe: the published one by default.
        exclusive: whether exactly one class holds for each record: cross-entropy, and macro AUROC of the softmax.

    Returns:
        Probe and history of each arm. Classes without a positive and a negative validation record do not enter the
        choice of the epoch; where no class has both, the last epoch is taken.
    """
    recipe = recipe or ProbeRecipe()
    train_ANF = features_ANF[:, train_N]
    mean_A1F = train_ANF.mean(axis=1, keepdims=True)
    spread_A1F = train_ANF.std(axis=1, keepdims=True)
    spread_A1F[spread_A1F < 1e-6] = 1
    train_ANF = (train_ANF - mean_A1F) / spread_A1F
    validation_ANF = (features_ANF[:, validation_N] - mean_A1F) / spread_A1F
    layer = _Layer(features_ANF.shape[0], features_ANF.shape[2], labels_NC.shape[1], seed, exclusive)
    target_NC, judge_NC = labels_NC[train_N].astype(np.float32), labels_NC[validation_N]
    best: list[tuple[float, Probe] | None] = [None] * len(features_ANF)
    history: list[list[EpochReport]] = [[] for _ in features_ANF]
    for epoch in range(1, recipe.epochs + 1):
        lr = recipe.lr * (recipe.decay if epoch > recipe.milestone else 1.0)
        order = np.random.default_rng([seed, epoch]).permutation(len(train_N))
        loss_A = np.zeros(len(features_ANF))
        for start in range(0, len(order), recipe.batch_size):
            batch = order[start : start + recipe.batch_size]
            loss_A += layer.step(train_ANF[:, batch], target_NC[batch], lr, recipe.l2) * len(batch)
        for arm, values_NF in enumerate(validation_ANF):
            scores_NC = layer.scores(arm, values_NF)
            value = macro_auroc(log_softmax(scores_NC.astype(np.float64), axis=1) if exclusive else scores_NC, judge_NC)
            history[arm].append(EpochReport(epoch, float(loss_A[arm] / len(order)), value))
            held = best[arm]
            if held is None or math.isnan(held[0]) or value > held[0]:
                best[arm] = value, layer.probe(arm, mean_A1F[arm, 0], spread_A1F[arm, 0], epoch)
    return [(held[1], rows) for held, rows in zip(best, history, strict=True) if held is not None]


def macro_auroc(scores_NC: NDArray[np.floating], labels_NC: NDArray[np.int8]) -> float:
    """Mean AUROC over classes that have a positive and a negative record; NaN where none has."""
    if not len(labels_NC):
        return math.nan
    values_C = auroc_per_class(scores_NC, labels_NC)
    values_C = values_C[~np.isnan(values_C)]
    return float(values_C.mean()) if len(values_C) else math.nan


class _Layer:
    """A linear layer per arm with Adam, as `torch.nn.Linear`, `torch.optim.Adam` and `BCEWithLogitsLoss` compute them.

    Where classes exclude each other the loss is that of `CrossEntropyLoss`.
    """

    def __init__(self, arms: int, F: int, C: int, seed: int, exclusive: bool = False) -> None:
        self._exclusive = exclusive
        rng = np.random.default_rng([seed, 0])
        limit = 1 / math.sqrt(F)
        first_XC = rng.uniform(-limit, limit, (F + 1, C)).astype(np.float32)
        # The bias is the last row, fed by a feature that is always 1.
        self.weight_AXC = np.repeat(first_XC[None], arms, axis=0)
        self._mean = np.zeros_like(self.weight_AXC)
        self._square = np.zeros_like(self.weight_AXC)
        self._steps = 0

    def step(self, x_ABF: FloatArray, y_BC: FloatArray, lr: float, l2: float) -> NDArray[np.float64]:
        """One step of Adam; returns the loss of each arm before it."""
        x_ABX = np.concatenate([x_ABF, np.ones((*x_ABF.shape[:2], 1), np.float32)], axis=2)
        z_ABC = x_ABX @ self.weight_AXC
        if self._exclusive:
            log_ABC = log_softmax(z_ABC, axis=2)
            loss_A = -(log_ABC * y_BC).sum(axis=2).mean(axis=1, dtype=np.float64)
            slope_ABC = (np.exp(log_ABC) - y_BC) / np.float32(len(y_BC))
        else:
            loss_A = (np.maximum(z_ABC, 0) - z_ABC * y_BC + np.log1p(np.exp(-np.abs(z_ABC)))).mean(axis=(1, 2), dtype=np.float64)
            slope_ABC = (expit(z_ABC) - y_BC) / np.float32(y_BC.size)
        gradient = x_ABX.transpose(0, 2, 1) @ slope_ABC + np.float32(l2) * self.weight_AXC
        self._steps += 1
        self._mean += np.float32(0.1) * (gradient - self._mean)
        self._square += np.float32(0.001) * (gradient * gradient - self._square)
        scale = math.sqrt(1 - 0.999**self._steps)
        self.weight_AXC -= (
            np.float32(lr / (1 - 0.9**self._steps)) * self._mean / (np.sqrt(self._square) / np.float32(scale) + np.float32(1e-8))
        )
        return np.asarray(loss_A)

    def scores(self, arm: int, x_NF: FloatArray) -> FloatArray:
        """Logits of one arm, (N, C)."""
        scores: FloatArray = x_NF @ self.weight_AXC[arm, :-1] + self.weight_AXC[arm, -1]
        return scores

    def probe(self, arm: int, mean_F: FloatArray, spread_F: FloatArray, epoch: int) -> Probe:
        """The present weights of one arm."""
        return Probe(self.weight_AXC[arm, :-1].T.copy(), self.weight_AXC[arm, -1].copy(), mean_F, spread_F, epoch)


def choose_label_ids(ids_N: list[str], fraction: float) -> list[str]:
    """The training records whose labels a fraction may use: MERL's draw, not stratified, with its fixed random state."""
    if fraction >= 1:
        return list(ids_N)
    from sklearn.model_selection import train_test_split

    chosen, _ = train_test_split(ids_N, train_size=max(1, int(fraction * len(ids_N))), random_state=42)
    return list(chosen)


def write_probe(path: Path, probe: Probe, classes: tuple[str, ...]) -> None:
    """Write a probe as safetensors; the class of each row of `weight` is in the header."""
    import json

    from safetensors.numpy import save

    from models.training_state import write_durably

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"weight": probe.weight_CF, "bias": probe.bias_C, "mean": probe.mean_F, "spread": probe.spread_F}
    blob = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {"classes": json.dumps(classes), "epoch": str(probe.epoch)})
    write_durably(path, blob)
