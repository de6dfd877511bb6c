"""`einthoven challenge-score`: a folder of outputs judged as the PhysioNet/CinC Challenges 2020 and 2021 judged it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from models.errors import ConfigurationError
from orchestration.terminal import console, problems

if TYPE_CHECKING:
    from models.metrics.challenge import ChallengeScores

_MACRO = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "Accuracy",
    "f_measure": "F-measure",
    "f_beta": "Fbeta-measure",
    "g_beta": "Gbeta-measure",
    "challenge_metric": "Challenge metric",
}
"""Numbers as the Challenges' scorers call them, in their order; the two with a beta are of 2020."""

_CLASS_HEADER = ("class", "codes", "AUROC", "AUPRC", "F-measure", "support")


def challenge_score(
    year: Annotated[int, typer.Argument(help="2020 or 2021: the two differ in classes, rewards and how files are read")],
    labels: Annotated[Path, typer.Argument(help="folder of the headers X.hea with their '#Dx: ' lines")],
    outputs: Annotated[Path, typer.Argument(help="folder of the outputs X.csv in the Challenge's form")],
    file: Annotated[Path | None, typer.Option("--csv", help="also write all numbers to this file")] = None,
    separate: Annotated[
        bool, typer.Option("--separate", help="diagnostic, no official score: a class a code, equivalent diagnoses apart")
    ] = False,
) -> None:
    """Score outputs as the Challenge's own scorer does: challenge metric, AUROC, AUPRC, F, accuracy, and each class."""
    from models.metrics.challenge import challenge_scores
    from models.metrics.challenge_files import malformed_note, read_files

    files = read_files(year, labels, outputs, merge_equivalents=not separate)
    if files.malformed:
        problems.print(f"[yellow]note[/] {malformed_note(files)}", highlight=False, soft_wrap=True)
    found = challenge_scores(year, files.labels_NC, files.binary_NC, files.scores_NC, merge_equivalents=not separate)
    macro = Table(f"Challenge {year}{', equivalent diagnoses apart' if separate else ''}", f"{found.n_records} recordings", box=None)
    for name, value in _macro(found).items():
        macro.add_row(name, value)
    console.print(macro)
    classes = Table(*_CLASS_HEADER, box=None)
    for row in _classes(found):
        classes.add_row(*row)
    console.print(classes)
    if file is not None:
        _write(file, found)


def _macro(found: ChallengeScores, digits: int = 3) -> dict[str, str]:
    held = {title: getattr(found, name) for name, title in _MACRO.items() if found.year == 2020 or "beta" not in name}
    return {title: _number(value, digits) for title, value in held.items()}


def _classes(found: ChallengeScores, digits: int = 3) -> list[list[str]]:
    """A row a class, in the order of `_CLASS_HEADER`."""
    values = zip(found.classes, found.auroc_C, found.auprc_C, found.f_measure_C, found.support_C, strict=True)
    return [[c.name, "|".join(c.codes), *(_number(float(v), digits) for v in numbers), str(support)] for c, *numbers, support in values]


def _number(value: float, digits: int) -> str:
    """Empty where undefined."""
    return "" if value != value else f"{value:.{digits}f}"


def _write(path: Path, found: ChallengeScores) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            macro = _macro(found, 9)
            writer.writerows([macro.keys(), macro.values(), [], _CLASS_HEADER, *_classes(found, 9)])
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({type(error).__name__}); name a file in a folder that is there") from error
