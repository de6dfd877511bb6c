"""Metrics of prediction tables: the rows of metrics.parquet, comparisons of two tables, and subgroups of patients.

Only test folds are judged; validation folds choose thresholds. Every macro value leaves out the classes that the test
records cannot define, and its row says how many they were and which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from models.errors import EinthovenError
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, LINEAR
from models.metrics.names import CHALLENGE_METRIC
from models.predictions import Origin, Predictions
from models.reconstruction_tables import DOWNSTREAM

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.metrics.bootstrap import Interval, Metric

LOGIT_PROTOCOLS = (LINEAR, ATTENTIVE, FINETUNE, FINETUNE_AFTER, "fused", "fused_image_only", *DOWNSTREAM)
"""Protocols whose scores are logits, so that a sigmoid or softmax makes probabilities; zero-shot scores are cosines and have none."""

AGE_BANDS = ((0.0, 40.0, "under 40"), (40.0, 60.0, "40 to 59"), (60.0, 75.0, "60 to 74"), (75.0, math.inf, "75 and over"))
HEADLINES = (
    *("macro_auroc", CHALLENGE_METRIC, "recall@1", "recall@5", "recall@10", "accuracy"),
    *("bleu_1", "bleu_4", "rouge_l", "meteor", "exact_match", "mae", "mse", "fid"),
)
"""What rows of the leaderboard are about."""

GAIN_SUFFIX = "_gain_over_random_init"
GAIN = f"macro_auroc{GAIN_SUFFIX}"
F1 = "macro_f1_at_validation_threshold"
SINGLE_LABEL = "single_label_macro_auroc"
SINGLE_LABEL_ORDER = ("NORM", "STTC", "MI", "HYP", "CD")
"""MoRE gives each record of PTB-XL one superclass, the first of these that it has; records without any are left out."""


class ScoringError(EinthovenError):
    """Prediction tables that cannot be judged, or not against each other."""


@dataclass(frozen=True)
class Person:
    """What subgroups are made of.

    Attributes:
        sex: "female", "male" or "unknown".
        age: years, or None where it is not known.
    """

    sex: str
    age: float | None


def score_table(
    predictions: Predictions, validation_folds: Sequence[int], test_folds: Sequence[int], seed: int = 0, n_resamples: int = 1000
) -> list[dict[str, Any]]:
    """All metrics of one prediction table, as rows of metrics.parquet.

    Macro AUROC, macro AUPRC and macro F1 at validation thresholds with 95 % patient intervals; macro calibration error and
    Brier score for protocols that give probabilities; `auroc:<class>` for every class, NaN where undefined. Of numbers their
    errors, see `assets.regression_scoring`.

    Raises:
        ScoringError: the table has no record of the test folds.
        MetricError: the table has labels that are neither 0 nor 1.
    """
    import numpy as np

    from models.metrics.bootstrap import patient_bootstrap
    from models.metrics.calibration import brier_per_class, calibration_error_per_class
    from models.metrics.classification import auroc_per_class, best_thresholds, calls

    test = _judged(predictions, test_folds)
    if test.numbers:
        from assets.regression_scoring import score_numbers

        return score_numbers(test, seed, n_resamples)
    per_class = auroc_per_class(test.scores_NC, test.labels_NC)
    missing = [c for c, value in zip(test.classes, per_class, strict=True) if np.isnan(value)]
    rows = []
    metrics: tuple[Metric, Metric] = ("macro_auroc", "macro_auprc")
    for metric in metrics:
        interval = patient_bootstrap(test.scores_NC, test.labels_NC, test.patient_id, n_resamples, seed, metric=metric)
        rows.append(_row(test, metric, interval, _about(interval, missing)))

    validation = ranked(predictions.folds(tuple(validation_folds)))
    thresholds = best_thresholds(validation.scores_NC, validation.labels_NC)
    usable = np.flatnonzero(~np.isnan(thresholds))
    yes_no = calls(test.scores_NC, thresholds)[:, usable]
    interval = patient_bootstrap(yes_no, test.labels_NC[:, usable], test.patient_id, n_resamples, seed, metric="macro_f1")
    interval = replace(interval, n_undefined=len(test.classes) - interval.n_classes)
    without = [c for i, c in enumerate(test.classes) if i not in set(usable.tolist()) or c in missing]
    rows.append(_row(test, F1, interval, _about(interval, without)))

    if test.origin.protocol == "zero_shot" and set(SINGLE_LABEL_ORDER) == set(test.classes):
        single = single_labels(test)
        if len(single.record_id):
            interval = patient_bootstrap(single.scores_NC, single.labels_NC, single.patient_id, n_resamples, seed)
            rows.append(_row(single, SINGLE_LABEL, interval, _about(interval, [])))
    if test.origin.kind == "single_label":
        rows += _of_the_likeliest(test, seed, n_resamples)
    if test.origin.protocol in LOGIT_PROTOCOLS:
        for name, values in (("macro_ece", calibration_error_per_class), ("macro_brier", brier_per_class)):
            rows.append(_plain(test, name, float(values(probabilities(test), test.labels_NC).mean()), len(test.classes), 0))
    for name, value in zip(test.classes, per_class, strict=True):
        rows.append(_plain(test, f"auroc:{name}", float(value), int(not np.isnan(value)), int(np.isnan(value))))
    return rows


def _of_the_likeliest(test: Predictions, seed: int, n_resamples: int) -> list[dict[str, Any]]:
    """Accuracy (with its interval), macro precision, recall and F1 of the likeliest class where exactly one holds, and those of each class."""
    import numpy as np

    from models.metrics.confusion import confusion, macro_scores
    from models.metrics.retrieval import mean_estimate

    true_N, called_N = test.labels_NC.argmax(axis=1), test.scores_NC.argmax(axis=1)
    count_CC = confusion(true_N, called_N, len(test.classes))
    rows = [_plain(test, name, value, len(test.classes), 0) for name, value in macro_scores(count_CC).items()]
    right = mean_estimate((true_N == called_N).astype(float), patient_ids=test.patient_id.tolist(), n=n_resamples, seed=seed)
    rows[0] |= {"low": right.low, "high": right.high, "interval": f"95% patient bootstrap, {n_resamples} resamples"}
    with np.errstate(invalid="ignore"):
        each = {"recall": np.diag(count_CC) / count_CC.sum(axis=1), "precision": np.diag(count_CC) / count_CC.sum(axis=0)}
    for name, values in each.items():
        rows += [_plain(test, f"{name}:{c}", float(v), int(v == v), int(v != v)) for c, v in zip(test.classes, values, strict=True)]
    return rows


def single_labels(predictions: Predictions) -> Predictions:
    """The records with a superclass, each with the first one of `SINGLE_LABEL_ORDER` alone."""
    import numpy as np

    columns = [predictions.classes.index(c) for c in SINGLE_LABEL_ORDER]
    held_NC = predictions.labels_NC[:, columns] == 1
    first_NC = (held_NC & (np.cumsum(held_NC, axis=1) == 1)).astype(np.int8)
    table = _take(predictions, np.flatnonzero(held_NC.any(axis=1)), columns)
    return replace(table, labels_NC=first_NC[held_NC.any(axis=1)])


def compare_arms(tables: Iterable[Predictions], test_folds: Sequence[int], seed: int = 0, n_resamples: int = 1000) -> list[dict[str, Any]]:
    """Paired gain of every pretrained table over its random-initialised twin, as rows of metrics.parquet.

    It is how much larger the macro AUROC is, or how much smaller the mean absolute error: above zero the encoder has learned
    something. A table without a twin gives no row.

    Raises:
        ScoringError: a table and its twin do not judge the same records with the same labels.
    """
    from assets.regression_scoring import error_gain

    arms = {(t.origin.arm, _question(t)): t for t in tables}
    rows = []
    for (arm, question), table in arms.items():
        twin = arms.get(("random_init", question))
        if arm != "pretrained" or twin is None:
            continue
        if table.numbers:
            rows.append(error_gain(*align(_judged(table, test_folds), _judged(twin, test_folds)), seed, n_resamples))
        else:
            interval = compare(table, twin, test_folds, seed=seed, n_resamples=n_resamples)
            test = _judged(table, test_folds)
            rows.append(_row(test, GAIN, interval, _about(interval, [])))
    return rows


def compare(
    first: Predictions,
    second: Predictions,
    test_folds: Sequence[int],
    metric: str = "macro_auroc",
    seed: int = 0,
    n_resamples: int = 1000,
) -> Interval:
    """Paired interval of first - second on the test folds, rows matched by record id.

    Raises:
        ScoringError: as `align`.
    """
    from models.metrics.bootstrap import paired_bootstrap
    from models.metrics.regression import paired_errors

    a, b = align(_judged(first, test_folds), _judged(second, test_folds))
    if a.numbers:
        return paired_errors(a.scores_NC[:, 0], b.scores_NC[:, 0], a.labels_NC[:, 0], a.patient_id, metric, n_resamples, seed)
    return paired_bootstrap(a.scores_NC, b.scores_NC, a.labels_NC, a.patient_id, n_resamples, seed, metric=cast("Metric", metric))


def align(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Both tables with rows in order of record id and columns in order of the first table's classes.

    Raises:
        ScoringError: they differ in records, classes, patients or labels; says in which and how many.
    """
    import numpy as np

    names = f"{_label(first)} and {_label(second)}"
    ours, theirs = set(first.record_id.tolist()), set(second.record_id.tolist())
    if ours != theirs:
        example = sorted(ours ^ theirs)[0]
        raise ScoringError(
            f"{names} do not judge the same records: {len(ours)} and {len(theirs)}, {len(ours & theirs)} in common, {example!r} is in one only; "
            "evaluate both on the same store and labels"
        )
    if set(first.classes) != set(second.classes):
        raise ScoringError(
            f"{names} differ in classes ({', '.join(sorted(set(first.classes) ^ set(second.classes)))}); evaluate both on the same labels"
        )
    columns = [second.classes.index(c) for c in first.classes]
    a = _take(first, np.argsort(first.record_id), list(range(len(columns))))
    b = _take(second, np.argsort(second.record_id), columns)
    for what, one, other in (("patient", a.patient_id, b.patient_id), ("labels", a.labels_NC, b.labels_NC)):
        differs = np.flatnonzero((one != other).reshape(len(one), -1).any(axis=1)) if len(one) else np.zeros(0, np.int64)
        if len(differs):
            raise ScoringError(
                f"{names} disagree on the {what} of {len(differs)} records, the first is {str(a.record_id[differs[0]])!r}; evaluate both on the same labels"
            )
    return a, b


