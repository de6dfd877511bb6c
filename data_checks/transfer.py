"""Check of transfer/<method>: what is judged are the target's test records, nobody of whom was trained on, and numbers follow from tables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from assets.outputs import Key, Output
from assets.scoring import GAIN
from assets.transfer import count_seen, patients_by_part, trained_patients
from assets.transfer_tasks import DIRECTIONS
from data_checks.context import CheckContext, TableRules
from data_checks.evaluation import INTERVAL_SLACK, METRICS_COLUMNS, RECOMPUTED_TO, auroc_by_metric
from data_checks.head import ARMS, read_tables
from data_checks.suites import metrics_suite
from data_checks.tables import ROW_NAME, Kind, read_table
from models.predictions import Origin, Predictions

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

TRANSFER_COLUMNS: dict[str, Kind] = METRICS_COLUMNS | {"source": "text", "target": "text", "saw_test_patients": "integer"}

Question = tuple[Hashable, ...]


def check_transfer(c: CheckContext) -> str:
    """Tables hold the target's test records with their true labels in both arms, no patient of them was trained on, and metrics follow."""
    tables = read_tables(c)
    listed, held = sorted(c.output.facts["tables"]), sorted(path.name for path in tables)
    if listed != held:
        c.findings.fail(f"the manifest lists the tables {', '.join(listed) or 'none'}; in the folder are {', '.join(held) or 'none'}")
    known = {path: table for path, table in tables.items() if _has_direction(c, path, table)}
    sources = _Sources(c)
    for path, table in known.items():
        _check_table(c, path.name, table, sources)
    _check_arms(c, list(known.values()))
    _check_directions(c, list(known.values()))
    seen = _count_seen(c, known)
    metrics = read_table(c.output.path("metrics.parquet"))
    if not known and not metrics.num_rows:
        return "no direction could be judged, and every one says why"
    _check_metrics(c, metrics, list(known.values()), seen)
    return f"{metrics.num_rows} metrics of {len(known)} prediction tables are as declared; no test patient was trained on"


class _Sources:
    """Records and labels of the datasets that are judged, of the versions that were read."""

    def __init__(self, c: CheckContext) -> None:
        self._c = c
        self._held: dict[Key, pd.DataFrame] = {}

    def records(self, dataset: str) -> pd.DataFrame:
        return self._frame(Key(("raw", dataset)), "records.parquet")

    def labels(self, dataset: str, task: str) -> pd.DataFrame:
        return self._frame(Key(("labels", dataset), task), "labels.parquet")

    def _frame(self, key: Key, name: str) -> pd.DataFrame:
        if key not in self._held:
            self._held[key] = read_table(self._c.origin(key).path(name)).to_pandas().set_index("record_id")
        return self._held[key]


def _has_direction(c: CheckContext, path: Path, table: Predictions) -> bool:
    origin = table.origin
    expected = (c.dataset.name, c.output.key.parts[1], path.stem)
    if (origin.dataset, origin.method, origin.slug) != expected:
        c.findings.fail(f"{path.name} says it holds {origin.slug} of method {origin.method!r} on {origin.dataset!r}")
    if origin.task not in DIRECTIONS:
        c.findings.fail(f"{path.name} is about {origin.task!r}, which is no direction")
        return False
    return True


def _check_table(c: CheckContext, name: str, table: Predictions, sources: _Sources) -> None:
    import numpy as np

    from assets.dataset import get_dataset

    direction = DIRECTIONS[table.origin.task]
    records = sources.records(direction.target)
    known = np.isin(table.record_id, records.index.to_numpy(dtype=np.str_))
    if not known.all():
        c.findings.fail(f"{name}: records that {direction.target} does not have", table.record_id[~known])
    ids = table.record_id[known]
    own = records.loc[ids.tolist()]
    outside = ~own["fold"].isin(get_dataset(direction.target).split.test).to_numpy()
    if outside.any():
        c.findings.fail(f"{name}: records outside the test folds of {direction.target} are judged", ids[outside])
    for what, stated, true in (
        ("fold", table.fold[known], own["fold"].to_numpy()),
        ("patient", table.patient_id[known], own["patient_id"].to_numpy(dtype=np.str_)),
    ):
        if (differs := stated != true).any():
            c.findings.fail(f"{name}: records with another {what} than their own", ids[differs])
    foreign = [label for label in table.classes if label not in direction.covers]
    if foreign or not table.classes:
        c.findings.fail(f"{name} judges {', '.join(foreign) or 'no class'}; {direction.name} covers {', '.join(direction.covers)}")
        return
    truth = sources.labels(direction.target, direction.target_task)
    unlabelled = ~np.isin(ids, truth.index.to_numpy(dtype=np.str_))
    if unlabelled.any():
        c.findings.fail(f"{name}: records without a label of {direction.target_task}", ids[unlabelled])
    expected = truth.loc[ids[~unlabelled].tolist(), list(table.classes)].to_numpy()
    if (wrong := (expected != table.labels_NC[known][~unlabelled]).any(axis=1)).any():
        c.findings.fail(f"{name}: labels that differ from the label table", ids[~unlabelled][wrong])


