"""Preprocessing recipes: what a method asks to be done to a signal, image or lab panel before it is stored.

A cleaned store is keyed by dataset and recipe. The house recipes stand here; a method's spec may declare further ones of
its own (`MethodSpec.recipes`), and `models.registry.list_recipes` knows them all. Steps run in the order in which they
are written, on float32 samples without gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from models.types import Modality

Kinds = tuple[str, ...]
"""Signal kinds (`Channel.kind`) that a step applies to; empty means every channel."""

Sources = tuple[str, ...]
"""Datasets ("code15") or their sites ("cinc2021/ptb") to whose recordings alone a step applies; empty means all."""


@dataclass(frozen=True)
class Notch:
    """Takes mains hum out with a zero-phase second-order notch; does nothing where the rate cannot hold the frequency."""

    hum_hz: float = 50.0
    quality: float = 30.0
    kinds: Kinds = ()
    sources: Sources = ()


@dataclass(frozen=True)
class BandPass:
    """Butterworth band-pass as second-order sections, run forward and backward. `order` is the prototype's."""

    low_hz: float
    high_hz: float
    order: int = 4
    kinds: Kinds = ()
    sources: Sources = ()


@dataclass(frozen=True)
class HighPass:
    """Butterworth high-pass as second-order sections, run forward and backward."""

    cutoff_hz: float
    order: int = 4
    kinds: Kinds = ()
    sources: Sources = ()


@dataclass(frozen=True)
class MovingAverage:
    """Mean over one period of mains hum (int(fs_hz / hum_hz) samples), run forward and backward."""

    hum_hz: float = 50.0
    kinds: Kinds = ()
    sources: Sources = ()


@dataclass(frozen=True)
class MedianBaseline:
    """Subtracts the baseline: a running median of the first width, then of the second.

    Beyond the edges there are zeros, or the outermost sample over and over ("replicate").
    """

    first_s: float = 0.2
    second_s: float = 0.6
    kinds: Kinds = ()
    sources: Sources = ()
    edges: Literal["zero", "replicate"] = "zero"


@dataclass(frozen=True)
class MedianSmooth:
    """Replaces each sample by the median of an odd number of samples around it; the outermost are repeated beyond the edges."""

    samples: int = 5
    kinds: Kinds = ()
    sources: Sources = ()


@dataclass(frozen=True)
class Resample:
    """Brings the signal to the recipe's rate; polyphase keeps the line from first to last sample out of the filter."""

    method: Literal["polyphase", "fourier"] = "polyphase"


Step = Notch | BandPass | HighPass | MovingAverage | MedianBaseline | MedianSmooth | Resample


@dataclass(frozen=True)
class Recipe:
    """One way to prepare signals.

    Attributes:
        name: the partition key of `cleaned/<dataset>`.
        fs_hz: sampling rate of the store; None keeps the dataset's default rate.
        steps: what is done, in order. Where a rate is asked for and no `Resample` is among them, one comes last.
        window_s: length of the windows; None takes the dataset's.
        short: what becomes of recordings shorter than a window: refused, or padded with zeros at the end.
        absent: what becomes of recordings without one of the channels that the dataset requires: refused, or zeros in it.
        flat: what becomes of recordings of which some channel, but not all, never changes: kept, or refused.
    """

    modality: ClassVar[Modality] = Modality.ECG

    name: str
    fs_hz: float | None = None
    steps: tuple[Step, ...] = ()
    window_s: float | None = None
    short: Literal["refuse", "pad"] = "refuse"
    absent: Literal["refuse", "zero"] = "refuse"
    flat: Literal["keep", "refuse"] = "keep"

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The steps with the resampling that a rate implies."""
        resamples = any(isinstance(step, Resample) for step in self.steps)
        return self.steps if resamples or self.fs_hz is None else (*self.steps, Resample())


@dataclass(frozen=True)
class ImageRecipe:
    """One way to prepare images: 8-bit grey of a fixed size.

    Attributes:
        height: rows of the stored image, in pixels.
        width: columns.
        fit: "stretch" resizes without keeping the aspect ratio; "cover" scales the shorter side and crops the centre.
        equalise: whether contrast is equalised in tiles after that, as MoRE's X-rays are.
    """

    modality: ClassVar[Modality] = Modality.IMAGE

    name: str
    height: int
    width: int
    fit: Literal["stretch", "cover"] = "stretch"
    equalise: bool = False


@dataclass(frozen=True)
class LabRecipe:
    """Lab results in long form, one row a measurement; panels are made of them by pairing."""

    modality: ClassVar[Modality] = Modality.LABS

    name: str


AnyRecipe = Recipe | ImageRecipe | LabRecipe

RECIPES: Mapping[str, AnyRecipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("native"),
        Recipe("native_100hz", fs_hz=100.0),
        Recipe("native_500hz", fs_hz=500.0),
        Recipe("filtered", fs_hz=100.0, steps=(Notch(50.0), BandPass(0.5, 40.0))),
        ImageRecipe("grey_224", 224, 224),
        ImageRecipe("grey_320", 320, 320, fit="cover"),
        LabRecipe("labs"),
    )
}


_LATER: Mapping[str, object] = {"sources": (), "edges": "zero"}
"""Options of steps that came later, and what they are where they are not used."""


def describe(recipe: AnyRecipe) -> dict[str, Any]:
    """A recipe as JSON, complete enough to tell two recipes apart: steps carry their kind.

    What came later and is not used is not said, so that outputs keep the identity that they have.
    """
    facts = asdict(recipe) | {"modality": str(recipe.modality)}
    if isinstance(recipe, ImageRecipe) and not recipe.equalise:
        del facts["equalise"]
    if isinstance(recipe, Recipe):
        facts["steps"] = [_describe_step(step) for step in recipe.all_steps]
        if recipe.flat == "keep":
            del facts["flat"]
    return facts


def _describe_step(step: Step) -> dict[str, Any]:
    said = {name: value for name, value in asdict(step).items() if name not in _LATER or _LATER[name] != value}
    return {"step": type(step).__name__} | said
