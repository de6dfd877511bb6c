"""Reading WFDB records, beside wfdb-python and beside a limit, in one process.

Run `OMP_NUM_THREADS=1 python benchmarks/bench_readers.py [FOLDER]`: records of ten seconds, twelve leads and 500 Hz in format 16 and
of half an hour and two leads in format 212, written here; or every .hea below a folder that both readers take, at most 500.
All from the page cache, in processor time of this one-threaded process; each contender's best round counts. Every record is
read whole: header and data found, opened, parsed, decoded to float32 microvolts with the leads one after the other, and, by
ours alone, hashed and held against the header's checksums. The limit opens the data file only, and for format 16 turns and
converts it with NumPy: `np.fromfile`, `.T`, `.astype`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from assets.readers import read_record
from assets.readers.wfdb import read_wfdb
from assets.readers.wfdb_write import write_record
from models.types import LEADS

ROUNDS, MOST_RECORDS, PEER_RECORDS = 12, 500, 40
Contenders = dict[str, Callable[[Path], object]]


def read_peer(header: Path) -> Any:
    return wfdb.rdrecord(str(header.with_suffix("")))


def turn(header: Path) -> Any:
    """The limit of format 16: twelve leads, no header, no scale, no missing samples."""
    return np.fromfile(header.with_suffix(".dat"), "<i2").reshape(-1, len(LEADS)).T.astype(np.float32, order="C")


def read_bytes(header: Path) -> int:
    """The limit of everything else: nothing decoded."""
    return len(header.with_suffix(".dat").read_bytes())


def both_read(header: Path) -> bool:
    try:
        read_record(header)
        read_peer(header)
    except Exception:
        return False
    return header.with_suffix(".dat").exists()


def seconds(job: Callable[[], object]) -> float:
    """Processor time, so that other work on the machine counts less; nothing here waits for a disk."""
    start = time.process_time()
    job()
    return time.process_time() - start


def bench(title: str, headers: list[Path], contenders: Contenders) -> None:
    """Contenders take turns; wfdb-python reads fewer records, as it takes longer."""
    best: dict[str, float] = {}
    for i in range(ROUNDS):
        for name, read in contenders.items():
            chosen = headers[:PEER_RECORDS] if read is read_peer else headers
            if read is read_peer and i % 4:
                continue
            taken = seconds(lambda read=read, chosen=chosen: [read(h) is None for h in chosen]) / len(chosen)
            best[name] = min(taken, best.get(name, taken))
    size = sum(read_bytes(h) for h in headers) / len(headers)
    print(f"\n{title}: {len(headers)} records, {size / 1e6:.2f} MB each")
    print(f"{'':<14}{'records/s':>12}{'MB/s':>10}{'x wfdb':>10}")
    for name, taken in best.items():
        print(f"{name:<14}{1 / taken:>12,.0f}{size / taken / 1e6:>10,.0f}{best['wfdb-python'] / taken:>10.1f}")


def bench_first(header: Path) -> None:
    """What the first record of a process costs: compiled code is loaded, or made where it is not kept yet."""
    code = (
        "import sys, time; from pathlib import Path; from assets.readers.wfdb import read_wfdb; start = time.process_time(); "
        "read_wfdb(Path(sys.argv[1])); print(time.process_time() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(header)], capture_output=True, text=True, check=True)
    print(f"\nfirst record of a process: {float(done.stdout):.2f} s of processor time (numba and compiled code are loaded)")


def write_10s(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for i in range(MOST_RECORDS):
        write_record(folder, f"{i:05d}_hr", rng.integers(-2000, 2000, (len(LEADS), 5000)), LEADS, 500)
    return sorted(folder.glob("*.hea"))


def write_30min(folder: Path) -> list[Path]:
    folder.mkdir()
    counts = np.random.default_rng(0).integers(-1000, 1000, (650_000, 2))
    for i in range(4):
        wfdb.wrsamp(
            f"long{i}", fs=360, units=["mV"] * 2, sig_name=["MLII", "V5"], d_signal=counts, fmt=["212"] * 2, adc_gain=[200.0] * 2,
            baseline=[1024] * 2, write_dir=str(folder),
        )  # fmt: skip
    return sorted(folder.glob("*.hea"))


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        contenders: Contenders = {"einthoven": read_wfdb, "read_record": read_record, "wfdb-python": read_peer}
        if len(sys.argv) > 1:
            headers = sorted(Path(sys.argv[1]).rglob("*.hea"))
            headers = [h for h in headers[:: max(1, len(headers) // MOST_RECORDS)] if both_read(h)][:MOST_RECORDS]
            if not headers:
                sys.exit(f"no WFDB record that both readers take below {sys.argv[1]}")
            bench(sys.argv[1], headers, {**contenders, "bytes only": read_bytes})
            return
        short = write_10s(Path(scratch) / "short")
        bench_first(short[0])
        bench("12 leads x 5,000 samples, format 16", short, {**contenders, "limit": turn})
        bench("2 leads x 650,000 samples, format 212", write_30min(Path(scratch) / "long"), {**contenders, "bytes only": read_bytes})


if __name__ == "__main__":
    main()
