"""Tables that checks read: files in, pandas frames out, columns compared with their declaration before values are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data_checks.findings import CheckError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Kind = Literal["text", "integer", "number", "flag"]
ROW_NAME = "which_row"
"""Column that names a row in messages and Data Docs: a record id, a path, or the row's number where it has none."""


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file, or an Arrow IPC file named *.arrow.

    Raises:
        CheckError: the file is missing or unreadable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".arrow":
            with pa.memory_map(str(path)) as source:
                return pa.ipc.open_file(source).read_all()
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CheckError(f"{path} cannot be read as a table ({type(error).__name__}); materialise its output again") from error


def read_parts(path: Path, rows: int) -> Iterator[pa.Table]:
    """Read a Parquet file in parts of so many rows, at least one.

    Raises:
        CheckError: the file is missing or unreadable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table()
            for batch in file.iter_batches(rows):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise CheckError(f"{path} cannot be read as a table ({type(error).__name__}); materialise its output again") from error


def compare_columns(table: pa.Table, declared: Mapping[str, Kind], *, exact: bool) -> pd.DataFrame:
    """One row a column: its name, what is declared, what was found, and whether that fits.

    Args:
        table: as read.
        declared: kind by column name.
        exact: whether columns that are not declared are a fault.
    """
    import pandas as pd

    rows: list[tuple[str, str, str, bool]] = []
    for name in [*declared, *(n for n in table.column_names if n not in declared)]:
        kind = declared.get(name)
        held = table.column_names.count(name)
        found = "absent" if not held else "twice" if held > 1 else str(table.schema.field(name).type)
        fits = held == 1 and (_fits(table.schema.field(name).type, kind) if kind else not exact)
        rows.append((f"{name} (declared {kind or 'nothing'}, found {found})", kind or "nothing", found, fits))
    return pd.DataFrame(rows, columns=[ROW_NAME, "declared", "found", "fits_declaration"])


def to_frame(table: pa.Table, named_by: str) -> pd.DataFrame:
    """A frame with the column `ROW_NAME` made from the values of column `named_by`."""
    frame: pd.DataFrame = table.to_pandas()
    names = frame[named_by].astype(object)
    blank = names.isna() | (names == "")
    frame[ROW_NAME] = names.where(~blank, [f"row {i}" for i in range(len(frame))]).astype(str)
    return frame


def _fits(found: Any, kind: Kind) -> bool:
    import pyarrow as pa

    types = pa.types
    if kind == "text":
        value = found.value_type if types.is_dictionary(found) else found
        return bool(types.is_string(value) or types.is_large_string(value))
    if kind == "flag":
        return bool(types.is_boolean(found))
    return bool(types.is_integer(found) or (kind == "number" and types.is_floating(found)))
