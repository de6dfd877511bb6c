"""Fréchet distance of two sets of features, as if each were normally distributed (Heusel et al., 2017).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

Covariances divide by n - 1. They have full rank only where n is larger than the number of features, so n is reported beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingError


def frechet_distance(first_NF: NDArray[np.floating], second_MF: NDArray[np.floating]) -> float:
    """The distance of two sets of features (N, F) and (M, F), 0 for equal ones.

    (S1 S2)^(1/2) has the eigenvalues of (S1^(1/2) S2 S1^(1/2))^(1/2), which is symmetric: no complex root has to be cut off.

    Raises:
        TrainingError: a set has fewer than two rows, the sets differ in width, or a feature is not finite.
    """
    if first_NF.ndim != 2 or second_MF.ndim != 2 or first_NF.shape[1] != second_MF.shape[1] or min(len(first_NF), len(second_MF)) < 2:
        raise TrainingError(
            f"the distance of feature sets {first_NF.shape} and {second_MF.shape} is not defined; give two or more rows each, of one width"
        )
    if not (np.isfinite(first_NF).all() and np.isfinite(second_MF).all()):
        raise TrainingError("features that are not finite have no distance; look at the signals that they come from")
    mean_1F, cov_1FF = _normal(first_NF)
    mean_2F, cov_2FF = _normal(second_MF)
    value_F, vector_FF = np.linalg.eigh(cov_1FF)
    root_FF = (vector_FF * np.sqrt(value_F.clip(0))) @ vector_FF.T
    cross = np.sqrt(np.linalg.eigvalsh(root_FF @ cov_2FF @ root_FF).clip(0)).sum()
    apart = mean_1F - mean_2F
    return float(max(0.0, apart @ apart + np.trace(cov_1FF) + np.trace(cov_2FF) - 2 * cross))


def _normal(rows_NF: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows_NF = rows_NF.astype(np.float64)
    return rows_NF.mean(axis=0), np.atleast_2d(np.cov(rows_NF, rowvar=False))
