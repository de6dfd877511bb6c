"""Stage transfer: an encoder judged on other datasets' tasks, by prompts and by probes of the matched source task (MERL, MELP)."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.access import strictest
from assets.cleaned import recipes_for
from assets.compute import Compute, run_job
from assets.dataset import get_dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, OutputError, Workspace, identify
from assets.settings import Settings
from assets.training import datasets_for, deps_on, job_base, mapped, partitions_for
from assets.transfer_tasks import DIRECTIONS, HOMES, Direction, prompts_of
from assets.verdicts import UnsafeUpstreamError, require_checked
from models.prompts import Prompt
from models.recipes import Recipe, Resample
from models.registry import get_recipe, get_spec
from models.spec import MethodSpec

if TYPE_CHECKING:
    from models.predictions import Predictions

CODE_VERSION = "1"
ZERO_SHOT, PROBE = "transfer_zero_shot", "transfer_probe"
N_RESAMPLES = 1000
"""Of patients, behind every interval."""


def transfers(spec: MethodSpec) -> bool:
    """Whether a method can be judged on other datasets: it reads ECGs into features for a probe, or beside texts."""
    return "ecg" in spec.modalities and bool({"zero_shot", "linear_probe"} & set(spec.protocols))


def transfer_asset(method: str) -> dg.AssetsDefinition:
    """The asset `transfer/<method>`, partitioned by the dataset of the encoder."""
    spec = get_spec(method)
    partitions = [d.name for d in datasets_for(spec)]
    recipe = spec.configure().recipe
    wanted = [Key(("labels", HOMES[task]), task) for task in HOMES]
    for name in dict.fromkeys(HOMES.values()):
        wanted += [Key(("cleaned", name), r) for r in recipes_for(get_dataset(name)) if _alike(get_recipe(r), get_recipe(recipe))]
    prompts = [asset_key("prompts")] if "zero_shot" in spec.protocols else []

    @dg.asset(
        key=asset_key("transfer", method),
        deps=[
            *mapped([(asset_key("encoder", method), partitions)]),
            *deps_on([(k, p) for k in wanted for p in partitions]),
            *prompts,
        ],
        partitions_def=partitions_for(spec),
        group_name=method,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"parquet"},
        description=f"{spec.title} on other datasets' tasks: PTB-XL, CPSC 2018 and CSN in six directions, over the classes they share.",
    )
    def transfer(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, compute: dg.ResourceParam[Compute]
    ) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_transfer(context, settings, compute, spec, context.partition_key)
            extra = {
                "tables": output.facts["tables"],
                "not_judged": dg.MetadataValue.json(output.facts["skipped"]),
                "saw_test_patients": output.facts["saw_test_patients"],
                "transfer": dg.MetadataValue.md(output.path("transfer.md").read_text()),
            }
            return result(context, output, settings, extra)

    return transfer


def make_transfer(context: dg.AssetExecutionContext, settings: Settings, compute: Compute, spec: MethodSpec, dataset_name: str) -> Output:
    """Judge an encoder in every direction whose data has been materialised in the form that it reads; say why not in the others."""
    workspace = Workspace(settings.home)
    key, encoder_key = Key(("transfer", spec.name), dataset_name), Key(("encoder", spec.name), dataset_name)
    encoder = require(workspace, encoder_key)[str(encoder_key)]
    data, skipped = find_data(workspace, encoder)
    directions = [d for d in DIRECTIONS.values() if d.name not in skipped]
    upstream = {str(encoder_key): encoder} | {str(o.key): o for o in data.values()}
    if directions:
        upstream |= require(workspace, Key(("raw", dataset_name)))
        if "zero_shot" in spec.protocols:
            upstream |= require(workspace, Key(("prompts",)))
    inputs: dict[str, Any] = {
        "code_version": f"{CODE_VERSION}.{spec.version}",
        "config": {"skipped": skipped},
        "upstream": versions(upstream),
    }
    run_folder = workspace.run_folder(key, identify(**inputs))

    def build(folder: Path) -> Built:
        (folder / "predictions").mkdir()
        jobs = _Jobs(context, compute, spec, dataset_name, encoder, data, run_folder)
        if directions and "linear_probe" in spec.protocols:
            run_job(context, compute, jobs.probe(directions, workspace.root / "cache" / "embeddings"))
            shutil.copytree(run_folder / "probe" / "predictions", folder / "predictions", dirs_exist_ok=True)
        if directions and "zero_shot" in spec.protocols:
            jobs.zero_shot(directions, upstream["prompts"], folder / "predictions")
        context.log.info("computing metrics with patient bootstrap")
        trained = trained_patients(workspace, encoder) if directions else frozenset()
        return _score(folder, trained, patients_by_part(upstream), skipped)

    access = strictest(o.access for o in upstream.values())
    output = workspace.publish(key, build, access=access, **inputs)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def find_data(workspace: Workspace, encoder: Output) -> tuple[dict[str, Output], dict[str, str]]:
    """What the directions need: outputs by dataset (stores) and "dataset/task" (labels) and "raw/dataset", and why directions are left out.

    Only outputs whose checks have passed and that some direction uses are returned.
    """
    reads = json.loads(encoder.path("bundle/config.json").read_text())["input"]
    found: dict[str, Output | str] = {}
    for task, dataset in HOMES.items():
        if dataset not in found:
            found[dataset] = _store(workspace, dataset, encoder.facts["config"]["recipe"], reads)
        found[f"{dataset}/{task}"] = _checked(workspace, Key(("labels", dataset), task))
        found[f"raw/{dataset}"] = _checked(workspace, Key(("raw", dataset)))
    data: dict[str, Output] = {}
    skipped: dict[str, str] = {}
    for direction in DIRECTIONS.values():
        needed = {n: found[n] for n in _needs(direction)}
        reasons = list(dict.fromkeys(v for v in needed.values() if isinstance(v, str)))
        if reasons:
            skipped[direction.name] = "; ".join(reasons)
        else:
            data |= {n: v for n, v in needed.items() if isinstance(v, Output)}
    return data, skipped


def _needs(direction: Direction) -> list[str]:
    sides = ((direction.source, direction.source_task), (direction.target, direction.target_task))
    return [name for dataset, task in sides for name in (dataset, f"{dataset}/{task}", f"raw/{dataset}")]


def _checked(workspace: Workspace, key: Key) -> Output | str:
    try:
        return require_checked(workspace, key)
    except (OutputError, UnsafeUpstreamError) as error:
        return str(error)


def _store(workspace: Workspace, dataset_name: str, recipe_name: str, reads: Mapping[str, Any]) -> Output | str:
    """The store of a dataset that is prepared as the encoder's was, at its rate and length; else why there is none."""
    dataset, own = get_dataset(dataset_name), get_recipe(recipe_name)
    alike = {r: get_recipe(r) for r in recipes_for(dataset) if _alike(get_recipe(r), own)}
    fitting = [r for r, recipe in alike.items() if (getattr(recipe, "fs_hz", None) or dataset.fs_hz) == reads["fs_hz"]]
    if not fitting:
        return f"no recipe prepares {dataset_name} as {recipe_name} does at {reads['fs_hz']:g} Hz"
    fitting.sort(key=lambda r: r != recipe_name)
    made = [r for r in fitting if workspace.current(Key(("cleaned", dataset_name), r)) is not None]
    if not made:
        keys = " or ".join(str(Key(("cleaned", dataset_name), r)) for r in fitting)
        return f"{keys} has not been made yet; materialise it first"
    store = _checked(workspace, Key(("cleaned", dataset_name), made[0]))
    if isinstance(store, str):
        return store
    channels, shards = store.facts["channels"], store.facts["shards"]
    lacking = [lead for lead in reads["leads"] if lead not in {c["name"] for c in channels}]
    if lacking:
        return f"{store.key} has no channel {', '.join(lacking)}, which the encoder reads"
    lengths = {s["n_samples"] for s in shards}
    if lengths != {reads["n_samples"]}:
        held = " and ".join(map(str, sorted(lengths))) or "no"
        return f"{store.key} holds windows of {held} samples, the encoder reads {reads['n_samples']}"
    return store


