"""What the MIT-BIH collections share: who a header describes, and which annotations are beats."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from assets.record import Annotations

BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""Symbols that mark a beat. Not among them: flutter waves ("!"), waves of a beat, changes of rhythm and of quality, remarks."""

_HEADER_BYTES = 1 << 16
_SHORT = re.compile(rb"^#\s*(-?[0-9]{1,3}) ([MF]) [0-9]+ [0-9]+ x[0-9]+\s*$", re.MULTILINE)
_LONG = re.compile(rb"^#\s*Age:\s*([0-9]{1,3})?\S*\s+Sex:\s*([MF])?", re.MULTILINE)
_SEXES = {b"M": "male", b"F": "female"}


def person(header: Path) -> tuple[float, str]:
    """Age and sex in a header's comments ("# 69 M 1085 1629 x1", "#Age: 47  Sex: M"); NaN and "unknown" where they say nothing."""
    try:
        with header.open("rb") as stream:
            text = stream.read(_HEADER_BYTES)
    except OSError:
        return float("nan"), "unknown"
    match = _SHORT.search(text) or _LONG.search(text)
    age = float(match[1]) if match and match[1] else -1.0
    return age if age >= 0 else float("nan"), _SEXES.get(match[2] if match else b"", "unknown")


def beats_of(annotations: Annotations) -> Annotations:
    """Those annotations that mark a beat."""
    kept = [i for i, symbol in enumerate(annotations.symbols) if symbol in BEATS]
    return Annotations(
        sample_N=annotations.sample_N[np.array(kept, np.int64)],
        symbols=tuple(annotations.symbols[i] for i in kept),
        notes=tuple(annotations.notes[i] for i in kept),
        fs_hz=annotations.fs_hz,
    )
