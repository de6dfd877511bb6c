"""Picture of how questions are answered: exact match by question type, with recordings and with a flat line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.answer_scoring import TEXT_ONLY, WITH_RECORDINGS
from assets.plots_page import BLUE, GREY, INK, PALETTE, figure, plain, save

if TYPE_CHECKING:
    import pandas as pd

_CHANCE = "#a8324a"
_SHOWN = {WITH_RECORDINGS: ("with the recordings", BLUE), TEXT_ONLY: ("with a flat line", PALETTE[2])}


def answers_figure(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Draw exact match by question type: bars with intervals, the random-initialised twin as a ring, the most frequent answer as a line.

    Args:
        path: PNG to write.
        rows: of metrics.parquet, exact match of all tables: direction, protocol, arm, value, low, high, chance.
        title: printed above.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    directions = list(dict.fromkeys(rows["direction"]))
    made = figure(10.0, 1.8 + 0.9 * len(directions), title)
    ax = made.subplots()
    for d, direction in enumerate(directions):
        for p, (protocol, (_, colour)) in enumerate(_SHOWN.items()):
            here = rows[(rows["direction"] == direction) & (rows["protocol"] == protocol)]
            by_arm: dict[str, Any] = {row["arm"]: row for row in here.to_dict("records")}
            y = d + 0.38 * (p - 0.5)
            if ours := by_arm.get("pretrained"):
                ax.barh(y, ours["value"], height=0.34, color=colour)
                ax.plot([ours["low"], ours["high"]], [y, y], color=INK, linewidth=1.2)
                ax.plot([ours["chance"]] * 2, [y - 0.19, y + 0.19], color=_CHANCE, linewidth=2.0)
                said = f"{ours['value']:.3f} ({ours['low']:.3f}-{ours['high']:.3f})"
                ax.text(1.01, y, said, transform=ax.get_yaxis_transform(), fontsize=8, va="center")
            if twin := by_arm.get("random_init"):
                ax.plot(twin["value"], y, "o", markersize=5, markerfacecolor="white", markeredgecolor=GREY)
    ax.set_yticks(range(len(directions)), [d or "all questions" for d in directions], fontsize=9)
    ax.set(xlim=(0, 1), ylim=(len(directions) - 0.5, -0.5), xlabel="share of questions answered exactly")
    plain(ax)
    ax.grid(visible=False, axis="y")
    marks: list[Any] = [Patch(color=colour, label=name) for name, colour in _SHOWN.values()]
    marks.append(Line2D([], [], color=INK, linewidth=1.2, label="95 % interval"))
    marks.append(Line2D([], [], color=_CHANCE, linewidth=2.0, label="most frequent answer"))
    marks.append(Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=GREY, label="random initialised"))
    ax.legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(marks), frameon=False, fontsize=8.5)
    save(made, path)
