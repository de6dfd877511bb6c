"""Dagster's web server and daemon and MLflow's server, started and stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from assets.settings import load
from assets.tracking import ensure_database
from models.errors import EinthovenError
from orchestration.compute.local import clean_environment
from orchestration.instance import get_instance

_MODULE = "orchestration.definitions"


class ServerError(EinthovenError):
    """A server that did not start or ended by itself."""


def commands(port: int, mlflow_port: int, tracking_uri: str, artifact_root: str) -> dict[str, list[str]]:
    """The command line of each server; all bind to loopback, because none of them asks who is there."""
    python = [sys.executable, "-P", "-m"]
    return {
        "Dagster's web server": [*python, "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-m", _MODULE],
        "Dagster's daemon": [*python, "dagster._daemon", "run", "-m", _MODULE],
        "MLflow's server": [
            *python, "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1",
            "--backend-store-uri", tracking_uri, "--artifacts-destination", artifact_root,
        ],
    }  # fmt: skip


def serve_ui(port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """Run the servers until one ends or the user interrupts; none is left behind.

    Raises:
        ServerError: a server ended by itself.
    """
    settings = load()
    get_instance(settings).dispose()
    ensure_database(settings)
    environment = clean_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    servers: dict[str, subprocess.Popen[bytes]] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us with & would have SIGINT ignored
    try:
        for name, command in commands(port, mlflow_port, settings.tracking_uri, str(settings.home / "mlartifacts")).items():
            servers[name] = subprocess.Popen(command, env=environment, cwd=settings.home, start_new_session=True)
        say(f"Dagster  http://127.0.0.1:{port}\nMLflow   http://127.0.0.1:{mlflow_port}\nCtrl-C stops both")
        while True:
            for name, server in servers.items():
                if server.poll() is not None:
                    raise ServerError(
                        f"{name} ended with exit code {server.returncode}; its messages stand above. Is its port taken? Choose others with --port and --mlflow-port"
                    )
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        _stop(list(servers.values()))


def _stop(servers: list[subprocess.Popen[bytes]]) -> None:
    for server in servers:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
    deadline = time.monotonic() + 15
    for server in servers:
        try:
            server.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
