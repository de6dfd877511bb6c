"""Stage labels: one table a task, records by classes; or the numbers of records or of windows of recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.access import strictest
from assets.dataset import Dataset, DatasetError, Task
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace
from assets.user_tasks import find_user_task, task_names

if TYPE_CHECKING:
    import pandas as pd

CODE_VERSION = "3"


def labels_asset(dataset: type[Dataset]) -> dg.AssetsDefinition:
    """The asset `labels/<dataset>`, partitioned by task: those that the dataset declares and those that users added."""

    @dg.asset(
        key=asset_key("labels", dataset.name),
        deps=[asset_key("raw", name) for name in (dataset.name, *dataset.companions)],
        partitions_def=dg.StaticPartitionsDefinition(task_names(dataset)),
        group_name="data",
        code_version=f"{CODE_VERSION}.{dataset.version}",
        kinds={"parquet"},
        tags={"access": str(dataset.access)},
        description=f"Label tables of {dataset.source.title}, one a task; records without a label of the task are left out.",
    )
    def labels(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_labels(workspace.workspace, settings.open_dataset(dataset), context.partition_key)
            shown = {
                "classes": len(output.facts["classes"]),
                "rows": output.rows,
                "labels": dg.MetadataValue.md(_as_markdown(output.facts)),
            }
            return result(context, output, settings, shown)

    return labels


def make_labels(workspace: Workspace, dataset: Dataset, task_name: str) -> Output:
    """Publish the label table of a task: the dataset's own, or the version in use of one that a user added.

    Where the dataset's may be joined from a companion's tables, these are upstream too.
    """
    added = None if task_name in dataset.task_names else find_user_task(workspace.root, dataset.name, task_name)
    joined = [name for name in dataset.companion_folders if name in dataset.companions]
    read_from = (dataset.name, *joined) if added is None else (dataset.name,)
    upstream = require(workspace, *(Key(("raw", name)) for name in read_from))
    task = dataset.task(task_name) if added is None else added.task

    def build(folder: Path) -> Built:
        table = dataset.labels(task_name) if added is None else added.labels()
        table.to_parquet(folder / "labels.parquet", index=False)
        (folder / "figures").mkdir()
        of_kind = _numbers if task.kind == "regression" else _classes
        facts = {
            "dataset": dataset.name,
            "task": task_name,
            "classes": list(task.classes),
            "class_names": dict(task.class_names),
            "may_be_empty": task.may_be_empty,
            "vocabulary": task.vocabulary,
            "kind": task.kind,
            "unit": task.unit,
            "per_window": task.per_window,
            **of_kind(folder / "figures", table, task, f"{dataset.source.title}: {task.title}"),
        }
        if added is None and (reasons := dataset.left_out(task_name)):
            facts["left_out"] = reasons
        return Built(rows=len(table), facts=facts, notes={} if added is None else {"version": added.version, **added.notes})

    return workspace.publish(
        Key(("labels", dataset.name), task_name),
        build,
        code_version=f"{CODE_VERSION}.{dataset.version}",
        access=strictest([dataset.access, *(output.access for output in upstream.values()), *([] if added is None else [added.access])]),
        config={
            "task": task_name,
            "classes": list(task.classes),
            "kind": task.kind,
            "unit": task.unit,
            **({} if added is None else {"labels": added.sha256, "access": str(added.access)}),
        },
        upstream=versions(upstream),
    )


def _classes(figures: Path, table: "pd.DataFrame", task: Task, title: str) -> dict[str, Any]:
    """How many records have each class, as a figure and as facts."""
    from assets.plots import bars_figure

    positives = {c: int(table[c].sum()) for c in task.classes}
    bars_figure(figures / "classes.png", positives, f"{title}, records a class")
    return {"positives": positives}


def _numbers(figures: Path, table: "pd.DataFrame", task: Task, title: str) -> dict[str, Any]:
    """How the numbers are spread, as a figure and as facts.

    Raises:
        DatasetError: there are none.
    """
    from assets.plots import histogram_figure

    if table.empty:
        raise DatasetError(f"{title} has no record with such a number, so there is no label; get the tables that hold them")
    histogram_figure(figures / "numbers.png", {task.class_names[c]: table[c].to_numpy() for c in task.classes}, title, task.unit)
    spread = {c: [round(float(v), 3) for v in (table[c].min(), table[c].mean(), table[c].max())] for c in task.classes}
    return {"numbers": spread}


def _as_markdown(facts: dict[str, Any]) -> str:
    names = facts["class_names"]
    if facts["kind"] == "regression":
        rows = [f"| {c} | {names[c]} | {' | '.join(f'{v:g}' for v in facts['numbers'][c])} | {facts['unit']} |" for c in facts["classes"]]
        return "\n".join(["| target | name | lowest | mean | highest | unit |", "|---|---|---|---|---|---|", *rows])
    rows = [f"| {c} | {names[c]} | {facts['positives'][c]} |" for c in facts["classes"]]
    rows += [f"| left out | {reason.replace('_', ' ')} | {count} |" for reason, count in facts.get("left_out", {}).items()]
    return "\n".join(["| class | name | records |", "|---|---|---|", *rows])
