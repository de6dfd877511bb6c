"""The job that judges probes under distribution shift: trained on one dataset's task, scored on another's matched classes.

MERL (ICML 2024) and MELP (ICML 2025, table 4): a probe learns the whole source task from all its training labels, its epoch is
chosen on the source's validation records, and the target's test records are scored once; nothing of the target is learned from. The
papers do not say how several source classes that stand for one target class are joined. Here the target class gets the largest of
their logits: it is there as soon as one of them is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import load_encoder, read_config
from models.data import Labelled, labelled_records
from models.embeddings import device_of, pooled_features
from models.errors import ConfigurationError, StoreError, TrainingError
from models.head_job import ARMS, make_origin
from models.heads import Probe, train_probes
from models.inputs import open_as_read
from models.jobs import TransferJob
from models.predictions import Predictions, write_predictions
from models.progress import Progress
from models.store import Store

PROTOCOL = "transfer_probe"
SELECTION = (
    "linear probe on all labels of the source task, epoch by its validation macro AUROC; a class gets the largest logit of its sources"
)


@dataclass
class _Work:
    """A job with what it has read and trained so far, each once."""

    job: TransferJob
    progress: Progress
    stores: dict[str, Store] = field(default_factory=dict)
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    tasks: dict[str, Labelled] = field(default_factory=dict)
    probes: dict[str, list[Probe]] = field(default_factory=dict)

    def store(self, dataset: str) -> Store:
        if dataset not in self.stores:
            if dataset not in self.job.stores:
                raise ConfigurationError(f"transfer job: no store of dataset {dataset!r} is given; it has {', '.join(self.job.stores)}")
            self.stores[dataset] = open_fitting(self.job, dataset)
        return self.stores[dataset]

    def task(self, name: str) -> Labelled:
        """Labelled records of "dataset/task"."""
        if name not in self.tasks:
            if name not in self.job.labels:
                raise ConfigurationError(f"transfer job: no labels of {name!r} are given; it has {', '.join(self.job.labels)}")
            self.tasks[name] = labelled_records(self.store(name.split("/")[0]), self.job.labels[name])
        return self.tasks[name]

    def part(self, name: str, part: str) -> NDArray[np.int64]:
        """Positions of the labelled records of a part of the dataset."""
        dataset = name.split("/")[0]
        positions = self.task(name).of_folds(self.job.folds[dataset][part])
        if not len(positions):
            raise TrainingError(f"{name} has no record in the {part} folds {self.job.folds[dataset][part]}; check folds and labels")
        return positions

    def features_of(self, dataset: str) -> NDArray[np.float32]:
        """Features (A, rows of the store, F) of both arms."""
        if dataset not in self.features:
            job, read = self.job, partial(pooled_features, cache=self.job.embeddings, device=device_of(self.job.accelerator))
            self.features[dataset] = np.stack([read(load_encoder(b), b, self.store(dataset)) for b in (job.bundle, job.random_init)])
        return self.features[dataset]

    def probes_of(self, name: str) -> list[Probe]:
        """The probe of each arm for all classes of a source task."""
        if name not in self.probes:
            data = self.task(name)
            features_ANF = self.features_of(name.split("/")[0])[:, data.rows_N]
            trained = train_probes(features_ANF, data.labels_NC, self.part(name, "train"), self.part(name, "validation"), self.job.seed)
            self.probes[name] = [probe for probe, _ in trained]
        return self.probes[name]


def transfer(job: TransferJob, progress: Progress) -> dict[str, Any]:
    """Write a prediction table of the target's test records for every direction and arm.

    Raises:
        ConfigurationError: a direction names a dataset or task that the job does not give.
        StoreError: a store has another rate or length than the encoder reads.
        TrainingError: a part has no records, or a task lacks a class of a direction.
        CheckpointError: an encoder bundle cannot be trusted.
    """
    started = time.perf_counter()
    work = _Work(job, progress)
    tables: list[str] = []
    for name, direction in job.directions.items():
        tables += _judge(work, name, direction["source"], direction["target"], direction["covers"])
        progress.metrics({"tables": len(tables)}, f"probe of {direction['source']} on {direction['target']}")
    return {"tables": tables, "timing": {"seconds": round(time.perf_counter() - started, 1)}}


def open_fitting(job: TransferJob, dataset: str) -> Store:
    """The store of a dataset with the encoder's channels.

    Raises:
        StoreError: its rate or the length of its windows is not what the encoder reads.
    """
    reads = read_config(job.bundle)["input"]
    store = open_as_read(job.stores[dataset], job.bundle)
    if (store.fs_hz, store.n_samples) != (reads["fs_hz"], reads["n_samples"]):
        raise StoreError(
            f"{store.folder} holds windows of {store.n_samples} samples at {store.fs_hz:g} Hz, the encoder reads {reads['n_samples']} at "
            f"{reads['fs_hz']:g} Hz; clean {dataset} by a recipe of that rate"
        )
    return store


def matched_scores(
    scores_NC: NDArray[np.float32], source_classes: tuple[str, ...], covers: dict[str, list[str]], where: str
) -> NDArray[np.float32]:
    """Scores (N, judged classes): of each class, the largest among the source's classes that stand for it.

    Args:
        scores_NC: a score for each source class.
        source_classes: their names.
        covers: judged class to source classes.
        where: what a message calls the source.

    Raises:
        TrainingError: the source lacks a class.
    """
    missing = sorted({c for covered in covers.values() for c in covered} - set(source_classes))
    if missing:
        raise TrainingError(f"{where} has no class {', '.join(missing)}; it has {', '.join(source_classes)}")
    place = {c: i for i, c in enumerate(source_classes)}
    return np.stack([scores_NC[:, [place[c] for c in covered]].max(axis=1) for covered in covers.values()], axis=1)


def _judge(work: _Work, name: str, source: str, target: str, covers: dict[str, list[str]]) -> list[str]:
    data, judged_N = work.task(target), work.part(target, "test")
    missing = sorted(set(covers) - set(data.classes))
    if missing:
        raise TrainingError(f"{target} has no class {', '.join(missing)}, which {name} judges; it has {', '.join(data.classes)}")
    columns = [data.classes.index(c) for c in covers]
    bundles, written = (work.job.bundle, work.job.random_init), []
    for arm, (which, probe) in enumerate(zip(ARMS, work.probes_of(source), strict=True)):
        scores_NC = probe.scores(work.features_of(target.split("/")[0])[arm][data.rows_N[judged_N]])
        origin = make_origin(work.job, name, PROTOCOL, which, bundles[arm], SELECTION, fraction=1.0)
        table = Predictions(
            origin,
            tuple(covers),
            data.column("record_id")[judged_N],
            data.column("patient_id")[judged_N],
            np.asarray(data.store.index["fold"])[data.rows_N][judged_N].astype(np.int64),
            matched_scores(scores_NC, work.task(source).classes, covers, source),
            data.labels_NC[judged_N][:, columns],
        )
        write_predictions(work.job.output / "predictions" / f"{origin.slug}.parquet", table)
        written.append(origin.slug)
    return written
