"""Labels and outputs of the PhysioNet/CinC Challenges 2020 and 2021 in their own files: read, put in order of classes, and judged.

A recording X has its labels in X.hea, after "#Dx: " and between commas, and its outputs in X.csv: names of columns, yes or no, and
scores. Columns may come in any order, and those of other diagnoses are ignored; a class without a column is no and 0.
The years differ, in ways that change scores:

    2020  comments and blank lines are left out; a file without three lines of one length is all no and 0; yes is the text 1 or True;
          a class with several columns has the mean of their scores that are not NaN
    2021  names, outputs and scores are the lines 2 to 4; yes is any number that equals 1, or True; codes joined by "|" name
          one column; a score that is not finite is 0, and then the mean is taken

Sources: as `models.metrics.challenge`, and the README files of the scorers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import EinthovenError
from models.metrics.challenge import ChallengeScores, challenge_scores
from models.metrics.challenge_classes import challenge_classes

_YES = ("True", "true", "T", "t")
_LARGEST = float(np.finfo(np.float64).max)


class ChallengeFileError(EinthovenError):
    """Label or output files of a Challenge that cannot be judged."""


@dataclass(frozen=True)
class ChallengeFiles:
    """What the files of a Challenge say, with the recordings in order of their file names.

    Attributes:
        records: names of the recordings.
        labels_NC: bool, (recordings, classes).
        binary_NC: bool.
        scores_NC: float64, finite.
        malformed: recordings of 2020 whose outputs have no form, all no and 0 therefore.
    """

    records: tuple[str, ...]
    labels_NC: NDArray[np.bool_]
    binary_NC: NDArray[np.bool_]
    scores_NC: NDArray[np.float64]
    malformed: tuple[str, ...]


@dataclass(frozen=True)
class _Columns:
    """One output file: names of columns, what is said of each, and its score, as written."""

    names: list[str]
    binary: list[str]
    scores: list[str]


def score_files(year: int, label_folder: Path, output_folder: Path, *, merge_equivalents: bool = True) -> ChallengeScores:
    """Judge a folder of outputs as the Challenge's scorer did, with a warning for outputs of 2020 that have no form.

    Raises:
        ChallengeFileError: as `read_files`.
        ConfigurationError: another year.
    """
    files = read_files(year, label_folder, output_folder, merge_equivalents=merge_equivalents)
    if files.malformed:
        warnings.warn(malformed_note(files), stacklevel=2)
    return challenge_scores(year, files.labels_NC, files.binary_NC, files.scores_NC, merge_equivalents=merge_equivalents)


def read_files(year: int, label_folder: Path, output_folder: Path, *, merge_equivalents: bool = True) -> ChallengeFiles:
    """Read the labels and outputs of every header of a folder.

    Raises:
        ChallengeFileError: there is no header, a header has no diagnoses, its outputs are missing, or a file cannot be read.
        ConfigurationError: another year.
    """
    classes = challenge_classes(year, merge_equivalents)
    column = {code: i for i, c in enumerate(classes) for code in c.codes}
    headers = _headers(label_folder)
    shape = (len(headers), len(classes))
    labels, binary, scores = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape)
    malformed = []
    for row, header in enumerate(headers):
        labels[row, [column[code] for code in _diagnoses(year, header) if code in column]] = True
        path = output_folder / f"{header.stem}.csv"
        if not path.is_file():
            raise ChallengeFileError(f"{header} has no outputs {path}; write one file a recording, named as its header")
        found = _columns_2020(path) if year == 2020 else _columns_2021(path)
        if found is None:
            malformed.append(header.stem)
        else:
            _enter(year, path, found, column, binary[row], scores[row])
    return ChallengeFiles(tuple(h.stem for h in headers), labels, binary, scores, tuple(malformed))


def malformed_note(files: ChallengeFiles) -> str:
    """What is said of outputs without form."""
    return (
        f"outputs of {len(files.malformed)} of {len(files.records)} recordings are not three lines of one length (first: "
        f"{files.malformed[0]}.csv) and count as no and 0 for every class, as in the Challenge; write them again"
    )


def _headers(folder: Path) -> list[Path]:
    try:
        found = sorted(p for p in folder.iterdir() if p.name.lower().endswith(".hea") and not p.name.startswith(".") and p.is_file())
    except OSError as error:
        raise ChallengeFileError(f"{folder} cannot be listed ({type(error).__name__}); name the folder of the .hea files") from error
    if not found:
        raise ChallengeFileError(f"{folder} holds no .hea file; name the folder of the label files itself, not one above it")
    return found


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return list(stream)
    except OSError as error:
        raise ChallengeFileError(f"{path} cannot be read ({type(error).__name__}); check its permissions and its disk") from error


def _diagnoses(year: int, header: Path) -> list[str]:
    """Texts between the commas of the lines "#Dx: ...", or "# Dx: ..." as later releases of 2021 write them."""
    # The scorers knew the first form alone: of headers in the second they read no label at all, and went on.
    stated = [line.split(": ") for line in _lines(header) if line.startswith(("#Dx", "# Dx"))]
    if not stated or (year == 2020 and any(len(parts) < 2 for parts in stated)):
        raise ChallengeFileError(
            f"{header} has no line '#Dx: ' with codes, so its labels are not known; give it one ('#Dx: 426783006'), or leave the recording out"
        )
    return [text.strip() for parts in stated for text in (parts[1].split(",") if len(parts) > 1 else [])]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def _columns_2020(path: Path) -> _Columns | None:
    """None where the file has no form."""
    rows = [_cells(line) for line in _lines(path) if line.strip() and not line.strip().startswith("#")]
    if len(rows) < 3 or len({len(row) for row in rows}) > 1:
        return None
    return _Columns(*rows[:3])


def _columns_2021(path: Path) -> _Columns:
    rows = [_cells(line) for line in _lines(path)[1:4]]
    if len(rows) < 3:
        raise ChallengeFileError(f"{path} has {len(rows) + 1} lines at most; write '#id', names, yes/no outputs and scores, a line each")
    return _Columns(*rows)


def _enter(
    year: int, path: Path, found: _Columns, column: Mapping[str, int], binary_C: NDArray[np.bool_], scores_C: NDArray[np.float64]
) -> None:
    """Put one file's outputs into its row."""
    places: dict[int, list[int]] = {}
    for place, name in enumerate(found.names):
        for c in {column[code] for code in ([name] if year == 2020 else name.split("|")) if code in column}:
            places.setdefault(c, []).append(place)
    try:
        for c, own in places.items():
            binary_C[c] = any(_yes(year, found.binary[place]) for place in own)
            scores_C[c] = _mean(year, [_number(found.scores[place]) for place in own])
    except IndexError as error:
        raise ChallengeFileError(
            f"{path} names {len(found.names)} columns but has {len(found.binary)} outputs and {len(found.scores)} scores; give each both"
        ) from error


def _yes(year: int, text: str) -> bool:
    return text in _YES or (text == "1" if year == 2020 else _number(text) == 1)


def _number(text: str) -> float:
    """The number that a text stands for; 0 where it stands for none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _mean(year: int, values: list[float]) -> float:
    kept: list[Any] = [v for v in values if not math.isnan(v)] if year == 2020 else [v if math.isfinite(v) else 0.0 for v in values]
    mean = sum(kept) / len(kept) if kept else 0.0
    # Infinite scores of 2020 stand above or below all others: only their order counts.
    return 0.0 if math.isnan(mean) else max(-_LARGEST, min(_LARGEST, mean))
