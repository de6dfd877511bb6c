"""Identifiers of persons stop a dataset, unless its owner accepts their kind; values are never told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The original files of the dataset `tiny`, one header of which names its patient."""
    folder = tmp_path / "original"
    folder.mkdir()
    (folder / "a.hea").write_text("a 1 100 5\na.dat 16 1000 16 0 0 0 0 I\n#Age: 4\n")
    (folder / "b.hea").write_text("b 1 100 5\nb.dat 16 1000 16 0 0 0 0 I\n#Patient name: Doe, MRN: 4711\n")
    monkeypatch.setenv("EINTHOVEN_HOME", str(tmp_path))
    monkeypatch.setenv("EINTHOVEN_DATASET_TINY", str(folder))
    return folder


def raw(world: Any) -> Any:
    return world.raw(files=lambda f: pd.DataFrame({"path": ["a.hea", "b.hea"], "bytes": [1, 1], "sha256": ["a" * 64, "b" * 64]}))


def test_a_header_that_names_a_person_fails_without_telling_the_name(world: Any, folder: Path) -> None:
    verdict = world.judge(raw(world), "privacy")
    assert not verdict.passed
    assert "1 headers hold a name (b.hea)" in verdict.message
    assert "Doe" not in str(verdict) and "4711" not in str(verdict)
    (folder / "b.hea").write_text("b 1 100 5\nb.dat 16 1000 16 0 0 0 0 I\n")
    assert world.judge(raw(world), "privacy").message == "2 of 2 headers and tables carry no identifier of a person"


def test_an_owner_may_accept_a_kind(world: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"accepted_identifiers": {"tiny": ["name", "record_number"]}}))
    verdict = world.judge(raw(world), "privacy")
    assert verdict.passed
    assert "which the settings accept" in verdict.message


def test_a_header_that_cannot_be_read_is_no_pass(world: Any, folder: Path) -> None:
    output = raw(world)
    (folder / "a.hea").unlink()
    verdict = world.judge(output, "privacy")
    assert not verdict.passed and "a.hea cannot be read" in verdict.message


def test_a_report_that_names_a_person_fails(world: Any) -> None:
    world.raw()
    told = world.reports(lambda f: f.assign(original=f["original"].where(f["record_id"] != "r07", "EKG von Herrn Schmidt, geb. 1.2.1950")))
    verdict = world.judge(told, "privacy")
    assert not verdict.passed
    assert "1 reports hold a name (r07)" in verdict.message and "birth date (r07)" in verdict.message
    assert "Schmidt" not in str(verdict)
    assert world.judge(world.reports(), "privacy").passed
