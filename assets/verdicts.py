"""Verdicts of blocking checks, kept beside the data so that they hold on every path.

An orchestrator blocks the children of a failed check inside one run only. Here every stage asks, before it reads an
output, whether all blocking checks of exactly this data version have passed; a later run, a backfill, an automation,
a fan-in or `dvc repro` meets the same answer. No verdict counts as a failed one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from assets.outputs import Key, Output, Workspace, write_atomic
from models.errors import EinthovenError
from models.registry import get_spec, list_methods

FIRST_STAGES = tuple(sorted({spec.first_stage.name for spec in map(get_spec, list_methods()) if spec.first_stage is not None}))
"""Stages that come before the encoder's, of all methods."""

BLOCKING: Mapping[str, tuple[str, ...]] = {
    "raw": ("manifest", "patient_leakage", "privacy"),
    "cleaned": ("index", "quarantine", "duplicates"),
    "labels": ("labels",),
    "reports": ("reports", "privacy"),
    "questions": ("questions",),
    "prompts": ("prompts",),
    "pairing": ("samples", "split", "panels"),
    **dict.fromkeys((*FIRST_STAGES, "encoder"), ("bundle",)),
    "head": ("predictions",),
    "evaluation": ("metrics",),
    "transfer": ("transfer",),
    "cross_validation": ("folds",),
    "cross_modality": ("matrix",),
}
"""Blocking checks by stage. `data_checks` implements each; a stage that is not listed has none."""


class UnsafeUpstreamError(EinthovenError):
    """An upstream output that failed a blocking check, or was never checked."""


@dataclass(frozen=True)
class Verdict:
    """What a check found about one data version.

    Attributes:
        message: one sentence for people; says which rows are at fault.
        details: small JSON for the UI (counts, first offending record ids, link to Data Docs).
    """

    check: str
    passed: bool
    message: str
    details: dict[str, Any] = field(default_factory=dict)


def save(workspace: Workspace, output: Output, verdict: Verdict) -> None:
    """Keep a verdict about an output."""
    path = _folder(workspace, output) / f"{verdict.check}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(verdict), indent=1))


def load(workspace: Workspace, output: Output, check: str) -> Verdict | None:
    """The verdict of a check about exactly this data version, or None."""
    try:
        return Verdict(**json.loads((_folder(workspace, output) / f"{check}.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def require_checked(workspace: Workspace, key: Key) -> Output:
    """The current output, once all its blocking checks have passed.

    Raises:
        OutputError: it was never made.
        UnsafeUpstreamError: a check failed or has not run; says which, and what the check said.
    """
    output = workspace.require(key)
    problems = []
    for check in BLOCKING.get(key.stage, ()):
        verdict = load(workspace, output, check)
        if verdict is None:
            problems.append(f"check {check!r} has not run on this version; run it (materialise {key} with its checks)")
        elif not verdict.passed:
            problems.append(f"check {check!r} failed: {verdict.message}")
    if problems:
        raise UnsafeUpstreamError(f"{key} (data version {output.data_version[:12]}) must not be used: " + "; ".join(problems))
    return output


def _folder(workspace: Workspace, output: Output) -> Any:
    return workspace.root / "checks" / output.key.path / output.data_version
