"""Which recording belongs to an image: the one that a pairing ties to it, and of several the nearest in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.data import IntArray
from models.errors import TrainingError
from models.samples import first_rows
from models.store import Store

_COLUMNS = ("sample_id", "image_id", "ecg_id", "dt_ecg_s", "dt_image_s")


def nearest_ecgs(pairing: Path, image_ids: list[str], signals: Store) -> IntArray:
    """The row of each image's ECG in a store of signals, -1 where there is none, int64 (N,).

    Of ECGs equally near, or without times, the one of the first sample is taken.

    Raises:
        TrainingError: the table of samples cannot be read.
    """
    path = pairing / "samples.parquet"
    try:
        table = pq.read_table(path, columns=list(_COLUMNS)).to_pydict()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise TrainingError(f"{path} is no table of samples ({error}); materialise the pairing again") from error
    rows = first_rows(signals)
    nearest: dict[str, tuple[float, str, int]] = {}
    for sample, image, ecg, to_ecg_s, to_image_s in zip(*(table[c] for c in _COLUMNS), strict=True):
        if image is None or ecg not in rows:
            continue
        gap_s = abs(_seconds(to_image_s) - _seconds(to_ecg_s))
        nearest[image] = min(nearest.get(image, (np.inf, "", -1)), (gap_s, sample, rows[ecg]))
    return np.array([nearest[i][2] if i in nearest else -1 for i in image_ids], dtype=np.int64)


def _seconds(value: float | None) -> float:
    """Zero for what has no time of its own: it is the anchor, or of the same record."""
    return 0.0 if value is None or np.isnan(value) else value
