"""What the training stages share: which datasets a method can use, partitions, configuration forms, and jobs."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from assets.dataset import Dataset, get_dataset, list_datasets
from assets.materialize import asset_key
from assets.outputs import Key
from assets.settings import workspace_home
from assets.user_tasks import task_names, user_task_names
from models.errors import ConfigurationError
from models.spec import GateRule, MethodSpec
from models.types import LEADS, Modality


def datasets_for(spec: MethodSpec) -> list[type[Dataset]]:
    """The datasets that offer every modality a method learns from, twelve leads in microvolts included, and a task to judge it by."""
    found = [get_dataset(name) for name in list_datasets()]
    return [
        d for d in found if set(spec.modalities) <= d.offers() and task_names(d) and (Modality.ECG not in spec.modalities or _has_leads(d))
    ]


def _has_leads(dataset: type[Dataset]) -> bool:
    return set(LEADS) <= {c.name for c in dataset.channels() if c.unit == "uV"}


def partitions_for(spec: MethodSpec) -> dg.StaticPartitionsDefinition:
    """The partitions of a method's encoder, heads, evaluation and registry: one a dataset."""
    return dg.StaticPartitionsDefinition([d.name for d in datasets_for(spec)])


def tasks_for(spec: MethodSpec, dataset: type[Dataset]) -> list[str]:
    """The tasks that heads are trained for: the method's own that the dataset offers, or all of the dataset's if it offers none;
    then those that users added."""
    own = [t for t in spec.tasks if t in dataset.task_names] or list(dataset.task_names)
    return [*own, *user_task_names(workspace_home(), dataset.name)]


def tasks_of(spec: MethodSpec) -> list[str]:
    """Every task that the method has a head for on some dataset, the method's own first."""
    return list(dict.fromkeys([*spec.tasks, *(t for d in datasets_for(spec) for t in tasks_for(spec, d))]))


def gate_for(spec: MethodSpec, dataset: type[Dataset]) -> GateRule:
    """The method's gate, on the dataset's first task where it does not offer the gate's own."""
    tasks = tasks_for(spec, dataset)
    return spec.gate if spec.gate.task in tasks or not tasks else dataclasses.replace(spec.gate, task=tasks[0])


def dataset_deps(spec: MethodSpec, *stages: str, task: str | None = None) -> list[dg.AssetDep]:
    """Dependencies of a dataset-partitioned asset on the partitions of data assets that its default preset reads."""
    config = spec.configure()
    deps = []
    for dataset in datasets_for(spec):
        for stage in stages:
            partition = {"cleaned": config.recipe, "reports": getattr(config, "report_form", None), "labels": task}[stage]
            if partition is None or (stage == "labels" and partition not in task_names(dataset)):
                continue
            mapping = dg.StaticPartitionMapping({partition: dataset.name})
            deps.append(dg.AssetDep(asset_key(stage, dataset.name), partition_mapping=mapping))
    return deps


def data_keys(spec: MethodSpec, config: Any, dataset: str) -> list[Key]:
    """The data outputs that a configuration trains on."""
    keys = [Key(("cleaned", dataset), config.recipe)]
    if Modality.TEXT in spec.modalities:
        keys.append(Key(("reports", dataset), config.report_form))
    return keys


@cache
def config_form(spec_name: str) -> type[dg.Config]:
    """The run configuration of an encoder asset: preset, seed, and every option of the method to override one by one."""
    from models.registry import get_spec

    spec = get_spec(spec_name)
    presets = Enum("Preset", {name: name for name in spec.presets}, type=str)  # type: ignore[misc]
    hints = typing.get_type_hints(spec.config)
    options: dict[str, Any] = {
        f.name: (_option_type(hints[f.name]), Field(default=None, description=f"overrides the preset's {f.name}"))
        for f in dataclasses.fields(spec.config)
    }
    return create_model(
        f"{spec.name.title().replace('_', '')}Config",
        __base__=dg.Config,
        preset=(presets, Field(default=presets["tiny"], description="named configuration")),
        seed=(int, Field(default=0, description="seed of initialisation and data order")),
        **options,
    )


def _option_type(hint: Any) -> Any:
    """The type of a form field for a dataclass field; tuples become lists, literals strings."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _option_type(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return list[arguments[0]] | None  # type: ignore[valid-type]
    if origin is typing.Literal:
        return str | None
    return hint | None


def chosen(spec: MethodSpec, form: dg.Config) -> tuple[str, int, Any]:
    """Preset name, seed and full configuration from a filled-in form.

    Raises:
        ConfigurationError: a value that the method refuses.
    """
    values = {k: v for k, v in form.model_dump().items() if v is not None}
    preset, seed = values.pop("preset"), int(values.pop("seed"))
    overrides = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return str(getattr(preset, "value", preset)), seed, spec.configure(str(getattr(preset, "value", preset)), **overrides)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{spec.name}: {error}") from error


def job_base(kind: str, spec: MethodSpec, dataset: type[Dataset], preset: str, seed: int, output: Path) -> dict[str, Any]:
    """The entries that every job has."""
    return {
        "kind": kind,
        "method": spec.name,
        "preset": preset,
        "dataset": dataset.name,
        "seed": seed,
        "train_folds": list(dataset.split.train),
        "validation_folds": list(dataset.split.validation),
        "test_folds": list(dataset.split.test),
        "output": str(output),
    }


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def configured(spec: MethodSpec, values: Mapping[str, Any]) -> Any:
    """The configuration that a manifest holds as JSON."""
    return spec.config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def mapped(keys: Iterable[tuple[dg.AssetKey, Iterable[str]]]) -> list[dg.AssetDep]:
    """Dependencies on equally named partitions, restricted to those given."""
    return [dg.AssetDep(key, partition_mapping=dg.StaticPartitionMapping({n: n for n in names})) for key, names in keys]
