"""Stage cross_modality: networks of one signal each, judged on their own signal and shown every other one.

predictions.parquet, embeddings.parquet, variance.parquet, projection.parquet   tables of the job (`models.cross_modality_job`)
matrix.parquet         metrics of every source, target, split and variant, and of the baselines
correlations.parquet   what goes with the matrix's means
metrics.parquet        every network on its own signal, as the leaderboard reads it
"""

import json
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
from assets.training import configured, datasets_for, default_inputs, deps_on, inputs_for, job_base, mapped, partitions_for
from models.registry import get_spec
from models.spec import MethodSpec

CODE_VERSION = "1"
PROTOCOL = "cross_modality"
_TABLES = ("predictions.parquet", "embeddings.parquet", "variance.parquet", "projection.parquet")


def exchanges_signals(spec: MethodSpec) -> bool:
    """Whether a method's networks are shown signals that they were not trained on."""
    return PROTOCOL in spec.protocols


def cross_modality_asset(method: str) -> dg.AssetsDefinition:
    """The asset `cross_modality/<method>`, partitioned by dataset."""
    spec = get_spec(method)
    datasets = datasets_for(spec)
    reads = [(default_inputs(spec, d).signals, d.name) for d in datasets]
    reads += [(Key(("labels", d.name), spec.gate.task), d.name) for d in datasets]

    @dg.asset(
        key=asset_key(PROTOCOL, method),
        deps=[
            *mapped([(asset_key("encoder", method), [d.name for d in datasets])]),
            *deps_on([(k, p) for k, p in reads if k is not None]),
        ],
        partitions_def=partitions_for(spec),
        group_name=method,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"pytorch", "parquet"},
        description=f"{spec.title}: a network a signal, trained and judged by subject, and shown every other signal unchanged.",
    )
    def cross_modality(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, compute: dg.ResourceParam[Compute]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_cross_modality(context, settings, compute, spec, context.partition_key)
            shown = {name: output.facts[name] for name in ("windows", "subjects", "normalisation", "window_s")}
            shown |= {"matrix": dg.MetadataValue.md(output.path("matrix.md").read_text())}
            return result(context, output, settings, shown)

    return cross_modality


def make_cross_modality(
    context: dg.AssetExecutionContext, settings: Settings, compute: Compute, spec: MethodSpec, dataset_name: str
) -> Output:
    """Train and show all networks, score them, draw them."""
    workspace, dataset, task = Workspace(settings.home), get_dataset(dataset_name), spec.gate.task
    key, encoder_key = Key((PROTOCOL, spec.name), dataset_name), Key(("encoder", spec.name), dataset_name)
    encoder = require(workspace, encoder_key)[str(encoder_key)]
    signals, labels = inputs_for(spec, configured(spec, encoder.facts["config"]), dataset_name).signals, Key(("labels", dataset_name), task)
    assert signals is not None, "networks of signals read signals"
    upstream = {str(encoder_key): encoder} | require(workspace, signals, labels)
    asked: dict[str, Any] = {"code_version": f"{CODE_VERSION}.{spec.version}", "upstream": versions(upstream), "config": {"task": task}}
    run_folder = workspace.run_folder(key, identify(**asked))

    def build(folder: Path) -> Built:
        job = job_base(PROTOCOL, spec, dataset, encoder.facts["preset"], encoder.facts["seed"], run_folder) | {
            "store": str(upstream[str(signals)].folder),
            "bundle": str(encoder.path("bundle")),
            "labels": str(upstream[str(labels)].path("labels.parquet")),
            "task": task,
        }
        done = run_job(context, compute, job)
        collect(run_folder, folder, *_TABLES)
        about = {name: encoder.facts[name] for name in ("preset", "seed")} | {"dataset": dataset_name, "task": task, "method": spec.name}
        facts = {k: v for k, v in done.items() if k not in ("kind", "timing", "units")} | about
        return summarise(folder, facts, f"{spec.title} {about['preset']} on {dataset.source.title}", done["timing"])

    output = workspace.publish(key, build, access=strictest(o.access for o in upstream.values()), **asked)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def summarise(folder: Path, facts: dict[str, Any], title: str, timing: dict[str, Any] | None = None) -> Built:
    """Score the tables of a folder, and write matrices, rows of the leaderboard, text and figures."""
    import pandas as pd

    from assets.cross_modality_scoring import correlations, leaderboard_rows, matrix_rows
    from assets.cross_modality_text import to_markdown
    from models.predictions import Origin

    predictions, embeddings, variance, projection = (pd.read_parquet(folder / name) for name in _TABLES)
    matrix = matrix_rows(predictions)
    correlated = correlations(matrix, variance, embeddings, facts["signals"], predictions["split"].iloc[0])
    origin = Origin(**{n: facts[n] for n in ("dataset", "task", "method", "preset", "seed")}, protocol=PROTOCOL, arm="pretrained",
                    encoder_sha256="", fraction=1.0)  # fmt: skip
    matrix.to_parquet(folder / "matrix.parquet", index=False)
    correlated.to_parquet(folder / "correlations.parquet", index=False)
    pd.DataFrame(leaderboard_rows(matrix, origin, facts)).to_parquet(folder / "metrics.parquet", index=False)
    (folder / "matrix.md").write_text(to_markdown(matrix, embeddings, correlated, facts))
    draw(folder / "figures", predictions, matrix, projection, facts["signals"], title)
    return Built(rows=len(matrix), facts=json.loads(json.dumps(facts)), notes={"timing": timing or {}})


def draw(figures: Path, predictions: Any, matrix: Any, projection: Any, signals: list[str], title: str) -> None:
    """Heat maps of all matrices, confusion matrices of the headline, and a map a network."""
    from assets.cross_modality_scoring import UNCHANGED, classes_of, confusion_of, square
    from assets.plots_cross_modality import confusion_figure, embedding_figure, matrix_figure

    figures.mkdir(exist_ok=True)
    cells = matrix[matrix["target"] != ""][["split", "variant"]].drop_duplicates()
    matrices = {f"{s}, {v.replace('_', ' ')}": square(matrix, signals, s, v) for s, v in cells.itertuples(index=False)}
    matrix_figure(figures / "matrix.png", matrices, f"{title}: accuracy")
    headline = predictions["split"].iloc[0]
    own = predictions[(predictions["split"] == headline) & (predictions["variant"] == UNCHANGED)]
    counts = {s: confusion_of(own[(own["source"] == s) & (own["target"] == s)]) for s in signals}
    confusion_figure(figures / "confusion.png", counts, classes_of(predictions), f"{title}: {headline}, windows of all subjects")
    for source, rows in projection.groupby("source", sort=False):
        about = f"embeddings of the {source} network by {rows['method'].iloc[0].upper()}, first fold"
        embedding_figure(figures / f"embeddings-{source}.png", rows, f"{title}: {about}")
