"""A small published store with labels, reports and prompts, in the form that the data stages write."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.registry import get_spec
from models.types import LEADS

CLASSES = ("HYP", "NORM", "STTC")
SENTENCES = {"HYP": "left ventricular hypertrophy", "NORM": "normal ecg, sinus rhythm", "STTC": "st segment changes, inverted t waves"}


@dataclass(frozen=True)
class Study:
    """Where the small dataset lies; fold 9 validates, fold 10 tests."""

    folder: Path
    n_samples: int

    def job(self, kind: str, name: str, **changes: Any) -> Path:
        """Write a job file for the method MERL, changed as asked, and return its path."""
        config = {
            "n_samples": self.n_samples,
            "batch_size": 16,
            "max_steps": 12,
            "checkpoint_every": 4,
            "log_every": 2,
            "validate_every": 6,
        }
        method = changes.get("method", "merl")
        pretrained = self.folder / "pretrain"
        job: dict[str, Any] = {
            "kind": kind,
            "method": method,
            "preset": "tiny",
            "dataset": "small",
            "seed": 0,
            "store": str(self.folder / "store"),
            "train_folds": list(range(1, 9)),
            "validation_folds": [9],
            "test_folds": [10],
            "output": str(self.folder / name),
            "accelerator": "cpu",
        }
        if kind == "pretrain":
            job["config"] = asdict(get_spec(method).configure("tiny", **(config | changes.pop("options", {}))))
            job["reports"] = str(self.folder / "reports.parquet")
            job["card"] = {"dataset": "small", "access": "open", "data_versions": {"cleaned/small": "abc"}, "code_version": "1"}
        else:
            job |= {"bundle": str(pretrained / "bundle"), "random_init": str(pretrained / "random_init")}
        if kind == "head":
            job |= {"labels": str(self.folder / "labels.parquet"), "task": "super", "protocols": ["linear_probe"], "fractions": [1.0]}
            job["embeddings"] = str(self.folder / "embeddings")
        if kind == "zero_shot":
            job |= {"labels": {"super": str(self.folder / "labels.parquet")}, "prompts": {"short": str(self.folder / "prompts.json")}}
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(job | changes))
        return path


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """120 records whose class shows in lead V1 and is named in the report."""
    return make_study(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same with an encoder trained for a few steps in `pretrain`."""
    from models.train import main

    study = make_study(tmp_path_factory.mktemp("trained"))
    assert main([str(study.job("pretrain", "pretrain"))]) == 0
    return study


def make_study(folder: Path, n: int = 120, n_samples: int = 160) -> Study:
    rng = np.random.default_rng(0)
    labels_NC = np.eye(3, dtype=np.int8)[np.arange(n) % 3]
    signal_NLT = rng.normal(0, 100, (n, 12, n_samples))
    signal_NLT[:, 6] *= (1 + 2 * (np.arange(n) % 3))[:, None]
    ids = [f"r{i:04d}" for i in range(n)]
    write_store(folder / "store", signal_NLT.astype(np.int16), ids, fold_N=1 + np.arange(n) // 3 % 10)
    pq.write_table(pa.table({"record_id": ids, **{c: labels_NC[:, i] for i, c in enumerate(CLASSES)}}), folder / "labels.parquet")
    texts = [SENTENCES[CLASSES[i % 3]] for i in range(n)]
    order = rng.permutation(n)
    pq.write_table(pa.table({"record_id": [ids[i] for i in order], "text": [texts[i] for i in order]}), folder / "reports.parquet")
    (folder / "prompts.json").write_text(json.dumps({"HYP": "Left ventricular hypertrophy", "super:NORM": "normal ECG"}))
    return Study(folder, n_samples)


def write_store(folder: Path, signal_NLT: np.ndarray[Any, np.dtype[np.int16]], ids: list[str], fold_N: np.ndarray[Any, Any]) -> None:
    n, _, n_samples = signal_NLT.shape
    folder.mkdir(parents=True)
    np.save(folder / "shard-00000.npy", signal_NLT)
    index = pa.table(
        {
            "dataset": ["small"] * n,
            "record_id": ids,
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "start": np.zeros(n),
            "row": np.arange(n, dtype=np.int64),
            "shard": np.zeros(n, np.int32),
            "fold": fold_N.astype(np.int32),
            "n_samples": np.full(n, n_samples, np.int32),
        }
    )
    with pa.OSFile(str(folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, index.schema) as writer:
        writer.write_table(index)
    facts = {
        "kind": "store",
        "format_version": 1,
        "dataset": "small",
        "recipe": "native",
        "window_s": 1.6,
        "channels": [{"name": lead, "kind": "ECG", "unit": "uV", "scale": 1.0, "fs_hz": 100.0} for lead in LEADS],
        "shards": [{"file": "shard-00000.npy", "rows": n, "channels": list(LEADS), "n_samples": n_samples, "fs_hz": 100.0}],
        "index": "index.arrow",
    }
    files = [{"path": p.name, "bytes": p.stat().st_size} for p in sorted(folder.iterdir())]
    (folder / "manifest.json").write_text(json.dumps({"format_version": 1, "facts": facts, "files": files}))
