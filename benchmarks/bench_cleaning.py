"""Cleaning: each step beside the library that does the same, then the whole way from WFDB files to a store.

Run `OMP_NUM_THREADS=1 python benchmarks/bench_cleaning.py [FOLDER]`. One thread, processor time, best of several rounds; ECGs of 12 x 5000
samples at 500 Hz, in batches of 8 as the store's builder makes them, and simulated unless a folder of WFDB records of that shape
is named. Peers work on float64, record by record. Differences are in millivolts.

"files -> store" is `assets.store.build_store`: reading with checksums, looking for missing samples and for copies, a zero-phase Butterworth
band-pass of order 4 from 0.5 to 40 Hz, quality flags, R peaks, int16 shards and index. Its peer reads with wfdb-python, fills
NaN, filters with scipy, rounds to int16 and saves, and judges nothing. The last lines say where the time goes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pandas as pd
import wfdb
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from assets import store
from assets.access import Access
from assets.dataset import Dataset, Source
from assets.duplicates import SeenWaveforms
from assets.readers import read_record
from assets.readers.wfdb_write import write_record
from assets.record import Record
from assets.shards import ShardWriter
from assets.signals import filters, quality, repair
from assets.signals.baseline import remove_baseline
from assets.signals.counts import to_counts
from assets.signals.peaks import r_peaks
from assets.signals.resample import resample
from assets.signals.simulate import simulate
from models.recipes import BandPass, Recipe
from models.types import LEADS

FS_HZ, LENGTH, BATCH, DRAWN, RECORDS, PEER_RECORDS = 500.0, 5000, 8, 40, 400, 40
CLEANED = Recipe("band_0.5_40", steps=(BandPass(0.5, 40.0),))
BAND = scipy_signal.butter(4, (0.5, 40.0), "bandpass", fs=FS_HZ, output="sos")

Signal = NDArray[np.float32]


class Files(Dataset):
    """Whatever WFDB records lie in a folder."""

    name: ClassVar[str] = "files"
    access: ClassVar[Access] = Access.OPEN
    source: ClassVar[Source] = Source("Files", "1", "", "", "", "")
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = FS_HZ

    def files(self) -> list[Path]:
        return [Path(name) for name in self._headers()]

    def records(self) -> pd.DataFrame:
        record_id = [name.removesuffix(".hea") for name in self._headers()]
        table = pd.DataFrame({"record_id": record_id, "patient_id": record_id, "fold": 1, "age": np.nan})
        return table.assign(sex="unknown", site="", device="", acquired_at="")

    def _headers(self) -> list[str]:
        found = [os.path.join(at, name) for at, _, names in os.walk(self.folder) for name in names if name.endswith(".hea")]  # noqa: PTH118
        return sorted(os.path.relpath(name, self.folder) for name in found)

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        return read_record(self.folder / f"{record_id}.hea")

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Distinct records out of few drawn ones: each is turned on by some samples and scaled a little."""
        findings = (["NORM"], ["AFIB"], ["PVC"], ["CLBBB"], ["STACH"])
        drawn = [simulate(findings[i % 5], np.random.default_rng(seed + i), FS_HZ, LENGTH / FS_HZ) for i in range(DRAWN)]
        for i in range(RECORDS):
            write_record(folder, f"{i:05d}", np.roll(drawn[i % DRAWN], 11 * i, axis=1) * (1 + i / 4000), LEADS, FS_HZ)


def microseconds(job: Callable[[], object], records: int, rounds: int) -> float:
    """Processor time a record, best of the rounds; the first, which compiles or loads what is compiled, does not count."""
    job()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times) / records * 1e6


def row(name: str, ours: float, peer: float | None = None, difference: float | None = None) -> None:
    beside = f"{peer:>12,.0f}{peer / ours:>9.1f}" if peer else f"{'-':>12}{'-':>9}"
    apart = f"{difference / 1000:>14.1e}" if difference is not None else f"{'-':>14}"
    print(f"{name:<34}{ours:>10.1f}{1e6 / ours:>12,.0f}{beside}{apart}", flush=True)


