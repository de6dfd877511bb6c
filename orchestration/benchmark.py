"""Answers a question of the benchmark from the command line: makes what is missing, then one run for the entry itself."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from assets.benchmark import (
    EXTERNAL,
    Entry,
    Question,
    data_keys,
    make_encoder_entry,
    make_features_entry,
    make_method_entry,
    make_predictions_entry,
)
from assets.benchmark_table import published_rows
from assets.compute import Compute
from assets.encoders import supplied_weights
from assets.forms import overridden
from assets.judging import PROMPTS
from assets.materialize import WorkspaceResource, asset_key, explained, result
from assets.outputs import Key, Output, OutputError, Workspace, sha256_file
from assets.settings import Settings, load
from assets.training import inputs_for, plain, presets_for, wrong_size
from assets.verdicts import UnsafeUpstreamError, require_checked
from models.errors import ConfigurationError
from models.recipes import Recipe
from models.registry import get_recipe, get_spec
from orchestration.pipeline import RunFailedError, Step, data_steps, execute, op_name, why_failed

Make = Callable[[dg.AssetExecutionContext, Settings, Compute], Output]
Announce = Callable[[int, int, Step], None]


@dataclass(frozen=True)
class Benchmark:
    """Where questions are answered.

    Attributes:
        instance: of Dagster; every answer is a run in its history.
        announce: told of each step before it runs.
        settings: of this installation.
    """

    instance: dg.DagsterInstance
    announce: Announce
    settings: Settings = field(default_factory=load)

    @property
    def workspace(self) -> Workspace:
        """The folder of all outputs."""
        return Workspace(self.settings.home)

    def method(self, name: str, preset: str, options: dict[str, Any], question: Question) -> Output:
        """Judge a method: with the encoder that is there, if it has this preset, seed and options, else with one trained now.

        Raises:
            ConfigurationError: something is unknown, or does not fit the dataset.
            RunFailedError: a step failed.
        """
        question.require_known(self.settings.home)
        spec = get_spec(name)
        config = overridden(spec, preset, options)
        if problem := wrong_size(config, inputs := inputs_for(spec, config, question.dataset)):
            presets = ", ".join(presets_for(spec, question.home)) or "none"
            raise ConfigurationError(f"{name}: {problem}; presets that fit: {presets}; or set recipe and size by --option")
        supplied_weights(self.settings, config)
        steps = [s for s in data_steps([(spec, config)], question.home) if s.assets[0][0] != "labels"]
        self._make(steps, [*self._data(question, inputs.signals), *inputs.keys, PROMPTS])
        encoder = self._encoder(name, preset, options, question)
        entry = Entry(name, preset, options)
        return self._answer(
            entry.key(question), lambda context, settings, compute: make_method_entry(context, settings, compute, entry, question, encoder)
        )

    def encoder(self, which: str, name: str, source: str, recipe: str, options: dict[str, Any], question: Question) -> Output:
        """Judge an encoder that somebody else wrote ("package.module:Class") on the store of a recipe.

        Raises:
            ConfigurationError: its package is not installed, or something is unknown.
            RunFailedError: a step failed.
        """
        question.require_known(self.settings.home)
        stored = get_recipe(recipe)
        if not isinstance(stored, Recipe):
            raise ConfigurationError(f"recipe {recipe!r} is none of signals; choose one of signals, for example native")
        n_samples = round((stored.window_s or question.home.window_s) * (stored.fs_hz or question.home.fs_hz))
        chosen = {"recipe": recipe, "n_samples": n_samples, "encoder": which, **options}
        config = plain(overridden(get_spec(EXTERNAL), "tiny", chosen))
        fingerprint = fingerprint_of(which)
        self._make([], self._data(question, Key(("cleaned", question.dataset), recipe)))
        entry = Entry(EXTERNAL, name, {}, source)
        return self._answer(
            entry.key(question),
            lambda context, settings, compute: make_encoder_entry(context, settings, compute, entry, question, config, fingerprint),
        )

    def features(self, path: Path, ids: Path | None, name: str, source: str, question: Question) -> Output:
        """Judge features that somebody else computed, by linear probes.

        Raises:
            ExternalError: the files cannot be used.
            RunFailedError: a step failed.
        """
        from models.external.tables import read_features

        question.require_known(self.settings.home)
        read_features(path, ids)  # before anything is made for them
        self._make([], self._data(question, None))
        entry, files = Entry(EXTERNAL, name, {}, source), {"features": path, "ids": ids}
        sha256 = {what: sha256_file(file) for what, file in files.items() if file is not None}
        return self._answer(
            entry.key(question),
            lambda context, settings, compute: make_features_entry(
                context, settings, compute, entry, question, path.absolute(), None if ids is None else ids.absolute(), sha256
            ),
        )

    def predictions(self, path: Path, name: str, source: str, question: Question) -> Output:
        """Judge scores that somebody brought.

        Raises:
            ExternalError: the file is not there.
            RunFailedError: they cannot be judged; the message says why.
        """
        from models.external.truth import ExternalError

        question.require_known(self.settings.home)
        if not path.is_file():
            raise ExternalError(f"{path} is not there; name the Parquet table of scores")
        self._make([], self._data(question, None))
        entry, sha256 = Entry(EXTERNAL, name, {}, source), sha256_file(path)
        return self._answer(entry.key(question), lambda _, settings, __: make_predictions_entry(settings, entry, question, path, sha256))

    def show(self, dataset: str) -> None:
        """Have Dagster's asset of the table hold the new answers, where the dataset has one."""
        if published_rows(dataset):
            execute([Step((("benchmark", dataset),))], self.instance, self.announce)

    def _data(self, question: Question, store: Key | None) -> list[Key]:
        """What an entry is judged on, and the tables that its labels may be joined from."""
        home = question.home
        joined = [Key(("raw", name)) for name in self.settings.open_dataset(home).companion_folders if name in home.companions]
        return [*joined, *data_keys(question, store)]

    def _make(self, steps: list[Step], keys: list[Key]) -> None:
        """Run those steps whose output is not there yet, or not by the code of today; then the same for some outputs."""
        wanted = dict.fromkeys([*(Key(s.assets[0], s.partition) for s in steps), *keys])
        order = {"raw": 0, "pairing": 2}
        missing = [key for key in sorted(wanted, key=lambda k: order.get(k.stage, 1)) if not self._is_there(key)]
        execute([Step((key.parts,), key.partition) for key in missing], self.instance, self.announce)

    def _is_there(self, key: Key) -> bool:
        from orchestration.definitions import defs

        try:
            output = require_checked(self.workspace, key)
        except (OutputError, UnsafeUpstreamError):
            return False
        graph, asset = defs.resolve_asset_graph(), asset_key(*key.parts)
        return graph.has(asset) and graph.get(asset).code_version == output.manifest["code_version"]

    def _encoder(self, name: str, preset: str, options: dict[str, Any], question: Question) -> Output:
        spec, key = get_spec(name), Key(("encoder", name), question.dataset)
        config = overridden(spec, preset, options)
        held = self.workspace.current(key)
        if held is None or not self._is_there(key) or not self._is_asked(held, preset, question, config):
            trained = [key.parts] if spec.first_stage is None else [(spec.first_stage.name, name), key.parts]
            form = {"config": {"preset": preset, "seed": question.seed, **options}}
            step = Step(tuple(trained), question.dataset, {op_name(*parts): form for parts in trained})
            execute([step], self.instance, self.announce)
        return require_checked(self.workspace, key)

    def _is_asked(self, held: Output, preset: str, question: Question, config: Any) -> bool:
        """Whether an encoder is what the question asks for, trained on the data that is there now."""
        facts = held.facts
        if (facts["preset"], facts["seed"], facts["config"]) != (preset, question.seed, plain(config)):
            return False
        now = {name: self._version(name, held) for name in held.manifest["upstream"]}
        return bool(now == held.manifest["upstream"])

    def _version(self, name: str, held: Output) -> str | None:
        """The data version that an upstream output has now, by the text form of its key."""
        parts, _, partition = name.removesuffix("]").partition("[")
        current = self.workspace.current(Key(tuple(parts.split("/")), partition or None))
        return None if current is None else current.data_version

    def _answer(self, key: Key, make: Make) -> Output:
        """Have an entry made inside a Dagster run of its own, with the resources of all runs.

        Raises:
            RunFailedError: it could not be made; the message is the typed error's.
        """
        from orchestration.compute.local import LocalCompute
        from orchestration.console import console_logger

        made: list[Output] = []

        @dg.multi_asset(specs=[dg.AssetSpec(asset_key(*key.parts), group_name="benchmark")], name="benchmark")
        def entry(
            context: dg.AssetExecutionContext, workspace: WorkspaceResource, compute: dg.ResourceParam[Compute]
        ) -> dg.MaterializeResult[Any]:
            with explained():
                settings = workspace.settings
                made.append(make(context, settings, compute))
                return result(context, made[0], settings, {"question": key.partition})

        definitions = dg.Definitions(
            assets=[entry],
            resources={"workspace": WorkspaceResource(), "compute": LocalCompute()},
            executor=dg.in_process_executor,
            loggers={"console": console_logger},
        )
        self.announce(1, 1, Step((key.parts,), key.partition))
        job = definitions.resolve_implicit_global_asset_job_def()
        outcome = job.execute_in_process(instance=self.instance, run_config={"loggers": {"console": {}}}, raise_on_error=False)
        if not outcome.success:
            raise RunFailedError(why_failed(outcome))
        return made[0]


def fingerprint_of(which: str) -> str:
    """What tells one state of somebody's package from another without importing it: its code, and size and time of its other files.

    Raises:
        ConfigurationError: the name is not "package.module:Class", or no such package is installed.
    """
    module, separator, attribute = which.partition(":")
    if not (separator and module and attribute):
        raise ConfigurationError(f"--encoder {which!r} must look like package.module:Class")
    top = module.split(".")[0]
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ConfigurationError(f"--encoder {which!r}: there is no package {top!r} in {sys.prefix}; install it (pip install -e FOLDER)")
    roots = [Path(p) for p in found.submodule_search_locations or ([found.origin] if found.origin else [])]
    files = sorted(p for root in roots for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file() and p.suffix != ".pyc")
    told = hashlib.sha256()
    for path in files:
        state = path.stat()
        content = sha256_file(path) if path.suffix == ".py" else f"{state.st_size} {state.st_mtime_ns}"
        told.update(f"{path} {content}\n".encode())
    return told.hexdigest()
