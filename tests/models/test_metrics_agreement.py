"""Intervals, tests and agreement against statsmodels' and scipy's forms, published examples and their own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from models.metrics.agreement import binomial_p, fleiss_kappa, wilson_interval


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (50, 100), (64, 100), (100, 100), (1, 1)])
def test_wilsons_interval_is_scipys(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_where_nothing_was_asked_nothing_is_known() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0) and binomial_p(0, 0) == 1.0


@pytest.mark.parametrize(("right", "n"), [(50, 100), (61, 100), (39, 100), (9, 10)])
def test_the_binomial_p_sums_what_is_no_likelier_than_what_was_seen(right: int, n: int) -> None:
    chance = [math.comb(n, k) / 2**n for k in range(n + 1)]
    assert binomial_p(right, n) == pytest.approx(sum(p for p in chance if p <= chance[right] * (1 + 1e-9)))


def test_fleiss_kappa_is_that_of_the_published_example() -> None:
    """Fourteen raters and ten subjects in five categories (the example of the textbooks, kappa 0.210)."""
    counts_NK = np.array(
        [
            [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
        ]
    )  # fmt: skip
    assert fleiss_kappa(counts_NK) == pytest.approx(0.20993, abs=1e-5)


def test_fleiss_kappa_is_one_for_agreement_and_below_zero_for_opposition() -> None:
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert fleiss_kappa(np.array([[1, 1], [1, 1]])) == -1


@pytest.mark.parametrize("counts", [[[1, 0], [0, 1]], [[2, 0], [2, 0]], [[2, 0], [1, 0]], np.zeros((0, 2), int)])
def test_fleiss_kappa_is_undefined_where_nobody_can_disagree(counts: list[list[int]]) -> None:
    assert math.isnan(fleiss_kappa(np.array(counts)))
