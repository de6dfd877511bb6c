"""Text prompts for zero-shot classification: which sentences of a prompt set stand for which class."""

from __future__ import annotations

from collections.abc import Mapping

Prompt = str | list[str]
"""What stands for a class: a sentence, or several of which the best fitting one counts."""


def prompt_for(prompts: Mapping[str, Prompt], task: str, code: str) -> Prompt | None:
    """Return the prompt or prompts of a class, or None where the set has none.

    A key is "task:code" where a code means different things in different tasks, else the bare code. Published sets
    write codes without the underscores that SCP-ECG tables pad them with (NST for NST_, AVB for _AVB), so the code
    without underscores at its ends is tried last.
    """
    for name in (code, code.strip("_")):
        for key in (f"{task}:{name}", name):
            if key in prompts:
                return prompts[key]
    return None


def is_prompt(value: object) -> bool:
    """Whether a value is a sentence, or a list of one or more of them."""
    sentences = value if isinstance(value, list) else [value]
    return bool(sentences) and all(isinstance(s, str) and s.strip() for s in sentences)
