"""Retrieval: which items of one modality an encoder finds by those of others, and the job that ranks them.

The gallery holds every item of the query's part once, by image id, recording id, panel id or equal text. The true items of a
query are those that stand in a record with exactly its items; where there are several (the same report under several
recordings), the best placed counts. The same items of a patient ask once. Where a pairing comes with lists of candidates, the
items of each list are ranked too, as Symile-MIMIC is judged (Saporta et al., NeurIPS 2024): only pictures, because the lists are
made so that no other picture of a list is right as well. Letters: Q queries, C items of the gallery, K places of a list.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoint import load_encoder
from models.embeddings import device_of
from models.errors import ConfigurationError, TrainingError
from models.head_job import make_origin
from models.inputs import open_inputs
from models.jobs import RetrievalJob
from models.judged import Items, embed_items, read_items
from models.method import Method
from models.progress import Progress
from models.rank_tables import RankRow, Ranks, write_ranks
from models.types import Modality

_SCORES = 1 << 24
"""Scores that are held at a time."""


@dataclass(frozen=True)
class Direction:
    """What is asked for by what: "ecg+labs->image" asks for images by ECG and labs together."""

    name: str
    queries: tuple[str, ...]
    target: str

    @classmethod
    def parse(cls, name: str) -> Direction:
        """Read a direction's name.

        Raises:
            ConfigurationError: it is none.
        """
        query, arrow, target = name.partition("->")
        queries = tuple(query.split("+"))
        known = {str(m) for m in Modality}
        if not arrow or target not in known or not set(queries) <= known or target in queries:
            raise ConfigurationError(f"{name!r} is no direction of retrieval; write for example text->ecg or ecg+labs->image")
        return cls(name, queries, target)

    @property
    def modalities(self) -> tuple[str, ...]:
        """All that it needs."""
        return (*self.queries, self.target)


@dataclass(frozen=True)
class Question:
    """A direction on the items of a part: who asks, what is there to be found, and what is right.

    Attributes:
        rows_Q: first record with each combination of query items; U of the letters below.
        item_rows_C: first record with each item of the gallery.
        true_Q: rows of the gallery that are right, for each combination.
        item_of: row of the gallery by key.
        combination_N: combination of every record, -1 where the record lacks a part.
    """

    direction: Direction
    rows_Q: NDArray[np.int64]
    item_rows_C: NDArray[np.int64]
    true_Q: list[NDArray[np.int64]]
    item_of: dict[str, int]
    combination_N: NDArray[np.int64]


def retrieve(job: RetrievalJob, progress: Progress) -> dict[str, Any]:
    """Rank validation and test items in every direction whose modalities are there, by an encoder and by its random twin.

    Raises:
        ConfigurationError: a name is no direction, no direction can be asked, or the job lacks something that is read.
        TrainingError: a part has no usable record, or an embedding is not finite.
    """
    started = time.perf_counter()
    device = device_of(job.accelerator)
    directions = [Direction.parse(name) for name in job.directions]
    method = load_encoder(job.bundle)
    inputs = open_inputs(job, method.config)
    parts = [read_items(inputs, folds) for folds in (job.validation_folds, job.test_folds)]
    lists = [] if job.pairing is None else read_lists(job.pairing / "candidates.parquet")
    tables = []
    asked: list[str] = []
    for arm, bundle in (("pretrained", job.bundle), ("random_init", job.random_init)):
        method = load_encoder(bundle)
        rows: list[RankRow] = []
        left_out: dict[str, int] = {}
        for part in parts:
            embeddings = embed_items(method, part, device)
            for number, direction in enumerate(directions):
                if not set(direction.modalities) <= set(embeddings) & set(part.keys):
                    continue
                question = make_question(part, direction)
                left_out[direction.name] = left_out.get(direction.name, 0) + int((question.combination_N < 0).sum())
                rows += ask(method, part, question, embeddings, lists, device, seed=(job.seed, number))
                progress.metrics({"rows": len(rows)}, f"retrieval {direction.name}, {arm}")
        asked = list(left_out)
        if not rows:
            raise ConfigurationError(f"nothing can be retrieved: no record has what {', '.join(job.directions)} ask for")
        origin = make_origin(job, "retrieval", "retrieval", arm, bundle, "no label used; validation and test items ranked apart")
        write_ranks(job.output / "ranks" / f"{origin.slug}.parquet", Ranks(origin, rows, left_out))
        tables.append(origin.slug)
    return {
        "tables": tables,
        "directions": asked,
        "records": sum(len(part) for part in parts),
        "timing": {"seconds": round(time.perf_counter() - started, 1)},
    }


def make_question(part: Items, direction: Direction) -> Question:
    """Gather queries, gallery and true items of a direction."""
    targets = part.keys[direction.target]
    item_of: dict[str, int] = {}
    item_rows: list[int] = []
    for row, key in enumerate(targets):
        if key and key not in item_of:
            item_of[key] = len(item_rows)
            item_rows.append(row)
    combination_of: dict[tuple[str, ...], int] = {}
    rows: list[int] = []
    true: list[set[int]] = []
    combination_N = np.full(len(part), -1)
    for row, keys in enumerate(zip(*(part.keys[m] for m in direction.queries), strict=True)):
        if not all(keys) or not targets[row]:
            continue
        combination = combination_of.setdefault(keys, len(rows))
        if combination == len(rows):
            rows.append(row)
            true.append(set())
        true[combination].add(item_of[targets[row]])
        combination_N[row] = combination
    true_Q = [np.array(sorted(found), np.int64) for found in true]
    return Question(direction, np.array(rows, np.int64), np.array(item_rows, np.int64), true_Q, item_of, combination_N)


def ask(
    method: Method,
    part: Items,
    question: Question,
    embeddings: dict[str, Tensor],
    lists: list[tuple[str, list[str]]],
    device: torch.device,
    seed: tuple[int, ...],
) -> list[RankRow]:
    """The rows of a question: by the whole part, and by lists where these are of pictures."""
    direction, n_items = question.direction, len(question.item_rows_C)
    best_Q = np.zeros(len(question.rows_Q), np.int64)
    rank_Q = np.zeros(len(question.rows_Q))
    asked = _lists_of(part, question, lists) if direction.target == Modality.IMAGE else []
    rng = np.random.default_rng(seed)
    listed: dict[int, tuple[float, int]] = {}
    for start, scores_QC in score_chunks(method, question, embeddings, device):
        for q, scores_C in enumerate(scores_QC, start):
            rank_Q[q], best_Q[q] = mean_rank(scores_C, question.true_Q[q]), int(scores_C.argmax())
        for number, (row, items_K) in enumerate(asked):
            q = int(question.combination_N[row])
            if start <= q < start + len(scores_QC):
                place, best = drawn_rank(scores_QC[q - start, items_K], rng)
                listed[number] = (place, int(items_K[best]))

    def row_of(pool: str, row: int, rank: float, n: int, n_true: int, best: int) -> RankRow:
        found = part.ids[int(question.item_rows_C[best])]
        return RankRow(direction.name, pool, part.ids[row], part.patients[row], int(part.fold_N[row]), rank, n, n_true, found)

    rows = []
    for row in _askers(part, question):
        q = int(question.combination_N[row])
        rows.append(row_of("split", row, float(rank_Q[q]), n_items, len(question.true_Q[q]), int(best_Q[q])))
    for number, (row, items_K) in enumerate(asked):
        place, best = listed[number]
        rows.append(row_of("candidates", row, place, len(items_K), 1, best))
    return rows


def score_chunks(
    method: Method, question: Question, embeddings: dict[str, Tensor], device: torch.device
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Scores (q, C) of some queries at a time against the gallery, with the number of the first; never all at once.

    Raises:
        TrainingError: a score is not finite.
    """
    target = question.direction.target
    candidate_CD = embeddings[target][torch.from_numpy(question.item_rows_C)].to(device)
    step = max(1, _SCORES // max(1, len(candidate_CD)))
    for start in range(0, len(question.rows_Q), step):
        rows = torch.from_numpy(question.rows_Q[start : start + step])
        with torch.inference_mode():
            query = {m: embeddings[m][rows].to(device) for m in question.direction.queries}
            scores_QC = method.similarity(query, candidate_CD, target).float().cpu().numpy()
        if not np.isfinite(scores_QC).all():
            raise TrainingError(f"scores of {question.direction.name} are not finite; train the encoder again")
        yield start, scores_QC


def mean_rank(scores_C: NDArray[np.float32], true: NDArray[np.int64]) -> float:
    """Place of the best true item, 1 for the first; where wrong items score the same, the mean of the places they share."""
    best = scores_C[true].max()
    higher, equal = int((scores_C > best).sum()), int((scores_C == best).sum()) - int((scores_C[true] == best).sum())
    return 1 + higher + equal / 2


def drawn_rank(scores_K: NDArray[np.float32], rng: np.random.Generator) -> tuple[float, int]:
    """Place of the first candidate, and the candidate that came first; equal scores are put into an order by lot."""
    order_K = np.lexsort((rng.random(len(scores_K)), -scores_K))
    return float(np.flatnonzero(order_K == 0)[0] + 1), int(order_K[0])


def read_lists(path: Path) -> list[tuple[str, list[str]]]:
    """The lists of candidates of a pairing: query and candidates, the true one first; none where there is no such table.

    Raises:
        TrainingError: the table cannot be read.
    """
    if not path.exists():
        return []
    try:
        table = pq.read_table(path, columns=["query_sample_id", "candidate_sample_id", "is_positive"]).to_pylist()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise TrainingError(f"{path} is no table of candidates ({error}); materialise the pairing again") from error
    lists: dict[str, list[str]] = {}
    for row in sorted(table, key=lambda row: not row["is_positive"]):
        lists.setdefault(row["query_sample_id"], []).append(row["candidate_sample_id"])
    return list(lists.items())


def _lists_of(part: Items, question: Question, lists: Iterable[tuple[str, list[str]]]) -> list[tuple[int, NDArray[np.int64]]]:
    """Record that asks and its candidates as rows of the gallery; lists whose query or true item is not there are left out."""
    place = {sample: row for row, sample in enumerate(part.ids)}
    targets = part.keys[question.direction.target]
    found = []
    for query, candidates in lists:
        row = place.get(query, -1)
        if row < 0 or question.combination_N[row] < 0 or candidates[0] != query:
            continue
        keys = [targets[place[c]] for c in candidates if c in place]
        found.append((row, np.array([question.item_of[key] for key in keys if key], np.int64)))
    return found


def _askers(part: Items, question: Question) -> list[int]:
    """Records that ask: of those with the same items, one a patient."""
    seen: dict[tuple[int, str], int] = {}
    for row, combination in enumerate(question.combination_N.tolist()):
        if combination >= 0:
            seen.setdefault((combination, part.patients[row]), row)
    return list(seen.values())
