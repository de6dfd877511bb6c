"""Pictures: ECGs on the clinical grid, loss curves, ROC curves and the leaderboard, as PNG files.

Figures are drawn without pyplot, so nothing stays open and any thread may draw. A picture knows no access class: whoever
asks for one decides where it may go.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.types import LEADS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


_MM_PER_S, _MM_PER_MV, _INCH_MM = 25.0, 10.0, 25.4
_ROW_MM, _MARGIN_MM, _PULSE_MM = 30.0, 5.0, 10.0
_PAPER, _MINOR, _MAJOR, _INK = "#fffafa", "#f9d6d6", "#f0a8a8", "#16202e"
_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9772b", "#8a8f98"
_PALETTE = ("#1f5fa8", "#d9772b", "#2d8659", "#a8324a", "#6d4fa3", "#7a6a2f", "#2c8c99", "#c2508f", "#555b66", "#94a321")


def ecg_figure(
    path: Path,
    signal_LT: NDArray[Any],
    leads: Sequence[str],
    fs_hz: float,
    title: str,
    n_seconds: float = 10.0,
    units: Sequence[str] | None = None,
) -> None:
    """Draw an ECG at 25 mm/s and 10 mm/mV in true proportions.

    The twelve standard leads stand in three rows of four with lead II as rhythm strip below; any other set of channels in
    one row each. Each trace is shifted to its median. A channel whose unit is not "uV" is scaled to its row and says so.

    Args:
        path: PNG to write.
        signal_LT: microvolts (or the channel's own unit), shape (leads, samples); NaN leaves a gap.
        leads: channel names, in the order of the rows.
        fs_hz: sampling rate.
        title: printed above the paper.
        n_seconds: how much to draw, from the first sample.
        units: one a channel; all microvolts when None.
    """
    import numpy as np

    n = min(signal_LT.shape[1], round(n_seconds * fs_hz))
    traces = {name: np.asarray(signal_LT[i, :n], np.float64) for i, name in enumerate(leads)}
    own = {name: unit for name, unit in zip(leads, units or [], strict=False) if unit != "uV"}
    seconds = n / fs_hz
    standard = set(LEADS) <= set(traces)
    rows = _standard_rows(n) if standard else [[(name, 0, n)] for name in leads]
    figure, ax, height = _paper(len(rows), seconds, title, f"{_footer(fs_hz)}{'' if not own else '   other channels scaled to their row'}")
    for r, row in enumerate(rows):
        middle = height - _MARGIN_MM - _ROW_MM * (r + 0.55)
        if row[0][0] not in own:
            _pulse(ax, middle)
        for name, start, stop in row:
            left = _MARGIN_MM + _PULSE_MM + start / fs_hz * _MM_PER_S
            label = f"{name} ({own[name]})" if name in own else name
            _trace(ax, traces[name][start:stop], left, middle, fs_hz, label, to_scale=name not in own, divider=start > 0)
    _save(figure, path)


def _standard_rows(n: int) -> list[list[tuple[str, int, int]]]:
    """Lead, first sample and last sample of each piece: I aVR V1 V4, II aVL V2 V5, III aVF V3 V6, then II throughout."""
    cut = [round(n * k / 4) for k in range(5)]
    columns = [LEADS[0:3], LEADS[3:6], LEADS[6:9], LEADS[9:12]]
    return [[(columns[c][r], cut[c], cut[c + 1]) for c in range(4)] for r in range(3)] + [[("II", 0, n)]]


def _footer(fs_hz: float) -> str:
    return f"25 mm/s   10 mm/mV   {fs_hz:g} Hz"


def _paper(n_rows: int, seconds: float, title: str, footer: str) -> tuple[Figure, Axes, float]:
    """Grid paper in millimetre coordinates: thin lines at 1 mm, thick ones at 5 mm."""
    import numpy as np
    from matplotlib.figure import Figure

    width = 5.0 * np.ceil((seconds * _MM_PER_S + 2 * _MARGIN_MM + _PULSE_MM) / 5.0)
    height = 5.0 * np.ceil((n_rows * _ROW_MM + 2 * _MARGIN_MM) / 5.0)
    head, foot, side = 9.0, 6.0, 4.0
    total_w, total_h = width + 2 * side, height + head + foot
    figure = Figure(figsize=(total_w / _INCH_MM, total_h / _INCH_MM), dpi=160, facecolor="white")
    ax = figure.add_axes((side / total_w, foot / total_h, width / total_w, height / total_h))
    ax.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], facecolor=_PAPER)
    for step, colour, line in ((1.0, _MINOR, 0.35), (5.0, _MAJOR, 0.6)):
        ax.vlines(np.arange(0, width + step, step), 0, height, colors=colour, linewidth=line, zorder=0)
        ax.hlines(np.arange(0, height + step, step), 0, width, colors=colour, linewidth=line, zorder=0)
    for spine in ax.spines.values():
        spine.set(color=_MAJOR, linewidth=0.8)
    figure.text(side / total_w, 1 - 0.68 * head / total_h, title, fontsize=10.5, color=_INK, fontweight="bold", va="baseline")
    figure.text(side / total_w, 0.3 * foot / total_h, footer, fontsize=8, color="#444b57", va="baseline")
    return figure, ax, float(height)


def _pulse(ax: Axes, middle: float) -> None:
    """The calibration pulse: 1 mV for 0.2 s."""
    x = _MARGIN_MM + 1.5
    ax.plot([x, x + 1, x + 1, x + 6, x + 6, x + 7], [middle, middle, middle + 10, middle + 10, middle, middle], color=_INK, linewidth=0.8)


def _trace(
    ax: Axes, values_T: NDArray[np.float64], left: float, middle: float, fs_hz: float, label: str, *, to_scale: bool, divider: bool
) -> None:
    import numpy as np

    finite = values_T[np.isfinite(values_T)]
    mm_per_unit = _MM_PER_MV / 1000.0
    if not to_scale and finite.size:
        mm_per_unit = 0.6 * _ROW_MM / max(float(np.ptp(finite)), 1e-12)
    centre = float(np.median(finite)) if finite.size else 0.0
    x_T = left + np.arange(len(values_T)) / fs_hz * _MM_PER_S
    ax.plot(x_T, middle + (values_T - centre) * mm_per_unit, color=_INK, linewidth=0.85, solid_joinstyle="round")
    if divider:
        ax.vlines(left, middle + 4.0, middle + 7.0, colors=_INK, linewidth=0.8)
    paper = {"facecolor": _PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    ax.text(left + 1.2, middle + 0.36 * _ROW_MM, label, fontsize=9, fontweight="bold", color=_INK, va="center", bbox=paper, zorder=5)


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
