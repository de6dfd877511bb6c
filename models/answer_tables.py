"""Answer tables: what was answered to each question about a recording, from which every exact match and interval is computed.

Parquet with one row a question of the validation and test folds, and a JSON header in the schema that says who answered. An answer is
a set of answer classes, written sorted and joined by ";". Beside it stand the answers of two competitors who never see a recording.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import EinthovenError
from models.predictions import Origin

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATOR = ";"
COLUMNS = ("question_id", "record_id", "patient_id", "fold", "question_type", "question", "truth", "answer", "by_type", "by_text")
_HEADER = b"einthoven.answers"


class AnswerError(EinthovenError):
    """An answer table that is unreadable or does not have the form it must have."""


@dataclass(frozen=True)
class Answer:
    """What became of one question.

    Attributes:
        truth: the answers that stand in the data.
        answer: those that were given.
        by_type: the most frequent answer to training questions of the type.
        by_text: likewise to those of the same words, or of the type where training never asked in these words.
    """

    question_id: str
    record_id: str
    patient_id: str
    fold: int
    question_type: str
    question: str
    truth: str
    answer: str
    by_type: str
    by_text: str

    @property
    def correct(self) -> bool:
        """Whether exactly the true answers were given."""
        return self.answer == self.truth


@dataclass(frozen=True)
class Answers:
    """An answer table in memory.

    Attributes:
        counts: by name, questions that were left out or could not be answered, over all folds.
    """

    origin: Origin
    rows: list[Answer]
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, folds: Sequence[int], question_type: str = "") -> Answers:
        """The rows of some folds, of one question type where one is named."""
        rows = [r for r in self.rows if r.fold in folds and question_type in ("", r.question_type)]
        return Answers(self.origin, rows, self.counts)


def join(answers: Iterable[str]) -> str:
    """How a set of answers is written."""
    return SEPARATOR.join(sorted(set(answers)))


def write_answers(path: Path, table: Answers) -> None:
    """Write a table as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    header = json.dumps({"origin": asdict(table.origin), "counts": table.counts}, sort_keys=True)
    columns = {name: [getattr(row, name) for row in table.rows] for name in (*COLUMNS, "correct")}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.table(columns, schema=_schema()).replace_schema_metadata({_HEADER: header}), temporary)
    os.replace(temporary, path)


def read_answers(path: Path) -> Answers:
    """Read a table.

    Raises:
        AnswerError: the file is not an answer table, or says of an answer that it is correct, or not, where the opposite holds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path)
        header = json.loads((arrow.schema.metadata or {})[_HEADER])
        origin, counts = Origin(**header["origin"]), {str(k): int(v) for k, v in header["counts"].items()}
        rows = [Answer(**row) for row in arrow.select(list(COLUMNS)).cast(pa.schema([_schema().field(c) for c in COLUMNS])).to_pylist()]
        correct = arrow["correct"].to_pylist()
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise AnswerError(f"{path} is not an answer table ({error}); evaluate again") from error
    if wrong := [row.question_id for row, said in zip(rows, correct, strict=True) if row.correct is not said]:
        raise AnswerError(f"{path}: column correct is not what answer and truth say of {', '.join(wrong[:5])}; evaluate again")
    return Answers(origin, rows, counts)


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"fold": pa.int32(), "correct": pa.bool_()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in (*COLUMNS, "correct")])
