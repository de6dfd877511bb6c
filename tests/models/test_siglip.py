"""The sigmoid loss against its definition written out, and its memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.objectives.siglip import SigLip, siglip


def naive(x_BD: Tensor, y_BD: Tensor, scale: float, bias: float) -> float:
    B, total = len(x_BD), 0.0
    for i in range(B):
        for j in range(B):
            z = scale * float((x_BD[i] @ y_BD[j]) / (x_BD[i].norm() * y_BD[j].norm())) + bias
            total += math.log(1 + math.exp(-z if i == j else z))
    return total / B


def pair(B: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B)
    return torch.randn(B, 5, generator=generator, dtype=torch.float64), torch.randn(B, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("chunk_rows", [None, 1, 3, 7, 100])
@pytest.mark.parametrize("bias", [-10.0, 0.0, 2.0])
def test_equals_the_double_loop(chunk_rows: int | None, bias: float) -> None:
    x_BD, y_BD = pair(7)
    assert siglip(x_BD, y_BD, 10.0, bias, chunk_rows).item() == pytest.approx(naive(x_BD, y_BD, 10.0, bias), rel=1e-9)


def test_undecided_cells_cost_ln_2_each() -> None:
    x_BD, y_BD = pair(6)
    assert siglip(x_BD, y_BD, 0.0, 0.0).item() == pytest.approx(6 * math.log(2), rel=1e-12)


def test_chunks_have_the_gradients_of_the_whole() -> None:
    def gradients(chunk_rows: int | None) -> list[Tensor]:
        x_BD, y_BD = (t.requires_grad_() for t in pair(8))
        loss = SigLip(chunk_rows=chunk_rows).double()
        total = loss(x_BD, y_BD)
        return [total, *torch.autograd.grad(total, [x_BD, y_BD, *loss.parameters()])]

    for whole, cut in zip(gradients(None), gradients(3), strict=True):
        torch.testing.assert_close(cut, whole, rtol=0, atol=1e-9)


def test_chunks_hold_no_matrix_for_the_way_back() -> None:
    def largest(chunk_rows: int | None) -> int:
        sizes: list[int] = []
        x_BD, y_BD = (torch.randn(64, 4, requires_grad=True) for _ in range(2))
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            siglip(x_BD, y_BD, torch.tensor(10.0), torch.tensor(-10.0), chunk_rows)
        return max(sizes)

    assert largest(None) == 64 * 64
    assert largest(8) == 64 * 4


def test_starts_at_ten_and_minus_ten_and_learns_both() -> None:
    loss = SigLip()
    assert loss.scale.log_scale.item() == pytest.approx(math.log(10)) and loss.bias.item() == -10
    loss(*pair(4)).backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())


def test_full_precision_under_autocast_and_a_limit() -> None:
    x_BD, y_BD = (t.bfloat16() for t in pair(16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = siglip(x_BD, y_BD, 10.0, -10.0, 4)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(naive(x_BD.double(), y_BD.double(), 10, -10), rel=1e-5)
    with pytest.raises(ConfigurationError, match="256 logits"):
        siglip(x_BD, y_BD, 10.0, -10.0, most_logits=255)
    siglip(x_BD, y_BD, 10.0, -10.0, chunk_rows=4, most_logits=64)
