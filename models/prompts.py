"""Text prompts for zero-shot classification: which sentence of a prompt set stands for which class."""

from __future__ import annotations

from collections.abc import Mapping


def prompt_for(prompts: Mapping[str, str], task: str, code: str) -> str | None:
    """Return the prompt of a class, or None where the set has none.

    A key is "task:code" where a code means different things in different tasks, else the bare code. Published sets
    write codes without the underscores that SCP-ECG tables pad them with (NST for NST_, AVB for _AVB), so the code
    without underscores at its ends is tried last.
    """
    for name in (code, code.strip("_")):
        for key in (f"{task}:{name}", name):
            if key in prompts:
                return prompts[key]
    return None
