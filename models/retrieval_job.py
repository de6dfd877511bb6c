"""Retrieval: which items of one modality an encoder finds by those of others, and the job that ranks them.

The gallery holds every item of the query's part once, by image id, recording id, panel id or equal text. The true items of a
query are those that stand in a record with exactly its items; where there are several (the same report under several
recordings), the best placed counts. The same items of a patient ask once. Where a pairing comes with lists of candidates, the
items of each list are ranked too, as Symile-MIMIC is judged (Saporta et al., NeurIPS 2024): only pictures, because the lists are
made so that no other picture of a list is right as well. Letters: Q queries, C items of the gallery, K places of a list.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
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
from models.metrics.retrieval import Scores, list_ranks, ranks
from models.progress import Progress
from models.rank_tables import RankRow, Ranks, write_ranks
from models.types import Modality


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
    true_Q: list[list[int]]
    item_of: dict[str, int]
    combination_N: NDArray[np.int64]


def retrieve(job: RetrievalJob, progress: Progress) -> dict[str, Any]:
    """Rank validation and test items in every direction whose modalities are there, by an encoder and by its random twin.

    Raises:
        ConfigurationError: a name is no direction, no direction can be asked, or the job lacks something that is read.
        TrainingError: a part has no usable record, or an embedding is not finite.
        MetricError: a score is not finite.
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
            for direction in (d for d in directions if set(d.modalities) <= set(embeddings) & set(part.keys)):
                question = make_question(part, direction)
                left_out[direction.name] = int((question.combination_N < 0).sum())  # of the last part, which is the test part
                rows += ask(method, part, question, embeddings, lists, device, job.seed)
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
    return Question(direction, np.array(rows, np.int64), np.array(item_rows, np.int64), [sorted(t) for t in true], item_of, combination_N)


def ask(
    method: Method,
    part: Items,
    question: Question,
    embeddings: dict[str, Tensor],
    lists: list[tuple[str, list[str]]],
    device: torch.device,
    seed: int,
) -> list[RankRow]:
    """The rows of a question: by the whole part, and by lists where these are of pictures.

    Raises:
        MetricError: a score is not finite.
    """
    direction, n_items = question.direction, len(question.item_rows_C)
    listed = _lists_of(part, question, lists) if direction.target == Modality.IMAGE else []
    seen = _Seen(similarities(method, question, embeddings, device), question, listed)
    rank_Q = ranks(seen, question.true_Q, n_items)

    def row_of(pool: str, row: int, rank: float, n: int, n_true: int, best: int) -> RankRow:
        found = part.ids[int(question.item_rows_C[best])]
        return RankRow(direction.name, pool, part.ids[row], part.patients[row], int(part.fold_N[row]), rank, n, n_true, found)

    rows = []
    for row in _askers(part, question):
        q = int(question.combination_N[row])
        rows.append(row_of("split", row, float(rank_Q[q]), n_items, len(question.true_Q[q]), seen.best[q]))
    scores = [seen.listed[number] for number in range(len(listed))]
    for (row, items_K), scores_K, rank in zip(listed, scores, list_ranks(scores, [0] * len(scores), seed).tolist(), strict=True):
        best = 0 if rank == 1 else 1 + int(scores_K[1:].argmax())
        rows.append(row_of("candidates", row, float(rank), len(items_K), 1, int(items_K[best])))
    return rows


def similarities(method: Method, question: Question, embeddings: dict[str, Tensor], device: torch.device) -> Scores:
    """Scores of queries against the gallery, summed in float64 so that equal items score the same."""
    target = question.direction.target
    candidate_CD = embeddings[target][torch.from_numpy(question.item_rows_C)].double().to(device)

    def scores(start: int, stop: int) -> NDArray[np.float32]:
        rows = torch.from_numpy(question.rows_Q[start:stop])
        query = {m: embeddings[m][rows].double().to(device) for m in question.direction.queries}
        with torch.inference_mode():
            found: NDArray[np.float32] = method.similarity(query, candidate_CD, target).float().cpu().numpy()
        return found

    return scores


class _Seen:
    """Hands scores on, and keeps what there is no other chance to see: the best item of each query, and the scores of its lists."""

    def __init__(self, scores: Scores, question: Question, listed: list[tuple[int, NDArray[np.int64]]]) -> None:
        self._scores = scores
        self._lists_of: dict[int, list[int]] = {}
        for number, (row, _) in enumerate(listed):
            self._lists_of.setdefault(int(question.combination_N[row]), []).append(number)
        self._items = [items_K for _, items_K in listed]
        self.best: list[int] = []
        self.listed: dict[int, NDArray[np.float32]] = {}

    def __call__(self, start: int, stop: int) -> NDArray[np.float32]:
        scores_QC = self._scores(start, stop)
        self.best += scores_QC.argmax(axis=1).tolist()
        for query in range(start, stop):
            for number in self._lists_of.get(query, []):
                self.listed[number] = scores_QC[query - start, self._items[number]]
        return scores_QC


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
