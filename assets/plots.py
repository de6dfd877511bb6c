"""Pictures: ECGs on the clinical grid, loss and ROC curves, numbers over their truth, and the leaderboard, as PNG files.

Figures are drawn without pyplot, so nothing stays open and any thread may draw. A picture knows no access class: whoever
asks for one decides where it may go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.plots_page import BLUE, GREY, INK, ORANGE, PALETTE, EcgPage, figure, page_figure, plain, save

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from models.predictions import Predictions


_NO_LOSS = frozenset(
    {"step", "epoch", "lr", "loss", "validation_loss", "records_per_s", "mfu", "wait_share"}
    | {"logit_scale", "information_bound", "skipped_pairs"}
)
_MOST_CURVES = 10


def ecg_figure(
    path: Path,
    signal_LT: NDArray[Any],
    leads: Sequence[str],
    fs_hz: float,
    title: str,
    n_seconds: float = 10.0,
    units: Sequence[str] | None = None,
) -> None:
    """Draw an ECG at 25 mm/s and 10 mm/mV in true proportions, as `EcgPage` says.

    Args:
        path: PNG to write.
        signal_LT: microvolts (or the channel's own unit), shape (leads, samples); NaN leaves a gap.
        leads: channel names, in the order of the rows.
        fs_hz: sampling rate.
        title: printed above the paper.
        n_seconds: how much to draw, from the first sample.
        units: one a channel; all microvolts when None.
    """
    page = EcgPage.of(signal_LT, leads, fs_hz, n_seconds, units)
    made, ax, _ = page_figure(page, title)
    page.draw(ax)
    save(made, path)


def loss_figure(path: Path, metrics_rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draw how training went: losses over steps, and below them the learning rate and the throughput.

    Args:
        path: PNG to write.
        metrics_rows: lines of metrics.jsonl: step, loss, its named parts, validation_loss in some, lr, records_per_s; a value
            that is missing or None is left out.
        title: printed above.
    """
    made = figure(8.0, 5.6, title)
    upper, lower = made.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    parts = [k for k in dict.fromkeys(k for row in metrics_rows for k in row) if k not in _NO_LOSS]
    for i, name in enumerate(parts if len(parts) > 1 else []):
        _line(upper, metrics_rows, name, color=PALETTE[2 + i % (len(PALETTE) - 2)], linewidth=1.1, label=name.replace("_", " "))
    _line(upper, metrics_rows, "loss", color=BLUE, linewidth=2.0, label="loss")
    _line(upper, metrics_rows, "validation_loss", color=ORANGE, linewidth=1.6, marker="o", markersize=4, label="validation loss")
    upper.set_ylabel("loss")
    if upper.lines:
        upper.legend(frameon=False, fontsize=9, ncols=2)
    _line(lower, metrics_rows, "lr", color=INK, linewidth=1.3)
    lower.set(xlabel="step", ylabel="learning rate")
    right = lower.twinx()
    _line(right, metrics_rows, "records_per_s", color=GREY, linewidth=1.1, linestyle="--")
    right.set_ylabel("records/s (dashed)", color=GREY)
    right.set_ylim(bottom=0)
    for ax in (upper, lower, right):
        plain(ax)
    right.grid(visible=False)
    lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    save(made, path)


def _line(ax: Axes, rows: Sequence[Mapping[str, Any]], name: str, **style: Any) -> None:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    if points:
        ax.plot(*zip(*points, strict=True), **style)


def roc_figure(path: Path, table: Predictions) -> None:
    """Draw the ROC curve of every class, with its AUROC; of more than ten classes the five best and five worst in colour.

    Classes without both positives and negatives are named below the legend, not drawn.
    """
    import numpy as np
    from sklearn.metrics import auc, roc_curve

    from assets.scoring import ranked

    curves, undefined, ordered = [], [], ranked(table)
    for i, name in enumerate(table.classes):
        if len(np.unique(table.labels_NC[:, i])) < 2:
            undefined.append(name)
            continue
        false_rate, true_rate, _ = roc_curve(table.labels_NC[:, i], ordered.scores_NC[:, i])
        curves.append((float(auc(false_rate, true_rate)), name, false_rate, true_rate))
    curves.sort(key=lambda c: -c[0])
    shown = curves if len(curves) <= _MOST_CURVES else curves[: _MOST_CURVES // 2] + curves[-_MOST_CURVES // 2 :]
    made = figure(8.6, 6.0, _about(table))
    ax = made.subplots()
    ax.plot([0, 1], [0, 1], color="#c4c8ce", linewidth=1.0, linestyle="--")
    for _, _, false_rate, true_rate in curves[_MOST_CURVES // 2 : -_MOST_CURVES // 2] if shown is not curves else []:
        ax.plot(false_rate, true_rate, color="#d3d6db", linewidth=0.8)
    for (area, name, false_rate, true_rate), colour in zip(shown, PALETTE, strict=False):
        ax.plot(false_rate, true_rate, color=colour, linewidth=1.6, label=f"{name}  {area:.3f}")
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.005, 1.005), ylim=(-0.005, 1.005), aspect="equal")
    macro = f"macro AUROC {np.mean([c[0] for c in curves]):.3f}" if curves else "no class has both labels"
    note = f"{macro}\n{len(table.record_id)} records" + (f"\nundefined: {', '.join(undefined[:6])}" if undefined else "")
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles, labels, title=note, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9, alignment="left")
    plain(ax)
    save(made, path)


