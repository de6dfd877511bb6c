"""Which records a task judges, and with what labels: what features and scores from elsewhere are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import EinthovenError

IntArray = NDArray[np.int64]


class ExternalError(EinthovenError):
    """Features or scores from elsewhere that are not what the benchmark can judge."""


@dataclass(frozen=True)
class Truth:
    """The labelled records of a task, in the order of the dataset's table of records.

    Attributes:
        classes: sorted by name.
        record_id, patient_id, fold: (N,).
        labels_NC: zeros and ones, (N, C).
    """

    classes: tuple[str, ...]
    record_id: NDArray[np.str_]
    patient_id: NDArray[np.str_]
    fold: IntArray
    labels_NC: NDArray[np.int8]

    def of_folds(self, folds: Sequence[int]) -> IntArray:
        """Positions of the records of some folds."""
        return np.flatnonzero(np.isin(self.fold, list(folds)))


def read_truth(records: Path, labels: Path) -> Truth:
    """Join the table of records with a label table.

    Raises:
        ExternalError: a table cannot be read, or labels and records share none.
    """
    try:
        listed = pq.read_table(records, columns=["record_id", "patient_id", "fold"])
        table = pq.read_table(labels)
        place = {record: i for i, record in enumerate(table["record_id"].to_pylist())}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ExternalError(f"{records} or {labels} cannot be read ({error}); materialise raw and labels again") from error
    classes = tuple(sorted(name for name in table.column_names if name != "record_id"))
    ids = listed["record_id"].to_pylist()
    kept = [(i, place[record]) for i, record in enumerate(ids) if record in place]
    if not kept or not classes:
        raise ExternalError(f"{labels} labels none of the records of {records}; they belong to different datasets")
    rows_N, order_N = np.array(kept, dtype=np.int64).T
    values_NC = np.stack([table[c].to_numpy() for c in classes], axis=1)[order_N].astype(np.int8)
    patients = listed["patient_id"].to_pylist()
    return Truth(
        classes,
        np.array([ids[i] for i in rows_N], dtype=np.str_),
        np.array([patients[i] for i in rows_N], dtype=np.str_),
        listed["fold"].to_numpy()[rows_N].astype(np.int64),
        values_NC,
    )


def some(names: Sequence[str], limit: int = 5) -> str:
    """A few names, and how many there are beyond."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
