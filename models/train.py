"""The one entry point of every training job on every back end: `python -P -m models.train job.json`.

A job writes into its run folder and can be started again at any time: it goes on where it stopped, and ends at once when
its result is there. Exit codes: 0 done, 1 failed, 143 interrupted with its state saved (start it again).
"""

from __future__ import annotations

import fcntl
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import ConfigurationError, EinthovenError
from models.jobs import (
    CrossModalityJob,
    CrossValidationJob,
    ExplainJob,
    ExternalJob,
    FeaturesJob,
    GenerationJob,
    HeadJob,
    IdentificationJob,
    Job,
    PretrainJob,
    QuestionJob,
    ReconstructionJob,
    RetrievalJob,
    TransferJob,
    ZeroShotJob,
    kind_of,
    read_job,
)
from models.progress import Progress

INTERRUPTED = 143
RESULT = "result.json"


def main(arguments: list[str]) -> int:
    """Run the job whose file is the only argument; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _leave)
    if sys.flags.safe_path:
        os.environ["PYTHONSAFEPATH"] = "1"  # processes that Lightning starts must not import from the working folder either
    if len(arguments) != 1:
        logging.error("usage: python -P -m models.train job.json")
        return 2
    try:
        job = read_job(Path(arguments[0]))
    except ConfigurationError as error:
        logging.error("%s", error)
        return 1
    progress = Progress(_rank(job))
    try:
        result = run(job, progress)
    except EinthovenError as error:
        logging.error("%s: %s", type(error).__name__, error)
        progress.fail(error)
        return 1
    except Exception as error:
        progress.fail(error)
        raise
    if result is None:
        logging.info("interrupted; the state is saved, start the job again to go on")
        return INTERRUPTED
    progress.finish(result)
    return 0


def run(job: Job, progress: Progress) -> dict[str, Any] | None:
    """Run a job, or take the result of an earlier run; None if it was interrupted.

    Raises:
        EinthovenError: it cannot be done; the message says why.
    """
    job.output.mkdir(parents=True, exist_ok=True)
    with _alone(job.output, progress):
        finished = job.output / RESULT
        if finished.exists():
            done: dict[str, Any] = json.loads(finished.read_text())
            return done
        _set_threads(job)
        result = _dispatch(job, progress)
        if result is None or progress.rank != 0:
            return result
        result = {"kind": kind_of(job), **result}
        _write_result(finished, result)
        if isinstance(job, PretrainJob):
            from models.pretraining import remove_states

            remove_states(job.output)
        return result


@contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the run folder, after waiting for a process that still works in it.

    Such a process is there when its orchestrator was killed and started again; when it ends, its result or its last state is
    taken. The system releases the lock when the process ends, however it ends.
    """
    if progress.rank != 0:
        yield
        return
    with (folder / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"another process works in {folder}; waiting for it to end")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _write_result(path: Path, result: dict[str, Any]) -> None:
    from models.training_state import sync_folder, write_durably

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write_durably(temporary, json.dumps(result, indent=1, sort_keys=True).encode())
    os.replace(temporary, path)
    sync_folder(path.parent)


_RUNNERS: dict[type[Job], tuple[str, str]] = {
    PretrainJob: ("models.pretraining", "pretrain"),
    HeadJob: ("models.head_job", "train_heads"),
    CrossValidationJob: ("models.cross_validation_job", "cross_validate"),
    CrossModalityJob: ("models.cross_modality_job", "cross_modalities"),
    ExternalJob: ("models.external.job", "judge_encoder"),
    FeaturesJob: ("models.external.job", "probe_features"),
    ZeroShotJob: ("models.zero_shot", "classify"),
    RetrievalJob: ("models.retrieval_job", "retrieve"),
    IdentificationJob: ("models.identification", "identify"),
    GenerationJob: ("models.generation_job", "write_reports"),
    ExplainJob: ("models.explain_job", "explain_samples"),
    QuestionJob: ("models.question_job", "answer_questions"),
    ReconstructionJob: ("models.reconstruction_job", "reconstruct_leads"),
    TransferJob: ("models.transfer_job", "transfer"),
}
"""Module and function that run a kind of job, imported when one comes."""


def _dispatch(job: Job, progress: Progress) -> dict[str, Any] | None:
    module, function = _RUNNERS[type(job)]
    result: dict[str, Any] | None = getattr(importlib.import_module(module), function)(job, progress)
    return result


def _set_threads(job: Job) -> None:
    """Threads of the machine's setting, else of the job, else torch's default."""
    import torch

    text = os.environ.get("EINTHOVEN_THREADS") or job.threads
    if text:
        try:
            torch.set_num_threads(int(text))
        except (ValueError, RuntimeError) as error:
            raise ConfigurationError(f"EINTHOVEN_THREADS or the job's threads is {text!r}; give a whole number above 0") from error


def _rank(job: Job) -> int:
    if not isinstance(job, PretrainJob):
        return 0
    from models.pretraining import process_rank

    return process_rank(job)


def _leave(*_: Any) -> None:
    raise SystemExit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
