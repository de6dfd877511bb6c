"""The UIs as a user meets them: `einthoven ui`, a real browser, real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assets.dataset import get_dataset

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Servers:
    dagster: str
    mlflow: str
    home: Path
    process: subprocess.Popen[bytes]

    def graphql(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"{self.dagster}/graphql", json.dumps({"query": query, "variables": variables}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    home = tmp_path_factory.mktemp("ui")
    get_dataset("synthetic").make_fixture(home / "source" / "synthetic")
    dagster, mlflow = free_port(), free_port()
    environment = {**os.environ, "EINTHOVEN_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    with (home / "servers.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestration.cli", "ui", "--port", str(dagster), "--mlflow-port", str(mlflow)],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    found = Servers(f"http://127.0.0.1:{dagster}", f"http://127.0.0.1:{mlflow}", home, process)
    try:
        for url in (f"{found.dagster}/server_info", f"{found.mlflow}/health"):
            wait_for(url, process, home / "servers.log")
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.5)
    pytest.fail(f"{url} did not answer: {log.read_text()}")


@pytest.fixture(scope="module")
def page(servers: Servers) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def shot(page: Any, servers: Servers, name: str) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", servers.home / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def test_an_asset_is_materialised_in_the_browser(page: Any, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/assets/raw/synthetic")
    page.get_by_text("Materialize", exact=False).first.wait_for()
    page.get_by_role("button", name="Materialize", exact=False).first.click()
    page.get_by_text("Launched run", exact=False).first.wait_for()
    run = wait_for_run(servers, "raw/synthetic")
    assert run["status"] == "SUCCESS", run
    page.goto(f"{servers.dagster}/assets/raw/synthetic?view=events")
    page.get_by_text("data_version", exact=False).first.wait_for()
    shot(page, servers, "raw_synthetic_events")
    page.goto(f"{servers.dagster}/assets/raw/synthetic?view=checks")
    page.get_by_text("patient_leakage", exact=False).first.wait_for()
    shot(page, servers, "raw_synthetic_checks")
    page.goto(f"{servers.dagster}/asset-groups")
    page.wait_for_timeout(3000)
    shot(page, servers, "asset_graph")


def wait_for_run(servers: Servers, asset: str, seconds: float = 180) -> dict[str, Any]:
    query = "{ runsOrError(limit: 1) { ... on Runs { results { runId status assetSelection { path } tags { key value } } } } }"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        runs = servers.graphql(query)["runsOrError"]["results"]
        if (
            runs
            and {"path": asset.split("/")} in (runs[0]["assetSelection"] or [])
            and runs[0]["status"] in ("SUCCESS", "FAILURE", "CANCELED")
        ):
            return dict(runs[0])
        time.sleep(1)
    pytest.fail(f"no run of {asset} ended: {(servers.home / 'servers.log').read_text()[-3000:]}")


def test_a_backfill_does_not_get_past_a_planted_fault(servers: Servers) -> None:
    """A failed check of raw stops cleaned when a backfill runs it on its own, under the real daemon."""
    table = servers.home / "source" / "synthetic" / "records.csv"
    good = table.read_text()
    lines = good.splitlines()
    fold = lines[0].split(",").index("fold")
    first = lines[1].split(",")
    same_patient = next(i for i, line in enumerate(lines[2:], 2) if line.split(",")[1] == first[1])
    moved = lines[same_patient].split(",")
    moved[fold] = "10" if first[fold] != "10" else "1"
    table.write_text("\n".join([*lines[:same_patient], ",".join(moved), *lines[same_patient + 1 :]]) + "\n")
    try:
        subprocess.run(
            [sys.executable, "-P", "-m", "orchestration.cli", "materialize", "raw/synthetic"],
            env={**os.environ, "EINTHOVEN_HOME": str(servers.home), "DAGSTER_HOME": str(servers.home / "dagster")}, capture_output=True, check=False,
        )  # fmt: skip
        launched = servers.graphql(
            "mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
            p={"assetSelection": [{"path": ["cleaned", "synthetic"]}], "partitionNames": ["native"]},
        )["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        run = wait_for_run(servers, "cleaned/synthetic")
        assert run["status"] == "FAILURE"
        assert {"key": "dagster/backfill", "value": launched["backfillId"]} in run["tags"]
        assert not (servers.home / "cleaned" / "synthetic" / "native" / "CURRENT").exists()
    finally:
        table.write_text(good)


def test_the_daemon_keeps_fresh_what_exists(servers: Servers) -> None:
    """Nobody asks: the automation cleans again what was cleaned before, once its raw data has changed and is sound."""
    command = [sys.executable, "-P", "-m", "orchestration.cli", "materialize"]
    environment = {**os.environ, "EINTHOVEN_HOME": str(servers.home), "DAGSTER_HOME": str(servers.home / "dagster")}
    for arguments in (["raw/synthetic"], ["cleaned/synthetic", "--partition", "native"]):
        subprocess.run([*command, *arguments], env=environment, check=True, capture_output=True)
    pointer = servers.home / "cleaned" / "synthetic" / "native" / "CURRENT"
    before = pointer.read_text()
    time.sleep(35)  # the sensor must have seen this state: it reacts to changes, and looks every half minute
    with (servers.home / "source" / "synthetic" / "records.csv").open("a") as table:
        table.write("\n")
    subprocess.run([*command, "raw/synthetic"], env=environment, check=True, capture_output=True)
    deadline = time.monotonic() + 120
    while pointer.read_text() == before:
        assert time.monotonic() < deadline, (servers.home / "servers.log").read_text()[-3000:]
        time.sleep(1)
    run = wait_for_run(servers, "cleaned/synthetic")
    assert run["status"] == "SUCCESS"
    assert any(t["key"] == "dagster/sensor_name" and t["value"] == "automation" for t in run["tags"])


def test_mlflow_answers_on_loopback_only(servers: Servers) -> None:
    with urllib.request.urlopen(f"{servers.mlflow}/health", timeout=30) as response:
        assert response.status == 200
    hosts = {
        line.split()[3].rsplit(":", 1)[0]
        for line in listening()
        if line.split()[3].rsplit(":", 1)[1] in (servers.dagster.rsplit(":", 1)[1], servers.mlflow.rsplit(":", 1)[1])
    }
    assert hosts <= {"127.0.0.1"}


def listening() -> list[str]:
    if shutil.which("ss") is None:
        pytest.skip("no `ss` on this machine (Debian: apt-get install iproute2)")
    return subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_no_server_outlives_the_command(servers: Servers) -> None:
    """Runs last in this file: SIGTERM ends the web server, the daemon and MLflow."""
    servers.process.send_signal(signal.SIGTERM)
    servers.process.wait(60)
    for url in (servers.dagster, servers.mlflow):
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=5)
