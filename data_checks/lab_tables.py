"""Check of cleaned/<dataset>[labs]: lab results and hospital stays in their declared form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.dataset import LAB_COLUMNS
from assets.lab_tables import ENCOUNTER_COLUMNS
from data_checks.context import CheckContext, TableRules
from data_checks.suites import lab_suites
from data_checks.tables import Kind, read_parts, read_table

if TYPE_CHECKING:
    import pandas as pd

_TIME = r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})?"
_PART_ROWS = 1_000_000
"""Results that are looked at together; a hospital has hundreds of millions."""


def check_lab_tables(c: CheckContext) -> str:
    """Lab results and hospital stays have their columns, known patients, times that can be read, and the counted rows."""
    patients = set(c.records()["patient_id"])

    def derive(frame: pd.DataFrame) -> None:
        frame["known_patient"] = frame["patient_id"].isin(patients)
        frame["is_time"] = frame["charted_at" if "charted_at" in frame else "admitted_at"].str.fullmatch(_TIME)

    columns: dict[str, Kind] = {name: "number" if name == "value" else "text" for name in LAB_COLUMNS}
    encounters = read_table(c.output.path("encounters.parquet"))
    rules = [
        TableRules(
            "encounters.parquet", encounters, dict.fromkeys(ENCOUNTER_COLUMNS, "text"), "encounter_id", lambda: lab_suites()[1], derive
        )
    ]
    n_rows = 0
    for number, part in enumerate(read_parts(c.output.path("labs.parquet"), _PART_ROWS)):
        name = "labs.parquet" if not number else f"labs.parquet from row {n_rows:,}"
        c.validate(*rules, TableRules(name, part, columns, "encounter_id", lambda: lab_suites()[0], derive))
        rules = []
        n_rows += part.num_rows
    found = {"rows": n_rows, "n_encounters": encounters.num_rows}
    for name, number in {"rows": c.output.rows, "n_encounters": c.output.facts["n_encounters"]}.items():
        if found[name] != number:
            c.findings.fail(f"the manifest counts {number} {name}, the tables {found[name]}; materialise {c.output.key} again")
    return f"{n_rows} lab results of {encounters.num_rows} hospital stays are as declared"
