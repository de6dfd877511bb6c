"""A made-up method whose embeddings can be read off its inputs, and a small pairing of ECGs, images and reports for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

import models.registry
from models.checkpoint import Provenance, write_bundle
from models.config import TrainingConfig
from models.method import Method
from models.spec import GateRule, MethodSpec, Paper
from models.types import Batch, Features, Losses, Modality
from tests.models.conftest import write_store

D, SIDE, T = 4, 8, 20
N, TEST_FOLD = 40, 10


@dataclass(frozen=True, kw_only=True)
class EchoConfig(TrainingConfig):
    """Nothing to choose.

    Attributes:
        length: whether `encode` takes one length only.
        image_recipe, image_size: as of any method with images.
        report_form: as of any method that reads text.
        pairing: likewise.
    """

    n_samples: int = T
    length: bool = False
    image_recipe: str = "none"
    image_size: int = SIDE
    report_form: str = "original"
    pairing: str = "auto"


class Echo(Method):
    """Embeds what stands in the first four samples, pixels or words, times a gain that is 0 in the random twin."""

    feature_width = D

    def __init__(self, config: EchoConfig) -> None:
        super().__init__()
        self.config = config
        self.gain = nn.Parameter(torch.ones(1))

    def encode(self, batch: Batch) -> Features:
        if self.config.length and batch.signal_BLT.shape[2] != T:
            raise RuntimeError("another length")
        found_BD = batch.signal_BLT[:, 0, :D] / 100 * self.gain
        return Features(found_BD, found_BD)

    def encode_image(self, batch: Batch) -> Features:
        assert batch.image_BHW is not None
        found_BD = (batch.image_BHW[:, 0, :D].float() - 100) / 100 * self.gain
        return Features(found_BD, found_BD)

    def embed_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(word) for word in (text or "0 0 0 0").split()[:D]] for text in texts]) * self.gain

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        found = {"ecg": self.encode(batch).pooled_BF}
        if batch.image_BHW is not None:
            found["image"] = self.encode_image(batch).pooled_BF
        if batch.texts is not None:
            found["text"] = self.embed_text(batch.texts)
        return found

    def generate(self, batch: Batch) -> list[str]:
        assert batch.texts is None and batch.image_texts is None, "references are hidden"
        return [f"{' '.join(f'{v:.2f}' for v in row)} is  written" for row in self.encode(batch).pooled_BF.tolist()]

    def loss(self, batch: Batch) -> Losses:
        raise NotImplementedError

    def optimizers(self, total_steps: int) -> Any:
        raise NotImplementedError


SPEC = MethodSpec(
    name="echo",
    title="Echo",
    version="1",
    paper=Paper("t", "v", "u"),
    modalities=(Modality.ECG, Modality.TEXT, Modality.IMAGE),
    config=EchoConfig,
    presets={"tiny": EchoConfig()},
    protocols=("retrieval",),
    tasks=(),
    gate=GateRule("super", "linear_probe"),
    optional=(Modality.IMAGE,),
)


@contextmanager
def echo_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The method "echo" is there, beside all others."""
    packages = {**models.registry._packages(), "echo": "echo_for_tests"}
    for name, content in (("", {}), (".spec", {"SPEC": SPEC}), (".method", {"create": Echo})):
        module = ModuleType(f"echo_for_tests{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(models.registry, "_packages", lambda: packages)
    models.registry.get_spec.cache_clear()
    yield
    models.registry.get_spec.cache_clear()


@dataclass(frozen=True)
class EchoStudy:
    """Where the data lies, and what stands in it: values (N, D) that the items show, all different.

    Record i is of patient p<i // 2>; the last 16 are in fold 10, the four before in fold 9. ECG and report of records 36 and 37 are
    alike, image of record 30 is missing, that of 39 shows nothing like its ECG.
    """

    folder: Path
    value_ND: np.ndarray[Any, Any]
    image_ND: np.ndarray[Any, Any]
    texts: list[str]

    def job(self, kind: str, name: str, **changes: Any) -> Path:
        """Write a job file and return its path."""
        entries: dict[str, Any] = {
            "kind": kind,
            "method": "echo",
            "preset": "tiny",
            "dataset": "small",
            "seed": 0,
            "validation_folds": [9],
            "test_folds": [TEST_FOLD],
            "accelerator": "cpu",
            "output": str(self.folder / name),
            "bundle": str(self.folder / "bundle"),
            "random_init": str(self.folder / "random_init"),
            "store": str(self.folder / "store"),
            "reports": str(self.folder / "reports.parquet"),
        }
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(entries | changes))
        return path

    def paired(self, kind: str, name: str, **changes: Any) -> Path:
        """A job that reads the pairing too."""
        tied = {"pairing": str(self.folder / "pairing"), "images": str(self.folder / "images")}
        return self.job(kind, name, **(tied | changes))


