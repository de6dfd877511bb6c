"""Who is who in records that were published again under other names, and which fold they are in.

The Challenges of 2020 and 2021 published PTB-XL, PTB, INCART, CPSC 2018 and the Shaoxing and Ningbo records once more, most of
them renamed and without patients. Here each gets the patient and the fold that it has where it came from, so that a test
patient of one dataset is no training patient of another. What each rule rests on:

    ptb_xl     HR00001 ... HR21837 are the ecg_ids of PTB-XL 1.0.1. Patients and folds of the 21,799 that are in 1.0.3 are as
               published there. The other 38 were removed from PTB-XL as copies; each has patient and fold of the record that was
               kept in its place (changelogs of 1.0.2 and 1.0.3), whatever 1.0.1 said of it, since it shows the same beats.
    ptb        S0001 ... S0549 count the lines of the PTB Diagnostic Database's RECORDS, which is sorted by patient. The rule
               agrees with records that others matched by signal (S0138 is patient 44, S0541 is patient 288) and with S0001,
               which we did.
    incart     I0001 ... I0075 are INCART's I01 ... I75; the patient is the one of 32 that the header of each names.
    cpsc2018   A0001 ... A6877 kept their names; no patients were published, so a record is a patient.
    sph        JS00001 ... JS45551 kept theirs (but for S23074, which is JS23074); one record a patient, as published.

Folds are the published ones where there are any. For cpsc2018 and 23,026 records of sph that is the one split by which the
field compares itself, MERL's (Liu et al., ICML 2024): its test records are fold 10, its validation records fold 9, and its
training records folds 1 to 8 by hash. All others have the fold of their patient's hash.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from assets.splits import fold_of, patient

PTB_RECORDS = (
    "31125343134233334333334432333444444323344434443444411411111111114331411444444444444441344444544444"
    "43311111111111211121111110112111101011111111111111211111111211011221122111131111172111111112111111"
    "22112211111211111111111111211111211151131111211121111131111111111111111111111111134111131121111221"
)
"""How many of the PTB Diagnostic Database's 549 records each patient from 1 to 294 has; four numbers were not given away."""

INCART_RECORDS = "23213312232224232223223323332222"
"""How many of INCART's 75 records each of its 32 patients has."""

_NUMBERED = re.compile(r"[A-Z]+0*([1-9][0-9]{0,8})")
_MISNAMED = {"S23074": "JS23074"}
_TRAIN_FOLDS, _VALIDATION_FOLD, _TEST_FOLD = 8, 9, 10


class Identity(NamedTuple):
    """A patient, and the fold of all that is theirs."""

    patient_id: str
    fold: int


def ptb_xl(ecg_id: int) -> Identity | None:
    """Of a PTB-XL record, also of the 38 that were in 1.0.1 only; None for a number that was never given to one."""
    return _ptb_xl().get(ecg_id)


def ptb(number: int) -> Identity | None:
    """Of a line of the PTB Diagnostic Database's RECORDS, counted from 1."""
    return _counted("ptb", PTB_RECORDS).get(number)


def incart(number: int) -> Identity | None:
    """Of an INCART record, I01 being 1."""
    return _counted("incart", INCART_RECORDS).get(number)


def of_record(namespace: str, record_id: str) -> Identity:
    """Of a record that stands for its patient; in its published fold if the namespace has a published split."""
    who = patient(namespace, record_id)
    part = _published_parts().get(namespace, {}).get(record_id)
    if part == "test":
        return Identity(who, _TEST_FOLD)
    if part == "validation":
        return Identity(who, _VALIDATION_FOLD)
    return Identity(who, fold_of(who, _TRAIN_FOLDS) if part == "train" else fold_of(who))


def challenge(source: str, record_id: str) -> Identity:
    """Of a record of the Challenges of 2020 and 2021, by the folder of its source. Unknown names stand for themselves."""
    known = _RENAMED.get(source)
    match = _NUMBERED.fullmatch(record_id)
    if known is not None and match is not None and (who := known(int(match[1]))):
        return who
    if source in ("chapman_shaoxing", "ningbo"):
        return of_record("sph", _MISNAMED.get(record_id, record_id))
    return of_record("cpsc2018" if source == "cpsc_2018" else source.replace("-", "_"), record_id)


@cache
def _ptb_xl() -> dict[int, Identity]:
    """From a table whose line i is ecg_id i: `<patient>,<fold>`, or `=<ecg_id>` of the record that was kept in its place."""
    found: dict[int, Identity] = {}
    copies: dict[int, int] = {}
    for ecg_id, line in enumerate(_lines("identities_ptb_xl.csv.gz"), start=1):
        if line.startswith("="):
            copies[ecg_id] = int(line[1:])
        else:
            who, fold = line.split(",")
            found[ecg_id] = Identity(patient("ptb_xl", who), int(fold))
    return found | {ecg_id: found[kept] for ecg_id, kept in copies.items()}


@cache
def _published_parts() -> Mapping[str, Mapping[str, str]]:
    """Record to part, by namespace, from a table that holds a letter a record in the order of their numbers."""
    parts = {"t": "train", "v": "validation", "e": "test"}
    names = {"cpsc2018": "A{:04d}", "sph": "JS{:05d}"}
    rows = (line.split() for line in _lines("identities_splits.txt.gz"))
    return {
        namespace: {names[namespace].format(i): parts[letter] for i, letter in enumerate(letters, start=1) if letter in parts}
        for namespace, letters in rows
    }


@cache
def _counted(namespace: str, counts: str) -> dict[int, Identity]:
    owners = [number for number, count in enumerate(counts, start=1) for _ in range(int(count))]
    people = {number: patient(namespace, str(number)) for number in set(owners)}
    return {i: Identity(people[number], fold_of(people[number])) for i, number in enumerate(owners, start=1)}


_RENAMED: Mapping[str, Callable[[int], Identity | None]] = {"ptb-xl": ptb_xl, "ptb": ptb, "st_petersburg_incart": incart}


def _lines(name: str) -> list[str]:
    return gzip.decompress(files("assets").joinpath(name).read_bytes()).decode().splitlines()