def subgroups(record_ids: Iterable[str], people: Mapping[str, Person]) -> dict[str, NDArray[np.bool_]]:
    """Masks over records (N,) by sex and by age band, for example "sex: female" and "age: 40 to 59"; empty groups left out.

    A window "<recording>@<second>" is of its recording's patient.

    Raises:
        ScoringError: a record has no entry in `people`.
    """
    import numpy as np

    members: dict[str, list[int]] = {}
    ids = list(record_ids)
    for row, record_id in enumerate(ids):
        person = people.get(record_id) or people.get(record_id.rpartition("@")[0])
        if person is None:
            raise ScoringError(
                f"record {record_id!r} has no sex and age entry; pass one for every judged record (the store's index has them)"
            )
        for group in (f"sex: {person.sex}", f"age: {_band(person.age)}"):
            members.setdefault(group, []).append(row)
    masks = {}
    for group in sorted(members):
        masks[group] = np.zeros(len(ids), bool)
        masks[group][members[group]] = True
    return masks


def ranked(predictions: Predictions) -> Predictions:
    """A table with the scores by which its records are put in order, class by class.

    These are the scores that it holds. Where exactly one class holds for a record, logits mean something beside each other only:
    there it is the logarithm of their softmax.
    """
    from scipy.special import log_softmax

    if predictions.origin.kind != "single_label":
        return predictions
    return replace(predictions, scores_NC=log_softmax(predictions.scores_NC.astype("float64"), axis=1).astype("float32"))


