"""Zero-shot classification from prompts, and the job that runs it.

The score of a record for a class is the cosine of its embedding and that of the class's prompt (MERL with CKEPE); where a class
has several prompts, the largest of their cosines (MoRE). Scores are neither scaled nor squashed, since only their order counts: a
z-score a class, as MoRE prints, would change no metric. Records are recordings or images. No label is used anywhere.
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

from models.checkpoint import load_encoder
from models.data import AnyStore, Labelled, labelled_records
from models.embeddings import device_of, encode_rows
from models.errors import ConfigurationError, TrainingError
from models.head_job import make_origin, save_table
from models.image_store import open_image_store
from models.inputs import open_as_read
from models.jobs import ZeroShotJob
from models.method import Method
from models.progress import Progress
from models.prompts import Prompt, is_prompt, prompt_for
from models.types import Features, Modality


def class_weights(method: Method, prompts: list[str], device: torch.device) -> NDArray[np.float32]:
    """Unit-length embeddings (C, D) of prompts.

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
    store, device = _open(job), device_of(job.accelerator)
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


def _open(job: ZeroShotJob) -> AnyStore:
    if job.modality == Modality.IMAGE:
        return open_image_store(job.store)
    return open_as_read(job.store, job.bundle)


def _score(
    job: ZeroShotJob,
    data: Labelled,
    positions: NDArray[np.int64],
    embedding_ND: NDArray[np.float32],
    method: Method,
    device: torch.device,
    task: str,
    name: str,
    prompts: dict[str, Prompt],
    arm: str,
    bundle: Path,
) -> str | None:
    """Write one table; None where the set has no prompt for any class of the task."""
    found = [(i, prompt) for i, code in enumerate(data.classes) if (prompt := prompt_for(prompts, task, code)) is not None]
    if not found:
        return None
    scored = [i for i, _ in found]
    sentences = [[prompt] if isinstance(prompt, str) else prompt for _, prompt in found]
    cosine_NP = embedding_ND @ class_weights(method, [s for group in sentences for s in group], device).T
    silent = [c for i, c in enumerate(data.classes) if i not in set(scored)]
    most = max(len(group) for group in sentences)
    said = "one prompt a class" if most == 1 else f"the best of up to {most} prompts a class"
    selection = f"cosine with {said}, no label used" + (f"; no prompt, left out: {', '.join(silent)}" if silent else "")
    origin = make_origin(job, task, "zero_shot", arm, bundle, selection, prompts=name)
    save_table(job, data, positions, largest(cosine_NP, [len(group) for group in sentences]), origin, scored)
    return origin.slug


def largest(cosine_NP: NDArray[np.float32], sizes: list[int]) -> NDArray[np.float32]:
    """The largest cosine (N, C) of each class; its prompts stand side by side, as many as `sizes` says."""
    starts = np.cumsum([0, *sizes[:-1]])
    found: NDArray[np.float32] = np.maximum.reduceat(cosine_NP, starts, axis=1)
    return found


def _shared_embedding(features: Features) -> Tensor:
    if features.embedding_BD is None:
        raise ConfigurationError("the encoder has no embedding in a space shared with text, so it cannot be evaluated zero-shot")
    return functional.normalize(features.embedding_BD.float(), dim=1)


def _read_prompts(path: Path) -> dict[str, Prompt]:
    expected = "a JSON object of class code and prompt, or prompts, is expected"
    try:
        prompts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not a prompt set ({error}); {expected}") from error
    if not isinstance(prompts, dict) or not all(is_prompt(v) for v in prompts.values()):
        raise ConfigurationError(f"{path} is not a prompt set; {expected}")
    return prompts
