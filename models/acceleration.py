"""What a GPU is given beyond the default: bfloat16, TensorFloat-32, compiled modules, batches from pinned memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from models.types import Batch

_VARIANTS = 64
"""Of one module's code: widths, shapes, with and without gradients; beyond torch's 8 it would quietly run uncompiled."""

_log = logging.getLogger(__name__)


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision of a job as Lightning names it, where it says "auto": bf16-mixed on GPUs that have it, else 32-true."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


def allow_tf32() -> None:
    """Let what remains in float32 on a GPU use TensorFloat-32: products of ten bits of mantissa, sums of 23."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True


def compile_parts(parts: Sequence[nn.Module], backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile modules in place; shapes that turn out to vary become dynamic.

    Compilation happens when a module is called first. What cannot be compiled then runs as it is, and torch logs why.

    Args:
        parts: modules; their parameters and names stay as they are.
        backend: of `torch.compile`.
    """
    if not parts:
        return
    import torch._dynamo

    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.recompile_limit = _VARIANTS
    for part in parts:
        part.compile(backend=backend)
    _log.info("%d parts of the network are compiled: %s", len(parts), ", ".join(type(part).__name__ for part in parts))


def pinned(batch: Batch, device: torch.device) -> Batch:
    """A batch whose signals can be copied to a GPU while it works; as it is for a CPU, and where they are on the GPU."""
    if device.type == "cuda" and batch.signal_BLT.device.type == "cpu":
        batch.signal_BLT = batch.signal_BLT.pin_memory()
    return batch
