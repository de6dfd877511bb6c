"""Symile's loss against its definition written out in loops, and against itself in two and four processes."""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from models.errors import ConfigurationError, TrainingError
from models.objectives import symile
from models.objectives.contrastive import info_nce
from models.objectives.symile import (
    Negatives,
    check_logits,
    information_bound,
    initial_log_scale,
    mip,
    mip_scores,
    n_candidates,
    pairwise_loss,
    symile_loss,
)


def vectors(n_modalities: int, B: int, D: int = 5, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, D, generator=generator, dtype=torch.float64) for _ in range(n_modalities)]


def naive_mip(rows: Sequence[Tensor]) -> float:
    return sum(math.prod(float(row[k]) for row in rows) for k in range(len(rows[0])))


def naive_entropy(logits: list[float], true: int) -> float:
    high = max(logits)
    return high + math.log(sum(math.exp(v - high) for v in logits)) - logits[true]


def naive_n_squared(x: Sequence[Tensor], scale: float) -> float:
    """Every anchor row against every tuple of rows of the other modalities."""
    m, B = len(x), len(x[0])
    total = 0.0
    for anchor in range(m):
        others = [j for j in range(m) if j != anchor]
        tuples = list(itertools.product(range(B), repeat=m - 1))
        for n in range(B):
            logits = [scale * naive_mip([x[anchor][n], *(x[j][row] for j, row in zip(others, rows, strict=True))]) for rows in tuples]
            total += naive_entropy(logits, tuples.index((n,) * (m - 1)))
    return total / (m * B)


def naive_n(x: Sequence[Tensor], scale: float, permutations: np.ndarray) -> float:
    m, B = len(x), len(x[0])
    total = 0.0
    for anchor in range(m):
        for n in range(B):
            logits = []
            for column in range(B):
                row = [n if column == n else int(permutations[anchor, j, column]) for j in range(m)]
                logits.append(scale * naive_mip([x[j][n if j == anchor else row[j]] for j in range(m)]))
            total += naive_entropy(logits, n)
    return total / (m * B)


