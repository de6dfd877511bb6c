"""Outputs without a fault pass every blocking check of their stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from assets.verdicts import BLOCKING, FIRST_STAGES, load
from data_checks.checks import CHECKS, run_checks


def test_every_blocking_check_is_implemented_and_described() -> None:
    assert {stage: tuple(c.name for c in checks) for stage, checks in CHECKS.items()} == dict(BLOCKING)
    for checks in CHECKS.values():
        assert all(c.description.endswith(".") for c in checks)


@pytest.mark.parametrize("access", ["open", "credentialed"])
def test_clean_outputs_of_every_stage_pass(make_world: Any, access: str) -> None:
    from assets.dataset import get_dataset

    world = make_world(get_dataset("tiny" if access == "open" else "guarded"))
    stages = [
        world.raw(),
        world.cleaned(),
        world.labels(),
        world.reports(),
        world.prompts(),
        world.encoder(),
        world.head(),
        world.evaluation(),
    ]
    elsewhere = {"pairing", "questions", "transfer", "cross_validation", "cross_modality", *FIRST_STAGES}  # worlds of their own
    assert {o.key.stage for o in stages} == set(BLOCKING) - elsewhere
    for output in stages:
        for verdict in run_checks(world.workspace, output):
            assert verdict.passed, verdict.message
            assert verdict.details["n_rows"] == 0
            assert load(world.workspace, output, verdict.check) == verdict


def test_data_docs_share_one_copy_of_pictures(world: Any) -> None:
    for output in (world.raw(), world.cleaned(), world.raw()):
        for verdict in run_checks(world.workspace, output):
            if docs := verdict.details.get("data_docs"):
                page = Path(docs)
                assert page.is_file() and list((page.parent / "validations").rglob("*.html"))
                assert (page.parent / "static" / "images").is_dir()
    docs = world.workspace.root / "data_docs"
    own = sum(p.stat().st_size for p in docs.rglob("*") if p.is_file() and "static" not in p.relative_to(docs).parts)
    assert own < 1_000_000
    assert not list(docs.rglob(".building-*"))


def test_definitions_can_be_loaded_without_heavy_libraries() -> None:
    import subprocess

    code = "import sys, data_checks.dagster_checks; print([m for m in ('torch', 'pandas', 'great_expectations', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
