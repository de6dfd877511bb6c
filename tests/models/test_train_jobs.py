"""Training jobs from the outside: what they write, and that killing them changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import load_encoder, read_config
from models.errors import ConfigurationError, TrainingError
from models.jobs import read_job
from models.progress import Progress
from models.train import main, run

if TYPE_CHECKING:
    from conftest import Study


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(job: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "EINTHOVEN_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "models.train", str(job)], env=environment, stderr=subprocess.PIPE)


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < until, "the job did not get there in a minute"
        time.sleep(0.01)


def test_pretraining_writes_what_it_promises(trained: Study) -> None:
    folder = trained.folder / "pretrain"
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 12
    assert result["records"] == 96
    assert {"loss", "cma", "uma", "validation_loss"} <= set(result["final"])
    assert [r["step"] for r in rows(folder / "metrics.jsonl")] == [2, 4, 6, 8, 10, 12]
    assert {"lr", "loss", "records_per_s", "mfu", "wait_share"} <= set(rows(folder / "metrics.jsonl")[0])
    assert not (folder / "last.ckpt").exists() and not (folder / "previous.ckpt").exists()
    assert read_config(folder / "bundle")["provenance"]["steps"] == 12
    assert read_config(folder / "random_init")["provenance"]["arm"] == "random_init"
    before, after = load_encoder(folder / "random_init"), load_encoder(folder / "bundle")
    moved = {n for (n, p), q in zip(before.named_parameters(), after.parameters(), strict=True) if not torch.equal(p, q)}
    assert moved and not any(n.startswith("text.") for n in moved)


def test_same_job_twice_gives_the_same_bytes(trained: Study, study: Study) -> None:
    assert main([str(study.job("pretrain", "pretrain"))]) == 0
    for name in ("bundle", "random_init"):
        assert digest(study.folder / "pretrain" / name) == digest(trained.folder / "pretrain" / name)


def test_another_seed_gives_other_weights(trained: Study, study: Study) -> None:
    assert main([str(study.job("pretrain", "other", seed=1))]) == 0
    other, known = digest(study.folder / "other" / "bundle"), digest(trained.folder / "pretrain" / "bundle")
    assert other["weights.safetensors"] != known["weights.safetensors"]


def test_a_finished_job_is_not_run_again(trained: Study) -> None:
    before = digest(trained.folder / "pretrain" / "bundle")
    result = run(read_job(trained.folder / "pretrain.json"), Progress(0))
    assert result is not None and result["steps"] == 12
    assert digest(trained.folder / "pretrain" / "bundle") == before


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_killed_job_goes_on_as_if_nothing_had_happened(study: Study, name: str) -> None:
    options = {"max_steps": 60, "checkpoint_every": 7, "log_every": 3}
    calm, hit = study.job("pretrain", "calm", options=options), study.job("pretrain", "hit", options=options)
    assert main([str(calm)]) == 0
    process, output = start(hit), study.folder / "hit"
    metrics = output / "metrics.jsonl"
    wait_for(lambda: (output / "last.ckpt").exists() and metrics.exists() and len(metrics.read_text().splitlines()) > 5, process)
    process.send_signal(getattr(signal, name))
    code = process.wait(30)
    assert not (output / "result.json").exists()
    assert code == (143 if name == "SIGTERM" else -signal.SIGKILL)
    assert main([str(hit)]) == 0
    for bundle in ("bundle", "random_init"):
        assert digest(output / bundle) == digest(study.folder / "calm" / bundle)
    calm_rows, hit_rows = rows(study.folder / "calm" / "metrics.jsonl"), rows(metrics)
    assert [(r["step"], r["loss"], r["lr"]) for r in hit_rows] == [(r["step"], r["loss"], r["lr"]) for r in calm_rows]


def test_a_checkpoint_cut_in_half_falls_back_to_the_one_before(study: Study, trained: Study, caplog: pytest.LogCaptureFixture) -> None:
    """Each of two starts ends after one step, so the last state is of step 2 and the one before of step 1."""
    for _ in range(2):
        assert main([str(study.job("pretrain", "pretrain", time_limit_s=0.0))]) == 143
    state = study.folder / "pretrain" / "last.ckpt" / "tensors.safetensors"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    assert main([str(study.job("pretrain", "pretrain"))]) == 0
    assert "cut short or altered" in caplog.text
    assert digest(study.folder / "pretrain" / "bundle") == digest(trained.folder / "pretrain" / "bundle")


def test_time_limit_saves_and_leaves_the_job_unfinished(study: Study) -> None:
    job = study.job("pretrain", "slow", time_limit_s=0.0)
    assert main([str(job)]) == 143
    assert (study.folder / "slow" / "last.ckpt").exists()
    assert not (study.folder / "slow" / "result.json").exists()


def test_a_loss_that_is_not_finite_names_step_and_records(study: Study) -> None:
    job = study.job("pretrain", "hot", options={"temperature": 1e-44})
    with pytest.raises(TrainingError, match=r"the loss of step 0 is (nan|inf).*records r0\d{3}"):
        run(read_job(job), Progress(0))
    assert main([str(job)]) == 1


def test_a_loss_that_is_not_finite_reaches_no_checkpoint(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where losses are looked at only now and then: here they would be logged after 8 steps."""
    import models.loss_watch

    monkeypatch.setattr(models.loss_watch, "LOOKED_AT_ONCE", ())
    options = {"lr": 1e30, "log_every": 8, "validate_every": 0, "checkpoint_every": 4, "max_steps": 12}
    with pytest.raises(TrainingError, match=r"the loss of step [123] is (nan|inf).*records r0\d{3}"):
        run(read_job(study.job("pretrain", "hot", options=options)), Progress(0))
    assert not (study.folder / "hot" / "last.ckpt").exists() and not (study.folder / "hot" / "bundle").exists()


