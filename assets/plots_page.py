"""What pictures are made of: colours, plain axes, and the clinical paper with its traces, in millimetres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.types import LEADS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MM_PER_S, MM_PER_MV, INCH_MM = 25.0, 10.0, 25.4
ROW_MM, MARGIN_MM, PULSE_MM = 30.0, 5.0, 10.0
HEAD_MM, FOOT_MM, SIDE_MM = 9.0, 6.0, 4.0
PAPER, MINOR, MAJOR, INK = "#fffafa", "#f9d6d6", "#f0a8a8", "#16202e"
BLUE, ORANGE, GREY = "#1f5fa8", "#d9772b", "#8a8f98"
PALETTE = (BLUE, ORANGE, "#2d8659", "#a8324a", "#6d4fa3", "#7a6a2f", "#2c8c99", "#c2508f", "#555b66", "#94a321")


def figure(width: float, height: float, title: str) -> Figure:
    """A figure of some inches with a title."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    made.suptitle(title, fontsize=11, fontweight="bold", color=INK, x=0.01, ha="left")
    return made


def plain(ax: Axes) -> None:
    """Faint grid lines, no box."""
    ax.grid(visible=True, color="#e7e9ec", linewidth=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=9)


def save(made: Figure, path: Path) -> None:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, format="png")


