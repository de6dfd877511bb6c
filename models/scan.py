"""Linear recurrences over time, and the selective scan of Mamba (Gu and Dao 2023, arXiv 2312.00752), with gradients of their own.

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,    y_t = C_t h_t + D u_t

What runs follows from the device: compiled loops on a processor, many steps at once on a GPU, or the fused kernel of `mamba_ssm` where
that is installed. Nothing of shape (B, L, D, N) is kept for the backward pass, only the state every few steps; the rest is computed
again. Numbers are float32 whatever the autocast type, or float64 where all inputs are.

Letters: B records, L steps, D channels, N states of a channel.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.errors import ConfigurationError
from models.scan_parallel import scan_parallel, scan_parallel_back, selective_parallel, selective_parallel_back

_FUSED = "mamba_ssm.ops.selective_scan_interface"


def scan(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t along the second axis, with h_0 = 0.

    Args:
        a: (B, L, D, N), or any shape (B, L, ...).
        b: of the same shape.

    Returns:
        h, of the same shape, differentiable in both.

    Raises:
        ConfigurationError: the shapes differ.
    """
    _expect(scan, {"b": (b, a.shape)})
    found: Tensor = _Scan.apply(*_in_one_type(a, b))  # type: ignore[no-untyped-call]
    return found


def selective_scan(u_BLD: Tensor, delta_BLD: Tensor, a_DN: Tensor, b_BLN: Tensor, c_BLN: Tensor, skip_D: Tensor) -> Tensor:
    """The selective scan, differentiable in all inputs.

    Args:
        u_BLD: what enters.
        delta_BLD: length of each step, above 0.
        a_DN: A, below 0.
        b_BLN: B, how what enters reaches the state.
        c_BLN: C, how the state is read.
        skip_D: D, what is passed by.

    Returns:
        y, (B, L, D).

    Raises:
        ConfigurationError: the shapes do not fit each other.
    """
    (B, L, D), N = u_BLD.shape, a_DN.shape[-1]
    of_N = (B, L, N)
    _expect(
        selective_scan,
        {"delta": (delta_BLD, (B, L, D)), "a": (a_DN, (D, N)), "b": (b_BLN, of_N), "c": (c_BLN, of_N), "skip": (skip_D, (D,))},
    )
    inputs = _in_one_type(u_BLD, delta_BLD, a_DN, b_BLN, c_BLN, skip_D)
    fused = _fused() if inputs[0].is_cuda and inputs[0].dtype == torch.float32 else None
    with torch.autocast(u_BLD.device.type, enabled=False):
        if fused is not None:
            return selective_fused(fused, *inputs)
        found: Tensor = _SelectiveScan.apply(*inputs)  # type: ignore[no-untyped-call]
        return found


def selective_fused(
    kernel: Callable[..., Tensor], u_BLD: Tensor, delta_BLD: Tensor, a_DN: Tensor, b_BLN: Tensor, c_BLN: Tensor, skip_D: Tensor
) -> Tensor:
    """The same by the function `selective_scan_fn` of `mamba_ssm`, which has time last."""
    u_BDL, delta_BDL, b_BNL, c_BNL = (x.transpose(1, 2).contiguous() for x in (u_BLD, delta_BLD, b_BLN, c_BLN))
    return kernel(u_BDL, delta_BDL, a_DN.contiguous(), b_BNL, c_BNL, skip_D).transpose(1, 2)


@lru_cache(maxsize=1)
def _fused() -> Callable[..., Tensor] | None:
    """The fused kernel where it can be imported."""
    try:
        kernel: Callable[..., Tensor] = importlib.import_module(_FUSED).selective_scan_fn
    except (ImportError, AttributeError, OSError):  # not installed, another version, or built for another torch
        return None
    return kernel


def _expect(function: Callable[..., Tensor], shapes: dict[str, tuple[Tensor, tuple[int, ...]]]) -> None:
    for name, (given, expected) in shapes.items():
        if tuple(given.shape) != tuple(expected):
            raise ConfigurationError(
                f"{function.__name__} got {name} of shape {tuple(given.shape)}; with the others it must be {tuple(expected)}"
            )


