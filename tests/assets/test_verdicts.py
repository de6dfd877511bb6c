"""Verdicts belong to one data version; none counts as a failed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.access import Access
from assets.outputs import Built, Key, Output, OutputError, Workspace
from assets.verdicts import UnsafeUpstreamError, Verdict, load, require_checked, save

KEY = Key(("raw", "x"))


def publish(workspace: Workspace, version: str = "1") -> Output:
    return workspace.publish(KEY, lambda _: Built(rows=0), code_version=version, access=Access.OPEN)


def judge(workspace: Workspace, output: Output, **passed: bool) -> None:
    for check, verdict in passed.items():
        save(workspace, output, Verdict(check, verdict, f"{check} says so"))


def test_all_checks_must_have_passed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(OutputError, match="has not been made yet"):
        require_checked(workspace, KEY)
    output = publish(workspace)
    with pytest.raises(UnsafeUpstreamError, match=r"'manifest' has not run on this version.*'patient_leakage' has not run"):
        require_checked(workspace, KEY)
    judge(workspace, output, manifest=True, patient_leakage=False, privacy=True)
    with pytest.raises(UnsafeUpstreamError, match="'patient_leakage' failed: patient_leakage says so"):
        require_checked(workspace, KEY)
    judge(workspace, output, patient_leakage=True)
    assert require_checked(workspace, KEY).data_version == output.data_version


def test_a_new_version_needs_new_verdicts_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    judge(workspace, publish(workspace), manifest=True, patient_leakage=True, privacy=True)
    publish(workspace, "2")
    with pytest.raises(UnsafeUpstreamError, match="has not run on this version"):
        require_checked(workspace, KEY)
    publish(workspace, "1")
    require_checked(workspace, KEY)


def test_a_torn_verdict_is_no_verdict(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    output = publish(workspace)
    judge(workspace, output, manifest=True)
    path = next((tmp_path / "checks").rglob("manifest.json"))
    path.write_text(path.read_text()[:10])
    assert load(workspace, output, "manifest") is None
