"""Check of labels/<dataset>: zeros and ones, or numbers, for known records or windows, in the columns that the task declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets import settings
from assets.dataset import DatasetError, Task
from assets.user_tasks import find_user_task
from data_checks.context import CheckContext, TableRules
from data_checks.suites import labels_suite
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd


def check_labels(c: CheckContext) -> str:
    """The label table has the task's columns in order and known records; zeros and ones with a positive in every row, or numbers."""
    table, task = read_table(c.output.path("labels.parquet")), _declared_task(c)
    classes = list(task.classes)
    kind: Kind = "number" if task.kind == "regression" else "integer"
    columns: dict[str, Kind] = {"record_id": "text", **({"start": "number"} if task.per_window else {}), **dict.fromkeys(classes, kind)}
    if table.column_names != list(columns) and sorted(table.column_names) == sorted(columns):
        c.findings.fail(f"labels.parquet has its columns in another order than the task: {', '.join(table.column_names)}")
    records = c.records()

    def derive(frame: pd.DataFrame) -> None:
        import numpy as np

        frame["known_record"] = frame["record_id"].isin(records.index)
        if task.per_window:
            # A recording that is cut out of a longer one counts from the beginning of that one.
            steps = (frame["start"] - frame.groupby("record_id")["start"].transform("min")) / c.dataset.window_s
            frame["on_the_grid"] = np.isclose(steps, steps.round())
        if task.kind != "regression":
            frame["n_positive"] = (frame[classes] == 1).sum(axis=1)
            return
        for name in classes:
            frame[f"{name} is finite"] = np.isfinite(frame[name])
            frame[f"{name} varies"] = frame[name].nunique() > 1

    rules = TableRules("labels.parquet", table, columns, "record_id", lambda: labels_suite(task, c.dataset.window_s), derive, exact=True)
    frame = c.validate(rules).get("labels.parquet")
    if frame is not None:
        (_note_missing_numbers if task.kind == "regression" else _note_missing_positives)(c, frame, records, classes)
    about = f"numbers in {task.unit or 'no unit'}" if task.kind == "regression" else f"labels of {len(classes)} classes"
    return f"{table.num_rows} {'windows' if task.per_window else 'records'} have {about}"


def _declared_task(c: CheckContext) -> Task:
    """The task as the dataset, or the user who added it, declares it; what the manifest says must be the same."""
    facts, name = c.output.facts, str(c.output.key.partition)
    listed = Task(
        name,
        name,
        tuple(facts["classes"]),
        facts["class_names"],
        may_be_empty=bool(facts.get("may_be_empty")),
        kind=facts.get("kind", "multilabel"),
        unit=facts.get("unit", ""),
        per_window=bool(facts.get("per_window")),
    )
    added = None if name in c.dataset.task_names else find_user_task(c.workspace.root, c.dataset.name, name)
    try:
        declared = settings.load().open_dataset(c.dataset).task(name) if added is None else added.task
    except DatasetError as error:
        c.findings.note(
            f"the classes were compared with the manifest alone, because the dataset's folder cannot be read ({type(error).__name__})"
        )
        return listed
    if listed.classes != declared.classes:
        c.findings.fail(
            f"the manifest lists the classes {', '.join(listed.classes)}; task {name!r} of the dataset declares {', '.join(declared.classes)}"
        )
    for what in ("kind", "unit", "per_window", "may_be_empty"):
        if (said := getattr(listed, what)) != (true := getattr(declared, what)):
            c.findings.fail(f"the manifest says {what} {said!r}; task {name!r} of the dataset declares {true!r}")
    return declared


def _parts(c: CheckContext, frame: pd.DataFrame, records: pd.DataFrame) -> pd.Series:
    found: pd.Series = frame["record_id"].map(records.loc[~records.index.duplicated(), "fold"]).map(c.part, na_action="ignore")
    return found


def _note_missing_numbers(c: CheckContext, frame: pd.DataFrame, records: pd.DataFrame, classes: list[str]) -> None:
    rows = _parts(c, frame, records).value_counts()
    c.findings.facts["rows"] = {str(part): int(n) for part, n in rows.items()}
    for name, consequence in (("train", "nothing can be learned"), ("validation", "nothing can be chosen"), ("test", "nothing is judged")):
        if name not in rows.index:
            c.findings.note(f"no row of {', '.join(classes)} is in {name}, so {consequence}")


def _note_missing_positives(c: CheckContext, frame: pd.DataFrame, records: pd.DataFrame, classes: list[str]) -> None:
    part = _parts(c, frame, records)
    positives = (frame[classes] == 1).groupby(part).sum()
    c.findings.facts["positives"] = {str(p): {k: int(positives.loc[p, k]) for k in classes} for p in positives.index}
    for name, consequence in (("train", "nothing can be learned about them"), ("test", "they have no AUROC")):
        without = [k for k in classes if name not in positives.index or not positives.loc[name, k]]
        if without:
            c.findings.note(f"classes without a positive in {name}, so {consequence}: {', '.join(without)}")
