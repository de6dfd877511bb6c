"""Names of metrics, for those who compute nothing: imports nothing heavy."""

from __future__ import annotations

NUMBER_METRICS = ("mae", "rmse", "r2", "pearson")
"""Of predicted numbers."""

CHALLENGE_METRIC = "challenge_metric"
"""Of the PhysioNet/CinC Challenges 2020 and 2021: at most 1, 0 for always sinus rhythm, and below for worse."""

LOWER_IS_BETTER = frozenset({"mae", "rmse", "mse", "fid", "limb_residual"})
