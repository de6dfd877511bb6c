"""Metrics of reconstructed leads as rows of metrics.parquet, with intervals over patients.

`mse` (mV^2), `mae` (mV) and `pearson` are means over the missing leads, `mse:V2` and the like are those of a lead; chance is what a zero
output has. `limb_residual` is by how much limb leads miss what electrodes make true of them, `fid` the Fréchet distance of the
reconstructed test records from the real ones, which has no interval. Gains are paired, larger is better. Of the classifier that is
shown reconstructions there are differences to what it says of real leads, and sensitivity, specificity and F1 at the threshold of best
balanced accuracy on the validation folds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN_SUFFIX, ScoringError, compare, metric_row, probabilities
from models.predictions import Predictions
from models.reconstruction_tables import DOWNSTREAM, LINEAR_ARM, REAL, ZERO_ARM, Reconstructions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.metrics.bootstrap import Interval

ERRORS = ("mse", "mae", "pearson")
UNITS: Mapping[str, str] = {"mse": "mV^2", "mae": "mV", "pearson": ""}
RESIDUAL, DISTANCE = "limb_residual", "fid"
LINEAR_GAIN = "_gain_over_linear_regression"
TO_REAL = "_difference_to_real"
THRESHOLDS = 99
"""Thresholds of probability that are tried: 0.01 to 0.99."""


def score_reconstructions(
    tables: Iterable[Reconstructions], test_folds: Sequence[int], seed: int = 0, n_resamples: int = 1000
) -> list[dict[str, Any]]:
    """Errors of every arm on the test folds, and paired gains of the encoder over its twin and over linear regression.

    Raises:
        ScoringError: a table has no record of the test folds, or two are not about the same records and leads.
    """
    held = {t.origin.arm: t.folds(test_folds) for t in tables}
    if not held:
        return []
    first = next(iter(held.values()))
    if not first.record_id:
        raise ScoringError(f"{first.origin.slug} has no record of the test folds; evaluate again")
    if odd := [t.origin.slug for t in held.values() if (t.record_id, t.missing) != (first.record_id, first.missing)]:
        raise ScoringError(f"{', '.join(odd)} and {first.origin.slug} are not about the same records and leads; evaluate again")
    weights_RN = patient_weights(first.patient_id, n_resamples, seed)
    rows: list[dict[str, Any]] = []
    for arm, table in held.items():
        about = _About(table, n_resamples)
        for name in ERRORS:
            values_NM = getattr(table.errors, f"{name}_NM")
            chance_NM = getattr(held[ZERO_ARM].errors, f"{name}_NM") if ZERO_ARM in held and name != "pearson" else None
            rows += about.rows(name, values_NM, weights_RN, chance_NM)
        rows.append(about.row(RESIDUAL, *_mean(table.errors.residual_NI, weights_RN), unit="mV"))
        if table.distance is not None:
            rows.append(about.row(DISTANCE, table.distance.value, note=table.distance.words))
        for suffix, other in ((GAIN_SUFFIX, "random_init"), (LINEAR_GAIN, LINEAR_ARM)):
            if arm == "pretrained" and other in held:
                for name in ("mse", "mae"):
                    gain_NM = getattr(held[other].errors, f"{name}_NM") - getattr(table.errors, f"{name}_NM")
                    rows.append(about.row(f"{name}{suffix}", *_mean(gain_NM, weights_RN), unit=UNITS[name]))
    return rows


def patient_weights(patient_ids: Sequence[str], n: int, seed: int) -> NDArray[np.float64]:
    """How often each record counts in each resample of patients, (R, N)."""
    import numpy as np

    from models.metrics.bootstrap import draw_with_replacement

    names, patient_N = np.unique(np.asarray(patient_ids), return_inverse=True)
    drawn_RK = draw_with_replacement(np.random.default_rng(seed), np.zeros(len(names), np.int64), n)
    weights_RN: NDArray[np.float64] = np.take(drawn_RK, patient_N, axis=1).astype(np.float64)
    return weights_RN


def _lead_means(values_NM: NDArray[np.float64], weights_RN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of each lead over the records where it is defined, by how often they count, (R, M); NaN where there is none."""
    import numpy as np

    defined_NM = np.isfinite(values_NM)
    with np.errstate(invalid="ignore", divide="ignore"):
        means_RM: NDArray[np.float64] = (weights_RN @ np.where(defined_NM, values_NM, 0.0)) / (weights_RN @ defined_NM)
    return means_RM


