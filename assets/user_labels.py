"""Reads and checks the labels that a user brings: a CSV file, or a query over a dataset's tables."""

from __future__ import annotations

import csv
import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from assets.dataset import Dataset, Task
from assets.outputs import Key, Output, Workspace
from assets.tables import some
from assets.user_tasks import UserTaskError, task_names

if TYPE_CHECKING:
    import pandas as pd

_CLASS = re.compile(r"[^\W_][\w .,+/()%<>=-]{0,63}")
_MOST_CLASSES = 500
_PARTS = ("train", "validation", "test")
FORMS = "record_id and either one column a class with 0 and 1, or a column `label` with one class, or a column `codes` with classes separated by ;"


@dataclass
class Brought:
    """Labels as a user brought them.

    Attributes:
        table: columns of text.
        what: where they come from, for messages.
        upstream: data versions of the outputs that were read.
    """

    table: pd.DataFrame
    what: str
    upstream: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """Labels that can be a task's.

    Attributes:
        table: record_id in the dataset's order, then one int8 column a class.
        notes: what the user should know: classes that cannot be judged, rows that were left out.
        positives: records with a class, by class and part.
    """

    task: Task
    table: pd.DataFrame
    notes: list[str]
    positives: dict[str, dict[str, int]]


def read_csv(path: Path) -> Brought:
    """A CSV file as text.

    Raises:
        UserTaskError: it is missing, no CSV in UTF-8, or has a column twice or a row that is cut short.
    """
    import pandas as pd

    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True)
            names = [name.strip() for name in next(rows, [])]
            values = [row for row in rows if row]
    except FileNotFoundError as error:
        raise UserTaskError(f"{path} is missing") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserTaskError(f"{path} cannot be read as CSV in UTF-8 ({error})") from error
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserTaskError(f"{path} has the column {', '.join(map(repr, twice))} twice")
    if odd := [i for i, row in enumerate(values, start=2) if len(row) != len(names)]:
        raise UserTaskError(f"{path}: row {odd[0]} has {len(values[odd[0] - 2])} fields, the header {len(names)}")
    return Brought(pd.DataFrame([[v.strip() for v in row] for row in values], columns=names, dtype=str), str(path))


def run_query(workspace: Workspace, dataset: type[Dataset], query: str) -> Brought:
    """The answer of a SELECT over `records` and, where they were made, `labels_<task>` and `reports_<form>`.

    The tables are copies in memory, so a query can change nothing; other statements than SELECT are refused.

    Raises:
        OutputError: the dataset was not scanned yet.
        UserTaskError: the query is none, names a table that is not there, or fails.
    """
    import pandas as pd

    tables: dict[str, tuple[Output, str]] = {"records": (workspace.require(Key(("raw", dataset.name))), "records.parquet")}
    for stage, partitions in (("labels", task_names(dataset, workspace.root)), ("reports", ["original", "english"])):
        for partition in partitions:
            output = workspace.current(Key((stage, dataset.name), partition))
            if output is not None:
                tables[f"{stage}_{partition}"] = (output, f"{stage}.parquet")
    upstream = {}
    base = sqlite3.connect(":memory:")
    try:
        for name, (output, file) in tables.items():
            if re.search(rf"\b{name}\b", query, re.IGNORECASE):
                pd.read_parquet(output.path(file)).to_sql(name, base, index=False)
                upstream[str(output.key)] = output.data_version
        allowed = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
        base.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY)
        cursor = base.execute(query)
        names = [column[0] for column in cursor.description or ()]
        rows = [["" if v is None else str(v).strip() for v in row] for row in cursor]
    except (sqlite3.Error, sqlite3.Warning) as error:
        there = ", ".join(tables)
        raise UserTaskError(f"the query cannot be answered: {error}; it must be one SELECT over {there}") from error
    finally:
        base.close()
    if len(set(names)) != len(names):
        raise UserTaskError(f"the query's answer has columns of one name ({', '.join(names)}); name them apart with AS")
    return Brought(pd.DataFrame(rows, columns=names, dtype=str), "the query's answer", upstream)


def check_labels(dataset: type[Dataset], records: pd.DataFrame, brought: Brought, name: str, title: str, negatives: bool | None) -> Checked:
    """Make a task of what a user brought, or say what is wrong with it.

    Args:
        dataset: whose records are labelled.
        records: its table of records, from the raw stage.
        brought: the labels.
        name: of the task.
        title: of the task, for people.
        negatives: whether a record without any class is labelled as having none (True) or is left out (False); None where
            the user did not say, which is an error as soon as there is such a record.

    Raises:
        UserTaskError: names the columns, records or classes at fault.
    """
    table = brought.table
    if "record_id" not in table or len(table.columns) < 2:
        raise UserTaskError(f"{brought.what} has the columns {', '.join(table.columns) or 'none'}; it needs {FORMS}")
    if table.empty:
        raise UserTaskError(f"{brought.what} has no rows")
    _require_records(brought, records)
    wide = _as_classes(brought)
    classes = [str(c) for c in wide.columns]
    _require_classes(brought, classes)
    empty = wide.sum(axis=1) == 0
    notes = []
    if empty.any() and negatives is None:
        raise UserTaskError(
            f"{brought.what}: {int(empty.sum())} records have no class at all (first: {some(wide.index[empty].tolist(), 3)}); pass --negatives if they "
            "were looked at and have none of these, or --no-negatives to leave them out as not labelled"
        )
    if empty.any() and not negatives:
        wide = wide[~empty]
        notes.append(f"{int(empty.sum())} records without any class are left out")
    order = records.loc[records["record_id"].isin(wide.index), "record_id"]
    wide = wide.reindex(order)
    fold = records.set_index("record_id")["fold"].reindex(wide.index)
    positives = _require_parts(brought, wide, fold.map(dataset.part), notes)
    made = Task(name, title, tuple(classes), {c: c for c in classes}, may_be_empty=bool(negatives and empty.any()))
    return Checked(made, wide.reset_index(names="record_id"), notes, positives)