def _alike(recipe: Any, other: Any) -> bool:
    """Whether two recipes prepare signals in the same way, but for the rate."""
    if not (isinstance(recipe, Recipe) and isinstance(other, Recipe)):
        return False

    def essence(r: Recipe) -> tuple[Any, ...]:
        return tuple(s for s in r.steps if s != Resample()), r.window_s, r.short, r.absent

    return essence(recipe) == essence(other)


@dataclasses.dataclass(frozen=True)
class _Jobs:
    """The jobs behind an output."""

    context: dg.AssetExecutionContext
    compute: Compute
    spec: MethodSpec
    dataset: str
    encoder: Output
    data: Mapping[str, Output]
    run_folder: Path

    def base(self, kind: str, dataset: str, output: Path) -> dict[str, Any]:
        facts = self.encoder.facts
        bundles = {name: str(self.encoder.path(name)) for name in ("bundle", "random_init")}
        return job_base(kind, self.spec, get_dataset(dataset), facts["preset"], facts["seed"], output) | bundles

    def probe(self, directions: list[Direction], embeddings: Path) -> dict[str, Any]:
        """The job that trains a probe for every source task and scores its targets."""
        datasets = dict.fromkeys(n for d in directions for n in (d.source, d.target))
        tasks = {f"{HOMES[t]}/{t}" for d in directions for t in (d.source_task, d.target_task)}
        return self.base("transfer", self.dataset, self.run_folder / "probe") | {
            "stores": {n: str(self.data[n].folder) for n in datasets},
            "labels": {t: str(self.data[t].path("labels.parquet")) for t in sorted(tasks)},
            "folds": {n: {part: list(folds) for part, folds in dataclasses.asdict(get_dataset(n).split).items()} for n in datasets},
            "directions": {
                d.name: {
                    "source": f"{d.source}/{d.source_task}",
                    "target": f"{d.target}/{d.target_task}",
                    "covers": {c: list(sources) for c, sources in d.covers.items()},
                }
                for d in directions
            },
            "embeddings": str(embeddings),
        }

    def zero_shot(self, directions: list[Direction], prompts: Output, folder: Path) -> None:
        """Score every target by prompts, and write a table a direction: scores do not depend on the source, the classes judged do."""
        from models.predictions import read_predictions, write_predictions

        for target in dict.fromkeys(d.target for d in directions):
            output = self.run_folder / f"zero_shot-{target}"
            tasks = list(dict.fromkeys(d.target_task for d in directions if d.target == target))
            job = self.base("zero_shot", target, output) | {
                "train_folds": [],
                "validation_folds": [],
                "store": str(self.data[target].folder),
                "labels": {t: str(self.data[f"{target}/{t}"].path("labels.parquet")) for t in tasks},
                "prompts": self._write_prompts(tasks, target, prompts),
            }
            run_job(self.context, self.compute, job)
            for path in sorted((output / "predictions").glob("*.parquet")):
                scored = read_predictions(path)
                for direction in (d for d in directions if d.target_task == scored.origin.task):
                    if (table := restricted(scored, direction, self.dataset)) is not None:
                        write_predictions(folder / f"{table.origin.slug}.parquet", table)

    def _write_prompts(self, tasks: list[str], target: str, prompts: Output) -> dict[str, str]:
        """One file a prompt set, with a prompt a class of each task; returns their paths."""
        paths = {}
        for name in prompts.facts["sets"]:
            held = json.loads(prompts.path(f"{name}.json").read_text())
            asked: dict[str, Prompt] = {}
            for task in tasks:
                names = self.data[f"{target}/{task}"].facts["class_names"]
                asked |= {f"{task}:{c}": text for c, text in prompts_of(name, held, task, names).items()}
            path = self.run_folder / "prompts" / target / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asked, indent=1, ensure_ascii=False))
            paths[name] = str(path)
        return paths


