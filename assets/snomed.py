"""The SNOMED CT codes of the PhysioNet/CinC Challenges 2020 and 2021 in words, and labels of their scored classes.

Which codes occur and their abbreviations are facts of the Challenges (files `dx_mapping_*.csv` of their scorers); the plain names in
`snomed_codes.tsv` are our own words. Which are scored, and what a wrong answer earns: `models.metrics.challenge_classes`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from models.metrics.challenge_classes import ChallengeClass, challenge_classes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Diagnosis:
    """A SNOMED CT code as the Challenges use it.

    Attributes:
        code: digits, as text: some have more than a float can hold.
        abbreviation: of the Challenges.
        name: plain English.
    """

    code: str
    abbreviation: str
    name: str


@dataclass(frozen=True)
class ScoredClass(ChallengeClass):
    """A class of the Challenge's metric in words.

    Attributes:
        title: plain English.
    """

    title: str


@cache
def diagnoses() -> Mapping[str, Diagnosis]:
    """All 133 codes that occur in the training records of 2021 (those of 2020 are among them), by code."""
    lines = files("assets").joinpath("snomed_codes.tsv").read_text(encoding="utf-8").splitlines()
    return {d.code: d for d in (Diagnosis(*line.split("\t")) for line in lines)}


@cache
def scored_classes(year: int, merged: bool = True) -> tuple[ScoredClass, ...]:
    """The classes that a Challenge scored, in its order: 24 in 2020, 26 in 2021.

    Args:
        year: 2020 or 2021.
        merged: False for one class a code (27, 30), which no official score uses.

    Raises:
        ConfigurationError: another year.
    """
    known = diagnoses()
    return tuple(ScoredClass(c.name, c.codes, " or ".join(known[code].name for code in c.codes)) for c in challenge_classes(year, merged))


def label_table(codes: Mapping[str, Collection[str]], classes: Sequence[ScoredClass]) -> pd.DataFrame:
    """record_id and one int8 column a class: 1 where a record has any of its codes. Records without codes are left out."""
    import numpy as np
    import pandas as pd

    column = {code: i for i, c in enumerate(classes) for code in c.codes}
    labelled = {r: found for r, found in codes.items() if found}
    values = np.zeros((len(labelled), len(classes)), np.int8)
    for row, found in enumerate(labelled.values()):
        for code in found:
            if code in column:
                values[row, column[code]] = 1
    table = pd.DataFrame(values, columns=[c.name for c in classes])
    table.insert(0, "record_id", list(labelled))
    return table
