"""The cross-modality matrix as Markdown: the headline beside the split that leaks, the matrix, and what may explain it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assets.cross_modality_scoring import ACCURACY, MAJORITY, TIME_ONLY, cell, shared_words, square
from models.metrics.confusion import MACRO

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("silhouette_class", "silhouette_subject", "subject_probe", "subject_probe_chance", "embedding_variance", "between_class_share")


def to_markdown(matrix: pd.DataFrame, embeddings: pd.DataFrame, correlated: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Everything that people read of the matrix.

    Args:
        matrix: of `matrix_rows`.
        embeddings: numbers of the embeddings, by split, fold, seed, source and target.
        correlated: of `correlations`.
        facts: of the job: signals, classes, windows, subjects, shared_subjects, normalisation, window_s.
    """
    splits = list(dict.fromkeys(matrix["split"]))
    lines = [_about(facts, splits), "", *_own_signals(matrix, facts, splits)]
    for split in splits:
        variants = [v for v in dict.fromkeys(matrix["variant"]) if split in set(matrix[matrix["variant"] == v]["split"])]
        for variant in variants:
            lines += ["", f"## {split}, {variant.replace('_', ' ')}: accuracy of the network of a row shown the signal of a column", ""]
            lines += _square(square(matrix, facts["signals"], split, variant))
    lines += ["", f"## Embeddings of a network's own signal, {splits[0]}", "", *_embeddings(embeddings, facts["signals"], splits[0])]
    lines += ["", f"## What goes with the means of the matrix over {len(facts['signals'])} signals, {splits[0]}", ""]
    lines += _grid(
        ["quantity", "mean of", "correlation"], ((r["quantity"], r["mean_of"], _said(r["correlation"])) for r in _rows(correlated))
    )
    return "\n".join(lines) + "\n"


def _about(facts: Mapping[str, Any], splits: Sequence[str]) -> str:
    whose = {
        "train_zscore": "each signal by mean and deviation of its own training windows",
        "per_window": "each window by itself",
        "per_subject": "each subject by mean and deviation of all their windows, those of whoever is judged among them",
    }[facts["normalisation"]]
    leaks = "; ".join(f"{s}: {shared_words(s, facts)}" for s in splits)
    return (
        f"{facts['windows']} windows of {facts['window_s']:g} s of {facts['subjects']} subjects; normalised {whose}. {splits[0]} is the headline. "
        f"{leaks}. Stress against the rest is read from the three classes. One block a condition: drifts alone tell blocks apart, see time only."
    )


def _own_signals(matrix: pd.DataFrame, facts: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
    """Each network on its own signal by the headline; the others' accuracy and gap beside it."""
    first, others = splits[0], splits[1:]
    header = ["signal", *(m.replace("_", " ") for m in MACRO), "95 % interval", "over subjects", "stress or not"]
    header += [part for s in others for part in (f"{s} accuracy", f"gap of {s}")]
    rows = []
    for source, target in [*((s, s) for s in facts["signals"]), (MAJORITY, ""), (TIME_ONLY, "")]:
        found = {m: cell(matrix, first, source, target, m) for m in MACRO}
        main = found[ACCURACY]
        held = set(matrix["metric"])
        stress = _said(cell(matrix, first, source, target, "stress_accuracy")["value"]) if "stress_accuracy" in held else ""
        row = [source.replace("_", " "), *(_said(found[m]["value"]) for m in MACRO), f"{main['low']:.3f} to {main['high']:.3f}"]
        row += [f"{main['subject_mean']:.3f} ± {main['subject_deviation']:.3f}", stress]
        for split in others:
            beside = cell(matrix, split, source, target)["value"]
            row += [_said(beside), f"{beside - main['value']:+.3f}"]
        rows.append(row)
    return [f"## Each network on its own signal, {first}", "", *_grid(header, rows)]


def _square(values: pd.DataFrame) -> list[str]:
    rows = [[str(name), *(_said(v) for v in row), _said(row.mean())] for name, row in zip(values.index, values.to_numpy(), strict=True)]
    rows.append(["mean", *(_said(v) for v in values.mean(axis=0)), _said(values.to_numpy().mean())])
    return _grid(["source", *map(str, values.columns), "mean"], rows)


def _embeddings(embeddings: pd.DataFrame, signals: Sequence[str], split: str) -> list[str]:
    own = embeddings[(embeddings["split"] == split) & (embeddings["source"] == embeddings["target"])]
    table = own.groupby(["source", "name"])["value"].mean().unstack()
    return _grid(["signal", *(n.replace("_", " ") for n in _NUMBERS)], ([s, *(_said(table.loc[s, n]) for n in _NUMBERS)] for s in signals))


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def _said(value: Any) -> str:
    return "undefined" if value != value else f"{value:.3f}"


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in rows)]
