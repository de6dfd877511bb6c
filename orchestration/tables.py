"""Tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd


def leaderboard_table(table: pd.DataFrame) -> Table:
    """The leaderboard as a person reads it: ours with its interval, both baselines, and what was published."""
    shown = Table(
        title="Leaderboard: macro AUROC on the test folds",
        caption="in brackets: 95 % interval, 1,000 patient resamples; published: as printed, protocols differ, see the source in the table's file",
        box=None,
    )
    for name, justify in (
        ("dataset/task", "left"),
        ("method", "left"),
        ("protocol", "left"),
        ("labels", "right"),
        ("ours", "left"),
        ("random init", "left"),
        ("gain", "left"),
        ("supervised", "left"),
        ("published", "right"),
    ):
        shown.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in table[table["kind"] == "ours"].to_dict("records"):
        protocol = str(row["protocol"]) + (f" ({row['prompts']})" if row["prompts"] else "")
        shown.add_row(
            f"{row['dataset']}/{row['task']}", str(row["method"]), protocol, _share(row["fraction"]),
            _interval(row, "value", "low", "high"), _number(row.get("random_init")),
            _interval(row, "gain", "gain_low", "gain_high", sign=True), _number(row.get("supervised")), _number(row.get("published")),
        )  # fmt: skip
    return shown


def _missing(value: object) -> bool:
    return value is None or value != value


def _number(value: object, sign: bool = False) -> str:
    return "" if _missing(value) else f"{float(value):{'+' if sign else ''}.3f}"  # type: ignore[arg-type]


def _interval(row: dict[object, object], value: str, low: str, high: str, sign: bool = False) -> str:
    if _missing(row.get(value)):
        return ""
    bounds = "" if _missing(row.get(low)) else f" [{_number(row[low], sign)}, {_number(row[high], sign)}]"
    return (_number(row[value], sign) + bounds).replace("[", r"\[")


def _share(value: object) -> str:
    return "" if _missing(value) else f"{float(value):.0%}"  # type: ignore[arg-type]