def _require_records(brought: Brought, records: pd.DataFrame) -> None:
    ids = brought.table["record_id"]
    unknown = ids[~ids.isin(records["record_id"])]
    if len(unknown):
        example = records["record_id"].iloc[0] if len(records) else "none"
        raise UserTaskError(
            f"{brought.what} labels {len(unknown)} records that the dataset does not have: {some(unknown.tolist())}; its ids look like {example!r}"
        )
    if len(twice := ids[ids.duplicated()].unique()):
        raise UserTaskError(f"{brought.what} has {len(twice)} records more than once: {some(twice.tolist())}")


def _as_classes(brought: Brought) -> pd.DataFrame:
    """int8 columns of zeros and ones by class, indexed by record."""
    import pandas as pd

    table = brought.table.set_index("record_id")
    special = [c for c in ("label", "codes") if c in table]
    if special and len(table.columns) > 1:
        others = ", ".join(str(c) for c in table if c != special[0])
        raise UserTaskError(f"{brought.what} has a column {special[0]!r} and others beside it ({others}); it needs {FORMS}")
    if special:
        split = table[special[0]].map(lambda text: [w.strip() for w in text.split(";")] if special == ["codes"] else [text])
        exploded = split.explode()
        exploded = exploded[exploded != ""]
        if exploded.nunique() > _MOST_CLASSES:
            raise UserTaskError(f"{brought.what}: column {special[0]!r} has {exploded.nunique()} different values; is it free text?")
        classes = sorted(exploded.unique())
        wide = pd.DataFrame(0, index=table.index, columns=classes, dtype="int8")
        for name in classes:
            wide.loc[exploded.index[exploded == name].unique(), name] = 1
        return wide
    for name in table:
        wrong = ~table[name].isin(["0", "1"])
        if wrong.any():
            first, value = table.index[wrong][0], table[name][wrong].iloc[0]
            raise UserTaskError(
                f"{brought.what}: column {name!r} has {int(wrong.sum())} values other than 0 and 1 (record {first}: {value!r}); it needs {FORMS}"
            )
    return table.astype("int8")


def _require_classes(brought: Brought, classes: list[str]) -> None:
    if not classes:
        raise UserTaskError(f"{brought.what} names no class")
    if len(classes) > _MOST_CLASSES:
        raise UserTaskError(f"{brought.what} has {len(classes)} classes; at most {_MOST_CLASSES} are allowed")
    if bad := [c for c in classes if not _CLASS.fullmatch(c)]:
        raise UserTaskError(
            f"{brought.what}: {some([repr(c) for c in bad])} cannot be a class's name: a letter or digit first, then letters, digits, blanks and "
            "_ . , + / ( ) % < > = -, at most 64"
        )
    folded = [c.casefold() for c in classes]
    if twice := sorted({c for c in classes if folded.count(c.casefold()) > 1}):
        raise UserTaskError(f"{brought.what}: the classes {', '.join(twice)} differ in upper and lower case only; write them alike")


def _require_parts(brought: Brought, wide: pd.DataFrame, part: pd.Series, notes: list[str]) -> dict[str, dict[str, int]]:
    """Positives by class and part; refuses what could not be trained."""
    counts = part.value_counts()
    if missing := [p for p in _PARTS if not counts.get(p, 0)]:
        raise UserTaskError(f"{brought.what} labels no record of {' and '.join(missing)}; training, choosing and judging each need some")
    positives = {str(c): {p: int(wide.loc[part == p, c].sum()) for p in _PARTS} for c in wide.columns}
    if never := [c for c, n in positives.items() if not n["train"]]:
        raise UserTaskError(
            f"{brought.what}: no record of the training folds has {some(never)}, so it cannot be learned; label more, or leave it out"
        )
    if always := [c for c, n in positives.items() if n["train"] == counts["train"]]:
        raise UserTaskError(
            f"{brought.what}: every labelled record of the training folds has {some(always)}, so there is nothing to tell apart"
        )
    for name, consequence in (("validation", "training stops without looking at it"), ("test", "it has no AUROC")):
        if without := [c for c, n in positives.items() if n[name] in (0, counts[name])]:
            notes.append(f"no two different labels in {name} of {some(without)}: {consequence}")
    return positives
