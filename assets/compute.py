"""The contract between an asset that needs training done and whatever does it.

An asset writes a job (a JSON file that `python -m models.train` understands) and hands it to the resource `compute`.
It does not know whether the job runs as a subprocess or on a cluster; the training code knows no back end.
"""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from assets.outputs import write_atomic
from models.errors import EinthovenError


class ComputeError(EinthovenError):
    """A job that failed, was lost, or ended without a result."""


class Compute(dg.ConfigurableResource, ABC):  # type: ignore[type-arg]
    """Runs training jobs."""

    @abstractmethod
    def run(self, context: dg.AssetExecutionContext, job_file: Path) -> dict[str, Any]:
        """Run a job to its end, streaming its log and metrics into the Dagster run, and return its result.

        Raises:
            ComputeError: the job failed, or ended well without a result.
        """


def run_job(context: dg.AssetExecutionContext, compute: Compute, job: Mapping[str, Any]) -> dict[str, Any]:
    """Write a job into its run folder and have it run; a job that has its result already is not run again."""
    folder = Path(job["output"])
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / "result.json"
    if finished.exists():
        context.log.info("job in %s has finished already; its result is taken", folder)
        done: dict[str, Any] = json.loads(finished.read_text())
        return done
    write_atomic(folder / "job.json", json.dumps(dict(job), indent=1, sort_keys=True))
    return compute.run(context, folder / "job.json")


def collect(run_folder: Path, folder: Path, *names: str) -> None:
    """Copy what a job wrote into the output that is being built; names that a job did not write are skipped."""
    for name in names:
        source = run_folder / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            shutil.copy2(source, folder / name)
