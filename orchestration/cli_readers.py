"""`einthoven readers`: can people tell reconstructed ECGs from real ones? Packet, page and score of a blinded reading."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orchestration.terminal import console

readers_app = typer.Typer(no_args_is_help=True, help="Blinded reading: real ECG or reconstructed?")


@readers_app.command("export")
def readers_export(
    folder: Annotated[Path, typer.Argument(help="of the packet, which is made")],
    key: Annotated[Path, typer.Option(help="file of the key; keep it from the readers")],
    method: Annotated[str, typer.Option(help="whose reconstructions are read")] = "wearecg",
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="a dataset that it was evaluated on")] = "synthetic",
    sheets: Annotated[int, typer.Option(help="how many, half of them real")] = 100,
    seed: Annotated[int, typer.Option(help="of choice and order")] = 0,
) -> None:
    """Make a packet of numbered sheets, and its key apart from it."""
    from assets.blinded_packet import make_packet
    from assets.outputs import Workspace
    from assets.settings import load

    packet, evaluation = make_packet(Workspace(load().home), method, dataset, folder, key, sheets, seed)
    console.print(
        f"packet {packet}: {sheets} sheets in {folder}, key in {key}; access {evaluation.access}, like {escape(str(evaluation.key))}",
        soft_wrap=True,
    )
    console.print(f"let readers answer: `einthoven readers serve {folder}`", soft_wrap=True)


@readers_app.command("serve")
def readers_serve(
    packet: Annotated[Path, typer.Argument(help="folder of the packet")],
    answers: Annotated[Path | None, typer.Option(help="folder that answers are kept in; default: `answers` beside the packet")] = None,
    host: Annotated[str, typer.Option(help="address to serve at; others than this machine reach it by 0.0.0.0 only")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one")] = 8000,
) -> None:
    """Serve the page on which readers answer, until Ctrl+C."""
    from assets.blinded import ANSWERS
    from orchestration.reading_page import make_server

    kept = answers or packet.resolve().parent / ANSWERS
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell leaves SIGINT ignored in what it starts in the background
        signal.signal(number, signal.default_int_handler)
    with make_server(packet, kept, host, port) as server:
        console.print(f"reading page: http://{host}:{server.server_address[1]}  answers: {kept}", soft_wrap=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("stopped; all answers are kept")


@readers_app.command("score")
def readers_score(
    answers: Annotated[Path, typer.Argument(help="folder of the answers")],
    key: Annotated[Path, typer.Option(help="the packet's key")],
    output: Annotated[Path | None, typer.Option(help="JSON file to write, too")] = None,
) -> None:
    """Hold the answers against the key: accuracy of each reader, and how far they agree."""
    from assets.blinded_scoring import score_reading

    scored = score_reading(key, answers)
    table = Table(
        title=f"Packet {scored['packet']}: share of sheets told rightly; one half is what guessing gives", box=None, title_justify="left"
    )
    for name in (
        "reader",
        "sheets",
        "accuracy",
        "95 % interval",
        "p",
        "real found",
        "reconstructed found",
        "certain when right",
        "when wrong",
    ):
        table.add_column(name, no_wrap=True)
    for row in scored["readers"]:
        shares = [_share(row[name]) for name in ("real_found", "generated_found")]
        certain = ["" if row[name] is None else f"{row[name]:.1f}" for name in ("confidence_right", "confidence_wrong")]
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(row["reader"], str(row["n"]), f"{row['accuracy']:.3f}", interval, f"{row['p']:.3g}", *shares, *certain)
    console.print(table)
    kappa: Any = scored["fleiss_kappa"]
    console.print(
        f"Fleiss kappa over {scored['common']} sheets that all readers answered: {'not defined' if kappa is None else f'{kappa:.3f}'}"
    )
    if output is not None:
        from assets.outputs import write_atomic

        write_atomic(output, json.dumps(scored, indent=1))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
