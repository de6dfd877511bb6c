"""The Fréchet distance against its closed forms and against scipy's matrix root."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from models.errors import TrainingError
from models.metrics.fid import frechet_distance


def features(n: int, seed: int, width: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def test_it_is_zero_for_equal_sets() -> None:
    x_NF = features(200, 0)
    assert frechet_distance(x_NF, x_NF) <= 1e-3 * np.trace(np.cov(x_NF, rowvar=False))


def test_it_is_zero_for_equal_sets_of_fewer_rows_than_features() -> None:
    x_NF = features(5, 0, width=40)
    assert frechet_distance(x_NF, x_NF) <= 1e-3 * np.trace(np.cov(x_NF, rowvar=False))


def test_a_shift_adds_its_squared_length() -> None:
    x_NF, y_NF, shift_F = features(200, 0), features(150, 1), np.array([1.0, -2.0, 0.5, 0.0, 3.0, 0.25])
    shifted = frechet_distance(x_NF, x_NF + shift_F)
    assert shifted == pytest.approx(shift_F @ shift_F, rel=1e-6)
    centred_NF = y_NF - y_NF.mean(axis=0) + x_NF.mean(axis=0)
    assert frechet_distance(x_NF, centred_NF + shift_F) - frechet_distance(x_NF, centred_NF) == pytest.approx(shift_F @ shift_F, rel=1e-6)


def test_it_is_symmetric() -> None:
    x_NF, y_NF = features(200, 0), features(150, 1)
    assert frechet_distance(x_NF, y_NF) == pytest.approx(frechet_distance(y_NF, x_NF), rel=1e-9)


def test_it_is_what_the_matrix_root_gives() -> None:
    x_NF, y_NF = features(200, 0), features(150, 1)
    s, t = np.cov(x_NF, rowvar=False), np.cov(y_NF, rowvar=False)
    apart_F = x_NF.mean(axis=0) - y_NF.mean(axis=0)
    assert frechet_distance(x_NF, y_NF) == pytest.approx(apart_F @ apart_F + np.trace(s + t - 2 * sqrtm(s @ t).real), rel=1e-8)


@pytest.mark.parametrize(("first", "second"), [((1, 3), (5, 3)), ((5, 3), (5, 4))])
def test_sets_without_a_distance_are_refused(first: tuple[int, int], second: tuple[int, int]) -> None:
    with pytest.raises(TrainingError, match="not defined"):
        frechet_distance(np.zeros(first), np.zeros(second))


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TrainingError, match="not finite"):
        frechet_distance(np.full((3, 2), np.nan), np.zeros((3, 2)))
