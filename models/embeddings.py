"""Features of a frozen encoder for every record of a store, computed once and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.checkpoint import weights_sha256
from models.data import AnyStore, batch_of
from models.errors import ConfigurationError, TrainingError
from models.method import Method
from models.types import Batch, Features

_BATCH = 64


def device_of(accelerator: str) -> torch.device:
    """The device that an accelerator's name asks for.

    Raises:
        ConfigurationError: a GPU is asked for and there is none.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ConfigurationError(f"there is no accelerator {accelerator!r}; choose auto, cpu or gpu")
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigurationError("a GPU is asked for, but torch sees none; choose accelerator auto or cpu")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def features_of(method: Method, batch: Batch) -> Features:
    """What a method makes of recordings, or of images where the batch holds those."""
    return method.encode(batch) if batch.image_BHW is None else method.encode_image(batch)


def encode_rows(
    method: Method, store: AnyStore, rows_N: NDArray[np.int64], device: torch.device, take: Callable[[Features], torch.Tensor]
) -> NDArray[np.float32]:
    """Apply a frozen encoder to rows of a store of signals or images and keep one of its features, float32 (N, F).

    Neither weights nor batch-norm statistics change.

    Raises:
        TrainingError: a feature is not finite; names the records.
    """
    method = method.to(device).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows_N), _BATCH):
            rows = rows_N[start : start + _BATCH]
            parts.append(take(features_of(method, batch_of(store, rows, device))).float().cpu().numpy())
    found = np.concatenate(parts) if parts else np.zeros((0, method.feature_width), np.float32)
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        named = ", ".join(str(store.index["record_id"][int(row)]) for row in rows_N[bad][:10])
        raise TrainingError(f"the encoder gives features that are not finite for {int(bad.sum())} records ({named}); train it again")
    return found


def pooled_features(
    method: Method, bundle: Path, store: AnyStore, cache: Path, device: torch.device, channels: Sequence[str] = ()
) -> NDArray[np.float32]:
    """`Features.pooled_BF` of every row of a store, from the cache where they have been computed before.

    `channels` names those that the store shows, where it hides some that it holds.
    """
    kind = "".join(f"-{name.replace('/', '_')}" for name in channels)
    return _cached(method, bundle, store, cache, device, kind, lambda f: f.pooled_BF)


def shared_features(method: Method, bundle: Path, store: AnyStore, cache: Path, device: torch.device) -> NDArray[np.float32]:
    """`Features.embedding_BD` of every row of a store likewise.

    Raises:
        ConfigurationError: the method has no space that it shares with other modalities.
    """
    return _cached(method, bundle, store, cache, device, "-shared", _embedding)


def _embedding(features: Features) -> torch.Tensor:
    if features.embedding_BD is None:
        raise ConfigurationError("the encoder has no embedding in a space shared with other modalities, so no head can be trained over two")
    return features.embedding_BD


def _cached(
    method: Method, bundle: Path, store: AnyStore, cache: Path, device: torch.device, kind: str, take: Callable[[Features], torch.Tensor]
) -> NDArray[np.float32]:
    identity = hashlib.sha256((store.folder / "manifest.json").read_bytes()).hexdigest()
    path = cache / f"{weights_sha256(bundle)[:32]}-{identity[:32]}{kind}.npy"
    if path.exists():
        try:
            held: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            held = np.zeros((0, 0), np.float32)
        if held.ndim == 2 and len(held) == len(store) and held.dtype == np.float32:
            return held
    found = encode_rows(method, store, np.arange(len(store)), device, take)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        np.save(stream, found)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    return found
