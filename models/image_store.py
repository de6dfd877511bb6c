"""Reads image stores: memory-mapped 8-bit grey images behind an Arrow index (numpy and pyarrow only)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.errors import StoreError
from models.store import check_rows, map_shard, read_index, read_manifest

FORMAT_VERSIONS = (1,)
REQUIRED_COLUMNS = ("dataset", "record_id", "patient_id", "row", "shard", "fold")


class ImageStore:
    """An open image store. A row number is the position in the index. Open with `open_image_store`.

    Attributes:
        folder: where it was opened.
        facts: as in the manifest.
        index: one row an image.
        height: rows of an image, in pixels.
        width: columns of an image.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], index: pa.Table, shards: list[NDArray[np.uint8]]) -> None:
        self.folder = folder
        self.facts = facts
        self.index = index
        self.height, self.width = int(facts["height"]), int(facts["width"])
        self._shards = shards
        self._shard_N = index["shard"].to_numpy()
        self._row_N = index["row"].to_numpy()

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images as stored.

        Args:
            rows: row numbers in any order, repeats allowed, shape (B,).

        Returns:
            uint8 array of shape (B, height, width).

        Raises:
            StoreError: a row number is no integer or not in the store.
        """
        rows = check_rows(self.folder, rows, len(self))
        images = np.empty((len(rows), self.height, self.width), np.uint8)
        for i, (shard, place) in enumerate(zip(self._shard_N[rows].tolist(), self._row_N[rows].tolist(), strict=True)):
            images[i] = self._shards[shard][place]
        return images


def open_image_store(folder: Path) -> ImageStore:
    """Open a published image store and hold what it says about itself against its files (sizes, shapes and counts).

    Raises:
        StoreError: a file is missing, torn, or does not hold what manifest and index say; or the format is another version.
    """
    manifest = read_manifest(folder, "image_store", FORMAT_VERSIONS)
    facts: dict[str, Any] = manifest["facts"]
    try:
        sizes = {f["path"]: f["bytes"] for f in manifest["files"]}
        shape = (int(facts["height"]), int(facts["width"]))
        shards = [(s["file"], int(s["rows"])) for s in facts["shards"]]
        index_name = facts["index"]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{folder / 'manifest.json'} does not describe an image store ({error!r}); make the store again") from error
    arrays = [map_shard(folder, file, sizes, "u1", (rows, *shape)) for file, rows in shards]
    index = read_index(folder / index_name, sizes.get(index_name), REQUIRED_COLUMNS, [rows for _, rows in shards])
    return ImageStore(folder, facts, index, arrays)
