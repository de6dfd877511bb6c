"""Check of reports/<dataset>: one text a record, with its language and source, and no label in disguise outside training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.text.reports import UNDERSTOOD
from assets.text.terms import LANGUAGES
from data_checks.cleaned import same_fold
from data_checks.context import CheckContext, TableRules
from data_checks.findings import name_rows
from data_checks.suites import REPORT_SOURCES, reports_suite
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd

REPORTS_COLUMNS: dict[str, Kind] = {
    "record_id": "text",
    "patient_id": "text",
    "fold": "integer",
    "text": "text",
    "original": "text",
    "language": "text",
    "source": "text",
    "coverage": "number",
}


def check_reports(c: CheckContext) -> str:
    """There is one report a record, of known language and source; templates made from labels stand in training folds only."""
    table, records = read_table(c.output.path("reports.parquet")), c.records()
    training = c.dataset.split.train
    tables = {"reports.parquet": table}
    if c.dataset.has_image_reports:
        tables["image_reports.parquet"] = read_table(c.output.path("image_reports.parquet"))

    def derive(frame: pd.DataFrame) -> None:
        frame["known_record"] = frame["record_id"].isin(records.index)
        frame["same_fold_as_record"] = same_fold(frame, records)
        frame["template_elsewhere"] = (frame["source"] == "template") & ~frame["fold"].isin(training)
        frame["coverage_if_text"] = frame["coverage"].notna() | (frame["original"].fillna("").str.strip() == "")
        frame["is_empty"] = (frame["text"].fillna("").str.strip() == "").astype(float)

    rules = [TableRules(name, held, REPORTS_COLUMNS, "record_id", reports_suite, derive) for name, held in tables.items()]
    frame = c.validate(*rules).get("reports.parquet")
    if frame is not None:
        missing = sorted(set(records.index) - set(frame["record_id"]))
        if missing:
            c.findings.fail("records without a row in reports.parquet", missing)
        c.findings.facts["n_empty"] = int(frame["is_empty"].sum())
        strange = frame[(frame["language"] == "unknown") & (frame["coverage"] < UNDERSTOOD)]["record_id"].tolist()
        c.findings.facts["n_not_understood"] = len(strange)
        if strange:
            told = "the form `english` has no text for them, the form `original` their own"
            c.findings.note(f"warning: {len(strange)} reports are in none of {', '.join(LANGUAGES)} ({name_rows(strange)}); {told}")
        c.findings.facts["sources"] = {s: int((frame["source"] == s).sum()) for s in REPORT_SOURCES}
    return f"{' and '.join(str(held.num_rows) for held in tables.values())} reports are as declared"