def numbers_figure(path: Path, table: Predictions) -> None:
    """Draw what was predicted over what is true, a dot a record or window, with the line on which both are the same."""
    import numpy as np

    true_N, predicted_N = table.labels_NC[:, 0].astype(float), table.scores_NC[:, 0].astype(float)
    made = figure(7.4, 6.0, _about(table))
    ax = made.subplots()
    ends = [min(true_N.min(), predicted_N.min()), max(true_N.max(), predicted_N.max())]
    ax.plot(ends, ends, color=GREY, linewidth=1.0, linestyle="--", label="predicted = true")
    ax.plot(true_N, predicted_N, "o", color=BLUE, markersize=4, alpha=max(0.15, min(0.8, 60 / len(true_N))), markeredgewidth=0)
    if table.origin.reference is not None:
        ax.axhline(table.origin.reference, color=ORANGE, linewidth=1.0, linestyle=":", label="mean of the training records")
    unit = f" ({table.origin.unit})" if table.origin.unit else ""
    ax.set(xlabel=f"true {table.classes[0].replace('_', ' ')}{unit}", ylabel=f"predicted{unit}", aspect="equal", adjustable="datalim")
    error = f"mean absolute error {np.abs(predicted_N - true_N).mean():.2f} {table.origin.unit}".strip()
    note = f"{error}\n{len(true_N)} dots, {len(set(table.patient_id.tolist()))} patients"
    ax.legend(title=note, loc="upper left", frameon=False, fontsize=9, title_fontsize=9, alignment="left")
    plain(ax)
    save(made, path)


def judged_figure(path: Path, table: Predictions) -> None:
    """Draw a table as its kind is looked at: ROC curves of classes, predicted over true numbers."""
    (numbers_figure if table.numbers else roc_figure)(path, table)


def _about(table: Predictions) -> str:
    origin = table.origin
    share = "" if origin.fraction is None else f", {origin.fraction:.0%} of labels"
    prompts = "" if origin.prompts is None else f", prompts {origin.prompts}"
    prompts += "" if origin.channels is None else f", {origin.channels} alone"
    return f"{origin.dataset}/{origin.task}: {origin.method} {origin.preset}, {origin.protocol.replace('_', ' ')}{share}{prompts}"


def leaderboard_figure(path: Path, table: pd.DataFrame) -> None:
    """Draw a forest of our results: value and 95 % interval of each row, beside its random-initialised twin, baseline and paper.

    Args:
        path: PNG to write.
        table: columns kind, dataset, task, title, preset, protocol, fraction, prompts, channels, value, low, high,
            random_init, random_init_low, random_init_high, supervised, published; only rows of kind "ours" are drawn.
    """
    import numpy as np

    ours = table[table["kind"] == "ours"]
    places = [list(group.itertuples()) for _, group in ours.groupby(["dataset", "task"], sort=True)]
    n_lines = sum(len(rows) + 1.6 for rows in places)
    made = figure(11.0, 1.5 + 0.27 * max(n_lines, 3.0), "Leaderboard: macro AUROC on the test folds, 95 % intervals over patients")
    ax = made.subplots()
    y, ticks, labels = 0.0, [], []
    for rows in places:
        y += 1.1
        ax.text(
            0.0, y, f" {rows[0].dataset} / {rows[0].task}", transform=ax.get_yaxis_transform(), fontweight="bold", fontsize=10, va="center"
        )
        ax.axhline(y + 0.45, color="#dfe2e6", linewidth=0.8)
        for row in rows:
            y += 1.0
            ticks.append(y)
            labels.append(_row_label(row))
            _forest_row(ax, row, y)
        y += 0.5
    known = [
        float(v)
        for c in ("value", "low", "random_init", "random_init_low", "supervised", "published")
        for v in ours[c]
        if v == v and v is not None
    ]
    ax.set(xlim=(min([0.48, *(v - 0.02 for v in known)]), 1.0), ylim=(y + 0.4, 0.3), yticks=ticks, xlabel="macro AUROC")
    ax.set_yticks(ticks, labels, fontsize=9)
    ax.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    plain(ax)
    ax.grid(visible=False, axis="y")
    if not len(ours):
        ax.text(0.5, 0.5, "nothing has been evaluated yet", transform=ax.transAxes, ha="center", color=GREY)
    _forest_legend(ax)
    ax.tick_params(axis="y", length=0)
    ax.set_xticks(np.arange(np.ceil(ax.get_xlim()[0] * 10) / 10, 1.01, 0.1))
    save(made, path)


