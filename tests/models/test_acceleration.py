"""What a GPU is given beyond the default, as far as a machine without one can tell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from models.acceleration import allow_tf32, choose_precision, compile_parts, pinned
from models.optim import adamw
from models.types import Batch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


class Tiny(nn.Module):
    """A function of few operations."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(4, width)

    def forward(self, value_BF: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(value_BF)) * 2


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Nothing compiled before or after."""
    import torch._dynamo

    torch._dynamo.reset()
    with torch._dynamo.config.patch(suppress_errors=False, recompile_limit=8):
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("bf16", "kind", "expected"), [(True, "cuda", "bf16-mixed"), (False, "cuda", "32-true"), (True, "cpu", "32-true")])
def test_automatic_precision_is_bfloat16_on_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, kind: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    assert choose_precision("auto", torch.device(kind)) == expected
    assert choose_precision("16-mixed", torch.device(kind)) == "16-mixed"


@pytest.mark.usefixtures("_fresh")
def test_compiled_in_place_a_module_computes_the_same_for_every_length() -> None:
    torch.manual_seed(0)
    module = Tiny()
    names = list(module.state_dict())
    inputs = [torch.randn(n, 4) for n in (2, 5, 7, 9)]
    expected = [module(value) for value in inputs]
    compiled: list[str] = []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]) -> Callable[..., object]:
        compiled.append(str(graph.graph))
        return graph.forward

    compile_parts([module], backend)
    for value, known in zip(inputs, expected, strict=True):
        assert torch.equal(module(value), known)
    assert len(compiled) == 2  # the second length makes it dynamic
    assert list(module.state_dict()) == names


@pytest.mark.usefixtures("_fresh")
def test_networks_of_many_blocks_are_compiled_to_the_last() -> None:
    blocks = [Tiny(width) for width in range(1, 13)]
    compiled: list[str] = []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]) -> Callable[..., object]:
        compiled.append(str(graph.graph))
        return graph.forward

    compile_parts(blocks, backend)
    for block in blocks:
        block(torch.randn(2, 4))
    assert len(compiled) == 12


@pytest.mark.usefixtures("_fresh")
def test_what_cannot_be_compiled_runs_as_it_is_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> Callable[..., object]:
        raise RuntimeError("no compiler here")

    module, value = Tiny(), torch.randn(2, 4)
    expected = module(value)
    compile_parts([module], broken)
    logging.getLogger("torch._dynamo").addHandler(caplog.handler)
    try:
        assert torch.equal(module(value), expected)
    finally:
        logging.getLogger("torch._dynamo").removeHandler(caplog.handler)
    assert "no compiler here" in caplog.text


def test_nothing_to_compile_changes_nothing() -> None:
    import torch._dynamo

    before = torch._dynamo.config.suppress_errors
    compile_parts([])
    assert torch._dynamo.config.suppress_errors == before


def test_the_optimiser_on_a_cpu_is_that_of_torch() -> None:
    parts = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    ours = adamw([{"params": [parts[0]], "weight_decay": 0.5}, {"params": [parts[1]]}], lr=0.1, betas=(0.9, 0.95))
    assert [group["weight_decay"] for group in ours.param_groups] == [0.5, 0.01]
    assert not any(group["fused"] for group in ours.param_groups)
    assert len(adamw(iter(parts), lr=0.1).param_groups[0]["params"]) == 2


def test_batches_for_a_cpu_are_left_alone() -> None:
    batch = Batch(torch.zeros(2, 1, 3), torch.arange(2))
    signal_BLT = batch.signal_BLT
    assert pinned(batch, torch.device("cpu")).signal_BLT is signal_BLT


@needs_gpu
@pytest.mark.usefixtures("_fresh")
def test_a_gpu_has_a_compiler() -> None:
    module, value = Tiny().cuda(), torch.randn(2, 4, device="cuda")
    expected = module(value)
    compile_parts([module])
    torch.testing.assert_close(module(value), expected)


@needs_gpu
def test_on_a_gpu_the_optimiser_is_fused_and_batches_are_pinned() -> None:
    allow_tf32()
    assert torch.get_float32_matmul_precision() == "high"
    assert adamw([nn.Parameter(torch.ones(3, device="cuda"))], lr=0.1).param_groups[0]["fused"]
    assert pinned(Batch(torch.zeros(2, 1, 3), torch.arange(2)), torch.device("cuda")).signal_BLT.is_pinned()
