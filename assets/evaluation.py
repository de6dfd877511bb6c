"""Stage evaluation: tables a record or a query first, then every metric from them, with patient bootstrap.

predictions/*.parquet   scores of heads and of zero-shot classification
ranks/*.parquet         places of queries: retrieval, patient identification
generated/*.parquet     reports that were written, beside those in the data
answers/*.parquet       answers that were given to questions, beside the true ones
reconstructions/*.parquet  errors of leads that were not shown; some reconstructions themselves in reconstructed/
explanations.parquet    what a fused head's decisions rest on, its maps in explanations/*.npy
metrics.parquet         all metrics
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.challenge_text import challenge_text
from assets.compute import Compute, collect, run_job
from assets.dataset import Dataset, Split, get_dataset
from assets.encoders import supplied_weights
from assets.evaluation_figures import answer_sample, draw, report_sample, summary
from assets.judging import Homes, Judged
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, shows_content, versions
from assets.outputs import Built, Key, Output, Workspace, identify
from assets.scoring import HEADLINES
from assets.settings import Settings
from assets.training import (
    asks_questions,
    configured,
    dataset_deps,
    datasets_for,
    deps_on,
    inputs_for,
    mapped,
    partitions_for,
    task_homes,
    tasks_for,
    tasks_of,
)
from models.registry import get_spec
from models.spec import MethodSpec

CODE_VERSION = "3"
TABLES = ("predictions", "ranks", "generated", "answers", "reconstructions", "reconstructed", "explanations", "explanations.parquet")
"""What jobs write."""


def evaluation_asset(method: str) -> dg.AssetsDefinition:
    """The asset `evaluation/<method>`, partitioned by dataset."""
    spec = get_spec(method)
    datasets = datasets_for(spec)
    upstream = [(asset_key("encoder", method), [d.name for d in datasets])]
    upstream += [(asset_key("head", method, t), [d.name for d in datasets if t in tasks_for(spec, d)]) for t in tasks_of(spec)]

    @dg.asset(
        key=asset_key("evaluation", method),
        deps=[*mapped(upstream), *_data_deps(spec), *([asset_key("prompts")] if "zero_shot" in spec.protocols else [])],
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
            extra = {"tables": output.facts["tables"], "metrics": dg.MetadataValue.md(summary(output))}
            if (challenge := challenge_text(output)) is not None:
                extra["challenge"] = dg.MetadataValue.md(challenge)
            if output.facts["reports"] and shows_content(context.instance, settings, output):
                extra["reports"] = dg.MetadataValue.md(report_sample(output))
            if output.facts.get("questions") and shows_content(context.instance, settings, output):
                extra["questions"] = dg.MetadataValue.md(answer_sample(output))
            return result(context, output, settings, extra)

    return evaluation


def _data_deps(spec: MethodSpec) -> list[dg.AssetDep]:
    asks = set(spec.protocols)
    asked = deps_on((Key(("questions", d.name)), d.name) for d in datasets_for(spec) if asks_questions(spec, d))
    if asks & {"retrieval", "generation", "explanation"}:
        return [*dataset_deps(spec), *asked]
    return [*(dataset_deps(spec, "cleaned") if asks & {"zero_shot", "identification", "reconstruction"} or asked else []), *asked]


def make_evaluation(context: dg.AssetExecutionContext, settings: Settings, compute: Compute, spec: MethodSpec, dataset_name: str) -> Output:
    """Gather the heads' prediction tables, have the other protocols' tables made, and compute the metrics of all of them."""
    workspace, dataset = Workspace(settings.home), get_dataset(dataset_name)
    homes = task_homes(spec, dataset)
    key, encoder_key = Key(("evaluation", spec.name), dataset_name), Key(("encoder", spec.name), dataset_name)
    head_keys = [Key(("head", spec.name, t), dataset_name) for t in homes]
    upstream = require(workspace, encoder_key, *head_keys)
    encoder = upstream[str(encoder_key)]
    for head in (upstream[str(k)] for k in head_keys):
        _require_same_encoder(head, encoder)
    read = inputs_for(spec, configured(spec, encoder.facts["config"]), dataset_name)
    # What the encoder learned from beside the dataset is no matter of its judgement there.
    weights = supplied_weights(settings, configured(spec, encoder.facts["config"]), "classifier_weights")
    judged = Judged(spec, dataset, encoder, homes, dataclasses.replace(read, mixture=()), weights["path"] and Path(weights["path"]))
    upstream |= require(workspace, *judged.reads())
    asked = {"classifier_weights": weights["path"]} if weights["path"] else {}
    inputs: dict[str, Any] = {"code_version": f"{CODE_VERSION}.{spec.version}", "config": asked, "upstream": versions(upstream)}
    run_folder = workspace.run_folder(key, identify(**inputs))

    def build(folder: Path) -> Built:
        for head_key in head_keys:
            if (held := upstream[str(head_key)].folder / "predictions").exists():
                shutil.copytree(held, folder / "predictions", dirs_exist_ok=True)
        for name, job in judged.jobs(upstream, run_folder).items():
            run_job(context, compute, job)
            gathered = folder / f".{name}"
            gathered.mkdir()
            collect(run_folder / name, gathered, *TABLES)
            shutil.copytree(gathered, folder, dirs_exist_ok=True)
            shutil.rmtree(gathered)
        context.log.info("computing metrics with patient bootstrap")
        built = score(folder, dataset, homes)
        draw(folder, judged, upstream)
        return built

    access = strictest([*(o.access for o in upstream.values()), weights["access"]])
    output = workspace.publish(key, build, access=access, **inputs)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def track_evaluation(settings: Settings, spec: MethodSpec, output: Output) -> None:
    """Log the headline metrics to the MLflow run of the encoder that was judged."""
    import pandas as pd

    from assets.encoders import track
    from assets.tracking import log_evaluation

    encoder = Workspace(settings.home).require(Key(("encoder", spec.name), output.key.partition))
    table = pd.read_parquet(output.path("metrics.parquet"))
    headline = table[table["metric"].isin(["macro_auprc", *HEADLINES])]
    log_evaluation(settings, track(settings, spec, encoder), [{str(k): v for k, v in row.items()} for row in headline.to_dict("records")])


def score(folder: Path, dataset: type[Dataset], homes: Homes) -> Built:
    """Compute the rows of metrics.parquet from all tables of a folder."""
    import pandas as pd

    from assets.answer_scoring import score_answers
    from assets.challenge import scored_year
    from assets.challenge_scoring import score_challenge
    from assets.rank_scoring import compare_rank_arms, score_ranks
    from assets.reconstruction_scoring import score_downstream, score_reconstructions
    from assets.report_scoring import score_reports
    from assets.scoring import compare_arms, score_table
    from models.answer_tables import read_answers
    from models.predictions import read_predictions
    from models.rank_tables import read_ranks
    from models.reconstruction_tables import read_reconstructions
    from models.report_tables import read_generated

    def splits(task: str) -> Split:
        return (homes[task][0] if task in homes else dataset).split

    tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
    ranks = [read_ranks(p) for p in sorted((folder / "ranks").glob("*.parquet"))]
    reports = [read_generated(p) for p in sorted((folder / "generated").glob("*.parquet"))]
    answers = [read_answers(p) for p in sorted((folder / "answers").glob("*.parquet"))]
    leads = [read_reconstructions(p) for p in sorted((folder / "reconstructions").glob("*.parquet"))]
    rows: list[dict[str, Any]] = []
    for table in tables:
        split = splits(table.origin.task)
        rows += score_table(table, split.validation, split.test)
    for task in dict.fromkeys(t.origin.task for t in tables):
        asked, split = [t for t in tables if t.origin.task == task], splits(task)
        rows += compare_arms(asked, split.test)
        rows += score_downstream(asked, split.validation, split.test)
        if (year := scored_year(homes[task][0] if task in homes else dataset, task)) is not None:
            rows += score_challenge(asked, year, split.validation, split.test)
    for ranked in ranks:
        rows += score_ranks(ranked, dataset.split.test)
    rows += compare_rank_arms(ranks, dataset.split.test)
    rows += score_reports(reports) if reports else []
    rows += score_answers(answers, dataset.split.test)
    rows += score_reconstructions(leads, dataset.split.test)
    pd.DataFrame(rows).to_parquet(folder / "metrics.parquet", index=False)
    n_tables = len(tables) + len(ranks) + len(reports) + len(answers) + len(leads)
    return Built(rows=len(rows), facts={"tables": n_tables, "reports": len(reports), "questions": len(answers)})


def _require_same_encoder(head: Output, encoder: Output) -> None:
    from assets.outputs import OutputError

    trained_on = head.manifest["upstream"].get(str(encoder.key))
    if trained_on != encoder.data_version:
        raise OutputError(f"{head.key} was trained on another version of {encoder.key}; materialise {head.key} again before its evaluation")
