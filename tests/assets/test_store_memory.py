"""Writing a store takes memory for a batch, not for the dataset."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.dataset import Channel
from assets.datasets.ptb_xl import PTBXL
from assets.record import Record
from assets.store import build_store
from models.recipes import Recipe


class Long(PTBXL):
    """Recordings of one lead, 100 windows of a second each."""

    fs_hz = 50.0
    window_s = 1.0
    n_records = 10

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        return (Channel("II"),)

    def records(self) -> pd.DataFrame:
        names = [f"r{i}" for i in range(self.n_records)]
        return pd.DataFrame(
            {"record_id": names, "patient_id": names, "fold": 1, "age": 5.0, "sex": "", "site": "", "device": "", "acquired_at": ""}
        )

    def pieces(self, record_id: str, fs_hz: float | None = None) -> Iterator[Record]:
        signal_LT = np.random.default_rng(int(record_id[1:])).integers(-900, 900, (1, 5000)).astype(np.float32)
        yield Record(signal_LT, ("II",), 50.0, ("uV",), "0" * 32)


@pytest.mark.parametrize("n_records", [20, 300])
def test_memory_does_not_grow_with_the_number_of_windows(tmp_path: Path, n_records: int) -> None:
    dataset = type("Long", (Long,), {"n_records": n_records})(tmp_path)
    (tmp_path / "warm").mkdir()
    build_store(tmp_path / "warm", type("Long", (Long,), {"n_records": 1})(tmp_path), Recipe("native"))
    (tmp_path / "store").mkdir()
    tracemalloc.start()
    try:
        built = build_store(tmp_path / "store", dataset, Recipe("native"), shard_rows=1024)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert built.rows == 100 * n_records
    assert peak < 4 << 20, "a shard alone is 100 kB; 30,000 rows of the index would be 20 MB"
