"""Check of prompts: every set is a JSON mapping from class codes to sentences, or lists of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data_checks.context import CheckContext, TableRules
from data_checks.findings import CheckError
from data_checks.suites import prompts_suite

OWN_SETS = ("einthoven", "plain")


def check_prompts(c: CheckContext) -> str:
    """The listed prompt sets are there, and each maps class codes to text, or lists of texts, that is not blank."""
    import pyarrow as pa

    listed = list(c.output.facts["sets"])
    if missing := [s for s in OWN_SETS if s not in listed]:
        c.findings.fail(f"the platform's own prompt sets {', '.join(missing)} are missing")
    rows: list[tuple[str, str, str, bool]] = []
    for name in listed:
        prompts = _read(c, name)
        for code, found in prompts.items():
            sentences = found if isinstance(found, list) and found else [found]
            rows += [(name, code, s if isinstance(s, str) else "", isinstance(s, str)) for s in sentences]
        if not prompts:
            c.findings.fail(f"prompt set {name!r} is empty")
        repeated = len(prompts) - len({str(p) for p in prompts.values()})
        if repeated:
            c.findings.note(
                f"prompt set {name!r} says the same of several classes ({repeated} repeats): their zero-shot scores will be equal"
            )
    text = pa.string()
    columns = {
        "which_prompt": pa.array([f"{name}/{code}" for name, code, _, _ in rows], text),
        "set": pa.array([r[0] for r in rows], text),
        "code": pa.array([r[1] for r in rows], text),
        "prompt": pa.array([r[2] for r in rows], text),
        "is_text": pa.array([r[3] for r in rows], pa.bool_()),
    }
    c.validate(
        TableRules(
            "prompt sets",
            pa.table(columns),
            {"set": "text", "code": "text", "prompt": "text", "is_text": "flag"},
            "which_prompt",
            prompts_suite,
        )
    )
    return f"{len(rows)} prompts in {len(listed)} sets"


def _read(c: CheckContext, name: str) -> Mapping[str, Any]:
    path = c.output.path(f"{name}.json")
    try:
        prompts = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckError(f"{path} is not JSON ({type(error).__name__}); correct the prompt set and materialise prompts again") from error
    if not isinstance(prompts, dict):
        raise CheckError(f"{path} must hold one JSON object, class code -> prompt")
    return prompts
