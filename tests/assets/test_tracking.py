"""Runs in a real SQLite MLflow: what is logged, once, and what is kept back."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assets import tracking
from assets.access import Access
from assets.bundles import BundleError
from assets.settings import PROJECT, Settings
from assets.tracking import TrackedRun, TrackingError, client, ensure_database, log_evaluation, log_training


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template")
    ensure_database(Settings(home=home))
    return home


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Settings:
    shutil.copytree(template, tmp_path / "home")
    return Settings(home=tmp_path / "home")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(os.urandom(1000))
    (folder / "card.md").write_text("# card\n")
    names = ("card.md", "weights.safetensors")
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names))
    return folder


def log(settings: Settings, bundle: Path, **changes: Any) -> TrackedRun:
    values: dict[str, Any] = {
        "experiment": "merl.synthetic",
        "run_name": "merl tiny seed 0",
        "params": {"lr": 0.001, "backbone": "resnet_mini", "folds": [1, 2], "text_weights": None},
        "metrics_rows": [{"step": s, "loss": 1 / s, "parts": {"cma": float(s)}, "lr": 0.1, "phase": "train"} for s in (1, 2)],
        "figures": [],
        "dataset_inputs": [("cleaned/synthetic[native]", "d" * 64, "synthetic")],
        "bundle": bundle,
        "access": Access.OPEN,
        "tags": {"einthoven.data_version": "v1", "einthoven.asset": "encoder/merl[synthetic]"},
    }
    return log_training(settings, **(values | changes))


def test_metrics_of_an_evaluation_are_told_apart_by_direction_too(settings: Settings, bundle: Path) -> None:
    tracked = log(settings, bundle)
    row = {"task": "retrieval", "protocol": "retrieval", "fraction": math.nan, "prompts": "", "arm": "pretrained"}
    rows = [row | {"direction": d, "metric": "recall@1", "value": v} for d, v in (("text->ecg", 0.2), ("ecg+labs->image", 0.3))]
    rows.append(row | {"task": "super", "protocol": "linear_probe", "fraction": 0.1, "metric": "macro_auroc", "value": 0.8})
    log_evaluation(settings, tracked, rows)
    found = client(settings).get_run(tracked.run_id).data.metrics
    assert found["retrieval/retrieval/text to ecg/pretrained/recall_1"] == 0.2
    assert found["retrieval/retrieval/ecg and labs to image/pretrained/recall_1"] == 0.3
    assert found["super/linear_probe/0.1/pretrained/macro_auroc"] == 0.8


def test_everything_is_logged(settings: Settings, bundle: Path, tmp_path: Path) -> None:
    figure = tmp_path / "loss.png"
    figure.write_bytes(b"png")
    tracked = log(settings, bundle, figures=[figure])
    mlflow = client(settings)
    run = mlflow.get_run(tracked.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.001", "backbone": "resnet_mini", "folds": "[1, 2]", "text_weights": "null"}
    assert run.data.metrics == {"loss": 0.5, "parts/cma": 2.0, "lr": 0.1}
    assert [(m.step, m.value) for m in mlflow.get_metric_history(tracked.run_id, "loss")] == [(1, 1.0), (2, 0.5)]
    assert run.data.tags["einthoven.data_version"] == "v1"
    assert run.data.tags["mlflow.runName"] == "merl tiny seed 0"
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("cleaned/synthetic[native]", "d" * 36)
    assert {t.key: t.value for t in given.tags}["einthoven.data_version"] == "d" * 64
    stored = Path(tracked.artifact_uri.removeprefix("file://"))
    assert stored.is_relative_to(settings.home / "mlartifacts")
    for name in ("weights.safetensors", "card.md", "SHA256SUMS"):
        assert (stored / "bundle" / name).read_bytes() == (bundle / name).read_bytes()
    assert (stored / "figures" / "loss.png").read_bytes() == b"png"
    assert tracked.logged_artifacts


def test_the_same_data_version_is_logged_once(settings: Settings, bundle: Path) -> None:
    first = log(settings, bundle)
    assert log(settings, bundle) == first
    other = log(settings, bundle, tags={"einthoven.data_version": "v2"})
    assert other.run_id != first.run_id
    experiment = client(settings).get_experiment_by_name("merl.synthetic")
    assert len(client(settings).search_runs([experiment.experiment_id])) == 2


def test_a_run_that_was_cut_off_is_logged_anew(settings: Settings, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking, "_log_inputs", die)
    with pytest.raises(KeyboardInterrupt):
        log(settings, bundle)
    monkeypatch.undo()
    tracked = log(settings, bundle)
    mlflow = client(settings)
    (run,) = mlflow.search_runs([mlflow.get_experiment_by_name("merl.synthetic").experiment_id])
    assert (run.info.run_id, run.info.status) == (tracked.run_id, "FINISHED")


class Elsewhere(Settings):
    """A tracking database that counts as a server off this machine."""

    @property
    def tracking_is_local(self) -> bool:
        return False


def test_what_the_server_may_not_hold_stays_here(settings: Settings, bundle: Path) -> None:
    remote = Elsewhere(home=settings.home)
    tracked = log(remote, bundle, access=Access.CREDENTIALED)
    assert not tracked.logged_artifacts
    mlflow = client(settings)
    run = mlflow.get_run(tracked.run_id)
    assert run.data.metrics["loss"] == 0.5
    assert mlflow.list_artifacts(tracked.run_id) == []
    assert run.inputs.dataset_inputs == []
    assert "credentialed" in run.data.tags["einthoven.withheld"]
    assert log(remote, bundle, access=Access.CREDENTIALED) == tracked
    allowed = Elsewhere(home=settings.home, destinations={"mlflow": Access.CREDENTIALED})
    assert log(allowed, bundle, access=Access.CREDENTIALED, tags={"einthoven.data_version": "v2"}).logged_artifacts
    assert log(settings, bundle, access=Access.PRIVATE, tags={"einthoven.data_version": "v3"}).logged_artifacts


def test_a_loss_that_broke_and_odd_names_are_logged(settings: Settings, bundle: Path) -> None:
    rows = [{"step": 1, "loss": math.nan, "auroc:LAFB/LPFB": 0.5, "auroc:PRC(S)": 0.6}]
    run = client(settings).get_run(log(settings, bundle, metrics_rows=rows).run_id)
    assert math.isnan(run.data.metrics["loss"])
    assert {k: v for k, v in run.data.metrics.items() if k != "loss"} == {"auroc:LAFB/LPFB": 0.5, "auroc:PRC_S_": 0.6}


def test_many_rows_go_in_batches(settings: Settings, bundle: Path) -> None:
    tracked = log(settings, bundle, metrics_rows=[{"step": s, "loss": 1.0, "lr": 0.1} for s in range(1500)])
    assert len(client(settings).get_metric_history(tracked.run_id, "loss")) == 1500


def test_experiments_stand_behind_the_key_prefix(settings: Settings, bundle: Path) -> None:
    prefixed = Settings(home=settings.home, key_prefix=("cardio", "lab"))
    log(prefixed, bundle)
    assert client(settings).get_experiment_by_name("cardio.lab.merl.synthetic") is not None


def test_faulty_input_is_refused_before_anything_is_logged(settings: Settings, bundle: Path) -> None:
    with pytest.raises(TrackingError, match=r"einthoven\.data_version"):
        log(settings, bundle, tags={})
    (bundle / "model.pkl").write_bytes(b"x")
    with pytest.raises(BundleError, match="not listed"):
        log(settings, bundle)
    assert client(settings).get_experiment_by_name("merl.synthetic") is None


def test_a_deleted_experiment_is_explained(settings: Settings, bundle: Path) -> None:
    log(settings, bundle)
    mlflow = client(settings)
    mlflow.delete_experiment(mlflow.get_experiment_by_name("merl.synthetic").experiment_id)
    with pytest.raises(TrackingError, match="has been deleted; restore it"):
        log(settings, bundle)


def test_a_database_that_is_none_is_explained(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db refused .*not a database"):
        ensure_database(Settings(home=tmp_path))
    assert not (tmp_path / ".mlflow.db.schema").exists()


def test_a_killed_first_creation_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(path: Path) -> None:
        path.write_text("half a schema")
        raise KeyboardInterrupt

    settings = Settings(home=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_upgrade", die)
        with pytest.raises(KeyboardInterrupt):
            ensure_database(settings)
    assert not (tmp_path / "mlflow.db").exists()
    ensure_database(settings)
    assert client(settings).search_experiments() is not None


def test_several_processes_may_be_first(tmp_path: Path) -> None:
    """Four processes that were forked before MLflow touched anything race for a fresh database."""
    script = """
import os, sys
from pathlib import Path
import mlflow.store.db.utils, mlflow.store.tracking.sqlalchemy_store
from assets.settings import Settings
from assets.tracking import client
go, children = os.pipe(), []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os.close(go[1])
        os.read(go[0], 1)
        code = 1
        try:
            client(Settings(home=Path(sys.argv[1]))).search_experiments()
            code = 0
        finally:
            os._exit(code)
    children.append(child)
os.close(go[1])
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_mlruns_folder_appears_where_the_process_stands(
    settings: Settings, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somewhere").mkdir()
    monkeypatch.chdir(tmp_path / "somewhere")
    log(settings, bundle)
    assert list((tmp_path / "somewhere").iterdir()) == []
