"""Scans against a loop over time in double precision, in every way that they are computed."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

import models.scan
from models import scan_kernels, scan_parallel
from models.errors import ConfigurationError
from models.scan import scan, selective_fused, selective_scan

Function = Callable[..., Tensor]
LENGTHS = [1, 2, 3, 31, 32, 33, 64, 83, 150]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def looped(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t, one step after the other."""
    h = [b[:, 0]]
    for a_t, b_t in zip(a.unbind(1)[1:], b.unbind(1)[1:], strict=True):
        h.append(a_t * h[-1] + b_t)
    return torch.stack(h, dim=1)


def selective_loop(u_BLD: Tensor, delta_BLD: Tensor, a_DN: Tensor, b_BLN: Tensor, c_BLN: Tensor, skip_D: Tensor) -> Tensor:
    h_BDN, out = torch.zeros(len(u_BLD), *a_DN.shape, dtype=u_BLD.dtype), []
    for u_BD, delta_BD, b_BN, c_BN in zip(*(x.unbind(1) for x in (u_BLD, delta_BLD, b_BLN, c_BLN)), strict=True):
        h_BDN = torch.exp(delta_BD[..., None] * a_DN) * h_BDN + (delta_BD * u_BD)[..., None] * b_BN[:, None]
        out.append((h_BDN * c_BN[:, None]).sum(dim=2) + skip_D * u_BD)
    return torch.stack(out, dim=1)


def fused_twin(u_BDL: Tensor, delta_BDL: Tensor, a_DN: Tensor, b_BNL: Tensor, c_BNL: Tensor, skip_D: Tensor) -> Tensor:
    """What `mamba_ssm` documents of its `selective_scan_fn`: time last."""
    assert all(x.is_contiguous() for x in (u_BDL, delta_BDL, a_DN, b_BNL, c_BNL))
    first = [x.transpose(1, 2) for x in (u_BDL, delta_BDL)]
    return selective_loop(*first, a_DN, b_BNL.transpose(1, 2), c_BNL.transpose(1, 2), skip_D).transpose(1, 2)


