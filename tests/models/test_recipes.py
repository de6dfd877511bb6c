"""Recipes: the house's and those that methods declare, told apart by everything that changes a signal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest

from models import registry
from models.errors import ConfigurationError
from models.recipes import RECIPES, BandPass, HighPass, ImageRecipe, MedianBaseline, Notch, Recipe, Resample, describe
from models.registry import get_recipe, get_spec, list_recipes


@pytest.fixture
def declaring(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Whatever a test makes a method declare is forgotten afterwards."""
    list_recipes.cache_clear()
    yield monkeypatch
    list_recipes.cache_clear()


def declare(patch: pytest.MonkeyPatch, **recipes: Recipe) -> None:
    specs = {name: dataclasses.replace(get_spec("merl"), name=name, recipes=(recipe,)) for name, recipe in recipes.items()}
    patch.setattr(registry, "list_methods", lambda: list(specs))
    patch.setattr(registry, "get_spec", specs.__getitem__)


def test_a_method_may_bring_a_recipe_of_its_own(declaring: pytest.MonkeyPatch) -> None:
    own = Recipe("jepa", fs_hz=500.0, steps=(HighPass(0.5), Resample("fourier")))
    declare(declaring, one=own, two=own)
    assert get_recipe("jepa") == own
    assert set(list_recipes()) == {*RECIPES, "jepa"}


def test_two_recipes_of_one_name_are_refused(declaring: pytest.MonkeyPatch) -> None:
    declare(declaring, one=Recipe("jepa", steps=(HighPass(0.5),)), two=Recipe("jepa", steps=(HighPass(0.6),)))
    with pytest.raises(ConfigurationError, match="method 'two' declares another recipe 'jepa'"):
        list_recipes()


def test_a_rate_implies_resampling_at_the_end_unless_it_stands_elsewhere() -> None:
    assert Recipe("a", fs_hz=100.0, steps=(Notch(),)).all_steps == (Notch(), Resample())
    first = (Resample("fourier"), MedianBaseline())
    assert Recipe("a", fs_hz=100.0, steps=first).all_steps == first
    assert Recipe("a").all_steps == ()


def test_descriptions_tell_recipes_apart() -> None:
    recipes = [
        *RECIPES.values(), Recipe("x", steps=(BandPass(0.5, 40.0),)), Recipe("x", steps=(BandPass(0.5, 40.0, order=3),)),
        Recipe("x", steps=(BandPass(0.5, 40.0, kinds=("PPG",)),)), Recipe("x", steps=(BandPass(0.5, 40.0, sources=("a",)),)), Recipe("x", steps=(HighPass(0.5, 4), Notch(60.0))),
        Recipe("x", steps=(Notch(60.0), HighPass(0.5, 4))), Recipe("x", window_s=2.0), Recipe("x", short="pad"), Recipe("x", absent="zero"),
        ImageRecipe("x", 8, 8), ImageRecipe("x", 8, 8, fit="cover"), ImageRecipe("x", 8, 8, equalise=True),
    ]  # fmt: skip
    told = [json.dumps(describe(recipe), sort_keys=True) for recipe in recipes]
    assert len(set(told)) == len(recipes)


def test_a_recipe_that_equalises_nothing_keeps_its_identity() -> None:
    assert describe(ImageRecipe("x", 8, 9)) == {"name": "x", "height": 8, "width": 9, "fit": "stretch", "modality": "image"}


def test_a_recipe_whose_steps_are_for_all_sources_keeps_its_identity() -> None:
    step = {"step": "HighPass", "cutoff_hz": 0.5, "order": 4, "kinds": ()}
    assert describe(Recipe("x", steps=(HighPass(0.5),)))["steps"] == [step]
    assert describe(Recipe("x", steps=(HighPass(0.5, sources=("a",)),)))["steps"] == [step | {"sources": ("a",)}]


def test_options_that_came_later_are_said_where_they_are_used() -> None:
    assert describe(Recipe("x", steps=(MedianBaseline(),)))["steps"] == [
        {"step": "MedianBaseline", "first_s": 0.2, "second_s": 0.6, "kinds": ()}
    ]
    assert describe(Recipe("x", steps=(MedianBaseline(edges="replicate"),)))["steps"][0]["edges"] == "replicate"
    assert "flat" not in describe(Recipe("x")) and describe(Recipe("x", flat="refuse"))["flat"] == "refuse"


def test_an_unknown_recipe_is_a_typed_error() -> None:
    with pytest.raises(ConfigurationError, match="there is no recipe 'nonsense'; choose one of csfm_250hz, filtered, grey_224"):
        get_recipe("nonsense")
