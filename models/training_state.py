"""Training state on disk: any nesting of dicts, lists, tensors and plain values as a folder of safetensors and JSON.

    <name>.ckpt/state.json            the nesting, with a placeholder where a tensor belongs, and the SHA-256 of the tensors
    <name>.ckpt/tensors.safetensors   the tensors

A folder is written under a temporary name, flushed and renamed. `save_latest` keeps the state before the last one, so
that `load_latest` still finds a whole state when the last one was damaged. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from models.errors import CheckpointError

if TYPE_CHECKING:
    from lightning.pytorch.plugins.io import CheckpointIO

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
_log = logging.getLogger(__name__)


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a nested state as a folder, whole or not at all; an existing folder is replaced.

    Raises:
        CheckpointError: the state holds something that is neither a tensor nor JSON.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    skeleton = _encode(state, tensors, "")
    blob = save(tensors)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_durably(temporary / "tensors.safetensors", blob)
    text = json.dumps({"sha256": hashlib.sha256(blob).hexdigest(), "state": skeleton})
    write_durably(temporary / "state.json", text.encode())
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(temporary, folder)
    sync_folder(folder.parent)


def read_state(folder: Path) -> dict[str, Any]:
    """Read what `write_state` wrote.

    Raises:
        CheckpointError: the folder is missing, cut short or altered.
    """
    from safetensors.torch import load

    try:
        blob = (folder / "tensors.safetensors").read_bytes()
        outer = json.loads((folder / "state.json").read_text())
        expected, skeleton = outer["sha256"], outer["state"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a whole training state ({error}); delete it to go on from an older one") from error
    if hashlib.sha256(blob).hexdigest() != expected:
        raise CheckpointError(f"{folder / 'tensors.safetensors'} is cut short or altered; delete {folder} to go on from an older state")
    state: dict[str, Any] = _decode(skeleton, load(blob))
    return state


def save_latest(folder: Path, state: Mapping[str, Any]) -> None:
    """Make `state` the last one of a run folder and keep the one before."""
    last, previous = folder / LAST, folder / PREVIOUS
    if last.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(last, previous)
    write_state(last, state)


def latest(folder: Path) -> Path | None:
    """The newest whole state of a run folder, or None where there is none; a damaged one is reported and passed over."""
    for name in (LAST, PREVIOUS):
        if (folder / name).exists():
            try:
                read_state(folder / name)
            except CheckpointError as error:
                _log.warning("%s", error)
            else:
                return folder / name
    return None


def checkpoint_io() -> CheckpointIO:
    """Lightning's way in: `trainer.save_checkpoint(run folder / LAST)` ends in `save_latest`."""
    from lightning.pytorch.plugins.io import CheckpointIO

    class FolderIO(CheckpointIO):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
            save_latest(Path(path).parent, checkpoint)

        def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
            return read_state(Path(path))

        def remove_checkpoint(self, path: Any) -> None:
            shutil.rmtree(path, ignore_errors=True)

    return FolderIO()


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {"items": [[_encode(k, tensors, path), _encode(v, tensors, f"{path}/{k}")] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, tensors, path) for v in value]}
    if isinstance(value, list):
        return [_encode(v, tensors, path) for v in value]
    raise CheckpointError(f"the training state holds a {type(value).__name__} at {path}, which cannot be saved as tensors and JSON")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "tuple" in value:
        return tuple(_decode(v, tensors) for v in value["tuple"])
    return {_decode(k, tensors): _decode(v, tensors) for k, v in value["items"]}
