"""Pictures of what an encoder finds, writes and looks at: recalls, reports beside their ECG, explanations over X-ray and ECG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.plots_page import BLUE, GREY, HEAD_MM, INK, MAJOR, PALETTE, SIDE_MM, EcgPage, figure, page_figure, plain, save

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_TEXT_MM = 108.0
_LINE_CHARACTERS, _MOST_LINES = 46, 13
_IMAGE_MM = 112.0
_TINTS = {"recall@1": BLUE, "recall@5": "#6d9bd1", "recall@10": "#b4cdea", "accuracy": PALETTE[2]}


def retrieval_figure(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Draw recalls and accuracies by direction: bars with intervals, the random-initialised twin as a ring, chance as a line.

    Args:
        path: PNG to write.
        rows: of metrics.parquet, the shares of both arms: direction, metric, arm, value, low, high, chance.
        title: printed above.
    """
    directions = list(dict.fromkeys(rows["direction"]))
    made = figure(11.0, 1.6 + max(0.95 * len(directions), 1.6), title)
    ax = made.subplots()
    for d, direction in enumerate(directions):
        here = rows[rows["direction"] == direction]
        metrics = [m for m in _TINTS if m in set(here["metric"])]
        for m, metric in enumerate(metrics):
            y = d + 0.78 * ((m + 0.5) / len(metrics) - 0.5)
            by_arm = {row.arm: row for row in here[here["metric"] == metric].itertuples()}
            _bar(ax, y, 0.7 / len(metrics), by_arm, _TINTS[metric])
    ax.set_yticks(range(len(directions)), [f"{d}\namong {_candidates(rows, d)}" for d in directions], fontsize=9)
    ax.set(xlim=(0, 1), ylim=(len(directions) - 0.5, -0.5), xlabel="share of queries")
    plain(ax)
    ax.grid(visible=False, axis="y")
    _legend(ax, [m for m in _TINTS if m in set(rows["metric"])])
    save(made, path)


def _candidates(rows: pd.DataFrame, direction: str) -> str:
    note = str(rows[rows["direction"] == direction]["note"].iloc[0])
    return note.split(";")[0].removeprefix("among ")


def _bar(ax: Axes, y: float, height: float, by_arm: dict[str, Any], colour: str) -> None:
    ours, twin = by_arm.get("pretrained"), by_arm.get("random_init")
    if ours is not None:
        ax.barh(y, ours.value, height=height, color=colour)
        ax.plot([ours.low, ours.high], [y, y], color=INK, linewidth=1.2)
        ax.text(1.01, y, f"{ours.value:.3f} ({ours.low:.3f}-{ours.high:.3f})", transform=ax.get_yaxis_transform(), fontsize=8, va="center")
        ax.plot([ours.chance, ours.chance], [y - height / 2, y + height / 2], color="#a8324a", linewidth=2.0)
    if twin is not None:
        ax.plot(twin.value, y, "o", markersize=5, markerfacecolor="white", markeredgecolor=GREY)


def _legend(ax: Axes, metrics: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: list[Any] = [Patch(color=_TINTS[m], label=m if m != "accuracy" else "accuracy among lists") for m in metrics]
    marks.append(Line2D([], [], color=INK, linewidth=1.2, label="95 % interval"))
    marks.append(Line2D([], [], color="#a8324a", linewidth=2.0, label="chance"))
    marks.append(Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=GREY, label="random initialised"))
    ax.legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(marks), frameon=False, fontsize=9)


def report_figure(path: Path, page: EcgPage, title: str, reference: str, generated: str) -> None:
    """Draw an ECG on the clinical grid and beside it the report that stands in the data and the one that was written."""
    made, ax, (total_w, total_h) = page_figure(page, title, beside_mm=_TEXT_MM)
    page.draw(ax)
    left = (page.size_mm[0] + 2 * SIDE_MM + 2.0) / total_w
    top = 1 - (HEAD_MM + 3.0) / total_h
    for heading, text, colour in (("Report in the data", reference, INK), ("Report written by the method", generated, BLUE)):
        made.text(left, top, heading, fontsize=12, fontweight="bold", color=colour, va="top")
        made.text(left, top - 7.0 / total_h, _wrapped(text), fontsize=11.5, color=INK, va="top", linespacing=1.25)
        top -= page.size_mm[1] / 2 / total_h
    save(made, path)


def _wrapped(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, _LINE_CHARACTERS)] or ["(empty)"]
    shown = lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], f"... and {len(lines) - _MOST_LINES + 1} lines more"]
    return "\n".join(shown).replace("$", r"\$")  # matplotlib takes what stands between dollars for mathematics


@dataclass(frozen=True)
class Look:
    """An X-ray and an ECG with what a decision rests on.

    Attributes:
        image_HW: grey, 0 to 255.
        image_map_HW: in [0, 1], of the same shape.
        page: the ECG.
        ecg_map_T: in [0, 1], one value a sample.
    """

    image_HW: NDArray[Any]
    image_map_HW: NDArray[Any]
    page: EcgPage
    ecg_map_T: NDArray[Any]


def explanation_figure(path: Path, look: Look, title: str) -> None:
    """Draw an X-ray under its heat map, beside its ECG with the relevance as colour under the traces."""
    from matplotlib.cm import ScalarMappable

    made, ax, total = page_figure(look.page, title, left_mm=_IMAGE_MM)
    look.page.draw(ax, look.ecg_map_T)
    picture = _square(made, total)
    picture.imshow(look.image_HW, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    picture.imshow(look.image_map_HW, cmap="YlOrRd", vmin=0, vmax=1, alpha=0.65 * look.image_map_HW, interpolation="nearest")
    picture.set(xticks=[], yticks=[])
    bar = made.add_axes(((SIDE_MM + 4.0) / total[0], 6.0 / total[1], 60.0 / total[0], 3.0 / total[1]))
    made.colorbar(ScalarMappable(cmap="YlOrRd"), cax=bar, orientation="horizontal", ticks=[0, 1])
    bar.set_xticks([0, 1], ["none", "most"], fontsize=8)
    bar.set_title("relevance, each picture by itself", fontsize=8, color="#444b57", loc="left", pad=2)
    bar.tick_params(length=0)
    save(made, path)


def _square(made: Figure, total: tuple[float, float]) -> Axes:
    """Axes at the left, below the title."""
    side = min(_IMAGE_MM - 4.0, total[1] - HEAD_MM - 16.0)
    ax = made.add_axes((SIDE_MM / total[0], 1 - (HEAD_MM + side) / total[1], side / total[0], side / total[1]))
    for spine in ax.spines.values():
        spine.set(color=MAJOR, linewidth=0.8)
    return ax
