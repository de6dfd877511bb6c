"""The benchmark's table as Markdown, and how one row is said in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

HEADER = (
    *("entry", "protocol", "labels", "seed", "macro AUROC [95 %]", "by record", "AUPRC", "F", "random init", "records"),
    *("saw test", "note"),
)
CAPTION = (
    "In brackets: 95 % interval over 1,000 resamples of patients, every class present. By record: the benchmark's printed form, 90 % over "
    "resampled records. F: sample-centric, at the one threshold that is best on the validation folds. Records: how many are judged. Saw "
    "test: whether the encoder was trained on test patients. Published: as printed, under the protocol and on the data that the source "
    "names; numbers of different protocols cannot be compared."
)


def to_markdown(table: pd.DataFrame, dataset: str) -> str:
    """A section a task: our rows and those of others, then published numbers by protocol and source."""
    lines = [f"# Benchmark on {dataset}", "", CAPTION, ""]
    for task, rows in table.groupby("task", sort=False):
        lines += [f"## {task}", ""]
        own = rows[rows["kind"] != "published"]
        if len(own):
            lines += _grid(HEADER, [cells(row) for row in own.to_dict("records")])
        else:
            lines += ["Nothing of ours yet.", ""]
        for (protocol, source), printed in rows[rows["kind"] == "published"].groupby(["protocol", "source"], sort=False):
            lines += [f"Published, {protocol}: {source}", ""]
            lines += _grid(
                ("model", "labels", "macro AUROC"), [(r["entry"], share(r["fraction"]), said(r)) for r in printed.to_dict("records")]
            )
    return "\n".join(lines)


def cells(row: dict[Any, Any]) -> tuple[str, ...]:
    """The columns `HEADER` of a row of ours or of somebody's."""
    saw = row["saw_test_patients"]
    judged = f"{row['n_records']:.0f}" + ("" if row["n_records"] == row["n_labelled"] else f" of {row['n_labelled']:.0f}")
    return (
        row["entry"] + (f" [{row['prompts']}]" if row["prompts"] else ""),
        "not stated" if row["protocol"] == "not_stated" else row["protocol"].replace("_", " "),
        share(row["fraction"]),
        str(int(row["seed"])),
        f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
        row["printed"],
        number(row["macro_auprc"]),
        number(row["f"]),
        number(row["random_init"]),
        judged,
        "not stated" if saw is None or saw != saw else "yes" if saw else "no",
        row["note"],
    )


def said(row: dict[Any, Any]) -> str:
    """A published value as it was printed."""
    return str(row["printed"] or f"{row['value']:.4f}".rstrip("0"))


def share(fraction: float | None) -> str:
    """Of the training labels, in percent; "" where there is none."""
    return "" if fraction is None or fraction != fraction else f"{fraction:.0%}"


def number(value: float | None) -> str:
    """Three decimals; "" where there is none."""
    return "" if value is None or value != value else f"{value:.3f}"


def _grid(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    escaped = [[c.replace("|", "\\|") for c in row] for row in rows]
    return ["| " + " | ".join(r) + " |" for r in [list(header), ["---"] * len(header), *escaped]] + [""]
