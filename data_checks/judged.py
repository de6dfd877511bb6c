"""What the check of an evaluation looks at besides prediction tables: ranks, generated reports, explanations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, TypeVar

from assets.answer_scoring import EXACT, FLAT_LINE_GAIN, TEXT_ONLY, WITH_RECORDINGS
from assets.rank_scoring import ACCURACY, RECALLS
from assets.report_scoring import DISTINCT
from data_checks.context import CheckContext
from data_checks.head import ARMS
from data_checks.tables import read_table
from models.answer_tables import Answers, read_answers
from models.errors import EinthovenError
from models.rank_tables import Ranks, read_ranks
from models.report_tables import Generated, read_generated

if TYPE_CHECKING:
    import pandas as pd

Table = TypeVar("Table", Ranks, Generated, Answers)
Values = dict[tuple[str, str], float]
"""Metrics by direction and name."""


def read_judged(c: CheckContext) -> tuple[list[Ranks], list[Generated], list[Answers]]:
    """The output's rank tables, tables of reports and of answers, after a look at what they hold."""
    ranks, reports, answers = _read(c, "ranks", read_ranks), _read(c, "generated", read_generated), _read(c, "answers", read_answers)
    if ranks or reports or answers:
        records = c.records()
        folds: dict[str, set[int]] = {}
        for patient, fold in zip(records["patient_id"], records["fold"], strict=True):
            folds.setdefault(str(patient), set()).add(int(fold))
        for table in ranks:
            _check_ranks(c, table, folds)
        for report_table in reports:
            _check_reports(c, report_table, records)
        _check_arms(c, ranks, lambda t: [(r.direction, r.pool, r.query_id, r.n_candidates, r.n_true) for r in t.rows])
        _check_arms(c, reports, lambda t: list(zip(t.record_id, t.reference, strict=True)))
        for answer_table in answers:
            _check_answers(c, answer_table, records)
        for protocol in sorted({t.origin.protocol for t in answers}):
            same_protocol = [t for t in answers if t.origin.protocol == protocol]
            _check_arms(c, same_protocol, lambda t: [(r.question_id, r.truth, r.by_type, r.by_text) for r in t.rows])
    if (path := c.output.folder / "explanations.parquet").exists():
        _check_explanations(c, path)
    return ranks, reports, answers


def _read(c: CheckContext, folder: str, read: Callable[[Path], Table]) -> list[Table]:
    tables = []
    for path in sorted((c.output.folder / folder).glob("*.parquet")):
        try:
            table = read(path)
        except EinthovenError as error:
            c.findings.fail(f"{folder}/{path.name}: {error}")
            continue
        origin = table.origin
        if (origin.dataset, origin.method, origin.slug) != (c.dataset.name, c.output.key.parts[1], path.stem):
            c.findings.fail(f"{folder}/{path.name} says it holds {origin.slug} of method {origin.method!r} on {origin.dataset!r}")
        tables.append(table)
    return tables


def _check_ranks(c: CheckContext, table: Ranks, folds: dict[str, set[int]]) -> None:
    name = f"ranks/{table.origin.slug}"
    judged = {*c.dataset.split.validation, *c.dataset.split.test}

    def rows(wrong: Callable[[Any], bool]) -> list[str]:
        return [f"{r.direction} {r.pool} {r.query_id}" for r in table.rows if wrong(r)]

    faults = {
        "ranks that are not between 1 and the number of candidates": rows(lambda r: not 1 <= r.rank <= r.n_candidates),
        "a number of true items that cannot be": rows(lambda r: not 1 <= r.n_true <= r.n_candidates),
        "queries of folds that are neither validation nor test": rows(lambda r: r.fold not in judged),
        "queries of patients whom the dataset does not have, or in another fold": rows(
            lambda r: r.fold not in folds.get(r.patient_id, set())
        ),
        "queries without a best item": rows(lambda r: not r.best_id),
    }
    for what, found in faults.items():
        if found:
            c.findings.fail(f"{name}: {what}", found)
    asked = Counter((r.direction, r.pool, r.query_id) for r in table.rows)
    if twice := [" ".join(key) for key, n in asked.items() if n > 1]:
        c.findings.fail(f"{name}: a query has two rows", twice)
    if table.origin.protocol == "retrieval" and (wrong := rows(lambda r: r.pool not in ("split", "candidates"))):
        c.findings.fail(f"{name}: pools other than split and candidates", wrong)


def _check_reports(c: CheckContext, table: Generated, records: pd.DataFrame) -> None:
    name = f"generated/{table.origin.slug}"
    recordings = [i.rpartition("@")[0] or i for i in table.record_id]
    known = [r in records.index for r in recordings]
    if not all(known):
        c.findings.fail(f"{name}: unknown records", [i for i, there in zip(table.record_id, known, strict=True) if not there])
    test = set(c.dataset.split.test)
    at_home = [r for r, there in zip(recordings, known, strict=True) if there]
    if elsewhere := [r for r, fold in zip(at_home, records["fold"].reindex(at_home).tolist(), strict=True) if fold not in test]:
        c.findings.fail(f"{name}: records outside the test folds", elsewhere)
    if len(set(table.record_id)) < len(table.record_id):
        c.findings.fail(f"{name}: a record appears twice", [i for i, n in Counter(table.record_id).items() if n > 1])
    if blank := [i for i, text in zip(table.record_id, table.reference, strict=True) if not text.strip()]:
        c.findings.fail(f"{name}: records without a report to compare with", blank)


