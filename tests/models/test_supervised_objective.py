"""The asymmetric loss against its golden values and a naive twin."""

from __future__ import annotations

import math

import pytest
import torch

from models.objectives.supervised import asymmetric_loss


def naive(p: float, y: int) -> float:
    q = min(1 - p + 0.05, 1)
    log_likelihood = y * math.log(max(p, 1e-8)) + (1 - y) * math.log(max(q, 1e-8))
    return -((1 - p * y - q * (1 - y)) ** (y + 4 * (1 - y))) * log_likelihood


@pytest.mark.parametrize(("p", "y", "expected"), [(0.9, 1, 0.0105361), (0.2, 0, 8.22752e-5), (0.3, 1, 0.842781), (0.03, 0, 0.0)])
def test_asymmetric_loss_has_its_golden_values(p: float, y: int, expected: float) -> None:
    logit = torch.tensor([[p]], dtype=torch.float64).logit()
    assert asymmetric_loss(logit, torch.tensor([[float(y)]])).item() == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert naive(p, y) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_asymmetric_loss_is_the_sum_over_records_and_classes() -> None:
    torch.manual_seed(0)
    p_BC, y_BC = torch.rand(5, 4), (torch.rand(5, 4) < 0.5).float()
    expected = sum(naive(p, int(y)) for p, y in zip(p_BC.flatten().tolist(), y_BC.flatten().tolist(), strict=True))
    assert asymmetric_loss(p_BC.logit(), y_BC).item() == pytest.approx(expected, rel=1e-5)


def test_certain_answers_give_finite_losses_and_gradients() -> None:
    logits_BC = torch.tensor([[200.0, -200.0, 200.0, -200.0, 0.0]], requires_grad=True)
    loss = asymmetric_loss(logits_BC, torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0]]))
    loss.backward()
    assert torch.isfinite(loss) and logits_BC.grad is not None and torch.isfinite(logits_BC.grad).all()
    assert loss.item() > 10