def _row_label(row: Any) -> str:
    share = "" if row.fraction != row.fraction else f" {row.fraction:.0%}"
    prompts = f" ({row.prompts})" if row.prompts else ""
    prompts += f" ({row.channels})" if row.channels else ""
    return f"{row.title} {row.preset}, {row.protocol.replace('_', ' ')}{share}{prompts}"


def _forest_row(ax: Axes, row: Any, y: float) -> None:
    if row.random_init == row.random_init:
        ax.plot([row.random_init_low, row.random_init_high], [y + 0.2, y + 0.2], color="#c4c8ce", linewidth=1.6)
        ax.plot(row.random_init, y + 0.2, "o", markersize=4.5, markerfacecolor="white", markeredgecolor=GREY)
    if row.supervised == row.supervised:
        ax.plot(row.supervised, y, "s", color=PALETTE[2], markersize=5)
    if row.published == row.published:
        ax.plot(row.published, y, "D", color=ORANGE, markersize=5.5)
    ax.plot([row.low, row.high], [y, y], color=BLUE, linewidth=2.4, solid_capstyle="butt")
    ax.plot(row.value, y, "o", color=BLUE, markersize=6)
    ax.text(
        1.01,
        y,
        f"{row.value:.3f} ({row.low:.3f}-{row.high:.3f})",
        transform=ax.get_yaxis_transform(),
        fontsize=8.5,
        va="center",
        color=INK,
    )


def _forest_legend(ax: Axes) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=BLUE, marker="o", linewidth=2.4, label="ours"),
        Line2D(
            [], [], color="#c4c8ce", marker="o", markerfacecolor="white", markeredgecolor=GREY, linewidth=1.6, label="random initialised"
        ),
        Line2D([], [], color=PALETTE[2], marker="s", linestyle="", label="supervised baseline"),
        Line2D([], [], color=ORANGE, marker="D", linestyle="", label="published (other protocol or data)"),
    ]
    ax.legend(handles=marks, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=9)


def images_figure(path: Path, images: NDArray[Any], title: str) -> None:
    """Draw grey images side by side.

    Args:
        path: PNG to write.
        images: uint8, shape (images, rows, columns); at most eight are shown.
        title: printed above them.
    """
    shown = images[:8]
    made = figure(max(2.0 * len(shown), 5.0), 2.6, title)
    for ax, image in zip(made.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
        ax.set_axis_off()
    save(made, path)


def histogram_figure(path: Path, values: Mapping[str, NDArray[Any]], title: str, unit: str) -> None:
    """Draw how numbers are spread, one panel a name."""
    made = figure(7.0, 1.0 + 2.8 * len(values), title)
    for ax, (name, values_N) in zip(made.subplots(len(values), 1, squeeze=False)[:, 0], values.items(), strict=True):
        ax.hist(values_N, bins=30, color=BLUE)
        ax.set(xlabel=f"{name} ({unit})" if unit else name, ylabel="rows")
        plain(ax)
    save(made, path)


def bars_figure(path: Path, counts: Mapping[str, int], title: str, unit: str = "records") -> None:
    """Draw how often each name occurs, one bar a name, in the order given."""
    made = figure(9.0, 1.2 + 0.26 * max(3, len(counts)), title)
    ax = made.subplots()
    names = list(counts)
    ax.barh(names, [counts[n] for n in names], color=BLUE, height=0.66)
    for y, name in enumerate(names):
        ax.text(counts[name], y, f" {counts[name]:,}", va="center", fontsize=8.5, color=INK)
    ax.invert_yaxis()
    ax.set_xlabel(unit)
    ax.margins(x=0.1)
    plain(ax)
    ax.grid(visible=False, axis="y")
    save(made, path)