def pair(B: int, L: int, D: int, N: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(L)
    return [torch.rand(B, L, D, N, generator=generator), torch.randn(B, L, D, N, generator=generator)]


def selective_inputs(B: int, L: int, D: int, N: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(L)
    step_BLD = 10 ** (4 * torch.rand(B, L, D, generator=g) - 3)  # 0.001 to 10
    a_DN = -torch.arange(1, N + 1) * (0.5 + torch.rand(D, N, generator=g))
    inputs = [torch.randn(B, L, D, generator=g), step_BLD, a_DN, torch.randn(B, L, N, generator=g), torch.randn(B, L, N, generator=g)]
    return [*inputs, torch.randn(D, generator=g)]


def with_gradients(function: Function, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    (out * weight).sum().backward()
    # With one step the loop never looks at a.
    return out.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]


def compare(function: Function, truth: Function, inputs: Sequence[Tensor], device: str = "cpu") -> None:
    """Float32 against the loop in float64: outputs within 1e-5 of the largest, gradients within 1e-4."""
    expected, slopes = with_gradients(truth, [x.double() for x in inputs])
    found, found_slopes = with_gradients(function, [x.to(device) for x in inputs])
    assert found.dtype == torch.float32
    assert (found.cpu() - expected).abs().max() <= 1e-5 * expected.abs().max()
    for i, (slope, right) in enumerate(zip(found_slopes, slopes, strict=True)):
        assert slope.shape == right.shape
        assert (slope.cpu() - right).abs().max() <= 1e-4 * right.abs().max() + 1e-12, f"input {i}"


class Parallel(torch.autograd.Function):
    """What a GPU computes, on any device."""

    @staticmethod
    def forward(ctx, *inputs):
        if len(inputs) == 2:
            out = kept = scan_parallel.scan_parallel(*inputs)
        else:
            out, kept = scan_parallel.selective_parallel(*inputs)
        ctx.save_for_backward(*inputs, kept)
        return out

    @staticmethod
    def backward(ctx, gradient):
        *inputs, kept = ctx.saved_tensors
        if len(inputs) == 2:
            return scan_parallel.scan_parallel_back(inputs[0], kept, gradient)
        return scan_parallel.selective_parallel_back(gradient, *inputs, kept)


SCANS = {"by device": scan, "parallel": Parallel.apply}
SELECTIVE = {"by device": selective_scan, "parallel": Parallel.apply, "fused": lambda *x: selective_fused(fused_twin, *x)}


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("length", LENGTHS)
def test_scans_are_the_loop_at_any_length(name: str, length: int) -> None:
    compare(SCANS[name], looped, pair(2, length, 3, 4))


@pytest.mark.parametrize("name", SELECTIVE)
@pytest.mark.parametrize("length", LENGTHS)
def test_selective_scans_are_the_loop_at_any_length(name: str, length: int) -> None:
    compare(SELECTIVE[name], selective_loop, selective_inputs(2, length, 5, 4))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("width", "states"), [(1, 1), (63, 3), (64, 16), (65, 2), (130, 16)])
def test_selective_scans_of_any_width(device: str, width: int, states: int) -> None:
    compare(selective_scan, selective_loop, selective_inputs(2, 40, width, states), device)
    compare(scan, looped, pair(2, 40, width, states), device)


def test_long_scans_stay_exact() -> None:
    compare(selective_scan, selective_loop, selective_inputs(1, 1000, 8, 16))
    compare(Parallel.apply, selective_loop, selective_inputs(1, 1000, 8, 16))
    compare(scan, looped, pair(1, 1000, 8, 16))


@pytest.mark.parametrize("name", SCANS)
def test_without_memory_the_state_is_what_enters_and_with_all_of_it_the_sum(name: str) -> None:
    _, b = pair(2, 37, 3, 2)
    assert torch.equal(SCANS[name](torch.zeros_like(b), b), b)
    torch.testing.assert_close(SCANS[name](torch.ones_like(b), b), b.cumsum(dim=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("length", [1, 2, 5])
def test_gradients_of_scans_pass_the_check_in_double_precision(name: str, length: int) -> None:
    inputs = [x.double().requires_grad_() for x in pair(2, length, 2, 2)]
    assert torch.autograd.gradcheck(SCANS[name], inputs)


@pytest.mark.parametrize("name", ["by device", "parallel"])
@pytest.mark.parametrize("chunk", [2, 128])
def test_gradients_of_selective_scans_pass_the_check_in_double_precision(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_parallel, "CHUNK", chunk)
    inputs = [x.double().requires_grad_() for x in selective_inputs(2, 5, 2, 3)]
    inputs[1] = (inputs[1].detach() / 10).requires_grad_()
    assert torch.autograd.gradcheck(SELECTIVE[name], inputs)


def test_threads_share_records_and_change_nothing() -> None:
    for function, inputs in ((selective_scan, selective_inputs(5, 40, 66, 3)), (scan, pair(5, 40, 3, 2))):
        with threads(1):
            alone, slopes = with_gradients(function, inputs)
        with threads(3):
            shared, shared_slopes = with_gradients(function, inputs)
        assert torch.equal(alone, shared)
        assert all(torch.equal(a, b) for a, b in zip(slopes, shared_slopes, strict=True))


def test_inputs_need_not_be_contiguous_and_gradients_of_views_arrive() -> None:
    flipped = [x.flip(1) if x.ndim == 3 else x for x in selective_inputs(2, 33, 4, 3)]
    wide = [x.transpose(0, 1).contiguous().transpose(0, 1) if x.ndim == 3 else x.mT.contiguous().mT if x.ndim == 2 else x for x in flipped]
    assert any(not x.is_contiguous() for x in wide)
    compare(selective_scan, selective_loop, wide)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scans_compute_in_single_precision_whatever_comes_in(dtype: torch.dtype) -> None:
    inputs = [x.to(dtype) for x in selective_inputs(2, 40, 4, 3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = selective_scan(*inputs)
    assert found.dtype == torch.float32
    assert torch.equal(found, selective_scan(*(x.float() for x in inputs)))
    assert scan(*(x.to(dtype) for x in pair(1, 4, 2, 2))).dtype == torch.float32
    assert selective_scan(*(x.double() for x in inputs)).dtype == torch.float64


def test_powers_of_two_are_single_precision_down_to_the_smallest() -> None:
    for z in [-126.0, -125.9, -64.5, -3.5, -1.0, -0.5, -1e-3, -1e-7, 0.0]:
        assert scan_kernels._power_of_two(np.float32(z)) == pytest.approx(2.0**z, rel=3e-7)
    assert 0 <= scan_kernels._power_of_two(np.float32(-1e6)) <= 2.0**-126


def test_what_is_not_a_number_stays_so() -> None:
    for place in range(6):
        inputs = selective_inputs(1, 8, 3, 2)
        inputs[place].view(-1)[0] = math.nan
        assert not torch.isfinite(selective_scan(*inputs)).all(), f"input {place}"


def test_only_a_state_in_32_steps_is_kept_for_the_gradient() -> None:
    B, L, D, N = 2, 320, 64, 16
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    inputs = [x.requires_grad_() for x in selective_inputs(B, L, D, N)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        selective_scan(*inputs)
    assert sum(kept) <= sum(x.numel() for x in inputs) + B * L // scan_kernels.CHUNK * D * N
    assert sum(kept) < B * L * D * N / 4


def test_shapes_that_do_not_fit_are_refused() -> None:
    a, b = pair(2, 4, 3, 2)
    with pytest.raises(ConfigurationError, match=r"scan got b of shape \(2, 3, 3, 2\)"):
        scan(a, b[:, 1:])
    inputs = selective_inputs(2, 4, 3, 2)
    for place, name in enumerate(("delta", "a", "b", "c", "skip"), 1):
        wrong = [x[:1] if i == place else x for i, x in enumerate(inputs)]
        with pytest.raises(ConfigurationError, match=f"selective_scan got {name} of shape"):
            selective_scan(*wrong)


def test_the_fused_kernel_is_taken_where_it_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, models.scan._FUSED, None)
    models.scan._fused.cache_clear()
    assert models.scan._fused() is None
    module = ModuleType(models.scan._FUSED)
    monkeypatch.setattr(module, "selective_scan_fn", fused_twin, raising=False)
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, models.scan._FUSED, module)
    models.scan._fused.cache_clear()
    assert models.scan._fused() is fused_twin
    models.scan._fused.cache_clear()


def test_importing_the_scan_does_not_import_numba() -> None:
    code = "import sys, models.scan; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
