"""Verdicts: kept by data version, made whatever happens, asked for before an output is used, and silent about restricted values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.outputs import Key, Output
from assets.verdicts import UnsafeUpstreamError, load, require_checked
from data_checks import checks
from data_checks.checks import Check, run_check, run_checks
from models.errors import ConfigurationError

RAW = Key(("raw", "tiny"))


def counting(monkeypatch: pytest.MonkeyPatch, run: Any) -> list[str]:
    """Replace the checks of stage raw by one called "manifest" that counts its runs."""
    calls: list[str] = []

    def counted(context: Any) -> str:
        """Counts."""
        calls.append(context.output.data_version)
        return str(run(context))

    monkeypatch.setattr(checks, "CHECKS", {"raw": (Check("manifest", counted),)})
    return calls


def test_a_check_runs_once_a_data_version(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, lambda c: "fine")
    first = world.raw()
    verdict = run_check(world.workspace, first, "manifest")
    assert run_check(world.workspace, first, "manifest") == verdict and len(calls) == 1
    second = world.raw(records=lambda f: f.assign(site="Berlin"))
    run_check(world.workspace, second, "manifest")
    assert calls == [first.data_version, second.data_version]


def test_a_failed_verdict_is_kept_too(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, lambda c: c.findings.fail("bad", ["r00"]))
    output = world.raw()
    assert not world.judge(output, "manifest").passed and world.judge(output, "manifest").message == "bad: r00"
    assert len(calls) == 1


def test_a_changed_declaration_or_check_needs_a_new_verdict(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, lambda c: "fine")
    output = world.raw()
    world.judge(output, "manifest")
    monkeypatch.setattr(world.dataset, "quarantine_limit", 0.5)
    world.judge(output, "manifest")
    monkeypatch.setattr(checks, "VERSION", "next")
    world.judge(output, "manifest")
    assert len(calls) == 3


def test_a_raised_limit_lets_a_failed_store_through(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.raw()
    monkeypatch.setattr(world.dataset, "quarantine_limit", 0.001)
    output = world.cleaned()
    assert not world.judge(output, "quarantine").passed
    monkeypatch.setattr(world.dataset, "quarantine_limit", 0.05)
    assert world.judge(output, "quarantine").passed


def test_stored_verdicts_are_read_without_great_expectations(world: Any) -> None:
    import os
    import subprocess

    output = world.raw()
    run_checks(world.workspace, output)
    code = (
        "import sys; import assets.dataset; sys.path.insert(0, sys.argv[2])\n"
        "from conftest import Tiny; assets.dataset._classes = lambda: {'tiny': Tiny}\n"
        "from assets.outputs import Key, Workspace; from data_checks.checks import run_checks\n"
        "for m in [m for m in sys.modules if m.startswith(('sklearn', 'torch'))]: del sys.modules[m]\n"
        "w = Workspace(sys.argv[1]); v = run_checks(w, w.require(Key(('raw', 'tiny'))))\n"
        "print(all(x.passed for x in v), 'great_expectations' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(world.workspace.root), str(Path(__file__).parent)], capture_output=True, text=True, env=os.environ
    )
    assert done.stdout.strip() == "True False", done.stderr


def test_a_crash_is_a_failed_verdict_and_is_tried_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, lambda c: 1 // 0)
    output = world.raw()
    verdict = world.judge(output, "manifest")
    assert not verdict.passed and "check 'manifest' crashed on raw/tiny with ZeroDivisionError" in verdict.message
    assert verdict.details["traceback"].startswith("ZeroDivisionError: ") and "test_verdicts_of_checks.py:" in verdict.details["traceback"]
    assert load(world.workspace, output, "manifest") == verdict
    world.judge(output, "manifest")
    assert len(calls) == 2


def test_an_unreadable_table_is_a_typed_failure(world: Any) -> None:
    output = world.raw()
    output.path("records.parquet").write_bytes(b"torn")
    for verdict in (v for v in run_checks(world.workspace, output) if v.check != "privacy"):  # which reads files.parquet
        assert not verdict.passed and "records.parquet cannot be read as a table" in verdict.message and "crashed" not in verdict.details


def test_a_store_whose_raw_version_is_gone_is_a_typed_failure(world: Any) -> None:
    import shutil

    raw = world.raw()
    output = world.cleaned()
    world.raw(records=lambda f: f.assign(site="Berlin"))
    assert world.judge(output, "quarantine").passed  # compared with the version it was made from
    shutil.rmtree(raw.folder)
    verdict = world.judge(world.cleaned(), "quarantine")
    assert verdict.passed
    verdict = run_check(world.workspace, output, "index")
    assert not verdict.passed and f"data version {raw.data_version[:12]} of raw/tiny" in verdict.message


def test_upstream_versions_are_found_through_other_outputs(world: Any) -> None:
    """An evaluation does not list labels; it is judged by those that its head was trained on."""
    world.raw()
    world.labels()
    head = world.head()
    world.labels(lambda f: f.assign(MI=f["NORM"], NORM=f["MI"]))
    assert world.judge(head, "predictions").passed
    assert world.judge(world.evaluation(), "metrics").passed
    assert not world.judge(world.head(), "predictions").passed


def test_only_outputs_with_green_checks_may_be_used(world: Any) -> None:
    output = world.raw()
    with pytest.raises(UnsafeUpstreamError, match=r"check 'manifest' has not run.*check 'patient_leakage' has not run"):
        require_checked(world.workspace, RAW)
    run_check(world.workspace, output, "manifest")
    with pytest.raises(UnsafeUpstreamError, match=r"'patient_leakage' has not run"):
        require_checked(world.workspace, RAW)
    run_checks(world.workspace, output)
    assert require_checked(world.workspace, RAW) == output
    leaking = world.raw(records=lambda f: f.assign(fold=f.index % 10 + 1))
    with pytest.raises(UnsafeUpstreamError, match="has not run"):
        require_checked(world.workspace, RAW)
    run_checks(world.workspace, leaking)
    with pytest.raises(UnsafeUpstreamError, match=r"'patient_leakage' failed: .*p04"):
        require_checked(world.workspace, RAW)


def test_unknown_checks_are_refused(world: Any) -> None:
    with pytest.raises(ConfigurationError, match="it has manifest, patient_leakage"):
        run_check(world.workspace, world.raw(), "manifesto")


def everything_said(world: Any, output: Output) -> str:
    """All verdicts and pages of an output as one text."""
    said = "".join(f"{v.message}{v.details}" for v in run_checks(world.workspace, output))
    files = [p for folder in ("checks", "data_docs") for p in (world.workspace.root / folder).rglob("*") if p.is_file()]
    return said + "".join(p.read_text(errors="replace") for p in files if "static" not in p.parts)


def test_values_of_restricted_data_stand_in_no_message_and_no_page(guarded: Any, edit: Any) -> None:
    planted = {"SECRETSEX", "SECRETSUM", "777123", "SECRETLANGUAGE", "SECRETSOURCE", "SECRETTEXT", "888321"}
    many = dict.fromkeys(range(10, 40), "SECRETSEX")
    raw = guarded.raw(edit(sha256={1: "SECRETSUM"}), edit(age={2: 777123.0}, sex=many))
    said = everything_said(guarded, raw)
    assert "a/1.dat" in said and "r02" in said and "r10, r11, r12, r13, r14 and 25 more" in said
    reports = guarded.reports(
        edit(language={3: "SECRETLANGUAGE"}, source={4: "SECRETSOURCE"}, text={5: "SECRETTEXT"}, coverage={5: 888321.0})
    )
    said = everything_said(guarded, reports)
    assert all(r in said for r in ("r03", "r04", "r05"))
    assert not {p for p in planted if p in said}


def test_values_of_open_data_stand_on_pages(world: Any, edit: Any) -> None:
    said = everything_said(world, world.raw(records=edit(sex={3: "PLANTED"})))
    assert "PLANTED" in said and "r03" in said


def test_crashes_on_restricted_data_quote_nothing(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counting(monkeypatch, lambda c: float("SECRETVALUE"))
    verdict = guarded.judge(guarded.raw(), "manifest")
    assert not verdict.passed and "ValueError" in verdict.message and "SECRETVALUE" not in f"{verdict}"


def test_expectations_that_raise_on_restricted_data_leave_no_page(tmp_path: Path) -> None:
    import pandas as pd

    from data_checks.suites import _between
    from data_checks.validation import Suite, validate

    frame = pd.DataFrame({"which_row": ["r0", "r1"], "age": ["SECRETVALUE", "3"]})

    def suite() -> Suite:
        return Suite("records", frame, [_between("age", 0, 130, "age is plausible")])

    guarded = validate(tmp_path, Path("a"), [suite()], restricted=True)
    assert guarded.docs is None and "SECRETVALUE" not in f"{guarded}" and "could not be evaluated" in guarded.faults[0].text
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert validate(tmp_path, Path("a"), [suite()], restricted=False).docs is not None


def test_details_hold_plain_json_values(world: Any) -> None:
    import json

    world.raw()
    for output in (world.cleaned(), world.labels()):
        for verdict in run_checks(world.workspace, output):
            json.dumps(verdict.details)
            assert not [v for v in verdict.details.values() if isinstance(v, np.generic)]
