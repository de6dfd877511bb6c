"""What an evaluation says of the Challenges' task, as Markdown: every encoder's scores, and the classes of the one with most labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assets.challenge_scoring import ACCURACY, PER_CLASS, F
from assets.outputs import Output
from models.metrics.names import CHALLENGE_METRIC

if TYPE_CHECKING:
    import pandas as pd

Rows = dict[str, Mapping[Any, Any]]
"""Rows of one prediction table by metric."""

_QUESTION = ["dataset", "task", "protocol", "channels", "fraction", "prompts", "arm"]
_MACRO = (CHALLENGE_METRIC, F, ACCURACY, "macro_auroc", "macro_auprc")
_MACRO_HEADER = [
    "task",
    "protocol",
    "labels",
    "prompts",
    "channels",
    "encoder",
    "n",
    "challenge metric",
    "F",
    "accuracy",
    "AUROC",
    "AUPRC",
    "threshold",
]
_CLASS_HEADER = ["class", "AUROC", "AUPRC", "F", "support"]


def challenge_text(output: Output) -> str | None:
    """The tables of an evaluation, or None where it has no challenge metric."""
    import pandas as pd

    metrics = pd.read_parquet(output.path("metrics.parquet"))
    if CHALLENGE_METRIC not in set(metrics["metric"]):
        return None
    return to_markdown(metrics)


def to_markdown(metrics: pd.DataFrame) -> str:
    """The same from rows of metrics.parquet."""
    tables: dict[tuple[Any, ...], Rows] = {}
    for row in metrics.assign(fraction=metrics["fraction"].fillna(-1.0)).sort_values(_QUESTION).to_dict("records"):
        tables.setdefault(tuple(row[c] for c in _QUESTION), {})[str(row["metric"])] = row
    judged = [rows for rows in tables.values() if CHALLENGE_METRIC in rows]
    lines = _grid(_MACRO_HEADER, [_macro(rows) for rows in judged])
    pretrained = [rows for rows in judged if rows[CHALLENGE_METRIC]["arm"] == "pretrained"]
    if pretrained:
        most = max(pretrained, key=lambda rows: float(rows[CHALLENGE_METRIC]["fraction"]))
        about = most[CHALLENGE_METRIC]
        lines += ["", f"Classes of {about['protocol']} {_share(about['fraction'])}".rstrip(), "", *_grid(_CLASS_HEADER, _classes(most))]
    return "\n".join(lines)


def _macro(rows: Rows) -> list[str]:
    about = rows[CHALLENGE_METRIC]
    where = [about["task"], about["protocol"], _share(about["fraction"]), about["prompts"], about["channels"] or "all", about["arm"]]
    return [*where, f"{about['n_records']} of {about['n_patients']} patients", *(_value(rows[m]) for m in _MACRO), about["note"]]


def _classes(rows: Rows) -> list[list[str]]:
    names = [m.removeprefix("f_measure:") for m in rows if m.startswith("f_measure:")]
    return [
        [
            name,
            *(_number(rows[f"{start}:{name}"]["value"]) for start in ("auroc", *PER_CLASS)),
            rows[f"f_measure:{name}"]["note"].split()[0],
        ]
        for name in names
    ]


def _value(row: Mapping[Any, Any]) -> str:
    """A value with its interval, and of how many classes it is where some have none."""
    interval = "" if row["low"] != row["low"] else f" ({row['low']:.3f} to {row['high']:.3f})"
    among = f", {row['n_classes']} classes" if row["n_undefined"] else ""
    return _number(row["value"]) + interval + among


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def _share(fraction: float) -> str:
    return "" if fraction < 0 else f"{fraction:.0%}"


def _grid(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
