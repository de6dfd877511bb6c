"""A planted fault stops everything downstream on every path, and the message says which rows are at fault."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.access import Access
from assets.dataset import get_dataset
from assets.leaderboard import make_leaderboard
from assets.outputs import Built, Key, Workspace
from assets.settings import load
from assets.verdicts import UnsafeUpstreamError, Verdict, save
from orchestration.instance import get_instance
from orchestration.pipeline import RunFailedError, Step, execute

RAW = Step((("raw", "synthetic"),))
CLEANED = Step((("cleaned", "synthetic"),), "native")
BOTH = Step((("raw", "synthetic"), ("cleaned", "synthetic")), "native")


@pytest.fixture
def instance(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    with get_instance(load()) as instance:
        yield instance


@pytest.fixture
def leaking(home: Path) -> str:
    """A synthetic dataset in which one patient stands in two parts; returns the patient."""
    folder = home / "source" / "synthetic"
    get_dataset("synthetic").make_fixture(folder)
    return leak(folder / "records.csv")


def leak(table: Path) -> str:
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_patient: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient_id"], []).append(row)
    patient, theirs = next((p, r) for p, r in by_patient.items() if len(r) > 1 and r[0]["fold"] not in ("9", "10"))
    theirs[-1]["fold"] = "10"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return patient


def run(instance: dg.DagsterInstance, *steps: Step) -> None:
    execute(steps, instance, lambda *_: None)


def cleaned_exists(home: Path) -> bool:
    return Workspace(home).current(Key(("cleaned", "synthetic"), "native")) is not None


def test_same_run(instance: dg.DagsterInstance, home: Path, leaking: str) -> None:
    with pytest.raises(RunFailedError, match=f"patient_leakage.*{leaking}"):
        run(instance, BOTH)
    assert not cleaned_exists(home)


def test_a_later_run_of_the_child_alone(instance: dg.DagsterInstance, home: Path, leaking: str) -> None:
    with pytest.raises(RunFailedError, match=f"patient_leakage.*{leaking}"):
        run(instance, RAW)
    with pytest.raises(RunFailedError, match=f"must not be used: check 'patient_leakage' failed.*{leaking}"):
        run(instance, CLEANED)
    assert not cleaned_exists(home)


def test_a_parent_that_was_never_checked(instance: dg.DagsterInstance, home: Path) -> None:
    get_dataset("synthetic").make_fixture(home / "source" / "synthetic")
    job = dg.materialize([_definition("raw", "synthetic")], instance=instance, resources=_resources(), raise_on_error=True)
    assert job.success
    with pytest.raises(RunFailedError, match="has not run on this version"):
        run(instance, CLEANED)


def test_the_command_line(home: Path, leaking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-P", "-m", "orchestration.cli", "materialize"]
    first = subprocess.run([*command, "raw/synthetic"], capture_output=True, text=True, check=False)
    second = subprocess.run([*command, "cleaned/synthetic", "--partition", "native"], capture_output=True, text=True, check=False)
    assert (first.returncode, second.returncode) == (1, 1)
    assert leaking in first.stderr
    assert "patient_leakage" in second.stderr
    assert not cleaned_exists(home)


def test_automation_waits_and_goes_once_repaired(instance: dg.DagsterInstance, home: Path) -> None:
    from orchestration.definitions import defs

    cleaned = dg.AssetKey(["cleaned", "synthetic"])

    def requested(cursor: object) -> tuple[int, object]:
        result = dg.evaluate_automation_conditions(
            defs=defs, instance=instance, asset_selection=dg.AssetSelection.assets(cleaned), cursor=cursor
        )
        return result.get_num_requested(cleaned), result.cursor

    folder = home / "source" / "synthetic"
    get_dataset("synthetic").make_fixture(folder)
    run(instance, RAW, CLEANED)
    _, cursor = requested(None)

    good = (folder / "records.csv").read_text()
    leak(folder / "records.csv")
    with pytest.raises(RunFailedError):
        run(instance, RAW)
    count, cursor = requested(cursor)
    assert count == 0, "cleaned was requested although raw failed a blocking check"

    (folder / "records.csv").write_text(good.rstrip("\n") + "\n\n")  # repaired, and other bytes than before
    run(instance, RAW)
    count, cursor = requested(cursor)
    assert count == 1
    run(instance, CLEANED)
    count, _ = requested(cursor)
    assert count == 0


def test_a_fan_in_with_one_bad_partition(home: Path) -> None:
    workspace = Workspace(home)
    for dataset, passed in (("ptb_xl", True), ("synthetic", False)):
        output = workspace.publish(Key(("evaluation", "merl"), dataset), lambda _: Built(rows=0), code_version="1", access=Access.OPEN)
        save(workspace, output, Verdict("metrics", passed, "" if passed else "the AUROC of record r7 cannot be recomputed"))
    with pytest.raises(UnsafeUpstreamError, match=r"evaluation/merl\[synthetic\].*record r7"):
        make_leaderboard(workspace)


def _definition(*parts: str) -> dg.AssetsDefinition:
    from orchestration.definitions import defs

    return defs.get_assets_def(dg.AssetKey(list(parts)))


def _resources() -> dict[str, object]:
    from assets.materialize import WorkspaceResource

    return {"workspace": WorkspaceResource()}
