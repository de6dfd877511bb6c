"""Questions made from statements: what is asked is so, half of it is no, and nothing depends on the order of records."""

from __future__ import annotations

import numpy as np
import pytest

from assets.dataset import QUESTION_COLUMNS, DatasetError
from assets.question_templates import PER_STATEMENT, make_questions, spoken
from assets.scp import STATEMENTS
from models.answer_tables import SEPARATOR, join

CODES = ("NORM", "SR", "AFIB", "STACH", "LVH", "IMI", "PVC", "LOWT", "NST_")
CHOSEN = {code: STATEMENTS[code] for code in CODES}


def study(n: int = 300) -> tuple[dict[str, list[str]], dict[str, int]]:
    rng = np.random.default_rng(0)
    codes = {f"r{i}": [c for c in CODES if rng.random() < 0.25] for i in range(n)}
    return codes, {record: 1 + i % 3 for i, record in enumerate(codes)}


def test_every_answer_is_what_the_statements_say() -> None:
    codes, folds = study()
    table = make_questions(codes, folds, CHOSEN)
    assert tuple(table.columns) == QUESTION_COLUMNS and table["question_id"].is_unique
    kinds = {"rhythm": "rhythm", "form": "form", "diagnosis": "diagnostic"}
    for row in table.to_dict("records"):
        held = codes[row["record_id"]]
        about = row["attribute"].split(SEPARATOR) if row["attribute"] else []
        if row["question_type"] == "verify":
            assert row["answers"] == ("yes" if about[0] in held else "no")
        elif row["question_type"] == "choose":
            assert len(set(about)) == 2 and all(spoken(STATEMENTS[c]) in row["question"] for c in about)
            assert row["answers"] == join([spoken(STATEMENTS[c]) for c in about if c in held] or ["none"])
        else:
            kind = kinds[row["template"].split()[1]]
            assert row["answers"] == join([spoken(STATEMENTS[c]) for c in held if getattr(STATEMENTS[c], kind)] or ["none"])
    assert set(table["question_type"]) == {"verify", "choose", "query"}
    assert set(table["record_id"]) <= {r for r, held in codes.items() if held}


def test_who_always_says_yes_is_right_half_of_the_time_in_every_fold() -> None:
    codes, folds = study()
    table = make_questions(codes, folds, CHOSEN)
    verify = table[table["question_type"] == "verify"]
    counts = verify.groupby([verify["record_id"].map(folds), "attribute", "answers"]).size().unstack()
    assert (counts["yes"] == counts["no"]).all() and counts["yes"].max() == PER_STATEMENT


def test_choices_are_one_both_and_none() -> None:
    codes, folds = study()
    table = make_questions(codes, folds, CHOSEN)
    choose = table.loc[table["question_type"] == "choose", "answers"]
    assert 0.15 < (choose == "none").mean() < 0.35
    assert choose.str.contains(SEPARATOR).any()
    assert {spoken(s) for s in CHOSEN.values()} <= set(choose)


def test_order_and_seed_of_records() -> None:
    codes, folds = study()
    table = make_questions(codes, folds, CHOSEN)
    turned = make_questions(dict(reversed(codes.items())), folds, CHOSEN)
    assert set(map(tuple, turned.to_numpy())) == set(map(tuple, table.to_numpy()))
    assert set(make_questions(codes, folds, CHOSEN, seed=1)["question_id"]) != set(table["question_id"])


def test_what_is_asked_of_a_record_does_not_change_when_others_leave() -> None:
    codes, folds = study()
    fewer = dict(list(codes.items())[:100])
    table, smaller = (make_questions(c, folds, CHOSEN) for c in (codes, fewer))
    held = table[table["question_type"] != "verify"].set_index("question_id")["answers"]
    rest = smaller[smaller["question_type"] != "verify"].set_index("question_id")["answers"]
    assert (held[rest.index] == rest).all()


def test_an_unknown_statement_is_named() -> None:
    with pytest.raises(DatasetError, match="'NOVEL' in r7"):
        make_questions({"r7": ["NOVEL"]}, {"r7": 1}, CHOSEN)
