"""Question answering: the job that has a frozen encoder read questions with their recordings, and learns to pick the answers.

The encoder gives features of a recording and a question together (`Method.answer_features`); a linear layer over them, trained as every
linear probe is (`models.heads`), says how much speaks for each answer class, that is each answer that enough training questions have.
Of the classes that training questions of the type have, those above a threshold are given, and the best one always; the threshold of a
question type is the one with the most exact matches among the validation questions of the type. The same is done with the
random-initialised twin, and with both where a flat line stands in place of every recording: what an encoder answers without looking.
Letters: N questions, C answer classes, F features, A arms.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from models.answer_tables import SEPARATOR, Answer, Answers, join, write_answers
from models.checkpoint import load_encoder
from models.data import batch_of
from models.embeddings import device_of
from models.errors import TrainingError
from models.head_job import ARMS, make_origin
from models.heads import train_probes
from models.inputs import open_as_read
from models.jobs import QuestionJob
from models.method import Method
from models.progress import Progress
from models.samples import first_rows
from models.store import Store

PROTOCOL, TEXT_ONLY = "question_answering", "question_answering_text_only"
"""Protocols of the tables: of questions with their recordings, and of the same questions with a flat line."""

PARTS = ("train", "validation", "test")
_BATCH = 64
_CANDIDATES = 100
_COLUMNS = ("question_id", "record_id", "patient_id", "fold", "question_type", "question", "answers")


@dataclass(frozen=True)
class Question:
    """A question about one recording.

    Attributes:
        row: of the store, of the recording's first window.
        answers: the true ones, sorted and joined by ";".
    """

    question_id: str
    record_id: str
    patient_id: str
    fold: int
    question_type: str
    question: str
    answers: str
    row: int


def answer_questions(job: QuestionJob, progress: Progress) -> dict[str, Any]:
    """Answer validation and test questions, with an encoder and with its random-initialised twin, with and without the recordings.

    Raises:
        ConfigurationError: the method reads no questions.
        TrainingError: the table cannot be read, a part has no question, no answer is frequent enough, or a feature is not finite.
        CheckpointError, StoreError: encoder or store cannot be used.
    """
    started = time.perf_counter()
    device, store = device_of(job.accelerator), open_as_read(job.store, job.bundle)
    asked, counts = read_questions(job.questions, store)
    folds = (job.train_folds, job.validation_folds, job.test_folds)
    parts = {part: choose(asked, of_part, job.limits.get(part)) for part, of_part in zip(PARTS, folds, strict=True)}
    if empty := [part for part, held in parts.items() if not held]:
        raise TrainingError(f"{job.questions} has no question about a stored recording of the {' and '.join(empty)} folds")
    everything = [question for held in parts.values() for question in held]
    classes = answer_classes(parts["train"], job.minimum_count)
    targets_NC, complete_N = targets(everything, classes)
    bounds = np.cumsum([0, *(len(held) for held in parts.values())])
    place = {part: np.arange(bounds[i], bounds[i + 1]) for i, part in enumerate(PARTS)}
    arms = [(protocol, arm) for protocol in (PROTOCOL, TEXT_ONLY) for arm in ARMS]
    features_ANF = []
    for protocol, arm in arms:
        method = load_encoder(job.bundle if arm == "pretrained" else job.random_init)
        features_ANF.append(question_features(method, store, everything, device, blind=protocol == TEXT_ONLY))
        progress.metrics({"features": len(features_ANF)}, f"{protocol}, {arm}: features of {len(everything)} questions")
    trained = train_probes(np.stack(features_ANF), targets_NC, place["train"], place["validation"], job.seed)

    counts["answers_never_learned"] = int((~complete_N[place["test"]]).sum())
    counts |= {f"{part}_not_drawn": sum(q.fold in f for q in asked) - len(parts[part]) for part, f in zip(PARTS, folds, strict=True)}
    by_type, by_text = most_frequent(parts["train"])
    types_N = np.array([q.question_type for q in everything])
    possible_NC = possible(types_N, targets_NC, place["train"])
    judged_N = np.concatenate([place["validation"], place["test"]])
    tables = []
    for (protocol, arm), values_NF, (probe, _) in zip(arms, features_ANF, trained, strict=True):
        scores_NC, chosen = among_possible(probe.scores(values_NF), possible_NC), place["validation"]
        limits = thresholds(scores_NC[chosen], targets_NC[chosen], complete_N[chosen], types_N[chosen])
        given_NC = pick(scores_NC, np.array([limits.get(t, np.inf) for t in types_N]))
        rows = [
            _row(everything[i], join(classes[c] for c in np.flatnonzero(given_NC[i]).tolist()), by_type, by_text) for i in judged_N.tolist()
        ]
        origin = make_origin(
            job, "questions", protocol, arm, job.bundle if arm == "pretrained" else job.random_init, _selection(parts, classes, probe.epoch)
        )
        write_answers(job.output / "answers" / f"{origin.slug}.parquet", Answers(origin, rows, counts))
        tables.append(origin.slug)
        right = [row.correct for row in rows if row.fold in job.validation_folds]
        progress.metrics({"tables": len(tables)}, f"{origin.slug}: {np.mean(right):.3f} of the validation questions exactly right")
    sizes = {part: len(held) for part, held in parts.items()}
    timing = {"seconds": round(time.perf_counter() - started, 1)}
    return {"tables": tables, "classes": len(classes), "questions": sizes, "counts": counts, "timing": timing}


def read_questions(path: Path, store: Store) -> tuple[list[Question], dict[str, int]]:
    """The questions of a table about recordings of a store, and how many are about others.

    Raises:
        TrainingError: the table cannot be read.
    """
    try:
        table = pq.read_table(path, columns=list(_COLUMNS)).to_pylist()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise TrainingError(f"{path} is no table of questions ({error}); materialise the questions again") from error
    rows = first_rows(store)
    found = [Question(**row, row=rows[row["record_id"]]) for row in table if row["record_id"] in rows]
    return found, {"recording_not_stored": len(table) - len(found)}


def choose(questions: Iterable[Question], folds: Sequence[int], limit: int | None) -> list[Question]:
    """The questions of some folds, the first `limit` by a hash of their ids: the same for every method."""
    of_folds = [q for q in questions if q.fold in folds]
    return sorted(of_folds, key=lambda q: hashlib.sha256(q.question_id.encode()).digest())[:limit]


def answer_classes(questions: Iterable[Question], minimum_count: int) -> list[str]:
    """The answers that at least so many questions have, sorted.

    Raises:
        TrainingError: none is.
    """
    count = Counter(answer for q in questions for answer in q.answers.split(SEPARATOR))
    found = sorted(answer for answer, n in count.items() if n >= minimum_count)
    if not found:
        raise TrainingError(
            f"no answer to a training question comes {minimum_count} times; ask more questions or lower the job's minimum_count"
        )
    return found


def targets(questions: Sequence[Question], classes: Sequence[str]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Which classes are true of each question, int8 (N, C), and whether these are all of its answers, (N,)."""
    column = {name: i for i, name in enumerate(classes)}
    target_NC = np.zeros((len(questions), len(classes)), np.int8)
    complete_N = np.ones(len(questions), bool)
    for i, question in enumerate(questions):
        for answer in question.answers.split(SEPARATOR):
            if answer in column:
                target_NC[i, column[answer]] = 1
            else:
                complete_N[i] = False
    return target_NC, complete_N


