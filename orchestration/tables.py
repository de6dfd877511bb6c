"""Tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd


def leaderboard_table(table: pd.DataFrame) -> Table:
    """The leaderboard as a person reads it: ours with its interval, both baselines, and what was published."""
    shown = Table(
        title="Leaderboard: macro AUROC on the test folds, where no other metric is named",
        caption="in brackets: 95 % interval over 1,000 patient resamples. gain: over the same encoder with random weights, paired. "
        "published: as printed in the paper, on all its data",
        box=None,
        title_justify="left",
        caption_justify="left",
    )
    for name in ("", "ours", "random init", "gain", "supervised", "published"):
        shown.add_column(name, no_wrap=True)
    ours = table[table["kind"] == "ours"]
    for (dataset, task), rows in ours.groupby(["dataset", "task"], sort=False):
        shown.add_row(f"[bold]{dataset}/{task}[/]")
        for row in rows.to_dict("records"):
            shown.add_row(
                f"  {_what(row)}",
                _interval(row, "value", "low", "high"),
                _number(row["random_init"]),
                _interval(row, "gain", "gain_low", "gain_high", sign=True),
                _number(row["supervised"]),
                _number(row["published"]),
            )
    return shown


def _what(row: dict[Any, Any]) -> str:
    share = "" if _missing(row["fraction"]) else f" {row['fraction']:.0%}"
    prompts = "".join(f" ({row[c]})" for c in ("prompts", "channels") if row[c])
    metric = "" if row["metric"] == "macro_auroc" else f" {row['direction']} {row['metric']}".replace("  ", " ")
    return f"{row['method']} {row['preset']}, {str(row['protocol']).replace('_', ' ')}{share}{prompts}{metric}"


def _missing(value: Any) -> bool:
    return value is None or value != value


def _number(value: Any, sign: bool = False) -> str:
    return "" if _missing(value) else f"{float(value):{'+' if sign else ''}.3f}"


def _interval(row: dict[Any, Any], value: str, low: str, high: str, sign: bool = False) -> str:
    if _missing(row[value]):
        return ""
    bounds = "" if _missing(row[low]) else f" [{_number(row[low], sign)}, {_number(row[high], sign)}]"
    return escape(_number(row[value], sign) + bounds)
