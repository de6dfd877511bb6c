"""Counting operations: near the sum over layers, and without a trace in the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.methods.merl.spec import SPEC
from models.registry import create_method
from models.throughput import flops_per_record
from models.types import Batch


def test_count_is_that_of_the_layers_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    method = create_method("merl", SPEC.configure("tiny"))
    batch = Batch(torch.randn(2, 12, 1000), torch.arange(2), ["sinus rhythm", "normal ecg"])
    multiplications = []
    hooks = [
        m.register_forward_hook(lambda m, _, out: multiplications.append(out[0].numel() * m.weight[0].numel()))
        for m in method.modules()
        if isinstance(m, nn.Conv1d)
    ]
    method.eval().encode(batch)
    for hook in hooks:
        hook.remove()
    state, random_state = {k: v.clone() for k, v in method.state_dict().items()}, torch.get_rng_state()
    counted = flops_per_record(method.train(), batch)
    # Forward, gradient of the weights and gradient of the input: three products of two operations a multiplication.
    assert counted == pytest.approx(6 * sum(multiplications), rel=0.25)
    assert all(torch.equal(state[k], v) for k, v in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.grad is None for p in method.parameters())


def test_parts_of_a_batch_are_no_more_operations() -> None:
    batch = Batch(torch.randn(2, 12, 1000), torch.arange(2), ["sinus rhythm", "normal ecg"])
    once, in_parts = (flops_per_record(create_method("merl", SPEC.configure("tiny", accumulate=n)), batch) for n in (1, 4))
    assert once == in_parts
