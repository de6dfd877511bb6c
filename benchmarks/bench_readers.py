"""Reading WFDB records, beside wfdb-python and beside merely reading the bytes, in one process.

Run `OMP_NUM_THREADS=1 python benchmarks/bench_readers.py [FOLDER]`: every .hea below the folder that both readers take, at most 500;
without a folder, PTB-XL's fixture. The three take turns, the median round counts, in processor time of this one-threaded process.
Then the whole way into a store, and random reads out of it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from assets.datasets.ptb_xl import PTBXL
from assets.outputs import Key, Workspace
from assets.readers import read_record
from assets.store import build_store
from models.registry import get_recipe
from models.store import open_store

ROUNDS, MOST_RECORDS, BATCH = 7, 500, 256


def read_bytes(header: Path) -> int:
    """The limit: both files from the page cache, nothing decoded."""
    return len(header.read_bytes()) + len(header.with_suffix(".dat").read_bytes())


def read_peer(header: Path) -> Any:
    return wfdb.rdrecord(str(header.with_suffix("")))


def both_read(header: Path) -> bool:
    try:
        read_record(header)
        read_peer(header)
    except Exception:
        return False
    return header.with_suffix(".dat").exists()


def seconds(job: Callable[[], object]) -> float:
    """Processor time, so that other work on the machine does not count; nothing here waits for a disk."""
    start = time.process_time()
    job()
    return time.process_time() - start


def bench_readers(headers: list[Path]) -> None:
    contenders: dict[str, Callable[[Path], object]] = {"einthoven": read_record, "wfdb-python": read_peer, "bytes only": read_bytes}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, read in contenders.items():
            times[name].append(seconds(lambda read=read: [read(h) for h in headers]))
    size = sum(read_bytes(h) for h in headers)
    print(f"{len(headers)} records, {size / 1e6:.1f} MB, median of {ROUNDS} rounds\n")
    print(f"{'reader':<14}{'records/s':>12}{'MB/s':>10}{'x wfdb':>10}")
    peer = statistics.median(times["wfdb-python"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<14}{len(headers) / median:>12,.0f}{size / median / 1e6:>10.0f}{peer / median:>10.1f}")


def bench_store(folder: Path, workspace: Path) -> None:
    dataset = PTBXL(folder)

    def publish(version: str) -> Any:
        return Workspace(workspace).publish(
            Key(("cleaned", dataset.name), "native"),
            lambda target: build_store(target, dataset, get_recipe("native")),
            code_version=version,
            access=dataset.access,
        )

    outputs = []
    building = [seconds(lambda i=i: outputs.append(publish(str(i)))) for i in range(3)]
    store = open_store(outputs[-1].folder)
    print(f"\n{'store, built and published':<28}{len(store) / min(building):>12,.0f} windows/s (best of 3)")
    batches = np.random.default_rng(0).integers(0, len(store), (40, BATCH))
    times = [seconds(lambda rows=rows: store.signals(rows)) for rows in batches]
    print(f"{f'store, random {BATCH}':<28}{BATCH / statistics.median(times):>12,.0f} windows/s")
    out = np.empty((BATCH, len(store.channels), store.n_samples), np.float32)
    source = np.zeros(out.shape, np.int16)
    copying = [seconds(lambda: np.copyto(out, source)) for _ in range(40)]
    print(f"{'limit: int16 to float32':<28}{BATCH / statistics.median(copying):>12,.0f} windows/s")


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "fixture"
        if len(sys.argv) == 1:
            PTBXL.make_fixture(folder)
        headers = sorted(folder.rglob("*.hea"))
        headers = [h for h in headers[:: max(1, len(headers) // MOST_RECORDS)] if both_read(h)][:MOST_RECORDS]
        if not headers:
            sys.exit(f"no WFDB record that both readers take below {folder}")
        bench_readers(headers)
        if (folder / "ptbxl_database.csv").exists():
            bench_store(folder, Path(scratch) / "workspace")


if __name__ == "__main__":
    main()
