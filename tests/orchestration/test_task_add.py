"""`einthoven task`: from a CSV file to heads and predictions of a method, and what is said of bad input."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assets.dataset import get_dataset
from assets.datasets.synthetic import generate
from assets.outputs import Key, Workspace
from assets.raw import make_raw
from assets.verdicts import BLOCKING, Verdict, save
from models.errors import EinthovenError
from models.predictions import read_predictions
from models.registry import list_methods
from orchestration.cli import app

N_RECORDS = 120
IN_A_NEW_PROCESS = """
import dagster as dg, json
from assets.settings import load
from orchestration.definitions import defs
from orchestration.instance import get_instance
from orchestration.pipeline import Step, execute
graph = defs.resolve_asset_graph()
print(json.dumps({
    "labels": list(graph.get(dg.AssetKey(["labels", "synthetic"])).partitions_def.get_partition_keys()),
    "ptb_xl": list(graph.get(dg.AssetKey(["labels", "ptb_xl"])).partitions_def.get_partition_keys()),
    "heads": sorted(k.to_user_string() for k in graph.get_all_asset_keys() if k.path[-1] == "rest_or_sport"),
    "evaluation": sorted(k.to_user_string() for k in graph.get(dg.AssetKey(["evaluation", "merl"])).parent_keys),
    "checks": [k.name for k in graph.get(dg.AssetKey(["head", "merl", "rest_or_sport"])).check_keys],
    "job": list(defs.resolve_job_def("train_merl").graph.node_dict),
}))
encoder = {"encoder__supervised": {"config": {"preset": "tiny", "finetune_steps": 4}}}
steps = [
    Step((("cleaned", "synthetic"),), "native"),
    Step((("labels", "synthetic"),), "rest_or_sport"),
    Step((("encoder", "supervised"), ("head", "supervised", "rest_or_sport")), "synthetic", encoder),
]
with get_instance(load()) as instance:
    execute(steps, instance, lambda *_: None)
