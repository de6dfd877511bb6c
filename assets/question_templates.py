"""Questions about recordings, made from their SCP statements by templates of our own.

    verify    "Does this ECG show X?"                            yes, no
    choose    "Which of X and Y does this ECG show, if any?"     X, Y, both of them, or none
    query     "What rhythm does this ECG show?" and the like     every such statement of the record, or none

What is asked about a record is drawn by hashes of seed, template and record, so it is the same on every machine and does not change
when other records come. Of every statement and fold, as many records are asked that have it as lack it, at most `PER_STATEMENT` of
each: who always says yes, or what is most frequent, is right half of the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from assets.dataset import QUESTION_COLUMNS
from assets.scp import STATEMENTS, Statement, refuse_unknown
from models.answer_tables import join

if TYPE_CHECKING:
    import pandas as pd

PER_STATEMENT = 20
NONE = "none"
_SPOKEN = {"NORM": "normal findings only"}
_OPEN: tuple[tuple[str, str, Callable[[Statement], bool]], ...] = (
    ("rhythm", "What rhythm does this ECG show?", lambda s: s.rhythm),
    ("form", "What changes of form does this ECG show?", lambda s: s.form),
    ("diagnosis", "What diagnoses does this ECG suggest?", lambda s: s.diagnostic),
)

Records = Mapping[str, frozenset[str]]


def make_questions(
    codes_by_record: Mapping[str, Collection[str]],
    folds: Mapping[str, int],
    statements: Mapping[str, Statement] = STATEMENTS,
    seed: int = 0,
) -> pd.DataFrame:
    """Questions about records with the columns `QUESTION_COLUMNS`: some to verify, one to choose and one open question a record.

    Args:
        codes_by_record: statements of each record; records without any are not asked about.
        folds: of each record; draws are balanced within.
        statements: what may be asked about.
        seed: of the draws.

    Raises:
        DatasetError: a record has a statement that is none of `statements`.
    """
    import pandas as pd

    refuse_unknown(codes_by_record, statements)
    records = {record_id: frozenset(codes) for record_id, codes in codes_by_record.items() if codes}
    rows = [
        *_verify(records, folds, statements, seed),
        *(row for record_id, codes in records.items() for row in _choose(record_id, codes, statements, seed)),
        *(_query(record_id, codes, statements, seed) for record_id, codes in records.items()),
    ]
    return pd.DataFrame(rows, columns=list(QUESTION_COLUMNS))


def spoken(statement: Statement) -> str:
    """How a statement is named in questions and answers."""
    return _SPOKEN.get(statement.code, statement.name)


def _verify(records: Records, folds: Mapping[str, int], statements: Mapping[str, Statement], seed: int) -> Iterator[dict[str, str]]:
    by_fold: dict[int, list[str]] = {}
    for record_id in records:
        by_fold.setdefault(folds[record_id], []).append(record_id)
    for code, statement in statements.items():
        for _, members in sorted(by_fold.items()):
            drawn = sorted(members, key=lambda r, c=code: _draw(seed, "verify", c, r))  # type: ignore[misc]
            sides = [[r for r in drawn if (code in records[r]) is shown] for shown in (True, False)]
            n = min(PER_STATEMENT, *(len(side) for side in sides))
            for answer, side in zip(("yes", "no"), sides, strict=True):
                for record_id in side[:n]:
                    yield _row("verify", record_id, f"Does this ECG show {spoken(statement)}?", [answer], [statement])


def _choose(record_id: str, codes: frozenset[str], statements: Mapping[str, Statement], seed: int) -> Iterator[dict[str, str]]:
    """A pair of a kind of which the record has some, drawn so that one, both or none of them holds; nothing where no pair is to be had."""

    def draw(among: Sequence[str], word: str) -> list[str]:
        return sorted(among, key=lambda code: _draw(seed, f"choose {word}", code, record_id))

    number = _draw(seed, "choose", "", record_id)
    kinds = [belongs for _, _, belongs in _OPEN if any(belongs(statements[code]) for code in codes)]
    belongs = kinds[number % len(kinds)]
    group = [code for code, statement in statements.items() if belongs(statement)]
    held, lacking = draw([c for c in group if c in codes], "held"), draw([c for c in group if c not in codes], "lacking")
    wishes = [held[:1] + lacking[:1], lacking[:2], held[:2], held[:1] + lacking[:1]]
    first = number // 64 % len(wishes)
    pair = next((pair for pair in wishes[first:] + wishes[:first] if len(pair) == 2), None)
    if pair is not None:
        one, two = draw(pair, "order")
        shown = [spoken(statements[code]) for code in pair if code in codes] or [NONE]
        text = f"Which of {spoken(statements[one])} and {spoken(statements[two])} does this ECG show, if any?"
        yield _row("choose", record_id, text, shown, [statements[one], statements[two]])


def _query(record_id: str, codes: frozenset[str], statements: Mapping[str, Statement], seed: int) -> dict[str, str]:
    name, text, belongs = _OPEN[_draw(seed, "query", "", record_id) % len(_OPEN)]
    shown = [spoken(statements[code]) for code in codes if belongs(statements[code])]
    return _row(f"query {name}", record_id, text, shown or [NONE], [])


def _row(template: str, record_id: str, text: str, answers: Sequence[str], about: Sequence[Statement]) -> dict[str, str]:
    attribute = ";".join(statement.code for statement in about)
    return {
        "question_id": f"{template.replace(' ', '-')}-{record_id}" + (f"-{attribute}" if attribute else ""),
        "record_id": record_id,
        "question": text,
        "question_type": template.split()[0],
        "answers": join(answers),
        "template": template,
        "attribute": attribute,
        "published_part": "",
    }


def _draw(seed: int, *words: str) -> int:
    return int.from_bytes(hashlib.sha256("\n".join((str(seed), *words)).encode()).digest()[:8], "big")
