"""Picture of a benchmark: a forest a task, our entries and those of others over what was published under the same protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.benchmark_text import said, share
from assets.plots_page import BLUE, GREY, INK, PALETTE, figure, plain, save

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PUBLISHED = 4
_MOST_LETTERS = 40
_WIDTH, _LABELS, _FOREST, _LINE = 10.77, 2.72, 1.45, 0.185
"""Inches: the picture (1,400 pixels), names left of a forest, a forest, and a line of it."""

_HEAD, _FOOT, _TITLE, _AXIS = 0.75, 0.4, 0.32, 0.42
"""Inches: above and below all panels, and of each panel."""

_COLOURS = {"ours": BLUE, "external": PALETTE[2], "published": GREY}
_NAMES = {"ours": "ours, 95 % interval", "external": "brought by others, 95 % interval", "published": "published, interval as printed"}
_NOTE = (
    "Published numbers were obtained on the data that their source names; rows of different headings cannot be compared. "
    "The table has all published rows."
)


@dataclass(frozen=True)
class _Block:
    """Rows of one protocol and share of the labels, by falling value."""

    heading: str
    rows: list[dict[Any, Any]]


def benchmark_figure(path: Path, table: pd.DataFrame, title: str) -> None:
    """Draw a panel a task, in two columns of about the same height.

    A block of rows has one protocol and share of the labels. It has the four best published rows; a block without an entry is drawn
    for all labels only.

    Args:
        path: PNG to write.
        table: of `assets.benchmark_table`.
        title: whose benchmark.
    """
    panels = {task: blocks for task, rows in table.groupby("task", sort=False) if (blocks := list(_blocks(rows)))}
    heights = [_height(blocks) for blocks in panels.values()]
    places, ends = [], [0.0, 0.0]
    for height in heights:
        column = ends.index(min(ends))
        places.append((column, ends[column]))
        ends[column] += height
    total = _HEAD + max(ends) + _FOOT
    made = figure(_WIDTH, total, "")
    made.set_layout_engine("none")
    for (task, blocks), height, (column, top) in zip(panels.items(), heights, places, strict=True):
        left, bottom = column * _WIDTH / 2 + _LABELS, total - _HEAD - top - height + _AXIS
        ax = made.add_axes((left / _WIDTH, bottom / total, _FOREST / _WIDTH, (height - _AXIS - _TITLE) / total))
        _draw(ax, str(task), blocks)
    _explain(made, total, f"Benchmark on {title}: macro AUROC on the test folds")
    save(made, path)


def _blocks(rows: pd.DataFrame) -> Iterator[_Block]:
    """Those with entries first."""
    named = rows.assign(_share=rows["fraction"].astype(float).fillna(-1.0))
    groups = [group for _, group in named.groupby(["protocol", "_share"])]
    groups.sort(key=lambda group: bool((group["kind"] == "published").all()))
    for group in groups:
        protocol, part = str(group["protocol"].iloc[0]), float(group["_share"].iloc[0])
        printed = group[group["kind"] == "published"].sort_values("value", ascending=False)
        entries = group[group["kind"] != "published"]
        if entries.empty and 0 <= part < 1:
            continue
        heading = "protocol not stated" if protocol == "not_stated" else protocol.replace("_", " ")
        heading += f", {share(part)} of the labels" if part >= 0 else ""
        heading += f" ({_MOST_PUBLISHED} best of {len(printed)} published)" if len(printed) > _MOST_PUBLISHED else ""
        repeated = entries.duplicated(["entry", "prompts"], keep=False)
        found = [row | {"label": _label(row, several)} for row, several in zip(entries.to_dict("records"), repeated, strict=True)]
        found += [row | {"label": row["entry"]} for row in printed.head(_MOST_PUBLISHED).to_dict("records")]
        yield _Block(heading, sorted(found, key=lambda row: -row["value"]))


def _label(row: dict[Any, Any], several: bool) -> str:
    prompts = f" [{row['prompts']}]" if row["prompts"] else ""
    seed = f", seed {int(row['seed'])}" if several else ""
    return f"{row['entry']}{prompts}{seed}{', saw test patients' if row['saw_test_patients'] is True else ''}"


def _height(blocks: list[_Block]) -> float:
    return _TITLE + _AXIS + _LINE * sum(len(block.rows) + 1.2 for block in blocks)


def _draw(ax: Axes, task: str, blocks: list[_Block]) -> None:
    from matplotlib.ticker import MaxNLocator

    left = -_LABELS / _FOREST + 0.06
    ax.set_title(task, x=left, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    y = 0.0
    for block in blocks:
        y += 1.2
        ax.text(left, y, block.heading, transform=ax.get_yaxis_transform(), fontsize=7.5, fontstyle="italic", color=INK, va="center")
        ax.axhline(y - 0.65, xmin=left, color="#dfe2e6", linewidth=0.8, clip_on=False)
        for row in block.rows:
            y += 1.0
            _draw_row(ax, row, y)
    ends = [v for block in blocks for row in block.rows for v in _ends(row)]
    margin = 0.05 * max(max(ends) - min(ends), 0.05)
    ax.set(xlim=(min(ends) - margin, min(max(ends) + margin, 1.0)), ylim=(y + 0.7, 0.5), yticks=[])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    plain(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(labelsize=7.5)


def _ends(row: dict[Any, Any]) -> list[float]:
    """Everything that is drawn of a row, in the units of the axis."""
    low, high = _interval(row)
    twin = row["random_init"]
    return [low, row["value"], high, *([] if twin is None or twin != twin else [twin])]


def _interval(row: dict[Any, Any]) -> tuple[float, float]:
    """Our interval, or the printed half-width in thousandths around a published value; the value alone where there is none."""
    if row["kind"] != "published":
        return row["low"], row["high"]
    printed = re.fullmatch(r"0\.[0-9]+\(([0-9]+)\)", row["printed"] or "")
    half = int(printed[1]) / 1000 if printed else 0.0
    return row["value"] - half, row["value"] + half


def _draw_row(ax: Axes, row: dict[Any, Any], y: float) -> None:
    colour, published = _COLOURS[row["kind"]], row["kind"] == "published"
    low, high = _interval(row)
    twin = row["random_init"]
    if twin is not None and twin == twin:
        ax.plot(twin, y, "o", markersize=4.5, markerfacecolor="white", markeredgecolor=colour, markeredgewidth=1.1)
    ax.plot([low, high], [y, y], color=colour, linewidth=1.2 if published else 2.2, solid_capstyle="butt")
    ax.plot(row["value"], y, "D" if published else "o", color=colour, markersize=3.5 if published else 5)
    label = row["label"] if len(row["label"]) <= _MOST_LETTERS else f"{row['label'][: _MOST_LETTERS - 1]}…"
    text = said(row) if published else f"{row['value']:.3f} [{low:.3f}, {high:.3f}]"
    style: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(),
        "fontsize": 7.5,
        "va": "center",
        "color": "#555b66" if published else INK,
    }
    ax.text(-0.03, y, label, ha="right", **style)
    ax.text(1.03, y, text, ha="left", **style)


def _explain(made: Figure, total: float, title: str) -> None:
    """Title and legend above, a note below; all at distances in inches, however high the picture is."""
    from matplotlib.lines import Line2D

    made.text(0.01, 1 - 0.12 / total, title, fontsize=11, fontweight="bold", color=INK, va="top")
    marks = [
        Line2D([], [], color=_COLOURS[kind], marker="D" if kind == "published" else "o", markersize=4.5, label=name)
        for kind, name in _NAMES.items()
    ]
    twin = Line2D([], [], linestyle="", marker="o", markerfacecolor="white", markeredgecolor=BLUE, label="its random-initialised twin")
    marks.insert(1, twin)
    made.legend(handles=marks, loc="upper left", bbox_to_anchor=(0.005, 1 - 0.3 / total), ncols=4, frameon=False, fontsize=8.5)
    made.text(0.01, 0.12 / total, _NOTE, fontsize=7.5, color="#555b66")
