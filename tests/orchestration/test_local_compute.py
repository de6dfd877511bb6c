"""The local back end: what it starts, and what it makes of every way a job can end."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from assets.compute import Compute, ComputeError, run_job
from orchestration.compute import local
from orchestration.compute.local import LocalCompute


def run(job: dict[str, Any], compute: LocalCompute | None = None) -> Any:
    """Run a job from inside an asset and return its result, or raise what the asset raised."""
    caught: list[Any] = []

    @dg.asset
    def training(context: dg.AssetExecutionContext, compute: dg.ResourceParam[Compute]) -> None:
        try:
            caught.append(run_job(context, compute, job))
        except BaseException as error:
            caught.append(error)

    dg.materialize([training], resources={"compute": compute or LocalCompute()}, raise_on_error=False)
    if isinstance(caught[0], BaseException):
        raise caught[0]
    return caught[0]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the interpreter's place; it writes down how it was called, then does what `behaviour` says."""
    program = tmp_path / "python"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nenv > {tmp_path}/environment\necho "last words" >&2\n. {tmp_path}/behaviour\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(program))
    return tmp_path


def job(folder: Path) -> dict[str, Any]:
    return {"kind": "pretrain", "output": str(folder / "run")}


def test_nothing_of_the_users_python_path_reaches_the_job(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somebody/elses")
    monkeypatch.setenv("PYTHONSTARTUP", "/somebody/elses.py")
    (stub / "behaviour").write_text("exit 0")
    with pytest.raises(ComputeError):
        run(job(stub))
    assert (stub / "arguments").read_text().startswith("-P -m models.train ")
    environment = (stub / "environment").read_text()
    assert "elses" not in environment
    assert "DAGSTER_PIPES_CONTEXT=" in environment
    assert "EINTHOVEN_THREADS=" in environment


def test_a_job_that_fails_says_its_last_words_and_how_to_go_on(stub: Path) -> None:
    (stub / "behaviour").write_text("exit 3")
    with pytest.raises(ComputeError, match=r"exit code 3; materialise again to continue(.|\n)*last words"):
        run(job(stub))


def test_a_job_that_ends_well_without_a_result_is_a_failure(stub: Path) -> None:
    (stub / "behaviour").write_text("exit 0")
    with pytest.raises(ComputeError, match="without an error and without a result"):
        run(job(stub))


def test_a_result_that_is_there_is_taken(stub: Path) -> None:
    (stub / "run").mkdir()
    (stub / "run" / "result.json").write_text(json.dumps({"steps": 3}))
    assert run(job(stub)) == {"steps": 3}
    assert not (stub / "arguments").exists()


@pytest.mark.parametrize("stubborn", [False, True])
def test_cancelling_the_run_ends_the_job(stub: Path, stubborn: bool) -> None:
    trap = "trap '' TERM\n" if stubborn else ""
    (stub / "behaviour").write_text(f"{trap}echo $$ > {stub}/pid\nwhile true; do sleep 0.1; done")

    def cancel(*_: Any) -> None:
        raise DagsterExecutionInterruptedError

    old = signal.signal(signal.SIGALRM, cancel)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        with pytest.raises(DagsterExecutionInterruptedError):
            run(job(stub), LocalCompute(grace_seconds=1))
    finally:
        signal.signal(signal.SIGALRM, old)
    pid = int((stub / "pid").read_text())
    time.sleep(0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
