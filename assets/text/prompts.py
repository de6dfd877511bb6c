"""Prompt sets for zero-shot classification: our own descriptions, class names alone, and sets from files the user names.

A set is a flat JSON object, key -> prompt, or a list of prompts of which the best fitting one counts. A key is a class code, or
"task:code" where a code means different things in different tasks (STTC is a superclass and, narrower, a subclass).
`models.prompts.prompt_for` finds the prompt of a class. The sets of Einthoven hold SCP-ECG's statements and CheXpert's findings.
The descriptions of the set `einthoven` are written for Einthoven, in the manner of CKEPE (Liu et al., ICML 2024, arXiv 2403.06659):
a definition, synonyms, sub-types and ECG signs, separated by commas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from assets.chexpert_labels import FINDINGS
from assets.scp import STATEMENTS, SUBCLASS_NAMES, SUPERCLASS_NAMES
from assets.text.chest_prompts import chest_prompts
from models.errors import EinthovenError
from models.prompts import Prompt, is_prompt

_OWN = Path(__file__).with_name("prompts_einthoven.json")


class PromptError(EinthovenError):
    """A prompt set that cannot be used."""


def prompt_sets(configured: Mapping[str, Path]) -> dict[str, dict[str, Prompt]]:
    """All prompt sets by name: einthoven, plain, and the configured ones.

    Raises:
        PromptError: a file is missing or is not a JSON object of texts or lists of them, or takes the name of a set of ours.
    """
    sets = {"einthoven": read_prompts(_OWN) | chest_prompts(), "plain": plain_prompts()}
    for name, path in configured.items():
        if name in sets:
            raise PromptError(f"{path}: the name {name!r} belongs to a prompt set of Einthoven; choose another name in settings.yaml")
        sets[name] = read_prompts(path)
    return sets


def read_prompts(path: Path) -> dict[str, Prompt]:
    """Read a prompt set.

    Raises:
        PromptError: names the file and, where one is at fault, the key.
    """
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
    except OSError as error:
        raise PromptError(f"{path} cannot be read ({error.strerror}); correct the path under `prompts` in settings.yaml") from error
    except ValueError as error:  # bad UTF-8 and bad JSON
        raise PromptError(f"{path} is not JSON ({error}); it should be an object of class code and prompt") from error
    if not isinstance(pairs, _Pairs) or not pairs:
        raise PromptError(f"{path} should be a JSON object of class code and prompt, with at least one entry")
    prompts: dict[str, Prompt] = {}
    for key, value in pairs:
        if isinstance(value, _Pairs) or not is_prompt(value):
            raise PromptError(f"{path}, key {key!r}: a prompt must be a text that is not empty, or a list of such texts")
        if key in prompts:
            raise PromptError(f"{path}, key {key!r}: stands there twice; keep one")
        prompts[key] = value  # type: ignore[assignment]  # is_prompt has looked at it
    return prompts


class _Pairs(list[tuple[str, object]]):
    """A JSON object as read, with repeated keys kept."""


def plain_prompts() -> dict[str, Prompt]:
    """Class names alone, for all statements, superclasses and subclasses of SCP-ECG and all findings of CheXpert's labeller."""
    prompts: dict[str, Prompt] = {code: s.name for code, s in STATEMENTS.items()}
    for task, names in (("super", SUPERCLASS_NAMES), ("sub", SUBCLASS_NAMES)):
        for code, name in names.items():
            if code not in prompts:
                prompts[code] = name
            elif prompts[code] != name:
                prompts[f"{task}:{code}"] = name
    return prompts | dict(FINDINGS)
