"""Scores of the PhysioNet/CinC Challenges 2020 and 2021: challenge metric, AUROC, AUPRC, F, accuracy; in 2020 F-beta and G-beta.

The challenge metric gives a wrong diagnosis some credit where its treatment or outcome resembles the true one. Recording i with the
labels Y_i and outputs O_i earns the sum of W[j, k] over its labels j and outputs k, divided by c_i, the number of classes in either
(at least 1): a superfluous output costs the right one as well. With T the sum over recordings and N the output that names sinus
rhythm alone everywhere, the score is (T(Y, O) - T(Y, N)) / (T(Y, Y) - T(Y, N)): 1 for what is right, 0 for always sinus rhythm.
It is not clamped.

Sources: Perez Alday et al., Physiol Meas 41 (2020), doi 10.1088/1361-6579/abc960; Reyna et al., Computing in Cardiology 48 (2021),
doi 10.23919/CinC53138.2021.9662687; and the scorers that were run there. Shapes: N recordings, C classes in the order of
`models.metrics.challenge_classes`. What the two years do differently before this point, in files, is in
`models.metrics.challenge_files`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.challenge_classes import SINUS_RHYTHM, ChallengeClass, challenge_classes, reward_matrix
from models.metrics.classification import FloatArray, MetricError, check, macro_mean, rank_classes

THRESHOLDS = tuple(i / 50 for i in range(50))
"""Candidates of `choose_threshold`: 0.00, 0.02, ..., 0.98."""

_BETA = 2.0


@dataclass(frozen=True)
class ChallengeScores:
    """What a Challenge's scorer prints. Macro values are means over the classes that have one, NaN where none has.

    Attributes:
        classes: of the columns.
        n_records: recordings judged.
        support_C: int64, recordings with each class as a label.
        auroc_C: NaN for classes without a positive or a negative.
        auprc_C: average precision; NaN for classes without a positive, 1 where all recordings are positive.
        f_measure_C: NaN for classes that are neither a label nor an output anywhere.
        f_beta_C: beta = 2, a recording counts 1 / its number of labels; NaN throughout in 2021.
        g_beta_C: likewise.
        accuracy: share of recordings whose outputs are exactly their labels.
        challenge_metric: see the module.
    """

    year: int
    classes: tuple[ChallengeClass, ...]
    n_records: int
    support_C: NDArray[np.int64]
    auroc_C: FloatArray
    auprc_C: FloatArray
    f_measure_C: FloatArray
    f_beta_C: FloatArray
    g_beta_C: FloatArray
    accuracy: float
    challenge_metric: float

    @property
    def auroc(self) -> float:
        """Macro AUROC."""
        return macro_mean(self.auroc_C, "skip").value

    @property
    def auprc(self) -> float:
        """Macro AUPRC."""
        return macro_mean(self.auprc_C, "skip").value

    @property
    def f_measure(self) -> float:
        """Macro F."""
        return macro_mean(self.f_measure_C, "skip").value

    @property
    def f_beta(self) -> float:
        """Macro F-beta of 2020."""
        return macro_mean(self.f_beta_C, "skip").value

    @property
    def g_beta(self) -> float:
        """Macro G-beta of 2020."""
        return macro_mean(self.g_beta_C, "skip").value


def challenge_scores(
    year: int, labels_NC: NDArray[Any], binary_NC: NDArray[Any], scores_NC: NDArray[Any], *, merge_equivalents: bool = True
) -> ChallengeScores:
    """Judge outputs as the Challenge of a year did.

    Args:
        year: 2020 (C = 24) or 2021 (C = 26).
        labels_NC: zeros and ones of any dtype, (N, C).
        binary_NC: yes/no outputs, zeros and ones of any dtype, (N, C).
        scores_NC: finite scalar outputs, (N, C).
        merge_equivalents: False for one class a code (C = 27 or 30): a diagnosis of what the twins cost, no official score.

    Raises:
        ConfigurationError: another year.
        MetricError: shapes do not fit, there is no recording, a label or output is neither 0 nor 1, or a score is not finite.
    """
    classes = challenge_classes(year, merge_equivalents)
    labels, binary = _fit(labels_NC, len(classes), "labels"), _fit(binary_NC, len(classes), "binary outputs")
    if not len(labels) == len(binary) == len(scores_NC):
        raise MetricError(f"{len(labels)} recordings have labels, {len(binary)} binary outputs, {len(scores_NC)} scores; pass all of each")
    auroc_C, auprc_C = _areas(np.asarray(scores_NC), labels)
    f_C, f_beta_C, g_beta_C = _f_measures(labels, binary, weighted=year == 2020)
    return ChallengeScores(
        year,
        classes,
        len(labels),
        labels.sum(axis=0, dtype=np.int64),
        auroc_C,
        auprc_C,
        f_C,
        f_beta_C,
        g_beta_C,
        float((labels == binary).all(axis=1).mean()),
        challenge_metric(labels, binary, reward_matrix(classes), sinus_column(classes)),
    )


def challenge_metric(labels_NC: NDArray[Any], binary_NC: NDArray[Any], rewards_CC: FloatArray, sinus: int) -> float:
    """The challenge metric; 0 where no label could earn more than sinus rhythm does.

    Args:
        labels_NC: zeros and ones, (N, C).
        binary_NC: zeros and ones, (N, C).
        rewards_CC: W, rows are labels and columns outputs; cells that are NaN earn nothing.
        sinus: column of sinus rhythm.
    """
    right, inactive = bounds(labels_NC, rewards_CC, sinus)
    return float(normalised(earned(labels_NC, binary_NC, rewards_CC).sum(), right.sum(), inactive.sum()))


def earned(labels_NC: NDArray[Any], binary_NC: NDArray[Any], rewards_CC: FloatArray) -> FloatArray:
    """What each recording earns before the score is normalised, float64 (N,): its summand of T(Y, O)."""
    labels, outputs = np.asarray(labels_NC, bool), np.asarray(binary_NC, bool)
    either_N = np.maximum((labels | outputs).sum(axis=1), 1)
    credit_NC = labels.astype(np.float64) @ np.nan_to_num(rewards_CC)
    sum_N: FloatArray = np.einsum("nc,nc->n", credit_NC, outputs.astype(np.float64)) / either_N
    return sum_N


def bounds(labels_NC: NDArray[Any], rewards_CC: FloatArray, sinus: int) -> tuple[FloatArray, FloatArray]:
    """What each recording earns by its own labels, and by sinus rhythm alone; float64 (N,) each."""
    inactive_NC = np.zeros(np.shape(labels_NC), bool)
    inactive_NC[:, sinus] = True
    return earned(labels_NC, labels_NC, rewards_CC), earned(labels_NC, inactive_NC, rewards_CC)


def normalised(observed: Any, right: Any, inactive: Any) -> FloatArray:
    """Scores from sums over recordings, numbers or arrays of one shape; 0 where `right` equals `inactive`."""
    span = np.asarray(right, np.float64) - inactive
    value: FloatArray = np.where(span == 0, 0.0, (observed - inactive) / np.where(span == 0, 1.0, span))
    return value


def choose_threshold(year: int, labels_NC: NDArray[Any], scores_NC: NDArray[Any]) -> tuple[float, float]:
    """The one threshold for all classes, of `THRESHOLDS`, with the best challenge metric, and that metric; the lowest of equals.

    To be chosen on validation records, and applied by `outputs_above`: on the records that are judged it flatters. Every
    score goes into the bin between two thresholds once, so that all thresholds together cost little more than one.

    Raises:
        ConfigurationError: another year.
        MetricError: as `challenge_scores`.
    """
    classes = challenge_classes(year)
    scores, labels = check(scores_NC, _fit(labels_NC, len(classes), "labels"))
    rewards_CC = reward_matrix(classes)
    right, inactive = bounds(labels, rewards_CC, sinus_column(classes))
    n_bins = len(THRESHOLDS) + 1
    bin_NC = np.searchsorted(THRESHOLDS, scores.astype(np.float64)) + n_bins * np.arange(len(labels))[:, None]

    def above(values_NC: NDArray[Any]) -> FloatArray:
        """Sums (N, thresholds) over the classes whose score is above each threshold."""
        sums = np.bincount(bin_NC.ravel(), values_NC.ravel(), n_bins * len(labels)).reshape(-1, n_bins)
        total_NT: FloatArray = np.cumsum(sums[:, :0:-1], axis=1, dtype=np.float64)[:, ::-1]
        return total_NT

    either_NT = labels.sum(axis=1)[:, None] + above(1 - labels)
    observed_T = (above(labels @ rewards_CC) / np.maximum(either_NT, 1)).sum(axis=0)
    metric_T = normalised(observed_T, right.sum(), inactive.sum())
    best = int(np.argmax(metric_T))
    return THRESHOLDS[best], float(metric_T[best])


def outputs_above(scores_NC: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """Yes where a score is above a threshold, both as float64: a float32 score of 0.3 is above 0.3."""
    yes_NC: NDArray[np.bool_] = np.asarray(scores_NC, np.float64) > threshold
    return yes_NC


def sinus_column(classes: tuple[ChallengeClass, ...]) -> int:
    """Where sinus rhythm stands."""
    return next(i for i, c in enumerate(classes) if SINUS_RHYTHM in c.codes)


def _fit(values_NC: NDArray[Any], n_classes: int, what: str) -> NDArray[np.int8]:
    values = np.asarray(values_NC)
    if values.ndim != 2 or values.shape[1] != n_classes or not len(values):
        raise MetricError(f"{what} are {values.shape}; they must be (recordings, {n_classes} classes) with at least one recording")
    if values.dtype != bool and not ((values == 0) | (values == 1)).all():
        row, column = np.argwhere((values != 0) & (values != 1))[0]
        raise MetricError(f"{what}: recording number {row}, class number {column} is {values[row, column]}; all must be 0 or 1")
    return values.astype(np.int8)


def _areas(scores_NC: NDArray[Any], labels_NC: NDArray[np.int8]) -> tuple[FloatArray, FloatArray]:
    """AUROC and average precision (C,) of every class."""
    auroc_C, auprc_C = np.full(labels_NC.shape[1], math.nan), np.full(labels_NC.shape[1], math.nan)
    for c, ranked in enumerate(rank_classes(scores_NC, labels_NC)):
        positives = len(ranked.positives_P)
        negatives = len(labels_NC) - positives
        if positives and negatives:
            above = ranked.first_P - ranked.first_positive_P  # negatives with a higher score
            not_below = ranked.last_P - ranked.last_positive_P  # and those with an equal one
            auroc_C[c] = 1 - int((above + not_below).sum()) / (2 * positives * negatives)
        if positives:
            auprc_C[c] = float(((ranked.last_positive_P + 1) / (ranked.last_P + 1)).mean())
    return auroc_C, auprc_C


def _f_measures(labels_NC: NDArray[np.int8], binary_NC: NDArray[np.int8], *, weighted: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """F, F-beta and G-beta (C,); the last two NaN unless `weighted`."""
    true_C, called_C, hit_C = (v.sum(axis=0, dtype=np.float64) for v in (labels_NC, binary_NC, labels_NC & binary_NC))
    f_C = _ratio(2 * hit_C, true_C + called_C)
    if not weighted:
        return f_C, np.full_like(f_C, math.nan), np.full_like(f_C, math.nan)
    weight_N = 1 / np.maximum(labels_NC.sum(axis=1), 1)
    hit_C, wrong_C, missed_C = (weight_N @ v for v in (labels_NC & binary_NC, binary_NC & ~labels_NC, labels_NC & ~binary_NC))
    square = _BETA**2
    f_beta_C = _ratio((1 + square) * hit_C, (1 + square) * hit_C + wrong_C + square * missed_C)
    return f_C, f_beta_C, _ratio(hit_C, hit_C + wrong_C + _BETA * missed_C)


def _ratio(part_C: FloatArray, whole_C: FloatArray) -> FloatArray:
    value: FloatArray = np.where(whole_C > 0, part_C / np.where(whole_C > 0, whole_C, 1.0), math.nan)
    return value
