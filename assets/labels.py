"""Stage labels: one table a task, records by classes."""

from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.dataset import Dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace
from assets.user_tasks import find_user_task, task_names

CODE_VERSION = "2"


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
            facts = output.facts
            rows = "\n".join(f"| {c} | {facts['class_names'][c]} | {facts['positives'][c]} |" for c in facts["classes"])
            return result(
                context,
                output,
                settings,
                {"classes": len(facts["classes"]), "positives": dg.MetadataValue.md(f"| class | name | records |\n|---|---|---|\n{rows}")},
            )

    return labels


def make_labels(workspace: Workspace, dataset: Dataset, task_name: str) -> Output:
    """Publish the label table of a task: the dataset's own, or the version in use of one that a user added.

    Where the dataset's may be joined from a companion's tables, these are upstream too.
    """
    added = None if task_name in dataset.task_names else find_user_task(workspace.root, dataset.name, task_name)
    read_from = (dataset.name, *dataset.companion_folders) if added is None else (dataset.name,)
    upstream = require(workspace, *(Key(("raw", name)) for name in read_from))
    task = dataset.task(task_name) if added is None else added.task

    def build(folder: Path) -> Built:
        from assets.plots import bars_figure

        table = dataset.labels(task_name) if added is None else added.labels()
        table.to_parquet(folder / "labels.parquet", index=False)
        positives = {c: int(table[c].sum()) for c in task.classes}
        (folder / "figures").mkdir()
        bars_figure(folder / "figures" / "classes.png", positives, f"{dataset.source.title}: {task.title}, records a class")
        facts = {
            "dataset": dataset.name,
            "task": task_name,
            "classes": list(task.classes),
            "class_names": dict(task.class_names),
            "may_be_empty": task.may_be_empty,
            "vocabulary": task.vocabulary,
            "positives": positives,
        }
        return Built(rows=len(table), facts=facts, notes={} if added is None else {"version": added.version, **added.notes})

    return workspace.publish(
        Key(("labels", dataset.name), task_name),
        build,
        code_version=f"{CODE_VERSION}.{dataset.version}",
        access=strictest([dataset.access, *(output.access for output in upstream.values()), *([] if added is None else [added.access])]),
        config={
            "task": task_name,
            "classes": list(task.classes),
            **({} if added is None else {"labels": added.sha256, "access": str(added.access)}),
        },
        upstream=versions(upstream),
    )
