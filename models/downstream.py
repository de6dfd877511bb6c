"""The classifier that reconstructed leads are judged with: ECGFounder's network on prepared signals, fine-tuned on labels.

It is fine-tuned on real twelve leads and shown what others make of the same records, and once fine-tuned on reconstructions. Its
features also measure how far reconstructions are from real records as a set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data import IntArray, Labelled, batch_of
from models.embeddings import encode_rows
from models.encoders.net1d import ECG_FOUNDER, TINY, Net1d
from models.errors import CheckpointError
from models.finetune import Parts, Trained, build_classifier, train_head
from models.founder_signals import prepare
from models.head_objectives import objective_of
from models.head_recipes import HeadRecipe
from models.method import SupervisedMethod
from models.store import Store
from models.types import Batch, Features

Read = Callable[[IntArray], NDArray[np.float32]]
"""Signals (B, L, T) in microvolts of rows of a store."""

_CHUNK = 64
_COUNTS_PER_UNIT = 500
"""Prepared signals lie between -65 and 65, in steps of 0.002."""

_SHAPES = {"tiny": TINY, "ecg_founder": ECG_FOUNDER}


class Founder(SupervisedMethod):
    """Net1D without its last layer, over signals that are prepared already.

    Attributes:
        title: what it is, in words.
        sha256: of the weights that it starts from.
    """

    def __init__(self, size: Literal["tiny", "ecg_founder"], n_leads: int, weights: Path | None) -> None:
        """Random weights, or those of a safetensors file.

        Raises:
            CheckpointError: the file does not fit the network.
        """
        super().__init__()
        self.network = Net1d(_SHAPES[size], 1, n_leads)
        self.network.dense.requires_grad_(False)
        self.feature_width = self.network.width
        self.title = f"Net1D ({size}) with random weights"
        if weights is not None:
            _load(self.network, weights)
            self.title = f"Net1D ({size}) of {weights.name}"
        self.sha256 = self.hash()

    def hash(self) -> str:
        """SHA-256 of all weights but the last layer's, in their order."""
        digest = hashlib.sha256()
        for name, value in self.network.state_dict().items():
            if not name.startswith("dense."):
                digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, batch: Batch) -> Features:
        """Mean over time of the last stage."""
        return Features(self.network.features(batch.signal_BLT))

    def decays(self, parameter: str, value: Tensor) -> bool:
        """Weight decay holds for everything, as in the published fine-tuning."""
        return True


def _load(network: Net1d, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        held = {name: value for name, value in load(path.read_bytes()).items() if not name.startswith("dense.")}
        own = {name: value for name, value in network.state_dict().items() if name.startswith("dense.")}
        network.load_state_dict(held | own)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold the weights of this Net1D ({error}); convert the published checkpoint to safetensors, or change classifier"
        ) from error


class Prepared:
    """Signals of several sources, prepared for the classifier and kept as stores beside the one they come from.

    What a source gives of a row is prepared once.
    """

    def __init__(self, store: Store, folder: Path, sources: Mapping[str, Read]) -> None:
        """`folder` takes the files; `sources` are named."""
        self._store, self._folder, self._sources = store, folder, sources
        self._held: dict[str, tuple[NDArray[np.int16], NDArray[np.bool_], Store]] = {}

    def store(self, name: str, rows_N: IntArray) -> Store:
        """A store of which these rows hold what a source gives; other rows may be empty."""
        counts_NLT, filled_N, view = self._held.get(name) or self._held.setdefault(name, self._empty(name))
        todo_N = np.unique(rows_N)[~filled_N[np.unique(rows_N)]]
        for start in range(0, len(todo_N), _CHUNK):
            rows = todo_N[start : start + _CHUNK]
            prepared_BLT = prepare(self._sources[name](rows), self._store.fs_hz)
            counts_NLT[rows] = np.rint(prepared_BLT * _COUNTS_PER_UNIT).clip(-32767, 32767)
        filled_N[todo_N] = True
        return view

    def raw(self, name: str) -> Read:
        """Signals of a source as they are, in millivolts."""
        return lambda rows: self._sources[name](rows) / np.float32(1000)

    def _empty(self, name: str) -> tuple[NDArray[np.int16], NDArray[np.bool_], Store]:
        store = self._store
        self._folder.mkdir(parents=True, exist_ok=True)
        shape = (len(store), len(store.channels), store.n_samples)
        counts_NLT = np.lib.format.open_memmap(self._folder / f"{name}.npy", mode="w+", dtype=np.int16, shape=shape)
        index = store.index
        for column, values in (("shard", np.zeros(len(store), np.int32)), ("row", np.arange(len(store), dtype=np.int64))):
            index = index.set_column(index.column_names.index(column), column, pa.array(values))
        channels = tuple(replace(c, unit="", scale=1 / _COUNTS_PER_UNIT) for c in store.channels)
        return counts_NLT, np.zeros(len(store), bool), Store(store.folder, store.facts, index, channels, [counts_NLT])


@dataclass(frozen=True)
class Finetuning:
    """How the classifier is fine-tuned, by ECGFounder's recipe but for AdamW in the place of Adam, whose decay of 1e-5 hardly counts.

    Its rate falls where validation stands still for ten passes, which five passes never do, so it is constant.

    Attributes:
        epochs: passes over the training records.
        batch_size: records of a step.
        lr: learning rate.
    """

    epochs: int = 5
    batch_size: int = 256
    lr: float = 1e-4

    @property
    def recipe(self) -> HeadRecipe:
        """The recipe, with a look at the validation records after each pass."""
        return HeadRecipe(
            epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, schedule="constant", weight_decay=1e-5,
            clip=None, look_every=1, in_passes=("look_every",), patience=None,
        )  # fmt: skip


def finetune(founder: Founder, data: Labelled, parts: Parts, how: Finetuning, seed: int, device: torch.device) -> Trained:
    """Fine-tune the classifier on the store of `data`; it is changed. Raises as `train_head`."""
    return train_head(founder, how.recipe, data, parts, seed, device)


def scores_of(
    founder: Founder, trained: Trained, data: Labelled, parts: Parts, how: Finetuning, seed: int, device: torch.device
) -> NDArray[np.float32]:
    """Scores (N, C) that a fine-tuned classifier gives the judged records of another store."""
    network = build_classifier(founder, how.recipe, data, parts, seed, device)
    network.load_state_dict(network.state_dict() | trained.state)
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(parts.judged_N), _CHUNK):
            rows_N = data.rows_N[parts.judged_N[start : start + _CHUNK]]
            found.append(network(batch_of(data.store, rows_N, device)).cpu().numpy())
    return objective_of(data.kind, how.recipe, data.labels_NC[parts.train_N], data.classes).scores(np.concatenate(found))


def features_of_signals(founder: Founder, source: Store | Read, rows_N: IntArray, device: torch.device) -> NDArray[np.float32]:
    """The classifier's features (N, F) of rows of a prepared store, or of signals as they are read."""
    if isinstance(source, Store):
        return encode_rows(founder, source, rows_N, device, lambda features: features.pooled_BF)
    founder = founder.to(device).eval()
    with torch.inference_mode():
        chunks = [rows_N[start : start + _CHUNK] for start in range(0, len(rows_N), _CHUNK)]
        parts = [founder.network.features(torch.from_numpy(source(rows)).to(device)).cpu().numpy() for rows in chunks]
    return np.concatenate(parts)
