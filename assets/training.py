"""What the training stages share: which datasets a method can use, what a configuration reads of them, partitions, tasks and jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from assets.dataset import Dataset, get_dataset, list_datasets
from assets.materialize import asset_key
from assets.outputs import Key
from assets.pairing_rules import RULES, PairingRule
from assets.settings import workspace_home
from assets.user_tasks import user_task_names
from models.errors import ConfigurationError
from models.recipes import ImageRecipe, Recipe
from models.registry import get_recipe
from models.spec import GateRule, MethodSpec, Stage
from models.types import Modality

SIGNALS = frozenset({Modality.ECG, Modality.PPG, Modality.WEARABLE})
"""Modalities that are channels of a signal store."""

TIED = frozenset({Modality.IMAGE, Modality.LABS})
"""Modalities that a pairing ties to recordings; no method can use them without one."""


@dataclass(frozen=True)
class Member:
    """One dataset of a mixture, or one site of it, and what is read of it."""

    name: str
    dataset: type[Dataset]
    site: str
    signals: Key
    reports: Key | None = None


@dataclass(frozen=True)
class Inputs:
    """The data outputs that a configuration reads, by what they are for; None for what it does not read.

    Attributes:
        modalities: what is read, in the method's order; of optional ones only those that are there.
        rule: the pairing rule that ties them together, where one does.
        signals: store of the recordings.
        reports: their reports.
        pairing: tables of the rule; lab panels are among them.
        images: store of the pictures.
        image_reports: output with the reports of the pictures, in its file `image_reports_file`.
        mixture: the datasets that the encoder is trained on together; none where it is trained on one.
    """

    modalities: tuple[Modality, ...]
    rule: PairingRule | None = None
    signals: Key | None = None
    reports: Key | None = None
    pairing: Key | None = None
    images: Key | None = None
    image_reports: Key | None = None
    mixture: tuple[Member, ...] = ()

    @property
    def keys(self) -> list[Key]:
        """All of them, each once, in an order in which they can be made."""
        members = [key for member in self.mixture for key in (member.signals, member.reports)]
        found = (self.signals, self.reports, *members, self.images, self.image_reports, self.pairing)
        return list(dict.fromkeys(key for key in found if key is not None))

    @property
    def image_reports_file(self) -> str:
        """Where one dataset holds recordings and pictures, its reports have a file for each."""
        return "image_reports.parquet" if self.rule is not None and self.rule.anchor == "record" else "reports.parquet"


def rule_for(spec: MethodSpec, config: Any, dataset: str) -> PairingRule | None:
    """The rule by which a configuration ties pictures and lab results to the recordings of a dataset; None for none.

    `config.pairing` says which: "auto" takes the first of the method's rules that holds the dataset's ECGs and has what must be
    read, "none" none, anything else is the name of a rule.

    Raises:
        ConfigurationError: no such rule, or it pairs another dataset's ECGs.
    """
    tied = {m for m in spec.reads(config) if m in TIED}
    name = getattr(config, "pairing", "none")
    if not tied or name == "none":
        return None
    here = {rule.name: rule for rule in RULES.values() if rule.ecg.dataset == dataset and set(rule.datasets) <= set(list_datasets())}
    if name == "auto":
        needed = tied - set(spec.optional)
        return next((here[n] for n in spec.pairings if n in here and needed <= _ties(here[n])), None)
    if name not in here:
        if name in RULES:
            raise ConfigurationError(
                f"pairing {name!r} ties pictures to the ECGs of {RULES[name].ecg.dataset}, not of {dataset}; "
                f"for {dataset} choose auto, none{''.join(f', {n}' for n in here)}"
            )
        raise ConfigurationError(f"there is no pairing {name!r}; choose auto, none or one of {', '.join(RULES)}")
    return here[name]


def _ties(rule: PairingRule) -> set[Modality]:
    return {Modality.IMAGE} if rule.labs is None else {Modality.IMAGE, Modality.LABS}


def _offered(source: type[Dataset], rule: PairingRule | None) -> set[Modality]:
    """What can be read of a dataset, and by a rule."""
    return set(source.offers() - TIED) | (set() if rule is None else _ties(rule))


def _misfit(spec: MethodSpec, config: Any, source: type[Dataset], rule: PairingRule | None) -> str | None:
    """Why a configuration cannot be trained on a dataset, in words; None where it can."""
    reads = spec.reads(config)
    lacking = [m for m in reads if m not in spec.optional and m not in _offered(source, rule)]
    if lacking:
        apart = sorted(TIED & source.offers() & set(lacking))
        hint = f" (it holds {_words(apart)}, but no pairing in force ties them to its recordings)" if apart else ""
        return f"{spec.name} reads {_words(reads)}; {source.name} does not offer {_words(lacking)}{hint}"
    return _lacks_channels(spec, config, source) if SIGNALS & set(reads) else None


def _lacks_channels(spec: MethodSpec, config: Any, source: type[Dataset]) -> str | None:
    """Which channels a configuration cannot do without and a dataset has not, in words; None where all are there."""
    held = {c.name for c in source.channels() if c.kind != "ECG" or c.unit in spec.units}
    absent = [name for name in config.channels if name not in held]
    units = " or ".join(spec.units)
    if spec.any_channels and len(absent) == len(config.channels):
        return f"{spec.name} reads any of the channels {', '.join(absent)} in {units}; {source.name} offers none of them"
    if absent and not spec.any_channels:
        return f"{spec.name} reads the channels {', '.join(config.channels)} in {units}; {source.name} does not offer {', '.join(absent)}"
    return None


def fits(spec: MethodSpec, config: Any, source: type[Dataset]) -> bool:
    """Whether a configuration can be trained on a dataset: everything that it must read is there."""
    try:
        return _misfit(spec, config, source, rule_for(spec, config, source.name)) is None
    except ConfigurationError:
        return False


def wrong_size(config: Any, inputs: Inputs) -> str | None:
    """What the stores of a configuration's recipes will hold that its network is not built for, in words; None where all fits."""
    signals = [inputs.signals, *(member.signals for member in inputs.mixture)]
    for source in (get_dataset(key.parts[1]) for key in signals if key is not None):
        recipe = get_recipe(config.recipe)
        if isinstance(recipe, Recipe):
            n_samples = round((recipe.window_s or source.window_s) * (recipe.fs_hz or source.fs_hz))
            if n_samples != config.n_samples:
                return f"recipe {recipe.name} stores {n_samples} samples a recording of {source.name}, the configuration says n_samples={config.n_samples}"
    if inputs.images is not None:
        pictures = get_recipe(config.image_recipe)
        if isinstance(pictures, ImageRecipe) and (pictures.height, pictures.width) != (config.image_size, config.image_size):
            return f"recipe {pictures.name} stores images of {pictures.height} x {pictures.width}, the configuration says image_size={config.image_size}"
    return None


