"""Explanations: the job that writes down which parts of an X-ray and of an ECG a fused head's decisions rest on."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoint import load_encoder
from models.data import labelled_records
from models.embeddings import device_of
from models.errors import ConfigurationError, TrainingError
from models.explain import explain
from models.fused import FusedHead, read_fused
from models.inputs import open_inputs
from models.jobs import ExplainJob
from models.judged import Items, on_device, read_items
from models.method import Method
from models.progress import Progress
from models.types import Batch, Modality

TABLE = "explanations.parquet"


@dataclass(frozen=True)
class Explained:
    """One explanation: whose, of which class, and where its maps are.

    Attributes:
        is_true: whether the class is one of the picture's labels.
        image_map, ecg_map: files of float32 values in [0, 1], one a pixel and one a sample.
    """

    sample_id: str
    patient_id: str
    ecg_id: str
    image_id: str
    task: str
    class_name: str
    is_true: bool
    logit: float
    image_map: str
    ecg_map: str


def explain_samples(job: ExplainJob, progress: Progress) -> dict[str, Any]:
    """Explain a few test samples that have a picture and an ECG; a sample's class is the most likely of its true ones.

    Samples are the first by a hash of their ids, one a patient, those with a true class before those without.

    Raises:
        ConfigurationError: the method has no trunks that can be explained, or the head is of another task.
        TrainingError: no test sample has a picture with labels and an ECG.
        CheckpointError: the head cannot be read.
    """
    started = time.perf_counter()
    device = device_of(job.accelerator)
    method, (head, classes) = load_encoder(job.bundle).to(device).eval(), read_fused(job.head)
    if missing := [
        name for name in ("image", "ecg", "image_projection", "ecg_projection", "image_input", "ecg_input") if not hasattr(method, name)
    ]:
        raise ConfigurationError(f"{type(method).__name__} cannot be explained: it has no {', '.join(missing)}")
    inputs = open_inputs(job, method.config)
    items = read_items(inputs, job.test_folds)
    if inputs.sources is None or inputs.sources.images is None:
        raise ConfigurationError("an explanation is of an image and its ECG: the job must name a pairing and an image store")
    data = labelled_records(inputs.sources.images, job.labels)
    if data.classes != classes:
        raise ConfigurationError(f"{job.head} decides {', '.join(classes)}; task {job.task!r} has the classes {', '.join(data.classes)}")
    labels = dict(zip(data.column("record_id").tolist(), data.labels_NC, strict=True))
    chosen = choose(items, labels, job.limit)
    if not chosen:
        raise TrainingError(f"no test sample has an ECG and a picture with labels of task {job.task!r}; check folds and pairing")
    rows = []
    for number, position in enumerate(chosen):
        true_C = labels[items.keys[Modality.IMAGE][position]] == 1
        batch = on_device(items.data.batch(np.array([position])), device)
        decided = choose_class(method, head.to(device), batch, true_C)
        explanation = explain(method, head, batch, decided)  # type: ignore[arg-type]  # its parts were looked for
        maps = {"image_map": explanation.image_map_HW, "ecg_map": explanation.ecg_map_T}
        rows.append(
            Explained(
                sample_id=items.ids[position],
                patient_id=items.patients[position],
                ecg_id=items.keys[Modality.ECG][position],
                image_id=items.keys[Modality.IMAGE][position],
                task=job.task,
                class_name=classes[decided],
                is_true=bool(true_C[decided]),
                logit=explanation.logit,
                **{kind: _write(job.output / "explanations" / f"{number}-{kind}.npy", values) for kind, values in maps.items()},
            )
        )
        progress.metrics({"explained": len(rows)}, f"explained {len(rows)} of {len(chosen)} samples")
    pq.write_table(pa.Table.from_pylist([vars(row) for row in rows]), job.output / TABLE)
    return {"samples": len(rows), "timing": {"seconds": round(time.perf_counter() - started, 1)}}


def choose(items: Items, labels: dict[str, NDArray[np.int8]], limit: int) -> list[int]:
    """Positions of the samples that are explained."""
    images, ecgs = items.keys[Modality.IMAGE], items.keys[Modality.ECG]
    usable = [i for i in range(len(items)) if ecgs[i] and images[i] in labels]
    usable.sort(key=lambda i: (not labels[images[i]].any(), hashlib.sha256(items.ids[i].encode()).digest()))
    of_patient: dict[str, int] = {}
    for i in usable:
        of_patient.setdefault(items.patients[i], i)
    return list(of_patient.values())[:limit]


def choose_class(method: Method, head: FusedHead, batch: Batch, true_C: NDArray[np.bool_]) -> int:
    """The most likely of the true classes of one record; of all where none is true."""
    with torch.inference_mode():
        image_BD, ecg_BD = method.encode_image(batch).embedding_BD, method.encode(batch).embedding_BD
        if image_BD is None or ecg_BD is None:
            raise ConfigurationError(f"{type(method).__name__} has no embeddings that a fused head could read")
        logit_C = head(image_BD, ecg_BD, batch.has(Modality.ECG))[0].cpu().numpy()
    candidates = np.flatnonzero(true_C) if true_C.any() else np.arange(len(true_C))
    return int(candidates[logit_C[candidates].argmax()])


def _write(path: Path, values: Tensor) -> str:
    path.parent.mkdir(exist_ok=True)
    np.save(path, values.numpy().astype(np.float32), allow_pickle=False)
    return path.name
