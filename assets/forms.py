"""Run configuration of training assets: the form that Dagster's UI shows for a method, and what a filled-in one means."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

import dagster as dg
from pydantic import Field, TypeAdapter, ValidationError, create_model

from models.errors import ConfigurationError
from models.registry import get_spec
from models.spec import MethodSpec


@cache
def config_form(spec_name: str) -> type[dg.Config]:
    """The run configuration of a training asset: preset, seed, and every option of the method to override one by one."""
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
    preset = str(getattr(preset, "value", preset))
    return preset, seed, overridden(spec, preset, values)


def overridden(spec: MethodSpec, preset: str, values: Mapping[str, Any]) -> Any:
    """A preset's configuration with some options replaced; lists stand for tuples.

    Raises:
        ConfigurationError: unknown preset or option, or a value that the method refuses.
    """
    hints = typing.get_type_hints(spec.config)
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, value in given.items():
        try:
            TypeAdapter(hints.get(name, Any)).validate_python(value, strict=True)
        except ValidationError as error:
            reasons = "; ".join(dict.fromkeys(e["msg"] for e in error.errors()))
            raise ConfigurationError(f"{spec.name}: the option {name} cannot be {value!r}: {reasons}") from error
    try:
        return spec.configure(preset, **given)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{spec.name}: {error}") from error
