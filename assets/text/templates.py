"""Sentences made from labels, for records that have no report. Only records of training folds may get one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assets.dataset import Dataset
from assets.person_tasks import PERSON_TASKS
from models.types import Modality

if TYPE_CHECKING:
    import pandas as pd

_FINER = {"super": ("sub", "diag", "all"), "sub": ("diag", "all"), "diag": ("all",), "form": ("all",), "rhythm": ("all",)}


def template_report(class_names: Sequence[str], described: Modality = Modality.ECG) -> str:
    """A report that states the named classes of an ECG or a chest X-ray, in English; "" for none."""
    if not class_names:
        return ""
    *others, last = class_names
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"This {'chest X-ray' if described is Modality.IMAGE else 'ECG'} shows {listed}."


def named_labels(dataset: Dataset, record_ids: Sequence[str], described: Modality = Modality.ECG) -> pd.Series:
    """The plain names of the labels of some records, over all tasks that describe their recordings or images, without saying anything
    twice.

    Where a coarse task and a finer one name the same statements (superclass and subclass), the finer one speaks. Numbers and what is
    about the person rather than the ECG are not told.

    Returns:
        A list of names for each record that has a label, indexed by record_id.
    """
    import pandas as pd

    wanted = set(record_ids)
    names: dict[str, list[str]] = {}
    tasks = [dataset.task(t) for t in dataset.task_names if t not in PERSON_TASKS]
    spoken = [
        t.name
        for t in tasks
        if t.modality is described and t.kind != "regression" and not set(_FINER.get(t.name, ())) & set(dataset.task_names)
    ]
    for task in sorted(spoken, key=lambda t: t != "rhythm"):
        table = dataset.labels(task)
        table = table[table["record_id"].isin(wanted)].set_index("record_id")
        titles = dataset.task(task).class_names
        for code in table.columns:
            for record_id in table.index[table[code] == 1]:
                said = names.setdefault(record_id, [])
                if titles[code] not in said:
                    said.append(titles[code])
    return pd.Series(names, dtype=object)
