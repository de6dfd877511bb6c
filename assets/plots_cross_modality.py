"""Pictures of the cross-modality matrix: heat maps by split, confusion matrices, and maps of the embeddings with a panel a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.plots_page import GREY, INK, PALETTE, figure, plain, save

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MARKERS = "osD^vPX*<>dhp8H"


def matrix_figure(path: Path, matrices: Mapping[str, pd.DataFrame], title: str) -> None:
    """Draw accuracies as heat maps, one a split or variant, all on one scale from 0 to 1.

    Args:
        path: PNG to write.
        matrices: by heading; sources in rows, targets in columns.
        title: printed above.
    """
    n_columns = min(2, len(matrices))
    n_rows = -(-len(matrices) // n_columns)
    made = figure(4.8 * n_columns, 0.4 + 4.4 * n_rows, title)
    axes = made.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax in axes[len(matrices) :]:
        ax.set_axis_off()
    for ax, (heading, values) in zip(axes, matrices.items(), strict=False):
        _heat(ax, values.to_numpy(), list(values.columns), list(values.index), [[f"{v:.2f}" for v in row] for row in values.to_numpy()])
        ax.set_title(heading, fontsize=9, color=INK)
        ax.set(xlabel="signal that is shown", ylabel="signal that the network was trained on")
    save(made, path)


def confusion_figure(path: Path, counts: Mapping[str, NDArray[Any]], classes: Sequence[str], title: str) -> None:
    """Draw confusion matrices, three in a row: counts, and as colour the share of the true class.

    Args:
        path: PNG to write.
        counts: by heading; true classes in rows.
        classes: their names.
        title: printed above.
    """
    n_rows = -(-len(counts) // 3)
    made = figure(10.0, 0.6 + 3.2 * n_rows, title)
    axes = made.subplots(n_rows, 3, squeeze=False).ravel()
    for ax, (heading, count_CC) in zip(axes, counts.items(), strict=False):
        share_CC = count_CC / count_CC.sum(axis=1, keepdims=True).clip(1)
        _heat(ax, share_CC, classes, classes, [[str(v) for v in row] for row in count_CC])
        ax.set_title(heading, fontsize=9, color=INK)
        ax.set(xlabel="called", ylabel="true")
    for ax in axes[len(counts) :]:
        ax.set_axis_off()
    save(made, path)


def embedding_figure(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Draw windows on the map of one network's embeddings: a panel a signal that it is shown, colour the class, marker the subject.

    Args:
        path: PNG to write.
        rows: target, patient_id, class, x, y.
        title: printed above.
    """
    from matplotlib.lines import Line2D

    targets, classes = list(dict.fromkeys(rows["target"])), sorted(set(rows["class"]))
    subjects = sorted(set(rows["patient_id"]))
    n_rows = -(-len(targets) // 3)
    made = figure(10.0, 0.9 + 3.2 * n_rows, title)
    axes = made.subplots(n_rows, 3, squeeze=False).ravel()
    for ax, target in zip(axes, targets, strict=False):
        here = rows[rows["target"] == target]
        for subject, group in here.groupby("patient_id"):
            marker, colours = _MARKERS[subjects.index(subject) % len(_MARKERS)], [PALETTE[classes.index(c)] for c in group["class"]]
            ax.scatter(group["x"], group["y"], s=9, alpha=0.7, linewidths=0, c=colours, marker=marker)
        plain(ax)
        ax.set_title(f"shown {target}", fontsize=9, color=INK)
        ax.tick_params(labelbottom=False, labelleft=False)
    for ax in axes[len(targets) :]:
        ax.set_axis_off()
    marks = [Line2D([], [], marker="o", linestyle="", color=PALETTE[i], label=name) for i, name in enumerate(classes)]
    marks.append(Line2D([], [], marker="D", linestyle="", color=GREY, label="a marker a subject"))
    made.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9)
    save(made, path)


def _heat(ax: Axes, values: NDArray[Any], columns: Sequence[str], rows: Sequence[str], said: Sequence[Sequence[str]]) -> None:
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for r, texts in enumerate(said):
        for c, text in enumerate(texts):
            ax.text(c, r, text, ha="center", va="center", fontsize=8, color="white" if values[r, c] > 0.6 else INK)
    ax.set_xticks(range(len(columns)), columns, fontsize=8)
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.tick_params(length=0)