def shuffles(m: int, N: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([[generator.permutation(N) for _ in range(m)] for _ in range(m)])


@pytest.mark.parametrize(("m", "B"), [(2, 6), (3, 6), (4, 4), (5, 3), (3, 1)])
def test_all_combinations_equal_the_enumeration(m: int, B: int) -> None:
    x = vectors(m, B)
    assert symile_loss(x, 1.7, "n_squared").item() == pytest.approx(naive_n_squared(x, 1.7), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("m", "B"), [(2, 7), (3, 7), (4, 5), (5, 4), (3, 1)])
def test_given_permutations_equal_the_double_loop(m: int, B: int) -> None:
    x, order = vectors(m, B), shuffles(m, B)
    assert symile_loss(x, 1.7, "n", order).item() == pytest.approx(naive_n(x, 1.7, order), rel=1e-9, abs=1e-12)


def test_permutations_are_drawn_anchor_by_anchor_from_the_global_generator() -> None:
    x, m, B = vectors(4, 9), 4, 9
    torch.manual_seed(7)
    order = torch.full((m, m, B), -1)
    for anchor in range(m):
        for other in (j for j in range(m) if j != anchor):
            order[anchor, other] = torch.randperm(B)
    after = torch.rand(1)
    torch.manual_seed(7)
    drawn = symile_loss(x, 2.0)
    assert torch.rand(1) == after
    assert torch.equal(drawn, symile_loss(x, 2.0, "n", order))
    torch.manual_seed(8)
    assert symile_loss(x, 2.0) != drawn


def test_two_modalities_with_all_combinations_are_symmetric_info_nce() -> None:
    u_BD, v_BD = (torch.nn.functional.normalize(x_BD, dim=1) for x_BD in vectors(2, 8))
    torch.testing.assert_close(symile_loss([u_BD, v_BD], 14.0, "n_squared"), info_nce(u_BD, v_BD, 1 / 14, "mean"))


@pytest.mark.parametrize("m", [3, 4])
def test_symmetries(m: int) -> None:
    x, order = vectors(m, 5), torch.tensor([3, 1, 0, 4, 2])
    loss = symile_loss(x, 1.3, "n_squared")
    torch.testing.assert_close(symile_loss([x_BD[order] for x_BD in x], 1.3, "n_squared"), loss)
    torch.testing.assert_close(symile_loss(x[::-1], 1.3, "n_squared"), loss)
    flip_D = torch.tensor([1.0, 1.0, -1.0, 1.0, 1.0])
    torch.testing.assert_close(symile_loss([x[0] * flip_D, x[1] * flip_D, *x[2:]], 1.3, "n_squared"), loss)
    assert abs(symile_loss([x[0] * flip_D, *x[1:]], 1.3, "n_squared") - loss) > 1e-3
    assert abs(symile_loss([x[0][order], *x[1:]], 1.3, "n_squared") - loss) > 1e-3


@pytest.mark.parametrize("negatives", ["n", "n_squared"])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_equal_embeddings_give_the_logarithm_of_the_candidates(negatives: Negatives, m: int) -> None:
    x = [torch.ones(6, 4, dtype=torch.float64)] * m
    loss = symile_loss(x, 3.0, negatives)
    assert loss.item() == pytest.approx(math.log(n_candidates(negatives, m, 6)), rel=1e-12)
    assert information_bound(loss, negatives, m, 6).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("m", [3, 4])
def test_chunks_change_neither_value_nor_gradients(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = [x_BD.requires_grad_() for x_BD in vectors(m, 7)]
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    whole = symile_loss(x, scale, "n_squared")
    expected = torch.autograd.grad(whole, [*x, scale])
    monkeypatch.setattr(symile, "_CHUNK_FLOATS", 3 * 7 * 5)
    parts = symile_loss(x, scale, "n_squared")
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
    for found, wanted in zip(torch.autograd.grad(parts, [*x, scale]), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("negatives", ["n", "n_squared"])
def test_gradient_reaches_every_modality_and_the_scale(negatives: Negatives) -> None:
    x = [x_BD.requires_grad_() for x_BD in vectors(4, 5)]
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    symile_loss(x, scale, negatives).backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in [*x, scale])


@pytest.mark.parametrize("negatives", ["n", "n_squared"])
def test_half_precision_embeddings_are_compared_in_full_precision(negatives: Negatives) -> None:
    x, order = [x_BD.float() for x_BD in vectors(3, 6)], shuffles(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = symile_loss(x, 2.0, negatives, order)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(symile_loss([x_BD.double() for x_BD in x], 2.0, negatives, order).item(), rel=1e-5)


def test_score_is_the_loop_and_linear_in_each_argument() -> None:
    x = vectors(3, 4)
    assert mip(x).tolist() == pytest.approx([naive_mip([x_BD[n] for x_BD in x]) for n in range(4)])
    torch.testing.assert_close(mip(x[:2]), (x[0] * x[1]).sum(1))
    scores_QC = mip_scores(x[:2], x[2])
    for q, c in itertools.product(range(4), repeat=2):
        assert scores_QC[q, c].item() == pytest.approx(naive_mip([x[0][q], x[1][q], x[2][c]]))
    torch.testing.assert_close(mip_scores([x[0][1], x[1][1]], x[2]), scores_QC[1:2])
    torch.testing.assert_close(mip_scores([x[0][1], x[1]], x[2])[1], scores_QC[1])
    torch.testing.assert_close(mip_scores([2 * x[0] + x[1], x[1]], x[2]), 2 * scores_QC + mip_scores([x[1], x[1]], x[2]))
    torch.testing.assert_close(mip_scores(x[:2], 3 * x[2]), 3 * scores_QC)
    torch.testing.assert_close(mip_scores(x[:1], x[2]), mip_scores([x[0], torch.ones_like(x[1])], x[2]))
    with pytest.raises(ConfigurationError, match="at least one modality"):
        mip_scores([], x[2])


def test_start_of_the_scale_keeps_the_spread_of_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    spreads = []
    for m, D in ((2, 64), (3, 64), (5, 64), (3, 1024)):
        unit = [torch.nn.functional.normalize(torch.randn(4000, D, generator=generator), dim=1) for _ in range(m)]
        spreads.append(float(mip(unit).std()) * math.exp(initial_log_scale(1 / 0.07, m, D)) * math.sqrt(D))
    assert spreads == pytest.approx([1 / 0.07] * 4, rel=0.06)
    assert initial_log_scale(1 / 0.07, 2, 512) == pytest.approx(2.65926, abs=1e-5)


def test_unfit_input_is_refused() -> None:
    x = vectors(3, 4)
    with pytest.raises(ConfigurationError, match="no negatives 'n2'; choose one of n, n_squared"):
        symile_loss(x, 1.0, "n2")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="two or more modalities"):
        symile_loss(x[:1], 1.0)
    with pytest.raises(TrainingError, match=r"\(4, 5\), \(4, 5\), \(3, 5\)"):
        symile_loss([*x[:2], x[2][:3]], 1.0)
    with pytest.raises(TrainingError, match=r"\(3, 3, 4\) are needed"):
        symile_loss(x, 1.0, "n", np.zeros((3, 4), dtype=int))
    with pytest.raises(TrainingError, match="each hold the rows 0 to 3 once"):
        symile_loss(x, 1.0, "n", np.zeros((3, 3, 4), dtype=int))
    with pytest.raises(ConfigurationError, match="need 64 logits an anchor, more than 63"):
        symile_loss(x, 1.0, "n_squared", most_logits=63)
    symile_loss(x, 1.0, "n_squared", most_logits=64)


def test_too_many_logits_are_refused_before_anything_is_allocated() -> None:
    check_logits("n_squared", 3, 256, 256)
    check_logits("n", 8, 4096, 4096)
    with pytest.raises(ConfigurationError, match="lower batch_size, choose negatives='n'"):
        symile_loss([torch.zeros(1, 1).expand(5000, 8192)] * 3, 1.0, "n_squared")


def naive_pairwise(x: Sequence[Tensor], scale: float, has: Sequence[Sequence[bool]]) -> float:
    total = 0.0
    for a, b in itertools.combinations(range(len(x)), 2):
        rows = [n for n in range(len(x[0])) if has[a][n] and has[b][n]]
        if len(rows) < 2:
            continue
        for u, v in ((x[a], x[b]), (x[b], x[a])):
            terms = [naive_entropy([scale * float(u[n] @ v[c]) for c in rows], rows.index(n)) for n in rows]
            total += sum(terms) / len(rows) / 2
    return total


def test_pairwise_baseline_sums_over_pairs() -> None:
    x = [torch.nn.functional.normalize(x_BD, dim=1) for x_BD in vectors(3, 6)]
    loss, skipped = pairwise_loss(x, 14.0)
    expected = sum(info_nce(x[a], x[b], 1 / 14, "mean") for a, b in itertools.combinations(range(3), 2))
    assert skipped == 0 and loss.item() == pytest.approx(float(expected), rel=1e-9)
    assert loss.item() == pytest.approx(naive_pairwise(x, 14.0, [[True] * 6] * 3), rel=1e-9)


def test_pairwise_baseline_leaves_out_rows_that_lack_a_side() -> None:
    x = [x_BD.requires_grad_() for x_BD in vectors(3, 6)]
    has = [[True, True, False, True, True, True], [True] * 6, [False, False, True, False, False, True]]
    loss, skipped = pairwise_loss(x, 1.5, [torch.tensor(row) for row in has])
    assert loss.item() == pytest.approx(naive_pairwise([x_BD.detach() for x_BD in x], 1.5, has), rel=1e-9) and skipped == 1
    none, skipped = pairwise_loss(x, 1.5, [torch.zeros(6, dtype=torch.bool)] * 3)
    none.backward()
    assert none.item() == 0 and skipped == 3 and all(t.grad is not None and torch.isfinite(t.grad).all() for t in x)


_OBSERVED = [[True] * 8, [True, False, True, True, False, True, True, True], [True, True, True, False, True, True, False, True]]


def _gradients(mine: slice, world: int) -> Tensor:
    """Value of each loss and its gradients by three linear towers and the logarithm of the scale, for one process's rows."""
    inputs = [x_BF[mine] for x_BF in vectors(3, 8, 6, seed=1)]
    found = []
    for name in ("n", "n_squared", "pairwise", "observed"):
        towers = [w.requires_grad_() for w in vectors(3, 6, 4, seed=2)]
        log_scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
        embeddings = [x_BF @ w for x_BF, w in zip(inputs, towers, strict=True)]
        torch.manual_seed(5 + 100 * (mine.start or 0))  # processes draw different numbers, and use those of the first
        if name in ("n", "n_squared"):
            loss = symile_loss(embeddings, log_scale.exp(), name)  # type: ignore[arg-type]
        else:
            observed = None if name == "pairwise" else [torch.tensor(row)[mine] for row in _OBSERVED]
            loss, _ = pairwise_loss(embeddings, log_scale.exp(), observed)
        loss.backward()
        found += [loss.detach()[None], *(t.grad.flatten() for t in [*towers, log_scale] if t.grad is not None)]
    return torch.cat(found) / world


def _work(rank: int, world: int, port: int, queue: mp.SimpleQueue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    values = _gradients(slice(rank * 8 // world, (rank + 1) * 8 // world), world)
    dist.all_reduce(values)
    if rank == 0:
        queue.put(values.tolist())
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_equal_one(world: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_work, args=(world, port, queue), nprocs=world)
    expected = _gradients(slice(0, 8), 1)
    torch.testing.assert_close(torch.tensor(queue.get(), dtype=torch.float64), expected, rtol=0, atol=1e-9)
