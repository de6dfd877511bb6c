"""How often readers tell real ECGs from reconstructed ones: accuracy by reader and pooled, and how far they agree.

At an accuracy of one half nobody can tell. Pooled answers of several readers to one sheet are not independent of each other; the pooled
interval and p take them as if they were.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assets.blinded import KINDS, Answer, ReadingError, read_answers

POOLED = "all readers"


def score_reading(key: Path, answers: Path) -> dict[str, Any]:
    """Hold all answers of a folder against the key.

    Returns:
        `packet`, `readers` (a row each, then one pooled where there are several; see `_row`) and `fleiss_kappa` over the `common`
        sheets that every reader answered; None where it is not defined.

    Raises:
        ReadingError: the key cannot be read, there is no answer, or answers are to another packet.
    """
    kinds, packet = _read_key(key)
    by_reader = {path.stem: read_answers(answers, path.stem) for path in sorted(answers.glob("*.jsonl"))}
    by_reader = {held[0].reader: held for held in by_reader.values() if held}
    if not by_reader:
        raise ReadingError(f"{answers} holds no answer; let readers answer first with `einthoven readers serve`")
    for reader, held in by_reader.items():
        if odd := [a for a in held if a.packet != packet or a.sheet not in kinds]:
            raise ReadingError(
                f"{reader} answered sheet {odd[0].sheet} of packet {odd[0].packet}, the key is of packet {packet}; give its own key"
            )
    rows = [_row(reader, held, kinds) for reader, held in by_reader.items()]
    if len(rows) > 1:
        rows.append(_row(POOLED, [a for held in by_reader.values() for a in held], kinds))
    kappa, common = _agreement(list(by_reader.values()))
    return {"packet": packet, "readers": rows, "fleiss_kappa": None if math.isnan(kappa) else kappa, "common": common}


def _read_key(path: Path) -> tuple[dict[int, str], str]:
    try:
        key = json.loads(path.read_text())
        kinds = {int(s["sheet"]): str(s["kind"]) for s in key["sheets"]}
        packet = str(key["packet"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadingError(f"{path} is not the key of a packet ({error!r}); give the file that `einthoven readers export` wrote") from error
    if not set(kinds.values()) <= set(KINDS):
        raise ReadingError(f"{path} names other kinds than {' and '.join(KINDS)}; give the file that `einthoven readers export` wrote")
    return kinds, packet


def _row(reader: str, answers: Sequence[Answer], kinds: Mapping[int, str]) -> dict[str, Any]:
    """Accuracy with Wilson's 95 % interval and the exact p against one half; shares of either kind that were found; confidences."""
    from models.metrics.agreement import binomial_p, wilson_interval

    right = [a.answer == kinds[a.sheet] for a in answers]
    low, high = wilson_interval(sum(right), len(right))
    found = {f"{kind}_found": _mean([a.answer == kind for a in answers if kinds[a.sheet] == kind]) for kind in KINDS}
    certain = [a.confidence for a, is_right in zip(answers, right, strict=True) if is_right]
    unsure = [a.confidence for a, is_right in zip(answers, right, strict=True) if not is_right]
    return {
        "reader": reader,
        "n": len(right),
        "right": sum(right),
        "accuracy": sum(right) / len(right),
        "low": low,
        "high": high,
        "p": binomial_p(sum(right), len(right)),
        **found,
        "confidence_right": _mean(certain),
        "confidence_wrong": _mean(unsure),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _agreement(answers: Sequence[Sequence[Answer]]) -> tuple[float, int]:
    """Fleiss' kappa over the sheets that every reader answered, and how many these are."""
    import numpy as np

    from models.metrics.agreement import fleiss_kappa

    said = [{a.sheet: a.answer for a in held} for held in answers]
    common = sorted(set.intersection(*(set(s) for s in said)))
    counts_NK = np.array([[sum(s[sheet] == kind for s in said) for kind in KINDS] for sheet in common], np.int64).reshape(-1, len(KINDS))
    return fleiss_kappa(counts_NK), len(common)
