"""Intervals by resampling patients, for one table of scores or for the difference of two.

Records of a patient are not independent, so patients are drawn with replacement and bring all their records. A resample
counts only if every class has a positive and a negative record in it (the rule of the PTB-XL benchmark, Strodthoff et al.
2020, which asks for a positive); others are drawn again and counted. Where so few patients hold a class that almost no draw
would count, patients are instead drawn within strata: each scarce group (the patients with a positive, or a negative, of
one class) is resampled by itself, so that it never vanishes. Then `Interval.conditioning` says "stratified"; such an interval
holds the size of the scarce groups fixed and is narrower for their classes.

Shapes: N records, C classes, K patients, R resamples, E events (a class having a positive, or a negative, record).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.metrics.classification import FloatArray, MetricError, check, weighted_auprc, weighted_auroc, weighted_f1

Metric = Literal["macro_auroc", "macro_auprc", "macro_f1"]
Conditioning = Literal["redraw", "stratified"]

_WEIGHTED: dict[str, Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], FloatArray]] = {
    "macro_auroc": weighted_auroc,
    "macro_auprc": weighted_auprc,
    "macro_f1": weighted_f1,
}

MAX_DRAWS_PER_RESAMPLE = 50
"""Draws spent on one accepted resample, on average, before patients are drawn within strata."""

SCARCE_PATIENTS = 10
"""Groups of up to this many patients get a stratum; a larger one is missed by less than one free draw in 20,000."""

_FIRST_DRAWS = 500
_CHUNK = 250


@dataclass(frozen=True)
class Interval:
    """A metric on all records, and percentiles of it over resamples.

    Attributes:
        value: the metric on the full set; NaN if no class is defined there.
        low: lower percentile over resamples.
        high: upper percentile over resamples.
        n_resamples: resamples behind the percentiles.
        n_redrawn: draws that were thrown away because a class lacked a positive or a negative.
        n_patients: patients drawn from.
        n_classes: classes in the macro mean.
        n_undefined: classes left out because the full set has no positive or no negative of them.
        conditioning: "redraw", or "stratified" where redrawing would not have ended.
    """

    value: float
    low: float
    high: float
    n_resamples: int
    n_redrawn: int
    n_patients: int
    n_classes: int
    n_undefined: int
    conditioning: Conditioning = "redraw"

    def printed(self) -> str:
        """The form of the PTB-XL benchmark's tables, for example "0.925(06)": see `printed_form`."""
        return printed_form(self.value, self.low, self.high)


@dataclass(frozen=True)
class Resamples:
    """How often each patient was drawn, shape (R, K), and the patient number of every record, shape (N,)."""

    counts_RK: NDArray[np.integer[Any]]
    patient_N: NDArray[np.int64]
    n_redrawn: int
    conditioning: Conditioning


def patient_bootstrap(
    scores_NC: NDArray[Any],
    labels_NC: NDArray[Any],
    patient_ids: NDArray[Any],
    n: int = 1000,
    seed: int = 0,
    percentiles: tuple[float, float] = (2.5, 97.5),
    metric: Metric = "macro_auroc",
) -> Interval:
    """A macro metric with its interval over patients.

    Args:
        scores_NC: scores (N, C); for "macro_f1" yes/no calls at thresholds chosen elsewhere.
        labels_NC: zeros and ones (N, C).
        patient_ids: the patient of every record (N,), any values that can be compared for equality.
        n: accepted resamples.
        seed: equal seeds give equal resamples for equal labels and patients.
        percentiles: lower and upper, in percent.
        metric: which macro metric.

    Raises:
        MetricError: shapes differ, scores are not finite, or even drawing within strata finds no resample with all classes.
    """
    return _interval([scores_NC], labels_NC, patient_ids, n, seed, percentiles, metric)


def paired_bootstrap(
    scores_a_NC: NDArray[Any],
    scores_b_NC: NDArray[Any],
    labels_NC: NDArray[Any],
    patient_ids: NDArray[Any],
    n: int = 1000,
    seed: int = 0,
    percentiles: tuple[float, float] = (2.5, 97.5),
    metric: Metric = "macro_auroc",
) -> Interval:
    """The difference a - b of a macro metric, both judged on the same resamples of the same records.

    The caller aligns the rows of both score arrays by record id. Arguments and errors are those of `patient_bootstrap`.
    """
    return _interval([scores_a_NC, scores_b_NC], labels_NC, patient_ids, n, seed, percentiles, metric)


def printed_form(value: float, low: float, high: float) -> str:
    """A value to three decimals and the larger distance to its bounds in thousandths, truncated: "0.925(06)"."""
    if not all(np.isfinite((value, low, high))):
        return "undefined"
    return f"{value:.3f}({int(1000 * max(high - value, value - low)):02d})"


