"""Tasks that a user adds to a dataset: label tables of their own, checked when they are added, every version kept.

<home>/tasks/<dataset>/<task>/IN_USE           names the version in use; absent once the task was removed
<home>/tasks/<dataset>/<task>/<version>/       task.json, labels.parquet; never changed afterwards
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.access import Access
from assets.dataset import Dataset, Task, get_dataset, list_datasets
from assets.outputs import digest, fsync_folder, locked, write_atomic
from assets.settings import workspace_home
from models.errors import EinthovenError
from models.registry import get_spec, list_methods

if TYPE_CHECKING:
    import pandas as pd

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_IN_USE = "IN_USE"


class UserTaskError(EinthovenError):
    """A task of a user's own that is not there, is damaged, or cannot be added."""


@dataclass(frozen=True)
class UserTask:
    """A version of a task that a user added.

    Attributes:
        sha256: of its classes, labels and meaning of empty rows: what the label stage's identity is made of.
        access: class of the labels themselves.
        notes: where they come from: `source`, `upstream` data versions, `added_at`, `added_by`, `n_records`.
    """

    dataset: str
    task: Task
    version: int
    sha256: str
    access: Access
    notes: Mapping[str, Any]
    folder: Path

    def labels(self) -> pd.DataFrame:
        """record_id, `start` where the task is about windows, and one column a class, as `Dataset.labels`.

        Raises:
            UserTaskError: the table was altered since it was added.
        """
        import pandas as pd

        path = self.folder / "labels.parquet"
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UserTaskError(f"{path} cannot be read ({error}); {_again(self.dataset, self.task.name)}") from error
        if fingerprint(self.task, table) != self.sha256:
            raise UserTaskError(f"{path} is not the table that was added; {_again(self.dataset, self.task.name)}")
        return table


def user_task_names(home: Path, dataset: str) -> list[str]:
    """Names of the tasks that users added to a dataset, sorted. Cheap: definitions are made of it."""
    try:
        entries = sorted(e.name for e in os.scandir(home / "tasks" / dataset) if _NAME.fullmatch(e.name))
    except OSError:
        return []
    known = get_dataset(dataset).task_names
    return [name for name in entries if name not in known and (home / "tasks" / dataset / name / _IN_USE).is_file()]


def task_names(dataset: type[Dataset], home: Path | None = None) -> list[str]:
    """All tasks of a dataset: those it declares, then those that users added in a workspace (default: this installation's)."""
    return [*dataset.task_names, *user_task_names(workspace_home() if home is None else home, dataset.name)]


