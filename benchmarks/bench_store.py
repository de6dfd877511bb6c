"""Writing and reading stores: memory that does not grow with the dataset, and random reads beside plain numpy.

One million index rows, and a store nearly three times as large as the memory that its process may use. CPU time of one process.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from assets.access import Access
from assets.dataset import Channel, Dataset, Source
from assets.outputs import Key, Workspace
from assets.record import Record
from assets.store import build_store
from models.recipes import Recipe
from models.store import open_store
from models.types import LEADS

WINDOWS_A_RECORDING = 100


class Simulated(Dataset):
    """Recordings of noise; how many, how long and of how many leads is set by the benchmark."""

    name = "simulated"
    source = Source("Simulated", "1", "", "CC0-1.0", "", "")
    access = Access.OPEN
    fs_hz = 100.0
    n_records = 100
    window_s = 10.0
    n_leads = 12
    n_windows = 1

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        return tuple(Channel(lead) for lead in LEADS[: cls.n_leads])

    def files(self) -> list[Path]:
        return []

    def records(self) -> pd.DataFrame:
        number = pd.Series(range(self.n_records)).astype(str)
        blank = pd.Series([""]).repeat(self.n_records).array
        return pd.DataFrame(
            {
                "record_id": "r" + number, "patient_id": "simulated:" + number, "fold": np.arange(self.n_records) % 10 + 1,
                "age": 50.0, "sex": "unknown", "site": blank, "device": blank, "acquired_at": blank,
            }
        )  # fmt: skip

    def pieces(self, record_id: str, fs_hz: float | None = None) -> Iterator[Record]:
        rng = np.random.default_rng(int(record_id[1:]))
        shape = (self.n_leads, round(self.n_windows * self.window_s * self.fs_hz))
        signal_LT = rng.integers(-900, 900, shape, np.int16).astype(np.float32)
        yield Record(signal_LT, LEADS[: self.n_leads], self.fs_hz, ("uV",) * self.n_leads, "0" * 32)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        raise NotImplementedError


def build(folder: Path, dataset: Dataset, shard_rows: int = 1024) -> Path:
    output = Workspace(folder).publish(
        Key(("cleaned", "simulated"), "native"),
        lambda f: build_store(f, dataset, Recipe("native"), shard_rows=shard_rows),
        code_version="1",
        access=Access.OPEN,
    )
    return output.folder


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(kind: str, folder: Path) -> dict[str, float]:
    """What a process of its own measures."""
    started = time.process_time()
    if kind.startswith("rows"):
        wanted = int(kind.removeprefix("rows"))
        dataset = type("Rows", (Simulated,), {"n_leads": 1, "fs_hz": 50.0, "window_s": 1.0, "n_windows": WINDOWS_A_RECORDING})(folder)
        type(dataset).n_records = max(wanted // WINDOWS_A_RECORDING, 1)
        store = open_store(build(folder, dataset))
        return {"rows": len(store), "peak_mb": peak_mb(), "cpu_s": time.process_time() - started}
    limit = 400 << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    dataset = type("Large", (Simulated,), {"fs_hz": 500.0, "n_records": 10_000})(folder)
    store = open_store(build(folder, dataset))
    rng = np.random.default_rng(0)
    total = sum(float(store.signals(rng.integers(0, len(store), 64))[:, 0, 0].sum()) for _ in range(100))
    shards = sum(p.stat().st_size for p in store.folder.glob("shard-*.npy"))
    return {"rows": len(store), "limit_mb": limit >> 20, "store_mb": shards >> 20, "cpu_s": time.process_time() - started, "sum": total}


def run_child(kind: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run([sys.executable, __file__, kind, folder], capture_output=True, text=True, check=True)
        return dict(json.loads(ran.stdout.splitlines()[-1]))


def best(work: Callable[[], object], repeats: int = 5) -> float:
    def once() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return min(once() for _ in range(repeats))


def read_rates(n_samples: int, n_records: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        dataset = type("Reads", (Simulated,), {"fs_hz": n_samples / 10, "n_records": n_records})(folder)
        store = open_store(build(folder, dataset))
        rng = np.random.default_rng(1)
        batches = [rng.integers(0, n_records, 64) for _ in range(40)]
        out = np.empty((64, 12, n_samples), np.float32)
        arrays = [np.load(p, mmap_mode="r") for p in sorted(store.folder.glob("shard-*.npy"))]
        whole = np.concatenate(arrays)

        def plain() -> None:
            for rows in batches:
                np.stack([arrays[r // 1024][r % 1024] for r in rows.tolist()]).astype(np.float32)

        def limit() -> None:
            for rows in batches:
                for i, r in enumerate(rows.tolist()):
                    out[i] = whole[r]

        def ours() -> None:
            for rows in batches:
                store.signals(rows)

        n = 40 * 64
        print(f"random reads of 12 x {n_samples}, batches of 64, float32 (records a CPU-second)")
        print(f"  Store.signals                           {n / best(ours):>9,.0f}")
        print(f"  numpy: memory maps, stack, astype       {n / best(plain):>9,.0f}")
        print(f"  limit: int16 in memory to float32       {n / best(limit):>9,.0f}")
    finally:
        shutil.rmtree(folder)


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(child(sys.argv[1], Path(sys.argv[2]))))
        return
    print("memory of preparing a dataset (peak resident MB of a process)")
    for rows in (100, 100_000, 1_000_000):
        found = run_child(f"rows{rows}")
        print(f"  {found['rows']:>9,.0f} index rows   {found['peak_mb']:6.0f} MB   {found['cpu_s']:5.1f} CPU-s")
    found = run_child("large")
    print(
        f"  a store of {found['store_mb']:,.0f} MB written and read at random with {found['limit_mb']:.0f} MB of data memory: {found['cpu_s']:.1f} CPU-s"
    )
    read_rates(1000, 4096)
    read_rates(5000, 2048)


if __name__ == "__main__":
    main()
