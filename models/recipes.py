"""Preprocessing recipes: what a method asks to be done to a signal before it is stored.

A cleaned store is keyed by dataset and recipe. `native` puts leads in the fixed order and repairs missing samples,
nothing else; a recipe with a rate takes the source's files of that rate where there are some and resamples otherwise; one
with filters applies them first.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import ConfigurationError


@dataclass(frozen=True)
class Recipe:
    """One way to prepare signals.

    Attributes:
        name: the partition key of `cleaned/<dataset>`.
        fs_hz: sampling rate of the store; None keeps the dataset's default rate.
        bandpass_hz: edges of a zero-phase band-pass of order 4, applied at the recording's own rate; None for none.
        notch_hz: mains frequency to take out; None for none.
    """

    name: str
    fs_hz: float | None = None
    bandpass_hz: tuple[float, float] | None = None
    notch_hz: float | None = None


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("native"),
        Recipe("native_500hz", fs_hz=500.0),
        Recipe("filtered", fs_hz=100.0, bandpass_hz=(0.5, 40.0), notch_hz=50.0),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigurationError: no such recipe.
    """
    if name not in RECIPES:
        raise ConfigurationError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
