"""The job behind the cross-modality matrix: a network a signal in every fold of named splits, each shown every signal.

The run folder has a unit a fold, seed and source, and one a fold for what needs no network; a unit that is there is not made again. In the
end they are put together:

    predictions.parquet   logits of test windows: split, fold, seed, source, target, variant, record, patient, class
    embeddings.parquet    silhouettes, subject probe and variance of the embeddings of all windows of a fold
    variance.parquet      variance of the normalised signals, within windows and between
    projection.parquet    windows of the first fold in two dimensions, by source and target

`source` is a signal, or "majority" or "time_only" for the two that see none. `variant` is "unchanged", or "head_only" where the last layer was
fitted anew on the target's training windows.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from models.checkpoint import parse_config, read_config
from models.cross_modality import (
    Normalisation,
    Shown,
    Statistics,
    Windows,
    majority,
    refit,
    show,
    statistics_of,
    time_only,
    train_on,
    variance_rows,
    windows_of,
)
from models.data import labelled_records
from models.embedding_analysis import Projection, embedding_numbers
from models.embeddings import device_of
from models.errors import ConfigurationError
from models.head_recipes import FINETUNE, recipe_of
from models.jobs import CrossModalityJob
from models.predictions import window_name
from models.progress import Progress
from models.registry import get_spec
from models.splits_named import Fold, named_split, shared_patients
from models.store import open_store

UNCHANGED, HEAD_ONLY = "unchanged", "head_only"
MAJORITY, TIME_ONLY = "majority", "time_only"
TABLES = ("predictions", "embeddings", "variance", "projection")


@dataclass(frozen=True)
class _Place:
    """A fold of a split, numbered from 1."""

    split: str
    number: int
    fold: Fold

    @property
    def about(self) -> dict[str, Any]:
        return {"split": self.split, "fold": self.number}


@dataclass(frozen=True)
class _Work:
    """A job with what it has read."""

    job: CrossModalityJob
    config: Any
    windows: Windows
    device: torch.device

    @property
    def by(self) -> Normalisation:
        return "per_subject" if self.config.subject_statistics else self.config.normalisation

    def statistics(self, fold: Fold) -> dict[str, Statistics]:
        """Of each signal in a fold."""
        patient_N = self.windows.rows.patient_N
        return {n: statistics_of(m, fold.train_N, patient_N, self.by) for n, m in self.windows.moments.items()}


def cross_modalities(job: CrossModalityJob, progress: Progress) -> dict[str, Any]:
    """Train and show whatever is not there yet, and put the tables together.

    Raises:
        ConfigurationError: the method has no matrix, or the task classes of which several may hold.
        StoreError: the store lacks a signal.
        TrainingError: too few subjects for a split, labels do not fit, or a loss is not finite.
    """
    started = time.perf_counter()
    work = _open(job)
    windows, config = work.windows, work.config
    places, shared = [], {}
    for split in config.matrix_splits:
        folds = named_split(split, windows.rows, job.seed)
        shared[split] = sum(shared_patients(fold, windows.rows.patient_N) for fold in folds)
        places += [_Place(split, number, fold) for number, fold in enumerate(folds, 1)]
    units: list[Path] = []
    for place in places:
        units.append(
            _unit(job.output / "units" / f"{place.split}-{place.number:02d}", lambda folder, p=place: _without_network(work, p, folder))
        )
        for seed in config.matrix_seeds:
            for source in config.matrix_signals:
                first = place is places[0] and seed == config.matrix_seeds[0]
                folder = job.output / "units" / f"{place.split}-{place.number:02d}-{seed}-{source}"
                units.append(_unit(folder, lambda f, p=place, n=seed, s=source, m=first: _source(work, p, n, s, f, project=m)))
                progress.metrics(
                    {"units": len(units)}, f"{place.split}, fold {place.number}, seed {seed}: {source} trained and shown all signals"
                )
    for name in TABLES:
        held = [path for unit in units if (path := unit / f"{name}.parquet").exists()]
        pq.write_table(pa.concat_tables([pq.read_table(path) for path in held]), job.output / f"{name}.parquet")
    facts = {
        "windows": len(windows), "subjects": len(np.unique(windows.rows.patient_N)), "classes": list(windows.classes), "shared_subjects": shared,
        "normalisation": work.by, "window_s": config.n_samples / open_store(job.store).fs_hz, "signals": list(config.matrix_signals),
    }  # fmt: skip
    (job.output / "facts.json").write_text(json.dumps(facts, indent=1))
    return {**facts, "units": len(units), "timing": {"seconds": round(time.perf_counter() - started, 1)}}


def _open(job: CrossModalityJob) -> _Work:
    stored = read_config(job.bundle)
    config = parse_config(get_spec(stored["method"]).config, stored["config"])
    if not getattr(config, "matrix_signals", ()):
        raise ConfigurationError(f"{stored['method']} names no signals that its networks could be shown; set matrix_signals")
    data = labelled_records(open_store(job.store), job.labels, "single_label")
    return _Work(job, config, windows_of(data, config.matrix_signals), device_of(job.accelerator))


def _unit(folder: Path, make: Any) -> Path:
    """A unit's folder, made under another name and renamed when it is whole."""
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        os.replace(partial, folder)
    return folder


