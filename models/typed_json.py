"""Dataclasses from the values of a JSON file, each checked against the type of its field."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any


def missing_entries(kind: type[Any], values: dict[str, Any]) -> list[str]:
    """Fields of a dataclass without a default that the values lack."""
    return [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING and values.get(f.name) is None]


def filled(kind: type[Any], values: dict[str, Any]) -> Any:
    """A dataclass from those of the values that it has fields for.

    Raises:
        TypeError, ValueError: a value is not of its field's type.
    """
    hints = typing.get_type_hints(kind)
    return kind(**{f.name: _typed(hints[f.name], values[f.name]) for f in fields(kind) if f.name in values})


def _typed(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(arguments[0], value)
    if hint is Any:
        return value
    if origin is list:
        return [_typed(arguments[0], v) for v in _expect(list, value)]
    if origin is dict:
        return {str(k): _typed(arguments[1], v) for k, v in _expect(dict, value).items()}
    if is_dataclass(hint):
        return filled(hint, _expect(dict, value))  # type: ignore[arg-type]
    if hint is Path:
        return Path(_expect(str, value))
    if hint is float:
        return float(_expect((int, float), value))
    return _expect(hint, value)


def _expect(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} where {getattr(kind, '__name__', 'a number')} is expected")
    return value
