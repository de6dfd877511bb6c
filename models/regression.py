"""Heads that predict a number: ridge regression on frozen features, and the scale on which gradient-trained heads learn.

Letters: A arms (encoders), N records, F features, C targets (one; kept so that tables of classes and numbers have one shape).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingError
from models.heads import EpochReport, FloatArray, IntArray, Probe

PENALTIES = tuple(10.0**k for k in range(-2, 7))
"""Of the squared weights, on standardised features and target; one of them is chosen on the validation records."""

SELECTION = (
    f"ridge in closed form on features standardised on the training records; penalty from {PENALTIES[0]:g} to {PENALTIES[-1]:g} by "
    "validation mean absolute error"
)


@dataclass(frozen=True)
class TargetScale:
    """Mean and spread of a target over the training records: what training sees is (target - mean) / spread."""

    mean_C: NDArray[np.float64]
    spread_C: NDArray[np.float64]

    @classmethod
    def of(cls, labels_NC: NDArray[np.float32], classes: Sequence[str]) -> TargetScale:
        """The scale of the training records' targets.

        Raises:
            TrainingError: a target is the same for all of them, or not finite.
        """
        values_NC = labels_NC.astype(np.float64)
        mean_C, spread_C = values_NC.mean(axis=0), values_NC.std(axis=0)
        for name, mean, spread in zip(classes, mean_C, spread_C, strict=True):
            if not np.isfinite(spread):
                raise TrainingError(f"target {name!r} is no finite number for some training records; leave these out of the task's labels")
            if spread <= 1e-6 * max(1.0, abs(mean)):
                raise TrainingError(f"target {name!r} is {mean:g} for all {len(labels_NC)} training records, so there is nothing to learn")
        return cls(mean_C, spread_C)

    def standardise(self, labels_NC: NDArray[np.float32]) -> FloatArray:
        """Targets as training sees them, float32 (N, C)."""
        return ((labels_NC - self.mean_C) / self.spread_C).astype(np.float32)

    def restore(self, outputs_NC: FloatArray) -> FloatArray:
        """Outputs of a head in the target's unit, float32 (N, C)."""
        return (outputs_NC * self.spread_C + self.mean_C).astype(np.float32)


def mean_absolute_error(scores_NC: FloatArray, labels_NC: NDArray[np.float32]) -> float:
    """Mean over records and targets; NaN without records."""
    return float(np.abs(scores_NC.astype(np.float64) - labels_NC).mean()) if len(labels_NC) else float("nan")


def train_ridges(
    features_ANF: FloatArray, labels_NC: NDArray[np.float32], train_N: IntArray, validation_N: IntArray, classes: Sequence[str]
) -> list[tuple[Probe, list[EpochReport]]]:
    """One ridge regression per arm, with the penalty that has the smallest validation error.

    Args:
        features_ANF: features of all records, float32 (A, N, F).
        labels_NC: targets in their unit, (N, C).
        train_N: positions of training records.
        validation_N: positions of the records that choose the penalty.
        classes: names of the targets, for messages.

    Returns:
        Probe and history of each arm. A probe's scores are in the target's unit; its `epoch` is the place of its penalty among
        `PENALTIES`, counted from 1, and a history's validation value is the negative error, so that larger is better.

    Raises:
        TrainingError: as `TargetScale.of`.
    """
    scale = TargetScale.of(labels_NC[train_N], classes)
    return [_train_ridge(values_NF, labels_NC, train_N, validation_N, scale) for values_NF in features_ANF]


def _train_ridge(
    features_NF: FloatArray, labels_NC: NDArray[np.float32], train_N: IntArray, validation_N: IntArray, scale: TargetScale
) -> tuple[Probe, list[EpochReport]]:
    train_NF = features_NF[train_N].astype(np.float64)
    mean_F, spread_F = train_NF.mean(axis=0), train_NF.std(axis=0)
    spread_F[spread_F < 1e-6] = 1
    train_NF, target_NC = (train_NF - mean_F) / spread_F, (labels_NC[train_N] - scale.mean_C) / scale.spread_C
    # Once the features are decomposed, weights for any penalty are two small products: w = V diag(s / (s^2 + penalty)) U' y.
    u_NK, s_K, v_KF = np.linalg.svd(train_NF, full_matrices=False)
    along_KC = u_NK.T @ target_NC
    best: tuple[float, Probe] | None = None
    history = []
    for place, penalty in enumerate(PENALTIES, 1):
        weight_FC = v_KF.T @ (along_KC * (s_K / (s_K**2 + penalty))[:, None])
        weight_CF = (weight_FC * scale.spread_C).T
        bias_C = scale.mean_C.astype(np.float32)
        probe = Probe(weight_CF.astype(np.float32), bias_C, mean_F.astype(np.float32), spread_F.astype(np.float32), place)
        error = mean_absolute_error(probe.scores(features_NF[validation_N]), labels_NC[validation_N])
        loss = float(((train_NF @ weight_FC - target_NC) ** 2).mean())
        history.append(EpochReport(place, loss, -error))
        if best is None or error <= best[0]:
            best = error, probe
    assert best is not None, "there are penalties"
    return best[1], history
