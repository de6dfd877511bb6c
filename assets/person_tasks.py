"""Tasks about the person whose ECG it is: age, sex, body mass index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assets.dataset import Task

if TYPE_CHECKING:
    import pandas as pd

PERSON_TASKS: Mapping[str, Task] = {
    "age": Task("age", "age", ("age",), {"age": "age"}, kind="regression", unit="years"),
    "sex": Task("sex", "sex", ("female",), {"female": "female"}, may_be_empty=True),
    "bmi": Task("bmi", "body mass index", ("bmi",), {"bmi": "body mass index"}, kind="regression", unit="kg/m2"),
}

_HEIGHTS_CM, _WEIGHTS_KG, _BMI = (100.0, 220.0), (20.0, 250.0), (12.0, 60.0)
"""What is taken for a measurement; beyond it a digit is missing, or the unit is another."""


def age_labels(records: pd.DataFrame, below: float) -> pd.DataFrame:
    """Ages of records that have one.

    Args:
        records: as `Dataset.records` gives them.
        below: ages from here on are left out, because the dataset writes one number for all of them.
    """
    known = records[records["age"] < below]
    return known[["record_id", "age"]].astype({"age": "float32"}).reset_index(drop=True)


def sex_labels(records: pd.DataFrame) -> pd.DataFrame:
    """Whether a person is female, of records that say so."""
    known = records[records["sex"].isin(["female", "male"])]
    return known[["record_id"]].assign(female=(known["sex"] == "female").astype("int8")).reset_index(drop=True)


def bmi_labels(record_ids: pd.Series, height_cm: pd.Series, weight_kg: pd.Series) -> pd.DataFrame:
    """Body mass index of records whose height and weight are known and can be a person's; NaN where they are not known."""
    import pandas as pd

    bmi = weight_kg / (height_cm / 100) ** 2
    sound = height_cm.between(*_HEIGHTS_CM) & weight_kg.between(*_WEIGHTS_KG) & bmi.between(*_BMI)
    return pd.DataFrame({"record_id": record_ids, "bmi": bmi.astype("float32")})[sound].reset_index(drop=True)
