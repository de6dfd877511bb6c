"""Check of questions/<dataset>: each is about a known record in its own fold, has words and an answer, and stands there once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.questions import REASONS
from data_checks.cleaned import same_fold
from data_checks.context import CheckContext, TableRules
from data_checks.suites import questions_suite
from data_checks.tables import Kind, read_table
from models.answer_tables import SEPARATOR, join

if TYPE_CHECKING:
    import pandas as pd

QUESTIONS_COLUMNS: dict[str, Kind] = {
    "question_id": "text",
    "record_id": "text",
    "patient_id": "text",
    "fold": "integer",
    "question": "text",
    "question_type": "text",
    "answers": "text",
    "template": "text",
    "attribute": "text",
    "published_part": "text",
}


def check_questions(c: CheckContext) -> str:
    """Questions have words, sorted answers and ids of their own, and are about known records, in the fold of each; others are told apart."""
    table, records = read_table(c.output.path("questions.parquet")), c.records()
    left_out = read_table(c.output.path("left_out.parquet")).to_pandas()

    def derive(frame: pd.DataFrame) -> None:
        person = frame["record_id"].map(records.loc[~records.index.duplicated(), "patient_id"])
        frame["known_record"] = frame["record_id"].isin(records.index)
        frame["person_of_record"] = (person == frame["patient_id"]) | person.isna()
        frame["same_fold_as_record"] = same_fold(frame, records)
        held = frame["answers"].fillna("").str.split(SEPARATOR)
        frame["sorted_answers"] = [join(answers) == SEPARATOR.join(answers) and all(a.strip() for a in answers) for answers in held]

    frame = c.validate(TableRules("questions.parquet", table, QUESTIONS_COLUMNS, "question_id", questions_suite, derive)).get(
        "questions.parquet"
    )
    if unknown := sorted(set(left_out["reason"]) - set(REASONS)):
        c.findings.fail(f"left_out.parquet has reasons other than {', '.join(REASONS)}", unknown)
    c.findings.facts["left_out"] = {reason: int((left_out["reason"] == reason).sum()) for reason in REASONS}
    if frame is not None:
        _note_parts(c, frame)
    return f"{table.num_rows} questions are as declared, {len(left_out)} were left out"


def _note_parts(c: CheckContext, frame: pd.DataFrame) -> None:
    """Say how many questions of each type a part has, and how many are in another part than their publishers put them in."""
    part = frame["fold"].map(c.part)
    counts = frame.groupby([part, "question_type"]).size()
    c.findings.facts["types"] = {str(p): {str(k): int(v) for k, v in counts[p].items()} for p in counts.index.unique(0)}
    published = frame["published_part"].where(frame["published_part"] != "")
    if moved := int((published.notna() & (published != part)).sum()):
        c.findings.note(
            f"{moved} of {int(published.notna().sum())} questions are in another part than published: folds are those of the recordings, "
            "so that no encoder is asked about a patient it has learned from; scores are not those of the published split"
        )
