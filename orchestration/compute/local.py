"""Training in a subprocess of this machine, over Dagster Pipes: the default."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.pipes.context import PipesSession

from assets.compute import Compute, ComputeError

_LOG_TAIL_LINES = 20


class LocalCompute(Compute):
    """Runs `python -P -m models.train` and waits.

    The interpreter starts without the current folder and without PYTHONPATH, so a user's own `models` package is never
    taken for ours. Cancelling the run, or ending the Dagster process, ends the training; its checkpoints stay.

    Attributes:
        threads: CPU threads of the training; 0 takes half of the cores. EINTHOVEN_THREADS in the environment goes before.
        grace_seconds: how long a cancelled training may take to write its checkpoint before it is killed.
    """

    threads: int = 0
    grace_seconds: int = 30

    def run(self, context: dg.AssetExecutionContext, job_file: Path) -> dict[str, Any]:
        """See `Compute.run`."""
        folder = job_file.parent
        log = folder / "log.txt"
        with _pipes_session(context, folder) as session:
            with log.open("ab") as stream:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "models.train", str(job_file)],
                    cwd=folder,
                    env={
                        "EINTHOVEN_THREADS": str(self.threads or default_threads()),
                        **clean_environment(),
                        **session.get_bootstrap_env_vars(),
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
            context.log.info("training job %s started as process %s; its log is %s", job_file, process.pid, log)
            try:
                code = process.wait()
            except BaseException:
                _end(process, self.grace_seconds)
                raise
        if code != 0:
            raise ComputeError(
                f"training job {job_file} ended with exit code {code}; materialise again to continue from its last checkpoint.\n{_tail(log)}"
            )
        return _result(session, job_file)


@contextmanager
def _pipes_session(context: dg.AssetExecutionContext, folder: Path) -> Iterator[PipesSession]:
    """Pipes over files in the run folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # of Dagster about a property of its own reader
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesFileContextInjector(str(folder / "pipes_context.json")),
            message_reader=dg.PipesFileMessageReader(str(folder / "pipes_messages.jsonl")),
        ) as session:
            yield session


def default_threads() -> int:
    """Half of the cores: networks of laptop size wait for each other's threads longer than they compute on a busy machine."""
    return max(1, (os.cpu_count() or 1) // 2)


def clean_environment() -> dict[str, str]:
    """The environment without what would let Python import modules from elsewhere."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME")}


def _end(process: subprocess.Popen[bytes], grace_seconds: int) -> None:
    """Ask the training to save and stop, then insist."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _result(session: PipesSession, job_file: Path) -> dict[str, Any]:
    for message in session.get_custom_messages():
        if isinstance(message, dict) and "result" in message:
            result: dict[str, Any] = message["result"]
            return result
    raise ComputeError(
        f"training job {job_file} ended without an error and without a result; see {job_file.parent / 'log.txt'} and materialise again"
    )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
