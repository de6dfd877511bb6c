"""The classes that the PhysioNet/CinC Challenges 2020 and 2021 scored, and what each answer earns where another is true.

Which codes are scored, in which order, which count as the same, and what a wrong answer earns are facts of the Challenges: Perez
Alday et al., Physiol Meas 41 (2020), doi 10.1088/1361-6579/abc960, and Reyna et al., Computing in Cardiology 48 (2021), doi
10.23919/CinC53138.2021.9662687 (files `dx_mapping_scored.csv` and `weights.csv` of their scorers). Codes are SNOMED CT's, as
text: some have more digits than a float can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from models.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SINUS_RHYTHM = "426783006"
"""The class whose sole answer scores 0 in the Challenge's metric."""

EQUIVALENT = (("CLBBB", "LBBB"), ("CRBBB", "RBBB"), ("PAC", "SVPB"), ("PVC", "VPB"))
"""Diagnoses that the Challenges score as one class, named by the first. The first pair is of 2021: in 2020 only LBBB occurs."""

_CODES = {
    "AF": "164889003",
    "AFL": "164890007",
    "BBB": "6374002",
    "Brady": "426627000",
    "CLBBB": "733534002",
    "CRBBB": "713427006",
    "IAVB": "270492004",
    "IRBBB": "713426002",
    "LAD": "39732003",
    "LAnFB": "445118002",
    "LBBB": "164909002",
    "LPR": "164947007",
    "LQRSV": "251146004",
    "LQT": "111975006",
    "NSIVCB": "698252002",
    "NSR": SINUS_RHYTHM,
    "PAC": "284470004",
    "PR": "10370003",
    "PRWP": "365413008",
    "PVC": "427172004",
    "QAb": "164917005",
    "RAD": "47665007",
    "RBBB": "59118001",
    "SA": "427393009",
    "SB": "426177001",
    "STach": "427084000",
    "SVPB": "63593006",
    "TAb": "164934002",
    "TInv": "59931005",
    "VPB": "17338001",
}
"""SNOMED CT codes by the Challenges' abbreviations."""

_ORDER = {
    2020: """
IAVB AF AFL Brady CRBBB IRBBB LAnFB LAD LBBB LQRSV NSIVCB PR PAC PVC LPR LQT QAb RAD RBBB SA SB NSR STach SVPB TAb TInv VPB
""",
    2021: """
AF AFL BBB Brady CLBBB LBBB CRBBB RBBB IAVB IRBBB LAD LAnFB LPR LQRSV LQT NSIVCB NSR PAC SVPB PR PRWP PVC VPB QAb RAD SA SB STach
TAb TInv
""",
}
"""Scored diagnoses by year, in the order of the Challenge's matrix of rewards."""

_SEVERITY = {
    0.0: "NSR",
    0.05: "Brady IAVB IRBBB LPR SA SB",
    0.0875: "PAC SVPB",
    0.1: "LAD LAnFB NSIVCB RAD",
    0.125: "PR PVC VPB STach",
    0.15: "CRBBB RBBB",
    0.175: "LQRSV PRWP",
    0.2: "LQT",
    0.225: "BBB CLBBB LBBB",
    0.25: "AF AFL TAb TInv",
    0.35: "QAb",
}
"""How far diagnoses lie from sinus rhythm. Both years' matrices follow: a wrong answer earns 0.5 less the difference of the two."""

_STRANGERS = (frozenset({"BBB", "CLBBB"}), frozenset({"LQRSV", "PRWP"}))
"""Pairs of 2021 which earn 0.475 although they lie equally far from sinus rhythm."""


@dataclass(frozen=True)
class ChallengeClass:
    """A class of the Challenge's metric: one diagnosis, or two that count as the same.

    Attributes:
        name: abbreviation of the first diagnosis.
        codes: one or two, SNOMED CT.
    """

    name: str
    codes: tuple[str, ...]


@cache
def challenge_classes(year: int, merged: bool = True) -> tuple[ChallengeClass, ...]:
    """The classes that a Challenge scored, in its order: 24 in 2020, 26 in 2021.

    Args:
        year: 2020 or 2021.
        merged: False for one class a code (27, 30), which no official score uses.

    Raises:
        ConfigurationError: another year.
    """
    if year not in _ORDER:
        raise ConfigurationError(f"no Challenge of {year} is known here; choose 2020 or 2021")
    groups = {name: [_CODES[name]] for name in _ORDER[year].split()}
    for first, second in EQUIVALENT if merged else ():
        if first in groups and second in groups:
            groups[first] += groups.pop(second)
    return tuple(ChallengeClass(name, tuple(codes)) for name, codes in groups.items())


def reward_matrix(classes: Sequence[ChallengeClass]) -> NDArray[np.float64]:
    """What answering class j earns where class i is true, shape (classes, classes): symmetric, 1 on the diagonal."""
    import numpy as np

    severity = {name: far for far, names in _SEVERITY.items() for name in names.split()}
    twins = {frozenset(pair) for pair in EQUIVALENT}
    far_C = np.array([severity[c.name] for c in classes])
    rewards_CC: NDArray[np.float64] = 0.5 - np.abs(far_C[:, None] - far_C)
    for i, one in enumerate(classes):
        for j, other in enumerate(classes):
            pair = frozenset((one.name, other.name))
            if i == j or pair in twins:
                rewards_CC[i, j] = 1.0
            elif pair in _STRANGERS:
                rewards_CC[i, j] = 0.475
    return rewards_CC
