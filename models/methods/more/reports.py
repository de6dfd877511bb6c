"""What MoRE's text encoder reads: the radiologist's findings and impression, then the ECG machine's statements.

Source: Thapa et al. 2024 (arXiv 2410.16239) and its code. What differs: headings are found in any case, since the reports of this
platform are in lower case; a record of which only one report is there has that segment alone, without a sentence that says so.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from models.encoders.lora import Segments
from models.types import Batch

_XRAY, _ECG = "The report from Xray is: ", "The report from ECG is: "
_HEADING = re.compile(r"\b(?:findings|impression)\s*:", re.IGNORECASE)
_RULES = re.compile(r"[_\u2013\u2014\u2015\u2212\uFE58\uFE63\uFF0D]+|--+")
_SENTENCE_END = re.compile(r"(?<=[.?!])(?<!\b[dm]r\.)(?<!\bmrs\.)(?<!\b[ap]\.m\.)\s+", re.IGNORECASE)
_CLOCK = re.compile(r"\b\d{1,2}(?::\d{2}|\s?[ap]\.?m\b)", re.IGNORECASE)
_NOT_ECG_TEXT = re.compile(r"[^\w.,;!?'\"]+|_+")


def xray_text(report: str) -> str:
    """A radiology report from its heading of findings or impression on, on one line; all of it where it has neither.

    Underscores and dashes that stand for removed names go, and every sentence with a time of day (who was told what when).
    """
    heading = _HEADING.search(report)
    found = _HEADING.sub(" ", _RULES.sub("", report if heading is None else report[heading.start() :]))
    sentences = _SENTENCE_END.split(" ".join(found.split()))
    return " ".join(s for s in sentences if not _CLOCK.search(s))


def ecg_text(report: str) -> str:
    """ECG statements with letters, digits and plain punctuation only."""
    return " ".join(_NOT_ECG_TEXT.sub(" ", report).split())


def segments(batch: Batch) -> list[Segments]:
    """X-ray text and ECG text of each record, those that are there; () where neither is."""
    found: list[Segments] = []
    for xray, ecg in zip_longest(batch.image_texts or [], batch.texts or [], fillvalue=""):
        xray, ecg = xray_text(xray), ecg_text(ecg)
        found.append((*([_XRAY + xray] if _says(xray) else []), *([_ECG + ecg] if _says(ecg) else [])))
    return found


def with_prefixes(reports: list[str]) -> list[str]:
    """Texts from which a vocabulary is learned: each report behind the words that are put before it."""
    return [text for report in reports for text in (_XRAY, _ECG + report)]


def _says(text: str) -> bool:
    return any(c.isalnum() for c in text)
