"""The Dagster instance: where it lives, and that its databases exist before several processes want them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import dagster as dg

from assets.outputs import locked
from assets.settings import PROJECT, Settings


def prepare_home(settings: Settings) -> Path:
    """Make DAGSTER_HOME inside the workspace if the environment names none, and point the environment to it."""
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(settings.home / "dagster")))
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copy(PROJECT / "dagster.yaml", home / "dagster.yaml")
    return home


def get_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance. The first call anywhere makes the databases, under a lock, because parallel first calls break them."""
    home = prepare_home(settings)
    with locked(home / ".first-start"):
        return dg.DagsterInstance.get()