"""


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the synthetic dataset scanned and checked, and a file of labels beside it."""
    home = tmp_path_factory.mktemp("tasks")
    folder = home / "source" / "synthetic"
    generate(folder, n_records=N_RECORDS)
    with (folder / "records.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = [f"{r['record_id']},{'sport' if int(r['age']) < 60 else 'rest'}" for r in rows]
    (home / "rest-or-sport.csv").write_text("record_id,label\n" + "\n".join(lines) + "\n")
    raw = make_raw(Workspace(home), get_dataset("synthetic")(folder), lambda _: None)
    for check in BLOCKING["raw"]:
        save(Workspace(home), raw, Verdict(check, True, ""))
    return home


def python(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EINTHOVEN_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), "EINTHOVEN_THREADS": "1"}
    return subprocess.run([sys.executable, "-P", *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def home(scanned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EINTHOVEN_HOME", str(scanned))
    return scanned


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["task", *arguments])


def refusal(*arguments: str) -> str:
    result = cli(*arguments)
    assert isinstance(result.exception, EinthovenError), result.output
    return str(result.exception)


def test_from_a_file_to_predictions(home: Path) -> None:
    added = cli("add", str(home / "rest-or-sport.csv"), "--dataset", "synthetic", "--title", "Rest or sport")
    assert added.exception is None, added.exception
    assert f"task rest_or_sport of synthetic, version 1: {N_RECORDS} records, 2 classes, private" in added.output

    done = python(home, "-c", IN_A_NEW_PROCESS)
    assert done.returncode == 0, done.stderr[-3000:]
    graph = json.loads(done.stdout.splitlines()[0])
    assert graph["labels"] == ["super", "form", "rhythm", "rhythm4", "chest", "age", "rest_or_sport"]
    assert "rest_or_sport" not in graph["ptb_xl"]
    assert graph["heads"] == [f"head/{m}/rest_or_sport" for m in list_methods() if m != "wesad"]
    assert "head/merl/rest_or_sport" in graph["evaluation"]
    assert graph["checks"] == ["predictions"]
    assert "head__merl__rest_or_sport" in graph["job"]

    head = Workspace(home).require(Key(("head", "supervised", "rest_or_sport"), "synthetic"))
    tables = [read_predictions(p) for p in sorted((head.folder / "predictions").glob("*.parquet"))]
    assert {t.origin.task for t in tables} == {"rest_or_sport"}
    assert {t.classes for t in tables} == {("rest", "sport")}
    assert str(head.access) == "private", "what is made with private labels is private"


def test_the_way_of_a_method_includes_the_task(home: Path) -> None:
    from orchestration.pipeline import plan

    cli("add", str(home / "rest-or-sport.csv"), "--dataset", "synthetic")
    assets = [a for step in plan("merl", "synthetic", "tiny", 0) for a in step.assets]
    assert ("head", "merl", "rest_or_sport") in assets
    assert ("head", "supervised", "rest_or_sport") in assets
    assert "rest_or_sport" in [step.partition for step in plan("merl", "synthetic", "tiny", 0)]
    assert not [a for step in plan("merl", "ptb_xl", "tiny", 0) for a in step.assets if "rest_or_sport" in a]


def test_list_show_and_remove(home: Path) -> None:
    cli("add", str(home / "rest-or-sport.csv"), "--dataset", "synthetic", "--name", "shown", "--access", "open")
    query = "SELECT record_id, sex = 'female' AS female FROM records"
    assert "have no class at all" in refusal("add", "--dataset", "synthetic", "--name", "shown", "--query", query)
    second = cli("add", "--dataset", "synthetic", "--name", "shown", "--query", query, "--negatives")
    assert f"version 2: {N_RECORDS} records, 1 classes, open" in second.output
    listed = next(line for line in cli("list").output.splitlines() if "shown" in line)
    assert [c.strip() for c in listed.strip("│").split("│")][1:7] == ["shown", "shown", "1", str(N_RECORDS), "2", "open"]
    shown = cli("show", "shown", "--dataset", "synthetic").output
    assert "version 2 of 1, 2" in shown
    assert query in shown.replace("\n", "")
    assert "sport" in cli("show", "shown", "--dataset", "synthetic", "--version", "1").output
    assert cli("remove", "shown", "--dataset", "synthetic").exception is None
    assert "shown" not in cli("list").output
    assert "no such task 'shown' in use" in refusal("show", "shown", "--dataset", "synthetic")
    assert "versions of 'shown': 1, 2" in refusal("show", "shown", "--dataset", "synthetic", "--version", "7")
    assert "no task 'shown' was added" in refusal("remove", "shown", "--dataset", "synthetic")


def test_bad_input_is_one_clear_message(home: Path, tmp_path: Path) -> None:
    file, options = str(home / "rest-or-sport.csv"), ("--dataset", "synthetic")
    assert "give either a CSV file or --query" in refusal("add", *options)
    assert "give either a CSV file or --query" in refusal("add", file, *options, "--query", "SELECT 1")
    assert "need a --name" in refusal("add", *options, "--query", "SELECT 1")
    assert "there is no dataset 'nonesuch'" in refusal("add", file, "--dataset", "nonesuch")
    assert "raw/ptb_xl has not been made yet" in refusal("add", file, "--dataset", "ptb_xl")
    assert "is the name of a task that datasets define" in refusal("add", file, *options, "--name", "rhythm")
    assert "cannot be a task's name" in refusal("add", file, *options, "--name", "../../x")
    assert "is missing" in refusal("add", str(tmp_path / "none.csv"), *options)
    assert "it must be one SELECT over records" in refusal("add", *options, "--name", "x", "--query", "DELETE FROM records")
    (tmp_path / "theirs.csv").write_text("record_id,AF\nelsewhere-1,1\n")
    assert "labels 1 records that the dataset does not have: elsewhere-1" in refusal("add", str(tmp_path / "theirs.csv"), *options)
    assert not [p for p in (home / "tasks").rglob("*") if p.name in ("theirs", "x")]
