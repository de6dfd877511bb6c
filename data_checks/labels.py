"""Check of labels/<dataset>: zeros and ones for known records, in the columns that the task declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets import settings
from assets.dataset import DatasetError
from assets.user_tasks import find_user_task
from data_checks.context import CheckContext, TableRules
from data_checks.suites import labels_suite
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd


def check_labels(c: CheckContext) -> str:
    """The label table has the task's classes in order, zeros and ones, known records, and a positive in every row."""
    table = read_table(c.output.path("labels.parquet"))
    classes = _declared_classes(c)
    columns: dict[str, Kind] = {"record_id": "text", **dict.fromkeys(classes, "integer")}
    if table.column_names != list(columns) and sorted(table.column_names) == sorted(columns):
        c.findings.fail(f"labels.parquet has its columns in another order than the task: {', '.join(table.column_names)}")
    records = c.records()

    def derive(frame: pd.DataFrame) -> None:
        frame["known_record"] = frame["record_id"].isin(records.index)
        frame["n_positive"] = (frame[classes] == 1).sum(axis=1)

    rules = TableRules(
        "labels.parquet",
        table,
        columns,
        "record_id",
        lambda: labels_suite(classes, bool(c.output.facts.get("may_be_empty"))),
        derive,
        exact=True,
    )
    frame = c.validate(rules).get("labels.parquet")
    if frame is not None:
        _note_missing_positives(c, frame, records, classes)
    return f"{table.num_rows} records have labels of {len(classes)} classes"


def _declared_classes(c: CheckContext) -> list[str]:
    """The task's classes as the dataset, or the user who added it, declares them; what the manifest says must be the same."""
    listed, task = list(c.output.facts["classes"]), str(c.output.key.partition)
    added = None if task in c.dataset.task_names else find_user_task(c.workspace.root, c.dataset.name, task)
    try:
        declared = list((settings.load().open_dataset(c.dataset).task(task) if added is None else added.task).classes)
    except DatasetError as error:
        c.findings.note(
            f"the classes were compared with the manifest alone, because the dataset's folder cannot be read ({type(error).__name__})"
        )
        return listed
    if listed != declared:
        c.findings.fail(f"the manifest lists the classes {', '.join(listed)}; task {task!r} of the dataset declares {', '.join(declared)}")
    return declared


def _note_missing_positives(c: CheckContext, frame: pd.DataFrame, records: pd.DataFrame, classes: list[str]) -> None:
    part = frame["record_id"].map(records.loc[~records.index.duplicated(), "fold"]).map(c.part, na_action="ignore")
    positives = (frame[classes] == 1).groupby(part).sum()
    c.findings.facts["positives"] = {str(p): {k: int(positives.loc[p, k]) for k in classes} for p in positives.index}
    for name, consequence in (("train", "nothing can be learned about them"), ("test", "they have no AUROC")):
        without = [k for k in classes if name not in positives.index or not positives.loc[name, k]]
        if without:
            c.findings.note(f"classes without a positive in {name}, so {consequence}: {', '.join(without)}")
