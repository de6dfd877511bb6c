"""Zero-shot classification from prompts (MERL with CKEPE), and the job that runs it.

A class weight is the unit-length embedding of its one prompt; the score of a record is its cosine with that weight. Scores
are neither scaled nor squashed, since only their order counts. No label is used anywhere.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.checkpoint import load_encoder, read_config
from models.data import Labelled, labelled_records
from models.embeddings import device_of, encode_rows
from models.errors import ConfigurationError, TrainingError
from models.head_job import make_origin, save_table
from models.jobs import ZeroShotJob
from models.method import Method
from models.progress import Progress
from models.prompts import prompt_for
from models.store import open_store
from models.types import Features


def class_weights(method: Method, prompts: list[str], device: torch.device) -> NDArray[np.float32]:
    """Unit-length embedding (C, D) of one prompt a class.

    Raises:
        ConfigurationError: the method has no text tower.
    """
    with torch.inference_mode():
        weights: NDArray[np.float32] = method.to(device).eval().embed_text(prompts).float().cpu().numpy()
    return weights


def classify(job: ZeroShotJob, progress: Progress) -> dict[str, Any]:
    """Score validation and test folds of every task with every prompt set, by an encoder and its random twin.

    Classes for which a set has no prompt are left out of its tables, and the tables say so.

    Raises:
        TrainingError: a task has no record in the validation and test folds.
        ConfigurationError: a prompt set cannot be read, or the method has no text tower.
    """
    started = time.perf_counter()
    store, device = open_store(job.store).select(read_config(job.bundle)["input"]["leads"]), device_of(job.accelerator)
    tasks = {task: labelled_records(store, path) for task, path in sorted(job.labels.items())}
    sets = {name: _read_prompts(path) for name, path in sorted(job.prompts.items())}
    judged = {task: data.of_folds([*job.validation_folds, *job.test_folds]) for task, data in tasks.items()}
    for task, positions in judged.items():
        if not len(positions):
            raise TrainingError(f"task {task!r} has no record in the validation and test folds; check folds and labels")
    rows_N = np.unique(np.concatenate([data.rows_N[judged[task]] for task, data in tasks.items()]))
    place_N = np.zeros(len(store), np.int64)
    place_N[rows_N] = np.arange(len(rows_N))
    tables: list[str] = []
    for arm, bundle in (("pretrained", job.bundle), ("random_init", job.random_init)):
        method = load_encoder(bundle)
        embedding_ND = encode_rows(method, store, rows_N, device, _shared_embedding)
        for task, data in tasks.items():
            task_ND = embedding_ND[place_N[data.rows_N[judged[task]]]]
            for name, prompts in sets.items():
                slug = _score(job, data, judged[task], task_ND, method, device, task, name, prompts, arm, bundle)
                tables += [slug] if slug else []
                progress.metrics({"tables": len(tables)}, f"zero-shot {task} with prompts {name}, {arm}")
    return {"tables": tables, "records": len(rows_N), "timing": {"seconds": round(time.perf_counter() - started, 1)}}


def _score(
    job: ZeroShotJob,
    data: Labelled,
    positions: NDArray[np.int64],
    embedding_ND: NDArray[np.float32],
    method: Method,
    device: torch.device,
    task: str,
    name: str,
    prompts: dict[str, str],
    arm: str,
    bundle: Path,
) -> str | None:
    """Write one table; None where the set has no prompt for any class of the task."""
    found = [(i, prompt) for i, code in enumerate(data.classes) if (prompt := prompt_for(prompts, task, code)) is not None]
    if not found:
        return None
    scored = [i for i, _ in found]
    weights_CD = class_weights(method, [prompt for _, prompt in found], device)
    silent = [c for i, c in enumerate(data.classes) if i not in set(scored)]
    selection = "cosine with one prompt a class, no label used" + (f"; no prompt, left out: {', '.join(silent)}" if silent else "")
    origin = make_origin(job, task, "zero_shot", arm, bundle, selection, prompts=name)
    save_table(job, data, positions, embedding_ND @ weights_CD.T, origin, scored)
    return origin.slug


def _shared_embedding(features: Features) -> Tensor:
    if features.embedding_BD is None:
        raise ConfigurationError("the encoder has no embedding in a space shared with text, so it cannot be evaluated zero-shot")
    return functional.normalize(features.embedding_BD.float(), dim=1)


def _read_prompts(path: Path) -> dict[str, str]:
    try:
        prompts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not a prompt set ({error}); a JSON object of class code and prompt is expected") from error
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise ConfigurationError(f"{path} is not a prompt set; a JSON object of class code and prompt is expected")
    return prompts
