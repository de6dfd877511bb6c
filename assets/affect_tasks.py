"""Tasks of wearable recordings: which state a person was in, window by window; those of WESAD (Schmidt et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.dataset import Task

if TYPE_CHECKING:
    import pandas as pd

AFFECTS = ("baseline", "stress", "amusement")

AFFECT_TASKS = {
    "affect3": Task("affect3", "Affective state", AFFECTS, {c: c for c in AFFECTS}, kind="single_label", per_window=True),
    "stress2": Task(
        "stress2", "Stress against baseline and amusement", ("stress",), {"stress": "stress"}, may_be_empty=True, per_window=True
    ),
}
"""`affect3`: which of the three; `stress2`: stress against both others."""


def affect_table(windows: pd.DataFrame, task: str) -> pd.DataFrame:
    """Label table of windows (record_id, start, condition), of which none has another condition."""
    held = {name: (windows["condition"] == name).astype("int8") for name in AFFECT_TASKS[task].classes}
    return windows[["record_id", "start"]].assign(**held)
