"""Two entries that were each trained from several seeds, compared on the same resampled patients.

Each resample draws patients with replacement (`models.metrics.bootstrap.resample_patients`, every class present) and judges every
seed of both entries on it. The value of an entry in a resample is the mean of the metric over its seeds; the difference is the first
entry's mean less the second's. Scores of different seeds are never averaged: that would judge an ensemble. The interval
covers which patients happened to be in the test folds, for these seeds; how much training itself varies is said by the spread
over seeds, another quantity.

Shapes: N records, C classes, R resamples, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.bootstrap import resample_patients
from models.metrics.classification import FloatArray, MetricError, check, weighted_auroc

_CHUNK = 250


@dataclass(frozen=True)
class Estimate:
    """A value on all records, with percentiles over resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SeedComparison:
    """Macro AUROC of two entries, and what lies between them.

    Attributes:
        first: of the first entry, mean over its seeds.
        second: of the second entry.
        difference: first - second, paired.
        first_spread: standard deviation (n - 1) over the seeds of the first entry, NaN for one seed.
        second_spread: likewise.
        per_class: difference of every class.
        n_patients: patients drawn from.
        n_redrawn: draws thrown away because a class lacked a positive or a negative.
        conditioning: as in `models.metrics.bootstrap.Interval`.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    first_spread: float
    second_spread: float
    per_class: tuple[Estimate, ...]
    n_patients: int
    n_redrawn: int
    conditioning: str


def compare_over_seeds(
    first_SNC: Sequence[NDArray[Any]],
    second_SNC: Sequence[NDArray[Any]],
    labels_NC: NDArray[Any],
    patient_ids: NDArray[Any],
    n: int = 1000,
    seed: int = 0,
) -> SeedComparison:
    """Compare two entries on the same resamples of the same records; 95 % intervals.

    Args:
        first_SNC: scores (N, C) of every seed of the first entry.
        second_SNC: of the second; the number of seeds may differ.
        labels_NC: zeros and ones (N, C); every class has both.
        patient_ids: the patient of every record (N,).
        n: resamples.
        seed: equal seeds give equal resamples.

    Raises:
        MetricError: an entry has no seed, shapes differ, a class has no positive or no negative, or resampling fails.
    """
    if not first_SNC or not second_SNC:
        raise MetricError("an entry without scores cannot be compared; give at least one seed of each")
    for scores_NC in (*first_SNC, *second_SNC):
        check(scores_NC, labels_NC)
    drawn = resample_patients(np.asarray(labels_NC), patient_ids, n, seed)
    whole_1N = np.ones((1, len(labels_NC)), np.int32)
    weights = [whole_1N, *(np.take(drawn.counts_RK[i : i + _CHUNK], drawn.patient_N, axis=1) for i in range(0, n, _CHUNK))]
    first_SRC, second_SRC = (
        np.stack([np.concatenate([weighted_auroc(scores_NC, labels_NC, w) for w in weights]) for scores_NC in entry])
        for entry in (first_SNC, second_SNC)
    )
    first_RC, second_RC = first_SRC.mean(axis=0), second_SRC.mean(axis=0)
    difference_RC = first_RC - second_RC
    return SeedComparison(
        _estimate(first_RC.mean(axis=1)),
        _estimate(second_RC.mean(axis=1)),
        _estimate(difference_RC.mean(axis=1)),
        _spread(first_SRC[:, 0].mean(axis=1)),
        _spread(second_SRC[:, 0].mean(axis=1)),
        tuple(_estimate(values_R) for values_R in difference_RC.T),
        drawn.counts_RK.shape[1],
        drawn.n_redrawn,
        drawn.conditioning,
    )


def _estimate(values_R: FloatArray) -> Estimate:
    """The first value is that on all records, the others are those of resamples."""
    low, high = (float(p) for p in np.percentile(values_R[1:], (2.5, 97.5)))
    return Estimate(float(values_R[0]), low, high)


def _spread(values_S: FloatArray) -> float:
    return float(values_S.std(ddof=1)) if len(values_S) > 1 else float("nan")