def inputs_for(spec: MethodSpec, config: Any, dataset: str, stage: Stage | None = None) -> Inputs:
    """What a configuration reads of a dataset, or a stage before the encoder's.

    Raises:
        ConfigurationError: something that must be read is not there; names what, the presets that fit and the datasets that do.
    """
    source, rule = get_dataset(dataset), rule_for(spec, config, dataset)
    if problem := _misfit(spec, config, source, rule):
        raise ConfigurationError(f"{problem}; {_advice(spec, config, source)}")
    offered = _offered(source, rule)
    reads = tuple(m for m in (stage.modalities if stage else spec.reads(config)) if m in offered)
    text = Modality.TEXT in reads
    signals = Key(("cleaned", dataset), config.recipe) if SIGNALS & set(reads) else None
    reports = Key(("reports", dataset), config.report_form) if text else None
    mixture = () if signals is None else _mixture(spec, config, text)
    if rule is None or not TIED & set(reads):
        return Inputs(reads, None, signals, reports, mixture=mixture)
    if mixture:
        raise ConfigurationError(
            f"{spec.name} reads {_words(reads)} tied by {rule.name}, which a mixture of datasets cannot be; set mixture to none"
        )
    images = image_reports = None
    if Modality.IMAGE in reads:
        pictures = get_dataset(rule.image.dataset)
        images = Key(("cleaned", pictures.name), config.image_recipe)
        if text and (pictures.has_image_reports if rule.anchor == "record" else pictures.has_reports):
            image_reports = Key(("reports", pictures.name), config.report_form)
    return Inputs(reads, rule, signals, reports, Key(("pairing", rule.name)), images, image_reports)


