"""Prediction tables of the Challenges' task, judged as the Challenges were: rows of metrics.parquet.

One threshold for all classes is chosen on the validation folds, frozen, and applied to the test folds. Of a trained head it is
one of its probabilities, of zero-shot classification one of its cosines. AUROC and AUPRC have rows of their own (`assets.scoring`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN_SUFFIX, LOGIT_PROTOCOLS, ScoringError, align, metric_row, probabilities
from models.metrics.challenge_classes import challenge_classes
from models.metrics.names import CHALLENGE_METRIC
from models.predictions import Predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.metrics.bootstrap import Interval

F, ACCURACY = "challenge_f_measure", "challenge_accuracy"
PER_CLASS = {"auprc": "auprc_C", "f_measure": "f_measure_C"}
"""What is stated of every class beside `auroc:<class>`: beginnings of metrics, and where `ChallengeScores` has them."""


@dataclass(frozen=True)
class _Judged:
    """A table's test records with the outputs of its threshold."""

    test: Predictions
    scores_NC: NDArray[np.float64]
    outputs_NC: NDArray[np.bool_]
    note: str


def score_challenge(
    tables: Sequence[Predictions],
    year: int,
    validation_folds: Sequence[int],
    test_folds: Sequence[int],
    seed: int = 0,
    n_resamples: int = 1000,
) -> list[dict[str, Any]]:
    """Challenge metric with its 95 % patient interval, F and accuracy of each table, AUPRC and F of each class, and gains over twins.

    Raises:
        ScoringError: a table's classes are not the Challenge's, it has no records of the validation or of the test folds, or a table
            and its twin do not judge the same records.
        ConfigurationError: no Challenge of that year is known.
    """
    from models.metrics.challenge import challenge_scores
    from models.metrics.challenge_bootstrap import challenge_interval

    rows = []
    judged = [_judge(table, year, validation_folds, test_folds) for table in tables]
    for one in judged:
        test = one.test
        found = challenge_scores(year, test.labels_NC, one.outputs_NC, one.scores_NC)
        interval = challenge_interval(year, test.labels_NC, [one.outputs_NC], test.patient_id, n_resamples, seed)
        rows.append(_row(one, CHALLENGE_METRIC, interval))
        n_finite = int((found.f_measure_C == found.f_measure_C).sum())
        rows.append(_plain(one, F, found.f_measure, n_finite, one.note))
        rows.append(_plain(one, ACCURACY, found.accuracy, len(found.classes), one.note))
        for start, attribute in PER_CLASS.items():
            for c, value, support in zip(found.classes, getattr(found, attribute), found.support_C, strict=True):
                rows.append(_plain(one, f"{start}:{c.name}", float(value), int(value == value), f"{support} test records have it", 1))
    return rows + _gains(judged, year, seed, n_resamples)


def _gains(judged: Sequence[_Judged], year: int, seed: int, n_resamples: int) -> list[dict[str, Any]]:
    """The paired gain in the challenge metric of every pretrained table over its random-initialised twin, each at its own threshold."""
    from models.metrics.challenge_bootstrap import challenge_interval

    by_origin = {replace(one.test.origin, encoder_sha256="", selection=""): one for one in judged}
    rows = []
    for origin, ours in by_origin.items():
        twin = by_origin.get(replace(origin, arm="random_init"))
        if origin.arm != "pretrained" or twin is None:
            continue
        # Outputs travel through `align` as scores, so that both are of the same records in the same order.
        a, b = align(*(replace(one.test, scores_NC=one.outputs_NC.astype("float32")) for one in (ours, twin)))
        interval = challenge_interval(year, a.labels_NC, [a.scores_NC, b.scores_NC], a.patient_id, n_resamples, seed)
        rows.append(_row(ours, f"{CHALLENGE_METRIC}{GAIN_SUFFIX}", interval))
    return rows


def _judge(table: Predictions, year: int, validation_folds: Sequence[int], test_folds: Sequence[int]) -> _Judged:
    from models.metrics.challenge import choose_threshold, outputs_above

    table = _in_order(table, year)
    validation, test = (table.folds(tuple(folds)) for folds in (validation_folds, test_folds))
    for part, folds, what in ((validation, validation_folds, "validation"), (test, test_folds, "test")):
        if not len(part.record_id):
            raise ScoringError(
                f"{_name(table)} has no record of the {what} folds {', '.join(map(str, folds))}; "
                "the challenge metric needs both to choose a threshold and to judge it, so evaluate again"
            )
    threshold, there = choose_threshold(year, validation.labels_NC, _scores(validation))
    unit = "probabilities" if table.origin.protocol in LOGIT_PROTOCOLS else "scores"
    where = (
        f"validation folds {', '.join(map(str, validation_folds))}"
        if len(validation_folds) > 1
        else f"validation fold {validation_folds[0]}"
    )
    note = f"threshold {threshold:.2f} on {unit} of all classes, chosen on {where} ({CHALLENGE_METRIC} {there:.3f} there)"
    scores_NC = _scores(test)
    return _Judged(test, scores_NC, outputs_above(scores_NC, threshold), note)


def _in_order(table: Predictions, year: int) -> Predictions:
    """A table with its columns in the Challenge's order."""
    names = tuple(c.name for c in challenge_classes(year))
    if set(names) != set(table.classes):
        differing = ", ".join(sorted(set(names) ^ set(table.classes)))
        raise ScoringError(
            f"{_name(table)} does not have the {len(names)} classes that the Challenge {year} scored (they differ in {differing}); "
            "materialise its labels and heads again"
        )
    columns = [table.classes.index(name) for name in names]
    return replace(table, classes=names, scores_NC=table.scores_NC[:, columns], labels_NC=table.labels_NC[:, columns])


def _scores(table: Predictions) -> NDArray[np.float64]:
    if table.origin.protocol in LOGIT_PROTOCOLS:
        return probabilities(table)
    scores_NC: NDArray[np.float64] = table.scores_NC.astype("float64")
    return scores_NC


def _name(table: Predictions) -> str:
    return f"{table.origin.method}/{table.origin.dataset}/{table.origin.slug}"


def _row(one: _Judged, metric: str, interval: Interval) -> dict[str, Any]:
    row = _plain(one, metric, interval.value, interval.n_classes, one.note)
    form = f"95% patient bootstrap, {interval.n_resamples} resamples"
    chance = math.nan if metric.endswith(GAIN_SUFFIX) else 0.0  # always sinus rhythm
    return row | {"low": interval.low, "high": interval.high, "interval": form, "chance": chance}


def _plain(one: _Judged, metric: str, value: float, n_finite: int, note: str, n_all: int | None = None) -> dict[str, Any]:
    n_undefined = (len(one.test.classes) if n_all is None else n_all) - n_finite
    people = {"n_records": len(one.test.record_id), "n_patients": len(set(one.test.patient_id.tolist()))}
    return metric_row(one.test.origin, metric, value, **people, n_classes=n_finite, n_undefined=n_undefined, note=note)
