"""Tables of generated reports: what a method wrote about each record, beside the report that stands in the data.

Parquet with one row a record, and a JSON header in the schema that says who wrote.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import EinthovenError
from models.predictions import Origin

_HEADER = b"einthoven.generated"
_COLUMNS = ("record_id", "patient_id", "reference", "generated")


class GeneratedError(EinthovenError):
    """A table of generated reports that is unreadable."""


@dataclass(frozen=True)
class Generated:
    """Reports that were written, beside those that stand in the data; one row a record."""

    origin: Origin
    record_id: list[str]
    patient_id: list[str]
    reference: list[str]
    generated: list[str]


def write_generated(path: Path, table: Generated) -> None:
    """Write a table as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: getattr(table, name) for name in _COLUMNS}
    arrow = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(arrow.replace_schema_metadata({_HEADER: json.dumps(asdict(table.origin), sort_keys=True)}), temporary)
    os.replace(temporary, path)


def read_generated(path: Path) -> Generated:
    """Read a table.

    Raises:
        GeneratedError: the file is not one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path)
        origin = Origin(**json.loads((arrow.schema.metadata or {})[_HEADER]))
        columns = {name: [v or "" for v in arrow[name].to_pylist()] for name in _COLUMNS}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise GeneratedError(f"{path} is not a table of generated reports ({error}); evaluate again") from error
    return Generated(origin, **columns)
