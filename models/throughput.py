"""How much of the machine a training run uses: floating-point operations of a record against a measured peak."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """Operations per second of a large matrix product, measured: the limit that MFU is measured against.

    On a CPU it is that of the threads in use, whose share of the machine may change from one moment to the next.
    """
    on_gpu = device.type == "cuda"
    dtype = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4], torch.float32) if on_gpu else torch.float32
    size = 8192 if on_gpu else 1024
    factor = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):  # the best of some, since others may work on the machine too
        _wait_for(device)
        started = time.perf_counter()
        factor @ factor
        _wait_for(device)
        best = min(best, time.perf_counter() - started)
    return float(2 * size**3 / best)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Meter:
    """How quickly records are worked through since it was last read.

    Attributes:
        flops: operations of one record, or None if not counted.
        peak: operations per second of all devices together, or None if not measured.
    """

    flops: float | None = None
    peak: float | None = None
    _started: float = field(default_factory=time.perf_counter)
    _waited_s: float = 0.0

    def start(self, waited_s: float) -> None:
        """Begin an interval; `waited_s` is what was waited for data before it."""
        self._started, self._waited_s = time.perf_counter(), waited_s

    def read(self, records: int, waited_s: float) -> dict[str, float | None]:
        """End an interval and begin the next.

        Args:
            records: worked through in the interval.
            waited_s: seconds waited for data since the beginning of all.

        Returns:
            Records per second; MFU, the share of the measured peak that the model's operations come to; share of time spent waiting.
        """
        elapsed = time.perf_counter() - self._started
        rate, share = records / elapsed, (waited_s - self._waited_s) / elapsed
        self.start(waited_s)
        mfu = rate * self.flops / self.peak if self.flops and self.peak else None
        return {"records_per_s": round(rate, 1), "mfu": None if mfu is None else round(mfu, 4), "wait_share": round(share, 4)}


def spell_speed(speed: Mapping[str, float | None]) -> str:
    """A reading of the meter in words."""
    mfu = speed["mfu"]
    used = "" if mfu is None else f", MFU {mfu:.1%} of the measured peak"
    return f"{speed['records_per_s']:.0f} records/s{used}, {speed['wait_share']:.1%} of the time waiting for data"


def count_parameters(module: nn.Module) -> int:
    """Number of weights, frozen ones included."""
    return sum(p.numel() for p in module.parameters())
