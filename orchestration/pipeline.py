"""The whole way as a list of steps, for the command line: which assets, which partition, which configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.cross_modality import exchanges_signals
from assets.dataset import Dataset, get_dataset
from assets.encoders import supplied_weights
from assets.forms import overridden
from assets.materialize import asset_key
from assets.outputs import Key
from assets.pairing import source_keys
from assets.settings import load
from assets.training import Member, asks_questions, datasets_for, inputs_for, presets_for, task_homes, wrong_size
from models.errors import ConfigurationError, EinthovenError
from models.registry import get_spec, list_methods
from models.spec import MethodSpec

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph


class RunFailedError(EinthovenError):
    """A step of the way failed; the message is the asset's own."""


@dataclass(frozen=True)
class Step:
    """Assets that are materialised in one Dagster run, with their checks."""

    assets: tuple[tuple[str, ...], ...]
    partition: str | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For people."""
        names = ", ".join("/".join(a) for a in self.assets)
        return names + (f" [{self.partition}]" if self.partition else "")


def plan(
    method: str, dataset: str, preset: str, seed: int, *, overrides: dict[str, Any] | None = None, baselines: bool = True
) -> list[Step]:
    """All steps from raw data to the promotion decision.

    Raises:
        ConfigurationError: unknown names, a dataset that lacks what the method learns from, or weights that are not supplied.
    """
    spec, source = get_spec(method), get_dataset(dataset)
    asked = {"preset": preset, "seed": seed, **(overrides or {})}
    options = overridden(spec, preset, overrides or {})
    inputs = inputs_for(spec, options, dataset)
    _require_folders(inputs.mixture)
    if problem := wrong_size(options, inputs):  # say at once what would be refused hours later
        presets = ", ".join(presets_for(spec, source)) or "none"
        raise ConfigurationError(f"{method}: {problem}; presets that fit: {presets}; or set recipe and size by --option")
    if source not in datasets_for(spec):
        offers = ", ".join(d.name for d in datasets_for(spec)) or "none"
        raise ConfigurationError(f"{dataset} has no task to judge {method} by, or no preset fits it; datasets for {method}: {offers}")
    supplied_weights(load(), options)
    others = [s for s in map(get_spec, list_methods()) if baselines and s.baseline and s.name != method and source in datasets_for(s)]
    chosen = [(s, _baseline_preset(s, source, preset, options.recipe)) for s in others]
    runs = [(s, {"preset": found, "seed": seed}) for s, found in chosen if found is not None]
    runs.append((spec, asked))  # after the baselines, so that they stand on the leaderboard when the method is judged
    steps = data_steps([(s, _options(s, config)) for s, config in reversed(runs)], source)
    for s, config in runs:
        trained = [("encoder", s.name)] if s.first_stage is None else [(s.first_stage.name, s.name), ("encoder", s.name)]
        keys = [*trained, *(("head", s.name, t) for t in task_homes(s, source)), ("evaluation", s.name)]
        keys += [("cross_modality", s.name)] if exchanges_signals(s) else []
        keys.append(("leaderboard",))
        if not s.baseline:
            keys.append(("registry", s.name))
        steps.append(Step(tuple(keys), dataset, {op_name(*parts): {"config": config} for parts in trained}))
    return steps


def _require_folders(mixture: Sequence[Member]) -> None:
    """Refuse a mixture whose datasets are not all there; of the one that is judged, its own assets say what is missing."""
    settings = load()
    folders = {m.dataset.name: settings.dataset_folder(m.dataset.name) for m in mixture if not m.dataset.simulated}
    if absent := [f"{name} ({folder})" for name, folder in folders.items() if not folder.is_dir()]:
        raise ConfigurationError(
            f"the mixture reads {', '.join(absent)}, which are not there; fetch them by `einthoven data download`, name their folders "
            "in settings.yaml, or choose another mixture"
        )


def _baseline_preset(spec: MethodSpec, source: type[Dataset], preset: str, recipe: str) -> str | None:
    """The preset of a baseline that stands beside a method: of the same name, else one that reads the same store, else any that fits."""
    fitting = presets_for(spec, source)
    alike = [name for name in fitting if spec.presets[name].recipe == recipe]
    return preset if preset in fitting else next(iter([*alike, *fitting]), None)


def _options(spec: MethodSpec, config: dict[str, Any]) -> Any:
    """The configuration of a filled-in form."""
    return overridden(spec, config["preset"], {k: v for k, v in config.items() if k not in ("preset", "seed")})


def data_steps(runs: Sequence[tuple[MethodSpec, Any]], source: type[Dataset]) -> list[Step]:
    """Everything that methods read of a dataset and of those paired with it, in an order in which it can be made."""
    keys: list[Key] = []
    for spec, options in runs:
        inputs = inputs_for(spec, options, source.name)
        keys += [] if inputs.rule is None else source_keys(inputs.rule)
        keys += inputs.keys
        keys += [Key(("labels", home.name), task) for task, (home, _) in task_homes(spec, source).items()]
        keys += [Key(("questions", source.name))] if asks_questions(spec, source) else []
    keys.sort(key=lambda key: key.stage == "pairing")  # after everything that a rule reads
    folders = dict.fromkeys(key.parts[1] for key in keys if key.stage in ("raw", "cleaned", "labels", "reports", "questions"))
    named = dict.fromkeys([source.name, *folders])
    named |= dict.fromkeys(name for d in list(named) for name in load().open_dataset(get_dataset(d)).companion_folders)
    raw = [Key(("raw", name)) for name in named]
    return [Step((k.parts,), k.partition) for k in dict.fromkeys([*raw, Key(("prompts",)), *keys])]


def execute(steps: Sequence[Step], instance: dg.DagsterInstance, announce: Any) -> None:
    """Run the steps one after the other in this process; each is a run in Dagster's history.

    Raises:
        RunFailedError: a step failed; nothing after it ran.
    """
    from orchestration.definitions import defs

    graph = defs.resolve_asset_graph()
    for step in steps:
        _require_known(graph, step)
    job = defs.resolve_implicit_global_asset_job_def()
    for number, step in enumerate(steps, 1):
        announce(number, len(steps), step)
        try:
            outcome = job.execute_in_process(
                instance=instance,
                partition_key=step.partition,
                asset_selection=[asset_key(*a) for a in step.assets],
                run_config={"ops": step.config, "loggers": {"console": {}}},
                raise_on_error=False,
            )
        except dg.DagsterInvalidConfigError as error:
            raise ConfigurationError(f"{step.title}: {'; '.join(e.message for e in error.errors)}") from error
        if not outcome.success:
            raise RunFailedError(why_failed(outcome))


def _require_known(graph: AssetGraph, step: Step) -> None:
    for parts in step.assets:
        key = asset_key(*parts)
        if not graph.has(key):
            raise ConfigurationError(
                f"there is no asset {'/'.join(parts)!r}; `einthoven data list` names datasets, Dagster's UI shows all assets"
            )
        partitions = graph.get(key).partitions_def
        if partitions is not None and not (step.partition and partitions.has_partition_key(step.partition)):
            choices = ", ".join(partitions.get_partition_keys())
            raise ConfigurationError(f"{'/'.join(parts)} has no partition {step.partition!r}; choose one of {choices}")


def why_failed(outcome: dg.ExecuteInProcessResult) -> str:
    """The messages of what failed in a run: assets with their typed error, checks with their verdict."""
    messages = []
    for event in outcome.all_events:
        if event.event_type_value == "STEP_FAILURE":
            error = event.step_failure_data.error
            if error and error.cls_name == "DagsterAssetCheckFailedError":
                continue  # its verdict says more
            if error and error.cls_name == "DagsterExecutionInterruptedError":
                messages.append(
                    f"{str(event.step_key).replace('__', '/')}: interrupted; what was trained so far is saved, run the same command again to go on"
                )
                continue
            user = event.step_failure_data.user_failure_data
            text = (
                user.description
                if user and user.description
                else (error.cause.message if error and error.cause else error.message if error else "")
            )
            messages.append(f"{str(event.step_key).replace('__', '/')}: {text.strip()}")
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            verdict = event.asset_check_evaluation_data
            if not verdict.passed:
                said = verdict.metadata.get("message")
                messages.append(f"check {verdict.check_name} of {verdict.asset_key.to_user_string()} failed: {said.value if said else ''}")
    return "\n".join(messages) or "the run failed; see Dagster's UI"


def op_name(*parts: str) -> str:
    """The step that materialises an asset, as run configuration names it."""
    return "__".join(asset_key(*parts).path)
