"""Check of evaluation/<method>: every metric lies where it can lie and can be computed again from a stored prediction table."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN
from data_checks.context import CheckContext, TableRules
from data_checks.head import check_tables, read_tables
from data_checks.suites import metrics_suite
from data_checks.tables import ROW_NAME, Kind, read_table

if TYPE_CHECKING:
    import pandas as pd

    from models.predictions import Origin, Predictions

METRICS_COLUMNS: dict[str, Kind] = {
    "dataset": "text",
    "task": "text",
    "method": "text",
    "preset": "text",
    "protocol": "text",
    "arm": "text",
    "fraction": "number",
    "prompts": "text",
    "seed": "integer",
    "metric": "text",
    "value": "number",
    "low": "number",
    "high": "number",
    "n_records": "integer",
    "n_patients": "integer",
    "n_classes": "integer",
    "n_undefined": "integer",
    "interval": "text",
    "note": "text",
}
RECOMPUTED_TO = 1e-6
INTERVAL_SLACK = 0.05
"""A percentile interval need not hold its point estimate; this far outside, value and interval are not of one table."""


def check_metrics(c: CheckContext) -> str:
    """Every metric lies where it can lie, in its interval, and macro and class AUROC are what the stored predictions give."""
    table, tables = read_table(c.output.path("metrics.parquet")), read_tables(c)
    check_tables(c, tables)
    if not tables and not table.num_rows:
        return "there is no prediction table and no metric: the dataset has none of the method's tasks"
    judged = {_question(t.origin): t for t in tables.values()}
    frame = c.validate(
        TableRules(
            "metrics.parquet",
            table,
            METRICS_COLUMNS,
            "metric",
            lambda: metrics_suite(c.dataset),
            lambda frame: _derive(frame, judged, c.dataset.split.test),
        )
    ).get("metrics.parquet")
    if frame is not None:
        covered = {_row_question(row) for row in frame.to_dict("records") if row["metric"] == "macro_auroc"}
        if silent := sorted(t.origin.slug for key, t in judged.items() if key not in covered):
            c.findings.fail("prediction tables without a macro AUROC", silent)
    return f"{table.num_rows} metrics of {len(tables)} prediction tables are as declared; AUROC values recomputed to {RECOMPUTED_TO:g}"


def _question(origin: Origin) -> tuple[Hashable, ...]:
    fraction = -1.0 if origin.fraction is None else round(float(origin.fraction), 6)
    return (origin.task, origin.method, origin.preset, origin.protocol, origin.arm, fraction, origin.prompts or "", origin.seed)


def _row_question(row: Mapping[Hashable, Any]) -> tuple[Hashable, ...]:
    fraction = -1.0 if math.isnan(row["fraction"]) else round(float(row["fraction"]), 6)
    return (row["task"], row["method"], row["preset"], row["protocol"], row["arm"], fraction, row["prompts"] or "", row["seed"])


def _derive(frame: pd.DataFrame, judged: Mapping[tuple[Hashable, ...], Predictions], test_folds: Sequence[int]) -> None:
    """Add what `metrics_suite` looks at, and name rows by what they measure."""
    rows = frame.to_dict("records")
    values = {question: auroc_by_metric(table, test_folds) for question, table in judged.items()}
    frame[ROW_NAME] = [_name(row) for row in rows]
    frame["has_table"] = [_row_question(row) in judged for row in rows]
    frame["recomputed"] = [_agrees(row, values) for row in rows]
    lowest = frame["metric"].map(lambda m: -1.0 if m == GAIN else 0.0)
    value, low, high = frame["value"], frame["low"], frame["high"]
    frame["in_range"] = value.isna() | ((value >= lowest) & (value <= 1))
    frame["ordered_interval"] = low.isna() | high.isna() | (low <= high)
    frame["near_interval"] = ~((value < low - INTERVAL_SLACK) | (value > high + INTERVAL_SLACK))


def _name(row: Mapping[Hashable, Any]) -> str:
    fraction = None if math.isnan(row["fraction"]) else f"{row['fraction']:g}"
    parts = [row["task"], row["protocol"], row["arm"], fraction, row["prompts"] or None, row["metric"]]
    return " ".join(str(p) for p in parts if p is not None)


def auroc_by_metric(table: Predictions, test_folds: Sequence[int]) -> dict[str, float]:
    """Macro AUROC on the test folds and the AUROC of each class, by metric name; NaN where undefined.

    Computed with scikit-learn, not with the code that wrote the metrics.
    """
    from sklearn.metrics import roc_auc_score

    test = table.folds(tuple(test_folds))
    values = {}
    for i, name in enumerate(test.classes):
        labels_N = test.labels_NC[:, i]
        defined = 0 < labels_N.sum() < len(labels_N)
        values[f"auroc:{name}"] = float(roc_auc_score(labels_N, test.scores_NC[:, i])) if defined else math.nan
    known = [v for v in values.values() if not math.isnan(v)]
    return values | {"macro_auroc": sum(known) / len(known) if known else math.nan}


def _agrees(row: Mapping[Hashable, Any], values: Mapping[tuple[Hashable, ...], Mapping[str, float]]) -> bool:
    """Whether a stored AUROC, or a gain in AUROC over the twin, is the recomputed one; True for other metrics."""
    question = _row_question(row)
    again = values.get(question, {})
    if row["metric"] == GAIN:
        twin = values.get(_row_question({**row, "arm": "random_init"}), {})
        expected = again.get("macro_auroc", math.nan) - twin.get("macro_auroc", math.nan)
    elif row["metric"] in again:
        expected = again[row["metric"]]
    else:
        return not str(row["metric"]).startswith(("macro_auroc", "auroc:"))
    if math.isnan(expected) or math.isnan(row["value"]):
        return math.isnan(expected) and math.isnan(row["value"])
    return bool(abs(expected - row["value"]) <= RECOMPUTED_TO)
