"""Check of cross_validation/<method>: people are kept apart where the split says so, nobody is judged twice, and numbers follow from tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.cross_validation import TEST, VALIDATION
from data_checks.context import CheckContext
from data_checks.evaluation import RECOMPUTED_TO, auroc_by_metric
from data_checks.head import read_tables
from data_checks.tables import read_table

if TYPE_CHECKING:
    from models.predictions import Predictions

BY_PATIENT = ("patients5", "loso", "group5")
"""Splits that keep the parts of a fold apart by patient."""


def check_folds(c: CheckContext) -> str:
    """Validation and test share no patient where the split is by patient, no record is judged twice, and metrics follow from the tables."""
    tables = read_tables(c)
    listed, held = sorted(c.output.facts["tables"]), sorted(path.stem for path in tables)
    if listed != held:
        c.findings.fail(f"the manifest lists the tables {', '.join(listed) or 'none'}; in the folder are {', '.join(held) or 'none'}")
    judged: dict[tuple[str, str], set[str]] = {}
    for path, table in tables.items():
        split = (table.origin.split or "").partition("/")[0]
        validation, test = table.folds(VALIDATION), table.folds(TEST)
        shared = set(validation.patient_id.tolist()) & set(test.patient_id.tolist())
        if split in BY_PATIENT and shared:
            c.findings.fail(
                f"{path.name}: {len(shared)} patients choose and judge, for example {min(shared)}; split {split} keeps them apart"
            )
        seen = judged.setdefault((table.origin.task, split), set())
        if twice := seen & set(test.record_id.tolist()):
            c.findings.fail(f"{path.name}: {len(twice)} records were judged in an earlier fold already, for example {min(twice)}")
        seen |= set(test.record_id.tolist())
    _check_metrics(c, list(tables.values()))
    return f"{len(tables)} folds are as their splits say; metrics recomputed to {RECOMPUTED_TO:g}"


def _check_metrics(c: CheckContext, tables: list[Predictions]) -> None:
    from models.regression import mean_absolute_error

    frame = read_table(c.output.path("folds.parquet")).to_pandas()
    held = {(row["task"], row["split"], row["metric"]): row["value"] for row in frame.to_dict("records")}
    for table in tables:
        test = table.folds(TEST)
        values = {"mae": mean_absolute_error(test.scores_NC, test.labels_NC)} if table.numbers else auroc_by_metric(table, TEST)
        for metric, value in values.items():
            stored = held.get((table.origin.task, table.origin.split, metric))
            same = stored is not None and (abs(stored - value) <= RECOMPUTED_TO or (stored != stored and value != value))
            if not same:
                c.findings.fail(f"folds.parquet: {table.origin.slug} {metric} is {stored}, its table gives {value:.6f}")
