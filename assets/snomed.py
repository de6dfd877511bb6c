"""The SNOMED CT codes of the PhysioNet/CinC Challenges 2020 and 2021, and the classes that they scored.

Which codes occur, their abbreviations, which are scored, in which order, which count as the same, and what a wrong answer earns
are facts of the Challenges: Perez Alday et al., Physiol Meas 41 (2020), doi 10.1088/1361-6579/abc960, and Reyna et al., Computing
in Cardiology 48 (2021), doi 10.23919/CinC53138.2021.9662687 (files `dx_mapping_*.csv` and `weights.csv` of their scorers). The plain
names in `snomed_codes.tsv` are our own words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from models.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SINUS_RHYTHM = "426783006"
"""The class whose sole answer scores 0 in the Challenge's metric."""

EQUIVALENT = (
    ("733534002", "164909002"),
    ("713427006", "59118001"),
    ("284470004", "63593006"),
    ("427172004", "17338001"),
)
"""Codes that the Challenges score as one class, named by the first. The first pair is of 2021: in 2020 only the second code occurs."""

_ORDER = {
    2020: """
270492004 164889003 164890007 426627000 713427006 713426002 445118002 39732003 164909002 251146004 698252002 10370003 284470004
427172004 164947007 111975006 164917005 47665007 59118001 427393009 426177001 426783006 427084000 63593006 164934002 59931005
17338001
""",
    2021: """
164889003 164890007 6374002 426627000 733534002 164909002 713427006 59118001 270492004 713426002 39732003 445118002 164947007
251146004 111975006 698252002 426783006 284470004 63593006 10370003 365413008 427172004 17338001 164917005 47665007 427393009
426177001 427084000 164934002 59931005
""",
}
"""Scored codes by year, in the order of the Challenge's matrix of rewards."""

_SEVERITY = {
    0.0: "426783006",
    0.05: "426627000 270492004 713426002 164947007 427393009 426177001",
    0.0875: "284470004 63593006",
    0.1: "39732003 445118002 698252002 47665007",
    0.125: "10370003 427172004 17338001 427084000",
    0.15: "713427006 59118001",
    0.175: "251146004 365413008",
    0.2: "111975006",
    0.225: "6374002 733534002 164909002",
    0.25: "164889003 164890007 164934002 59931005",
    0.35: "164917005",
}
"""How far codes lie from sinus rhythm. Both years' matrices follow: a wrong answer earns 0.5 less the difference of the two."""

_STRANGERS = (frozenset({"6374002", "733534002"}), frozenset({"251146004", "365413008"}))
"""Pairs of 2021 which earn 0.475 although they lie equally far from sinus rhythm."""


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
class ScoredClass:
    """A class of the Challenge's metric: one code, or two that count as the same.

    Attributes:
        name: abbreviation of the first code.
        codes: one or two.
        title: plain English.
    """

    name: str
    codes: tuple[str, ...]
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
    if year not in _ORDER:
        raise ConfigurationError(f"no Challenge of {year} is known here; choose 2020 or 2021")
    codes = _ORDER[year].split()
    groups = {c: [c] for c in codes}
    for first, second in EQUIVALENT if merged else ():
        if first in groups and second in groups:
            groups[first] += groups.pop(second)
    known = diagnoses()
    return tuple(ScoredClass(known[c].abbreviation, tuple(g), " or ".join(known[code].name for code in g)) for c, g in groups.items())


def reward_matrix(classes: Sequence[ScoredClass]) -> NDArray[np.float64]:
    """What answering class j earns where class i is true, shape (classes, classes): symmetric, 1 on the diagonal."""
    import numpy as np

    severity = {code: far for far, codes in _SEVERITY.items() for code in codes.split()}
    twins = {frozenset(pair) for pair in EQUIVALENT}
    far_C = np.array([severity[c.codes[0]] for c in classes])
    rewards_CC: NDArray[np.float64] = 0.5 - np.abs(far_C[:, None] - far_C)
    for i, one in enumerate(classes):
        for j, other in enumerate(classes):
            pair = frozenset((one.codes[0], other.codes[0]))
            if i == j or pair in twins:
                rewards_CC[i, j] = 1.0
            elif pair in _STRANGERS:
                rewards_CC[i, j] = 0.475
    return rewards_CC


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
