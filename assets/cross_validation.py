"""Stage cross_validation: a method fine-tuned and judged in every fold of the splits that its spec names.

predictions/*.parquet   scores of a fold's validation and test records
folds.parquet           all metrics of every fold
metrics.parquet         their mean and standard deviation over the folds of a split
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.access import strictest
from assets.challenge import scored_year
from assets.compute import Compute, collect, run_job
from assets.dataset import get_dataset
from assets.leaderboard_table import each
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace, identify
from assets.settings import Settings
from assets.training import configured, datasets_for, default_inputs, deps_on, inputs_for, job_base, mapped, partitions_for, task_homes
from models.registry import get_spec
from models.spec import MethodSpec
from models.types import Modality

if TYPE_CHECKING:
    import pandas as pd

CODE_VERSION = "1"
VALIDATION, TEST = (1,), (2,)
"""Values of the column `fold` of the tables (`models.cross_validation_job`)."""

_QUESTION = ["dataset", "task", "method", "preset", "protocol", "arm", "fraction", "seed", "metric", "unit"]


def cross_validation_asset(method: str) -> dg.AssetsDefinition:
    """The asset `cross_validation/<method>`, partitioned by dataset."""
    spec = get_spec(method)
    datasets = datasets_for(spec)
    reads = [(default_inputs(spec, d).signals, d.name) for d in datasets]
    reads += [(Key(("labels", home.name), task), d.name) for d in datasets for task, (home, _) in task_homes(spec, d).items()]

    @dg.asset(
        key=asset_key("cross_validation", method),
        deps=[
            *mapped([(asset_key("encoder", method), [d.name for d in datasets])]),
            *deps_on([(k, p) for k, p in reads if k is not None]),
        ],
        partitions_def=partitions_for(spec),
        group_name=method,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"parquet"},
        description=f"{spec.title} trained and judged in every fold of {', '.join(spec.splits)}.",
    )
    def cross_validation(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, compute: dg.ResourceParam[Compute]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_cross_validation(context, settings, compute, spec, context.partition_key)
            shown = {"tables": output.facts["tables"], "metrics": dg.MetadataValue.md(output.path("cross_validation.md").read_text())}
            return result(context, output, settings, shown)

    return cross_validation


def make_cross_validation(
    context: dg.AssetExecutionContext, settings: Settings, compute: Compute, spec: MethodSpec, dataset_name: str
) -> Output:
    """Train and judge every fold of every split of every task about recordings."""
    workspace, dataset = Workspace(settings.home), get_dataset(dataset_name)
    key, encoder_key = Key(("cross_validation", spec.name), dataset_name), Key(("encoder", spec.name), dataset_name)
    encoder = require(workspace, encoder_key)[str(encoder_key)]
    signals = inputs_for(spec, configured(spec, encoder.facts["config"]), dataset_name).signals
    assert signals is not None, "a method with named splits reads signals"
    homes = task_homes(spec, dataset)
    tasks = {t: Key(("labels", home.name), t) for t, (home, modality) in homes.items() if modality is not Modality.IMAGE}
    upstream = {str(encoder_key): encoder} | require(workspace, signals, *tasks.values())
    asked: dict[str, Any] = {
        "code_version": f"{CODE_VERSION}.{spec.version}",
        "upstream": versions(upstream),
        "config": {"splits": list(spec.splits)},
    }
    run_folder = workspace.run_folder(key, identify(**asked))

    def build(folder: Path) -> Built:
        (folder / "predictions").mkdir()
        for task, labels_key in tasks.items():
            labels = upstream[str(labels_key)]
            job = job_base("cross_validation", spec, dataset, encoder.facts["preset"], encoder.facts["seed"], run_folder / task) | {
                "dataset": dataset_name,
                "store": str(upstream[str(signals)].folder),
                "bundle": str(encoder.path("bundle")),
                "labels": str(labels.folder / "labels.parquet"),
                "task": task,
                "task_kind": labels.facts["kind"],
                "unit": labels.facts["unit"],
                "splits": list(spec.splits),
            }
            run_job(context, compute, job)
            gathered = folder / f".{task}"
            gathered.mkdir()
            collect(run_folder / task, gathered, "predictions")
            shutil.copytree(gathered / "predictions", folder / "predictions", dirs_exist_ok=True)
            shutil.rmtree(gathered)
        context.log.info("computing metrics with patient bootstrap")
        return summarise(folder, {task: year for task, (home, _) in homes.items() if (year := scored_year(home, task)) is not None})

    output = workspace.publish(key, build, access=strictest(o.access for o in upstream.values()), **asked)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def summarise(folder: Path, challenges: Mapping[str, int]) -> Built:
    """Score the tables of a folder and write the metrics of folds and of splits; `challenges` says which Challenge scored a task."""
    import pandas as pd

    from assets.challenge_scoring import score_challenge
    from assets.scoring import score_table
    from models.predictions import read_predictions

    tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
    rows = [row for table in tables for row in score_table(table, VALIDATION, TEST)]
    for table in (t for t in tables if t.origin.task in challenges):
        rows += score_challenge([table], challenges[table.origin.task], VALIDATION, TEST)
    folds = pd.DataFrame(rows)
    folds.to_parquet(folder / "folds.parquet", index=False)
    metrics = over_folds(folds)
    metrics.to_parquet(folder / "metrics.parquet", index=False)
    (folder / "cross_validation.md").write_text(to_markdown(metrics))
    return Built(rows=len(metrics), facts={"tables": sorted(t.origin.slug for t in tables)})


def over_folds(folds: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and standard deviation (n - 1) over the folds of a split, one row a metric, with its least and largest fold.

    A fold in which a metric is not defined is left out; `n_folds` says of how many the mean is.
    """
    parted = folds.assign(split=folds["split"].str.partition("/")[0], fraction=folds["fraction"].fillna(-1.0))
    groups = parted.groupby([*_QUESTION, "split"], sort=False)
    found = groups.agg(
        value=("value", "mean"),
        deviation=("value", "std"),
        least=("value", "min"),
        largest=("value", "max"),
        n_folds=("value", "count"),
        n_records=("n_records", "sum"),
    ).reset_index()
    return found.assign(fraction=found["fraction"].where(found["fraction"] >= 0))


def to_markdown(metrics: "pd.DataFrame") -> str:
    """The macro metrics of every split, for people."""
    lines = ["| task | split | metric | mean | standard deviation over folds | folds |", "|---|---|---|---|---|---|"]
    for row in each(metrics):
        if ":" not in str(row.metric):
            deviation = f"{row.deviation:.3f}" if row.n_folds > 1 else "one fold"
            lines.append(f"| {row.task} | {row.split} | {row.metric} | {row.value:.3f} | {deviation} | {row.n_folds} |")
    return "\n".join(lines) + "\n"