def _mixture(spec: MethodSpec, config: Any, text: bool) -> tuple[Member, ...]:
    """The members of a configuration's mixture.

    Raises:
        ConfigurationError: weights that do not fit, an unknown dataset or site, or one without the channels that are read.
    """
    found = []
    for name in config.mixture_weights():
        dataset, _, site = name.partition("/")
        source = get_dataset(dataset)
        if site and source.sites and site not in source.sites:
            raise ConfigurationError(f"mixture: {dataset} has no site {site!r}; it has {', '.join(source.sites)}")
        if problem := _lacks_channels(spec, config, source):
            raise ConfigurationError(f"mixture: {problem}; take {name} out of it")
        reports = Key(("reports", dataset), config.report_form) if text and source.has_reports else None
        found.append(Member(name, source, site, Key(("cleaned", dataset), config.recipe), reports))
    return tuple(found)


def data_keys(spec: MethodSpec, config: Any, dataset: str) -> list[Key]:
    """The data outputs that a configuration trains on. Raises as `inputs_for`."""
    return inputs_for(spec, config, dataset).keys


def _advice(spec: MethodSpec, config: Any, source: type[Dataset]) -> str:
    others = [d.name for d in map(get_dataset, list_datasets()) if fits(spec, config, d) and tasks_for(spec, d)]
    return f"presets that fit {source.name}: {', '.join(presets_for(spec, source)) or 'none'}; datasets that fit this configuration: {', '.join(others) or 'none'}"


def presets_for(spec: MethodSpec, source: type[Dataset]) -> list[str]:
    """The presets that can be trained on a dataset as their recipes store it."""
    fitting = [(name, config) for name, config in spec.presets.items() if fits(spec, config, source)]
    return [name for name, config in fitting if not wrong_size(config, inputs_for(spec, config, source.name))]


def _words(names: Iterable[str]) -> str:
    *most, last = [str(name) for name in names]
    return f"{', '.join(most)} and {last}" if most else last


def datasets_for(spec: MethodSpec) -> list[type[Dataset]]:
    """The datasets on which some preset of a method can be trained, and that have a task to judge it by."""
    names = tuple(list_datasets())
    return [d for d in map(get_dataset, names) if _some_preset_fits(spec, d, names) and (_declared_tasks(d)[0] or tasks_for(spec, d))]


@cache
def _some_preset_fits(spec: MethodSpec, source: type[Dataset], known: tuple[str, ...]) -> bool:
    """Remembered, since every asset asks; `known` are all datasets, which pairings depend on."""
    return any(fits(spec, config, source) for config in spec.presets.values())


def default_inputs(spec: MethodSpec, source: type[Dataset], stage: Stage | None = None) -> Inputs:
    """What the preset `tiny` reads of a dataset, or the first that fits: what the asset graph shows."""
    fitting = (config for config in (spec.configure(), *spec.presets.values()) if fits(spec, config, source))
    return inputs_for(spec, next(fitting, spec.configure()), source.name, stage)


def partitions_for(spec: MethodSpec) -> dg.StaticPartitionsDefinition:
    """The partitions of a method's encoder, heads, evaluation and registry: one a dataset."""
    return dg.StaticPartitionsDefinition([d.name for d in datasets_for(spec)])


def tasks_for(spec: MethodSpec, dataset: type[Dataset]) -> list[str]:
    """The tasks that heads are trained for, see `task_homes`."""
    return list(task_homes(spec, dataset))


def task_homes(spec: MethodSpec, dataset: type[Dataset]) -> dict[str, tuple[type[Dataset], Modality]]:
    """The tasks that heads are trained for, with the dataset whose labels they read and what the labels describe.

    First those about recordings: the method's own that the dataset offers, or all of the dataset's if it offers none; then those
    that users added. Methods that read pictures have those about the paired pictures too, which their own dataset labels: the
    method's own, or all where there would be no task else.
    """
    signal_tasks, _ = _declared_tasks(dataset)
    chosen = [t for t in spec.tasks if t in signal_tasks] or signal_tasks
    homes = dict.fromkeys((*chosen, *user_task_names(workspace_home(), dataset.name)), (dataset, Modality.ECG))
    rule = next((RULES[n] for n in spec.pairings if n in RULES and RULES[n].ecg.dataset == dataset.name), None)
    if rule is not None and Modality.IMAGE in {*spec.modalities, *(m for found in spec.alternatives for m in found)}:
        pictures = get_dataset(rule.image.dataset)
        _, image_tasks = _declared_tasks(pictures)
        chosen = [t for t in spec.tasks if t in image_tasks] or ([] if homes else image_tasks)
        homes |= {t: (pictures, Modality.IMAGE) for t in chosen if t not in homes}
    return homes


