"""The graph as a snapshot, and how light it is to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

SNAPSHOT = Path(__file__).with_name("definitions_snapshot.json")
HEAVY = ("torch", "lightning", "mlflow", "great_expectations", "transformers", "matplotlib")


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    from orchestration.definitions import defs

    return defs


def describe(defs: dg.Definitions) -> dict[str, object]:
    graph = defs.resolve_asset_graph()
    repository = defs.get_repository_def()
    return {
        "assets": {
            key.to_user_string(): {
                "partitions": list(node.partitions_def.get_partition_keys()) if node.partitions_def else None,
                "parents": sorted(k.to_user_string() for k in node.parent_keys),
                "checks": sorted(k.name for k in node.check_keys),
            }
            for key, node in sorted((k, graph.get(k)) for k in graph.get_all_asset_keys())
        },
        "jobs": sorted(j.name for j in repository.get_all_jobs() if not j.name.startswith("__")),
        "schedules": sorted(s.name for s in repository.schedule_defs),
        "sensors": sorted(s.name for s in repository.sensor_defs),
    }


def test_no_change_of_the_graph_passes_unseen(defs: dg.Definitions) -> None:
    """After a wanted change: WRITE_SNAPSHOT=1 pytest <this file>, and read the difference."""
    found = describe(defs)
    if os.environ.get("WRITE_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_every_blocking_check_is_blocking(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    checks = list(graph.asset_check_keys)
    assert checks
    specs = [graph.get(key) for key in checks]
    assert all(spec.blocking for spec in specs)


def test_only_what_is_cheap_runs_by_itself(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    automated = {k.path[0] for k in graph.get_all_asset_keys() if graph.get(k).automation_condition is not None}
    assert automated == {"cleaned", "labels", "reports", "questions", "pairing", "leaderboard"}
    repository = defs.get_repository_def()
    running = {s.name for s in repository.sensor_defs if s.default_status is dg.DefaultSensorStatus.RUNNING}
    assert running == {"automation"}
    assert all(s.default_status is dg.DefaultScheduleStatus.STOPPED for s in repository.schedule_defs)


PEER = """
import json, sys, time
import dagster as dg
began = time.process_time()
from orchestration.definitions import defs
ours = time.process_time() - began
heavy = [m for m in sys.argv[1:] if m in sys.modules]
graph = defs.resolve_asset_graph()
keys, checks = graph.get_all_asset_keys(), graph.asset_check_keys

def asset(key):
    node = graph.get(key)
    @dg.asset(key=["bare", *key.path], deps=[dg.AssetKey(["bare", *k.path]) for k in node.parent_keys], partitions_def=node.partitions_def)
    def made(context: dg.AssetExecutionContext) -> None: ...
    return made

def check(key):
    @dg.asset_check(asset=["bare", *key.asset_key.path], name=key.name, blocking=True)
    def made(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult: ...
    return made

began = time.process_time()
dg.Definitions(assets=[asset(k) for k in keys], asset_checks=[check(k) for k in checks])
print(json.dumps([ours / (time.process_time() - began), heavy]))
"""


def test_loading_is_light() -> None:
    """None of the heavy packages, and at most four times what Dagster itself takes for as many bare assets and checks; one process."""
    ratios = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-P", "-c", PEER, *HEAVY], capture_output=True, text=True, check=True)
        ratio, heavy = json.loads(done.stdout.splitlines()[-1])
        assert heavy == []
        ratios.append(ratio)
    assert min(ratios) <= 4, f"loading took {ratios} times as long as bare assets"


def test_a_selection_works_on_the_command_line(home: Path) -> None:
    """Dagster's selection parser breaks silently when DVC's dependencies bring an older antlr runtime."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dagster", "asset", "list", "-m", "orchestration.definitions", "--select", 'key:"raw/*"'],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DAGSTER_HOME": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "raw/synthetic" in done.stdout
    assert "cleaned/synthetic" not in done.stdout


def test_an_existing_folder_called_models_is_not_taken_for_ours(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every subprocess starts with -P and without PYTHONPATH."""
    from orchestration.compute.local import clean_environment

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import models.registry; print(models.registry.list_methods())"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "merl" in done.stdout


def test_a_key_prefix_moves_every_asset(home: Path) -> None:
    (home / "settings.yaml").write_text("key_prefix: hospital\n")
    code = (
        "from orchestration.definitions import defs\n"
        "print(sorted(k.to_user_string() for k in defs.resolve_asset_graph().get_all_asset_keys())[0])\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith("hospital/")
