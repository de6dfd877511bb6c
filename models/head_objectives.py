"""What gradient-trained heads are trained for, by the kind of their task: targets, loss, stored scores, and what chooses the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from models.errors import ConfigurationError
from models.head_recipes import HeadRecipe
from models.heads import macro_auroc
from models.metrics.classification import macro_auprc
from models.objectives.supervised import asymmetric_loss
from models.regression import TargetScale, mean_absolute_error

_HEAVIEST = 20.0
"""Largest weight of the positives of a class."""


class Objective(ABC):
    """What a head's outputs (N, C) are held against. Outputs and targets of a task's classes are in the order of its labels."""

    @abstractmethod
    def targets(self, labels_NC: NDArray[Any]) -> NDArray[np.float32]:
        """What outputs are compared with in training, (N, C)."""

    @abstractmethod
    def loss(self, outputs_BC: Tensor, target_BC: Tensor) -> Tensor:
        """The scalar that is minimised; both float32."""

    @abstractmethod
    def scores(self, outputs_NC: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a prediction table stores of outputs."""

    @abstractmethod
    def value(self, scores_NC: NDArray[np.float32], labels_NC: NDArray[Any]) -> float:
        """How good stored scores are; larger is better, NaN where that is not defined."""


class Classes(Objective):
    """Classes that do not exclude each other: binary cross-entropy or asymmetric loss; logits; a macro mean of ranks or calls."""

    def __init__(self, recipe: HeadRecipe, labels_NC: NDArray[Any]) -> None:
        self._asymmetric, self._select = recipe.loss == "asymmetric", recipe.select
        self._weight_C = self._balance(labels_NC) if recipe.balance else None

    def targets(self, labels_NC: NDArray[Any]) -> NDArray[np.float32]:
        """Zeros and ones."""
        return labels_NC.astype(np.float32)

    def loss(self, outputs_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Binary cross-entropy, mean over records and classes, or the asymmetric loss, summed."""
        if self._asymmetric:
            return asymmetric_loss(outputs_BC, target_BC)
        return functional.binary_cross_entropy_with_logits(outputs_BC, target_BC, pos_weight=_beside(self._weight_C, outputs_BC))

    def scores(self, outputs_NC: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits."""
        return outputs_NC

    def value(self, scores_NC: NDArray[np.float32], labels_NC: NDArray[Any]) -> float:
        """What the recipe chooses by, over the classes that it is defined for."""
        if self._select == "macro_f1":
            return macro_f1(self.calls(scores_NC), labels_NC)
        values_NC = self.ranked(scores_NC)
        return macro_auroc(values_NC, labels_NC) if self._select == "macro_auroc" else macro_auprc(values_NC, labels_NC, "skip").value

    def ranked(self, scores_NC: NDArray[np.float32]) -> NDArray[Any]:
        """What orders records within a class: logits."""
        return scores_NC

    def calls(self, scores_NC: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which classes are called: those of a probability above one half."""
        return scores_NC > 0

    def _balance(self, labels_NC: NDArray[Any]) -> NDArray[np.float32]:
        """Weights of positives, (n - n_k) / n_k and at most 20."""
        positive_C = np.maximum(labels_NC.sum(axis=0, dtype=np.float64), 1)
        weight_C: NDArray[np.float32] = np.minimum((len(labels_NC) - positive_C) / positive_C, _HEAVIEST).astype(np.float32)
        return weight_C


class OneClass(Classes):
    """Classes of which exactly one holds: cross-entropy; logits before the softmax; one class against the rest."""

    def loss(self, outputs_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Cross-entropy, mean over records; with weights the weighted mean."""
        return functional.cross_entropy(outputs_BC, target_BC.argmax(dim=1), weight=_beside(self._weight_C, outputs_BC))

    def ranked(self, scores_NC: NDArray[np.float32]) -> NDArray[Any]:
        """The logarithm of the softmax."""
        return log_softmax(scores_NC.astype(np.float64), axis=1)

    def calls(self, scores_NC: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The likeliest class."""
        called_NC: NDArray[np.bool_] = np.arange(scores_NC.shape[1]) == scores_NC.argmax(axis=1)[:, None]
        return called_NC

    def _balance(self, labels_NC: NDArray[Any]) -> NDArray[np.float32]:
        """Weights of classes, n / (C n_k)."""
        count_C = np.maximum(labels_NC.sum(axis=0, dtype=np.float64), 1)
        weight_C: NDArray[np.float32] = (len(labels_NC) / (len(count_C) * count_C)).astype(np.float32)
        return weight_C


class Numbers(Objective):
    """Numbers: Huber's loss on targets standardised over the training records; stored in the target's unit; the negative error."""

    def __init__(self, labels_NC: NDArray[np.float32], classes: Sequence[str]) -> None:
        self._scale = TargetScale.of(labels_NC, classes)

    def targets(self, labels_NC: NDArray[Any]) -> NDArray[np.float32]:
        """Standardised."""
        return self._scale.standardise(labels_NC)

    def loss(self, outputs_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Huber's loss, mean over records: quadratic up to one standard deviation of the target, linear beyond."""
        return functional.huber_loss(outputs_BC, target_BC)

    def scores(self, outputs_NC: NDArray[np.float32]) -> NDArray[np.float32]:
        """In the target's unit."""
        return self._scale.restore(outputs_NC)

    def value(self, scores_NC: NDArray[np.float32], labels_NC: NDArray[Any]) -> float:
        """Minus the mean absolute error."""
        return -mean_absolute_error(scores_NC, labels_NC)


def objective_of(kind: str, recipe: HeadRecipe, labels_NC: NDArray[Any], classes: Sequence[str]) -> Objective:
    """The objective of a kind of task.

    Args:
        kind: "multilabel", "single_label" or "regression".
        recipe: of the head.
        labels_NC: of the training records.
        classes: names of the columns of `labels_NC`.

    Raises:
        ConfigurationError: no such kind.
        TrainingError: a number is the same for all training records.
    """
    if kind == "multilabel":
        return Classes(recipe, labels_NC)
    if kind == "single_label":
        return OneClass(recipe, labels_NC)
    if kind == "regression":
        return Numbers(labels_NC, classes)
    raise ConfigurationError(f"there is no kind of task {kind!r}; choose multilabel, single_label or regression")


def macro_f1(calls_NC: NDArray[np.bool_], labels_NC: NDArray[Any]) -> float:
    """Mean over the classes that are called or labelled of 2 TP / (2 TP + FP + FN); NaN where there is none."""
    labels_NC = labels_NC.astype(bool)
    hits_C = (calls_NC & labels_NC).sum(axis=0)
    total_C = calls_NC.sum(axis=0) + labels_NC.sum(axis=0)
    return float((2 * hits_C[total_C > 0] / total_C[total_C > 0]).mean()) if (total_C > 0).any() else float("nan")


def _beside(weight_C: NDArray[np.float32] | None, outputs_BC: Tensor) -> Tensor | None:
    return None if weight_C is None else torch.from_numpy(weight_C).to(outputs_BC.device)
