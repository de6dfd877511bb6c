"""Names of metrics, for those who compute nothing: imports nothing heavy."""

from __future__ import annotations

NUMBER_METRICS = ("mae", "rmse", "r2", "pearson")
"""Of predicted numbers."""

LOWER_IS_BETTER = frozenset({"mae", "rmse"})