def _in_one_type(*tensors: Tensor) -> list[Tensor]:
    dtype = torch.float64 if all(x.dtype == torch.float64 for x in tensors) else torch.float32
    return [x.to(dtype) for x in tensors]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        h = _recurred(a, b) if a.device.type == "cpu" else scan_parallel(a, b)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors
        return _recurred_back(a, h, grad_h) if a.device.type == "cpu" else scan_parallel_back(a, h, grad_h)


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.compiled = inputs[0].device.type == "cpu" and inputs[0].dtype == torch.float32
        y_BLD, states = (_selective_compiled if ctx.compiled else selective_parallel)(*inputs)
        ctx.save_for_backward(*inputs, states)
        return y_BLD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y_BLD: Tensor) -> tuple[Tensor, ...]:
        return (_selective_compiled_back if ctx.compiled else selective_parallel_back)(grad_y_BLD, *ctx.saved_tensors)


def _recurred(a: Tensor, b: Tensor) -> Tensor:
    from models.scan_kernels import recur

    h = torch.empty_like(b, memory_format=torch.contiguous_format)
    _by_records(recur, *_flat(a, b, h))
    return h


def _recurred_back(a: Tensor, h: Tensor, grad_h: Tensor) -> tuple[Tensor, Tensor]:
    from models.scan_kernels import recur_back

    s = grad_h.clone(memory_format=torch.contiguous_format)
    grad_a = torch.empty_like(s)
    _by_records(recur_back, *_flat(a, h, s, grad_a))
    return grad_a, s


def _flat(*tensors: Tensor) -> list[Tensor]:
    return [x.reshape(*x.shape[:2], math.prod(x.shape[2:])) for x in tensors]


def _selective_compiled(
    u_BLD: Tensor, delta_BLD: Tensor, a_DN: Tensor, b_BLN: Tensor, c_BLN: Tensor, skip_D: Tensor
) -> tuple[Tensor, Tensor]:
    from models.scan_kernels import CHUNK, selective

    B, L, D = u_BLD.shape
    y_BLD, states_BKND = u_BLD.new_empty(B, L, D), u_BLD.new_empty(B, -(-L // CHUNK), a_DN.shape[1], D)
    rate_ND = a_DN.T / math.log(2)
    _by_records(selective, u_BLD, delta_BLD, rate_ND, b_BLN, c_BLN, skip_D, y_BLD, states_BKND)
    return y_BLD, states_BKND


def _selective_compiled_back(
    grad_y_BLD: Tensor, u_BLD: Tensor, delta_BLD: Tensor, a_DN: Tensor, b_BLN: Tensor, c_BLN: Tensor, skip_D: Tensor, states_BKND: Tensor
) -> tuple[Tensor, ...]:
    from models.scan_kernels import selective_back

    B, L, D = u_BLD.shape
    N = a_DN.shape[1]
    grad_u_BLD, grad_delta_BLD = u_BLD.new_empty(B, L, D), u_BLD.new_empty(B, L, D)
    grad_a_BND, grad_b_BLN, grad_c_BLN, grad_skip_BD = (u_BLD.new_zeros(B, *shape) for shape in ((N, D), (L, N), (L, N), (D,)))
    _by_records(
        selective_back, grad_y_BLD, u_BLD, delta_BLD, a_DN.T / math.log(2), b_BLN, c_BLN, skip_D, states_BKND,
        grad_u_BLD, grad_delta_BLD, grad_a_BND, grad_b_BLN, grad_c_BLN, grad_skip_BD,
    )  # fmt: skip
    return grad_u_BLD, grad_delta_BLD, grad_a_BND.sum(0).T, grad_b_BLN, grad_c_BLN, grad_skip_BD.sum(0)


def _by_records(kernel: Callable[..., None], *tensors: Tensor) -> None:
    """Run a compiled loop over all records, shared among as many threads as torch has."""
    arrays = [x.detach().contiguous().numpy() for x in tensors]
    records = len(tensors[0])
    threads = min(torch.get_num_threads(), records)
    if threads <= 1:
        kernel(0, records, *arrays)
        return
    bounds = [records * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, start, stop, *arrays) for start, stop in itertools.pairwise(bounds)]:
            done.result()
