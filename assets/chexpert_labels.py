"""The 14 findings that CheXpert's labeller reads from radiology reports (Irvin et al. 2019), and their label tables.

A report affirms a finding (1), denies it (0), is uncertain about it (-1) or does not mention it (empty). MIMIC-CXR-JPG,
CheXpert and Symile-MIMIC publish these four states under the same names, so their tasks have the same classes in the same
order. Our tables count a finding as present where it is affirmed; uncertain and unmentioned findings count as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assets.dataset import DatasetError, Task
from assets.tables import some
from models.types import Modality

if TYPE_CHECKING:
    import pandas as pd

FINDINGS: Mapping[str, str] = {
    "Atelectasis": "atelectasis, collapsed lung tissue",
    "Cardiomegaly": "enlarged heart",
    "Consolidation": "consolidation of lung tissue",
    "Edema": "pulmonary oedema",
    "Enlarged Cardiomediastinum": "widened mediastinum or heart",
    "Fracture": "fracture",
    "Lung Lesion": "lung nodule or mass",
    "Lung Opacity": "lung opacity",
    "No Finding": "no finding",
    "Pleural Effusion": "pleural effusion",
    "Pleural Other": "other change of the pleura",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Support Devices": "lines, tubes or implanted devices",
}
"""Published names, in MIMIC-CXR-JPG's order, with plain ones."""

_STATES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": 0, "-1.0": 0, "": 0}


def finding_task(name: str) -> Task:
    """The task of all 14 findings; a picture without any affirmed finding is a labelled one."""
    title = "Findings in the radiology report, read by CheXpert's labeller"
    return Task(name, title, tuple(FINDINGS), FINDINGS, may_be_empty=True, vocabulary="chexpert", modality=Modality.IMAGE)


def finding_table(record_ids: pd.Series, states: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A label table: record_id and an int8 column of zeros and ones per finding.

    Args:
        record_ids: one a row of `states`.
        states: text, a column per finding, as published.
        path: the file they come from, for messages.

    Raises:
        DatasetError: a state that is none of the four.
    """
    import pandas as pd

    columns: dict[str, pd.Series] = {"record_id": record_ids.reset_index(drop=True)}
    for finding in FINDINGS:
        column = states[finding].reset_index(drop=True)
        values = column.map(_STATES)
        if (unknown := values.isna()).any():
            raise DatasetError(
                f"{path}: column {finding} holds {some(sorted(set(column[unknown])))}; 1, 0, -1 or nothing are known, download it again"
            )
        columns[finding] = values.astype("int8")
    return pd.DataFrame(columns)
