"""Scans forward, and forward and backward, beside mambapy's and a plain loop, in one process and thread.

Run `OMP_NUM_THREADS=1 python benchmarks/bench_scan.py [--peer FOLDER]`. The peer is `mambapy`, the pure PyTorch package, where it is installed, or
in the folder of a checkout (https://github.com/alxndrTL/mamba.py); it is not part of this project. `scan` is h_t = a_t h_{t-1} + b_t of
given a and b (its `pscan`), `selective` the whole scan of Mamba from u, steps, A, B, C and D. The loop unbinds time; one that indexes it
costs quadratic time backward. What is printed is the least of several runs, in milliseconds, and the largest difference from the loop in
double precision, relative to the largest number. On a GPU the same on it. A minute.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from models.scan import scan, selective_scan

SIZES = ((1, 1000, 64, 16), (4, 729, 128, 16), (32, 84, 64, 4))
"""Records, steps, channels, states: those of the specification, and those of the tiny ECG-Mamba."""

BUDGET_S = 2.0
Function = Callable[..., Tensor]


def looped(a: Tensor, b: Tensor) -> Tensor:
    h = [b[:, 0]]
    for a_t, b_t in zip(a.unbind(1)[1:], b.unbind(1)[1:], strict=True):
        h.append(torch.addcmul(b_t, a_t, h[-1]))
    return torch.stack(h, dim=1)


def selective_loop(u_BLD: Tensor, delta_BLD: Tensor, a_DN: Tensor, b_BLN: Tensor, c_BLN: Tensor, skip_D: Tensor) -> Tensor:
    h = looped(torch.exp(delta_BLD[..., None] * a_DN), (delta_BLD * u_BLD)[..., None] * b_BLN[:, :, None])
    return (h @ c_BLN[..., None])[..., 0] + skip_D * u_BLD


def peers(folder: Path | None) -> tuple[Function, Function] | None:
    """mambapy's scan and its selective scan."""
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        pscan = importlib.import_module("mambapy.pscan").pscan
        block = importlib.import_module("mambapy.mamba").MambaBlock
    except ImportError:
        return None
    return pscan, lambda *inputs: block.selective_scan(SimpleNamespace(), *inputs)


def inputs_of(size: tuple[int, int, int, int], device: str) -> dict[str, list[Tensor]]:
    B, L, D, N = size
    torch.manual_seed(0)
    given = [torch.rand(B, L, D, N), torch.randn(B, L, D, N)]
    selective = [torch.randn(B, L, D), 10 ** (2 * torch.rand(B, L, D) - 3), -torch.arange(1.0, N + 1).repeat(D, 1)]
    selective += [torch.randn(B, L, N), torch.randn(B, L, N), torch.ones(D)]
    return {"scan": [x.to(device) for x in given], "selective": [x.to(device) for x in selective]}


def milliseconds(run: Callable[[], object]) -> float:
    run()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < BUDGET_S and len(times) < 50):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def gradients(function: Function, inputs: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    out.backward(torch.ones_like(out))
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


def report(name: str, function: Function, inputs: list[Tensor], truth: list[Tensor]) -> None:
    with torch.no_grad():
        forward = milliseconds(lambda: function(*inputs))
    both = milliseconds(lambda: gradients(function, inputs))
    apart = [float((x - y).abs().max() / y.abs().max()) for x, y in zip(gradients(function, inputs), truth, strict=True)]
    print(f"  {name:<24}{forward:>10.2f}{both:>20.2f}{apart[0]:>14.0e}{max(apart[1:]):>14.0e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="scans beside mambapy and a loop")
    parser.add_argument("--peer", metavar="FOLDER", type=Path, help="a checkout of mamba.py, where the package is not installed")
    found = peers(parser.parse_args().peer)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if found is None:
        print("mambapy: not installed, so only the loop stands beside ours; name a checkout with --peer")
    for size in SIZES:
        for place, (kind, inputs) in enumerate(inputs_of(size, device).items()):
            ours, loop = ((scan, looped), (selective_scan, selective_loop))[place]
            truth = gradients(loop, [x.double() for x in inputs])
            title = f"{kind} {size}"
            print(f"{title:<26}{'forward':>10}{'forward+backward':>20}{'error':>14}{'of gradients':>14}")
            report("einthoven", ours, inputs, truth)
            if found is not None:
                report("mambapy", found[place], inputs, truth)
            report("loop", loop, inputs, truth)


if __name__ == "__main__":
    main()