def probabilities(predictions: Predictions) -> NDArray[np.float64]:
    """The scores (N, C) of a trained head as probabilities: the sigmoid of its logits, or their softmax where one class holds.

    Raises:
        ScoringError: the table's protocol gives no logits.
    """
    from scipy.special import expit, softmax

    if predictions.origin.protocol not in LOGIT_PROTOCOLS:
        raise ScoringError(
            f"{_label(predictions)} holds no logits, so it has no probabilities; logits come from {', '.join(LOGIT_PROTOCOLS)}"
        )
    logits_NC = predictions.scores_NC.astype("float64")
    found: NDArray[np.float64] = softmax(logits_NC, axis=1) if predictions.origin.kind == "single_label" else expit(logits_NC)
    return found


def _band(age: float | None) -> str:
    if age is None or math.isnan(age) or age < 0:
        return "unknown"
    return next(name for low, high, name in AGE_BANDS if low <= age < high)


def _judged(predictions: Predictions, test_folds: Sequence[int]) -> Predictions:
    test = predictions.folds(tuple(test_folds))
    if not len(test.record_id):
        held = ", ".join(str(f) for f in sorted(set(predictions.fold.tolist())))
        raise ScoringError(
            f"{_label(predictions)} has no record of the test folds {', '.join(map(str, test_folds))} (it has {held or 'none'}); evaluate again"
        )
    return ranked(test)


