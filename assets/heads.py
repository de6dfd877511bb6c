"""Stage head: what is trained on top of an encoder for one task; delivers prediction tables for it and its random twin."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.compute import Compute, collect, run_job
from assets.dataset import get_dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace, identify
from assets.settings import Settings
from assets.training import dataset_deps, datasets_for, job_base, mapped, partitions_for, tasks_for
from models.registry import get_spec
from models.spec import MethodSpec

CODE_VERSION = "1"
TRAINED_PROTOCOLS = ("linear_probe", "finetune")


def head_asset(method: str, task: str) -> dg.AssetsDefinition:
    """The asset `head/<method>/<task>`, partitioned by dataset."""
    spec = get_spec(method)
    datasets = [d.name for d in datasets_for(spec) if task in tasks_for(spec, d)]

    @dg.asset(
        key=asset_key("head", method, task),
        deps=[*mapped([(asset_key("encoder", method), datasets)]), *dataset_deps(spec, "cleaned", "labels", task=task)],
        partitions_def=partitions_for(spec),
        group_name=method,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"pytorch"},
        description=f"Heads for task {task!r} on {spec.title}: {', '.join(p for p in spec.protocols if p in TRAINED_PROTOCOLS)}.",
    )
    def head(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, compute: dg.ResourceParam[Compute]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_head(context, settings, compute, spec, task, context.partition_key)
            return result(context, output, settings, {"tables": output.facts["tables"]})

    return head


def make_head(
    context: dg.AssetExecutionContext, settings: Settings, compute: Compute, spec: MethodSpec, task: str, dataset_name: str
) -> Output:
    """Train the heads of a task and keep their predictions; a task that the dataset does not have gives no tables."""
    workspace, dataset = Workspace(settings.home), get_dataset(dataset_name)
    key = Key(("head", spec.name, task), dataset_name)
    code_version = f"{CODE_VERSION}.{spec.version}"
    if task not in tasks_for(spec, dataset):
        context.log.info("%s has no task %r: nothing to train", dataset_name, task)
        nothing = Built(rows=0, facts={"task": task, "tables": []})
        return workspace.publish(key, lambda _: nothing, code_version=code_version, access=dataset.access)

    encoder_key = Key(("encoder", spec.name), dataset_name)
    encoder = require(workspace, encoder_key)[str(encoder_key)]
    store_key, labels_key = Key(("cleaned", dataset_name), encoder.facts["config"]["recipe"]), Key(("labels", dataset_name), task)
    upstream = {str(encoder_key): encoder} | require(workspace, store_key, labels_key)
    inputs: dict[str, Any] = {
        "code_version": code_version,
        "upstream": versions(upstream),
        "config": {"fractions": list(spec.label_fractions)},
    }
    run_folder = workspace.run_folder(key, identify(**inputs))

    def build(folder: Path) -> Built:
        job = job_base("head", spec, dataset, encoder.facts["preset"], encoder.facts["seed"], run_folder) | {
            "bundle": str(encoder.path("bundle")),
            "random_init": str(encoder.path("random_init")),
            "store": str(upstream[str(store_key)].folder),
            "labels": str(upstream[str(labels_key)].path("labels.parquet")),
            "task": task,
            "protocols": [p for p in spec.protocols if p in TRAINED_PROTOCOLS],
            "fractions": list(spec.label_fractions),
            "embeddings": str(workspace.root / "cache" / "embeddings"),
        }
        run_job(context, compute, job)
        collect(run_folder, folder, "predictions", "heads", "history.jsonl", "label_ids.json")
        tables = sorted(p.name for p in (folder / "predictions").glob("*.parquet"))
        draw_roc(folder, dataset.split.test)
        return Built(rows=len(tables), facts={"task": task, "tables": tables})

    output = workspace.publish(key, build, access=strictest(o.access for o in upstream.values()), **inputs)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def draw_roc(folder: Path, test_folds: tuple[int, ...]) -> None:
    """Draw the ROC curves of the head that saw the most labels."""
    from assets.plots import roc_figure
    from models.predictions import read_predictions

    tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
    pretrained = [t for t in tables if t.origin.arm == "pretrained"] or tables
    if pretrained:
        best = max(pretrained, key=lambda t: t.origin.fraction or 0.0)
        (folder / "figures").mkdir(exist_ok=True)
        roc_figure(folder / "figures" / "roc.png", best.folds(test_folds))
