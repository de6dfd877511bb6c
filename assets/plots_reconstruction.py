"""Pictures of reconstructed leads: over the true ones on the clinical grid, and their errors beside the baselines'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.plots_page import BLUE, GREY, INK, ORANGE, PALETTE, EcgPage, figure, page_figure, plain, save

if TYPE_CHECKING:
    import pandas as pd

_ARMS = {"pretrained": ("reconstructed", BLUE), "linear_regression": ("linear regression", ORANGE), "zero": ("zero output", GREY)}
_METRICS = {"mse": "mean squared error, mV²", "mae": "mean absolute error, mV", "pearson": "correlation"}
_TRUE = "#b9bec7"


def overlay_figure(path: Path, true: EcgPage, found: EcgPage, kept: tuple[str, ...], title: str) -> None:
    """Draw an ECG on the clinical grid with the reconstruction over it, in colour where the lead was not shown.

    Args:
        path: PNG to write.
        true: the recording.
        found: the reconstruction, of the same leads and length; it is shifted by the recording's medians, so that offsets show.
        kept: leads that the network was shown; only the recording is drawn of these.
        title: printed above.
    """
    from matplotlib.lines import Line2D

    made, ax, _ = page_figure(true, title)
    true.draw(ax, ink=_TRUE)
    shown = {name: trace_T for name, trace_T in found.traces.items() if name not in kept}
    replace(found, traces=shown).trace(ax, true, BLUE)
    replace(true, traces={name: true.traces[name] for name in kept}).trace(ax, true, INK)
    marks = [Line2D([], [], color=INK, label="shown to the network"), Line2D([], [], color=_TRUE, label="recorded, not shown")]
    marks.append(Line2D([], [], color=BLUE, label="reconstructed"))
    ax.legend(handles=marks, loc="lower right", ncols=3, fontsize=8, framealpha=0.9)
    save(made, path)


def lead_errors_figure(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Draw the errors of every missing lead as bars with intervals, baselines beside them, the random-initialised twin as a ring.

    Args:
        path: PNG to write.
        rows: of metrics.parquet, protocol "reconstruction" of all arms.
        title: printed above.
    """
    from matplotlib.lines import Line2D

    by_metric: dict[tuple[str, str], dict[Any, Any]] = {(str(row["arm"]), str(row["metric"])): row for row in rows.to_dict("records")}
    leads = [m.partition(":")[2] for m in dict.fromkeys(rows["metric"]) if m.startswith("mse:")]
    made = figure(11.0, 8.6, title)
    axes = made.subplots(len(_METRICS), 1, sharex=True)
    for ax, (metric, label) in zip(axes, _METRICS.items(), strict=True):
        names = [metric, *(f"{metric}:{lead}" for lead in leads)]
        for a, (arm, (_, colour)) in enumerate(_ARMS.items()):
            for place, name in enumerate(names):
                if (row := by_metric.get((arm, name))) is not None and row["value"] == row["value"]:
                    x = place + 0.27 * (a - 1)
                    ax.bar(x, row["value"], width=0.25, color=colour)
                    ax.plot([x, x], [row["low"], row["high"]], color=INK, linewidth=1.0)
        twins = [(i, by_metric["random_init", n]["value"]) for i, n in enumerate(names) if ("random_init", n) in by_metric]
        ax.plot([i - 0.27 for i, _ in twins], [v for _, v in twins], "o", markersize=5, markerfacecolor="white", markeredgecolor=PALETTE[3])
        ax.set_ylabel(label, fontsize=9)
        plain(ax)
        ax.grid(visible=False, axis="x")
    axes[-1].set_xticks(range(len(leads) + 1), ["mean", *leads], fontsize=9)
    marks: list[Any] = [Line2D([], [], color=colour, linewidth=7, label=label) for label, colour in _ARMS.values()]
    marks.append(Line2D([], [], color=INK, linewidth=1.2, label="95 % interval"))
    marks.append(Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=PALETTE[3], label="random initialised"))
    axes[0].legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(marks), frameon=False, fontsize=8.5)
    save(made, path)