def question_features(
    method: Method, store: Store, questions: Sequence[Question], device: torch.device, *, blind: bool
) -> NDArray[np.float32]:
    """Features (N, F) of a frozen encoder for questions with their recordings, or with a flat line in place of each.

    Raises:
        ConfigurationError: the method reads no questions.
        TrainingError: a feature is not finite; names questions.
    """
    method = method.to(device).eval()
    shown = list({q.question: q for q in questions}.values()) if blind else questions  # without recordings only the words differ
    parts = []
    with torch.inference_mode():
        for start in range(0, len(shown), _BATCH):
            some = shown[start : start + _BATCH]
            batch = batch_of(store, np.array([q.row for q in some], np.int64), device)
            batch = replace(batch, signal_BLT=torch.zeros_like(batch.signal_BLT)) if blind else batch
            batch.texts = [q.question for q in some]
            parts.append(method.answer_features(batch).float().cpu().numpy())
    found: NDArray[np.float32] = np.concatenate(parts)
    if (bad_N := ~np.isfinite(found).all(axis=1)).any():
        named = ", ".join(shown[i].question_id for i in np.flatnonzero(bad_N)[:10])
        raise TrainingError(f"the encoder gives features that are not finite for {int(bad_N.sum())} questions ({named}); train it again")
    if not blind:
        return found
    place = {q.question: i for i, q in enumerate(shown)}
    return found[[place[q.question] for q in questions]]


