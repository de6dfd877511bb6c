"""Four groups of rhythms, one a recording: the task `rhythm4` of every dataset whose rhythms have codes.

Eleven rhythms in four groups as the authors of the Shaoxing and Ningbo database put them together (Zheng et al., Sci Rep 10:2898
(2020), doi 10.1038/s41598-020-59821-7). Recordings with no rhythm of these, or with several that do not go together, are left out
and counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from assets.dataset import Task

if TYPE_CHECKING:
    import pandas as pd

RHYTHMS: Mapping[str, tuple[str, ...]] = {
    "SB": ("426177001",),
    "AFIB": ("164889003", "164890007"),
    "GSVT": ("427084000", "426761007", "713422000", "251166008", "233896004", "233897008", "17366009", "195101003"),
    "SR": ("426783006", "427393009"),
}
"""The groups and their SNOMED CT codes. Those of a wandering rhythm and of re-entry in the node differ between releases."""

RHYTHM_NAMES: Mapping[str, str] = {
    "SB": "sinus bradycardia",
    "AFIB": "atrial fibrillation or flutter",
    "GSVT": "supraventricular tachycardias",
    "SR": "sinus rhythm or arrhythmia",
}

SCP_RHYTHMS: Mapping[str, str] = {
    "SBRAD": "426177001",
    "AFIB": "164889003",
    "AFLT": "164890007",
    "STACH": "427084000",
    "SVTAC": "426761007",
    "PSVT": "426761007",
    "SR": "426783006",
    "SARRH": "427393009",
}
"""SCP-ECG statements that name one of these rhythms. Supraventricular arrhythmia says too little; bigeminy, trigeminy and pacing are others."""

RHYTHM4 = Task("rhythm4", "four groups of rhythms", tuple(RHYTHMS), RHYTHM_NAMES, kind="single_label")

_GROUP = {code: group for group, codes in RHYTHMS.items() for code in codes}
_SINUS_ARRHYTHMIA = "427393009"


def rhythm(codes: Collection[str]) -> tuple[str | None, str]:
    """The one group that a recording's rhythms belong to, or None and why it has none: no_rhythm, several_rhythms.

    Sinus arrhythmia gives way to bradycardia or tachycardia, which say more of the same rhythm. Other rhythms do not mix.
    """
    groups = {_GROUP[code] for code in codes if code in _GROUP}
    if not groups:
        return None, "no_rhythm"
    only_arrhythmia = {code for code in codes if _GROUP.get(code) == "SR"} == {_SINUS_ARRHYTHMIA}
    if only_arrhythmia and groups in ({"SR", "SB"}, {"SR", "GSVT"}):
        groups.remove("SR")
    return (groups.pop(), "") if len(groups) == 1 else (None, "several_rhythms")


def from_scp(statements: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """SNOMED CT codes of the rhythms among the SCP statements of recordings."""
    return {record: [SCP_RHYTHMS[s] for s in named if s in SCP_RHYTHMS] for record, named in statements.items()}


def rhythm_table(codes: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """record_id and one int8 column a group: 1 in exactly one. Recordings without a group are left out; the others keep their order."""
    import numpy as np
    import pandas as pd

    found = {record: group for record, held in codes.items() if (group := rhythm(held)[0])}
    values = np.array([[c == group for c in RHYTHM4.classes] for group in found.values()], np.int8)
    table = pd.DataFrame(values.reshape(len(found), len(RHYTHM4.classes)), columns=list(RHYTHM4.classes))
    table.insert(0, "record_id", pd.Series(list(found), dtype=str))
    return table


def left_out(codes: Mapping[str, Collection[str]]) -> dict[str, int]:
    """How many recordings have no group, by reason."""
    return dict(Counter(reason for held in codes.values() if (reason := rhythm(held)[1])))
