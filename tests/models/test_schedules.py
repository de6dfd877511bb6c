"""Learning rate and weight decay by step."""

from __future__ import annotations

import pytest
import torch

from models.schedules import Cosine, StepSchedule, adamw, linear

LR = Cosine(100_000, 1e-3, 1e-6, 10_000, 1e-6)
DECAY = Cosine(100_000, 0.01, 0.1)


@pytest.mark.parametrize(("step", "value"), [(0, 1e-6), (5000, 5.005e-4), (10_000, 1e-3), (55_000, 5.004913e-4), (99_999, 1e-6)])
def test_golden_learning_rates(step: int, value: float) -> None:
    assert LR(step) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("step", "value"), [(0, 0.01), (55_000, 0.062040), (99_999, 0.1)])
def test_golden_weight_decays(step: int, value: float) -> None:
    assert DECAY(step) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(("step", "value"), [(0, 0.998), (50_000, 0.99875), (99_999, 0.999499985)])
def test_golden_momentum(step: int, value: float) -> None:
    assert linear(step, 100_000, 0.998, 0.9995) == pytest.approx(value, abs=1e-9)


def test_decay_never_falls_and_values_stay_at_the_end() -> None:
    values = [DECAY(step) for step in range(0, 110_000, 500)]
    assert values == sorted(values)
    assert DECAY(150_000) == pytest.approx(0.1) and LR(150_000) == pytest.approx(1e-6)
    assert linear(7, 5, 0.0, 1.0) == 1.0
    assert Cosine(1, 2.0, 1.0)(0) == 2.0 and Cosine(0, 2.0, 1.0)(0) == 2.0


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))


def optimiser(module: torch.nn.Module, weight_decay: float = 0.01) -> torch.optim.AdamW:
    def decays(_: str, value: torch.Tensor) -> bool:
        return value.ndim > 1

    return adamw(module.named_parameters(), decays, lr=1.0, weight_decay=weight_decay, betas=(0.9, 0.99), eps=1e-6)


def schedule(optimizer: torch.optim.Optimizer) -> StepSchedule:
    return StepSchedule(optimizer, Cosine(20, 1e-2, 1e-4, 4, 1e-5), Cosine(20, 0.0, 0.3))


def walk(module: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: StepSchedule, first: int, last: int) -> list[list[float]]:
    seen = []
    for step in range(first, last):
        torch.manual_seed(step)
        optimizer.zero_grad()
        module(torch.randn(5, 3)).square().mean().backward()
        seen.append([group[name] for group in optimizer.param_groups for name in ("lr", "weight_decay")])
        optimizer.step()
        steps.step()
    return seen


def test_every_step_has_the_values_of_its_number() -> None:
    module = network()
    optimizer = optimiser(module, weight_decay=0.0)  # a decay that starts at nothing rises all the same
    seen = walk(module, optimizer, schedule(optimizer), 0, 20)
    lr, decay = Cosine(20, 1e-2, 1e-4, 4, 1e-5), Cosine(20, 0.0, 0.3)
    assert seen == [[lr(step), decay(step), lr(step), 0.0] for step in range(20)]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3]


def test_a_run_that_goes_on_has_the_values_and_weights_of_an_unbroken_one() -> None:
    whole = network()
    optimizer = optimiser(whole)
    expected = walk(whole, optimizer, schedule(optimizer), 0, 20)

    first = network()
    optimizer = optimiser(first)
    steps = schedule(optimizer)
    seen = walk(first, optimizer, steps, 0, 9)
    again = network()
    again.load_state_dict(first.state_dict())
    resumed = optimiser(again)
    resumed_steps = schedule(resumed)
    resumed.load_state_dict(optimizer.state_dict())
    resumed_steps.load_state_dict(steps.state_dict())
    seen += walk(again, resumed, resumed_steps, 9, 20)
    assert seen == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_the_state_is_plain_numbers() -> None:
    optimizer = optimiser(network())
    state = schedule(optimizer).state_dict()
    assert all(isinstance(value, int | float | list) for value in state.values())
