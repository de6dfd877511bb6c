"""Stage head: what is trained on top of an encoder for one task; delivers prediction tables for it and its random twin.

A task is about recordings, or about the pictures that a pairing ties to them; then pictures, labels and folds are those of the
pictures' dataset.
"""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.compute import Compute, collect, run_job
from assets.dataset import Dataset, get_dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace, identify
from assets.settings import Settings
from assets.training import (
    Inputs,
    configured,
    datasets_for,
    default_inputs,
    deps_on,
    inputs_for,
    job_base,
    mapped,
    partitions_for,
    task_homes,
    tasks_for,
)
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, LINEAR
from models.registry import get_spec
from models.spec import MethodSpec
from models.types import Modality

CODE_VERSION = "3"
FUSED = "fused"
"""Protocol of heads over image and ECG: for tasks about images."""
TRAINED_PROTOCOLS = (LINEAR, ATTENTIVE, FINETUNE, FINETUNE_AFTER, FUSED)


def head_asset(method: str, task: str) -> dg.AssetsDefinition:
    """The asset `head/<method>/<task>`, partitioned by dataset."""
    spec = get_spec(method)
    homes = {d: task_homes(spec, d)[task] for d in datasets_for(spec) if task in tasks_for(spec, d)}
    reads = [(key, d.name) for d, home in homes.items() for key in _reads(spec, default_inputs(spec, d), task, *home).values()]

    @dg.asset(
        key=asset_key("head", method, task),
        deps=[*mapped([(asset_key("encoder", method), [d.name for d in homes])]), *deps_on(reads)],
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
    """Train the heads of a task and keep their predictions.

    There are no tables for a task that the dataset does not have, and for one about images where the encoder saw none.
    """
    workspace, dataset = Workspace(settings.home), get_dataset(dataset_name)
    key = Key(("head", spec.name, task), dataset_name)
    code_version = f"{CODE_VERSION}.{spec.version}"
    homes = task_homes(spec, dataset)
    nothing = Built(rows=0, facts={"task": task, "tables": []})
    if task not in homes:
        context.log.info("%s has no task %r: nothing to train", dataset_name, task)
        return workspace.publish(key, lambda _: nothing, code_version=code_version, access=dataset.access)

    encoder_key = Key(("encoder", spec.name), dataset_name)
    encoder = require(workspace, encoder_key)[str(encoder_key)]
    (home, modality), inputs = homes[task], inputs_for(spec, configured(spec, encoder.facts["config"]), dataset_name)
    reads = _reads(spec, inputs, task, home, modality)
    if "store" not in reads:
        context.log.info("task %r is about images, and the encoder was trained without any: nothing to train", task)
        config = {"encoder": encoder.data_version}
        return workspace.publish(key, lambda _: nothing, code_version=code_version, config=config, access=encoder.access)
    upstream = {str(encoder_key): encoder} | require(workspace, *reads.values())
    folders = {name: upstream[str(key)].folder for name, key in reads.items()}
    asked: dict[str, Any] = {
        "code_version": code_version,
        "upstream": versions(upstream),
        "config": {"fractions": list(spec.label_fractions)},
    }
    run_folder = workspace.run_folder(key, identify(**asked))

    def build(folder: Path) -> Built:
        base = job_base("head", spec, home, encoder.facts["preset"], encoder.facts["seed"], run_folder) | {"dataset": dataset_name}
        job = base | {
            "bundle": str(encoder.path("bundle")),
            "random_init": str(encoder.path("random_init")),
            **{name: str(folder) for name, folder in folders.items()},
            "modality": str(modality),
            "labels": str(folders["labels"] / "labels.parquet"),
            "task": task,
            "task_kind": upstream[str(reads["labels"])].facts["kind"],
            "unit": upstream[str(reads["labels"])].facts["unit"],
            "protocols": [p for p in spec.protocols if p in TRAINED_PROTOCOLS and (p != FUSED or "pairing" in reads)],
            "fractions": list(spec.label_fractions),
            "channel_sets": [list(channels) for channels in spec.channel_sets],
            "embeddings": str(workspace.root / "cache" / "embeddings"),
        }
        run_job(context, compute, job)
        collect(run_folder, folder, "predictions", "heads", "history.jsonl", "label_ids.json")
        tables = sorted(p.name for p in (folder / "predictions").glob("*.parquet"))
        draw(folder, home.split.test)
        return Built(rows=len(tables), facts={"task": task, "tables": tables})

    output = workspace.publish(key, build, access=strictest(o.access for o in upstream.values()), **asked)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def _reads(spec: MethodSpec, inputs: Inputs, task: str, home: type[Dataset], modality: Modality) -> dict[str, Key]:
    """What the heads of a task read beside the encoder, by the entries of their job; no "store" where the encoder saw no images."""
    images = modality is Modality.IMAGE
    found = {"store": inputs.images if images else inputs.signals, "labels": Key(("labels", home.name), task)}
    if images and FUSED in spec.protocols:
        found |= {"pairing": inputs.pairing, "signals": inputs.signals}
    return {name: key for name, key in found.items() if key is not None}


def draw(folder: Path, test_folds: tuple[int, ...]) -> None:
    """Draw the ROC curves of the head that saw the most labels, or its numbers over what is true."""
    from assets.plots import judged_figure
    from models.predictions import read_predictions

    tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
    pretrained = [t for t in tables if t.origin.arm == "pretrained"] or tables
    if pretrained:
        best = max(pretrained, key=lambda t: t.origin.fraction or 0.0)
        (folder / "figures").mkdir(exist_ok=True)
        name = "predicted.png" if best.numbers else "roc.png"
        judged_figure(folder / "figures" / name, best.folds(test_folds))
