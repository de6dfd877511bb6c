"""What a method says about itself without importing torch: paper, inputs, configuration, presets, published results.

Asset names, forms in the UI, command line choices, documentation pages and tests all follow from a `MethodSpec`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.errors import ConfigurationError
from models.head_recipes import HeadRecipe, house_recipes
from models.recipes import AnyRecipe
from models.types import Modality


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    venue: str
    url: str


@dataclass(frozen=True)
class Published:
    """One number as somebody printed it.

    Attributes:
        model: the row's name in the source, for example "MERL ResNet18".
        task: "dataset/task" in this platform's names, for example "ptb_xl/super".
        protocol: "zero_shot", "linear_probe", "finetune", ...
        fraction: share of training labels used, or None where that has no meaning.
        value: the metric between 0 and 1.
        source: publication and table.
        printed: with its uncertainty as printed, where the source has one, for example "0.925(07)".
    """

    model: str
    task: str
    protocol: str
    value: float
    source: str
    fraction: float | None = None
    metric: str = "macro_auroc"
    printed: str = ""


@dataclass(frozen=True)
class GateRule:
    """The number by which a version of a method is judged before it may become champion."""

    task: str
    protocol: str
    metric: str = "macro_auroc"
    direction: Literal["higher", "lower"] = "higher"
    fraction: float | None = None


@dataclass(frozen=True)
class Stage:
    """Training that comes before the encoder's own, an asset `<name>/<method>` by itself (MELP's language model).

    Attributes:
        name: of the asset, for example "language_model". The method's module offers `create_<name>(config) -> Method`.
        title: what it does, in a sentence.
        modalities: what it reads of the dataset.
        configure: the stage's training (steps, batch, ...) from the method's configuration, of the same type.
    """

    name: str
    title: str
    modalities: tuple[Modality, ...]
    configure: Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class MethodSpec:
    """A method as the rest of the platform sees it. Every one is itself alone, so that what follows from it can be remembered.

    Attributes:
        name: folder name below `models/methods`.
        version: raised by hand whenever a change alters results; part of the code version of its assets.
        modalities: inputs needed in training; the first is the one the encoder reads.
        config: frozen dataclass with every hyperparameter, including `recipe` (the cleaned partition it trains on)
            and, for methods that read text, `report_form` (the reports partition).
        presets: named instances of `config`; "tiny" always exists and runs on a CPU in seconds.
        protocols: what is evaluated, in the order of the leaderboard.
        tasks: label spaces that heads are trained for, where the dataset offers them.
        recipes: preprocessing of the method's own, beside the house recipes of `models.recipes`.
        optional: those of `modalities` that a dataset may lack.
        alternatives: other sets of modalities that some of its configurations read instead (`config.modalities` says which).
        pairings: rules of `assets.pairing_rules` by which modalities are tied together; a dataset's is the one whose ECGs it holds.
        units: units of the channels that it reads.
        first_stage: training that comes before, if any.
        directions: what retrieval is judged on: "text->ecg", "ecg+labs->image", ...
        baseline: True for rows that exist to be compared against and are never promoted.
        heads: recipes of heads by protocol, from a configuration; the house's where the method has none of its own.
        any_channels: whether a recording may have any of the configured channels and lack the others.
        channel_sets: sets of channels that linear probes are shown alone, beside all of them (methods with `any_channels` only).
        splits: named splits (`models.splits_named`) that the asset `cross_validation/<method>` fine-tunes and judges it by.
    """

    name: str
    title: str
    version: str
    paper: Paper
    modalities: tuple[Modality, ...]
    config: type[Any]
    presets: Mapping[str, Any]
    protocols: tuple[str, ...]
    tasks: tuple[str, ...]
    gate: GateRule
    published: tuple[Published, ...] = ()
    baseline: bool = False
    summary: str = ""
    label_fractions: tuple[float, ...] = field(default=(1.0,))
    recipes: tuple[AnyRecipe, ...] = ()
    optional: tuple[Modality, ...] = ()
    alternatives: tuple[tuple[Modality, ...], ...] = ()
    pairings: tuple[str, ...] = ()
    units: tuple[str, ...] = ("uV",)
    first_stage: Stage | None = None
    directions: tuple[str, ...] = ()
    heads: Callable[[Any], Mapping[str, HeadRecipe]] | None = None
    any_channels: bool = False
    channel_sets: tuple[tuple[str, ...], ...] = ()
    splits: tuple[str, ...] = ()

    def head_recipes(self, config: Any) -> dict[str, HeadRecipe]:
        """How heads are trained, by protocol: the method's own recipes before the house's."""
        return house_recipes(config) | dict({} if self.heads is None else self.heads(config))

    def reads(self, config: Any) -> tuple[Modality, ...]:
        """The modalities that a configuration reads."""
        chosen = getattr(config, "modalities", None) or self.modalities
        return tuple(Modality(m) for m in chosen)

    def configure(self, preset: str = "tiny", **overrides: Any) -> Any:
        """Return the preset's configuration with some fields replaced.

        Raises:
            ConfigurationError: unknown preset or field.
        """
        if preset not in self.presets:
            raise ConfigurationError(f"method {self.name!r} has no preset {preset!r}; choose one of {', '.join(self.presets)}")
        known = {f.name for f in dataclasses.fields(self.config)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise ConfigurationError(f"method {self.name!r} has no option {', '.join(unknown)}; options are {', '.join(sorted(known))}")
        return dataclasses.replace(self.presets[preset], **overrides)
