"""`einthoven benchmark` and `einthoven compare`: anyone's model under one protocol, and two of them beside each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from models.errors import ConfigurationError
from orchestration.options import overrides_of
from orchestration.terminal import console, problems

if TYPE_CHECKING:
    import pandas as pd

    from orchestration.benchmark import Benchmark
    from orchestration.pipeline import Step

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
DatasetArgument = Annotated[str, typer.Argument(help="whose folds and tasks judge, for example ptb_xl")]


def benchmark(
    dataset: DatasetArgument,
    method: Annotated[str | None, typer.Option("--method", "-m", help="a method of the platform")] = None,
    encoder: Annotated[str | None, typer.Option(help="package.module:Class, an encoder of your own (docs/benchmark.md)")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="features of your own: .npy with --ids, or Parquet with record_id")] = None,
    ids: Annotated[Path | None, typer.Option(help="record ids of the rows of a .npy: .txt, .npy or Parquet")] = None,
    predictions: Annotated[Path | None, typer.Option(help="scores of your own: Parquet with record_id and a column a class")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="all, diag, sub, super, form, rhythm, ...")] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="linear_probe, attentive_probe, finetune, finetune_after_probe, zero_shot")
    ] = None,
    fraction: Annotated[float, typer.Option(help="share of the training labels")] = 1.0,
    preset: Annotated[str, typer.Option(help="named configuration of the method")] = "tiny",
    seed: Annotated[list[int] | None, typer.Option(help="may be given several times: a row each")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="override one option, for example -o max_steps=100")] = None,
    name: Annotated[str | None, typer.Option(help="what your entry is called in the table")] = None,
    source: Annotated[str, typer.Option(help="where your entry comes from, in free text")] = "",
    recipe: Annotated[str, typer.Option(help="for --encoder: how signals are prepared")] = "native",
    skip_undefined: Annotated[
        bool, typer.Option("--skip-undefined", help="exploratory: leave classes out that the test records cannot define, and say so")
    ] = False,
    markdown: Annotated[bool, typer.Option(help="print the table as Markdown")] = False,
) -> None:
    """Judge a method, or an encoder, features or scores of your own, by the benchmark's protocol; without any, show the table."""
    brought = {"--method": method, "--encoder": encoder, "--embeddings": embeddings, "--predictions": predictions}
    given = [flag for flag, value in brought.items() if value is not None]
    if len(given) > 1:
        raise ConfigurationError(f"give one of {', '.join(brought)}, not {' and '.join(given)}")
    if ids is not None and embeddings is None:
        raise ConfigurationError("--ids belongs to --embeddings")
    if not given:
        show_table(dataset, task, markdown)
        return
    _require_options(given[0], task, protocol, name, option)
    _require_name(given[0], name)

    from assets.benchmark import NOT_STATED, ZERO_SHOT, Question
    from assets.settings import load
    from orchestration.benchmark import Benchmark
    from orchestration.instance import get_instance

    chosen = protocol or ("linear_probe" if embeddings else NOT_STATED)
    share = None if chosen in (ZERO_SHOT, NOT_STATED) else fraction
    options = overrides_of(option or [])
    with get_instance(load()) as instance:
        where = Benchmark(instance, _announce)
        for each in dict.fromkeys(seed or [0]):
            question = Question(dataset, str(task), chosen, share, each, skip_undefined)
            if method is not None:
                where.method(method, preset, options, question)
            elif encoder is not None:
                where.encoder(encoder, str(name), source, recipe, options, question)
            else:
                _bring(where, embeddings, ids, predictions, str(name), source, question)
        where.show(dataset)
    show_table(dataset, task, markdown)


def compare(
    first: Annotated[str, typer.Argument(help="an entry as the table names it: merl:tiny, or an external name; /random_init: its twin")],
    second: Annotated[str, typer.Argument(help="the entry that it is compared with")],
    task: Annotated[str, typer.Option("--task", "-t", help="all, diag, sub, super, form, rhythm, ...")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="whose benchmark")] = "ptb_xl",
    protocol: Annotated[str | None, typer.Option("--protocol", "-p", help="where the entries have several in common")] = None,
    fraction: Annotated[float | None, typer.Option(help="where the entries have several in common")] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="the difference of every class, too")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="print a LaTeX table (booktabs)")] = False,
) -> None:
    """Compare two entries on the same test patients, over all their seeds: difference with its paired 95 % interval."""
    from assets.comparison import compare_entries
    from assets.comparison_text import class_rows, explained, rows_of, to_latex
    from assets.dataset import get_dataset
    from assets.outputs import Workspace
    from assets.settings import load

    found = compare_entries(Workspace(load().home), get_dataset(dataset).name, task, first, second, protocol, fraction)
    if latex:
        typer.echo(to_latex(found, per_class), nl=False)
        return
    table = Table("", "macro AUROC [95 %]", "seeds", box=None)
    for row in rows_of(found):
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(escape(explained(found)), highlight=False)
    if per_class:
        classes = Table("class", "difference in AUROC [95 %]", box=None)
        for pair in class_rows(found):
            classes.add_row(*map(escape, pair))
        console.print(classes)