def _check_answers(c: CheckContext, table: Answers, records: pd.DataFrame) -> None:
    name = f"answers/{table.origin.slug}"
    judged = {*c.dataset.split.validation, *c.dataset.split.test}
    homes = {str(i): (str(p), int(f)) for i, p, f in zip(records.index, records["patient_id"], records["fold"], strict=True)}
    faults = {
        "questions about unknown records": [r.question_id for r in table.rows if r.record_id not in homes],
        "questions in another fold, or of another patient, than their record": [
            r.question_id for r in table.rows if r.record_id in homes and homes[r.record_id] != (r.patient_id, r.fold)
        ],
        "questions of folds that are neither validation nor test": [r.question_id for r in table.rows if r.fold not in judged],
        "questions without an answer": [r.question_id for r in table.rows if not (r.answer.strip() and r.truth.strip())],
        "a question has two rows": [i for i, n in Counter(r.question_id for r in table.rows).items() if n > 1],
    }
    for what, found in faults.items():
        if found:
            c.findings.fail(f"{name}: {what}", found)


def _check_arms(c: CheckContext, tables: Sequence[Table], asked: Callable[[Table], Any]) -> None:
    for task in sorted({t.origin.task for t in tables}):
        arms = {t.origin.arm: t for t in tables if t.origin.task == task}
        if set(arms) != set(ARMS):
            c.findings.fail(
                f"{task}: arms {', '.join(sorted(arms))} instead of {' and '.join(ARMS)}; nobody can tell what pretraining adds"
            )
        elif asked(arms[ARMS[0]]) != asked(arms[ARMS[1]]):
            c.findings.fail(f"{task}: the encoder and its random twin were not asked the same")


def _check_explanations(c: CheckContext, path: Path) -> None:
    import numpy as np

    for row in read_table(path).to_pylist():
        for kind, dimensions in (("image_map", 2), ("ecg_map", 1)):
            file = path.with_name("explanations") / str(row[kind])
            try:
                values = np.load(file, allow_pickle=False)
            except (OSError, ValueError) as error:
                c.findings.fail(f"explanations/{file.name} cannot be read ({type(error).__name__})", [row["sample_id"]])
                continue
            if values.ndim != dimensions or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
                c.findings.fail(f"explanations/{file.name} is no map of values between 0 and 1", [row["sample_id"]])


def rank_values(table: Ranks, test_folds: Sequence[int]) -> Values:
    """Metrics of a rank table, computed with plain loops."""
    found: Values = {}
    test = [r for r in table.rows if r.fold in test_folds]
    for direction, pool in dict.fromkeys((r.direction, r.pool) for r in test):
        ranks = [r.rank for r in test if (r.direction, r.pool) == (direction, pool)]
        if pool == "candidates":
            found[direction, ACCURACY] = mean(rank == 1 for rank in ranks)
        else:
            found |= {(direction, name): mean(rank <= k for rank in ranks) for name, k in zip(RECALLS, (1, 5, 10), strict=True)}
            found |= {(direction, "median_rank"): median(ranks), (direction, "mean_rank"): mean(ranks)}
    return found


def report_values(table: Generated) -> Values:
    """Metrics of generated reports, computed by the packages themselves; METEOR is left to its own test."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

    if not table.generated:
        return {}
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(table.reference, table.generated, strict=True)
    found = {("", "rouge_l"): mean(rouge.score(theirs, ours)["rougeL"].fmeasure for theirs, ours in pairs)}
    for order in (1, 4):
        bleu = BLEU(lowercase=True, smooth_method="none", max_ngram_order=order).corpus_score(table.generated, [table.reference])
        found["", f"bleu_{order}"] = bleu.score / 100
    return found | {("", DISTINCT): len(set(table.generated)) / len(table.generated)}


def answer_values(table: Answers, tables: Sequence[Answers], test_folds: Sequence[int]) -> Values:
    """Exact match of an answer table, and its gain over the same encoder with a flat line, computed with plain loops."""
    blind = [t for t in tables if (t.origin.protocol, t.origin.arm) == (TEXT_ONLY, table.origin.arm)]
    found: Values = {}
    for direction in ("", *sorted({r.question_type for r in table.rows if r.fold in test_folds})):
        here, *without = (_exact(t, direction, test_folds) for t in (table, *blind))
        found[direction, EXACT] = here
        if table.origin.protocol == WITH_RECORDINGS and without:
            found[direction, FLAT_LINE_GAIN] = here - without[0]
    return found


def _exact(table: Answers, direction: str, test_folds: Sequence[int]) -> float:
    here = [r for r in table.rows if r.fold in test_folds and direction in ("", r.question_type)]
    right = [set(r.answer.split(";")) == set(r.truth.split(";")) for r in here]
    return mean(right) if right else math.nan


def same(a: float, b: float, within: float) -> bool:
    """Whether two metrics are equal, undefined ones included."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return abs(a - b) <= within
