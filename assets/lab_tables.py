"""Writes lab results in long form, with the hospital stays that they belong to, as a stream.

labs.parquet           one row a result: patient_id, encounter_id, charted_at, item_id, value, unit
encounters.parquet     one row a stay: encounter_id, patient_id, admitted_at, discharged_at, died_at, kind
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from assets.dataset import LAB_COLUMNS, Dataset, DatasetError
from assets.outputs import Built
from models.recipes import LabRecipe

if TYPE_CHECKING:
    import pyarrow as pa

LAB_FORMAT_VERSION = 1
ENCOUNTER_COLUMNS = ("encounter_id", "patient_id", "admitted_at", "discharged_at", "died_at", "kind")


def build_lab_tables(folder: Path, dataset: Dataset, recipe: LabRecipe, *, progress: Callable[[int, int], None] | None = None) -> Built:
    """Write the lab results of a dataset, a part at a time.

    Args:
        folder: an empty folder that receives the files.
        dataset: read through `labs()` and `encounters()`.
        recipe: names the partition.
        progress: called with the number of parts done, twice.

    Returns:
        Results written, and the tables' facts: results an item.

    Raises:
        DatasetError: a table of the dataset cannot be read, or holds no result.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    encounters = dataset.encounters()[list(ENCOUNTER_COLUMNS)]
    encounters.to_parquet(folder / "encounters.parquet", index=False)
    items: Counter[str] = Counter()
    n_rows = n_without_value = 0
    with pq.ParquetWriter(folder / "labs.parquet", lab_schema()) as writer:
        for done, part in enumerate(dataset.labs(), start=1):
            writer.write_table(pa.Table.from_pandas(part[list(LAB_COLUMNS)], lab_schema(), preserve_index=False))
            items.update({str(k): int(v) for k, v in part["item_id"].value_counts().items()})
            n_rows += len(part)
            n_without_value += int((~np.isfinite(part["value"])).sum())
            if progress is not None:
                progress(done, done)
    if not n_rows:
        raise DatasetError(f"{dataset.folder} holds no lab result of {dataset.name}; download its tables again")
    facts = {
        "kind": "labs",
        "format_version": LAB_FORMAT_VERSION,
        "dataset": dataset.name,
        "recipe": recipe.name,
        "n_encounters": len(encounters),
        "n_without_value": n_without_value,
        "items": dict(sorted(items.items())),
    }
    return Built(rows=n_rows, facts=facts)


def lab_schema() -> pa.Schema:
    """Columns of `labs.parquet`; text is "" where unknown, value is null where the source has no number."""
    import pyarrow as pa

    return pa.schema([(name, pa.float64() if name == "value" else pa.string()) for name in LAB_COLUMNS])
