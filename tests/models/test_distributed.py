"""Contrastive losses in two and four processes against one process that holds the whole batch: values and all gradients."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from models.accumulation import in_parts
from models.errors import TrainingError
from models.objectives.contrastive import LogitScale, gather, info_nce, multi_pair_info_nce, rank, world_size
from models.objectives.siglip import siglip
from models.types import Batch

ROWS = 16
THREE = [("text", "ecg"), ("text", "image"), ("ecg", "image")]


class Towers(nn.Module):
    """Three little towers and a scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.ecg, self.text, self.image = (nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)) for _ in range(3))
        self.scale, self.bias = LogitScale(5.0), nn.Parameter(torch.tensor(-1.0))
        self.double()

    def towers(self, batch: Batch) -> dict[str, Tensor]:
        signal_BLT = batch.signal_BLT
        return {"ecg": self.ecg(signal_BLT[:, 0]), "text": self.text(signal_BLT[:, 1]), "image": self.image(signal_BLT[:, 2])}


Case = Callable[[Towers, dict[str, Tensor], Batch], Tensor]
Found = tuple[int, dict[str, list[float]]]


def whole() -> Batch:
    generator = torch.Generator().manual_seed(1)
    signal_BLT = torch.randn(ROWS, 3, 6, generator=generator, dtype=torch.float64)
    # The first four rows, all that the first of four processes has, hold no image; only two rows hold a panel.
    there = {"image": torch.arange(ROWS) % 3 == 1, "ecg": torch.arange(ROWS) % 5 != 2, "few": torch.arange(ROWS) >= ROWS - 2}
    there["image"][:4] = False
    return Batch(signal_BLT, torch.arange(ROWS), observed=there, group_B=torch.arange(ROWS) % 6)