def _take(table: Predictions, rows: NDArray[np.int64], columns: list[int]) -> Predictions:
    classes = tuple(table.classes[c] for c in columns)
    scores, labels = table.scores_NC[rows][:, columns], table.labels_NC[rows][:, columns]
    return Predictions(table.origin, classes, table.record_id[rows], table.patient_id[rows], table.fold[rows], scores, labels)


def _label(table: Predictions) -> str:
    return f"{table.origin.method}/{table.origin.dataset}/{table.origin.slug}"


def _question(table: Predictions) -> tuple[Any, ...]:
    o = table.origin
    return (o.dataset, o.task, o.method, o.preset, o.protocol, o.fraction, o.prompts, o.channels, o.split, o.seed)


def _about(interval: Interval, missing: list[str]) -> str:
    notes = []
    if missing:
        notes.append(f"left out, not defined on these records: {', '.join(missing)}")
    if interval.n_redrawn:
        notes.append(f"{interval.n_redrawn} draws without every class were redrawn")
    return "; ".join(notes)


def _row(test: Predictions, metric: str, interval: Interval, note: str) -> dict[str, Any]:
    form = f"95% patient bootstrap, {interval.n_resamples} resamples" + (
        ", scarce groups by strata" if interval.conditioning == "stratified" else ""
    )
    row = _plain(test, metric, interval.value, interval.n_classes, interval.n_undefined)
    return row | {"low": interval.low, "high": interval.high, "interval": form if interval.n_resamples else "", "note": note}


def _plain(test: Predictions, metric: str, value: float, n_classes: int, n_undefined: int) -> dict[str, Any]:
    """A row without an interval."""
    people = {"n_records": len(test.record_id), "n_patients": len(set(test.patient_id.tolist()))}
    chance = 0.5 if metric in ("macro_auroc", SINGLE_LABEL) or metric.startswith("auroc:") else math.nan
    return metric_row(test.origin, metric, value, **people, n_classes=n_classes, n_undefined=n_undefined, chance=chance)


def metric_row(origin: Origin, metric: str, value: float, **entries: Any) -> dict[str, Any]:
    """A row of metrics.parquet; `entries` fill the columns that are not about the origin."""
    row: dict[str, Any] = {
        "dataset": origin.dataset,
        "task": origin.task,
        "method": origin.method,
        "preset": origin.preset,
        "protocol": origin.protocol,
        "arm": origin.arm,
        "fraction": math.nan if origin.fraction is None else float(origin.fraction),
        "prompts": origin.prompts or "",
        "channels": origin.channels or "",
        "split": origin.split or "",
        "direction": "",
        "seed": origin.seed,
        "metric": metric,
        "value": value,
        "low": math.nan,
        "high": math.nan,
        "chance": math.nan,
        "unit": "",
        "n_records": 0,
        "n_patients": 0,
        "n_classes": 0,
        "n_undefined": 0,
        "interval": "",
        "note": "",
    }
    return row | entries
