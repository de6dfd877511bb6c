"""`einthoven task`: labels of one's own, as tasks that every method is trained and judged on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from assets.access import Access
from models.errors import ConfigurationError
from orchestration.terminal import console

task_app = typer.Typer(no_args_is_help=True, help="Labels of your own: checked, versioned, used by every method.")

DatasetOption = Annotated[str, typer.Option("--dataset", "-d", help="the dataset whose records are labelled")]
NameArgument = Annotated[str, typer.Argument(help="the task's name")]


@task_app.command("add")
def task_add(
    dataset: DatasetOption,
    file: Annotated[
        Path | None, typer.Argument(help="CSV: record_id and one 0/1 column a class, or a column `label`, or a column `codes`")
    ] = None,
    query: Annotated[
        str | None, typer.Option(help="a SELECT with the same columns over records, labels_<task> and reports_<form>, instead of a file")
    ] = None,
    name: Annotated[str | None, typer.Option(help="lower_case name; default: the file's")] = None,
    title: Annotated[str | None, typer.Option(help="for people; default: the name")] = None,
    negatives: Annotated[
        bool | None,
        typer.Option("--negatives/--no-negatives", help="records without any class have none of them / were not labelled and are left out"),
    ] = None,
    access: Annotated[
        Access | None, typer.Option(help="class of the labels; default: private for a file, the dataset's for a query")
    ] = None,
) -> None:
    """Add labels as a task of a dataset, or as the next version of a task that was added before."""
    import pandas as pd

    from assets.access import strictest
    from assets.dataset import get_dataset
    from assets.outputs import Key, Workspace, sha256_file
    from assets.settings import load
    from assets.user_labels import check_labels, read_csv, run_query
    from assets.user_tasks import add_user_task, require_name
    from assets.verdicts import require_checked

    chosen, workspace = get_dataset(dataset), Workspace(load().home)
    if (file is None) == (query is None):
        raise ConfigurationError("give either a CSV file or --query")
    if file is None and name is None:
        raise ConfigurationError("labels from a query need a --name")
    called = name or re.sub(r"[^a-z0-9]+", "_", str(file and file.stem).lower()).strip("_")
    require_name(chosen, called)
    raw = require_checked(workspace, Key(("raw", dataset)))
    brought = read_csv(file) if file is not None else run_query(workspace, chosen, str(query))
    checked = check_labels(chosen, pd.read_parquet(raw.path("records.parquet")), brought, called, title or called, negatives)
    source = {"file": file.name, "sha256": sha256_file(file)} if file is not None else {"query": query}
    notes = {
        "source": source, "upstream": {str(raw.key): raw.data_version, **brought.upstream}, **_now(),
        "n_records": len(checked.table), "positives": checked.positives,
    }  # fmt: skip
    own = access or (Access.PRIVATE if file is not None else chosen.access)
    added = add_user_task(workspace.root, chosen, checked.task, checked.table, strictest([own, chosen.access]), notes)
    console.print(
        f"task {called} of {dataset}, version {added.version}: {len(checked.table):,} records, {len(checked.task.classes)} classes, {added.access}"
    )
    for note in checked.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    console.print(
        f"`einthoven run METHOD --dataset {dataset}` trains and judges it with the others; Dagster's UI shows it once its code location is reloaded"
    )


@task_app.command("list")
def task_list(dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="only this dataset")] = None) -> None:
    """The tasks that were added, by dataset."""
    from assets.dataset import get_dataset, list_datasets
    from assets.settings import load
    from assets.user_tasks import find_user_task, user_task_names

    home, table = load().home, Table("dataset", "task", "title", "classes", "records", "version", "access", "added")
    for each in [get_dataset(dataset).name] if dataset else list_datasets():
        for name in user_task_names(home, each):
            if (added := find_user_task(home, each, name)) is not None:
                counts = (str(len(added.task.classes)), str(added.notes.get("n_records", "")), str(added.version))
                table.add_row(each, name, escape(added.task.title), *counts, str(added.access), str(added.notes.get("added_at", ""))[:10])
    console.print(table)


@task_app.command("show")
def task_show(
    name: NameArgument,
    dataset: DatasetOption,
    version: Annotated[int | None, typer.Option(help="an earlier version")] = None,
) -> None:
    """One task: where it comes from, and how often each class occurs in each part."""
    from assets.settings import load
    from assets.user_tasks import UserTaskError, find_user_task, user_task_names, versions

    home = load().home
    found = find_user_task(home, dataset, name, version) if version is None or version in versions(home, dataset, name) else None
    if found is None:
        there = ", ".join(map(str, versions(home, dataset, name)))
        tasks = ", ".join(user_task_names(home, dataset)) or "none"
        raise UserTaskError(
            f"{dataset} has no such task {name!r} in use; tasks: {tasks}" + (f"; versions of {name!r}: {there}" if there else "")
        )
    notes = found.notes
    about = Table(show_header=False, box=None)
    for key, text in (
        ("task", f"{found.task.title} ({name}), version {found.version} of {', '.join(map(str, versions(home, dataset, name)))}"),
        (
            "records",
            f"{notes.get('n_records')}; without any class: {'labelled as having none' if found.task.may_be_empty else 'not in it'}",
        ),
        ("access", str(found.access)),
        ("from", "; ".join(f"{k} {v}" for k, v in notes.get("source", {}).items())),
        ("added", f"{notes.get('added_at')} by {notes.get('added_by')}"),
        ("folder", str(found.folder)),
    ):
        about.add_row(f"[bold]{key}[/]", escape(text))
    console.print(about)
    table = Table("class", "train", "validation", "test")
    for name_of_class, counts in notes.get("positives", {}).items():
        table.add_row(escape(name_of_class), *(str(counts[p]) for p in ("train", "validation", "test")))
    console.print(table)


@task_app.command("remove")
def task_remove(name: NameArgument, dataset: DatasetOption) -> None:
    """Take a task out of use. Its versions and what was made with it stay on disk."""
    from assets.settings import load
    from assets.user_tasks import remove_user_task

    remove_user_task(load().home, dataset, name)
    console.print(f"task {name} of {dataset} is not in use any more; adding it again makes the next version")


def _now() -> dict[str, str]:
    import getpass
    from datetime import UTC, datetime

    return {"added_at": datetime.now(UTC).isoformat(timespec="seconds"), "added_by": getpass.getuser()}