def restricted(scored: "Predictions", direction: Direction, encoder_dataset: str) -> "Predictions | None":
    """A zero-shot table of a target task, cut to the classes that the source covers; None where none of them has a prompt."""
    from models.predictions import Predictions

    classes = [c for c in direction.covers if c in scored.classes]
    if not classes:
        return None
    columns = [scored.classes.index(c) for c in classes]
    origin = dataclasses.replace(
        scored.origin,
        dataset=encoder_dataset,
        task=direction.name,
        protocol=ZERO_SHOT,
        selection="cosine with one prompt a class, no label used; classes that the source covers",
    )
    scores_NC, labels_NC = scored.scores_NC[:, columns], scored.labels_NC[:, columns]
    return Predictions(origin, tuple(classes), scored.record_id, scored.patient_id, scored.fold, scores_NC, labels_NC)


def trained_patients(workspace: Workspace, encoder: Output) -> frozenset[str]:
    """Patients that the encoder may have learned from: those of its dataset's training folds, and of its pairing's."""
    import pyarrow.parquet as pq

    folds = set(encoder.facts["train_folds"])
    tables = [workspace.require(Key(("raw", str(encoder.key.partition)))).path("records.parquet")]
    for name in encoder.manifest["upstream"]:
        if name.startswith("pairing/"):
            tables.append(workspace.require(Key(tuple(name.split("/")))).path("samples.parquet"))
    rows = (pq.read_table(path, columns=["patient_id", "fold"]).to_pylist() for path in tables)
    return frozenset(row["patient_id"] for table in rows for row in table if row["fold"] in folds)


