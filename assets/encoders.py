"""Stage encoder, and the stage before it where a method has one: training through the resource `compute`.

Both deliver a bundle and its random-initialised twin, are partitioned by dataset and take the same form of configuration.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.access import strictest
from assets.compute import Compute, collect, run_job
from assets.dataset import get_dataset
from assets.forms import chosen, config_form
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, OutputError, Workspace, identify, write_atomic
from assets.settings import Settings
from assets.training import Inputs, dataset_deps, inputs_for, job_base, mapped, partitions_for, plain, split_folds
from models.config import weights_option
from models.errors import ConfigurationError
from models.registry import get_spec
from models.spec import MethodSpec, Stage
from models.types import Modality

if TYPE_CHECKING:
    from assets.tracking import TrackedRun

CODE_VERSION = "2"


def encoder_asset(method: str) -> dg.AssetsDefinition:
    """The asset `encoder/<method>`, partitioned by dataset; preset, seed and options are run configuration."""
    spec = get_spec(method)
    deps = dataset_deps(spec)
    if spec.first_stage is not None:
        partitions = partitions_for(spec).get_partition_keys()
        deps += mapped([(asset_key(spec.first_stage.name, method), partitions)])
    return _training_asset(spec, None, deps, f"{spec.title}: {spec.summary}")


def first_stage_asset(method: str) -> dg.AssetsDefinition:
    """The asset `<stage>/<method>` of a method that has a stage before the encoder's; like the encoder's in all else."""
    spec = get_spec(method)
    stage = spec.first_stage
    assert stage is not None, f"{method} has no stage before the encoder's"
    return _training_asset(spec, stage, dataset_deps(spec, stage=stage), f"{spec.title}: {stage.title}")


def _training_asset(spec: MethodSpec, stage: Stage | None, deps: list[dg.AssetDep], description: str) -> dg.AssetsDefinition:
    form_type = config_form(spec.name)

    @dg.asset(
        key=asset_key(_stage_name(stage), spec.name),
        deps=deps,
        partitions_def=partitions_for(spec),
        group_name=spec.name,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"pytorch", "lightning"},
        metadata={"paper": spec.paper.title, "venue": spec.paper.venue, "url": dg.MetadataValue.url(spec.paper.url)},
        description=description,
    )
    def trained(
        context: dg.AssetExecutionContext,
        config: form_type,  # type: ignore[valid-type]
        workspace: WorkspaceResource,
        compute: dg.ResourceParam[Compute],
    ) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            preset, seed, options = chosen(spec, config)
            output = make_encoder(context, settings, compute, spec, context.partition_key, preset, seed, options, stage)
            run = track(settings, spec, output)
            extra = {k: output.facts[k] for k in ("preset", "seed", "steps", "parameters")} | {"mlflow_run": run.run_id}
            return result(context, output, settings, extra | {f"final_{k}": v for k, v in output.facts["final"].items()})

    return trained


def make_encoder(
    context: dg.AssetExecutionContext,
    settings: Settings,
    compute: Compute,
    spec: MethodSpec,
    dataset_name: str,
    preset: str,
    seed: int,
    options: Any,
    stage: Stage | None = None,
) -> Output:
    """Train an encoder, or the stage before it, or find that this configuration was trained on this data before.

    Raises:
        ConfigurationError: the dataset does not offer what the configuration reads, or weights are not supplied.
        OutputError, UnsafeUpstreamError: something that it reads has not been made, or failed a check.
    """
    workspace, dataset = Workspace(settings.home), get_dataset(dataset_name)
    inputs = inputs_for(spec, options, dataset_name, stage)
    upstream = require(workspace, *inputs.keys)
    first = None if stage is not None else _first_stage(workspace, spec, dataset_name, options)
    if first is not None:
        upstream[str(first.key)] = first
    key = Key((_stage_name(stage), spec.name), dataset_name)
    weights = supplied_weights(settings, options)
    asked: dict[str, Any] = {
        "code_version": f"{CODE_VERSION}.{spec.version}",
        # What the stage makes of the configuration: options of the encoder alone do not train the stage before it again.
        "config": {"preset": preset, "seed": seed, "options": _options(options, stage), "weights": weights["path"]},
        "upstream": versions(upstream),
    }
    access = strictest([*(o.access for o in upstream.values()), weights["access"]])
    run_folder = workspace.run_folder(key, identify(**asked))

    def build(folder: Path) -> Built:
        job = job_base("pretrain", spec, dataset, preset, seed, run_folder) | {
            "config": plain(options),
            "stage": _stage_name(stage),
            "first_stage": None if first is None else str(first.path("bundle")),
            **data_files(inputs, upstream),
            "text_weights": weights["path"],
            "card": {
                "dataset": dataset_name,
                "access": str(access),
                "data_versions": asked["upstream"],
                "code_version": asked["code_version"],
            },
        }
        done = run_job(context, compute, job)
        collect(run_folder, folder, "bundle", "random_init", "metrics.jsonl")
        what = spec.title if stage is None else f"{spec.title}, {stage.name.replace('_', ' ')},"
        _draw_loss(folder, f"{what} on {dataset.source.title}, preset {preset}")
        facts = {k: job[k] for k in ("method", "preset", "seed", "train_folds")} | _read_facts(inputs, upstream)
        facts |= {"config": asked["config"]["options"]} | {k: done[k] for k in ("steps", "parameters", "final")}
        return Built(rows=done["records"], facts=facts, notes={"timing": done["timing"]})

    output = workspace.publish(key, build, access=access, **asked)
    shutil.rmtree(run_folder, ignore_errors=True)  # everything of worth has been published
    return output


def _draw_loss(folder: Path, title: str) -> None:
    from assets.plots import loss_figure

    if rows := training_rows(folder):
        (folder / "figures").mkdir()
        loss_figure(folder / "figures" / "loss.png", rows, title)


def _read_facts(inputs: Inputs, upstream: dict[str, Output]) -> dict[str, Any]:
    """What was read, and for lab panels the fingerprint of their scale, which is in the bundle."""
    facts = {"modalities": [str(m) for m in inputs.modalities], "pairing": None if inputs.rule is None else inputs.rule.name}
    pairing = {} if inputs.pairing is None else upstream[str(inputs.pairing)].facts
    return facts | ({"percentiles_sha256": pairing["percentiles_sha256"]} if Modality.LABS in inputs.modalities else {})


def _stage_name(stage: Stage | None) -> str:
    return "encoder" if stage is None else stage.name


def _options(options: Any, stage: Stage | None) -> dict[str, Any]:
    return plain(options if stage is None else stage.configure(options))


def _first_stage(workspace: Workspace, spec: MethodSpec, dataset: str, options: Any) -> Output | None:
    """What the stage before made for this configuration; None for methods without one."""
    if spec.first_stage is None:
        return None
    key = Key((spec.first_stage.name, spec.name), dataset)
    output = require(workspace, key)[str(key)]
    wanted, held = _options(options, spec.first_stage), output.facts["config"]
    if differs := [name for name, value in wanted.items() if held.get(name) != value]:
        raise OutputError(
            f"{key} was trained with other options than this encoder asks for ({', '.join(differs)}); materialise both with the same configuration"
        )
    return output


def data_files(inputs: Inputs, upstream: dict[str, Output]) -> dict[str, Any]:
    """Folders and files of the data of a job that reads all modalities, by its entries."""

    def place(key: Key | None, file: str | None = None) -> str | None:
        if key is None:
            return None
        output = upstream[str(key)]
        return str(output.folder if file is None else output.path(file))

    return {
        "store": place(inputs.signals),
        "reports": place(inputs.reports, "reports.parquet"),
        "pairing": place(inputs.pairing),
        "images": place(inputs.images),
        "image_reports": place(inputs.image_reports, inputs.image_reports_file),
        "mixture": {
            member.name: {
                "store": place(member.signals),
                "reports": place(member.reports, "reports.parquet"),
                "site": member.site,
                **split_folds(member.dataset),
            }
            for member in inputs.mixture
        },
    }


def supplied_weights(settings: Settings, options: Any, option: str | None = None) -> dict[str, Any]:
    """Path and access class of the local weights that an option of a configuration (by default those of its encoder) asks for by name; nothing for none.

    Raises:
        ConfigurationError: the settings do not supply them.
    """
    name = getattr(options, option or weights_option(options) or "", None)
    if not name:
        return {"path": None, "access": "open"}
    if name not in settings.weights:
        raise ConfigurationError(f"the configuration asks for the weights {name!r}; name their place in settings.yaml as `weights.{name}`")
    return {"path": str(settings.weights[name].path), "access": settings.weights[name].access}


def training_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def track(settings: Settings, spec: MethodSpec, output: Output) -> "TrackedRun":
    """Log a training run to MLflow, once a data version."""
    from assets.tracking import TrackedRun, log_training

    marker = settings.home / "tracking" / f"{output.data_version}.json"
    if marker.exists():
        return TrackedRun(**json.loads(marker.read_text()))
    dataset = str(output.key.partition)
    stage = "" if output.key.stage == "encoder" else f" {output.key.stage}"
    run = log_training(
        settings,
        experiment=f"{spec.name}.{dataset}",
        run_name=f"{spec.name}{stage} {output.facts['preset']} seed {output.facts['seed']}",
        params={"preset": output.facts["preset"], "seed": output.facts["seed"], **output.facts["config"]},
        metrics_rows=training_rows(output.folder),
        figures=sorted((output.folder / "figures").glob("*.png")),
        dataset_inputs=[(name, version, dataset) for name, version in output.manifest["upstream"].items()],
        bundle=output.path("bundle"),
        access=output.access,
        tags={
            "einthoven.data_version": output.data_version,
            "einthoven.code_version": output.manifest["code_version"],
            "einthoven.asset": str(output.key),
        },
    )
    marker.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(marker, json.dumps(dataclasses.asdict(run)))
    return run
