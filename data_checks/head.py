"""Check of head/<method>/<task>: prediction tables about known, labelled records outside the training folds, for both arms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assets.dataset import Dataset
from assets.outputs import Key
from assets.training import task_home
from assets.user_tasks import task_names
from data_checks.context import CheckContext
from data_checks.tables import read_table
from models.errors import ConfigurationError
from models.head_recipes import FROZEN
from models.predictions import PredictionError, read_predictions, window_name
from models.registry import get_spec

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from models.predictions import Predictions

FROZEN_PROTOCOLS = ("zero_shot", *FROZEN, "fused", "fused_image_only")
"""Protocols that leave the encoder as it is; a random-initialised twin shows what the encoder adds."""
ARMS = ("pretrained", "random_init")


def check_predictions(c: CheckContext) -> str:
    """Every prediction table is readable and finite, names records of validation and test with their true labels, in both arms."""
    listed = list(c.output.facts["tables"])
    tables = read_tables(c)
    held = sorted(path.name for path in tables)
    if sorted(listed) != held:
        c.findings.fail(f"the manifest lists the tables {', '.join(listed) or 'none'}; in the folder are {', '.join(held) or 'none'}")
    task = c.output.key.parts[2]
    for path, table in tables.items():
        if table.origin.task != task:
            c.findings.fail(f"{path.name} is about task {table.origin.task!r}, the output about {task!r}")
    check_tables(c, tables)
    return (
        f"{len(tables)} prediction tables about task {task!r} are as declared"
        if tables
        else f"there is nothing to train for task {task!r}: no table, as declared"
    )


def read_tables(c: CheckContext) -> dict[Path, Predictions]:
    """The output's prediction tables by file; unreadable ones become problems."""
    tables = {}
    for path in sorted((c.output.folder / "predictions").glob("*.parquet")):
        try:
            tables[path] = read_predictions(path)
        except PredictionError as error:
            c.findings.fail(f"{path.name}: {error}")
    return tables


def check_tables(c: CheckContext, tables: dict[Path, Predictions]) -> None:
    """Compare tables with the records, folds and labels of the dataset that is their task's home, and with each other."""
    truths: dict[str, tuple[pd.DataFrame, pd.DataFrame, type[Dataset]] | None] = {}
    for path, table in tables.items():
        origin, name = table.origin, path.name
        expected = (c.dataset.name, c.output.key.parts[1], path.stem)
        if (origin.dataset, origin.method, origin.slug) != expected:
            c.findings.fail(f"{name} says it holds {origin.slug} of method {origin.method!r} on {origin.dataset!r}")
        if origin.task not in truths:
            truths[origin.task] = _truth(c, origin.task)
        truth = truths[origin.task]
        if truth is None:
            c.findings.fail(f"{name} is about task {origin.task!r}, which dataset {c.dataset.name!r} does not have")
            continue
        records, labels, home = truth
        _check_records(c, name, table, _recordings(table, records), records, home)
        _check_labels(c, name, table, labels)
    _check_arms(c, list(tables.values()))
    _check_same_records(c, tables)


def _truth(c: CheckContext, task: str) -> tuple[pd.DataFrame, pd.DataFrame, type[Dataset]] | None:
    """Records and labels of a task's home, by record_id or by the names of windows; None where the dataset has no such task."""
    home = c.dataset
    if task not in task_names(home, c.workspace.root):
        try:
            home, _ = task_home(get_spec(c.output.key.parts[1]), c.dataset, task)
        except ConfigurationError:
            return None
    labels: pd.DataFrame = read_table(c.origin(Key(("labels", home.name), task)).path("labels.parquet")).to_pandas()
    if "start" in labels:
        names = [window_name(name, start) for name, start in zip(labels["record_id"], labels.pop("start"), strict=True)]
        labels = labels.assign(record_id=names)
    return c.records(home), labels.set_index("record_id"), home


def _recordings(table: Predictions, records: pd.DataFrame) -> NDArray[np.str_]:
    """The record of each row, which may be about a window of it."""
    import numpy as np

    known = set(records.index)
    return np.array([name if name in known else name.rpartition("@")[0] or name for name in table.record_id.tolist()], dtype=np.str_)


