"""Check of evaluation/<method>: every metric lies where it can lie and can be computed again from a stored table."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assets.answer_scoring import FLAT_LINE_GAIN
from assets.rank_scoring import RANK_METRICS
from assets.reconstruction_scoring import LINEAR_GAIN, TO_REAL
from assets.scoring import GAIN_SUFFIX
from assets.training import task_homes
from data_checks.context import CheckContext, TableRules
from data_checks.head import check_tables, read_tables
from data_checks.judged import Values, answer_values, rank_values, read_judged, report_values, same
from data_checks.leads import lead_values, read_leads
from data_checks.suites import metrics_suite
from data_checks.tables import ROW_NAME, Kind, read_table
from models.metrics.names import CHALLENGE_METRIC, LOWER_IS_BETTER, NUMBER_METRICS
from models.reconstruction_tables import LINEAR_ARM, REAL
from models.registry import get_spec

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
EVALUATION_COLUMNS: dict[str, Kind] = METRICS_COLUMNS | {"channels": "text", "direction": "text", "chance": "number", "unit": "text"}
RECOMPUTED_TO = 1e-6
_OTHER_ARMS = {GAIN_SUFFIX: "random_init", LINEAR_GAIN: LINEAR_ARM}
"""What a gain is over, by how its metric's name ends."""

ONE_NUMBER = 1e-6
"""Numbers with a standard deviation up to here differ by the rounding of float32 alone, so nothing is correlated with them."""

INTERVAL_SLACK = 0.05
"""A percentile interval need not hold its point estimate; this far outside, value and interval are not of one table."""


def check_metrics(c: CheckContext) -> str:
    """Every metric lies where it can lie, in its interval, and AUROC, recalls, scores of reports and exact matches are what the stored tables give."""
    table, tables = read_table(c.output.path("metrics.parquet")), read_tables(c)
    check_tables(c, tables)
    ranks, reports, answers = read_judged(c)
    if not tables and not ranks and not reports and not answers and not table.num_rows:
        return "there is no table and no metric: the dataset has none of the method's tasks"
    homes = task_homes(get_spec(c.output.key.parts[1]), c.dataset)
    judged: dict[tuple[Hashable, ...], Values] = {}
    for t in tables.values():
        split = homes[t.origin.task][0].split if t.origin.task in homes else c.dataset.split
        values = (error_by_metric if t.numbers else auroc_by_metric)(t, split.test)
        judged[_question(t.origin)] = {("", name): value for name, value in values.items()}
    judged |= {_question(r.origin): rank_values(r, c.dataset.split.test) for r in ranks}
    judged |= {_question(r.origin): report_values(r) for r in reports}
    judged |= {_question(t.origin): answer_values(t, answers, c.dataset.split.test) for t in answers}
    leads = read_leads(c)
    judged |= {_question(t.origin): lead_values(t, c.dataset.split.test) for t in leads}
    rules = TableRules(
        "metrics.parquet", table, EVALUATION_COLUMNS, "metric", lambda: metrics_suite(c.dataset), lambda frame: _derive(frame, judged)
    )
    frame = c.validate(rules).get("metrics.parquet")
    if frame is not None:
        _check_covered(c, frame, judged)
    n = len(tables) + len(ranks) + len(reports) + len(answers) + len(leads)
    return f"{table.num_rows} metrics of {n} tables are as declared; AUROC, recalls, scores of reports, exact matches and errors recomputed to {RECOMPUTED_TO:g}"


def _check_covered(c: CheckContext, frame: pd.DataFrame, judged: Mapping[tuple[Hashable, ...], Values]) -> None:
    """What stands in a table must stand among the metrics too, or a bad number could be left out."""
    held = {(_row_question(row), row["direction"], row["metric"]) for row in frame.to_dict("records")}
    for question, values in judged.items():
        wanted = [(d, m) for d, m in values if not m.startswith("auroc:")]
        if silent := [f"{d} {m}".strip() for d, m in wanted if (question, d, m) not in held]:
            task, _, _, protocol, arm, *_ = question
            c.findings.fail(f"tables without their metrics: {task} {protocol} {arm} lacks {', '.join(silent)}")


def _question(origin: Origin) -> tuple[Hashable, ...]:
    fraction = -1.0 if origin.fraction is None else round(float(origin.fraction), 6)
    shown = (fraction, origin.prompts or "", origin.channels or "", origin.seed)
    return (origin.task, origin.method, origin.preset, origin.protocol, origin.arm, *shown)


def _row_question(row: Mapping[Hashable, Any]) -> tuple[Hashable, ...]:
    fraction = -1.0 if math.isnan(row["fraction"]) else round(float(row["fraction"]), 6)
    shown = (fraction, row["prompts"] or "", row["channels"] or "", row["seed"])
    return (row["task"], row["method"], row["preset"], row["protocol"], row["arm"], *shown)