@dataclass(frozen=True)
class EcgPage:
    """An ECG as it stands on paper: 25 mm/s and 10 mm/mV.

    The twelve standard leads stand in three rows of four with lead II as rhythm strip below; any other set of channels in one
    row each. Each trace is shifted to its median. A channel whose unit is not "uV" is scaled to its row and says so.

    Attributes:
        traces: microvolts (or the channel's own unit) by channel, all of one length.
        fs_hz: sampling rate.
        own_units: unit of each channel that is not in microvolts.
    """

    traces: Mapping[str, NDArray[np.float64]]
    fs_hz: float
    own_units: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, signal_LT: NDArray[Any], leads: Sequence[str], fs_hz: float, n_seconds: float = 10.0, units: Sequence[str] | None = None
    ) -> EcgPage:
        """The first seconds of a signal (leads, samples)."""
        import numpy as np

        n = min(signal_LT.shape[1], round(n_seconds * fs_hz))
        traces = {name: np.asarray(signal_LT[i, :n], np.float64) for i, name in enumerate(leads)}
        return cls(traces, fs_hz, {name: unit for name, unit in zip(leads, units or [], strict=False) if unit != "uV"})

    @property
    def n_samples(self) -> int:
        """Length of the traces."""
        return len(next(iter(self.traces.values())))

    @property
    def rows(self) -> list[list[tuple[str, int, int]]]:
        """Lead, first sample and last sample of each piece: I aVR V1 V4, II aVL V2 V5, III aVF V3 V6, then II throughout."""
        n = self.n_samples
        if not set(LEADS) <= set(self.traces):
            return [[(name, 0, n)] for name in self.traces]
        cut = [round(n * k / 4) for k in range(5)]
        columns = [LEADS[0:3], LEADS[3:6], LEADS[6:9], LEADS[9:12]]
        return [[(columns[c][r], cut[c], cut[c + 1]) for c in range(4)] for r in range(3)] + [[("II", 0, n)]]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the paper."""
        import numpy as np

        width = 5.0 * np.ceil((self.n_samples / self.fs_hz * MM_PER_S + 2 * MARGIN_MM + PULSE_MM) / 5.0)
        return float(width), float(5.0 * np.ceil((len(self.rows) * ROW_MM + 2 * MARGIN_MM) / 5.0))

    @property
    def footer(self) -> str:
        """Scales and rate in words."""
        return f"25 mm/s   10 mm/mV   {self.fs_hz:g} Hz" + ("   other channels scaled to their row" if self.own_units else "")

    def draw(self, ax: Axes, shade_T: NDArray[Any] | None = None, ink: str = INK) -> None:
        """Draw paper and traces.

        Args:
            ax: of the proportions of `size_mm`.
            shade_T: a value in [0, 1] for each sample; the paper under the traces is coloured by it.
            ink: colour of the traces.
        """
        width, height = self.size_mm
        _grid(ax, width, height)
        for r, row in enumerate(self.rows):
            middle = height - MARGIN_MM - ROW_MM * (r + 0.55)
            if row[0][0] not in self.own_units:
                _pulse(ax, middle)
            for name, start, stop in row:
                left = MARGIN_MM + PULSE_MM + start / self.fs_hz * MM_PER_S
                if shade_T is not None:
                    span = (left, left + (stop - start) / self.fs_hz * MM_PER_S, middle - 0.42 * ROW_MM, middle + 0.42 * ROW_MM)
                    shade_1T = shade_T[None, start:stop]
                    ax.imshow(shade_1T, cmap="YlOrRd", vmin=0, vmax=1, alpha=0.75 * shade_1T, extent=span, aspect="auto", zorder=1)
                label = f"{name} ({self.own_units[name]})" if name in self.own_units else name
                values_T = self.traces[name][start:stop]
                _trace(ax, values_T, left, middle, self.fs_hz, label, name not in self.own_units, divider=start > 0, ink=ink)
        ax.set(xlim=(0, width), ylim=(0, height))

    def trace(self, ax: Axes, page: EcgPage, ink: str) -> None:
        """Draw these traces over those of another page that is drawn already, about its medians; leads that are not here stay free."""
        height = page.size_mm[1]
        for r, row in enumerate(page.rows):
            middle = height - MARGIN_MM - ROW_MM * (r + 0.55)
            for name, start, stop in row:
                if name in self.traces:
                    x_T, y_T = _places(self.traces[name][start:stop], page.traces[name][start:stop], start, middle, page.fs_hz)
                    ax.plot(x_T, y_T, color=ink, linewidth=0.85, solid_joinstyle="round", zorder=4)


def page_figure(page: EcgPage, title: str, beside_mm: float = 0.0, left_mm: float = 0.0) -> tuple[Figure, Axes, tuple[float, float]]:
    """A figure with an ECG page in true size, and room to its sides for something else.

    Returns:
        The figure, the axes of the page, and the figure's size in millimetres.
    """
    from matplotlib.figure import Figure

    width, height = page.size_mm
    total_w, total_h = width + 2 * SIDE_MM + beside_mm + left_mm, height + HEAD_MM + FOOT_MM
    made = Figure(figsize=(total_w / INCH_MM, total_h / INCH_MM), dpi=160, facecolor="white")
    ax = made.add_axes(((SIDE_MM + left_mm) / total_w, FOOT_MM / total_h, width / total_w, height / total_h))
    made.text(SIDE_MM / total_w, 1 - 0.68 * HEAD_MM / total_h, title, fontsize=10.5, color=INK, fontweight="bold", va="baseline")
    made.text((SIDE_MM + left_mm) / total_w, 0.3 * FOOT_MM / total_h, page.footer, fontsize=8, color="#444b57", va="baseline")
    return made, ax, (total_w, total_h)


def _grid(ax: Axes, width: float, height: float) -> None:
    """Paper in millimetre coordinates: thin lines at 1 mm, thick ones at 5 mm."""
    import numpy as np

    ax.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[], facecolor=PAPER)
    for step, colour, line in ((1.0, MINOR, 0.35), (5.0, MAJOR, 0.6)):
        ax.vlines(np.arange(0, width + step, step), 0, height, colors=colour, linewidth=line, zorder=0)
        ax.hlines(np.arange(0, height + step, step), 0, width, colors=colour, linewidth=line, zorder=0)
    for spine in ax.spines.values():
        spine.set(color=MAJOR, linewidth=0.8)


def _pulse(ax: Axes, middle: float) -> None:
    """The calibration pulse: 1 mV for 0.2 s."""
    x = MARGIN_MM + 1.5
    ax.plot([x, x + 1, x + 1, x + 6, x + 6, x + 7], [middle, middle, middle + 10, middle + 10, middle, middle], color=INK, linewidth=0.8)


def _places(
    values_T: NDArray[np.float64], about_T: NDArray[np.float64], start: int, middle: float, fs_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where samples in microvolts lie on the paper, in millimetres, about the median of the trace that they are drawn over."""
    import numpy as np

    x_T = MARGIN_MM + PULSE_MM + (start + np.arange(len(values_T))) / fs_hz * MM_PER_S
    finite = about_T[np.isfinite(about_T)]
    centre = float(np.median(finite)) if finite.size else 0.0
    return x_T, middle + (values_T - centre) * MM_PER_MV / 1000.0


def _trace(
    ax: Axes,
    values_T: NDArray[np.float64],
    left: float,
    middle: float,
    fs_hz: float,
    label: str,
    to_scale: bool,
    *,
    divider: bool,
    ink: str = INK,
) -> None:
    import numpy as np

    finite = values_T[np.isfinite(values_T)]
    mm_per_unit = MM_PER_MV / 1000.0
    if not to_scale and finite.size:
        mm_per_unit = 0.6 * ROW_MM / max(float(np.ptp(finite)), 1e-12)
    centre = float(np.median(finite)) if finite.size else 0.0
    x_T = left + np.arange(len(values_T)) / fs_hz * MM_PER_S
    ax.plot(x_T, middle + (values_T - centre) * mm_per_unit, color=ink, linewidth=0.85, solid_joinstyle="round")
    if divider:
        ax.vlines(left, middle + 4.0, middle + 7.0, colors=INK, linewidth=0.8)
    paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    ax.text(left + 1.2, middle + 0.36 * ROW_MM, label, fontsize=9, fontweight="bold", color=INK, va="center", bbox=paper, zorder=5)
