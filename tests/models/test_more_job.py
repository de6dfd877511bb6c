"""MoRE trained by the job, from a pairing of X-rays with ECGs and from reports alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import load_encoder
from models.train import main
from models.types import Batch
from tests.models.conftest import Study


def write_pairing(study: Study, n: int = 120) -> dict[str, str]:
    """An image, brighter by class, and a radiology report for two of three ECGs; each patient has two ECGs."""
    rng = np.random.default_rng(0)
    folder = study.folder / "images"
    folder.mkdir()
    pixels = rng.integers(0, 60, (n, 32, 32)) + 60 * (np.arange(n) % 3)[:, None, None]
    np.save(folder / "shard-00000.npy", pixels.astype(np.uint8))
    ids = [f"x{i:04d}" for i in range(n)]
    index = pa.table(
        {
            "dataset": ["small"] * n,
            "record_id": ids,
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "row": np.arange(n, dtype=np.int64),
            "shard": np.zeros(n, np.int32),
            "fold": (1 + np.arange(n) // 3 % 10).astype(np.int32),
        }
    )
    with pa.OSFile(str(folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, index.schema) as writer:
        writer.write_table(index)
    facts = {
        "kind": "image_store",
        "format_version": 1,
        "dataset": "small",
        "recipe": "more_32",
        "height": 32,
        "width": 32,
        "shards": [{"file": "shard-00000.npy", "rows": n}],
        "index": "index.arrow",
    }
    files = [{"path": p.name, "bytes": p.stat().st_size} for p in sorted(folder.iterdir())]
    (folder / "manifest.json").write_text(json.dumps({"format_version": 1, "facts": facts, "files": files}))
    kept = [i % 3 != 2 or i % 2 == 0 for i in range(n)]
    samples = {
        "sample_id": [f"s{i}" for i in range(n)],
        "patient_id": [f"p{i // 2}" for i in range(n)],
        "ecg_id": [f"r{i:04d}" for i in range(n)],
        "image_id": [i if there else None for i, there in zip(ids, kept, strict=True)],
        "panel_id": pa.array([None] * n, pa.string()),
        "fold": (1 + np.arange(n) // 3 % 10).astype(np.int32),
    }
    (study.folder / "pairing").mkdir()
    pq.write_table(pa.table(samples), study.folder / "pairing" / "samples.parquet")
    words = ("clear lungs", "small pleural effusion", "large heart")
    pq.write_table(
        pa.table({"record_id": ids, "text": [f"IMPRESSION: {words[i % 3]}." for i in range(n)]}), study.folder / "image_reports.parquet"
    )
    return {
        "pairing": str(study.folder / "pairing"),
        "images": str(folder),
        "image_reports": str(study.folder / "image_reports.parquet"),
    }


def last_row(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return found


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_pairing_trains_both_terms(study: Study, accumulate: int) -> None:
    ties = write_pairing(study)
    options = {"accumulate": accumulate, "third_term": True}
    assert main([str(study.job("pretrain", "pretrain", method="more", options=options, **ties))]) == 0
    row = last_row(study.folder / "pretrain")
    assert {"text_image", "text_ecg", "image_ecg", "validation_loss"} <= set(row) and row["skipped_pairs"] == 0
    method = load_encoder(study.folder / "pretrain" / "bundle")
    batch = Batch(torch.randn(2, 12, 160), torch.arange(2), ["normal ecg"] * 2, image_BHW=torch.zeros(2, 32, 32, dtype=torch.uint8))
    with torch.no_grad():
        assert set(method.embed(batch)) == {"ecg", "image", "text"}


def test_reports_alone_train_the_ecg_term(study: Study) -> None:
    assert main([str(study.job("pretrain", "pretrain", method="more"))]) == 0
    row = last_row(study.folder / "pretrain")
    assert row["skipped_pairs"] == 1 and "text_image" not in row
