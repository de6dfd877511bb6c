"""The table of a benchmark: entries of ours and of others with their intervals, and what was published on the same tasks.

A row is a task x protocol x share of labels x entry x prompt set x seed. Published rows keep the protocol under which they were
obtained; rows of different protocols are never one column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from assets.benchmark_scores import AUPRC, AUROC, F_MAX, RECORDS_90
from assets.dataset import get_dataset
from assets.outputs import Key, Output, Workspace
from models.published_ptb_xl import PUBLISHED_PTB_XL
from models.registry import get_spec, list_methods
from models.spec import Published

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("kind", "task", "protocol", "fraction", "entry", "prompts", "seed", "value", "low", "high", "printed", "macro_auprc", "f"),
    *("random_init", "n_records", "n_labelled", "n_patients", "n_classes", "n_undefined", "saw_test_patients", "data_version"),
    *("source", "note"),
)
_KINDS = ("ours", "external", "published")


def entries(workspace: Workspace, dataset: str) -> Iterator[Output]:
    """Every answer that the benchmark of a dataset holds."""
    root = workspace.root / "benchmark" / dataset
    for pointer in sorted(root.glob("*.*/*/CURRENT")):
        output = workspace.current(Key(("benchmark", dataset, pointer.parent.parent.name), pointer.parent.name))
        if output is not None:
            yield output


def published_rows(dataset: str) -> list[Published]:
    """What others printed about a dataset's tasks, of all methods' specs and of the benchmark's own tables; each number once."""
    found: dict[tuple[Any, ...], Published] = {}
    for row in (*PUBLISHED_PTB_XL, *(row for name in list_methods() for row in get_spec(name).published)):
        if row.task.split("/", 1)[0] == dataset and row.metric == AUROC:
            found.setdefault((row.model.casefold(), row.task, row.protocol, row.fraction, round(row.value, 4)), row)
    return list(found.values())


def benchmark_table(workspace: Workspace, dataset: str, judged: Iterable[Output]) -> pd.DataFrame:
    """All rows of some entries and of what was published, by task; ours, then external, then published; by protocol and falling value."""
    import pandas as pd

    rows = [row for output in judged for row in _own(workspace, output)]
    rows += [_published(row) for row in published_rows(dataset)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    tasks = list(get_dataset(dataset).task_names)
    order = table.assign(
        _task=table["task"].map(lambda t: tasks.index(t) if t in tasks else len(tasks)),
        _kind=table["kind"].map(_KINDS.index),
        _fraction=table["fraction"].astype(float).fillna(-1.0),
        _value=-table["value"].astype(float),
    )
    by = ["_task", "task", "_kind", "protocol", "_fraction", "_value", "entry", "prompts", "seed"]
    return order.sort_values(by, kind="stable")[list(COLUMNS)].reset_index(drop=True)


def _own(workspace: Workspace, output: Output) -> Iterator[dict[str, Any]]:
    import pandas as pd

    facts = output.facts
    metrics = pd.read_parquet(output.path("metrics.parquet")).fillna({"prompts": ""})
    lookup = {(r["metric"], r["arm"], r["prompts"]): r for r in metrics.to_dict("records")}
    for (metric, arm, prompts), row in lookup.items():
        if (metric, arm) != (AUROC, "pretrained"):
            continue
        twin: Mapping[Any, Any] = lookup.get((AUROC, "random_init", prompts), {})
        yield {
            **{c: facts["question"][c] for c in ("task", "protocol", "fraction", "seed")},
            **{c: row[c] for c in ("value", "low", "high", "n_records", "n_patients", "n_classes", "n_undefined", "prompts")},
            "kind": facts["kind"],
            "entry": facts["label"],
            "printed": lookup[RECORDS_90, arm, prompts]["printed"],
            "macro_auprc": lookup[AUPRC, arm, prompts]["value"],
            "f": lookup[F_MAX, arm, prompts]["value"],
            "random_init": twin.get("value"),
            "n_labelled": facts["n_labelled_test"],
            "saw_test_patients": facts["saw_test_patients"],
            "data_version": output.data_version,
            "source": facts["entry"]["source"],
            "note": "; ".join(_notes(workspace, output, row)),
        }


def _notes(workspace: Workspace, output: Output, row: Mapping[Any, Any]) -> Iterator[str]:
    """What a reader must know before laying a row beside others."""
    missing = output.facts["n_labelled_test"] - row["n_records"]
    if missing:
        yield f"{missing} labelled test records are not judged: their signals are absent or quarantined"
    if row["n_undefined"]:
        yield f"exploratory: {row['n_undefined']} classes left out"
    question = output.facts["question"]
    key = Key(("labels", question["dataset"]), question["task"])
    labels = workspace.current(key)
    if labels is not None and output.manifest["upstream"].get(str(key)) != labels.data_version:
        yield "judged on an earlier version of the labels"


def _published(row: Published) -> dict[str, Any]:
    return {
        "kind": "published", "task": row.task.split("/", 1)[1], "protocol": row.protocol, "fraction": row.fraction, "entry": row.model,
        "prompts": "", "value": row.value, "printed": row.printed, "source": row.source, "note": "",
    }  # fmt: skip
