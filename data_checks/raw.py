"""Checks of raw/<dataset>: the list of files, the table of records, and that no patient trains and judges at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_checks.context import CheckContext, TableRules
from data_checks.findings import NAMED_IN_DETAILS, name_rows
from data_checks.suites import files_suite, records_suite
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd

FILES_COLUMNS: dict[str, Kind] = {"path": "text", "bytes": "integer", "sha256": "text"}
RECORDS_COLUMNS: dict[str, Kind] = {
    "record_id": "text",
    "patient_id": "text",
    "fold": "integer",
    "age": "number",
    "sex": "text",
    "site": "text",
    "device": "text",
    "acquired_at": "text",
    "present": "flag",
}


def check_manifest(c: CheckContext) -> str:
    """The files and records of a dataset are listed completely and in their declared form."""
    files, records = read_table(c.output.path("files.parquet")), read_table(c.output.path("records.parquet"))
    frames = c.validate(
        TableRules("files.parquet", files, FILES_COLUMNS, "path", files_suite),
        TableRules("records.parquet", records, RECORDS_COLUMNS, "record_id", lambda: records_suite(c.dataset)),
    )
    facts = c.output.facts
    counted = {"n_records": records.num_rows, "n_files": files.num_rows}
    if "records.parquet" in frames:
        counted["n_present"] = int(frames["records.parquet"]["present"].sum())
        if records.num_rows and not counted["n_present"]:
            c.findings.fail(
                f"none of {records.num_rows} records has its signal files; complete the download, then materialise {c.output.key} again"
            )
    for name, number in counted.items():
        if facts.get(name, number) != number:
            c.findings.fail(f"the manifest counts {name} = {facts[name]}, the tables {number}; materialise {c.output.key} again")
    c.findings.facts |= counted
    return f"{counted['n_files']} files and {counted['n_records']} records, {counted.get('n_present')} of them present, are as declared"


def check_patient_leakage(c: CheckContext) -> str:
    """No patient has records in two of train, validation and test."""
    frame = read_table(c.output.path("records.parquet")).select(["record_id", "patient_id", "fold"]).to_pandas()
    frame["part"] = frame["fold"].map(c.part)
    parts = frame.groupby("patient_id")["part"].nunique()
    leaking = sorted(parts.index[parts > 1])
    rows = frame[frame["patient_id"].isin(leaking)]
    if leaking:
        told = [_describe(p, rows[rows["patient_id"] == p]) for p in leaking[:NAMED_IN_DETAILS]]
        c.findings.fail(
            f"{len(leaking)} patients are in more than one of train, validation and test: {name_rows(told, len(leaking))}; correct the folds of the dataset",
            rows["record_id"],
            named=True,
        )
        c.findings.facts["patients"] = told
    return f"{len(parts)} patients, each in one of train, validation and test"


def _describe(patient: str, rows: pd.DataFrame) -> str:
    held = [f"{part!s}: {name_rows([str(r) for r in group['record_id']])}" for part, group in rows.groupby("part", sort=True)]
    return f"patient {patient} ({'; '.join(held)})"
