"""How much of the machine a training run uses: floating-point operations of a record against a measured peak."""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from models.method import ContrastiveMethod, Method
from models.types import Batch


def flops_per_record(method: Method, batch: Batch) -> float:
    """Floating-point operations of forward and backward for one record, counted on a copy of the network.

    The copy keeps gradients, batch-norm statistics and random states of the real one as they are.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(method).train()
    # Fused attention kernels are not counted on every device, the matrix products they consist of are.
    with torch.random.fork_rng(devices=[]), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        # Parts of a batch run twice to save memory, which is no work on records; and this batch may be smaller than their number.
        losses = twin.contrast(twin.towers(batch)) if isinstance(twin, ContrastiveMethod) else twin.loss(batch)
        losses.total.backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops() / len(batch.signal_BLT))


def peak_flops(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product on a GPU: the limit that MFU is measured against."""
    dtype = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4], torch.float32)
    size = 8192
    factor = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        factor @ factor
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return float(2 * size**3 / best)


def count_parameters(module: nn.Module) -> int:
    """Number of weights, frozen ones included."""
    return sum(p.numel() for p in module.parameters())