def _without_network(work: _Work, place: _Place, folder: Path) -> None:
    """What those score who see no signal, and how the signals vary."""
    windows, fold = work.windows, place.fold
    n_classes = len(windows.classes)
    seen = {
        MAJORITY: majority(windows.class_N, fold.train_N, n_classes),
        TIME_ONLY: time_only(windows.position_N, windows.class_N, fold.train_N, n_classes),
    }
    parts = [_predictions(windows, place, -1, name, "", UNCHANGED, logits_NC) for name, logits_NC in seen.items()]
    pq.write_table(pa.concat_tables(parts), folder / "predictions.parquet")
    rows = [{**place.about, **row} for row in variance_rows(windows, work.statistics(fold))]
    pq.write_table(pa.Table.from_pylist(rows), folder / "variance.parquet")


def _source(work: _Work, place: _Place, seed: int, source: str, folder: Path, *, project: bool) -> None:
    """Train the network of a signal and show it all signals."""
    windows, fold, config = work.windows, place.fold, work.config
    statistics = work.statistics(fold)
    recipe = recipe_of(get_spec(work.job.method).head_recipes(config), FINETUNE)
    number = work.job.seed + seed
    network = train_on(work.job.method, config, recipe, windows, fold, source, statistics[source], number, work.device)
    shown = {target: show(network, windows.signals[target], statistics[target], work.device) for target in config.matrix_signals}
    parts, numbers = [], []
    for target, found in shown.items():
        parts.append(_predictions(windows, place, seed, source, target, UNCHANGED, found.logits_NC))
        if config.matrix_head_only:
            logits_NC = refit(found.embedding_NF, windows.class_N, fold.train_N, len(windows.classes))
            parts.append(_predictions(windows, place, seed, source, target, HEAD_ONLY, logits_NC))
        values = embedding_numbers(found.embedding_NF, windows.class_N, windows.rows.patient_N)
        about = {**place.about, "seed": seed, "source": source, "target": target}
        numbers += [{**about, "name": name, "value": value} for name, value in values.items()]
    pq.write_table(pa.concat_tables(parts), folder / "predictions.parquet")
    pq.write_table(pa.Table.from_pylist(numbers), folder / "embeddings.parquet")
    if project:
        pq.write_table(_projected(windows, source, shown), folder / "projection.parquet")


def _predictions(
    windows: Windows, place: _Place, seed: int, source: str, target: str, variant: str, logits_NC: NDArray[np.float32]
) -> pa.Table:
    """Rows of the test windows."""
    test_N, n = place.fold.test_N, len(place.fold.test_N)
    about = {"split": place.split, "source": source, "target": target, "variant": variant}
    columns: dict[str, Any] = {name: pa.array([value] * n, pa.string()) for name, value in about.items()}
    columns |= {"fold": pa.array([place.number] * n, pa.int32()), "seed": pa.array([seed] * n, pa.int32())}
    columns |= _named(windows, test_N)
    return pa.table(columns | {f"logit:{c}": pa.array(logits_NC[test_N, i], pa.float32()) for i, c in enumerate(windows.classes)})


def _named(windows: Windows, chosen_N: NDArray[np.int64]) -> dict[str, Any]:
    rows = windows.rows
    names = [window_name(record, start) for record, start in zip(rows.record_N[chosen_N], rows.start_N[chosen_N], strict=True)]
    return {
        "record_id": pa.array(names, pa.string()),
        "patient_id": pa.array(rows.patient_N[chosen_N].tolist(), pa.string()),
        "class": pa.array([windows.classes[c] for c in windows.class_N[chosen_N]], pa.string()),
    }


def _projected(windows: Windows, source: str, shown: dict[str, Shown]) -> pa.Table:
    """Windows of all signals on the map of the source's embeddings."""
    everything, projection = np.arange(len(windows)), Projection(shown[source].embedding_NF)
    parts = []
    for target, found in shown.items():
        coordinate_N2 = projection(found.embedding_NF)
        about = {"source": source, "target": target, "method": projection.name}
        columns: dict[str, Any] = {name: pa.array([value] * len(windows), pa.string()) for name, value in about.items()}
        columns |= _named(windows, everything)
        parts.append(pa.table(columns | {"x": pa.array(coordinate_N2[:, 0]), "y": pa.array(coordinate_N2[:, 1])}))
    return pa.concat_tables(parts)
