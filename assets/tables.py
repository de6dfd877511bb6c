"""Reads the tables of datasets strictly, as text, and writes those of imitations: CSV, gzipped where the name says so."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.dataset import DatasetError

if TYPE_CHECKING:
    import pandas as pd

_PART_ROWS = 200_000


def read_table(path: Path, columns: Sequence[str], remedy: str) -> pd.DataFrame:
    """The named columns of a CSV table as text, blanks around values removed; missing values are "".

    Args:
        path: gzipped if it ends in ".gz".
        columns: must all be there; others are not read.
        remedy: what to do when the table is missing, for the message.

    Raises:
        DatasetError: it is missing, no such table, without rows, or has a row that is cut short.
    """
    import pandas as pd

    return pd.concat(read_table_parts(path, columns, remedy), ignore_index=True)


def read_table_parts(path: Path, columns: Sequence[str], remedy: str, rows: int = _PART_ROWS) -> Iterator[pd.DataFrame]:
    """The same in parts of bounded size, for tables that do not fit in memory. Raises as `read_table`."""
    import pandas as pd

    names = _header(path, remedy)
    if missing := [c for c in columns if c not in names]:
        raise DatasetError(f"{path} has no column {', '.join(missing)}; it is another table than expected, download it again")
    n_rows = 0
    try:
        with pd.read_csv(path, usecols=list(columns), dtype=str, keep_default_na=False, chunksize=rows) as parts:
            for part in parts:
                table = part[list(columns)]
                if len(short := table.index[table.isna().any(axis=1)]):
                    raise DatasetError(
                        f"{path}: row {short[0] + 2} has not as many fields as the header; the file is cut short, download it again"
                    )
                n_rows += len(table)
                yield table.apply(lambda column: column.str.strip())
    except (OSError, EOFError, ValueError, csv.Error) as error:  # pandas' parser and decoding errors are ValueErrors
        raise DatasetError(f"{path} cannot be read as a table ({error}); download it again") from error
    if not n_rows:
        raise DatasetError(f"{path} has no rows; download it again")


def _header(path: Path, remedy: str) -> list[str]:
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as stream:
            return next(csv.reader(stream), [])
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; {remedy}") from error
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as a table ({error}); download it again") from error


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV table, the same bytes for the same rows; columns that a row lacks stay empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = text.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def some(values: Sequence[Any], limit: int = 5) -> str:
    """The first few of some values, and how many more there are, for messages."""
    return ", ".join(str(v) for v in values[:limit]) + (f" and {len(values) - limit} more" if len(values) > limit else "")
