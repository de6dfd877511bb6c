"""How often people are right and how far they agree: Wilson's interval, the binomial test, Fleiss' kappa."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def wilson_interval(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson, 1927); from 0 to 1 where nothing was asked."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = right / n
    centre, reach = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, (centre - reach) / (1 + z**2 / n)), min(1.0, (centre + reach) / (1 + z**2 / n))


def binomial_p(right: int, n: int, chance: float = 0.5) -> float:
    """Two-sided p of the exact binomial test against a chance; 1 where nothing was asked."""
    from scipy.stats import binomtest

    return float(binomtest(right, n, chance).pvalue) if n else 1.0


def fleiss_kappa(counts_NK: NDArray[np.integer]) -> float:
    """Agreement of raters beyond chance (Fleiss, 1971).

    Args:
        counts_NK: how many raters gave each subject each answer; every subject has the same number of raters, two or more.

    Returns:
        1 for full agreement, 0 for that of chance; NaN where nobody can disagree: fewer than two raters, no subject, or one answer only.
    """
    raters = int(counts_NK.sum(axis=1).max(initial=0))
    if raters < 2 or (counts_NK.sum(axis=1) != raters).any():
        return math.nan
    agreed = float(((counts_NK.astype(np.float64) ** 2).sum(axis=1) - raters).mean() / (raters * (raters - 1)))
    chance = float(np.square(counts_NK.sum(axis=0) / counts_NK.sum()).sum())
    return math.nan if chance == 1 else (agreed - chance) / (1 - chance)
