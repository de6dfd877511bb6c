"""The command line `einthoven`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from models.errors import EinthovenError
from orchestration.cli_benchmark import benchmark, compare
from orchestration.cli_challenge import challenge_score
from orchestration.cli_data import data_app
from orchestration.cli_readers import readers_app
from orchestration.cli_task import task_app
from orchestration.options import overrides_of
from orchestration.terminal import console, problems

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Einthoven: foundation models of cardiac signals, from raw records to a promoted model.",
)
new_app = typer.Typer(no_args_is_help=True, help="Skeletons for a method or dataset of your own.")
app.add_typer(data_app, name="data")
app.add_typer(task_app, name="task")
app.add_typer(new_app, name="new")
app.add_typer(readers_app, name="readers")
app.command()(benchmark)
app.command()(compare)
app.command("challenge-score")(challenge_score)

DatasetOption = Annotated[str, typer.Option("--dataset", "-d", help="a dataset from `einthoven data list`")]


def main() -> None:
    """Entry point: typed errors are shown as one message and exit with 1."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    try:
        app()
    except EinthovenError as error:
        problems.print("[bold red]error[/]", end=" ")
        problems.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def setup() -> None:
    """Make the workspace and its databases, once, before anything runs in parallel."""
    from assets.settings import load
    from assets.tracking import ensure_database
    from orchestration.instance import get_instance

    settings = load()
    settings.home.mkdir(parents=True, exist_ok=True)
    get_instance(settings).dispose()
    ensure_database(settings)
    console.print(f"workspace ready: {settings.home}")


@app.command()
def run(
    methods: Annotated[list[str], typer.Argument(help="one or more methods, for example merl melp")],
    dataset: DatasetOption = "synthetic",
    preset: Annotated[str, typer.Option(help="named configuration of the methods")] = "tiny",
    seed: Annotated[int, typer.Option(help="seed of initialisation and data order")] = 0,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="override one option, for example -o max_steps=100")] = None,
    baselines: Annotated[bool, typer.Option(help="also run the supervised baseline that the leaderboard shows beside it")] = True,
) -> None:
    """Go the whole way with methods on one dataset, one after the other: data, training, evaluation, leaderboard, promotion."""
    from assets.settings import load
    from orchestration.instance import get_instance
    from orchestration.pipeline import Step, execute, plan

    overrides = overrides_of(option or [])
    steps: list[Step] = []
    for method in dict.fromkeys(methods):
        planned = plan(method, dataset, preset, seed, overrides=overrides, baselines=baselines)
        steps += [step for step in planned if step not in steps]

    def announce(number: int, total: int, step: Step) -> None:
        problems.print(f"[bold cyan]{number}/{total}[/] {escape(step.title)}", highlight=False, soft_wrap=True)

    with get_instance(load()) as instance:
        execute(steps, instance, announce)
    leaderboard(dataset=dataset)
    for method in dict.fromkeys(methods):
        _say_champion(method, dataset)


@app.command()
def materialize(
    asset: Annotated[str, typer.Argument(help="asset key, for example cleaned/ptb_xl")],
    partition: Annotated[str | None, typer.Option(help="partition, for partitioned assets")] = None,
    preset: Annotated[str | None, typer.Option(help="for encoders: named configuration")] = None,
    seed: Annotated[int | None, typer.Option(help="for encoders: seed")] = None,
) -> None:
    """Materialise one asset with its checks (what dvc.yaml calls)."""
    from assets.outputs import Key, Workspace
    from assets.settings import load
    from orchestration.instance import get_instance
    from orchestration.pipeline import Step, execute
    from orchestration.versioning import require_dvc_allows

    parts = tuple(asset.split("/"))
    chosen = {k: v for k, v in {"preset": preset, "seed": seed}.items() if v is not None}
    config = {asset.replace("/", "__"): {"config": chosen}} if chosen else {}
    settings = load()
    with get_instance(settings) as instance:
        execute([Step((parts,), partition, config)], instance, lambda *_: None)
    if "DVC_STAGE" in os.environ:  # DVC is about to take the output into its cache
        require_dvc_allows(settings, [Workspace(settings.home).require(Key(parts, partition))])


