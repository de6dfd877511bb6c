"""From simulated records to a champion on the command line, as `make demo` goes; then again, worse, killed, and rolled back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from assets.datasets.synthetic import generate
from assets.model_registry import audit_path, champion, verify_audit
from assets.outputs import Key, Workspace
from assets.settings import Settings
from assets.verdicts import BLOCKING, load

N_RECORDS = 240
SHORT = ["-o", "max_steps=60", "-o", "validate_every=30", "-o", "checkpoint_every=10"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("way")
    generate(folder / "source" / "synthetic", n_records=N_RECORDS)
    return folder


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "EINTHOVEN_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), "EINTHOVEN_THREADS": "1"}


def einthoven(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "orchestration.cli", *arguments], env=environment(home), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def champion_run(home: Path) -> subprocess.CompletedProcess[str]:
    done = einthoven(home, "run", "supervised", "-o", "finetune_steps=20")
    assert done.returncode == 0, done.stderr
    return einthoven(home, "run", "merl", "--no-baselines")


def current_encoder(home: Path) -> str:
    return (home / "encoder" / "merl" / "synthetic" / "CURRENT").read_text()


def test_it_ends_with_a_leaderboard_and_a_champion(home: Path, champion_run: subprocess.CompletedProcess[str]) -> None:
    assert champion_run.returncode == 0, champion_run.stderr
    assert "Leaderboard" in champion_run.stdout
    assert "champion merl.synthetic version 1" in champion_run.stdout
    assert re.search(r"merl tiny, linear probe 100%\s+0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]\s+0\.\d{3}\s+\+0\.\d{3}", champion_run.stdout)
    assert re.search(r"supervised tiny, finetune", champion_run.stdout)


def test_metrics_stream_into_the_run_while_it_trains(champion_run: subprocess.CompletedProcess[str]) -> None:
    steps = re.findall(r"encoder/merl +.*step (\d+) of", champion_run.stderr)
    assert len(steps) >= 2, champion_run.stderr


def test_every_output_has_its_verdicts(home: Path, champion_run: subprocess.CompletedProcess[str]) -> None:
    workspace = Workspace(home)
    pointers = [p for p in home.glob("*/**/CURRENT") if p.relative_to(home).parts[0] in BLOCKING]
    assert len(pointers) > 10
    for pointer in pointers:
        *parts, partition = pointer.parent.relative_to(home).parts
        output = workspace.require(Key(tuple(parts), None if partition == "all" else partition))
        for check in BLOCKING[output.key.stage]:
            verdict = load(workspace, output, check)
            assert verdict is not None and verdict.passed, (output.key, check)


def test_nothing_in_the_workspace_is_pickled(home: Path, champion_run: subprocess.CompletedProcess[str]) -> None:
    endings = {p.suffix for p in home.rglob("*") if p.is_file() and "dagster" not in p.parts}
    assert not endings & {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib"}


def test_the_same_again_trains_nothing(home: Path, champion_run: subprocess.CompletedProcess[str]) -> None:
    before = current_encoder(home)
    again = einthoven(home, "run", "merl", "--no-baselines")
    assert again.returncode == 0, again.stderr
    assert "training job" not in again.stderr
    assert current_encoder(home) == before
    assert len([e for e in verify_audit(audit_path(Settings(home))) if e["event"] == "done"]) == 1


def test_a_worse_model_is_refused_and_the_refusal_says_why(home: Path, champion_run: subprocess.CompletedProcess[str]) -> None:
    worse = einthoven(home, "run", "merl", "--no-baselines", "-o", "max_steps=0")
    assert worse.returncode == 0, worse.stderr
    assert "refused merl.synthetic version 2" in worse.stdout
    assert re.search(r"no +better: merl\.synthetic version 2 is not shown to be better than merl\.synthetic version 1", worse.stdout)
    held = champion(Settings(home), "merl.synthetic")
    assert held is not None and held.version == 1
    by_hand = einthoven(home, "promote", "merl")
    assert by_hand.returncode == 1
    assert "refused" in by_hand.stdout


def test_rollback_without_an_earlier_champion_says_so(home: Path, champion_run: subprocess.CompletedProcess[str]) -> None:
    done = einthoven(home, "rollback", "merl", "--reason", "a test")
    assert done.returncode == 1
    assert "no earlier champion" in done.stderr


def test_kill_9_of_everything_then_the_same_command_goes_on_and_ends_with_the_same_weights(
    home: Path, champion_run: subprocess.CompletedProcess[str]
) -> None:
    command = [sys.executable, "-P", "-m", "orchestration.cli", "run", "merl", "--no-baselines", "--seed", "7", *SHORT]
    process = subprocess.Popen(command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = home / "runs" / "encoder" / "merl" / "synthetic"
    deadline = time.monotonic() + 120
    while not list(runs.glob("*/last.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    training = [child for child in psutil.Process(process.pid).children(recursive=True) if "models.train" in child.cmdline()]
    assert training
    process.kill()
    for child in training:
        child.kill()
    process.wait()
    assert not list(runs.glob("*/result.json")), "it was killed too late"

    resumed = einthoven(home, "run", "merl", "--no-baselines", "--seed", "7", *SHORT)
    assert resumed.returncode == 0, resumed.stderr
    weights = home / "encoder" / "merl" / "synthetic" / current_encoder(home) / "bundle" / "SHA256SUMS"
    steps = [json.loads(line)["step"] for line in (weights.parents[1] / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))

    undisturbed = home.parent / "undisturbed"
    undisturbed.mkdir()
    (undisturbed / "source").symlink_to(home / "source")
    done = einthoven(undisturbed, "run", "merl", "--no-baselines", "--seed", "7", *SHORT)
    assert done.returncode == 0, done.stderr
    other = undisturbed / "encoder" / "merl" / "synthetic" / current_encoder(undisturbed) / "bundle" / "SHA256SUMS"
    assert weights.read_text() == other.read_text()


def test_bad_input_is_one_clear_message(home: Path) -> None:
    for arguments, message in (
        (["run", "nonsense"], "there is no method 'nonsense'; choose one of csfm, ecg_jepa, ecg_mamba, melp, merl, more"),
        (["run", "merl", "-d", "nonsense"], "there is no dataset 'nonsense'"),
        (["run", "merl", "-o", "nonsense=1"], "has no option nonsense"),
        (["run", "merl", "-d", "ptb_xl"], "ptbxl_database.csv"),
        (["run", "merl", "--preset", "repository"], "name their place in settings.yaml as `weights.medcpt`"),
        (["materialize", "raw/nonsense"], "there is no asset 'raw/nonsense'"),
        (["materialize", "cleaned/synthetic"], "has no partition None; choose one of csfm_250hz, filtered"),
        (["materialize", "encoder/merl", "--partition", "synthetic", "--preset", "nonsense"], "preset"),
    ):
        done = einthoven(home, *arguments)
        assert done.returncode == 1, (arguments, done.stdout, done.stderr)
        assert message in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