def possible(types_N: NDArray[np.str_], target_NC: NDArray[np.int8], train_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The classes that may be given to each question, bool (N, C): those that some training question of its type has."""
    possible_NC = np.zeros(target_NC.shape, bool)
    for name in np.unique(types_N):
        possible_NC[types_N == name] = target_NC[train_N[types_N[train_N] == name]].any(axis=0)
    return possible_NC


def among_possible(scores_NC: NDArray[np.floating[Any]], possible_NC: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
    """Scores with every class that may not be given below all others."""
    return np.where(possible_NC, scores_NC, scores_NC.min() - 1)


def thresholds(
    scores_NC: NDArray[np.floating[Any]], target_NC: NDArray[np.int8], complete_N: NDArray[np.bool_], types_N: NDArray[np.str_]
) -> dict[str, float]:
    """By question type the score above which a class is given, so that most questions are answered exactly; of equals the highest."""
    found = {}
    for name in np.unique(types_N).tolist():
        mine = types_N == name
        levels = np.quantile(scores_NC[mine], np.linspace(0, 1, _CANDIDATES))[::-1]
        exact = [float((exactly(pick(scores_NC[mine], level), target_NC[mine]) & complete_N[mine]).mean()) for level in levels]
        found[name] = float(levels[int(np.argmax(exact))])
    return found


def pick(scores_NC: NDArray[np.floating[Any]], threshold_N: NDArray[np.floating[Any]] | float) -> NDArray[np.bool_]:
    """The classes that are given, bool (N, C): those above the threshold, and the best one always."""
    given_NC = scores_NC > np.reshape(threshold_N, (-1, 1))
    given_NC[np.arange(len(scores_NC)), scores_NC.argmax(axis=1)] = True
    return given_NC


def exactly(given_NC: NDArray[np.bool_], target_NC: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether the given classes are the true ones and no others, (N,)."""
    same: NDArray[np.bool_] = (given_NC == (target_NC == 1)).all(axis=1)
    return same


def most_frequent(questions: Iterable[Question]) -> tuple[dict[str, str], dict[str, str]]:
    """The most frequent answer to questions of each type, and to those of each wording; of equals the first in the alphabet."""
    by_type: dict[str, Counter[str]] = {}
    by_text: dict[str, Counter[str]] = {}
    for q in questions:
        by_type.setdefault(q.question_type, Counter())[q.answers] += 1
        by_text.setdefault(q.question, Counter())[q.answers] += 1
    first, second = ({k: min(count, key=lambda a: (-count[a], a)) for k, count in held.items()} for held in (by_type, by_text))
    return first, second


def _row(question: Question, answer: str, by_type: Mapping[str, str], by_text: Mapping[str, str]) -> Answer:
    q, likely = question, by_type.get(question.question_type, "")
    about = (q.question_id, q.record_id, q.patient_id, q.fold, q.question_type, q.question)
    return Answer(*about, q.answers, answer, likely, by_text.get(q.question, likely))


def _selection(parts: Mapping[str, Sequence[Question]], classes: Sequence[str], epoch: int) -> str:
    return (
        f"linear layer on frozen features, {len(parts['train'])} training questions, {len(classes)} answer classes, epoch {epoch} by validation "
        "macro AUROC, threshold of each question type by validation exact match"
    )
