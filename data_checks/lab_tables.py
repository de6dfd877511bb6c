"""Check of cleaned/<dataset>[labs]: lab results and hospital stays in their declared form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.dataset import LAB_COLUMNS
from assets.lab_tables import ENCOUNTER_COLUMNS
from data_checks.context import CheckContext, TableRules
from data_checks.suites import lab_suites
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd

_TIME = r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})?"


def check_lab_tables(c: CheckContext) -> str:
    """Lab results and hospital stays have their columns, known patients, times that can be read, and the counted rows."""
    labs, encounters = (read_table(c.output.path(f"{name}.parquet")) for name in ("labs", "encounters"))
    patients = set(c.records()["patient_id"])

    def derive(frame: pd.DataFrame) -> None:
        frame["known_patient"] = frame["patient_id"].isin(patients)
        frame["is_time"] = frame["charted_at" if "charted_at" in frame else "admitted_at"].str.fullmatch(_TIME)

    lab_columns: dict[str, Kind] = {name: "number" if name == "value" else "text" for name in LAB_COLUMNS}
    labs_suite, encounters_suite = lab_suites()
    c.validate(
        TableRules("labs.parquet", labs, lab_columns, "encounter_id", lambda: labs_suite, derive),
        TableRules(
            "encounters.parquet", encounters, dict.fromkeys(ENCOUNTER_COLUMNS, "text"), "encounter_id", lambda: encounters_suite, derive
        ),
    )
    counted = {"rows": c.output.rows, "n_encounters": c.output.facts["n_encounters"]}
    found = {"rows": labs.num_rows, "n_encounters": encounters.num_rows}
    for name, number in counted.items():
        if found[name] != number:
            c.findings.fail(f"the manifest counts {number} {name}, the tables {found[name]}; materialise {c.output.key} again")
    return f"{labs.num_rows} lab results of {encounters.num_rows} hospital stays are as declared"
