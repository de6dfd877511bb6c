"""What a job tells the world while it runs: a log, metrics.jsonl, and messages to the orchestrator that launched it.

The orchestrator listens through Dagster Pipes where its launcher has set the variable below. Only the first process
opens the connection, by hand, because a connection that closes tells the orchestrator that the job is over: it is closed
after a result or a real error, never when the job is only interrupted and will be started again.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"
_EVERY_S = 2.0
_log = logging.getLogger("einthoven.train")


class Progress:
    """Reports of one job; all but the first process are silent."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self._pipes: Any = None
        self._spoken = -_EVERY_S
        if rank == 0 and os.environ.get(PIPES_VARIABLE):
            from dagster_pipes import open_dagster_pipes

            self._pipes = open_dagster_pipes()

    def say(self, text: str) -> None:
        """Log a line, here and in the orchestrator's run."""
        if self.rank == 0:
            _log.info(text)
            if self._pipes is not None:
                self._pipes.log.info(text)

    def metrics(self, values: dict[str, Any], text: str) -> None:
        """Report how it goes, at most every two seconds."""
        now = time.monotonic()
        if self.rank == 0 and now - self._spoken >= _EVERY_S:
            self._spoken = now
            self.say(text)
            if self._pipes is not None:
                self._pipes.report_custom_message({"metrics": values})

    def finish(self, result: dict[str, Any]) -> None:
        """Deliver the result and close the connection."""
        if self._pipes is not None:
            self._pipes.report_custom_message({"result": result})
            self._pipes.close()

    def fail(self, error: BaseException) -> None:
        """Tell why there is no result and close the connection."""
        if self._pipes is not None:
            self._pipes.log.error(f"{type(error).__name__}: {error}")
            self._pipes.close(exc={"message": str(error), "stack": [], "name": type(error).__name__, "cause": None, "context": None})


class MetricsFile:
    """metrics.jsonl: one row a logged step, each step once however often the job was interrupted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def drop_after(self, step: int) -> None:
        """Forget rows behind a step (they will be computed again) and a last line that was cut short."""
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row["step"] <= step:
                kept.append(line + "\n")
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_text("".join(kept))
        os.replace(temporary, self._path)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row."""
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