@cache
def _declared_tasks(dataset: type[Dataset]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The dataset's own tasks about recordings, and those about pictures."""
    about = {t: task_modality(dataset, t) for t in dataset.task_names}
    images = tuple(t for t, modality in about.items() if modality is Modality.IMAGE)
    return tuple(t for t in about if t not in images), images


def task_home(spec: MethodSpec, dataset: type[Dataset], task: str) -> tuple[type[Dataset], Modality]:
    """The dataset whose labels a task of a method reads, and what they describe.

    Raises:
        ConfigurationError: the method has no such task on the dataset.
    """
    homes = task_homes(spec, dataset)
    if task not in homes:
        raise ConfigurationError(f"{spec.name} has no task {task!r} on {dataset.name}; it has {', '.join(homes) or 'none'}")
    return homes[task]


def task_modality(dataset: type[Dataset], task: str) -> Modality:
    """What the labels of a dataset's own task describe; only datasets with images have any about them."""
    return dataset(Path()).task(task).modality if dataset.has_images else Modality.ECG


def tasks_of(spec: MethodSpec) -> list[str]:
    """Every task that the method has a head for on some dataset, the method's own first."""
    return list(dict.fromkeys([*spec.tasks, *(t for d in datasets_for(spec) for t in tasks_for(spec, d))]))


def asks_questions(spec: MethodSpec, dataset: type[Dataset]) -> bool:
    """Whether a method is judged by its answers to questions about a dataset's recordings."""
    return "question_answering" in spec.protocols and dataset.has_questions


def gate_for(spec: MethodSpec, dataset: type[Dataset]) -> GateRule:
    """The method's gate, on the dataset's first task where it does not offer the gate's own; of numbers the error counts."""
    tasks = tasks_for(spec, dataset)
    if spec.gate.task in tasks or not tasks:
        return spec.gate
    rule = dataclasses.replace(spec.gate, task=tasks[0])
    home, _ = task_home(spec, dataset, rule.task)
    numbers = rule.task in home.task_names and home(Path()).task(rule.task).kind == "regression"
    return dataclasses.replace(rule, metric="mae", direction="lower") if numbers else rule


def dataset_deps(spec: MethodSpec, *stages: str, stage: Stage | None = None) -> list[dg.AssetDep]:
    """Dependencies of a dataset-partitioned asset on what the method's default preset reads.

    Args:
        spec: the method.
        stages: only outputs of these ("cleaned", "reports", "pairing"); all by default.
        stage: training before the encoder's, whose inputs are meant; the encoder's by default.
    """
    wanted = ((key, d.name) for d in datasets_for(spec) for key in default_inputs(spec, d, stage).keys)
    return deps_on((key, name) for key, name in wanted if not stages or key.stage in stages)


def deps_on(wanted: Iterable[tuple[Key, str]]) -> list[dg.AssetDep]:
    """Dependencies of a dataset-partitioned asset: on which outputs, and for which of its partitions."""
    by_asset: dict[dg.AssetKey, dict[str, set[str]]] = {}
    for key, dataset in wanted:
        mapping = by_asset.setdefault(asset_key(*key.parts), {})
        if key.partition is not None:
            mapping.setdefault(key.partition, set()).add(dataset)
    return [
        dg.AssetDep(key, partition_mapping=dg.StaticPartitionMapping(mapping) if mapping else None) for key, mapping in by_asset.items()
    ]


def job_base(kind: str, spec: MethodSpec, dataset: type[Dataset], preset: str, seed: int, output: Path) -> dict[str, Any]:
    """The entries that every job has."""
    return {
        "kind": kind,
        "method": spec.name,
        "preset": preset,
        "dataset": dataset.name,
        "seed": seed,
        **split_folds(dataset),
        "output": str(output),
    }


def split_folds(dataset: type[Dataset]) -> dict[str, list[int]]:
    """Which folds of a dataset are for what, by the entries of jobs."""
    split = dataset.split
    return {"train_folds": list(split.train), "validation_folds": list(split.validation), "test_folds": list(split.test)}


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def configured(spec: MethodSpec, values: Mapping[str, Any]) -> Any:
    """The configuration that a manifest holds as JSON."""
    return spec.config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def mapped(keys: Iterable[tuple[dg.AssetKey, Iterable[str]]]) -> list[dg.AssetDep]:
    """Dependencies on equally named partitions, restricted to those given."""
    return [dg.AssetDep(key, partition_mapping=dg.StaticPartitionMapping({n: n for n in names})) for key, names in keys]
