"""`einthoven data`: which datasets there are, fetching them, and whether they are what they were."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from models.errors import ConfigurationError
from orchestration.terminal import console, problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from assets.dataset import Dataset
    from assets.download import Progress

data_app = typer.Typer(no_args_is_help=True, help="Datasets: what is known, what is there, whether it is intact.")


@data_app.command("list")
def data_list() -> None:
    """Every dataset: licence, access, tasks, and where it is or how to get it."""
    from assets.dataset import get_dataset, list_datasets
    from assets.settings import load
    from assets.user_tasks import task_names

    settings = load()
    widths = {"dataset": 19, "title": 36, "licence": 16, "access": 13, "tasks": 28, "where": None}
    _print_row({name: f"[bold]{name}[/]" for name in widths}, {name: width and width + 9 for name, width in widths.items()})
    for name in list_datasets():
        dataset = get_dataset(name)
        folder = settings.dataset_folder(name)
        row = {
            "dataset": name,
            "title": f"{dataset.source.title} {dataset.source.version}",
            "licence": dataset.source.licence,
            "access": str(dataset.access),
            "tasks": " ".join(task_names(dataset, settings.home)),
            "where": escape(str(folder)) if folder.is_dir() else _how_to_get(dataset),
        }
        _print_row(row, widths)


def _print_row(row: Mapping[str, str], widths: Mapping[str, int | None]) -> None:
    """One line whatever the width of the terminal; what is too long for its column is cut."""
    cells = []
    for name, width in widths.items():
        text = row[name]
        cells.append(text if width is None else (text if len(text) < width else f"{text[: width - 2]}…").ljust(width))
    console.print("".join(cells), soft_wrap=True, highlight=False)


def _how_to_get(dataset: type[Dataset]) -> str:
    if dataset.simulated:
        return "[dim]made on first use[/]"
    credentials = dataset.source.download.credentials
    if credentials == "manual":
        return f"[dim]by hand: {dataset.source.homepage}[/]"
    return f"[dim]einthoven data download {dataset.name}{'' if credentials == 'none' else ' (your account)'}[/]"


@data_app.command("download")
def data_download(
    dataset: Annotated[str, typer.Argument(help="a dataset from `einthoven data list`")],
    folder: Annotated[Path | None, typer.Option(help="where to; default: the dataset's folder of the settings")] = None,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="accept the licence without being asked")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="a pattern of paths, for example 'records100/*'; may be given several times")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=128, help="files fetched at once")] = 16,
    source: Annotated[str, typer.Option(help="s3, https, or the address of a mirror with the same layout")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="replace files whose checksum is not the published one")] = False,
) -> None:
    """Fetch what is missing of a dataset and check every file against its publisher's checksum. Goes on where it stopped."""
    from assets.dataset import get_dataset
    from assets.download import Wish, choose_transport, download
    from assets.settings import load

    settings, chosen = load(), get_dataset(dataset)
    target = (folder or settings.dataset_folder(dataset)).absolute()
    wish = Wish(only=tuple(only or ()), workers=workers, source=source, replace=replace)
    _introduce(chosen, target)
    choose_transport(chosen, wish)  # nobody is asked to accept the licence of what cannot be had
    _accept(chosen, settings.home / "licences" / f"{dataset}.json", accept_licence)
    with _bar(chosen) as report:
        done = download(chosen, target, settings.home / "cache" / "downloads" / dataset, wish, report)
    console.print(
        f"{done.n_files:,} files are there: {done.n_fetched:,} fetched ({done.received.n_bytes / 1e6:,.1f} MB), {done.n_kept:,} were there already"
        + (f", {done.n_read:,} of them read to compare" if done.n_read else "")
        + (f"; for {done.n_unchecked:,} files the publisher states no checksum" if done.n_unchecked else "")
    )
    if target != settings.dataset_folder(dataset).absolute():
        console.print(f"to use it, say so in settings.yaml: datasets: {{{dataset}: {target}}}", soft_wrap=True)


@data_app.command("verify")
def data_verify(dataset: Annotated[str, typer.Argument(help="a dataset")]) -> None:
    """Read every file of a dataset and everything made from it, and compare with what was recorded."""
    from orchestration.doctor import verify_dataset

    bad = 0
    for name, fault in verify_dataset(dataset):
        bad += fault is not None
        console.print(f"[green]intact[/]  {escape(name)}" if fault is None else f"[red]fault[/]   {escape(fault)}", highlight=False)
    if bad:
        raise typer.Exit(1)


@data_app.command("push")
def data_push() -> None:
    """Record in DVC what was made and send it to the remote, if its access class allows."""
    from assets.outputs import Workspace
    from assets.settings import load
    from orchestration.versioning import current_outputs, require_dvc_allows, run_dvc

    settings = load()
    require_dvc_allows(settings, current_outputs(Workspace(settings.home)))
    run_dvc("commit", "--force")
    console.print(run_dvc("push"))


@data_app.command("pull")
def data_pull() -> None:
    """Bring back from the DVC remote what dvc.lock names."""
    from orchestration.versioning import run_dvc

    console.print(run_dvc("pull"))


def _introduce(dataset: type[Dataset], folder: Path) -> None:
    source = dataset.source
    table = Table(show_header=False, box=None)
    for name, text in (
        ("dataset", f"{source.title} {source.version}"),
        ("homepage", source.homepage),
        ("licence", source.licence),
        ("terms", source.terms),
        ("to cite", source.citation),
        ("size", f"about {source.download.n_bytes / 1e9:,.1f} GB" if source.download.n_bytes else "not known"),
        ("goes to", str(folder)),
    ):
        table.add_row(f"[bold]{name}[/]", escape(text))
    console.print(table)


def _accept(dataset: type[Dataset], record: Path, accepted: bool) -> None:
    """Have the licence accepted, once for a version, and keep when and by whom.

    Raises:
        ConfigurationError: it was not accepted.
    """
    import getpass

    from assets.outputs import write_atomic

    source = dataset.source
    terms = {"dataset": dataset.name, "version": source.version, "licence": source.licence, "terms": source.terms}
    try:
        before = json.loads(record.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        before = {}
    if {k: before.get(k) for k in terms} == terms:
        return
    if not accepted and not (sys.stdin.isatty() and typer.confirm("Do you accept licence and terms, and will you cite it?")):
        raise ConfigurationError(
            f"the licence of {source.title} ({source.licence}) was not accepted; read {source.homepage} and pass --accept-licence"
        )
    record.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    write_atomic(
        record, json.dumps({**terms, "homepage": source.homepage, "accepted_at": when, "accepted_by": getpass.getuser()}, indent=1)
    )


def _bar(dataset: type[Dataset]) -> AbstractContextManager[Callable[[Progress], None]]:
    """A progress bar on a terminal; silence elsewhere."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    @contextmanager
    def shown() -> Iterator[Callable[[Progress], None]]:
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TextColumn("{task.fields[files]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Bar(*columns, console=problems, transient=True, disable=not problems.is_terminal) as bar:
            task = bar.add_task(dataset.name, total=None, files="")

            def report(progress: Progress) -> None:
                n_done = progress.n_kept + progress.n_fetched
                there = progress.n_bytes_there + progress.received.n_bytes
                bar.update(
                    task,
                    completed=there,
                    # The declared size is approximate, so an end is drawn only as long as it has not been passed.
                    total=progress.n_bytes if progress.n_bytes >= there else None,
                    files=f"{n_done:,} of {progress.n_files:,} files",
                )

            yield report

    return shown()
