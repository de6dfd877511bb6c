"""Metrics of transfer: rows of metrics.parquet from prediction tables, and the table of six directions beside published numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assets.scoring import GAIN, compare
from assets.transfer_tasks import COLUMNS, DIRECTIONS, LABEL_VARIANTS, PUBLISHED, PUBLISHED_SOURCE, Direction

if TYPE_CHECKING:
    from models.metrics.bootstrap import Interval, Metric
    from models.predictions import Predictions

ROW_COLUMNS = (
    *("dataset", "task", "source", "target", "method", "preset", "protocol", "arm", "fraction", "prompts", "seed"),
    *("metric", "value", "low", "high", "n_records", "n_patients", "n_classes", "n_undefined", "saw_test_patients", "interval", "note"),
)
"""Columns of metrics.parquet: those of an evaluation, where the task is a direction and the dataset the encoder's; and four more."""


def score_transfer(
    tables: Sequence[Predictions], test_folds: Mapping[str, tuple[int, ...]], seen: Mapping[str, int], n_resamples: int
) -> list[dict[str, Any]]:
    """Macro AUROC and AUPRC with 95 % patient intervals, the AUROC of every class, and the paired gain over the random twin.

    Args:
        tables: prediction tables, their tasks being names of directions.
        test_folds: of each dataset.
        seen: by slug, how many patients of the table were trained on.
        n_resamples: of patients.
    """
    from models.metrics.bootstrap import patient_bootstrap
    from models.metrics.classification import auroc_per_class

    rows: list[dict[str, Any]] = []
    twins = {_question(t): t for t in tables if t.origin.arm == "random_init"}
    metrics: tuple[Metric, Metric] = ("macro_auroc", "macro_auprc")
    for table in tables:
        direction = DIRECTIONS[table.origin.task]
        test = table.folds(test_folds[direction.target])
        about = {"saw_test_patients": seen[table.origin.slug], "note": _note(test, direction)}
        for metric in metrics:
            interval = patient_bootstrap(test.scores_NC, test.labels_NC, test.patient_id, n_resamples, 0, metric=metric)
            rows.append(_row(test, metric, interval) | about)
        for name, value in zip(test.classes, auroc_per_class(test.scores_NC, test.labels_NC), strict=True):
            defined = not math.isnan(value)
            rows.append(_plain(test, f"auroc:{name}", float(value), int(defined), int(not defined)) | about | {"note": ""})
        if test.origin.arm == "pretrained" and (twin := twins.get(_question(table))) is not None:
            interval = compare(table, twin, test_folds[direction.target], n_resamples=n_resamples)
            rows.append(_row(test, GAIN, interval) | about)
    return rows


def to_markdown(rows: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]) -> str:
    """The six directions in the published order: ours with intervals, then what others printed; then what was not judged, and why."""
    header = ["encoder", "how", "labels of csn", *(c.replace("_to_", " > ") for c in COLUMNS), "mean"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    macro = [r for r in rows if r["metric"] == "macro_auroc"]
    for key in dict.fromkeys((r["protocol"], r["prompts"], r["arm"]) for r in macro):
        own = {r["task"]: r for r in macro if (r["protocol"], r["prompts"], r["arm"]) == key}
        lines += _own_lines(key, own)
    for row in PUBLISHED:
        cells = [f"{100 * v:.2f}" for v in row.values]
        mean = f"{100 * sum(row.values) / len(row.values):.2f}"
        lines.append(f"| {row.model} (published) | {row.protocol} | published | {' | '.join(cells)} | {mean} |")
    lines += ["", f"Macro AUROC in percent over the classes that the source covers, 95 % patient intervals. Published: {PUBLISHED_SOURCE}."]
    if macro:
        lines.append(f"Test patients that were trained on: {max(r['saw_test_patients'] for r in macro)}.")
    lines += ["", *(f"- not judged, {name}: {reason}" for name, reason in skipped.items())] if skipped else []
    return "\n".join(lines) + "\n"


def _own_lines(key: tuple[str, str, str], own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    protocol, prompts, arm = key
    how = protocol.removeprefix("transfer_").replace("_", "-") + (f", prompts {prompts}" if prompts else "")
    method = next(iter(own.values()))
    lines = []
    for variant in LABEL_VARIANTS:
        if variant != LABEL_VARIANTS[0] and not any("csn" in name for name in own):
            continue
        found = [own.get(c.replace("csn", f"csn_{variant}")) for c in COLUMNS]
        cells = ["-" if r is None else _cell(r) for r in found]
        values = [r["value"] for r in found if r is not None and not math.isnan(r["value"])]
        mean = f"{100 * sum(values) / len(values):.2f}" if len(values) == len(COLUMNS) else "-"
        lines.append(f"| {method['method']} {method['preset']}, {arm} | {how} | {variant} | {' | '.join(cells)} | {mean} |")
    return lines


def _cell(row: Mapping[str, Any]) -> str:
    if math.isnan(row["value"]):
        return "undefined"
    return f"{100 * row['value']:.2f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def _note(test: Predictions, direction: Direction) -> str:
    from models.metrics.classification import auroc_per_class

    values = auroc_per_class(test.scores_NC, test.labels_NC)
    undefined = [c for c, v in zip(test.classes, values, strict=True) if math.isnan(v)]
    unasked = [c for c in direction.covers if c not in test.classes]
    notes = []
    if undefined:
        notes.append(f"left out, not defined on these records: {', '.join(undefined)}")
    if unasked:
        notes.append(f"no prompt, left out: {', '.join(unasked)}")
    if test.origin.dataset == direction.target:
        notes.append("the encoder was pretrained on the target's training folds")
    return "; ".join(notes)


def _question(table: Predictions) -> tuple[Any, ...]:
    return table.origin.task, table.origin.protocol, table.origin.prompts


def _row(test: Predictions, metric: str, interval: Interval) -> dict[str, Any]:
    form = f"95% patient bootstrap, {interval.n_resamples} resamples" + (
        ", scarce groups by strata" if interval.conditioning == "stratified" else ""
    )
    row = _plain(test, metric, interval.value, interval.n_classes, interval.n_undefined)
    return row | {"low": interval.low, "high": interval.high, "interval": form if interval.n_resamples else ""}


def _plain(test: Predictions, metric: str, value: float, n_classes: int, n_undefined: int) -> dict[str, Any]:
    """A row without an interval."""
    origin, direction = test.origin, DIRECTIONS[test.origin.task]
    return {
        "dataset": origin.dataset,
        "task": origin.task,
        "source": f"{direction.source}/{direction.source_task}",
        "target": f"{direction.target}/{direction.target_task}",
        "method": origin.method,
        "preset": origin.preset,
        "protocol": origin.protocol,
        "arm": origin.arm,
        "fraction": math.nan if origin.fraction is None else float(origin.fraction),
        "prompts": origin.prompts or "",
        "seed": origin.seed,
        "metric": metric,
        "value": value,
        "low": math.nan,
        "high": math.nan,
        "n_records": len(test.record_id),
        "n_patients": len(set(test.patient_id.tolist())),
        "n_classes": n_classes,
        "n_undefined": n_undefined,
        "interval": "",
        "note": "",
    }
