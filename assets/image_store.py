"""Writes an image store: 8-bit grey images of one size, in the shards and with the index that signal stores have.

shard-00000.npy ...    uint8 [images, rows, columns]
index.arrow            one row an image: where it is, whose it is
quarantine.parquet, absent.parquet    as in a signal store
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from assets.dataset import Dataset, DatasetError
from assets.outputs import Built
from assets.record import RecordError
from assets.shards import INDEX, RowTable, ShardWriter
from assets.store_tables import FROM_RECORD, index_schema, quarantine_schema, record_rows, refused_row, text_schema
from models.recipes import ImageRecipe

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

IMAGE_FORMAT_VERSION = 1
_COLUMNS = ("dataset", "record_id", "patient_id", "row", "shard", "fold", "age", "sex", "site", "device", "acquired_at", "source_checksum")
_PROGRESS_EVERY = 64


def build_image_store(
    folder: Path, dataset: Dataset, recipe: ImageRecipe, *, shard_rows: int = 1024, progress: Callable[[int, int], None] | None = None
) -> Built:
    """Read every image of a dataset, bring it to the recipe's size and store it; memory holds a few images a processor.

    Args, returned facts and errors are those of `assets.store.build_store`; `source_checksum` is XXH3 of the pixels as read.
    """
    records = dataset.records()
    reasons: Counter[str] = Counter()
    shard_facts = {"height": recipe.height, "width": recipe.width}
    with (
        ShardWriter(
            folder, (recipe.height, recipe.width), "u1", image_index_schema(), shard_rows=shard_rows, shard_facts=shard_facts
        ) as writer,
        RowTable(folder / "quarantine.parquet", quarantine_schema()) as quarantine,
        RowTable(folder / "absent.parquet", text_schema("record_id")) as absent,
    ):
        for done, (row, read) in enumerate(_read_ahead(dataset, recipe, record_rows(records)), start=1):
            if not isinstance(read, RecordError):
                columns = {name: [row[name]] for name in FROM_RECORD}
                writer.add(read.pixels[None], columns | {"dataset": [dataset.name], "source_checksum": [read.checksum]})
            elif read.reason == "absent":
                absent.add({"record_id": row["record_id"]})
            else:
                quarantine.add(refused_row(row, read, dataset.folder, 0.0))
                reasons[read.reason] += 1
            if progress is not None and (done % _PROGRESS_EVERY == 0 or done == len(records)):
                progress(done, len(records))
    if len(absent) == len(records):
        raise DatasetError(f"none of the {len(records)} images that {dataset.name} lists is in {dataset.folder}; download them")
    facts = {
        "kind": "image_store",
        "format_version": IMAGE_FORMAT_VERSION,
        "dataset": dataset.name,
        "recipe": recipe.name,
        "height": recipe.height,
        "width": recipe.width,
        "shards": writer.shards,
        "index": INDEX,
        "n_records": len(records),
        "n_absent": len(absent),
        "n_quarantined": len(quarantine),
        "n_partly_quarantined": 0,
        "quarantine_reasons": dict(sorted(reasons.items())),
    }
    return Built(rows=writer.n_rows, facts=facts)


class _Image(NamedTuple):
    pixels: NDArray[np.uint8]
    checksum: str


def _read_ahead(
    dataset: Dataset, recipe: ImageRecipe, rows: Iterator[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], _Image | RecordError]]:
    """Images in the order of their rows, read by several threads: decoding and scaling leave the interpreter's lock free."""
    from assets.images import fit

    def read(row: dict[str, Any]) -> _Image | RecordError:
        try:
            image = dataset.image(row["record_id"])
            return _Image(fit(image, recipe), xxhash.xxh3_128_hexdigest(np.ascontiguousarray(image).data))
        except RecordError as error:
            return error

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[tuple[dict[str, Any], Future[_Image | RecordError]]] = deque()
        for row in rows:
            under_way.append((row, pool.submit(read, row)))
            if len(under_way) >= 2 * workers:
                first, result = under_way.popleft()
                yield first, result.result()
        for row, result in under_way:
            yield row, result.result()


def image_index_schema() -> pa.Schema:
    """Columns of an image store's index: those of a signal store's that an image has."""
    import pyarrow as pa

    schema = index_schema()
    return pa.schema([schema.field(name) for name in _COLUMNS])
