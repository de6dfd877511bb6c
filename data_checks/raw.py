"""Checks of raw/<dataset>: the list of files, the table of records, and that no patient trains and judges at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.dataset import get_dataset, list_datasets
from assets.outputs import Key
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
    """No patient has records in two of train, validation and test; patients whom other datasets place elsewhere are told."""
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
    _note_other_datasets(c, frame[["patient_id", "part"]].drop_duplicates())
    return f"{len(parts)} patients, each in one of train, validation and test"


def _note_other_datasets(c: CheckContext, patients: pd.DataFrame) -> None:
    """Say which datasets of the workspace hold the same people, and how many of them in another part."""
    shared: dict[str, dict[str, int]] = {}
    for name in list_datasets():
        other = c.workspace.current(Key(("raw", name)))
        if name == c.dataset.name or other is None:
            continue
        theirs = read_table(other.path("records.parquet")).select(["patient_id", "fold"]).to_pandas().drop_duplicates()
        theirs["part_there"] = theirs["fold"].map(get_dataset(name).part)
        both = patients.merge(theirs, on="patient_id")
        if len(both):
            apart = both[both["part"] != both["part_there"]]
            shared[name] = {"patients": both["patient_id"].nunique(), "in_another_part": apart["patient_id"].nunique()}
    c.findings.facts["also_in"] = shared
    for name, counts in shared.items():
        if counts["in_another_part"]:
            c.findings.note(
                f"warning: {counts['in_another_part']} of {counts['patients']} patients that {name} holds too are in another part there; "
                f"a model trained on one must not be judged on the other"
            )


def _describe(patient: str, rows: pd.DataFrame) -> str:
    held = [f"{part!s}: {name_rows([str(r) for r in group['record_id']])}" for part, group in rows.groupby("part", sort=True)]
    return f"patient {patient} ({'; '.join(held)})"
