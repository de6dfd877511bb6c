"""The job that explains decisions: whose and which it explains, and what it refuses. The maps themselves have tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import Provenance, write_bundle
from models.errors import ConfigurationError, TrainingError
from models.fused import FusedHead, write_fused
from models.jobs import read_job
from models.progress import Progress
from models.registry import create_method, get_spec
from models.train import main, run
from tests.models.conftest import write_store
from tests.models.echo import EchoStudy, echo_registered, make_echo_study, write_images, write_pairing

N = 12
CLASSES = ("Cardiomegaly", "Edema", "Pleural Effusion")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> EchoStudy:
    """12 records of 6 patients, the last eight in the test fold; the first two of these have no finding, one of the others two."""
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    spec = get_spec("more")
    config = spec.configure("tiny")
    ids, fold_N = [f"r{i:02d}" for i in range(N)], np.array([9] * 4 + [10] * 8)
    write_store(folder / "store", rng.normal(0, 100, (N, 12, config.n_samples)).astype(np.int16), ids, fold_N)
    pixels = rng.integers(0, 255, (N, config.image_size, config.image_size)).astype(np.uint8)
    write_images(folder / "images", pixels, [f"i{i:02d}" for i in range(N)], fold_N)
    write_pairing(folder / "pairing", ids, fold_N)
    pq.write_table(pa.table({"record_id": ids, "text": ["sinus rhythm"] * N}), folder / "reports.parquet")
    labels_NC = np.zeros((N, 3), np.int8)
    labels_NC[6:, 1] = 1
    labels_NC[8, 2] = 1
    table = {"record_id": [f"i{i:02d}" for i in range(N)], **{c: labels_NC[:, k] for k, c in enumerate(CLASSES)}}
    pq.write_table(pa.table(table), folder / "labels.parquet")
    torch.manual_seed(0)
    method = create_method("more", config)
    method.prepare(["sinus rhythm", "normal chest"])
    write_bundle(folder / "bundle", method, Provenance("more", "tiny", 0, "pretrained", 1, 1, 100.0))
    found = method.eval().encode(_batch(np.zeros((1, 12, config.n_samples), np.float32))).embedding_BD
    assert found is not None
    write_fused(folder / "head.safetensors", FusedHead(found.shape[1], 3), CLASSES)
    return EchoStudy(folder, np.zeros(0), np.zeros(0), [])


def _batch(signal_BLT: Any) -> Any:
    from models.types import Batch

    return Batch(torch.from_numpy(signal_BLT), torch.arange(len(signal_BLT)))


def job(study: EchoStudy, name: str, **changes: Any) -> Path:
    entries = {
        "method": "more",
        "head": str(study.folder / "head.safetensors"),
        "task": "chest",
        "labels": str(study.folder / "labels.parquet"),
    }
    return study.paired("explain", name, **(entries | changes))


def test_samples_with_findings_come_first_one_a_patient_and_a_true_class_is_explained(study: EchoStudy) -> None:
    assert main([str(job(study, "four"))]) == 0
    rows = pq.read_table(study.folder / "four" / "explanations.parquet").to_pylist()
    assert len(rows) == 4 and len({row["patient_id"] for row in rows}) == 4
    assert {row["patient_id"] for row in rows[:3]} == {"p3", "p4", "p5"}
    for row in rows[:3]:
        assert row["is_true"] and row["class_name"] in ("Edema", "Pleural Effusion")
    assert not rows[3]["is_true"]
    for row in rows:
        image, ecg = (np.load(study.folder / "four" / "explanations" / row[kind], allow_pickle=False) for kind in ("image_map", "ecg_map"))
        config = get_spec("more").configure("tiny")
        assert image.shape == (config.image_size, config.image_size) and ecg.shape == (config.n_samples,)
        assert image.dtype == ecg.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1 and 0 <= ecg.min() <= ecg.max() <= 1
        assert row["ecg_id"][1:] == row["image_id"][1:] == row["sample_id"][1:]


def test_the_number_of_samples_is_a_limit(study: EchoStudy) -> None:
    assert main([str(job(study, "two", limit=2))]) == 0
    assert pq.read_table(study.folder / "two" / "explanations.parquet").num_rows == 2


def test_a_head_of_another_task_is_refused(study: EchoStudy) -> None:
    write_fused(study.folder / "other.safetensors", FusedHead(4, 2), ("A", "B"))
    with pytest.raises(ConfigurationError, match="decides A, B; task 'chest' has the classes Cardiomegaly"):
        run(read_job(job(study, "wrong", head=str(study.folder / "other.safetensors"))), Progress(0))


def test_without_a_pairing_or_labels_there_is_nothing_to_explain(study: EchoStudy) -> None:
    with pytest.raises(ConfigurationError, match="must name a pairing and an image store"):
        run(read_job(job(study, "alone", pairing=None, images=None)), Progress(0))
    pq.write_table(pa.table({"record_id": ["i00"], **{name: [1] for name in CLASSES}}), study.folder / "few.parquet")
    with pytest.raises(TrainingError, match="no test sample has an ECG and a picture with labels"):
        run(read_job(job(study, "none", labels=str(study.folder / "few.parquet"))), Progress(0))


def test_a_method_without_trunks_is_refused(study: EchoStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with echo_registered(monkeypatch):
        other = make_echo_study(tmp_path)
        entries = {"head": str(study.folder / "head.safetensors"), "task": "chest", "labels": str(study.folder / "labels.parquet")}
        with pytest.raises(ConfigurationError, match="Echo cannot be explained"):
            run(read_job(other.paired("explain", "no", **entries)), Progress(0))
