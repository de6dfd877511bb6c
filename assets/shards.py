"""Writes shards with their index, and tables of rows, as streams: memory holds a batch of each, never a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa
    from numpy.typing import NDArray

INDEX = "index.arrow"
_BATCH_ROWS = 4096
"""Rows of a table that are kept before they are written."""


class ShardWriter:
    """Appends items of one shape to `shard-00000.npy`, ... and their rows to `index.arrow`.

    Attributes:
        shards: what the manifest says of each shard: its file, its rows, and `shard_facts`.
        n_rows: items written so far.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], dtype: str, schema: pa.Schema, *, shard_rows: int, shard_facts: Mapping[str, Any]
    ) -> None:
        """`shape` and `dtype` are those of one item; `schema` has the columns `shard` and `row`, which are filled in here."""
        import pyarrow as pa

        self.shards: list[dict[str, Any]] = []
        self.n_rows = 0
        self._folder = folder
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._shard_rows = shard_rows
        self._shard_facts = dict(shard_facts)
        self._stream: BinaryIO | None = None
        self._schema = schema
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._sink = pa.OSFile(str(folder / INDEX), "wb")
        self._index = pa.ipc.new_file(self._sink, schema)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._write_rows()
                self._close_shard()
                self._index.close()
        finally:
            if self._stream is not None:
                self._stream.close()
            self._sink.close()

    def add(self, items: NDArray[Any], columns: Mapping[str, Sequence[Any]]) -> None:
        """Take some items, first axis first, and as many values of every other column."""
        done = 0
        while done < len(items):
            stream = self._stream or self._open_shard()
            shard = self.shards[-1]
            take = min(self._shard_rows - shard["rows"], len(items) - done)
            stream.write(np.ascontiguousarray(items[done : done + take], self._dtype).data)
            self._columns["shard"] += [len(self.shards) - 1] * take
            self._columns["row"] += range(shard["rows"], shard["rows"] + take)
            shard["rows"] += take
            done += take
            if shard["rows"] == self._shard_rows:
                self._close_shard()
        for name, values in columns.items():
            self._columns[name] += values
        self.n_rows += len(items)
        if len(self._columns["row"]) >= _BATCH_ROWS:
            self._write_rows()

    def _write_rows(self) -> None:
        import pyarrow as pa

        if self._columns["row"]:
            self._index.write_batch(pa.record_batch(self._columns, schema=self._schema))
            self._columns = {name: [] for name in self._schema.names}

    def _open_shard(self) -> BinaryIO:
        name = f"shard-{len(self.shards):05d}.npy"
        self.shards.append({"file": name, "rows": 0} | self._shard_facts)
        self._stream = (self._folder / name).open("wb")
        self._write_header(self._stream, 0)
        return self._stream

    def _close_shard(self) -> None:
        if self._stream is None:
            return
        with self._stream as stream:
            stream.seek(0)
            self._write_header(stream, self.shards[-1]["rows"])
        self._stream = None

    def _write_header(self, stream: BinaryIO, rows: int) -> None:
        """Write the .npy header; numpy pads it so that a larger first dimension does not make it longer."""
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (rows, *self._shape)}
        np.lib.format.write_array_header_1_0(stream, header)


class RowTable:
    """A Parquet table that is written row by row. `len()` counts its rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema)
        self._rows: list[Mapping[str, Any]] = []
        self._n_rows = 0

    def __enter__(self) -> RowTable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def __len__(self) -> int:
        return self._n_rows

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._rows.append(row)
        self._n_rows += 1
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(list(self._rows), self._schema))
            self._rows = []
