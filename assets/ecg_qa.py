"""Reads ECG-QA as published (Oh et al., NeurIPS 2023, datasets and benchmarks; layout of its release 1.0.2).

    [ecgqa/]ptbxl/paraphrased/{train,valid,test}/00000.json ...    samples, their questions in varied words
    [ecgqa/]ptbxl/template/{train,valid,test}/00000.json ...       the same samples in the words of the templates

A file is a list of samples: template_id, question_id, sample_id (a number in its part), question_type, attribute_type, question, answer
(a list), ecg_id (a list: one record of PTB-XL, or two for comparisons) and attribute (a list, null for comparisons). The paraphrased
questions are read where they are there, else the templates.

The published parts are no folds of PTB-XL: their test records lie in PTB-XL's training folds as well. Here every question is in the fold
of its recording, so that no encoder answers about a patient it was trained on, and the published part stands beside it in a column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.dataset import QUESTION_COLUMNS, DatasetError
from models.answer_tables import SEPARATOR, join

if TYPE_CHECKING:
    import pandas as pd

FORMS = ("paraphrased", "template")
PARTS = {"train": "train", "valid": "validation", "test": "test"}
REMEDY = "restore the published file"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "template_id": int,
    "sample_id": int,
    "question_type": str,
    "attribute_type": str,
    "question": str,
    "answer": list,
    "ecg_id": list,
    "attribute": (list, type(None)),
}


def question_files(folder: Path) -> list[Path]:
    """The files of the form that is read, in order.

    Raises:
        DatasetError: there is none.
    """
    for root in (folder / "ecgqa" / "ptbxl", folder / "ptbxl", folder):
        for form in FORMS:
            if found := [path for part in PARTS for path in sorted((root / form / part).glob("*.json"))]:
                return found
    raise DatasetError(f"{folder} holds no questions of ECG-QA; clone its repository there, it has them in ecgqa/ptbxl")


def read_questions(folder: Path) -> pd.DataFrame:
    """All samples with the columns `QUESTION_COLUMNS`; `record_id` is an ecg_id, or two joined by ";".

    Raises:
        DatasetError: there is no file, one is no list of samples, or a sample lacks a field; names file and sample.
    """
    import pandas as pd

    rows = [_row(path, place, sample) for path in question_files(folder) for place, sample in _samples(path)]
    return pd.DataFrame(rows, columns=list(QUESTION_COLUMNS))


def _samples(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as JSON ({error}); {REMEDY}") from error
    if not isinstance(held, list):
        raise DatasetError(f"{path} holds no list of samples; {REMEDY}")
    yield from enumerate(held)


def _row(path: Path, place: int, sample: Any) -> dict[str, str]:
    """One sample as a row of text."""
    wrong = [n for n, kind in _FIELDS.items() if not isinstance(sample.get(n), kind)] if isinstance(sample, dict) else list(_FIELDS)
    texts = [] if wrong else [*sample["answer"], *(sample["attribute"] or [])]
    if wrong or not all(isinstance(t, str) for t in texts) or not all(type(i) is int for i in sample["ecg_id"]):
        raise DatasetError(f"{path}: sample {place} (from 0) has no usable {', '.join(wrong) or 'answer, attribute or ecg_id'}; {REMEDY}")
    return {
        "question_id": f"{path.parts[-3]}-{path.parts[-2]}-{sample['sample_id']}",
        "record_id": SEPARATOR.join(str(i) for i in sample["ecg_id"]),
        "question": " ".join(sample["question"].split()),
        "question_type": sample["question_type"].removeprefix("single-"),
        "answers": join(a.strip() for a in sample["answer"] if a.strip()),
        "template": str(sample["template_id"]),
        "attribute": f"{sample['attribute_type']}: {SEPARATOR.join(sample['attribute'] or [])}",
        "published_part": PARTS[path.parts[-2]],
    }
