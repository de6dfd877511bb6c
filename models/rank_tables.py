"""Rank tables: per-query outcomes of retrieval and identification, from which every recall, interval and figure is computed.

Parquet with one row a query of a direction and pool, and a JSON header in the schema that says where the ranks come from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import EinthovenError
from models.predictions import Origin

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER = b"einthoven.ranks"

COLUMNS = ("direction", "pool", "query_id", "patient_id", "fold", "rank", "n_candidates", "n_true", "best_id")


class RankError(EinthovenError):
    """A rank table that is unreadable or does not have the form it must have."""


@dataclass(frozen=True)
class RankRow:
    """What became of one query.

    Attributes:
        direction: what was asked by what, for example "text->ecg".
        pool: "split" where all items of the query's part were candidates, "candidates" where a list of the pairing was.
        query_id: sample or record that asks.
        rank: of the best placed true item, 1 for the first; where others score the same, the mean of the places they share
            (pool "split") or a place drawn at random among theirs (pool "candidates").
        n_candidates: items that were ranked.
        n_true: how many of them would have been right.
        best_id: sample or record whose item came first.
    """

    direction: str
    pool: str
    query_id: str
    patient_id: str
    fold: int
    rank: float
    n_candidates: int
    n_true: int
    best_id: str


@dataclass(frozen=True)
class Ranks:
    """A rank table in memory.

    Attributes:
        left_out: by direction, records of the test folds that lack something and did not ask.
    """

    origin: Origin
    rows: list[RankRow]
    left_out: dict[str, int] = field(default_factory=dict)

    def of(self, direction: str, pool: str, folds: Sequence[int]) -> Ranks:
        """The rows of a direction and pool in some folds."""
        rows = [r for r in self.rows if r.direction == direction and r.pool == pool and r.fold in folds]
        return Ranks(self.origin, rows, self.left_out)


def write_ranks(path: Path, table: Ranks) -> None:
    """Write a table as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    header = json.dumps({"origin": asdict(table.origin), "left_out": table.left_out}, sort_keys=True)
    columns = {name: [getattr(row, name) for row in table.rows] for name in COLUMNS}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=_schema()).replace_schema_metadata({_HEADER: header}), path)


def read_ranks(path: Path) -> Ranks:
    """Read a table.

    Raises:
        RankError: the file is not a rank table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path)
        header = json.loads((arrow.schema.metadata or {})[_HEADER])
        origin, left_out = Origin(**header["origin"]), {str(k): int(v) for k, v in header["left_out"].items()}
        rows = [RankRow(**row) for row in arrow.select(list(COLUMNS)).cast(_schema()).to_pylist()]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise RankError(f"{path} is not a rank table ({error}); evaluate again") from error
    return Ranks(origin, rows, left_out)


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"fold": pa.int32(), "rank": pa.float64(), "n_candidates": pa.int64(), "n_true": pa.int64()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