def compare(name: str, batch: Signal, ours: Callable[[Signal], Signal], peer: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
    wide = batch.astype(np.float64)
    difference = float(np.abs(ours(batch) - np.stack([peer(record) for record in wide])).max())
    ours_us = microseconds(lambda: ours(batch), len(batch), 40)
    row(name, ours_us, microseconds(lambda: [peer(record) for record in wide], len(batch), 3), difference)


def bench_steps(batch: Signal) -> None:
    compare(
        "band-pass 0.5-40 Hz, order 4", batch, lambda x: filters.bandpass(x, FS_HZ, 0.5, 40.0), lambda x: scipy_signal.sosfiltfilt(BAND, x)
    )
    high = scipy_signal.butter(5, 0.5, "highpass", fs=FS_HZ, output="sos")
    compare("high-pass 0.5 Hz, order 5", batch, lambda x: filters.highpass(x, FS_HZ, 0.5, 5), lambda x: scipy_signal.sosfiltfilt(high, x))
    hum = scipy_signal.iirnotch(50.0, 30.0, fs=FS_HZ)
    compare("notch 50 Hz", batch, lambda x: filters.notch(x, FS_HZ, 50.0), lambda x: scipy_signal.filtfilt(*hum, x))
    mean = np.full(10, 0.1)
    compare(
        "moving average, 10 samples",
        batch,
        lambda x: filters.moving_average(x, FS_HZ, 50.0),
        lambda x: scipy_signal.filtfilt(mean, [1.0], x),
    )
    compare(
        "resample 500 -> 100 Hz, polyphase",
        batch,
        lambda x: resample(x, 500, 100),
        lambda x: scipy_signal.resample_poly(x, 1, 5, axis=-1, padtype="line"),
    )
    compare(
        "resample 500 -> 250 Hz, Fourier",
        batch,
        lambda x: resample(x, 500, 250, "fourier"),
        lambda x: scipy_signal.resample(x, LENGTH // 2, axis=-1),
    )
    compare("median baseline 0.2 s, 0.6 s", batch, lambda x: remove_baseline(x, FS_HZ, 0.2, 0.6), median_peer)
    slow = np.ascontiguousarray(batch[:, :, ::5])
    compare("median baseline at 100 Hz", slow, lambda x: remove_baseline(x, 100.0, 0.2, 0.6), lambda x: median_peer(x, 21, 61))
    row("missing samples, standstill", microseconds(lambda: [repair.is_whole(x) and repair.is_constant(x) for x in batch], len(batch), 40))
    row("quality flags of leads", microseconds(lambda: quality.lead_flags(batch, FS_HZ), len(batch), 40))
    row("limb lead relations", microseconds(lambda: quality.limb_swap(batch), len(batch), 40))
    row("R peaks, 12 leads", microseconds(lambda: r_peaks(batch, FS_HZ), len(batch), 40))
    one = np.ones(len(LEADS), np.float32)
    row(
        "int16 counts",
        microseconds(lambda: to_counts(batch, one), len(batch), 40),
        microseconds(lambda: numpy_counts(batch), len(batch), 40),
    )


def median_peer(record: NDArray[np.float64], first: int = 101, second: int = 301) -> NDArray[np.float64]:
    return np.stack([lead - scipy_signal.medfilt(scipy_signal.medfilt(lead, first), second) for lead in record])


def numpy_counts(batch: Signal) -> NDArray[np.int16]:
    over = np.abs(batch).max(axis=-1) > 32767
    return np.rint(np.clip(batch, -32767, 32767) if over.any() else batch).astype(np.int16)


def peer_chain(headers: list[Path], target: Path) -> None:
    rows = []
    for header in headers:
        record_TL = np.nan_to_num(wfdb.rdrecord(str(header.with_suffix(""))).p_signal)
        cleaned_TL = scipy_signal.sosfiltfilt(BAND, record_TL, axis=0)
        rows.append(np.clip(np.rint(cleaned_TL.T * 1000), -32767, 32767).astype(np.int16))
    np.save(target / "cleaned.npy", np.stack(rows))


def bench_chain(folder: Path, scratch: Path) -> None:
    dataset = Files(folder)
    headers = [folder / path for path in dataset.files()]
    n_built = 0

    def build() -> None:
        nonlocal n_built
        target = scratch / f"store{n_built}"
        target.mkdir()
        n_built += 1
        built = store.build_store(target, dataset, CLEANED)
        if built.rows < 0.9 * len(headers):
            sys.exit(f"only {built.rows} of {len(headers)} records of {folder} were stored: {built.facts['quarantine_reasons']}")

    ours_us = microseconds(build, len(headers), 5)
    few = headers[:PEER_RECORDS]
    row("files -> store", ours_us, microseconds(lambda: peer_chain(few, scratch), len(few), 2))
    print(f"\nfiles -> store: {1e6 / ours_us:,.0f} records per CPU-second; in microseconds a record:")
    print(", ".join(f"{stage} {seconds / len(headers) * 1e6:.0f}" for stage, seconds in best_shares(build, 5)))


def best_shares(build: Callable[[], None], rounds: int) -> list[tuple[str, float]]:
    """Seconds in each stage, with all that it calls, of the quickest of some builds; what is left of the whole is the rest."""
    stages: dict[str, tuple[Any, str]] = {
        "reading": (Files, "read"),
        "missing samples": (repair, "is_whole"),
        "band-pass": (store, "preprocess"),
        "flags": (quality, "lead_flags"),
        "limb leads": (quality, "limb_swap"),
        "R peaks": (store, "r_peaks"),
        "counts": (store, "to_counts"),
        "copies": (SeenWaveforms, "first_row"),
        "writing": (ShardWriter, "add"),
    }
    best: dict[str, float] = {}
    for _ in range(rounds):
        spent = dict.fromkeys(stages, 0.0)
        with ExitStack() as patches:
            for stage, (owner, name) in stages.items():
                patches.enter_context(patch.object(owner, name, timed(getattr(owner, name), spent, stage)))
            start = time.process_time()
            build()
            spent["rest"] = time.process_time() - start - sum(spent.values())
        if not best or sum(spent.values()) < sum(best.values()):
            best = spent
    return list(best.items())


def timed(function: Callable[..., Any], spent: dict[str, float], stage: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **options)
        finally:
            spent[stage] += time.process_time() - start

    return call


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "records"
        if len(sys.argv) == 1:
            folder.mkdir()
            Files.make_fixture(folder)
        dataset = Files(folder)
        batch = np.stack([dataset.read(name).signal_LT for name in dataset.records()["record_id"][:BATCH]])
        if batch.shape != (BATCH, len(LEADS), LENGTH):
            sys.exit(f"{folder}: records of 12 x {LENGTH} samples are needed, these are of {batch.shape[1]} x {batch.shape[2]}")
        print(f"{'':<34}{'us/record':>10}{'records/s':>12}{'peer us':>12}{'x peer':>9}{'largest diff':>14}")
        bench_steps(batch)
        bench_chain(folder, Path(scratch))


if __name__ == "__main__":
    main()
