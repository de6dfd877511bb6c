"""CSFM's preparation from the recording to what the network reads (invariant 11 of its specification)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from assets.datasets.ptb_xl import PTBXL
from assets.outputs import Key, Workspace
from assets.record import Record
from assets.signals.preprocess import preprocess
from assets.store import build_store
from models.methods.csfm.signals import standardise
from models.methods.csfm.spec import SPEC
from models.recipes import Recipe
from models.registry import get_recipe
from models.store import open_store
from models.types import LEADS

RNG = np.random.default_rng(5)


def recipe() -> Recipe:
    found = get_recipe(SPEC.configure("paper_tiny").recipe)
    assert isinstance(found, Recipe)
    return found


class Made(PTBXL):
    """Recordings that a test makes."""

    recordings: ClassVar[dict[str, Record]] = {}

    def records(self) -> pd.DataFrame:
        return super().records().iloc[: len(self.recordings)].assign(record_id=list(self.recordings))

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        return self.recordings[record_id]


def walk(seconds: float, fs_hz: float) -> NDArray[np.float32]:
    return RNG.normal(0, 2000 / fs_hz**0.5, (12, round(seconds * fs_hz))).cumsum(axis=1).astype(np.float32)


def read(tmp_path: Path, **signals: tuple[NDArray[np.float32], float]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Standardised signals of the stored windows, and which channels are there."""
    PTBXL.make_fixture(tmp_path / "raw")
    records = {name: Record(signal, LEADS, fs_hz, ("uV",) * 12, "") for name, (signal, fs_hz) in signals.items()}
    dataset = type("Made", (Made,), {"recordings": records})(tmp_path / "raw")
    output = Workspace(tmp_path).publish(
        Key(("cleaned", "ptb_xl"), recipe().name),
        lambda folder: build_store(folder, dataset, recipe()),
        code_version="1",
        access=PTBXL.access,
    )
    store = open_store(output.folder)
    rows = np.arange(len(store))
    assert store.record_ids() == list(signals)
    return standardise(torch.from_numpy(store.signals(rows)), False).numpy(), store.present(rows)


def test_ten_seconds_of_any_rate_are_2500_samples(tmp_path: Path) -> None:
    signals = {f"at_{fs}": (walk(10, fs), float(fs)) for fs in (100, 125, 250, 400, 500)}
    found, present = read(tmp_path, **signals)
    assert found.shape == (5, 12, 2500) and present is None
    np.testing.assert_allclose(found.std(axis=2), 1, rtol=1e-3)


def test_longer_recordings_are_cut_and_shorter_ones_padded(tmp_path: Path) -> None:
    found, _ = read(tmp_path, long=(walk(12, 250), 250.0), short=(walk(8, 250), 250.0))
    assert found.shape == (2, 12, 2500)
    assert (found[1, :, 2000:] == found[1, :, 2000:2001]).all()
    assert (found[1].std(axis=1) > 0.9).all() and (found[0, :, 2000:].std(axis=1) > 0).all()


def test_a_lead_that_is_constant_or_missing_is_zeros(tmp_path: Path) -> None:
    signal = walk(10, 250)
    signal[2], signal[7] = 500, np.nan
    found, present = read(tmp_path, a=(signal, 250.0))
    assert np.isfinite(found).all()
    assert np.flatnonzero(~found[0].any(axis=1)).tolist() == [2, 7]
    assert present is not None and not present[0, 7] and present[0, [0, 1, 11]].all()


@pytest.mark.parametrize("fs_hz", [125.0, 250.0])
def test_leads_are_filtered_together_as_each_alone(fs_hz: float) -> None:
    signal_BLT = np.stack([walk(10, fs_hz)[:3], walk(10, fs_hz)[:3]])
    kinds = ["ECG", "ECG", "PPG"]
    together = preprocess(signal_BLT, kinds, fs_hz, recipe())
    for b in range(2):
        for place, kind in enumerate(kinds):
            alone = preprocess(signal_BLT[b : b + 1, place : place + 1], [kind], fs_hz, recipe())
            np.testing.assert_allclose(together[b, place], alone[0, 0], rtol=0, atol=1e-10)
