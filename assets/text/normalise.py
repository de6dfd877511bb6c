"""Cleaning of report text, and which language it is in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MIN_WORDS = 4
"""A report with fewer words is too short to pretrain on (MERL's rule for MIMIC-IV-ECG)."""

_MISCASED = re.compile(r"(?<=[a-zß-öø-ÿ])[ÄÖÜÅ]+|\b[ÄÖÜÅ](?=[a-zß-öø-ÿ]+[ÄÖÜÅ])")


def clean_report(fields: Sequence[str]) -> tuple[str, int]:
    """Clean a report as MERL does, and count its words.

    Fields are joined by ". ", EKG becomes ECG, blanks and asterisks and then equals signs and hyphens go from both ends,
    letters become lower case, all white space becomes blanks, and a full stop ends the text where there is none (MERL,
    arXiv 2403.06659, adds it in any case; reports of other sources than MIMIC-IV-ECG have theirs already).

    Returns:
        The text and its number of words before the full stop is added; ("", 0) when every field is empty.
    """
    text = ". ".join(f for f in fields if f.strip())
    text = text.replace("EKG", "ECG").replace("ekg", "ecg").strip(" *").strip("=-").lower()
    n_words = len(text.split())
    if not n_words:
        return "", 0
    text = re.sub(r"[\n\r\t]", " ", text).strip()
    return text if text.endswith(".") else f"{text}.", n_words


def normalise(text: str) -> str:
    """Compose Unicode (NFC), put right the capital umlauts inside lower-case words ("mÄssige"), join runs of white space."""
    text = unicodedata.normalize("NFC", text)
    return " ".join(_MISCASED.sub(lambda m: m.group().lower(), text).split())
