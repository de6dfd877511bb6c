"""What gradient-trained heads are trained for, by the kind of their task: targets, loss, stored scores, and what chooses the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional

from models.errors import ConfigurationError
from models.head_recipes import HeadRecipe
from models.heads import macro_auroc
from models.objectives.supervised import asymmetric_loss
from models.regression import TargetScale, mean_absolute_error


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
    """Classes that do not exclude each other: binary cross-entropy or asymmetric loss; logits; macro AUROC."""

    def __init__(self, recipe: HeadRecipe) -> None:
        self._asymmetric = recipe.loss == "asymmetric"

    def targets(self, labels_NC: NDArray[Any]) -> NDArray[np.float32]:
        """Zeros and ones."""
        return labels_NC.astype(np.float32)

    def loss(self, outputs_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Binary cross-entropy, mean over records and classes, or the asymmetric loss, summed."""
        if self._asymmetric:
            return asymmetric_loss(outputs_BC, target_BC)
        return functional.binary_cross_entropy_with_logits(outputs_BC, target_BC)

    def scores(self, outputs_NC: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits."""
        return outputs_NC

    def value(self, scores_NC: NDArray[np.float32], labels_NC: NDArray[Any]) -> float:
        """Macro AUROC over the classes that it is defined for."""
        return macro_auroc(scores_NC, labels_NC)


class OneClass(Classes):
    """Classes of which exactly one holds: cross-entropy; logits before the softmax; macro AUROC of one class against the rest."""

    def loss(self, outputs_BC: Tensor, target_BC: Tensor) -> Tensor:
        """Cross-entropy, mean over records."""
        return functional.cross_entropy(outputs_BC, target_BC)

    def value(self, scores_NC: NDArray[np.float32], labels_NC: NDArray[Any]) -> float:
        """Macro AUROC of the softmax."""
        return macro_auroc(log_softmax(scores_NC.astype(np.float64), axis=1), labels_NC)


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
        return Classes(recipe)
    if kind == "single_label":
        return OneClass(recipe)
    if kind == "regression":
        return Numbers(labels_NC, classes)
    raise ConfigurationError(f"there is no kind of task {kind!r}; choose multilabel, single_label or regression")
