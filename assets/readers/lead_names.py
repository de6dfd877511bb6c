"""One name for each lead, whatever a format calls it: DI, AVR, MDC_ECG_LEAD_V1, "Lead I (Einthoven)", SCP code 61."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from assets.record import RecordError
from models.types import LEADS

SCP_LEADS: dict[int, str] = {
    1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 9: "V7",
    10: "V2R", 11: "V3R", 12: "V4R", 13: "V5R", 14: "V6R", 15: "V7R", 16: "X", 17: "Y", 18: "Z",
    61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 66: "V8", 67: "V9", 68: "V8R", 69: "V9R",
}  # fmt: skip
"""Lead numbers of EN 1064; DICOM writes them as "5.6.3-9-<n>" (scheme SCPECG) or "2:<n>" (scheme MDC)."""

_CANONICAL = {name.lower(): name for name in (*LEADS, *(n for n in SCP_LEADS.values() if len(n) > 1))}
_DECORATED = re.compile(
    r"(?:mdc_ecg_lead_|(?:ecg|ekg|lead)[ _-]+|(?:ecg|ekg)(?=av|v[1-9]|i))?(.*?)(?: ?\((?:einthoven|goldberger)\))?", re.I
)
_ROMAN = re.compile(r"di{1,3}")
_LONGEST = 64


@lru_cache(maxsize=4096)
def lead_name(raw: str) -> str:
    """The usual name of a lead; a name that is not known stays as it is, without blanks around it."""
    plain = " ".join(raw.split())
    match = _DECORATED.fullmatch(plain)
    core = match[1].lower() if match else plain.lower()
    if _ROMAN.fullmatch(core):
        core = core[1:]
    return _CANONICAL.get(core, plain)


def lead_names(path: Path, raw: Sequence[str]) -> tuple[str, ...]:
    """The usual names of a recording's leads.

    Raises:
        RecordError: reasons unnamed_lead, duplicate_leads.
    """
    names = tuple(lead_name(name) for name in raw)
    if bad := [i for i, name in enumerate(names, start=1) if not name or len(name) > _LONGEST or not name.isprintable()]:
        raise RecordError("unnamed_lead", path, f"signal {bad[0]} has no name of at most {_LONGEST} printable characters")
    if repeated := sorted(name for name, n in Counter(names).items() if n > 1):
        raise RecordError("duplicate_leads", path, f"names {', '.join(repeated)} more than once")
    return names
