"""Signals held on a device give the batches of the memory map, and are held only where they fit."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import resident
from models.data import Records, batch_of
from models.resident import SHARE, Resident, budget_of, hold
from models.samples import Samples, Sources
from models.store import Store, open_store
from tests.models.test_store import N_SAMPLES, write_store

CPU = torch.device("cpu")
WINDOW = 12 * N_SAMPLES * 2
ROWS = np.array([12, 3, 3, 0, 9])
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Thirteen windows in three shards, each channel with a scale of its own."""
    write_store(tmp_path / "store", scale=tuple(0.1 * (i + 1) for i in range(12)))
    return open_store(tmp_path / "store")


def test_batches_are_those_of_the_memory_map_to_the_bit(store: Store) -> None:
    held = Resident(store, ROWS, CPU)
    assert held.n_bytes == 4 * WINDOW
    for rows in (ROWS, ROWS[::-1].copy(), ROWS[:0]):
        found = held.signals(rows)
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), store.signals(rows))
    plain, resident_batch = batch_of(store, ROWS), batch_of(held, ROWS)
    assert torch.equal(plain.signal_BLT, resident_batch.signal_BLT) and torch.equal(plain.row_B, resident_batch.row_B)


def test_a_batch_is_not_changed_by_what_is_done_to_the_one_before(store: Store) -> None:
    held = Resident(store, ROWS, CPU)
    held.signals(ROWS).zero_()
    np.testing.assert_array_equal(held.signals(ROWS).numpy(), store.signals(ROWS))


def test_channels_that_a_store_lacks_take_no_memory(store: Store) -> None:
    view = store.select(("V1", "PLETH", "II"), fill=True)
    held = Resident(view, ROWS, CPU)
    assert held.n_bytes == 4 * WINDOW // 6
    np.testing.assert_array_equal(held.signals(ROWS).numpy(), view.signals(ROWS))
    present_BL = batch_of(held, ROWS).present_BL
    assert present_BL is not None and present_BL.tolist() == [[True, False, True]] * 5


def test_a_row_that_is_not_held_is_an_error(store: Store) -> None:
    with pytest.raises(IndexError, match=r"rows \[4\] of .* are not held on cpu"):
        Resident(store, ROWS, CPU).signals(np.array([3, 4]))


def test_signals_are_held_only_where_they_fit(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert hold(store, ROWS, CPU, 4 * WINDOW) is not None
        assert hold(store, ROWS, CPU, 4 * WINDOW - 1) is None
    assert "do not fit into" in caplog.text
    assert hold(store, ROWS[:0], CPU, WINDOW) is None


def test_a_share_of_a_gpus_free_memory_is_taken_and_none_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    assert budget_of(torch.device("cuda", 0)) == 1000 * SHARE
    assert budget_of(CPU) == 0


def test_memory_that_turns_out_too_small_falls_back_to_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(resident.torch, "empty", full)
    with caplog.at_level(logging.INFO):
        assert hold(store, ROWS, CPU, 1 << 30) is None
    assert "do not fit on cpu after all; read from disk" in caplog.text


def test_records_on_a_device_are_the_same_records(store: Store) -> None:
    records = Records(store, np.array([8, 2, 5, 11]), ["a", "b", "c", "d"])
    held = records.on(CPU, 1 << 30)
    assert held.resident is not None and records.on(CPU).resident is None
    for positions in (np.array([2, 0]), np.array([3])):
        plain, other = records.batch(positions), held.batch(positions)
        assert torch.equal(plain.signal_BLT, other.signal_BLT)
        assert (plain.texts, plain.row_B.tolist()) == (other.texts, other.row_B.tolist())


def test_samples_read_recordings_that_are_held_and_zeros_where_there_is_none(store: Store) -> None:
    empty = np.full(4, -1)
    samples = Samples(Sources(signals=store), list("abcd"), np.arange(4), np.array([5, -1, 0, 5]), empty, empty)
    held = replace(samples, sources=replace(samples.sources, resident=Resident(store, np.array([0, 5]), CPU)))
    assert torch.equal(held.batch(np.arange(4)).signal_BLT, samples.batch(np.arange(4)).signal_BLT)
    assert samples.on(CPU).sources.resident is None


@needs_gpu
def test_on_a_gpu_too(store: Store) -> None:
    held = Records(store, ROWS).on(torch.device("cuda"))
    assert held.resident is not None
    batch = held.batch(np.arange(5))
    assert batch.signal_BLT.is_cuda
    np.testing.assert_array_equal(batch.signal_BLT.cpu().numpy(), store.signals(ROWS))
