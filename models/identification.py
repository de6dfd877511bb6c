"""Patient identification (MELP, section 6): is the other recording of the same patient the most alike? No training is involved.

Of every test patient with two recordings or more, the first is in the gallery and the second asks. Where the encoder takes
signals of any length, they are cut as the paper does (5 s): the first half of the one, the second half of the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.checkpoint import load_encoder
from models.embeddings import device_of
from models.errors import EinthovenError, TrainingError
from models.head_job import make_origin
from models.inputs import open_as_read
from models.jobs import IdentificationJob
from models.method import Method
from models.metrics.retrieval import dot_scores, ranks
from models.progress import Progress
from models.rank_tables import RankRow, Ranks, write_ranks
from models.store import Store
from models.types import Batch, Features

_BATCH = 64
Crop = Callable[[Tensor], Tensor]


def identify(job: IdentificationJob, progress: Progress) -> dict[str, Any]:
    """Rank the recordings of the gallery for every probe, by cosine, with an encoder and with its random twin.

    There are no tables where fewer than two patients have two recordings.

    Raises:
        TrainingError: a feature is not finite.
    """
    started = time.perf_counter()
    device = device_of(job.accelerator)
    store = open_as_read(job.store, job.bundle)
    pairs = recordings_twice(store, job.test_folds)
    if len(pairs) < 2:
        progress.say(f"{len(pairs)} test patients have two recordings; identification needs two patients, so nobody is sought")
        return {"tables": [], "records": 0, "timing": {"seconds": round(time.perf_counter() - started, 1)}}
    tables = []
    for arm, bundle in (("pretrained", job.bundle), ("random_init", job.random_init)):
        method = load_encoder(bundle).to(device).eval()
        first, second, said = crops(method, store, pairs[:1, 0], device)
        gallery = _features(method, store, pairs[:, 0], first, device)
        probes = _features(method, store, pairs[:, 1], second, device)
        rows = []
        for name in gallery:
            rows += _rows(f"ecg->ecg by {name}", store, pairs, probes[name], gallery[name])
        origin = make_origin(job, "patients", "identification", arm, bundle, f"cosine, nothing trained; {said}")
        write_ranks(job.output / "ranks" / f"{origin.slug}.parquet", Ranks(origin, rows))
        tables.append(origin.slug)
        progress.metrics({"tables": len(tables)}, f"identification, {arm}: {len(pairs)} patients")
    return {"tables": tables, "records": len(pairs), "timing": {"seconds": round(time.perf_counter() - started, 1)}}


def recordings_twice(store: Store, folds: list[int]) -> NDArray[np.int64]:
    """Rows (P, 2) of the first two recordings of every patient of some folds who has two, by date where the store knows it."""
    index = store.index
    ids, patients = store.record_ids(), index["patient_id"].to_pylist()
    dates = index["acquired_at"].to_pylist() if "acquired_at" in index.column_names else [""] * len(store)
    first_window: dict[str, int] = {}
    for row in store.rows_of_folds(folds).tolist():
        first_window.setdefault(ids[row], row)
    by_patient: dict[str, list[int]] = {}
    for row in sorted(first_window.values(), key=lambda row: (dates[row] or "", ids[row])):
        by_patient.setdefault(patients[row], []).append(row)
    pairs = [rows[:2] for _, rows in sorted(by_patient.items()) if len(rows) > 1]
    return np.array(pairs, np.int64).reshape(-1, 2)


def crops(method: Method, store: Store, rows: NDArray[np.int64], device: torch.device) -> tuple[Crop, Crop, str]:
    """What of a recording is read for the gallery and for a probe, and the same in words."""
    half = store.n_samples // 2

    def whole(signal_BLT: Tensor) -> Tensor:
        return signal_BLT

    def first(signal_BLT: Tensor) -> Tensor:
        return signal_BLT[:, :, :half]

    def second(signal_BLT: Tensor) -> Tensor:
        return signal_BLT[:, :, -half:]

    try:
        _features(method, store, rows, first, device)
    except (EinthovenError, RuntimeError, ValueError, AssertionError):  # built for one length; what it raises then is its own affair
        return whole, whole, "whole recordings, because the encoder takes one length only"
    seconds = half / store.fs_hz
    return first, second, f"first {seconds:g} s of the gallery's recordings, last {seconds:g} s of the probes"


def _features(method: Method, store: Store, rows: NDArray[np.int64], crop: Crop, device: torch.device) -> dict[str, NDArray[np.float32]]:
    """Unit-length features by name, float32 (N, F).

    Raises:
        TrainingError: one is not finite.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {}
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            signal_BLT = crop(torch.from_numpy(store.signals(chosen)).to(device))
            for name, found_BF in _named(method.encode(Batch(signal_BLT, torch.from_numpy(chosen).to(device)))).items():
                parts.setdefault(name, []).append(functional.normalize(found_BF.float(), dim=1).cpu().numpy())
    found = {name: np.concatenate(part) for name, part in parts.items()}
    for name, found_NF in found.items():
        if not np.isfinite(found_NF).all():
            raise TrainingError(
                f"{name} of {int((~np.isfinite(found_NF).all(axis=1)).sum())} recordings are not finite; train the encoder again"
            )
    return found


def _named(features: Features) -> dict[str, Tensor]:
    found = {"features": features.pooled_BF}
    return found if features.embedding_BD is None else found | {"embedding": features.embedding_BD}


def _rows(
    direction: str, store: Store, pairs: NDArray[np.int64], probe_PF: NDArray[np.float32], gallery_PF: NDArray[np.float32]
) -> list[RankRow]:
    ids, patients, folds = (store.index[c].to_pylist() for c in ("record_id", "patient_id", "fold"))
    scores = dot_scores(probe_PF, gallery_PF)
    rank_P = ranks(scores, np.arange(len(pairs)), len(pairs))
    rows = []
    for number, (_, second) in enumerate(pairs.tolist()):
        best = ids[int(pairs[int(scores(number, number + 1).argmax()), 0])]
        rows.append(
            RankRow(direction, "split", ids[second], patients[second], int(folds[second]), float(rank_P[number]), len(pairs), 1, best)
        )
    return rows