def show_table(dataset: str, task: str | None, markdown: bool) -> None:
    """Print the benchmark of a dataset, or of one task of it."""
    import pandas as pd

    from assets.benchmark_asset import make_benchmark
    from assets.benchmark_text import to_markdown
    from assets.dataset import get_dataset
    from assets.outputs import Workspace
    from assets.settings import load

    output = make_benchmark(Workspace(load().home), get_dataset(dataset))
    table = pd.read_parquet(output.path("benchmark.parquet"))
    table = table if task is None else table[table["task"] == task]
    if markdown:
        typer.echo(to_markdown(table, dataset))
    elif table.empty:
        console.print(f"nothing has been judged on {dataset}/{task} yet, and nothing was published on it; see `einthoven benchmark --help`")
    else:
        _print(table, dataset)
        console.print(f"Picture: {output.path('figures/benchmark.png')}", highlight=False, soft_wrap=True)


def _print(table: pd.DataFrame, dataset: str) -> None:
    """A table of entries a task, and below it what was published, a line a protocol."""
    from assets.benchmark_text import CAPTION, HEADER, cells, said, share

    for task, rows in table.groupby("task", sort=False):
        console.print(f"[bold]{dataset}/{task}[/]")
        own = rows[rows["kind"] != "published"]
        shown = Table(HEADER[0], *(Column(name, no_wrap=True) for name in HEADER[1:-1]), box=None)
        for row in own.to_dict("records"):
            *columns, note = map(escape, cells(row))
            shown.add_row(*columns)
            if note:
                shown.add_row(f"  [yellow]{note}[/]")
        console.print(shown if len(own) else "  nothing of ours yet")
        published = rows[rows["kind"] == "published"]
        terms = published["protocol"].str.replace("_", " ") + published["fraction"].map(
            lambda f: f", {share(f)} of labels" if share(f) else ""
        )
        for said_terms, printed in published.groupby(terms):
            values = "; ".join(f"{r['entry']} {said(r)}" for r in printed.to_dict("records"))
            console.print(f"[dim]  published, {said_terms}:[/] {escape(values)}", highlight=False)
        console.print()
    console.print(f"{CAPTION} Sources: --markdown.", highlight=False)


def _bring(
    where: Benchmark, embeddings: Path | None, ids: Path | None, predictions: Path | None, name: str, source: str, question: object
) -> None:
    from assets.benchmark import Question

    assert isinstance(question, Question)
    if embeddings is not None:
        where.features(embeddings, ids, name, source, question)
    elif predictions is not None:
        where.predictions(predictions, name, source, question)


def _require_options(flag: str, task: str | None, protocol: str | None, name: str | None, option: list[str] | None) -> None:
    """Refuse what does not belong together."""
    needed = {"--task": task}
    if flag in ("--method", "--encoder"):
        needed["--protocol"] = protocol
    if flag != "--method":
        needed["--name"] = name
    if missing := [each for each, value in needed.items() if not value]:
        raise ConfigurationError(f"{flag} needs {' and '.join(missing)}")
    if flag == "--method" and name:
        raise ConfigurationError("--name is for entries of your own; a method is called by itself and its preset")
    if flag == "--embeddings" and protocol not in (None, "linear_probe"):
        raise ConfigurationError(
            f"features can be judged by linear_probe alone, not by {protocol}; bring the --encoder for other protocols"
        )
    if flag in ("--embeddings", "--predictions") and option:
        raise ConfigurationError(f"--option has nothing to change for {flag}")


def _require_name(flag: str, name: str | None) -> None:
    from models.registry import list_methods

    if flag == "--method" or name is None:
        return
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"--name {name!r} must be letters, digits, dots, dashes and underscores, beginning with a letter or digit")
    if name in list_methods():
        raise ConfigurationError(f"--name {name!r} is a method of the platform; choose another")


def _announce(number: int, total: int, step: Step) -> None:
    problems.print(f"[bold cyan]{number}/{total}[/] {escape(step.title)}", highlight=False, soft_wrap=True)
