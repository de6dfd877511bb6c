"""Stage encoder: pretraining, through the resource `compute`; delivers a bundle and its random-initialised twin."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.access import strictest
from assets.compute import Compute, collect, run_job
from assets.dataset import get_dataset
from assets.materialize import WorkspaceResource, asset_key, explained, require, result, versions
from assets.outputs import Built, Key, Output, Workspace, identify, write_atomic
from assets.settings import Settings
from assets.training import chosen, config_form, data_keys, dataset_deps, job_base, partitions_for, plain
from models.errors import ConfigurationError
from models.registry import get_spec
from models.spec import MethodSpec

if TYPE_CHECKING:
    from assets.tracking import TrackedRun

CODE_VERSION = "1"


def encoder_asset(method: str) -> dg.AssetsDefinition:
    """The asset `encoder/<method>`, partitioned by dataset; preset, seed and options are run configuration."""
    spec = get_spec(method)
    form_type = config_form(method)

    @dg.asset(
        key=asset_key("encoder", method),
        deps=dataset_deps(spec, "cleaned", "reports"),
        partitions_def=partitions_for(spec),
        group_name=method,
        code_version=f"{CODE_VERSION}.{spec.version}",
        kinds={"pytorch", "lightning"},
        metadata={"paper": spec.paper.title, "venue": spec.paper.venue, "url": dg.MetadataValue.url(spec.paper.url)},
        description=f"{spec.title}: {spec.summary}",
    )
    def encoder(
        context: dg.AssetExecutionContext,
        config: form_type,  # type: ignore[valid-type]
        workspace: WorkspaceResource,
        compute: dg.ResourceParam[Compute],
    ) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            preset, seed, options = chosen(spec, config)
            output = make_encoder(context, settings, compute, spec, context.partition_key, preset, seed, options)
            run = track(settings, spec, output)
            extra = {k: output.facts[k] for k in ("preset", "seed", "steps", "parameters")} | {"mlflow_run": run.run_id}
            return result(context, output, settings, extra | {f"final_{k}": v for k, v in output.facts["final"].items()})

    return encoder


def make_encoder(
    context: dg.AssetExecutionContext,
    settings: Settings,
    compute: Compute,
    spec: MethodSpec,
    dataset_name: str,
    preset: str,
    seed: int,
    options: Any,
) -> Output:
    """Train an encoder, or find that this configuration was trained on this data before."""
    workspace, dataset = Workspace(settings.home), get_dataset(dataset_name)
    keys = data_keys(spec, options, dataset_name)
    upstream = require(workspace, *keys)
    key = Key(("encoder", spec.name), dataset_name)
    weights = supplied_weights(settings, options)
    inputs: dict[str, Any] = {
        "code_version": f"{CODE_VERSION}.{spec.version}",
        "config": {"preset": preset, "seed": seed, "options": plain(options), "weights": weights["path"]},
        "upstream": versions(upstream),
    }
    access = strictest([*(o.access for o in upstream.values()), weights["access"]])
    run_folder = workspace.run_folder(key, identify(**inputs))

    def build(folder: Path) -> Built:
        job = job_base("pretrain", spec, dataset, preset, seed, run_folder) | {
            "config": plain(options),
            "store": str(upstream[str(keys[0])].folder),
            "reports": str(upstream[str(keys[1])].path("reports.parquet")) if len(keys) > 1 else None,
            "text_weights": weights["path"],
            "card": {
                "dataset": dataset_name,
                "access": str(access),
                "data_versions": inputs["upstream"],
                "code_version": inputs["code_version"],
            },
        }
        done = run_job(context, compute, job)
        collect(run_folder, folder, "bundle", "random_init", "metrics.jsonl")
        rows = training_rows(folder)
        if rows:
            from assets.plots import loss_figure

            (folder / "figures").mkdir()
            loss_figure(folder / "figures" / "loss.png", rows, f"{spec.title} on {dataset.source.title}, preset {preset}")
        facts = {
            "method": spec.name,
            "preset": preset,
            "seed": seed,
            "config": plain(options),
            "train_folds": job["train_folds"],
            "steps": done["steps"],
            "parameters": done["parameters"],
        }
        return Built(rows=done["records"], facts=facts | {"final": done["final"]}, notes={"timing": done["timing"]})

    output = workspace.publish(key, build, access=access, **inputs)
    shutil.rmtree(run_folder, ignore_errors=True)  # everything of worth has been published
    return output


def supplied_weights(settings: Settings, options: Any) -> dict[str, Any]:
    """Path and access class of the local weights that a configuration asks for by name; nothing for none.

    Raises:
        ConfigurationError: the settings do not supply them.
    """
    name = getattr(options, "text_weights", None)
    if not name:
        return {"path": None, "access": "open"}
    if name not in settings.weights:
        raise ConfigurationError(f"the configuration asks for the weights {name!r}; name their folder in settings.yaml as `weights.{name}`")
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
    run = log_training(
        settings,
        experiment=f"{spec.name}.{dataset}",
        run_name=f"{spec.name} {output.facts['preset']} seed {output.facts['seed']}",
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
