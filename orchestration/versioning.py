"""DVC: commit, push and pull of what the platform made, with the access class of everything looked at first."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

from assets.access import require_destination
from assets.outputs import Key, Output, Workspace
from assets.settings import PROJECT, Settings, is_local
from models.errors import EinthovenError


class VersioningError(EinthovenError):
    """DVC refused or failed; the message is DVC's own."""


def default_remote(project: Path = PROJECT) -> str:
    """The URL of DVC's default remote; empty where none is configured. The last file that names it wins."""
    config = configparser.ConfigParser()
    config.read([project / ".dvc" / "config", project / ".dvc" / "config.local"])
    name = config.get("core", "remote", fallback="")
    return config.get(f"'remote \"{name}\"'", "url", fallback="")


def require_dvc_allows(settings: Settings, outputs: list[Output], project: Path = PROJECT) -> None:
    """Refuse to let DVC have outputs that its default remote may not receive.

    Raises:
        AccessError: names the first such output, its class and the setting.
    """
    remote = default_remote(project)
    if is_local(remote):
        return
    for output in outputs:
        require_destination("dvc", settings.limit("dvc"), output.access, f"{output.key}, which DVC would push to {remote},")


def current_outputs(workspace: Workspace, name: str | None = None) -> list[Output]:
    """All current outputs, or those of one dataset or method."""
    outputs = []
    for pointer in sorted(workspace.root.glob("*/**/CURRENT")):
        *parts, partition = pointer.parent.relative_to(workspace.root).parts
        key = Key(tuple(parts), None if partition == "all" else partition)
        if name is None or name in (*key.parts, key.partition):
            outputs.append(workspace.require(key))
    return outputs


def run_dvc(*arguments: str, project: Path = PROJECT) -> str:
    """Run a DVC command in the project; returns what it printed.

    Raises:
        VersioningError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dvc", "--wait-for-lock", *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise VersioningError(f"dvc {' '.join(arguments)} failed with exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()