def find_user_task(home: Path, dataset: str, name: str, version: int | None = None) -> UserTask | None:
    """A version of a user's task, by default the one in use; None where there is none.

    Raises:
        UserTaskError: it is there and cannot be read.
    """
    folder = home / "tasks" / dataset / name
    try:
        number = version if version is not None else int((folder / _IN_USE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserTaskError(f"{folder / _IN_USE} names no version; {_again(dataset, name)}") from error
    return _read(folder / str(number), dataset, name)


def versions(home: Path, dataset: str, name: str) -> list[int]:
    """The versions that were ever added, rising."""
    folder = home / "tasks" / dataset / name
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.is_dir() else []


def require_name(dataset: type[Dataset], name: str) -> None:
    """Refuse a name that a task cannot have.

    Raises:
        UserTaskError: it is no lower_case word, or one of a task that the platform defines.
    """
    if not _NAME.fullmatch(name):
        raise UserTaskError(f"{name!r} cannot be a task's name: lower-case letters, digits and _, a letter first, at most 40")
    taken = {t for d in list_datasets() for t in get_dataset(d).task_names} | {t for m in list_methods() for t in get_spec(m).tasks}
    if name in taken:
        raise UserTaskError(f"{name!r} is the name of a task that datasets define; choose another --name, for example my_{name}")


def add_user_task(
    home: Path, dataset: type[Dataset], task: Task, table: pd.DataFrame, access: Access, notes: Mapping[str, Any]
) -> UserTask:
    """Keep a checked label table as the next version of a task, and use it from now on.

    Args:
        home: workspace.
        dataset: whose records are labelled.
        task: name, title, classes in the order of the table's columns.
        table: record_id, `start` where the task is about windows, then one column a class.
        access: class of the labels.
        notes: JSON about where they come from.

    Returns:
        The version in use; the one before, where nothing has changed.

    Raises:
        UserTaskError: the name cannot be a task's, or the disk does not take it.
    """
    require_name(dataset, task.name)
    home_of_task = home / "tasks" / dataset.name / task.name
    sha256 = fingerprint(task, table)
    with locked(home / "tasks" / f".lock-{dataset.name}-{task.name}"):
        before = find_user_task(home, dataset.name, task.name)
        if before is not None and (before.sha256, before.task.title, before.access) == (sha256, task.title, access):
            return before
        number = max(versions(home, dataset.name, task.name), default=0) + 1
        facts = {
            "dataset": dataset.name,
            "name": task.name,
            "title": task.title,
            "classes": list(task.classes),
            "class_names": dict(task.class_names),
            "may_be_empty": task.may_be_empty,
            "kind": task.kind,
            "unit": task.unit,
            "per_window": task.per_window,
            "version": number,
            "sha256": sha256,
            "access": str(access),
            "notes": dict(notes),
        }
        try:
            _keep(home_of_task, number, table, facts)
        except OSError as error:
            raise UserTaskError(f"{home_of_task} cannot take version {number} ({error.strerror or error}); nothing was changed") from error
    return _read(home_of_task / str(number), dataset.name, task.name)


def _keep(home_of_task: Path, number: int, table: pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Write a version beside its place, move it there when it is whole, and take it into use."""
    temporary = home_of_task / f".adding-{number}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    table.to_parquet(temporary / "labels.parquet", index=False)
    with (temporary / "labels.parquet").open("rb") as stream:
        os.fsync(stream.fileno())
    write_atomic(temporary / "task.json", json.dumps(facts, indent=1))
    os.rename(temporary, home_of_task / str(number))
    fsync_folder(home_of_task)
    write_atomic(home_of_task / _IN_USE, str(number))


def remove_user_task(home: Path, dataset: str, name: str) -> None:
    """Take a task out of use; its versions stay on disk, and adding it again makes the next one.

    Raises:
        UserTaskError: no such task.
    """
    with locked(home / "tasks" / f".lock-{dataset}-{name}"):
        if find_user_task(home, dataset, name) is None:
            added = ", ".join(user_task_names(home, dataset)) or "none"
            raise UserTaskError(f"no task {name!r} was added to {dataset}; added were {added}")
        (home / "tasks" / dataset / name / _IN_USE).unlink()


def fingerprint(task: Task, table: pd.DataFrame) -> str:
    """Hash of what labels mean: classes in order, whether empty rows count, unit, and every record's or window's labels."""
    from hashlib import sha256

    columns = [
        table[c].astype("float64" if c == "start" else task.dtype).to_numpy().tobytes()
        for c in (*task.keys[1:], *task.classes)
        if c in table
    ]
    body = sha256("\n".join(table["record_id"].astype(str)).encode())
    for column in columns:
        body.update(column)
    meaning = {"classes": list(task.classes), "columns": list(table.columns), "may_be_empty": task.may_be_empty, "rows": body.hexdigest()}
    # Tasks that were added before there were kinds keep their hash.
    return digest(meaning if task.kind == "multilabel" else meaning | {"kind": task.kind, "unit": task.unit})


def _read(folder: Path, dataset: str, name: str) -> UserTask:
    path = folder / "task.json"
    try:
        raw = json.loads(path.read_text())
        task = Task(
            raw["name"],
            raw["title"],
            tuple(raw["classes"]),
            raw["class_names"],
            bool(raw["may_be_empty"]),
            kind=raw.get("kind", "multilabel"),
            unit=raw.get("unit", ""),
            per_window=bool(raw.get("per_window", False)),
        )
        found = UserTask(raw["dataset"], task, int(raw["version"]), raw["sha256"], Access(raw["access"]), raw["notes"], folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserTaskError(f"{path} cannot be read ({error}); {_again(dataset, name)}") from error
    if (found.dataset, task.name) != (dataset, name):
        raise UserTaskError(f"{path} is about task {task.name!r} of {found.dataset}; {_again(dataset, name)}")
    return found


def _again(dataset: str, name: str) -> str:
    return f"add it again: einthoven task add ... --dataset {dataset} --name {name}"