def patients_by_part(upstream: Mapping[str, Output]) -> dict[str, dict[str, frozenset[str]]]:
    """The patients of the training and test folds of every raw output, by dataset."""
    import pyarrow.parquet as pq

    found: dict[str, dict[str, frozenset[str]]] = {}
    for output in upstream.values():
        if output.key.stage != "raw":
            continue
        split = get_dataset(output.key.parts[1]).split
        rows = pq.read_table(output.path("records.parquet"), columns=["patient_id", "fold"]).to_pylist()
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
        found[output.key.parts[1]] = {part: frozenset(r["patient_id"] for r in rows if r["fold"] in folds) for part, folds in parts.items()}
    return found


def count_seen(table: "Predictions", encoder_patients: frozenset[str], parts: Mapping[str, Mapping[str, frozenset[str]]]) -> int:
    """How many patients of a prediction table were trained on: by the encoder or, for a probe, in the source's training or validation."""
    seen = set(encoder_patients)
    if table.origin.protocol == PROBE:
        source = parts[DIRECTIONS[table.origin.task].source]
        seen |= source["train"] | source["validation"]
    return len(seen & set(table.patient_id.tolist()))


def read_tables(folder: Path) -> "list[Predictions]":
    """All prediction tables of an output, in order of direction."""
    from models.predictions import read_predictions

    order = {name: i for i, name in enumerate(DIRECTIONS)}
    tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
    return sorted(tables, key=lambda t: (t.origin.protocol, t.origin.prompts or "", t.origin.arm, order.get(t.origin.task, len(order))))


def _score(folder: Path, trained: frozenset[str], parts: Mapping[str, Mapping[str, frozenset[str]]], skipped: Mapping[str, str]) -> Built:
    import pandas as pd

    from assets.transfer_table import ROW_COLUMNS, score_transfer, to_markdown

    tables = read_tables(folder)
    seen = {t.origin.slug: count_seen(t, trained, parts) for t in tables}
    rows = score_transfer(tables, {n: get_dataset(n).split.test for n in dict.fromkeys(HOMES.values())}, seen, N_RESAMPLES)
    pd.DataFrame(rows, columns=list(ROW_COLUMNS)).to_parquet(folder / "metrics.parquet", index=False)
    (folder / "transfer.md").write_text(to_markdown(rows, skipped))
    facts = {
        "tables": [f"{t.origin.slug}.parquet" for t in tables],
        "skipped": dict(skipped),
        "saw_test_patients": max(seen.values(), default=0),
    }
    return Built(rows=len(rows), facts=facts)
