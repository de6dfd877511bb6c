"""Blinded reading: is an ECG real, or was it reconstructed? A packet of sheets, the answers to it, and how often they are right.

packet/packet.json         which sheets there are, and their hashes; what readers may know
packet/sheets/001.png      standard sheets, 25 mm/s and 10 mm/mV, without a word about the record
key.json                   which are real; kept apart from the packet until all have answered
answers/<reader>.jsonl     one line an answer, as it is given

Half of the sheets are real and half reconstructed, all of different patients, so never both of one record; their order is drawn.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from assets.outputs import fsync_folder, write_atomic
from models.errors import EinthovenError

if TYPE_CHECKING:
    import numpy as np

    from assets.plots_page import EcgPage

Kind = Literal["real", "generated"]
KINDS: tuple[Kind, Kind] = ("real", "generated")
CONFIDENCES = (1, 2, 3, 4, 5)
PACKET, KEY, SHEETS, ANSWERS = "packet.json", "key.json", "sheets", "answers"
READER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")


class ReadingError(EinthovenError):
    """A packet that cannot be made, read or answered."""


@dataclass(frozen=True)
class Candidate:
    """An ECG that may become a sheet."""

    record_id: str
    patient_id: str
    kind: Kind


@dataclass(frozen=True)
class Answer:
    """What a reader said of a sheet.

    Attributes:
        packet: its id.
        answer: real, or generated.
        confidence: 1 (a guess) to 5 (certain).
        at: when, in UTC.
    """

    packet: str
    reader: str
    sheet: int
    answer: Kind
    confidence: int
    at: str


def choose(real: Sequence[Candidate], generated: Sequence[Candidate], n: int, rng: np.random.Generator) -> list[Candidate]:
    """`n` sheets, half of either kind, each of another patient, in drawn order.

    Raises:
        ReadingError: `n` is no even number above 0, or there are too few patients.
    """
    if n < 2 or n % 2:
        raise ReadingError(f"a packet of {n} sheets cannot be half real and half reconstructed; choose an even number")
    taken: set[str] = set()
    found: list[Candidate] = []
    for candidates in (generated, real):
        mine = 0
        for place in rng.permutation(len(candidates)).tolist():
            if mine < n // 2 and candidates[place].patient_id not in taken:
                found.append(candidates[place])
                taken.add(candidates[place].patient_id)
                mine += 1
        if mine < n // 2:
            most = 2 * (len({c.patient_id for c in (*real, *generated)}) // 2)
            raise ReadingError(
                f"a packet of {n} sheets needs {n // 2} real and {n // 2} reconstructed ECGs of different patients, and {mine} are left for one half; ask for fewer sheets (at most {most})"
            )
    return [found[place] for place in rng.permutation(n).tolist()]


def export_packet(folder: Path, key: Path, sheets: Sequence[tuple[Candidate, EcgPage]], about: Mapping[str, Any]) -> str:
    """Write sheets and key, and return the packet's id.

    Args:
        folder: of the packet; must not exist.
        key: file of the key; must not exist nor lie in the packet.
        sheets: what is shown, in order.
        about: what only the key says: method, dataset, versions, seed.

    Raises:
        ReadingError: packet or key exist, or the key would lie in the packet.
    """
    if folder.resolve() in key.resolve().parents:
        raise ReadingError(f"the key {key} would lie in the packet {folder}, where readers find it; name a place outside")
    if taken := [p for p in (folder, key) if p.exists()]:
        raise ReadingError(f"{taken[0]} exists already; name another place, so that no answer loses its packet")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    (temporary / SHEETS).mkdir(parents=True)
    listed = []
    for number, (_, page) in enumerate(sheets, 1):
        content = _sheet(page, number)
        write_atomic(temporary / SHEETS / f"{number:03d}.png", content)
        listed.append({"sheet": number, "sha256": hashlib.sha256(content).hexdigest()})
    packet = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
    write_atomic(temporary / PACKET, json.dumps({"packet": packet, "sheets": listed}, indent=1).encode())
    answers = [{"sheet": number, "kind": c.kind, "record_id": c.record_id} for number, (c, _) in enumerate(sheets, 1)]
    key.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(key, json.dumps({"packet": packet, "about": dict(about), "sheets": answers}, indent=1).encode())
    os.rename(temporary, folder)
    fsync_folder(folder.parent)
    return packet


def _sheet(page: EcgPage, number: int) -> bytes:
    """A PNG that says nothing but its number, scales and rate, which are those of every sheet."""
    import io

    from assets.plots_page import page_figure

    made, ax, _ = page_figure(page, f"Sheet {number}")
    page.draw(ax)
    stream = io.BytesIO()
    made.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def read_packet(folder: Path) -> dict[str, Any]:
    """The packet.json of a packet.

    Raises:
        ReadingError: it is missing or no packet.
    """
    try:
        packet = json.loads((folder / PACKET).read_text())
        return {"packet": str(packet["packet"]), "sheets": [int(s["sheet"]) for s in packet["sheets"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadingError(f"{folder} is not a packet ({error!r}); make one with `einthoven readers export`") from error


def append_answer(folder: Path, packet: Mapping[str, Any], answer: Answer) -> None:
    """Keep an answer for good: a line in the reader's file, on the disk when this returns.

    Raises:
        ReadingError: it is no answer to a sheet of the packet, or the reader has answered the sheet already.
    """
    _require_answer(packet, answer)
    if answer.sheet in {a.sheet for a in read_answers(folder, answer.reader)}:
        raise ReadingError(f"{answer.reader} has answered sheet {answer.sheet} already; the first answer counts")
    folder.mkdir(parents=True, exist_ok=True)
    with _file(folder, answer.reader).open("ab+") as stream:
        stream.seek(0)
        held = stream.read()
        stream.truncate(held.rfind(b"\n") + 1)  # a line that a crash has cut short was never an answer
        stream.write(json.dumps(asdict(answer), sort_keys=True).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    fsync_folder(folder)


def _require_answer(packet: Mapping[str, Any], answer: Answer) -> None:
    if not READER.fullmatch(answer.reader):
        raise ReadingError(
            "a reader's name has 1 to 40 letters, digits, spaces, dots, lines or underscores, and begins with one of the former two"
        )
    if answer.packet != packet["packet"] or answer.sheet not in packet["sheets"]:
        raise ReadingError(f"sheet {answer.sheet} of packet {answer.packet!r} is not in packet {packet['packet']!r}; reload the page")
    if answer.answer not in KINDS or answer.confidence not in CONFIDENCES or isinstance(answer.confidence, bool):
        raise ReadingError(f"an answer is real or generated with a confidence of 1 to 5, not {answer.answer!r} and {answer.confidence!r}")


def read_answers(folder: Path, reader: str) -> list[Answer]:
    """A reader's answers in the order in which they were given; a last line that was cut short by a crash is left out.

    Raises:
        ReadingError: another line is no answer.
    """
    path = _file(folder, reader)
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")[:-1]
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Answer(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ReadingError(f"{path}, line {number}, is no answer ({error}); repair or remove the line") from error
    return found


def _file(folder: Path, reader: str) -> Path:
    return folder / f"{reader}.jsonl"
