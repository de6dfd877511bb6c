"""Finds methods: every folder of `models/methods` with a `spec.py`, and entry points of the group `einthoven.methods`.

No list is kept by hand. A folder offers `SPEC: MethodSpec` in `spec.py` and `create(config) -> Method` in `method.py`;
an entry point names a package that holds those two modules.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import models.methods
from models.errors import ConfigurationError
from models.recipes import RECIPES, AnyRecipe
from models.spec import MethodSpec

if TYPE_CHECKING:
    from models.method import Method

_UNLISTED = {"external": "models.external"}
"""Encoders that are built like those of methods, but are nobody's method: they are in no list, no graph and no form."""


@cache
def _packages() -> dict[str, str]:
    found = {m.name: f"models.methods.{m.name}" for m in pkgutil.iter_modules(models.methods.__path__) if m.ispkg}
    for point in entry_points(group="einthoven.methods"):
        if point.name in found or point.name in _UNLISTED:
            raise ConfigurationError(
                f"method {point.name!r} of package {point.value!r} has the name of a method that exists already; rename it"
            )
        found[point.name] = point.value
    return found


def list_methods() -> list[str]:
    """Names of all methods, the platform's own and those of installed packages, sorted."""
    return sorted(_packages())


@cache
def get_spec(name: str) -> MethodSpec:
    """The light description of a method.

    Raises:
        ConfigurationError: no method of that name.
    """
    package = _UNLISTED.get(name) or _packages().get(name)
    if package is None:
        raise ConfigurationError(f"there is no method {name!r}; choose one of {', '.join(list_methods())}")
    spec = importlib.import_module(f"{package}.spec").SPEC
    if not isinstance(spec, MethodSpec) or spec.name != name:
        raise ConfigurationError(f"{package}.spec must define SPEC, a MethodSpec with name={name!r}")
    return spec


@cache
def list_recipes() -> Mapping[str, AnyRecipe]:
    """All recipes by name, the house's and those that methods declare, sorted.

    Raises:
        ConfigurationError: two different recipes of one name.
    """
    found = dict(RECIPES)
    for method in list_methods():
        for recipe in get_spec(method).recipes:
            if found.setdefault(recipe.name, recipe) != recipe:
                raise ConfigurationError(f"method {method!r} declares another recipe {recipe.name!r} than there is already; rename it")
    return dict(sorted(found.items()))


def get_recipe(name: str) -> AnyRecipe:
    """The recipe of that name.

    Raises:
        ConfigurationError: no such recipe.
    """
    if name not in list_recipes():
        raise ConfigurationError(f"there is no recipe {name!r}; choose one of {', '.join(list_recipes())}")
    return list_recipes()[name]


def create_method(name: str, config: Any, stage: str = "encoder") -> Method:
    """Build the network of a method from its configuration, or that of the stage before it. Imports torch."""
    if not isinstance(config, get_spec(name).config):
        raise ConfigurationError(f"method {name!r} takes a {get_spec(name).config.__name__}, not {type(config).__name__}")
    builder = "create" if stage == "encoder" else f"create_{stage}"
    package = _UNLISTED.get(name) or _packages()[name]
    method: Method = getattr(importlib.import_module(f"{package}.method"), builder)(config)
    return method
