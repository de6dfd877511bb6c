"""Batches a second from a store: resident on a device, memory-mapped, and through torch's DataLoader, in one process.

Random batches as training draws them, float32 on the device that computes; a GPU where there is one. Usage: bench_batches.py
[rows] [samples] [batch size].
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from bench_store import Simulated, build
from torch.utils.data import DataLoader, Dataset

from models.data import BatchOrder, batch_of
from models.resident import Resident
from models.store import Store, open_store

BATCHES = 60
Stream = Callable[[], Iterator[torch.Tensor]]


class Windows(Dataset[torch.Tensor]):
    """What is commonly written: a window an item."""

    def __init__(self, store: Store) -> None:
        self._shards = [np.load(p, mmap_mode="r") for p in sorted(store.folder.glob("shard-*.npy"))]
        self._n = len(store)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self._shards[row // 1024][row % 1024].astype(np.float32))


def rate(stream: Stream, device: torch.device) -> float:
    """Batches a second, the best of three passes after one to warm up."""
    best = float("inf")
    for attempt in range(4):
        _wait(device)
        started = time.perf_counter()
        count = sum(1 for _ in stream())
        _wait(device)
        if attempt:
            best = min(best, (time.perf_counter() - started) / count)
    return 1 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    n_rows, n_samples, size = (int(v) for v in (*sys.argv[1:], *("4096", "1000", "64")[len(sys.argv) - 1 :]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(tempfile.mkdtemp())
    try:
        dataset = type("Reads", (Simulated,), {"fs_hz": n_samples / 10, "n_records": n_rows})(folder)
        store = open_store(build(folder, dataset))
        order = BatchOrder(len(store), size, seed=0)
        held = Resident(store, np.arange(len(store)), device)

        def loader(workers: int) -> Stream:
            def stream() -> Iterator[torch.Tensor]:
                steps = [order.positions(step).tolist() for step in range(BATCHES)]
                for batch in DataLoader(Windows(store), batch_sampler=steps, num_workers=workers):
                    yield batch.to(device)

            return stream

        streams: dict[str, Stream] = {
            "resident": lambda: (batch_of(held, order.positions(step)).signal_BLT for step in range(BATCHES)),
            "memory map": lambda: (batch_of(store, order.positions(step), device).signal_BLT for step in range(BATCHES)),
            "DataLoader, no workers": loader(0),
            "DataLoader, 2 workers": loader(2),
        }
        print(f"{len(store)} windows of 12 x {n_samples}, batches of {size} on {device}, {torch.get_num_threads()} threads (batches/s)")
        for name, stream in streams.items():
            print(f"  {name:<24}{rate(stream, device):>9,.0f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
