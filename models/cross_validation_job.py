"""The job that fine-tunes a method in every fold of named splits of a task.

Each fold has a prediction table of its own: column `fold` says what a record was for (`VALIDATION`, `TEST`), `Origin.split` the split and
the number of the fold. So thresholds are chosen on the fold's own validation records, and metrics follow from tables as everywhere.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import load_encoder, parse_config, read_config
from models.data import Labelled, batch_of, labelled_records
from models.embeddings import device_of
from models.finetune import Parts, train_head
from models.head_job import make_origin
from models.head_recipes import FINETUNE, HeadRecipe, recipe_of
from models.inputs import open_as_read
from models.jobs import CrossValidationJob
from models.predictions import Origin, Predictions, write_predictions
from models.progress import Progress
from models.registry import get_spec
from models.signal_scale import measure_scale, spread, stack_scales
from models.splits_named import Fold, Rows, named_split, shared_patients
from models.store import Store

VALIDATION, TEST = 1, 2
"""What stands in the column `fold` of these tables."""


def cross_validate(job: CrossValidationJob, progress: Progress) -> dict[str, Any]:
    """Train and score every fold; those that have a table already are left as they are.

    Raises:
        ConfigurationError: there is no such split.
        TrainingError: there are too few patients or recordings for it, labels do not fit, or a loss is not finite.
        CheckpointError: the encoder bundle cannot be trusted.
    """
    started = time.perf_counter()
    data = labelled_records(open_as_read(job.store, job.bundle), job.labels, job.task_kind)
    stored = read_config(job.bundle)
    spec = get_spec(stored["method"])
    recipe = recipe_of(spec.head_recipes(parse_config(spec.config, stored["config"])), FINETUNE)
    rows, tables, shared = _rows(data), [], {}
    for split in job.splits:
        folds = named_split(split, rows, job.seed)
        shared[split] = sum(shared_patients(fold, rows.patient_N) for fold in folds)
        for number, fold in enumerate(folds, 1):
            selection = f"{recipe.words(data.kind)}; split {split}, fold {number} of {len(folds)}"
            origin = make_origin(job, job.task, FINETUNE, "pretrained", job.bundle, selection, fraction=1.0)
            origin = replace(origin, split=f"{split}/{number}", kind=data.kind)
            if data.kind == "regression":
                origin = replace(origin, unit=job.unit, reference=float(data.labels_NC[fold.train_N].mean(dtype=np.float64)))
            path = job.output / "predictions" / f"{origin.slug}.parquet"
            if not path.exists():
                unfinished = path.with_suffix(".unfinished")
                write_predictions(unfinished, _fold(job, recipe, data, fold, origin))
                os.replace(unfinished, path)
            progress.metrics({"table": origin.slug}, f"{split}, fold {number} of {len(folds)}: {len(fold.test_N)} judged")
            tables.append(origin.slug)
    timing = {"seconds": round(time.perf_counter() - started, 1)}
    return {"tables": tables, "records": len(data.rows_N), "shared_patients": shared, "timing": timing}


def _rows(data: Labelled) -> Rows:
    labels_NC = np.zeros((len(data.rows_N), 0), np.int8) if data.kind == "regression" else data.labels_NC
    record_N, start_N = (np.asarray(data.store.index[name])[data.rows_N] for name in ("record_id", "start"))
    return Rows(data.column("patient_id"), record_N.astype(np.str_), start_N, labels_NC)


def _fold(job: CrossValidationJob, recipe: HeadRecipe, data: Labelled, fold: Fold, origin: Origin) -> Predictions:
    """Train on one fold and score its validation and test records."""
    judged_N = np.concatenate([fold.validation_N, fold.test_N])
    parts = Parts(fold.train_N, fold.validation_N, judged_N)
    encoder = load_encoder(job.bundle)
    # What the network is normalised by comes from the fold's own training records, not from those of the dataset's split.
    rows_N = data.rows_N[fold.train_N]
    if encoder.needs_scale and isinstance(data.store, Store):
        encoder.set_scale(stack_scales([("", *measure_scale(data.store, rows_N))]))
    encoder.measure(batch_of(data.store, rows_N[positions]) for positions in spread(len(rows_N)))
    done = train_head(encoder, recipe, data, parts, job.seed, device_of(job.accelerator))
    part_N: NDArray[np.int64] = np.repeat([VALIDATION, TEST], [len(fold.validation_N), len(fold.test_N)]).astype(np.int64)
    return Predictions(
        origin,
        data.classes,
        data.column("record_id")[judged_N],
        data.column("patient_id")[judged_N],
        part_N,
        np.ascontiguousarray(done.scores_NC, dtype=np.float32),
        data.labels_NC[judged_N],
    )
