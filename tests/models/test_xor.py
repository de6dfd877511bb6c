"""Symile's XOR experiment: closed forms against enumeration, and networks against the closed forms."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from benchmarks import xor


def joint(length: int, share: float) -> dict[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], float]:
    """p(a, b, c), written out."""
    found: dict[tuple[tuple[int, ...], ...], float] = defaultdict(float)
    vectors = list(itertools.product((0, 1), repeat=length))
    for a, b in itertools.product(vectors, vectors):
        for c, p in ((tuple(x ^ y for x, y in zip(a, b, strict=True)), share), (a, 1 - share)):
            found[a, b, c] += p / len(vectors) ** 2
    return {k: v for k, v in found.items() if v > 0}  # type: ignore[misc]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_closed_forms_equal_the_enumeration(length: int, share: float) -> None:
    table = joint(length, share)
    marginals = [Counter[tuple[int, ...]]() for _ in range(3)]
    best: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = defaultdict(float)
    for key, p in table.items():
        for marginal, value in zip(marginals, key, strict=True):
            marginal[value] += p  # type: ignore[assignment]
        best[key[0], key[2]] = max(best[key[0], key[2]], p)
    correlation = sum(p * math.log(p / math.prod(m[v] for m, v in zip(marginals, key, strict=True))) for key, p in table.items())
    assert xor.total_correlation(length, share) == pytest.approx(correlation, abs=1e-12)
    assert xor.best_accuracy(length, share) == pytest.approx(sum(best.values()), abs=1e-12)


@cache
def trained(objective: xor.Objective, length: int, share: float, seed: int = 0) -> xor.Outcome:
    return xor.train(objective, length, share, seed, epochs=4)


def test_tuples_solve_what_pairs_cannot_see() -> None:
    assert trained("symile", 5, 1.0, 0).accuracy >= 0.99
    assert trained("symile", 5, 1.0, 1).accuracy >= 0.99
    assert trained("pairwise", 5, 1.0).accuracy < 0.1


@pytest.mark.parametrize(("length", "share"), [(5, 0.0), (5, 0.5), (5, 1.0), (1, 0.5)])
def test_accuracy_follows_the_closed_form(length: int, share: float) -> None:
    assert trained("symile", length, share).accuracy == pytest.approx(xor.best_accuracy(length, share), abs=0.03)


@pytest.mark.parametrize(("length", "share", "below"), [(5, 1.0, 0.05), (1, 0.5, 0.05), (5, 0.0, 0.15), (5, 0.5, 2.0)])
def test_bound_stays_below_the_total_correlation_and_close_where_maps_can_represent_it(length: int, share: float, below: float) -> None:
    correlation = xor.total_correlation(length, share)
    assert correlation - below <= trained("symile", length, share).bound <= correlation + 0.05


def test_missing_variables_do_not_matter_in_the_end() -> None:
    assert xor.train("symile", 1, 1.0, 0, xor.MISSING, epochs=4).accuracy == 1.0


def test_page_and_figure_are_made_of_results(tmp_path: Path) -> None:
    grid = {
        (objective, length, share): [xor.Outcome(0.5, 0.25)] * 5
        for objective in ("symile", "pairwise")
        for length in xor.LENGTHS
        for share in xor.SHARES
    }
    many = {(start, m): [1.0, 0.5, 1.0] for start in xor.STARTS for m in xor.MANY}
    results = xor.Results(grid, many, [1.0], 2.5)  # type: ignore[arg-type]
    xor.draw_figure(tmp_path / "images" / "xor.png", results)
    assert (tmp_path / "images" / "xor.png").read_bytes().startswith(b"\x89PNG")
    text = xor.page(results)
    assert xor.COMMAND in text and "m = 8 1 of 3 (fixed) and 1 of 3 (scale-aware)" in text and "{" not in text
