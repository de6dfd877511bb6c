"""The rows of a benchmark entry: what is said of one prediction table on the test folds, under the benchmark's rules.

Macro values run over every class of the task. A class without a positive or a negative test record makes them undefined: that is
refused, unless undefined classes are to be skipped; then each row says how many were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assets.scoring import metric_row, ranked
from models.errors import EinthovenError
from models.predictions import Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.metrics.bootstrap import Interval, Metric

AUROC, AUPRC = "macro_auroc", "macro_auprc"
RECORDS_90 = "macro_auroc_90_by_record"
"""Macro AUROC with the interval of the benchmark's printed table: 5th and 95th percentile over resampled records."""

F_MAX = "sample_f_at_validation_f_max"
"""Sample-centric F at the one threshold that gives F_max on the validation folds."""

N_RESAMPLES = 1000


class BenchmarkError(EinthovenError):
    """Something that the benchmark's rules do not allow to be judged, or to be compared."""


def require_defined(labels_NC: NDArray[Any], classes: Sequence[str], what: str, skip_undefined: bool) -> None:
    """Refuse test records on which the macro mean is undefined.

    Raises:
        BenchmarkError: a class has no positive or no negative record, and is not to be skipped.
    """
    import numpy as np

    positives = np.asarray(labels_NC).sum(axis=0)
    undefined = [c for c, p in zip(classes, positives, strict=True) if p in (0, len(labels_NC))]
    if not len(labels_NC) or len(undefined) == len(classes):
        raise BenchmarkError(
            f"{what}: no class has both a positive and a negative among the {len(labels_NC)} test records; nothing can be judged"
        )
    if undefined and not skip_undefined:
        raise BenchmarkError(
            f"{what}: {len(undefined)} of {len(classes)} classes have no positive or no negative among the {len(labels_NC)} test records "
            f"({', '.join(undefined[:10])}), so the benchmark's macro AUROC is undefined; use all records of the dataset, or --skip-undefined "
            "for an exploratory number that leaves them out and says so"
        )


def benchmark_rows(
    table: Predictions,
    validation_folds: Sequence[int],
    test_folds: Sequence[int],
    *,
    skip_undefined: bool = False,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> list[dict[str, Any]]:
    """All numbers of a table, as rows of metrics.parquet.

    Raises:
        BenchmarkError: a class is undefined on the test records and is not to be skipped.
    """
    import numpy as np

    from models.metrics.bootstrap import patient_bootstrap
    from models.metrics.classification import auroc_per_class

    table = ranked(table)
    test = table.folds(tuple(test_folds))
    require_defined(test.labels_NC, test.classes, f"task {table.origin.task}", skip_undefined)
    per_class = auroc_per_class(test.scores_NC, test.labels_NC)
    missing = [c for c, value in zip(test.classes, per_class, strict=True) if np.isnan(value)]
    rows = []
    metrics: tuple[Metric, Metric] = ("macro_auroc", "macro_auprc")
    for metric in metrics:
        interval = patient_bootstrap(test.scores_NC, test.labels_NC, test.patient_id, n_resamples, seed, metric=metric)
        rows.append(_interval_row(test, metric, interval, missing) | {"interval": f"95% patient bootstrap, {_drawn(interval)}"})
    by_record = patient_bootstrap(test.scores_NC, test.labels_NC, test.record_id, n_resamples, seed, percentiles=(5, 95))
    form = f"90% record bootstrap, {_drawn(by_record)}"
    rows.append(_interval_row(test, RECORDS_90, by_record, missing) | {"interval": form, "printed": by_record.printed()})
    rows.append(_f_row(table.folds(tuple(validation_folds)), test))
    for name, value in zip(test.classes, per_class, strict=True):
        defined = int(not np.isnan(value))
        rows.append(_row(test, f"auroc:{name}", float(value), n_classes=defined, n_undefined=1 - defined, chance=0.5))
    return rows


def _f_row(validation: Predictions, test: Predictions) -> dict[str, Any]:
    """Sample-centric F; without a value where nobody scored the validation folds, on which its threshold would be chosen."""
    from models.metrics.fmax import best_sample_threshold, sample_f_at

    if not validation.labels_NC.any():
        return _row(test, F_MAX, float("nan"), note="no scored validation records on which a threshold could be chosen")
    best, threshold = best_sample_threshold(validation.scores_NC, validation.labels_NC)
    value = sample_f_at(test.scores_NC, test.labels_NC, threshold)
    note = f"threshold {threshold:.4g} chosen on {len(validation.record_id)} validation records, where F is {best:.3f}"
    return _row(test, F_MAX, value, n_classes=len(test.classes), note=note)


def _interval_row(test: Predictions, metric: str, interval: Interval, missing: list[str]) -> dict[str, Any]:
    notes = [f"left out, not defined on these records: {', '.join(missing)}"] if missing else []
    if interval.n_redrawn:
        notes.append(f"{interval.n_redrawn} draws without every class were redrawn")
    chance = float("nan") if metric == AUPRC else 0.5
    counts = {"n_classes": interval.n_classes, "n_undefined": interval.n_undefined}
    return _row(test, metric, interval.value, low=interval.low, high=interval.high, chance=chance, note="; ".join(notes), **counts)


def _drawn(interval: Interval) -> str:
    return f"{interval.n_resamples} resamples" + (", scarce groups by strata" if interval.conditioning == "stratified" else "")


def _row(test: Predictions, metric: str, value: float, **entries: Any) -> dict[str, Any]:
    people = {"n_records": len(test.record_id), "n_patients": len(set(test.patient_id.tolist()))}
    return metric_row(test.origin, metric, value, **(people | {"printed": ""} | entries))
