"""The tables of stores: which columns they have, and how rows of records become rows of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.record import RecordError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FROM_RECORD = ("record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at")
_CHUNK_ROWS = 4096


def record_rows(records: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows of a table of records as dictionaries, made a part at a time."""
    for first in range(0, len(records), _CHUNK_ROWS):
        columns = [records[name].iloc[first : first + _CHUNK_ROWS].tolist() for name in FROM_RECORD]
        for values in zip(*columns, strict=True):
            yield dict(zip(FROM_RECORD, values, strict=True))


def refused_row(row: dict[str, Any], error: RecordError, root: Path, start_s: float) -> dict[str, Any]:
    """A row of `quarantine.parquet`; paths are relative to the dataset's folder."""
    path = error.path.relative_to(root) if error.path.is_relative_to(root) else error.path
    return {
        "record_id": row["record_id"],
        "patient_id": row["patient_id"],
        "start": start_s,
        "reason": error.reason,
        "explanation": error.explanation,
        "path": "" if path == Path() else path.as_posix(),
    }


def text_schema(*names: str) -> pa.Schema:
    """A schema of text columns."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in names])


def quarantine_schema() -> pa.Schema:
    """Columns of `quarantine.parquet`; `start` is where the refused part begins, 0 for whole recordings."""
    import pyarrow as pa

    return text_schema("record_id", "patient_id", "reason", "explanation", "path").insert(2, pa.field("start", pa.float64()))


def index_schema() -> pa.Schema:
    """Columns of `index.arrow`. Flags of channels are bit masks, bit i for channel i of the store; R peaks are sample numbers."""
    import pyarrow as pa

    return pa.schema(
        [
            ("dataset", pa.string()),
            ("record_id", pa.string()),
            ("patient_id", pa.string()),
            ("start", pa.float64()),
            ("row", pa.int64()),
            ("shard", pa.int32()),
            ("fold", pa.int32()),
            ("age", pa.float32()),
            ("sex", pa.string()),
            ("site", pa.string()),
            ("device", pa.string()),
            ("acquired_at", pa.string()),
            ("n_samples", pa.int32()),
            ("missing_fraction", pa.float32()),
            ("absent", pa.int32()),
            ("flat", pa.int32()),
            ("saturated", pa.int32()),
            ("noisy", pa.int32()),
            ("limb_swap", pa.bool_()),
            ("source_checksum", pa.string()),
            ("r_peaks", pa.list_(pa.int32())),
        ]
    )