def _mean(values_NM: NDArray[np.float64], weights_RN: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean over leads of their means, with the ends of its interval; NaN where no lead is defined."""
    import numpy as np

    leads = np.isfinite(values_NM).any(axis=0)
    if not leads.any():
        return math.nan, math.nan, math.nan
    value = float(_lead_means(values_NM[:, leads], np.ones((1, len(values_NM)))).mean())
    low, high = np.nanpercentile(_lead_means(values_NM[:, leads], weights_RN).mean(axis=1), (2.5, 97.5))
    return value, float(low), float(high)


class _About:
    """What rows about one table have in common."""

    def __init__(self, table: Reconstructions, n_resamples: int) -> None:
        self._table = table
        self._people = {"n_records": len(table.record_id), "n_patients": len(set(table.patient_id))}
        self._interval = f"95% patient bootstrap, {n_resamples} resamples"

    def row(self, metric: str, value: float, low: float = math.nan, high: float = math.nan, **entries: Any) -> dict[str, Any]:
        interval = "" if math.isnan(low) else self._interval
        return metric_row(self._table.origin, metric, value, **{**self._people, "low": low, "high": high, "interval": interval, **entries})

    def rows(
        self, name: str, values_NM: NDArray[np.float64], weights_RN: NDArray[np.float64], chance_NM: NDArray[np.float64] | None
    ) -> list[dict[str, Any]]:
        """The mean over missing leads, then each lead."""
        import numpy as np

        found = []
        for m, lead in enumerate(("", *self._table.missing)):
            columns = slice(None) if not lead else slice(m - 1, m)
            undefined = int((~np.isfinite(values_NM[:, columns])).sum())
            entries: dict[str, Any] = {
                "unit": UNITS[name],
                "chance": math.nan if chance_NM is None else float(chance_NM[:, columns].mean()),
                "n_undefined": undefined,
                "note": f"{undefined} flat leads of records have no correlation and are left out" if undefined else "",
            }
            found.append(self.row(f"{name}:{lead}" if lead else name, *_mean(values_NM[:, columns], weights_RN), **entries))
        return found


def score_downstream(
    tables: Iterable[Predictions], validation_folds: Sequence[int], test_folds: Sequence[int], seed: int = 0, n_resamples: int = 1000
) -> list[dict[str, Any]]:
    """What the classifier loses by reconstructed leads: paired differences to real ones, and calls at a validation threshold.

    Raises:
        ScoringError: tables are not about the same records and labels.
    """
    asked = [t for t in tables if t.origin.protocol in DOWNSTREAM]
    real = {t.origin.task: t for t in asked if t.origin.protocol == REAL}
    rows: list[dict[str, Any]] = []
    for table in asked:
        other = real.get(table.origin.task)
        rows += operating_points(table, validation_folds, test_folds)
        if other is None or other is table:
            continue
        for metric in ("macro_auroc", "macro_auprc"):
            gap = compare(table, other, test_folds, metric=metric, seed=seed, n_resamples=n_resamples)
            rows.append(_difference(table, test_folds, f"{metric}{TO_REAL}", gap))
    return rows


def _difference(table: Predictions, test_folds: Sequence[int], metric: str, gap: Interval) -> dict[str, Any]:
    about = _people(table.folds(tuple(test_folds)))
    entries = {"low": gap.low, "high": gap.high, "n_classes": gap.n_classes, "n_undefined": gap.n_undefined}
    return metric_row(
        table.origin, metric, gap.value, **about, **entries, interval=f"95% paired patient bootstrap, {gap.n_resamples} resamples"
    )


def operating_points(table: Predictions, validation_folds: Sequence[int], test_folds: Sequence[int]) -> list[dict[str, Any]]:
    """AUPRC of each class, and its sensitivity, specificity and F1 where balanced accuracy is best on the validation folds.

    The threshold is the lowest of the best of 0.01 to 0.99; a class that lacks an outcome in either part is left out of the means.
    """
    import numpy as np

    from models.metrics.classification import auprc_per_class

    validation, test = (table.folds(tuple(folds)) for folds in (validation_folds, test_folds))
    chances, truths = [probabilities(t) for t in (validation, test)], [t.labels_NC == 1 for t in (validation, test)]
    values: dict[str, list[float]] = {"sensitivity": [], "specificity": [], "f1": []}
    for c in range(len(table.classes)):
        defined = all(0 < truth_NC[:, c].sum() < len(truth_NC) for truth_NC in truths)
        threshold = best_balanced_threshold(chances[0][:, c], truths[0][:, c]) if defined else math.nan
        found = _calls(chances[1][:, c] >= threshold, truths[1][:, c]) if defined else (math.nan,) * 3
        for name, value in zip(values, found, strict=True):
            values[name].append(value)
    per_class = {"auprc": auprc_per_class(test.scores_NC, test.labels_NC).tolist(), **values}
    rows, people = [], _people(test)
    for name, each in per_class.items():
        undefined = int(np.isnan(each).sum())
        for label, value in zip(table.classes, each, strict=True):
            rows.append(metric_row(table.origin, f"{name}:{label}", value, **people, n_classes=int(not math.isnan(value))))
        if name != "auprc":  # its mean stands among the metrics of every table
            mean = float(np.nanmean(each)) if undefined < len(each) else math.nan
            counts = {"n_classes": len(each) - undefined, "n_undefined": undefined}
            note = "threshold of best balanced accuracy on the validation folds"
            rows.append(metric_row(table.origin, f"macro_{name}_at_balanced_threshold", mean, **people, **counts, note=note))
    return rows


def best_balanced_threshold(chance_N: NDArray[np.float64], true_N: NDArray[np.bool_]) -> float:
    """The lowest of 0.01, 0.02 ... 0.99 whose calls have the best mean of sensitivity and specificity."""
    import numpy as np

    threshold_S = np.arange(1, THRESHOLDS + 1) / (THRESHOLDS + 1)
    called_SN = chance_N >= threshold_S[:, None]
    balanced_S = called_SN[:, true_N].mean(axis=1) + (~called_SN[:, ~true_N]).mean(axis=1)
    return float(threshold_S[int(balanced_S.argmax())])


def _calls(called_N: NDArray[np.bool_], true_N: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Sensitivity, specificity and F1."""
    hits, false = int((called_N & true_N).sum()), int((called_N & ~true_N).sum())
    return hits / int(true_N.sum()), 1 - false / int((~true_N).sum()), 2 * hits / (hits + false + int(true_N.sum()))


def _people(table: Predictions) -> dict[str, int]:
    return {"n_records": len(table.record_id), "n_patients": len(set(table.patient_id.tolist()))}
