"""Options of methods as the command line gives them."""

from __future__ import annotations

import re
from typing import Any

from models.errors import ConfigurationError


def overrides_of(options: list[str]) -> dict[str, Any]:
    """Names and values of `name=value`, values as YAML reads them.

    Raises:
        ConfigurationError: one is not of that form.
    """
    import yaml

    overrides = {}
    for item in options:
        name, separator, value = item.partition("=")
        if not separator:
            raise ConfigurationError(f"--option {item!r} must look like name=value")
        overrides[name] = yaml.safe_load(value)
        if isinstance(overrides[name], str) and re.fullmatch(r"[-+]?[0-9]+[eE][-+]?[0-9]+", value):
            overrides[name] = float(value)  # 1e-3, which YAML takes for a word
    return overrides
