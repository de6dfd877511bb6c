"""Reports as CSFM reads them: clauses that compare with another recording go, since the model cannot see that recording.

The rules are the published code's, and so is their leak: of "Compared to the ECG of May, the rate is faster." the last clause
stays.
"""

from __future__ import annotations

import re

_PREVIOUS = re.compile(r"[^,.]*previous tracing[^,.]*[,.]?", re.IGNORECASE)
_COMMA = re.compile(r"\s*,\s*")
_COMPARISON = re.compile(r",[^,]*(?:Compared to|tracing|TRACING)[^,]*")
_NUMBERED = re.compile(r"TRACING #\d+")
_COMMAS = re.compile(r"(?:,\s*)+")


def clean_report(text: str) -> str:
    """A report on one line with commas between its clauses, without those about other tracings; "" if nothing is left."""
    text = _PREVIOUS.sub("", text)
    text = _tidy(text.replace("\n", ", ").replace(".", ","))
    text = _NUMBERED.sub("", _COMPARISON.sub("", text))
    return _tidy(text)


def _tidy(text: str) -> str:
    return _COMMAS.sub(", ", _COMMA.sub(", ", text)).strip(" ,")