def _info_nce(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    return info_nce(t["ecg"], t["text"], 1 / m.scale(), "mean") + 0 * m.bias


def _masked(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    return info_nce(t["ecg"], t["text"], 1 / m.scale(), "sum", b.group_B)


def _soft(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    return info_nce(t["ecg"], t["text"], 1 / m.scale(), "mean", b.group_B, group_form="soft")


def _siglip(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    return siglip(t["ecg"], t["text"], m.scale(), m.bias)


def _siglip_in_chunks(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    return siglip(t["ecg"], t["text"], m.scale(), m.bias, chunk_rows=3)


def _several(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    assert b.observed is not None
    observed = {k: b.observed[k] for k in ("ecg", "image")}
    return multi_pair_info_nce(t, THREE, 1 / m.scale(), weights=(1, 2, 0.5), reduction="mean", observed=observed, group=b.group_B).total


def _two_rows_on_one_process(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    assert b.observed is not None
    return multi_pair_info_nce(t, THREE, 1 / m.scale(), observed={"image": b.observed["few"]}).total


def _all_skipped(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    one_row = b.row_B == 5
    return multi_pair_info_nce(t, THREE[1:], 1 / m.scale(), observed={"image": one_row}).total


CASES: dict[str, Case] = {
    f.__name__: f for f in (_info_nce, _masked, _soft, _siglip, _siglip_in_chunks, _several, _two_rows_on_one_process, _all_skipped)
}


# The gather modes of other code: negative controls.


def _without_gradient(x_BD: Tensor) -> Tensor:
    with torch.no_grad():
        return gather(x_BD)


def _own_rows_in_place(x_BD: Tensor) -> Tensor:
    everyone = list(_without_gradient(x_BD).chunk(world_size()))
    everyone[rank()] = x_BD
    return torch.cat(everyone)


def _explicit(m: Towers, x: Tensor, y: Tensor, x_N: Tensor, y_N: Tensor, start: int) -> Tensor:
    target_B = torch.arange(len(x)) + start
    return (functional.cross_entropy(m.scale() * x @ y_N.T, target_B) + functional.cross_entropy(m.scale() * y @ x_N.T, target_B)) / 2


def _full_own_rows(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    x_N, y_N = (_own_rows_in_place(functional.normalize(t[k], dim=1)) for k in ("ecg", "text"))
    return _explicit(m, x_N, y_N, x_N, y_N, 0)


def _full_with_gradient(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    x_N, y_N = (gather(functional.normalize(t[k], dim=1)) for k in ("ecg", "text"))
    return _explicit(m, x_N, y_N, x_N, y_N, 0)


def _local_without_gradient(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    x, y = (functional.normalize(t[k], dim=1) for k in ("ecg", "text"))
    return _explicit(m, x, y, _without_gradient(x), _without_gradient(y), rank() * len(x))


OTHERS: dict[str, Case] = {f.__name__: f for f in (_full_own_rows, _full_with_gradient, _local_without_gradient)}


def result(case: Case, batch: Batch) -> Tensor:
    """Loss, gradient of the scale, gradients of towers and bias: means over processes, as DDP makes them."""
    model = Towers()
    loss = case(model, model.towers(batch), batch)
    loss.backward()
    gradients = [model.scale.log_scale.grad, *(p.grad for n, p in model.named_parameters() if not n.startswith("scale"))]
    zero = torch.zeros(1, dtype=torch.float64)
    flat = torch.cat([loss.detach()[None], *(zero if g is None else g.flatten() for g in gradients)])
    if world_size() > 1:
        dist.all_reduce(flat)
    return flat / world_size()


class Whole(nn.Module):
    """Forward is the loss, as DDP needs it."""

    def __init__(self, case: Case, accumulate: int) -> None:
        super().__init__()
        self.inner, self.case, self.accumulate = Towers(), case, accumulate

    def forward(self, batch: Batch) -> Tensor:
        return self.case(self.inner, in_parts(self.inner.towers, batch, self.accumulate), batch)


def _trained(case: Case, batch: Batch, accumulate: int) -> Tensor:
    model = Whole(case, accumulate)
    wrapped = DistributedDataParallel(model) if world_size() > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(2):  # the second step fails where the first left a parameter without a gradient
        optimizer.zero_grad()
        wrapped(batch).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Of these cases every parameter takes part, or DDP would complain.


def _all_info_nce(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    return info_nce(t["ecg"], t["text"], 1 / m.scale()) + info_nce(t["ecg"], t["image"], 1 / m.scale()) + 0 * m.bias


def _all_several(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    return _several(m, t, b) + 0 * m.bias


def _all_but_one_row(m: Towers, t: dict[str, Tensor], b: Batch) -> Tensor:
    one_row = b.row_B == 5
    return multi_pair_info_nce(t, THREE, 1 / m.scale(), observed={"image": one_row, "text": one_row}).total + 0 * m.bias


ACCUMULATED: dict[str, Case] = {f.__name__: f for f in (_all_info_nce, _all_several, _all_but_one_row)}


def _work(index: int, world: int, port: int, queue: mp.SimpleQueue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=index, world_size=world)
    mine = whole().part(index * ROWS // world, (index + 1) * ROWS // world)
    found = {name: result(case, mine).tolist() for name, case in {**CASES, **OTHERS}.items()}
    found |= {name: _trained(case, mine, 2).tolist() for name, case in ACCUMULATED.items()}
    try:
        gather(mine.signal_BLT[: 2 + index % 2])
    except TrainingError as error:
        found["uneven"] = [str(error)]
    if index == 0:
        queue.put(found)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def several(request: pytest.FixtureRequest) -> Found:
    """How many processes, and what they found."""
    world = request.param
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_work, args=(world, port, queue), nprocs=world)
    return world, queue.get()


@pytest.mark.parametrize("name", list(CASES))
def test_processes_equal_one_batch(name: str, several: Found) -> None:
    found, expected = torch.tensor(several[1][name], dtype=torch.float64), result(CASES[name], whole())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert (expected[0] > 0.1) == (name != "_all_skipped")


def test_what_other_gather_modes_do(several: Found) -> None:
    """Full matrix without gradient: towers get 1/W. Full with gradient: right, at W times the logits. Local without: wrong."""
    world, right = several[0], result(_info_nce, whole())
    found = {name: torch.tensor(several[1][name], dtype=torch.float64) for name in OTHERS}
    for values in found.values():
        torch.testing.assert_close(values[:2], right[:2], rtol=0, atol=1e-9)  # loss and scale
    torch.testing.assert_close(found["_full_own_rows"][2:], right[2:] / world, rtol=0, atol=1e-9)
    torch.testing.assert_close(found["_full_with_gradient"], right, rtol=0, atol=1e-9)
    wrong = found["_local_without_gradient"][2:]
    assert functional.cosine_similarity(wrong, right[2:], dim=0) < 0.98
    assert not 0.95 < wrong.norm() / right[2:].norm() < 1.05


@pytest.mark.parametrize("name", list(ACCUMULATED))
def test_two_steps_in_parts_under_ddp_equal_one_process(name: str, several: Found) -> None:
    found, expected = torch.tensor(several[1][name], dtype=torch.float64), _trained(ACCUMULATED[name], whole(), 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_unequal_batches_are_refused_by_every_process(several: Found) -> None:
    assert "different size (2, 3" in str(several[1]["uneven"][0])
