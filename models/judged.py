"""Records of one part with all their modalities, as the jobs see them that judge an encoder without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data import Records, TrainingData
from models.errors import TrainingError
from models.inputs import Inputs
from models.method import Method
from models.samples import Samples
from models.types import Batch, Modality

_BATCH = 64


@dataclass(frozen=True)
class Items:
    """Records of some folds, with what tells their items apart.

    Attributes:
        ids: of samples or records, each once.
        patients: id of each one's patient.
        fold_N: fold of each.
        keys: by modality, what stands for each one's item: equal where items are equal, "" where there is none.
    """

    data: TrainingData
    ids: list[str]
    patients: list[str]
    fold_N: NDArray[np.int64]
    keys: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, start: int, device: torch.device) -> Batch:
        """The next records from a position on."""
        return on_device(self.data.batch(np.arange(start, min(start + _BATCH, len(self)))), device)


def read_items(inputs: Inputs, folds: Sequence[int]) -> Items:
    """The records or samples of some folds that a job may read.

    Raises:
        TrainingError: none is usable, or a table cannot be read.
    """
    data = inputs.training_data(folds)
    if isinstance(data, Samples):
        return _of_samples(inputs, data)
    if isinstance(data, Records):
        return _of_records(data)
    raise TrainingError("texts alone cannot be judged; the job must name a store of signals")


def _of_records(data: Records) -> Items:
    index, rows = data.store.index, data.rows_N.tolist()
    record_ids, starts, patients = (index[c].to_pylist() for c in ("record_id", "start", "patient_id"))
    several = len(set(record_ids)) < len(record_ids)
    ids = [f"{record_ids[row]}@{starts[row]:g}" if several else str(record_ids[row]) for row in rows]
    keys = {str(m): ids for m in (Modality.ECG, Modality.PPG, Modality.WEARABLE)}
    if data.texts is not None:
        keys[Modality.TEXT] = data.texts
    return Items(data, ids, [str(patients[row]) for row in rows], index["fold"].to_numpy()[data.rows_N].astype(np.int64), keys)


def _of_samples(inputs: Inputs, data: Samples) -> Items:
    assert inputs.pairing is not None, "samples come from a pairing"
    path = inputs.pairing / "samples.parquet"
    try:
        table = pq.read_table(path, columns=["sample_id", "patient_id", "fold", "panel_id"]).to_pylist()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise TrainingError(f"{path} is no table of samples ({error}); materialise the pairing again") from error
    about = {row["sample_id"]: row for row in table}
    mine = [about[i] for i in data.ids]
    texts, image_texts = (t or [""] * len(data) for t in (data.texts, data.image_texts))
    keys = {
        str(Modality.ECG): _held(data.ecg_ids, data.ecg_N),
        str(Modality.IMAGE): _held(data.image_ids, data.image_N),
        str(Modality.LABS): _held([row["panel_id"] or "" for row in mine], data.panel_N),
        str(Modality.TEXT): [f"{a}\n{b}" if a or b else "" for a, b in zip(texts, image_texts, strict=True)],
    }
    fold_N = np.array([row["fold"] for row in mine], np.int64)
    return Items(data, data.ids, [str(row["patient_id"]) for row in mine], fold_N, keys)


def _held(ids: list[str], row_N: NDArray[np.int64]) -> list[str]:
    return [i if row >= 0 else "" for i, row in zip(ids, row_N.tolist(), strict=True)]


def embed_items(method: Method, items: Items, device: torch.device) -> dict[str, Tensor]:
    """Embeddings (N, D) in the shared space by modality, float32 on the CPU, of a frozen encoder.

    Raises:
        TrainingError: an embedding of a record that has the modality is not finite; names records.
    """
    method = method.to(device).eval()
    parts: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for start in range(0, len(items), _BATCH):
            for name, found_BD in method.embed(items.batch(start, device)).items():
                parts.setdefault(str(name), []).append(found_BD.float().cpu())
    found = {name: torch.cat(part) for name, part in parts.items()}
    for name, found_ND in found.items():
        bad_N = ~torch.isfinite(found_ND).all(dim=1).numpy() & np.array([key != "" for key in items.keys.get(name, items.ids)])
        if bad_N.any():
            named = ", ".join(items.ids[i] for i in np.flatnonzero(bad_N)[:10])
            raise TrainingError(f"embeddings of {name} are not finite for {int(bad_N.sum())} records ({named}); train the encoder again")
    return found


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch with its tensors on a device."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: moved(part) for name, part in value.items()}
        return value.to(device) if isinstance(value, Tensor) else value

    return Batch(**{f.name: moved(getattr(batch, f.name)) for f in fields(batch)})
