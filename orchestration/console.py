"""A console logger that says what is being done and nothing else."""

from __future__ import annotations

import logging
import time
from typing import Any

import dagster as dg


class _Plain(logging.Formatter):
    """`12:01:03  encoder/merl  step 40 of 200, loss 3.1`."""

    def format(self, record: logging.LogRecord) -> str:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        step = str(meta.get("step_key") or "").replace("__", "/")
        text = str(meta.get("orig_message") or record.getMessage())
        if meta.get("dagster_event") is not None:
            text = text.split("\n", 1)[0]  # what follows is a stack trace, which the UI shows
        return f"{time.strftime('%H:%M:%S')}  {step:<28}  {text}"


def _for_people(record: logging.LogRecord) -> bool:
    """Keep what asset code says and real errors; the orchestrator's own events are in its UI."""
    meta: dict[str, Any] = getattr(record, "dagster_meta", {})
    return meta.get("dagster_event") is None or record.levelno >= logging.ERROR


@dg.logger(config_schema=None, description="Progress for people")
def console_logger(_: dg.InitLoggerContext) -> logging.Logger:
    """Progress lines on standard error."""
    logger = logging.Logger("einthoven", logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    handler.addFilter(_for_people)
    logger.addHandler(handler)
    return logger
