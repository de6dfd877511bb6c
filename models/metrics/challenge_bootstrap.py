"""Interval of the challenge metric by resampling patients, for one classifier or for the difference of two.

The metric is a ratio of sums over recordings (`models.metrics.challenge`), so that a resample needs nothing but these sums of
each patient. It is defined whatever classes a resample holds: none is drawn again.

Shapes: N recordings, C classes, K patients, R resamples, A classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.bootstrap import Interval, draw_with_replacement
from models.metrics.challenge import bounds, earned, normalised, sinus_column
from models.metrics.challenge_classes import challenge_classes, reward_matrix
from models.metrics.classification import FloatArray, MetricError, check

_CHUNK = 250


def challenge_interval(
    year: int,
    labels_NC: NDArray[Any],
    outputs: Sequence[NDArray[Any]],
    patient_ids: NDArray[Any],
    n: int = 1000,
    seed: int = 0,
    percentiles: tuple[float, float] = (2.5, 97.5),
) -> Interval:
    """The challenge metric of a classifier, less that of a second where there is one, with its interval over patients.

    Args:
        year: 2020 or 2021.
        labels_NC: zeros and ones, (N, C).
        outputs: of one classifier or of two, yes or no (N, C) each, at thresholds chosen elsewhere.
        patient_ids: the patient of every recording, (N,).
        n: resamples.
        seed: equal seeds give equal resamples of the same patients.
        percentiles: lower and upper, in percent.

    Returns:
        The interval; `n_undefined` counts classes that no recording, or every one, has: they enter the metric as they are.

    Raises:
        ConfigurationError: another year.
        MetricError: shapes do not fit, values are neither 0 nor 1, or no resample is asked for.
    """
    classes = challenge_classes(year)
    labels = np.asarray(labels_NC)
    for outputs_NC in outputs:
        check(outputs_NC, labels)
    if labels.shape[1] != len(classes) or len(patient_ids) != len(labels) or not len(labels) or n < 1:
        raise MetricError(
            f"labels are {labels.shape} with {len(patient_ids)} patient ids and {n} resamples; "
            f"pass {len(classes)} classes, a patient a recording, and at least one recording and resample"
        )
    rewards_CC = reward_matrix(classes)
    parts = [*bounds(labels, rewards_CC, sinus_column(classes)), *(earned(labels, o, rewards_CC) for o in outputs)]
    patients, patient_N = np.unique(patient_ids, return_inverse=True)
    sums_KA = np.stack([np.bincount(patient_N, part) for part in parts], axis=1)

    def metric(sums_RA: NDArray[Any]) -> FloatArray:
        first, *second = (normalised(sums_RA[:, a], sums_RA[:, 0], sums_RA[:, 1]) for a in range(2, sums_RA.shape[1]))
        value_R: FloatArray = first - second[0] if second else first
        return value_R

    rng, alike_K = np.random.default_rng(seed), np.zeros(len(patients), np.int64)
    sizes = [min(_CHUNK, n - done) for done in range(0, n, _CHUNK)]
    values_R = np.concatenate([metric(draw_with_replacement(rng, alike_K, size) @ sums_KA) for size in sizes])
    low, high = (float(p) for p in np.percentile(values_R, percentiles))
    value = float(metric(sums_KA.sum(axis=0, keepdims=True))[0])
    n_defined = int(((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).sum())
    return Interval(value, low, high, n, 0, len(patients), n_defined, len(classes) - n_defined)