def _check_records(
    c: CheckContext, name: str, table: Predictions, recording_N: NDArray[np.str_], records: pd.DataFrame, home: type[Dataset]
) -> None:
    import numpy as np

    split = home.split
    ids = table.record_id
    known = np.isin(recording_N, records.index.to_numpy(dtype=np.str_))
    if not known.all():
        c.findings.fail(f"{name}: unknown records", ids[~known])
    records = records.reindex(recording_N[known].tolist())
    folds = records["fold"].to_numpy()
    if (strange := records["patient_id"].to_numpy(dtype=np.str_) != table.patient_id[known]).any():
        c.findings.fail(f"{name}: records with another patient than their own", ids[known][strange])
    if (trained := np.isin(folds, split.train)).any():
        c.findings.fail(f"{name}: records of the training folds are judged", ids[known][trained])
    judged = np.isin(table.fold, [*split.validation, *split.test])
    if not judged.all():
        c.findings.fail(f"{name}: records with a fold that is neither validation nor test", ids[~judged])
    if (moved := folds != table.fold[known]).any():
        c.findings.fail(f"{name}: records with another fold than their own", ids[known][moved])
    if not np.isin(table.fold, split.test).any():
        c.findings.fail(f"{name}: no record of the test folds")


def _check_labels(c: CheckContext, name: str, table: Predictions, truth: pd.DataFrame) -> None:
    import numpy as np

    if not table.numbers and (wrong := ~np.isin(table.labels_NC, (0, 1)).all(axis=1)).any():
        c.findings.fail(f"{name}: labels other than 0 and 1", table.record_id[wrong])
    if table.numbers != truth.dtypes.map(lambda kind: kind.kind == "f").all():
        c.findings.fail(f"{name} says that the task is {table.origin.kind}, and the labels are {', '.join(map(str, set(truth.dtypes)))}")
    if table.numbers and table.origin.reference is None:
        c.findings.fail(f"{name} does not say what the mean of the training records is, so nobody can tell what its error is worth")
    if sorted(table.classes) != sorted(truth.columns):
        c.findings.fail(f"{name} has the classes {', '.join(table.classes)}; the task's are {', '.join(truth.columns)}")
        return
    labelled = np.isin(table.record_id, truth.index.to_numpy(dtype=np.str_))
    if not labelled.all():
        c.findings.fail(f"{name}: records without a label of the task", table.record_id[~labelled])
    ids = table.record_id[labelled]
    differ = (truth.reindex(ids.tolist())[list(table.classes)].to_numpy() != table.labels_NC[labelled]).any(axis=1)
    if differ.any():
        c.findings.fail(f"{name}: labels that differ from the label table", ids[differ])


def _check_arms(c: CheckContext, tables: Sequence[Predictions]) -> None:
    arms: dict[tuple[str, str, float | None, str | None, str | None], set[str]] = {}
    for table in tables:
        o = table.origin
        if o.protocol in FROZEN_PROTOCOLS:
            arms.setdefault((o.task, o.protocol, o.fraction, o.prompts, o.channels), set()).add(o.arm)
    for question, held in sorted(arms.items(), key=str):
        if held != set(ARMS):
            what = ", ".join(str(w) for w in question if w is not None)
            c.findings.fail(
                f"{what}: arms {', '.join(sorted(held))} instead of {' and '.join(ARMS)}; without the twin nobody can tell what pretraining adds"
            )


def _check_same_records(c: CheckContext, tables: dict[Path, Predictions]) -> None:
    """Numbers of one task are compared with each other, so they must be about the same records."""
    first: dict[str, tuple[str, frozenset[str]]] = {}
    for path, table in tables.items():
        ids = frozenset(table.record_id.tolist())
        name, others = first.setdefault(table.origin.task, (path.name, ids))
        if ids != others:
            c.findings.fail(f"{path.name} and {name} are about different records of one task", sorted(ids ^ others))
