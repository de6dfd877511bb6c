"""Counting operations: near the sum over layers, and without a trace in the network. Speed: records, share of the peak, waiting."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from models.methods.merl.spec import SPEC
from models.registry import create_method
from models.throughput import Meter, flops_per_record, peak_flops, spell_speed
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


def test_the_peak_of_a_cpu_is_measured_quickly() -> None:
    started = time.process_time()
    peak = peak_flops(torch.device("cpu"), "32-true")
    assert time.process_time() - started < 2 * torch.get_num_threads()
    assert 1e8 < peak < 1e14


def test_a_meter_reads_what_happened_since_it_was_last_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    meter = Meter(flops=2e6, peak=1e9)
    meter.start(waited_s=1.0)
    now = 104.0
    assert meter.read(800, waited_s=2.0) == {"records_per_s": 200.0, "mfu": 0.4, "wait_share": 0.25}
    now = 106.0
    assert meter.read(100, waited_s=2.0) == {"records_per_s": 50.0, "mfu": 0.1, "wait_share": 0.0}
    meter.peak = None
    now = 107.0
    assert meter.read(7, waited_s=2.5) == {"records_per_s": 7.0, "mfu": None, "wait_share": 0.5}


def test_speed_in_words() -> None:
    assert spell_speed({"records_per_s": 200.0, "mfu": 0.4, "wait_share": 0.25}) == (
        "200 records/s, MFU 40.0% of the measured peak, 25.0% of the time waiting for data"
    )
    assert "MFU" not in spell_speed({"records_per_s": 200.0, "mfu": None, "wait_share": 0.25})
