"""The leaderboard as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assets.leaderboard_table import each

if TYPE_CHECKING:
    import pandas as pd

_AUROC_HEADER = [
    *("method", "preset", "protocol", "labels", "prompts", "channels", "macro AUROC", "random init", "gain", "supervised", "published"),
    *("saw test patients", "data"),
]
_OTHER_HEADER = [
    *("method", "preset", "protocol", "channels", "direction", "metric", "value", "chance", "random init", "gain", "asked", "published"),
    *("saw test patients", "data"),
]


def to_markdown(table: pd.DataFrame) -> str:
    """A table a dataset and task, then what others published on these tasks."""
    lines = ["# Leaderboard", ""]
    if table.empty:
        return "\n".join([*lines, "Nothing has been evaluated yet.", ""])
    lines += [
        "Macro AUROC on the test folds with 95 % intervals over patients. Gain is the paired difference to the same encoder with",
        "random weights; supervised is the best baseline trained on labels alone, on the same test records. Published numbers",
        "were obtained by others, under the protocol and on the data their source names. Our labels are exact: aligned by class name.",
        "Retrieval, identification and generated reports have metrics of their own; chance is what an order by lot gives, or what the",
        "same reports score against those of other patients. Numbers have their mean absolute error (mae, smaller is better): chance is",
        "that of the training records' mean, gain is how much smaller the error is than the random-initialised encoder's.",
        "Questions are answered exactly or not, over all (no direction) and by type; chance is the most frequent training answer to the",
        "same words, and text_only is the same encoder with a flat line to read. The challenge metric is that of the PhysioNet/CinC",
        "Challenges: 1 is right throughout, 0 is always sinus rhythm; its threshold is chosen on validation folds.",
        "",
    ]
    for (dataset, task), group in table.groupby(["dataset", "task"], sort=True):
        lines += [f"## {dataset} / {task}", ""]
        ours = group[group["kind"] == "ours"]
        auroc = ours[ours["metric"] == "macro_auroc"]
        if len(auroc):
            first = auroc.iloc[0]
            lines += [f"{first.n_records} test records of {first.n_patients} patients, {first.n_classes} classes", ""]
            lines += _grid(_AUROC_HEADER, [_auroc_row(r) for r in each(auroc)])
        if len(others := ours[ours["metric"] != "macro_auroc"]):
            lines += _grid(_OTHER_HEADER, [_other_row(r) for r in each(others)])
        lines += _context(group[group["kind"] == "published"])
    return "\n".join(lines)


def _context(others: pd.DataFrame) -> list[str]:
    if not len(others):
        return []
    lines = ["Published by others, for context only:", ""]
    auroc, rest = others[others["metric"] == "macro_auroc"], others[others["metric"] != "macro_auroc"]
    if len(auroc):
        rows = [[r.published_model, r.protocol, _share(r.fraction), f"{r.published:.3f}", r.published_source] for r in each(auroc)]
        lines += _grid(["model", "protocol", "labels", "macro AUROC", "source"], rows)
    if len(rest):
        rows = [[r.published_model, r.protocol, r.metric, f"{r.published:.3f}", r.published_source] for r in each(rest)]
        lines += _grid(["model", "protocol", "metric", "value", "source"], rows)
    return lines


def _auroc_row(r: Any) -> list[str]:
    return [
        r.title,
        _preset(r),
        r.protocol,
        _share(r.fraction),
        r.prompts,
        r.channels or "all",
        _value(r.value, r.low, r.high) + ("" if r.n_undefined == 0 else f", {r.n_undefined} classes undefined"),
        _value(r.random_init, r.random_init_low, r.random_init_high),
        _value(r.gain, r.gain_low, r.gain_high, signed=True),
        _value(r.supervised, r.supervised_low, r.supervised_high) + _borrowed(r.fraction, r.supervised_fraction),
        *_end(r),
    ]


def _other_row(r: Any) -> list[str]:
    return [
        r.title,
        _preset(r),
        f"{r.protocol} {_share(r.fraction)}".strip(),
        r.channels or "all",
        r.direction,
        f"{r.metric} ({r.unit})" if r.unit else r.metric,
        _value(r.value, r.low, r.high),
        _value(r.chance, float("nan"), float("nan")),
        _value(r.random_init, r.random_init_low, r.random_init_high),
        _value(r.gain, r.gain_low, r.gain_high, signed=True),
        f"{r.n_records} of {r.n_patients} patients" + (f", {r.note.split(';')[0]}" if r.note.startswith(("among", "threshold")) else ""),
        *_end(r),
    ]


def _end(r: Any) -> list[str]:
    import pandas as pd

    return [
        "" if pd.isna(r.published) else f"{r.published:.3f} ({r.published_model}; {r.published_source})",
        "not recorded" if pd.isna(r.saw_test_patients) else "yes" if r.saw_test_patients else "no",
        str(r.data_version)[:12],
    ]


def _preset(r: Any) -> str:
    return str(r.preset) + ("" if r.seed == 0 else f", seed {r.seed}")


def _grid(header: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[c.replace("|", "\\|") for c in row] for row in rows]
    return ["| " + " | ".join(r) + " |" for r in [header, ["---"] * len(header), *cells]] + [""]


def _share(fraction: float) -> str:
    return "" if fraction != fraction else f"{fraction:.0%}"


def _value(value: float, low: float, high: float, *, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    if value != value:
        return ""
    return f"{value:{form}}" if low != low else f"{value:{form}} ({low:{form}} to {high:{form}})"


def _borrowed(fraction: float, supervised_fraction: float) -> str:
    """Say so where the baseline had another share of the labels than the row (a zero-shot row has none)."""
    return "" if supervised_fraction != supervised_fraction or supervised_fraction == fraction else f", {supervised_fraction:.0%} of labels"