def make_echo_study(folder: Path, config: EchoConfig | None = None) -> EchoStudy:
    rng = np.random.default_rng(0)
    value_ND = np.round(rng.uniform(-0.99, 0.99, (N, D)), 2)
    value_ND[37] = value_ND[36]
    image_ND = value_ND.copy()
    image_ND[39] = -value_ND[39]
    signal_NLT = np.zeros((N, 12, T), np.int16)
    signal_NLT[:, 0, :D] = np.round(value_ND * 100)
    signal_NLT[:, 0, T // 2 : T // 2 + D] = signal_NLT[:, 0, :D]
    ids = [f"r{i:02d}" for i in range(N)]
    fold_N = np.array([1] * 20 + [9] * 4 + [TEST_FOLD] * 16)
    write_store(folder / "store", signal_NLT, ids, fold_N)
    texts = [" ".join(f"{v:g}" for v in row) for row in value_ND]
    pq.write_table(pa.table({"record_id": ids, "text": texts}), folder / "reports.parquet")
    pixels = np.zeros((N, SIDE, SIDE), np.uint8)
    pixels[:, 0, :D] = np.round(image_ND * 100 + 100)
    write_images(folder / "images", pixels[np.arange(N) != 30], [f"i{i:02d}" for i in range(N) if i != 30], fold_N[np.arange(N) != 30])
    write_pairing(folder / "pairing", ids, fold_N)
    for name, gain in (("bundle", 1.0), ("random_init", 0.0)):
        method = Echo(config or EchoConfig())
        torch.nn.init.constant_(method.gain, gain)
        arm = "pretrained" if gain else "random_init"
        write_bundle(folder / name, method, Provenance("echo", "tiny", 0, arm, 1, 1, 100.0))
    return EchoStudy(folder, value_ND, image_ND, texts)


def write_images(folder: Path, pixels_NHW: np.ndarray[Any, Any], ids: list[str], fold_N: np.ndarray[Any, Any]) -> None:
    """A published image store."""
    n, height, width = pixels_NHW.shape
    folder.mkdir(parents=True)
    np.save(folder / "shard-00000.npy", pixels_NHW)
    columns: Mapping[str, Any] = {
        "dataset": ["small"] * n,
        "record_id": ids,
        "patient_id": [f"p{int(i[1:]) // 2}" for i in ids],
        "row": np.arange(n, dtype=np.int64),
        "shard": np.zeros(n, np.int32),
        "fold": fold_N.astype(np.int32),
    }
    index = pa.table(columns)
    with pa.OSFile(str(folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, index.schema) as writer:
        writer.write_table(index)
    facts = {"kind": "image_store", "format_version": 1, "height": height, "width": width, "index": "index.arrow"}
    facts |= {"shards": [{"file": "shard-00000.npy", "rows": n}]}
    files = [{"path": p.name, "bytes": p.stat().st_size} for p in sorted(folder.iterdir())]
    (folder / "manifest.json").write_text(json.dumps({"format_version": 1, "facts": facts, "files": files}))


def write_pairing(folder: Path, ids: list[str], fold_N: np.ndarray[Any, Any]) -> None:
    """Every record with its image; lists of five candidates for the records of the test fold."""
    folder.mkdir()
    n = len(ids)
    samples = {
        "sample_id": [f"s{i:02d}" for i in range(n)],
        "patient_id": [f"p{i // 2}" for i in range(n)],
        "fold": fold_N.astype(np.int64),
        "ecg_id": ids,
        "image_id": [f"i{i:02d}" for i in range(n)],
        "panel_id": pa.array([None] * n, pa.string()),
        "dt_ecg_s": np.zeros(n),
        "dt_image_s": np.zeros(n),
    }
    pq.write_table(pa.table(samples), folder / "samples.parquet")
    test = np.flatnonzero(fold_N == TEST_FOLD).tolist()
    rows = [
        {"query_sample_id": f"s{q:02d}", "candidate_sample_id": f"s{c:02d}", "place": place, "is_positive": place == 0}
        for at, q in enumerate(test)
        for place, c in enumerate([q, *(test[(at + step) % len(test)] for step in (1, 3, 5, 7))])
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "candidates.parquet")
