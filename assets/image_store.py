"""Writes an image store: 8-bit grey images of one size, in the shards and with the index that signal stores have.

shard-00000.npy ...    uint8 [images, rows, columns]
index.arrow            one row an image: where it is, whose it is
quarantine.parquet, absent.parquet    as in a signal store
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from assets.dataset import Dataset, DatasetError
from assets.outputs import Built
from assets.record import RecordError
from assets.shards import INDEX, RowTable, ShardWriter
from assets.store import FROM_RECORD, index_schema, quarantine_schema, record_rows, refused_row, text_schema
from models.recipes import ImageRecipe

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_FORMAT_VERSION = 1
_COLUMNS = ("dataset", "record_id", "patient_id", "row", "shard", "fold", "age", "sex", "site", "device", "acquired_at", "source_checksum")
_PROGRESS_EVERY = 64


def build_image_store(
    folder: Path, dataset: Dataset, recipe: ImageRecipe, *, shard_rows: int = 1024, progress: Callable[[int, int], None] | None = None
) -> Built:
    """Read every image of a dataset, bring it to the recipe's size and store it; memory holds one image.

    Args, returned facts and errors are those of `assets.store.build_store`; `source_checksum` is XXH3 of the pixels as read.
    """
    from assets.images import fit

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
        for done, row in enumerate(record_rows(records), start=1):
            try:
                image = dataset.image(row["record_id"])
                pixels = fit(image, recipe)
            except RecordError as error:
                if error.reason == "absent":
                    absent.add({"record_id": row["record_id"]})
                else:
                    quarantine.add(refused_row(row, error, dataset.folder, 0.0))
                    reasons[error.reason] += 1
            else:
                columns = {name: [row[name]] for name in FROM_RECORD}
                checksum = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(image).data)
                writer.add(pixels[None], columns | {"dataset": [dataset.name], "source_checksum": [checksum]})
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


def image_index_schema() -> pa.Schema:
    """Columns of an image store's index: those of a signal store's that an image has."""
    import pyarrow as pa

    schema = index_schema()
    return pa.schema([schema.field(name) for name in _COLUMNS])
