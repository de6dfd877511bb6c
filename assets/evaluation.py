"""Stage evaluation: prediction tables first, then every metric from them, with patient bootstrap."""

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
    configured,
    dataset_deps,
    datasets_for,
    inputs_for,
    job_base,
    mapped,
    partitions_for,
    task_homes,
    tasks_for,
    tasks_of,
)
from models.registry import get_spec
from models.spec import MethodSpec
from models.types import Modality

CODE_VERSION = "2"
VOCABULARIES = {Modality.ECG: "scp", Modality.IMAGE: "chexpert"}
"""What prompts are written for: another vocabulary's code may read the same and mean something else."""


def evaluation_asset(method: str) -> dg.AssetsDefinition:
    """The asset `evaluation/<method>`, partitioned by dataset."""
    spec = get_spec(method)
    datasets = datasets_for(spec)
    upstream = [(asset_key("encoder", method), [d.name for d in datasets])]
    upstream += [(asset_key("head", method, t), [d.name for d in datasets if t in tasks_for(spec, d)]) for t in tasks_of(spec)]
    zero_shot = "zero_shot" in spec.protocols

    @dg.asset(
        key=asset_key("evaluation", method),
        deps=[*mapped(upstream), *(dataset_deps(spec, "cleaned") if zero_shot else []), *([asset_key("prompts")] if zero_shot else [])],
        partitions_def=partitions_for(spec),
        group_name=method,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"parquet"},
        description=f"{spec.title} judged on the test folds, beside its random-initialised twin: {', '.join(spec.protocols)}.",
    )
    def evaluation(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, compute: dg.ResourceParam[Compute]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_evaluation(context, settings, compute, spec, context.partition_key)
            if not output.reused:
                track_evaluation(settings, spec, output)
            return result(context, output, settings, {"tables": output.facts["tables"], "metrics": dg.MetadataValue.md(summary(output))})

    return evaluation


def make_evaluation(context: dg.AssetExecutionContext, settings: Settings, compute: Compute, spec: MethodSpec, dataset_name: str) -> Output:
    """Gather prediction tables, make the zero-shot ones, and compute the metrics of all of them."""
    workspace, dataset = Workspace(settings.home), get_dataset(dataset_name)
    homes = task_homes(spec, dataset)
    key, encoder_key = Key(("evaluation", spec.name), dataset_name), Key(("encoder", spec.name), dataset_name)
    head_keys = [Key(("head", spec.name, t), dataset_name) for t in homes]
    upstream = require(workspace, encoder_key, *head_keys)
    encoder = upstream[str(encoder_key)]
    for head in (upstream[str(k)] for k in head_keys):
        _require_same_encoder(head, encoder)
    stores: dict[Modality, Key] = {}
    if "zero_shot" in spec.protocols:
        read = inputs_for(spec, configured(spec, encoder.facts["config"]), dataset_name)
        stores = {m: k for m, k in ((Modality.ECG, read.signals), (Modality.IMAGE, read.images)) if k is not None}
        labels = [Key(("labels", home.name), t) for t, (home, modality) in homes.items() if modality in stores]
        upstream |= require(workspace, Key(("prompts",)), *stores.values(), *labels)
    prompted = {modality: _prompted(homes, upstream, modality) for modality in stores}
    inputs: dict[str, Any] = {"code_version": f"{CODE_VERSION}.{spec.version}", "config": {}, "upstream": versions(upstream)}
    run_folder = workspace.run_folder(key, identify(**inputs))

    def build(folder: Path) -> Built:
        for head_key in head_keys:
            shutil.copytree(upstream[str(head_key)].folder / "predictions", folder / "predictions", dirs_exist_ok=True)
        for modality, labels in prompted.items():
            if labels:
                place = run_folder / f"zero_shot_{modality}"
                home = next(home for home, m in homes.values() if m is modality)
                base = job_base("zero_shot", spec, home, encoder.facts["preset"], encoder.facts["seed"], place) | {"dataset": dataset_name}
                job = base | _zero_shot(encoder, upstream["prompts"]) | {"modality": str(modality), "labels": labels}
                run_job(context, compute, job | {"store": str(upstream[str(stores[modality])].folder)})
                collect(place, folder / "zero_shot", "predictions")
                shutil.copytree(folder / "zero_shot" / "predictions", folder / "predictions", dirs_exist_ok=True)
                shutil.rmtree(folder / "zero_shot")
        context.log.info("computing metrics with patient bootstrap")
        return score(folder, dataset)

    output = workspace.publish(key, build, access=strictest(o.access for o in upstream.values()), **inputs)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def track_evaluation(settings: Settings, spec: MethodSpec, output: Output) -> None:
    """Log the headline metrics to the MLflow run of the encoder that was judged."""
    import pandas as pd

    from assets.encoders import track
    from assets.tracking import log_evaluation

    encoder = Workspace(settings.home).require(Key(("encoder", spec.name), output.key.partition))
    table = pd.read_parquet(output.path("metrics.parquet"))
    headline = table[table["metric"].isin(["macro_auroc", "macro_auprc"])]
    log_evaluation(settings, track(settings, spec, encoder), [{str(k): v for k, v in row.items()} for row in headline.to_dict("records")])


def score(folder: Path, dataset: Dataset | type[Dataset]) -> Built:
    """Compute the rows of metrics.parquet from all prediction tables of a folder."""
    import pandas as pd

    from assets.scoring import compare_arms, score_table
    from models.predictions import read_predictions

    tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
    rows: list[dict[str, Any]] = []
    for table in tables:
        rows += score_table(table, dataset.split.validation, dataset.split.test)
    rows += compare_arms(tables, dataset.split.test)
    pd.DataFrame(rows).to_parquet(folder / "metrics.parquet", index=False)
    _draw(folder, tables, dataset.split.test)
    return Built(rows=len(rows), facts={"tables": len(tables)})


def _draw(folder: Path, tables: list[Any], test_folds: tuple[int, ...]) -> None:
    from assets.plots import roc_figure

    pretrained = [t for t in tables if t.origin.arm == "pretrained"]
    for protocol in dict.fromkeys(t.origin.protocol for t in pretrained):
        most_labels = max((t for t in pretrained if t.origin.protocol == protocol), key=lambda t: t.origin.fraction or 0.0)
        (folder / "figures").mkdir(exist_ok=True)
        roc_figure(folder / "figures" / f"roc_{protocol}.png", most_labels.folds(test_folds))


def _prompted(homes: dict[str, tuple[type[Dataset], Modality]], upstream: dict[str, Output], modality: Modality) -> dict[str, str]:
    """Label tables of the tasks about a modality for which prompts are written, by task."""
    tables = {task: upstream[str(Key(("labels", home.name), task))] for task, (home, m) in homes.items() if m is modality}
    return {
        task: str(table.path("labels.parquet")) for task, table in tables.items() if table.facts["vocabulary"] == VOCABULARIES[modality]
    }


def _zero_shot(encoder: Output, prompts: Output) -> dict[str, Any]:
    return {
        "bundle": str(encoder.path("bundle")),
        "random_init": str(encoder.path("random_init")),
        "prompts": {name: str(prompts.path(f"{name}.json")) for name in prompts.facts["sets"]},
    }


def _require_same_encoder(head: Output, encoder: Output) -> None:
    from assets.outputs import OutputError

    trained_on = head.manifest["upstream"].get(str(encoder.key))
    if trained_on != encoder.data_version:
        raise OutputError(f"{head.key} was trained on another version of {encoder.key}; materialise {head.key} again before its evaluation")


def summary(output: Output) -> str:
    """The headline metrics as a Markdown table."""
    import pandas as pd

    table = pd.read_parquet(output.path("metrics.parquet"))
    table = table[table["metric"] == "macro_auroc"].sort_values(["task", "protocol", "fraction", "prompts", "arm"])
    lines = ["| task | protocol | labels | prompts | encoder | macro AUROC | 95 % interval |", "|---|---|---|---|---|---|---|"]
    for row in table.to_dict("records"):
        share = "" if pd.isna(row["fraction"]) else f"{row['fraction']:.0%}"
        value = f"{row['value']:.3f} | {row['low']:.3f} to {row['high']:.3f}"
        lines.append(f"| {row['task']} | {row['protocol']} | {share} | {row['prompts']} | {row['arm']} | {value} |")
    return "\n".join(lines)
