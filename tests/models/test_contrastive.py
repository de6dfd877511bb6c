"""The contrastive loss against its definition written out, and against itself in two processes."""

from __future__ import annotations

import math
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from models.errors import TrainingError
from models.objectives.contrastive import gather, info_nce


def naive(x_BD: Tensor, y_BD: Tensor, tau: float) -> float:
    B = len(x_BD)

    def similarity(a: Tensor, b: Tensor) -> float:
        return float((a @ b) / (a.norm() * b.norm())) / tau

    total = 0.0
    for i in range(B):
        rows = [math.exp(similarity(x_BD[i], y_BD[j])) for j in range(B)]
        columns = [math.exp(similarity(x_BD[j], y_BD[i])) for j in range(B)]
        total += -math.log(rows[i] / sum(rows)) - math.log(columns[i] / sum(columns))
    return total / B


def pair(B: int, D: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B)
    return torch.randn(B, D, generator=generator, dtype=torch.float64), torch.randn(B, D, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("B", [1, 2, 7])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_equals_the_double_loop(B: int, tau: float) -> None:
    x_BD, y_BD = pair(B)
    assert info_nce(x_BD, y_BD, tau).item() == pytest.approx(naive(x_BD, y_BD, tau), rel=1e-9)
    assert info_nce(x_BD, y_BD, tau, "mean").item() == pytest.approx(naive(x_BD, y_BD, tau) / 2, rel=1e-9)


def test_known_values() -> None:
    same = torch.ones(8, 3)
    assert info_nce(same, same, 0.07).item() == pytest.approx(2 * math.log(8), abs=1e-5)
    apart = torch.eye(8, dtype=torch.float64)
    assert info_nce(apart, apart, 0.07).item() == pytest.approx(2 * math.log(1 + 7 * math.exp(-1 / 0.07)), rel=1e-9)
    assert info_nce(apart, apart, 0.07).item() == pytest.approx(8.7e-6, abs=1e-7)


def test_symmetries() -> None:
    x_BD, y_BD = pair(6)
    loss, order = info_nce(x_BD, y_BD, 0.07), torch.tensor([3, 1, 0, 5, 4, 2])
    torch.testing.assert_close(info_nce(x_BD[order], y_BD[order], 0.07), loss)
    torch.testing.assert_close(info_nce(y_BD, x_BD, 0.07), loss)
    torch.testing.assert_close(info_nce(x_BD * torch.arange(1, 7)[:, None], y_BD, 0.07), loss)
    assert abs(info_nce(x_BD[order], y_BD, 0.07) - loss) > 1e-3


def test_half_precision_embeddings_are_compared_in_full_precision() -> None:
    x_BD, y_BD = pair(16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(x_BD.float(), y_BD.float(), 0.07)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(x_BD, y_BD, 0.07), rel=1e-5)


def _towers() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))  # type: ignore[return-value]


def _work(rank: int, world: int, port: int, queue: mp.SimpleQueue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    generator = torch.Generator().manual_seed(1)
    a_BF, b_BF = (torch.randn(8, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
    towers = _towers()
    loss = info_nce(a_BF[mine] @ towers[0], b_BF[mine] @ towers[1], 0.07)
    loss.backward()
    values = torch.cat([loss.detach()[None], *(t.grad.flatten() for t in towers if t.grad is not None)]) / world
    dist.all_reduce(values)
    uneven = ""
    try:
        gather(a_BF[: 2 + rank])
    except TrainingError as error:
        uneven = str(error)
    if rank == 0:
        queue.put((values.tolist(), uneven))
    dist.destroy_process_group()


def test_two_processes_equal_one() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_work, args=(2, port, queue), nprocs=2)
    values, uneven = queue.get()
    generator = torch.Generator().manual_seed(1)
    a_BF, b_BF = (torch.randn(8, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    towers = _towers()
    loss = info_nce(a_BF @ towers[0], b_BF @ towers[1], 0.07)
    loss.backward()
    expected = torch.cat([loss.detach()[None], *(t.grad.flatten() for t in towers if t.grad is not None)])
    torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), expected, rtol=0, atol=1e-9)
    assert "different size (2, 3)" in uneven