def _derive(frame: pd.DataFrame, judged: Mapping[tuple[Hashable, ...], Values]) -> None:
    """Add what `metrics_suite` looks at, and name rows by what they measure."""
    rows = frame.to_dict("records")
    frame[ROW_NAME] = [_name(row) for row in rows]
    frame["has_table"] = [_row_question(row) in judged for row in rows]
    frame["recomputed"] = [_agrees(row, judged) for row in rows]
    value, low, high = frame["value"], frame["low"], frame["high"]
    of = frame["metric"].str.removesuffix(GAIN_SUFFIX).str.removesuffix(LINEAR_GAIN).str.partition(":")[0]
    gains, errors = frame["metric"].str.endswith((GAIN_SUFFIX, FLAT_LINE_GAIN, LINEAR_GAIN, TO_REAL)), of.isin(LOWER_IS_BETTER)
    challenge = of == CHALLENGE_METRIC
    places, free = frame["metric"].isin(RANK_METRICS), (errors & gains) | (of == "r2") | challenge
    lowest = (places - 1.0 * (gains | (of == "pearson"))).mask(free, -math.inf)
    frame["in_range"] = value.isna() | ((value >= lowest) & (places | errors | (challenge & gains) | (value <= 1)))
    frame["ordered_interval"] = low.isna() | high.isna() | (low <= high)
    slack = INTERVAL_SLACK * (value.abs() + (high - low).where(errors | free, 0.0)).where(places | errors | free, 1.0) + places
    frame["near_interval"] = ~((value < low - slack) | (value > high + slack))


def _name(row: Mapping[Hashable, Any]) -> str:
    fraction = None if math.isnan(row["fraction"]) else f"{row['fraction']:g}"
    shown = [row[column] or None for column in ("prompts", "channels", "direction")]
    parts = [row["task"], row["protocol"], row["arm"], fraction, *shown, row["metric"]]
    return " ".join(str(p) for p in parts if p is not None)


def auroc_by_metric(table: Predictions, test_folds: Sequence[int]) -> dict[str, float]:
    """Macro AUROC on the test folds and the AUROC of each class, by metric name; NaN where undefined.

    Computed with scikit-learn, not with the code that wrote the metrics.
    """
    from scipy.special import logsumexp
    from sklearn.metrics import roc_auc_score

    test = table.folds(tuple(test_folds))
    scores_NC = test.scores_NC.astype("float64")
    if table.origin.kind == "single_label":
        # Of one class against the rest, by its share among the classes; its logit alone means nothing.
        scores_NC = scores_NC - logsumexp(scores_NC, axis=1, keepdims=True)
    values = {}
    for i, name in enumerate(test.classes):
        labels_N = test.labels_NC[:, i]
        defined = 0 < labels_N.sum() < len(labels_N)
        values[f"auroc:{name}"] = float(roc_auc_score(labels_N, scores_NC[:, i])) if defined else math.nan
    known = [v for v in values.values() if not math.isnan(v)]
    return values | {"macro_auroc": sum(known) / len(known) if known else math.nan}


def error_by_metric(table: Predictions, test_folds: Sequence[int]) -> dict[str, float]:
    """Errors of numbers on the test folds by metric name; NaN where undefined. Computed with scikit-learn and scipy, as above."""
    from scipy.stats import pearsonr
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    test = table.folds(tuple(test_folds))
    predicted_N, true_N = (values_NC[:, 0].astype("float64") for values_NC in (test.scores_NC, test.labels_NC))
    varies = bool(true_N.std() > ONE_NUMBER)
    follows = varies and bool(predicted_N.std() > ONE_NUMBER * max(1.0, abs(predicted_N.mean())))
    return {
        "mae": float(mean_absolute_error(true_N, predicted_N)),
        "rmse": float(root_mean_squared_error(true_N, predicted_N)),
        "r2": float(r2_score(true_N, predicted_N)) if varies else math.nan,
        "pearson": float(pearsonr(true_N, predicted_N)[0]) if follows else math.nan,
    }


def _agrees(row: Mapping[Hashable, Any], judged: Mapping[tuple[Hashable, ...], Values]) -> bool:
    """Whether a stored metric, or a gain over the twin, is the recomputed one; True for metrics that are not computed again."""
    metric, direction = str(row["metric"]), str(row["direction"])
    again = judged.get(_row_question(row), {})
    suffix = next((s for s in _OTHER_ARMS if metric.endswith(s)), None)
    if suffix is not None:
        key = (direction, metric.removesuffix(suffix))
        twin = judged.get(_row_question({**row, "arm": _OTHER_ARMS[suffix]}), {})
        if key not in again and not key[1].startswith("macro_auroc"):
            return True
        gain = again.get(key, math.nan) - twin.get(key, math.nan)
        return same(-gain if key[1] in LOWER_IS_BETTER else gain, row["value"], RECOMPUTED_TO)
    if metric.startswith("macro_auroc") and metric.endswith(TO_REAL):
        real = judged.get(_row_question({**row, "protocol": REAL, "arm": "pretrained"}), {})
        return same(again.get(("", "macro_auroc"), math.nan) - real.get(("", "macro_auroc"), math.nan), row["value"], RECOMPUTED_TO)
    if (direction, metric) in again:
        return same(again[direction, metric], row["value"], RECOMPUTED_TO)
    return metric not in NUMBER_METRICS and not metric.startswith(("macro_auroc", "auroc:", "recall@"))
