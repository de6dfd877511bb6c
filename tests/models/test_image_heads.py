"""Heads on images: probes, fine-tuning, and a head that reads the ECG beside the image where there is one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import Provenance, load_encoder, write_bundle
from models.data import batch_of
from models.embeddings import encode_rows, pooled_features, shared_features
from models.errors import ConfigurationError, TrainingError
from models.fused import read_fused, scores
from models.image_store import open_image_store
from models.jobs import HeadJob, read_job
from models.paired import nearest_ecgs
from models.predictions import read_predictions
from models.progress import Progress
from models.registry import create_method, get_spec
from models.store import open_store
from models.train import run

if TYPE_CHECKING:
    from conftest import Study

CLASSES = ("bright", "dark")
CPU = torch.device("cpu")
N, SIZE = 60, 32


@pytest.fixture
def chest(study: Study) -> Study:
    """60 pictures, bright or dark, of the first 60 recordings; the untrained twins of MoRE as encoder."""
    rng = np.random.default_rng(1)
    ids = [f"x{i:03d}" for i in range(N)]
    bright_N = np.arange(N) % 2 == 0
    images_NHW = np.clip(rng.normal(np.where(bright_N, 160, 90)[:, None, None], 30, (N, SIZE, SIZE)), 0, 255).astype(np.uint8)
    write_image_store(study.folder / "images", images_NHW, ids, fold_N=1 + np.arange(N) // 2 % 10)
    labels = {"record_id": ids, "bright": bright_N.astype(np.int8), "dark": (~bright_N).astype(np.int8)}
    pq.write_table(pa.table(labels), study.folder / "findings.parquet")
    write_samples(study.folder / "pairing", [(f"s{i}", ids[i], f"r{i:04d}", 0.0, 60.0) for i in range(0, N, 3)])
    config = dataclasses.replace(get_spec("more").configure("tiny"), n_samples=study.n_samples, finetune_steps=4)
    for seed, arm in ((1, "bundle"), (0, "random_init")):
        torch.manual_seed(seed)
        method = create_method("more", config)
        method.prepare(["normal ecg", "clear lungs"])
        write_bundle(study.folder / "more" / arm, method, Provenance("more", "tiny", 0, arm, 0, N, 100.0))
    return study


def write_image_store(folder: Path, images_NHW: np.ndarray[Any, np.dtype[np.uint8]], ids: list[str], fold_N: np.ndarray[Any, Any]) -> None:
    folder.mkdir(parents=True)
    np.save(folder / "shard-00000.npy", images_NHW)
    n, height, width = images_NHW.shape
    index = pa.table(
        {
            "dataset": ["small"] * n,
            "record_id": ids,
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "row": np.arange(n, dtype=np.int64),
            "shard": np.zeros(n, np.int32),
            "fold": fold_N.astype(np.int32),
        }
    )
    with pa.OSFile(str(folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, index.schema) as writer:
        writer.write_table(index)
    facts = {"kind": "image_store", "format_version": 1, "height": height, "width": width, "index": "index.arrow"}
    facts["shards"] = [{"file": "shard-00000.npy", "rows": n}]
    files = [{"path": p.name, "bytes": p.stat().st_size} for p in sorted(folder.iterdir())]
    (folder / "manifest.json").write_text(json.dumps({"format_version": 1, "facts": facts, "files": files}))


def write_samples(folder: Path, rows: list[tuple[str, str | None, str | None, float | None, float | None]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("sample_id", "image_id", "ecg_id", "dt_ecg_s", "dt_image_s")
    pq.write_table(pa.table({n: list(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)}), folder / "samples.parquet")


def job(chest: Study, name: str, **changes: Any) -> HeadJob:
    values: dict[str, Any] = {
        "method": "more",
        "store": str(chest.folder / "images"),
        "modality": "image",
        "bundle": str(chest.folder / "more" / "bundle"),
        "random_init": str(chest.folder / "more" / "random_init"),
        "labels": str(chest.folder / "findings.parquet"),
        "task": "chest",
        "pairing": str(chest.folder / "pairing"),
        "signals": str(chest.folder / "store"),
    }
    found = read_job(chest.job("head", name, **(values | changes)))
    assert isinstance(found, HeadJob)
    return found


def tables(found: HeadJob) -> dict[str, Any]:
    return {p.stem: read_predictions(p) for p in (found.output / "predictions").glob("*.parquet")}


def test_probes_and_fine_tuning_read_the_image_tower(chest: Study) -> None:
    asked = job(chest, "images", protocols=["linear_probe", "finetune"])
    assert run(asked, Progress(0)) is not None
    found = tables(asked)
    assert set(found) == {"chest-linear_probe-pretrained-1", "chest-linear_probe-random_init-1", "chest-finetune-pretrained-1"}
    for table in found.values():
        assert table.classes == CLASSES
        assert set(table.fold.tolist()) == {9, 10}
        assert all(name.startswith("x") for name in table.record_id.tolist())
    probe = found["chest-linear_probe-pretrained-1"]
    assert ((probe.scores_NC[:, 0] > probe.scores_NC[:, 1]) == (probe.labels_NC[:, 0] == 1)).mean() > 0.9


def test_features_are_kept_for_each_store_and_kind(chest: Study, tmp_path: Path) -> None:
    bundle = chest.folder / "more" / "bundle"
    images, signals = open_image_store(chest.folder / "images"), open_store(chest.folder / "store")
    method, cache = load_encoder(bundle), tmp_path / "cache"
    pooled_NF = pooled_features(method, bundle, images, cache, CPU)
    shared_ND = shared_features(method, bundle, images, cache, CPU)
    assert len(pooled_features(method, bundle, signals, cache, CPU)) == len(signals)
    assert len(list(cache.glob("*.npy"))) == 3
    rows = np.array([7, 3])
    features = method.encode_image(batch_of(images, rows))
    np.testing.assert_allclose(pooled_NF[rows], features.pooled_BF.detach().numpy(), atol=1e-5)
    assert features.embedding_BD is not None
    np.testing.assert_allclose(shared_ND[rows], features.embedding_BD.detach().numpy(), atol=1e-5)
    np.testing.assert_array_equal(shared_features(method, bundle, images, cache, CPU), shared_ND)


def test_a_fused_head_is_written_with_its_classes_and_can_be_read_again(chest: Study) -> None:
    asked = job(chest, "fused", protocols=["fused"], fractions=[0.5, 1.0])
    assert run(asked, Progress(0)) is not None
    found = tables(asked)
    arms = ("pretrained", "random_init")
    assert set(found) == {f"chest-{p}-{a}-{f}" for p in ("fused", "fused_image_only") for a in arms for f in ("0.5", "1")}
    head, classes = read_fused(asked.output / "heads" / "chest-fused-pretrained-1.safetensors")
    assert classes == CLASSES

    images, signals = open_image_store(asked.store), open_store(chest.folder / "store")
    method = load_encoder(asked.bundle)
    table = found["chest-fused-pretrained-1"]
    place = {record: row for row, record in enumerate(images.index["record_id"].to_pylist())}
    row_N = np.array([place[r] for r in table.record_id.tolist()])
    image_ND = encode_rows(method, images, row_N, CPU, lambda f: f.embedding_BD)  # type: ignore[arg-type, return-value]
    ecg_ND = encode_rows(method, signals, row_N, CPU, lambda f: f.embedding_BD)  # type: ignore[arg-type, return-value]
    has_ecg_N = row_N % 3 == 0
    np.testing.assert_allclose(scores(head, image_ND, ecg_ND, has_ecg_N), table.scores_NC, atol=1e-4)
    alone = found["chest-fused_image_only-pretrained-1"]
    np.testing.assert_allclose(scores(head, image_ND, ecg_ND, np.zeros(len(row_N), bool)), alone.scores_NC, atol=1e-4)
    np.testing.assert_array_equal(alone.scores_NC[~has_ecg_N], table.scores_NC[~has_ecg_N])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocols": ["fused"], "pairing": None}, "must name an image store, a pairing and signals"),
        ({"protocols": ["linear_probe"], "modality": "labs"}, "labels describe 'labs'; choose ecg or image"),
        ({"protocols": ["explained"]}, "protocols explained are unknown"),
    ],
)
def test_jobs_that_cannot_work_say_why(chest: Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(job(chest, "wrong", **changes), Progress(0))


def test_the_nearest_ecg_of_an_image_is_taken(study: Study, tmp_path: Path) -> None:
    rows: list[tuple[str, str | None, str | None, float | None, float | None]] = [
        ("s0", "a", "r0005", 0.0, 500.0),
        ("s1", "a", "r0003", 0.0, -400.0),
        ("s2", "b", "r0009", 100.0, 200.0),
        ("s3", "b", "r0008", 300.0, 200.0),
        ("s4", "c", "gone", 0.0, 0.0),
        ("s5", "c", "r0007", 0.0, 9e9),
        ("s6", "d", None, None, None),
        ("s7", "e", "r0011", None, None),
        ("s8", None, "r0012", 0.0, None),
    ]
    write_samples(tmp_path / "pairing", rows)
    store = open_store(study.folder / "store")
    found = nearest_ecgs(tmp_path / "pairing", ["a", "b", "c", "d", "e", "never"], store)
    assert found.tolist() == [3, 9, 7, -1, 11, -1]
    (tmp_path / "pairing" / "samples.parquet").write_bytes(b"")
    with pytest.raises(TrainingError, match="is no table of samples"):
        nearest_ecgs(tmp_path / "pairing", ["a"], store)
