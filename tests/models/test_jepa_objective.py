"""Which patches are hidden, and the loss on what is predicted there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.objectives.jepa import feature_spread, hide_blocks, jepa_loss, sample_masks

N = 200


def runs(hidden_N: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of hidden patches."""
    edge = np.diff(np.r_[0, hidden_N.astype(int), 0])
    return (np.flatnonzero(edge == -1) - np.flatnonzero(edge == 1)).tolist()


def hide_slowly(n: int, keep: int, min_block: int) -> NDArray[np.bool_]:
    """The published algorithm on a list of intervals, word for word, with the random numbers of one record."""
    free, todo, done = [(0, n)], n - keep, 0
    hidden_N = np.zeros(n, bool)
    while done < todo:
        u = torch.rand(1, 3, dtype=torch.float64)[0].tolist()
        place = int(u[0] * sum(b - a for a, b in free))
        number = 0
        while place >= free[number][1] - free[number][0]:
            place -= free[number][1] - free[number][0]
            number += 1
        a, b = free[number]
        room, length = todo - done, b - a
        size = min_block + int(u[1] * (room - min_block + 1)) if room >= min_block else room
        if length <= size:
            start, size = a, length
        elif room >= min_block:
            start = a + int(u[2] * (b - size - a + 1))
        else:
            choices = [a] * (a > 0) + [b - size] * (b < n)
            start = choices[int(u[2] * len(choices))]
        free[number] = (a, start)
        free.append((start + size, b))
        hidden_N[start : start + size] = True
        done += size
    return hidden_N


@pytest.mark.parametrize(("n", "keep", "min_block"), [(200, 31, 10), (200, 50, 10), (40, 8, 2), (50, 10, 3), (30, 5, 12)])
def test_blocks_are_those_of_the_published_algorithm(n: int, keep: int, min_block: int) -> None:
    for seed in range(150):
        torch.manual_seed(seed)
        expected_N = hide_slowly(n, keep, min_block)
        torch.manual_seed(seed)
        assert (hide_blocks(1, n, keep, min_block)[0] == expected_N).all(), seed


def test_blocks_have_the_measured_statistics() -> None:
    torch.manual_seed(0)
    hidden = [row for _ in range(150) for row in sample_hidden(20)]
    lengths = [length for row in hidden for length in runs(row)]
    counts = [len(runs(row)) for row in hidden]
    assert np.mean(counts) == pytest.approx(2.67, abs=0.06)
    assert np.mean(lengths) == pytest.approx(59.7, abs=1.5)
    assert np.median(lengths) == pytest.approx(42, abs=3)
    assert min(lengths) == 10


def sample_hidden(batch: int) -> NDArray[np.bool_]:
    hide_BH = sample_masks("blocks", batch, N, 0.15, 0.25, 10).hide_BH
    return torch.zeros(batch, N, dtype=torch.bool).scatter(1, hide_BH, True).numpy()


@pytest.mark.parametrize(("n", "min_block"), [(200, 10), (40, 2), (50, 3)])
def test_masks_part_the_patches_of_every_record(n: int, min_block: int) -> None:
    shares = set()
    for seed in range(60):
        torch.manual_seed(seed)
        keep_BK, hide_BH = sample_masks("blocks", 6, n, 0.15, 0.25, min_block)
        both_BN = torch.cat([keep_BK, hide_BH], dim=1)
        assert torch.equal(both_BN.sort(dim=1).values, torch.arange(n).expand(6, -1)), "each patch once"
        assert (keep_BK.diff(dim=1) > 0).all() and (hide_BH.diff(dim=1) > 0).all(), "ascending"
        assert math.ceil(0.15 * n) <= keep_BK.shape[1] <= math.ceil(0.25 * n)
        hidden_BN = torch.zeros(6, n, dtype=torch.bool).scatter(1, hide_BH, True).numpy()
        assert min(min(runs(row)) for row in hidden_BN) >= min_block
        assert len({row.tobytes() for row in hidden_BN}) > 1, "records differ"
        shares.add(keep_BK.shape[1])
    assert len(shares) > 2, "batches keep different numbers"


@pytest.mark.parametrize(("kind", "low", "high", "least", "most"), [("columns", 0.6, 0.7, 30, 35), ("union", 0.175, 0.225, 11, 44)])
def test_masks_of_kim_are_the_same_in_every_record(kind: str, low: float, high: float, least: int, most: int) -> None:
    seen = set()
    for seed in range(200):
        torch.manual_seed(seed)
        keep_BK, hide_BH = sample_masks(kind, 3, 50, low, high, 10)  # type: ignore[arg-type]
        assert torch.equal(hide_BH, hide_BH[:1].expand(3, -1)) and torch.equal(keep_BK, keep_BK[:1].expand(3, -1))
        assert torch.cat([keep_BK[0], hide_BH[0]]).sort().values.tolist() == list(range(50))
        assert least <= hide_BH.shape[1] <= most
        hidden_N = np.isin(np.arange(50), hide_BH[0].numpy())
        assert kind == "columns" or min(runs(hidden_N)) >= int(low * 50)
        seen |= set(hide_BH[0].tolist())
    assert seen == set(range(50)), "every column is hidden at times"


def test_a_seed_decides_the_masks() -> None:
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(sample_masks("blocks", 5, N, 0.15, 0.25, 10).hide_BH)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0][:, :100], drawn[2][:, :100])


def test_loss_is_the_plain_mean_difference() -> None:
    prediction, target = torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5, 4)
    difference = (prediction - target).abs().numpy()
    assert jepa_loss(prediction, target, "l1").item() == pytest.approx(difference.mean(), rel=1e-6)
    huber = np.where(difference < 1, 0.5 * difference**2, difference - 0.5)
    assert jepa_loss(prediction, target, "smooth_l1").item() == pytest.approx(huber.mean(), rel=1e-6)
    assert jepa_loss(target, target, "l1").item() == 0


def test_spread_of_features_falls_to_zero_with_equal_targets() -> None:
    target = torch.randn(7, 1, 9, 6)
    expected = target.flatten(0, 2).numpy().std(axis=0, ddof=1).mean()
    assert feature_spread(target).item() == pytest.approx(expected, rel=1e-5)
    assert feature_spread(target[:1, :, :1].expand(7, 1, 9, 6)).item() == 0
