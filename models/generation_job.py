"""Report generation: the job that has an encoder and its random-initialised twin write a report for test records.

The references are never shown to the method: it gets the signal alone.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.checkpoint import load_encoder
from models.embeddings import device_of
from models.errors import TrainingError
from models.head_job import make_origin
from models.inputs import open_inputs
from models.jobs import GenerationJob
from models.judged import Items, on_device, read_items
from models.method import Method
from models.progress import Progress
from models.report_tables import Generated, write_generated
from models.types import Modality

_BATCH = 32


def write_reports(job: GenerationJob, progress: Progress) -> dict[str, Any]:
    """Write reports for test records that have one, the first `limit` by a hash of their ids.

    Raises:
        ConfigurationError: the method writes no reports, or the job lacks something that is read.
        TrainingError: no test record has a report, or the method wrote another number of reports than it was asked for.
    """
    started = time.perf_counter()
    device = device_of(job.accelerator)
    inputs = open_inputs(job, load_encoder(job.bundle).config)
    items = read_items(inputs, job.test_folds)
    chosen = choose(items, job.limit)
    if not chosen:
        raise TrainingError("no test record has a report to compare with; check folds and reports")
    tables = []
    for arm, bundle in (("pretrained", job.bundle), ("random_init", job.random_init)):
        origin = make_origin(job, "reports", "generation", arm, bundle, f"{len(chosen)} test records, the first by a hash of their ids")
        path = job.output / "generated" / f"{origin.slug}.parquet"
        if not path.exists():
            written = generate(load_encoder(bundle), items, chosen, device, progress, arm)
            found = [(items.ids[i], items.patients[i], items.keys[Modality.TEXT][i].strip()) for i in chosen]
            ids, patients, references = (list(column) for column in zip(*found, strict=True))
            write_generated(path, Generated(origin, ids, patients, references, written))
        tables.append(origin.slug)
    return {"tables": tables, "records": len(chosen), "timing": {"seconds": round(time.perf_counter() - started, 1)}}


def choose(items: Items, limit: int) -> list[int]:
    """Positions of the records that are judged: with a recording and a report, at most `limit`, the same for every method."""
    texts, signals = items.keys[Modality.TEXT], items.keys[Modality.ECG]
    usable = [i for i in range(len(items)) if texts[i].strip() and signals[i]]
    return sorted(usable, key=lambda i: hashlib.sha256(items.ids[i].encode()).digest())[:limit]


def generate(method: Method, items: Items, chosen: list[int], device: torch.device, progress: Progress, arm: str) -> list[str]:
    """A report for each chosen record, from its signal alone.

    Raises:
        TrainingError: the method wrote another number of reports than it was asked for.
    """
    method = method.to(device).eval()
    written: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(chosen), _BATCH):
            positions = np.array(chosen[start : start + _BATCH], np.int64)
            batch = replace(on_device(items.data.batch(positions), device), texts=None, image_texts=None)
            reports = method.generate(batch)
            if len(reports) != len(positions):
                raise TrainingError(f"the method wrote {len(reports)} reports for {len(positions)} records")
            written += [" ".join(report.split()) for report in reports]
            progress.metrics({"reports": len(written)}, f"reports, {arm}: {len(written)} of {len(chosen)}")
    return written