@app.command()
def leaderboard(
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="only this dataset")] = None,
    markdown: Annotated[bool, typer.Option(help="print as Markdown")] = False,
) -> None:
    """Show the leaderboard."""
    from assets.leaderboard import KEY
    from assets.outputs import Workspace
    from assets.settings import load

    output = Workspace(load().home).require(KEY)
    if markdown:
        typer.echo(output.path("leaderboard.md").read_text())
        return
    import pandas as pd

    from orchestration.tables import leaderboard_table

    table = pd.read_parquet(output.path("leaderboard.parquet"))
    console.print(leaderboard_table(table if dataset is None else table[table["dataset"] == dataset]))


@app.command()
def promote(
    method: Annotated[str, typer.Argument(help="a method")],
    dataset: DatasetOption = "synthetic",
) -> None:
    """Put the current challenger through the gate and, if it passes, make it champion."""
    from assets.registry import offer
    from assets.settings import load
    from models.registry import get_spec

    decision = offer(load(), get_spec(method), dataset, actor=_actor(), by_hand=True)
    _print_decision(decision)
    if not decision["champion"]:
        raise typer.Exit(1)


@app.command()
def rollback(
    method: Annotated[str, typer.Argument(help="a method")],
    reason: Annotated[str, typer.Option(help="why, for the audit trail")],
    dataset: DatasetOption = "synthetic",
) -> None:
    """Give the title back to the previous champion."""
    from assets import model_registry
    from assets.registry import model_name
    from assets.settings import load

    settings = load()
    promotion = model_registry.rollback(settings, model_name(settings, method, dataset), actor=_actor(), reason=reason)
    console.print(f"champion of {model_name(settings, method, dataset)} is version {promotion.version} again")


@app.command()
def doctor() -> None:
    """Look whether this installation can do its work, and say what to do where it cannot."""
    from orchestration.doctor import examine

    table = Table("", "what", "finding", box=None)
    findings = examine()
    for finding in findings:
        table.add_row({"ok": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]bad[/]"}[finding.state], finding.what, finding.text)
    console.print(table)
    if any(f.state == "bad" for f in findings):
        raise typer.Exit(1)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="port of Dagster's UI")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="port of MLflow's UI")] = 5000,
) -> None:
    """Start Dagster's UI and daemon and MLflow's UI, on this machine only; Ctrl-C stops them."""
    from orchestration.ui import serve_ui

    serve_ui(port, mlflow_port, console.print)


@new_app.command("method")
def new_method(
    name: Annotated[str, typer.Argument(help="lower_case name")],
    folder: Annotated[Path | None, typer.Option(help="a package of your own instead of this project")] = None,
) -> None:
    """Write a method that trains, is evaluated and passes the registry-driven tests."""
    from orchestration.skeleton import write_method

    for path in write_method(name, folder):
        console.print(f"wrote {path}")


@new_app.command("dataset")
def new_dataset(
    name: Annotated[str, typer.Argument(help="lower_case name")],
    folder: Annotated[Path | None, typer.Option(help="a package of your own instead of this project")] = None,
) -> None:
    """Write a dataset that reads WFDB records beside a CSV table and passes the registry-driven tests."""
    from orchestration.skeleton import write_dataset

    for path in write_dataset(name, folder):
        console.print(f"wrote {path}")


def _actor() -> str:
    import getpass

    return getpass.getuser()


def _print_decision(decision: dict[str, Any]) -> None:
    model, version, holder = decision["model"], decision["version"], decision["holder"]
    now = "nobody is champion" if holder is None else f"champion is version {holder}"
    if not decision["champion"]:
        console.print(f"[bold yellow]refused[/] {model} version {version}; {now}")
    elif holder == version:
        console.print(f"[bold green]champion[/] {model} version {version}")
    else:
        console.print(f"[bold yellow]passed[/] {model} version {version} when it was judged; {now}")
    for reason in decision["reasons"]:
        console.print(
            f"  {'[green]ok[/]' if reason['passed'] else '[red]no[/]'}  {reason['name']}: {escape(reason['message'])}", highlight=False
        )


def _say_champion(method: str, dataset: str) -> None:
    from assets.registry import current_decision
    from assets.settings import load

    decision = current_decision(load(), method, dataset)
    if decision:
        _print_decision(decision)


if __name__ == "__main__":
    main()