def _interval(
    arms: list[NDArray[Any]],
    labels_NC: NDArray[Any],
    patient_ids: NDArray[Any],
    n: int,
    seed: int,
    percentiles: tuple[float, float],
    metric: Metric,
) -> Interval:
    """The interval of the first arm's metric, less that of the second arm where there is one."""
    for scores_NC in arms:
        check(scores_NC, labels_NC)
    if len(patient_ids) != len(labels_NC):
        raise MetricError(f"there are {len(patient_ids)} patient ids for {len(labels_NC)} records; pass one a record")
    labels = np.asarray(labels_NC)
    defined = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    n_classes, n_undefined = int(defined.sum()), int((~defined).sum())
    if n_classes == 0:
        nan = float("nan")
        return Interval(nan, nan, nan, 0, 0, len(np.unique(patient_ids)), 0, n_undefined)
    labels = labels[:, defined]
    arms = [scores_NC[:, defined] for scores_NC in arms]

    def macro(weights_RN: NDArray[Any]) -> FloatArray:
        first, *second = (_WEIGHTED[metric](scores_NC, labels, weights_RN).mean(axis=1) for scores_NC in arms)
        value_R: FloatArray = first - second[0] if second else first
        return value_R

    drawn = resample_patients(labels, patient_ids, n, seed)
    values_R = np.concatenate(
        [macro(np.take(drawn.counts_RK[i : i + _CHUNK], drawn.patient_N, axis=1)) for i in range(0, len(drawn.counts_RK), _CHUNK)]
    )
    value = float(macro(np.ones((1, len(labels)), np.int32))[0])
    low, high = (float(p) for p in np.percentile(values_R, percentiles))
    return Interval(value, low, high, n, drawn.n_redrawn, drawn.counts_RK.shape[1], n_classes, n_undefined, drawn.conditioning)


def resample_patients(labels_NC: NDArray[Any], patient_ids: NDArray[Any], n: int, seed: int) -> Resamples:
    """Draw n resamples of the patients in each of which every class has a positive and a negative record.

    Raises:
        MetricError: n is not positive, a class lacks positives or negatives altogether, or drawing within strata did not
            find enough resamples either.
    """
    if n < 1:
        raise MetricError(f"{n} resamples were asked for; ask for at least one")
    _, patient_N = np.unique(patient_ids, return_inverse=True)
    n_patients = int(patient_N.max()) + 1
    holds_KE = np.zeros((n_patients, 2 * labels_NC.shape[1]), bool)
    np.logical_or.at(holds_KE, patient_N, np.concatenate([labels_NC == 1, labels_NC == 0], axis=1))
    if not holds_KE.any(axis=0).all():
        raise MetricError("a class has no positive or no negative record, so no resample can have both; leave the class out")

    counts, thrown = _draw_all(np.random.default_rng(seed), np.zeros(n_patients, np.int64), holds_KE, n, give_up=True)
    if counts is not None:
        return Resamples(counts, patient_N, thrown, "redraw")
    counts, again = _draw_all(np.random.default_rng(seed), _strata(holds_KE), holds_KE, n, give_up=False)
    if counts is None:
        raise MetricError(
            f"no {n} resamples of {n_patients} patients with a positive and a negative record of all {labels_NC.shape[1]} classes "
            f"were found in {again} draws, within strata; judge fewer classes or more patients"
        )
    return Resamples(counts, patient_N, thrown + again, "stratified")


def _strata(holds_KE: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Stratum of every patient: the scarcest event it holds, or the common stratum 0."""
    stratum_K = np.zeros(len(holds_KE), np.int64)
    holders_E = holds_KE.sum(axis=0)
    for event in np.argsort(holders_E, kind="stable"):
        if holders_E[event] <= SCARCE_PATIENTS:
            stratum_K[holds_KE[:, event] & (stratum_K == 0)] = event + 1
    return stratum_K


def _draw_all(
    rng: np.random.Generator, stratum_K: NDArray[np.int64], holds_KE: NDArray[np.bool_], n: int, *, give_up: bool
) -> tuple[NDArray[np.integer[Any]] | None, int]:
    """Draw until n resamples hold every event; None where that is hopeless. The number is that of draws thrown away."""
    holders_E = holds_KE.sum(axis=0)
    # A free draw always holds what every patient holds; the scarcest events sort out most draws cheaply.
    events = np.argsort(holders_E, kind="stable")
    events = events[holders_E[events] < len(holds_KE)]
    accepted: list[NDArray[np.integer[Any]]] = []
    found = drawn = used = 0
    while found < n:
        if drawn >= MAX_DRAWS_PER_RESAMPLE * max(n, _FIRST_DRAWS) or (give_up and drawn and found * MAX_DRAWS_PER_RESAMPLE < drawn):
            return None, drawn
        counts = draw_with_replacement(rng, stratum_K, _FIRST_DRAWS)
        good = np.flatnonzero(_holds_all(counts, holds_KE, events))[: n - found]
        accepted.append(counts[good])
        found += len(good)
        used = drawn + (int(good[-1]) + 1 if found == n else _FIRST_DRAWS)
        drawn += _FIRST_DRAWS
    return np.concatenate(accepted), used - n


def draw_with_replacement(rng: np.random.Generator, stratum_K: NDArray[np.int64], rows: int) -> NDArray[np.integer[Any]]:
    """Counts (rows, K) of patients drawn with replacement within their strata."""
    n_patients = len(stratum_K)
    order = np.argsort(stratum_K, kind="stable")
    starts = np.searchsorted(stratum_K[order], stratum_K[order])
    sizes = np.bincount(stratum_K)[stratum_K[order]]
    high: Any = n_patients if starts[-1] == 0 else sizes
    chosen = order[starts + rng.integers(0, high, size=(rows, n_patients), dtype=np.int64)]
    flat = chosen + n_patients * np.arange(rows)[:, None]
    counts = np.bincount(flat.ravel(), minlength=rows * n_patients).reshape(rows, n_patients)
    return counts.astype(np.int16 if n_patients < 2**15 else np.int32)


def _holds_all(counts: NDArray[np.integer[Any]], holds_KE: NDArray[np.bool_], events: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row of counts has a patient for every event."""
    good = np.ones(len(counts), bool)
    for group in (events[:16], events[16:]):
        rows = np.flatnonzero(good)
        seen = counts[rows].astype(np.float32) @ holds_KE[:, group].astype(np.float32)
        good[rows] = (seen > 0).all(axis=1)
    return good
