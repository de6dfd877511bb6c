"""The fuzzer finds what it should, and a few seconds of it find nothing in the readers."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assets.record import RecordError
from tests.fuzz import targets
from tests.fuzz.encoders import PATIENT
from tests.fuzz.targets import Observer, Target

ROOT = Path(__file__).parents[2]


def never(_: Path, data: bytes) -> None:
    if data == b"bug":
        raise KeyError("bug")
    if data == b"slow":
        time.sleep(0.03)
    raise RecordError("bad_header", "x", PATIENT if data == b"name" else "is wrong")


@pytest.mark.parametrize(("data", "found"), [(b"bug", "KeyError"), (b"slow", "took"), (b"name", "names the patient"), (b"sound", "")])
def test_faults_are_told_from_typed_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, found: str) -> None:
    monkeypatch.setitem(targets.TARGETS, "planted", Target(never, lambda: [], private=True))
    monkeypatch.setattr(targets, "SLOW_S", 0.02)
    observer = Observer(tmp_path)
    for _ in range(3):
        observer.observe("planted", data)
    reports = list(tmp_path.glob("planted-*.txt"))
    assert len(reports) == bool(found)
    assert all(found in r.read_text() and r.with_suffix(".bin").read_bytes() == data for r in reports)
    assert observer.counts["planted"].total() == 3


def test_every_target_has_a_seed_that_is_read() -> None:
    for name, target in targets.TARGETS.items():
        results = [targets.outcome(target, seed) for seed in target.seeds()]
        assert "record" in {result for result, _ in results}, name
        assert not any(fault for _, fault in results), name
    targets.remove_scratch()


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: it is built for Linux only")
def test_a_few_seconds_find_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--seconds", "8", "--crashes", str(tmp_path / "crashes")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    executions = int(done.stdout.splitlines()[-1].split()[0])
    assert executions > 500
