"""The whole way as a list of steps, for the command line: which assets, which partition, which configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.dataset import get_dataset
from assets.encoders import supplied_weights
from assets.materialize import asset_key
from assets.outputs import Key
from assets.settings import load
from assets.training import data_keys, datasets_for, tasks_for
from models.errors import ConfigurationError, EinthovenError
from models.registry import get_spec, list_methods

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
    if source not in datasets_for(spec):
        offers = ", ".join(d.name for d in datasets_for(spec)) or "none"
        raise ConfigurationError(
            f"{method} learns from {', '.join(spec.modalities)}, which {dataset} does not offer; datasets that do: {offers}"
        )
    trained = [
        spec,
        *(s for s in map(get_spec, list_methods()) if baselines and s.baseline and s.name != method and source in datasets_for(s)),
    ]
    supplied_weights(load(), spec.configure(preset, **(overrides or {})))  # say at once what would be missing hours later
    trained.reverse()  # baselines first, so that they stand on the leaderboard when the method is judged
    joined = load().open_dataset(source).companion_folders
    steps = [*(Step((("raw", name),)) for name in (dataset, *joined)), Step((("prompts",),))]
    data: list[Key] = []
    for s in trained:
        options = s.configure(preset if preset in s.presets else "tiny", **((overrides or {}) if s is spec else {}))
        data += [*data_keys(s, options, dataset), *(Key(("labels", dataset), t) for t in tasks_for(s, source))]
    steps += [Step((k.parts,), k.partition) for k in dict.fromkeys(data)]
    for s in trained:
        config = {"preset": preset if preset in s.presets else "tiny", "seed": seed, **((overrides or {}) if s is spec else {})}
        keys = [("encoder", s.name), *(("head", s.name, t) for t in tasks_for(s, source)), ("evaluation", s.name), ("leaderboard",)]
        if not s.baseline:
            keys.append(("registry", s.name))
        steps.append(Step(tuple(keys), dataset, {_op("encoder", s.name): {"config": config}}))
    return steps


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
            raise RunFailedError(_why(outcome))


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


def _why(outcome: dg.ExecuteInProcessResult) -> str:
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


def _op(*parts: str) -> str:
    return "__".join(asset_key(*parts).path)