def _check_arms(c: CheckContext, tables: list[Predictions]) -> None:
    held: dict[Question, dict[str, frozenset[str]]] = {}
    for table in tables:
        o = table.origin
        held.setdefault((o.task, o.protocol, o.prompts), {})[o.arm] = frozenset(table.record_id.tolist())
    for question, arms in held.items():
        what = ", ".join(str(q) for q in question if q is not None)
        if set(arms) != set(ARMS):
            c.findings.fail(f"{what}: arms {', '.join(sorted(arms))} instead of {' and '.join(ARMS)}")
        elif len(set(arms.values())) > 1:
            c.findings.fail(f"{what}: the two arms judge different records", sorted(arms[ARMS[0]] ^ arms[ARMS[1]]))


def _check_directions(c: CheckContext, tables: list[Predictions]) -> None:
    """Every direction has been judged, or says why not."""
    judged, skipped = {t.origin.task for t in tables}, c.output.facts["skipped"]
    if silent := [name for name in DIRECTIONS if name not in judged and not skipped.get(name)]:
        c.findings.fail("directions that are neither judged nor explained", silent)
    if both := [name for name in DIRECTIONS if name in judged and name in skipped]:
        c.findings.fail("directions that are judged and said not to be", both)


def _count_seen(c: CheckContext, tables: Mapping[Path, Predictions]) -> dict[str, int]:
    """Patients of each table that were trained on; any is a fault."""
    if not tables:
        return {}
    raw: dict[str, Output] = {}
    for dataset in {n for t in tables.values() for n in (DIRECTIONS[t.origin.task].source, DIRECTIONS[t.origin.task].target)}:
        raw[dataset] = c.origin(Key(("raw", dataset)))
    trained = trained_patients(c.workspace, c.origin(Key(("encoder", c.output.key.parts[1]), c.output.key.partition)))
    parts = patients_by_part(raw)
    seen = {t.origin.slug: count_seen(t, trained, parts) for t in tables.values()}
    if guilty := [f"{slug} ({n} patients)" for slug, n in seen.items() if n]:
        c.findings.fail("test patients that were trained on, by the encoder or by the probe", guilty)
    return seen


def _check_metrics(c: CheckContext, metrics: Any, tables: list[Predictions], seen: Mapping[str, int]) -> None:
    judged = {_question(t.origin): t for t in tables}
    rules = TableRules(
        "metrics.parquet",
        metrics,
        TRANSFER_COLUMNS,
        "metric",
        lambda: metrics_suite(c.dataset),
        lambda frame: _derive(frame, judged),
    )
    frame = c.validate(rules).get("metrics.parquet")
    if frame is None:
        return
    rows = frame.to_dict("records")
    covered = {_row_question(row) for row in rows if row["metric"] == "macro_auroc"}
    if silent := sorted(t.origin.slug for key, t in judged.items() if key not in covered):
        c.findings.fail("prediction tables without a macro AUROC", silent)
    misstated = [
        row[ROW_NAME]
        for row in rows
        if _row_question(row) in judged and row["saw_test_patients"] != seen[judged[_row_question(row)].origin.slug]
    ]
    if misstated:
        c.findings.fail("metrics that misstate how many test patients were trained on", misstated)


def _question(origin: Origin) -> Question:
    return origin.task, origin.protocol, origin.arm, origin.prompts or ""


def _row_question(row: Mapping[Hashable, Any]) -> Question:
    return row["task"], row["protocol"], row["arm"], row["prompts"] or ""


def _derive(frame: pd.DataFrame, judged: Mapping[Question, Predictions]) -> None:
    """Add what `metrics_suite` looks at, and name rows by what they measure."""
    rows = frame.to_dict("records")
    values = {question: auroc_by_metric(table, tuple(set(table.fold.tolist()))) for question, table in judged.items()}
    frame[ROW_NAME] = [" ".join(str(p) for p in (*_row_question(row), row["metric"]) if p) for row in rows]
    frame["has_table"] = [_row_question(row) in judged for row in rows]
    frame["recomputed"] = [_agrees(row, values) for row in rows]
    lowest = frame["metric"].map(lambda m: -1.0 if m == GAIN else 0.0)
    value, low, high = frame["value"], frame["low"], frame["high"]
    frame["in_range"] = value.isna() | ((value >= lowest) & (value <= 1))
    frame["ordered_interval"] = low.isna() | high.isna() | (low <= high)
    frame["near_interval"] = ~((value < low - INTERVAL_SLACK) | (value > high + INTERVAL_SLACK))


def _agrees(row: Mapping[Hashable, Any], values: Mapping[Question, Mapping[str, float]]) -> bool:
    """Whether a stored AUROC, or a gain over the twin, is the recomputed one; True for other metrics."""
    own = values.get(_row_question(row), {})
    if row["metric"] == GAIN:
        twin = values.get(_row_question({**row, "arm": "random_init"}), {})
        expected = own.get("macro_auroc", math.nan) - twin.get("macro_auroc", math.nan)
    elif str(row["metric"]).startswith(("macro_auroc", "auroc:")):
        expected = own.get(str(row["metric"]), math.inf)
    else:
        return True
    if math.isnan(expected) or math.isnan(row["value"]):
        return math.isnan(expected) and math.isnan(row["value"])
    return bool(abs(expected - row["value"]) <= RECOMPUTED_TO)