def test_a_run_says_how_fast_it_is(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert main([str(study.job("pretrain", "fast", options={"max_steps": 4}))]) == 0
    assert "records/s, MFU" in caplog.text and "of the time waiting for data" in caplog.text
    result = json.loads((study.folder / "fast" / "result.json").read_text())
    for speed in (*rows(study.folder / "fast" / "metrics.jsonl"), result["timing"]):
        assert speed["records_per_s"] > 0 and 0 < speed["mfu"] < 1 and 0 <= speed["wait_share"] < 1


def test_zero_steps_deliver_the_untrained_network(study: Study) -> None:
    job = study.job("pretrain", "supervised", method="supervised", options={"max_steps": 0}, reports=None)
    assert main([str(job)]) == 0
    folder = study.folder / "supervised"
    assert digest(folder / "bundle")["weights.safetensors"] == digest(folder / "random_init")["weights.safetensors"]
    assert json.loads((folder / "result.json").read_text())["final"] == {}


def test_patience_delivers_the_best_validated_weights(study: Study) -> None:
    options = {"max_steps": 60, "validate_every": 2, "patience": 1, "lr": 0.3}
    assert main([str(study.job("pretrain", "wild", options=options))]) == 0
    measured = [r["validation_loss"] for r in rows(study.folder / "wild" / "metrics.jsonl") if "validation_loss" in r]
    assert len(measured) < 30
    assert min(measured) < measured[-1]


def test_records_without_a_report_are_left_out_and_counted(study: Study) -> None:
    table = pq.read_table(study.folder / "reports.parquet").to_pydict()
    table["text"] = ["" if i % 10 == 0 else text for i, text in enumerate(table["text"])]
    pq.write_table(pa.table(table), study.folder / "reports.parquet")
    assert main([str(study.job("pretrain", "gaps"))]) == 0
    result = json.loads((study.folder / "gaps" / "result.json").read_text())
    assert result["records"] + result["skipped"] == 96
    assert result["skipped"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reports": None}, "names no reports table"),
        ({"options": {"n_samples": 1000}}, "160 samples, the configuration says n_samples=1000"),
        ({"options": {"max_steps": None, "epochs": None}}, "training would never end"),
        ({"train_folds": [77]}, "no record to learn from"),
    ],
)
def test_jobs_that_cannot_work_say_why(study: Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigurationError, TrainingError), match=message):
        run(read_job(study.job("pretrain", "wrong", **changes)), Progress(0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a job"),
        ('{"kind": "dance"}', "is not a job"),
        ('{"kind": "pretrain"}', "needs method, preset, seed, output, config"),
        (
            '{"kind": "pretrain", "method": "merl", "preset": "tiny", "seed": "0", "store": "s", "output": "o", "config": {}}',
            "wrong type.*'0'",
        ),
    ],
)
def test_job_files_that_are_wrong_say_what(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_job(tmp_path / "job.json")
    assert main([str(tmp_path / "job.json")]) == 1


def test_an_orchestrator_hears_progress_and_result(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_pipes import PipesContext, encode_param

    messages = study.folder / "messages"
    context = {"asset_keys": [], "code_version_by_asset_key": {}, "provenance_by_asset_key": {}, "partition_key": None}
    context |= {"partition_key_range": None, "partition_time_window": None, "run_id": "r", "job_name": "j", "retry_number": 0, "extras": {}}
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", encode_param({"data": context}))
    monkeypatch.setenv("DAGSTER_PIPES_MESSAGES", encode_param({"path": str(messages)}))
    assert main([str(study.job("pretrain", "heard"))]) == 0
    PipesContext._instance = None
    heard = rows(messages)
    custom = [m["params"]["payload"] for m in heard if m["method"] == "report_custom_message"]
    assert "step" in custom[0]["metrics"]
    assert custom[-1]["result"]["steps"] == 12
    assert heard[-1]["method"] == "closed"
    assert any("pretraining merl" in str(m["params"]) for m in heard if m["method"] == "log")
