"""R peaks beside wfdb's XQRS and gqrs, and neurokit2, against annotated beats of four databases.

Run `EINTHOVEN_SHARED_DATA=... python benchmarks/bench_peaks.py [--neurokit PYTHON | --make-neurokit FOLDER]`. A found beat counts when an annotated
one lies within 150 ms, each used once. Single leads: the first channel of every record. Both leads: MIT-BIH, CPSC 2021 and QT with both
channels, which only our detector takes together. Our rules were set on MIT-BIH and CPSC 2021; CPSC 2019 and QT were held out.
Speed is 10 s of one lead a record, in processor time of one thread; beside them, 12 leads of 10 s at 500 Hz.

neurokit2 asks for older packages than ours, so it runs in an interpreter of its own that has it (`--neurokit`), or that is
made first (`--make-neurokit`, a minute), and takes and gives arrays in files. Without it: 35 s of processor time, nearly all of it the peers'.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from wfdb import processing

from assets.readers import read_record
from assets.readers.annotations import read_annotations
from assets.signals.peaks import r_peaks
from assets.signals.simulate import simulate

TOLERANCE_S = 0.15
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""PhysioNet's annotation codes of beats."""

NEUROKIT = """
import sys, time, warnings
import numpy as np, neurokit2 as nk
warnings.simplefilter("ignore")
signals = np.load(sys.argv[1])
found = {}
nk.ecg_peaks(nk.ecg_clean(nk.ecg_simulate(10, 500), 500), 500)
for name in signals.files:
    fs_hz, signal = int(signals[name][0]), signals[name][1:]
    start = time.process_time()
    try:
        peaks = nk.ecg_peaks(nk.ecg_clean(signal, fs_hz), fs_hz)[1]["ECG_R_Peaks"]
    except Exception:
        peaks = []
    found[name] = np.append(time.process_time() - start, peaks)
np.savez(sys.argv[2], **found)
"""

Beats = NDArray[np.int64]


@dataclass(frozen=True)
class Annotated:
    """A recording with its true beats."""

    database: str
    name: str
    signal_LT: NDArray[np.float32]
    fs_hz: float
    truth: Beats


def load(shared: Path) -> list[Annotated]:
    found = []
    for database in ("mitdb", "cpsc2021", "qtdb"):
        for header in sorted((shared / database).glob("*.hea")):
            record, annotations = read_record(header), read_annotations(header, "atr")
            truth = annotations.sample_N[[symbol in BEATS for symbol in annotations.symbols]]
            found.append(Annotated(database, header.stem, record.signal_LT, record.fs_hz, truth))
    for path in sorted((shared / "cpsc2019" / "data").glob("*.mat")):
        truth = scipy.io.loadmat(path.parents[1] / "ref" / path.name.replace("data", "R"))["R_peak"].reshape(-1).astype(np.int64)
        signal_LT = scipy.io.loadmat(path)["ecg"].reshape(1, -1).astype(np.float32)
        found.append(Annotated("cpsc2019", path.stem, signal_LT * 1000, 500.0, truth))
    return found


def hits(found: Beats, truth: Beats, fs_hz: float) -> int:
    i = j = n = 0
    while i < len(found) and j < len(truth):
        apart = found[i] - truth[j]
        hit = abs(apart) <= TOLERANCE_S * fs_hz
        n += hit
        i += hit or apart < 0
        j += hit or apart > 0
    return n


def report(detector: str, recordings: list[Annotated], found: list[Beats], seconds: list[float]) -> None:
    databases = dict.fromkeys(r.database for r in recordings)
    for database in (*databases, "pooled"):
        rows = [i for i, r in enumerate(recordings) if database in (r.database, "pooled")]
        right = sum(hits(found[i], recordings[i].truth, recordings[i].fs_hz) for i in rows)
        true, said = sum(len(recordings[i].truth) for i in rows), sum(len(found[i]) for i in rows)
        length = sum(recordings[i].signal_LT.shape[1] / recordings[i].fs_hz for i in rows)
        speed = length / 10 / max(sum(seconds[i] for i in rows), 1e-9)
        sensitivity, precision = right / true, right / max(said, 1)
        f1 = 2 * right / (true + said)
        print(f"{detector:<24}{database:<10}{true:>8}{sensitivity:>10.4f}{precision:>10.4f}{f1:>10.4f}{speed:>14,.0f}", flush=True)


def run(detector: str, recordings: list[Annotated], detect: Callable[[Annotated], Any]) -> None:
    detect(recordings[-1])
    found, seconds = [], []
    for recording in recordings:
        start = time.process_time()
        peaks = np.asarray(detect(recording), np.int64)
        seconds.append(time.process_time() - start)
        found.append(peaks)
    report(detector, recordings, found, seconds)


def run_neurokit(python: str, recordings: list[Annotated]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        signals, peaks = Path(scratch) / "signals.npz", Path(scratch) / "peaks.npz"
        arrays: dict[str, Any] = {f"{i}": np.append(r.fs_hz, r.signal_LT[0].astype(np.float64) / 1000) for i, r in enumerate(recordings)}
        np.savez(signals, **arrays)
        subprocess.run([python, "-c", NEUROKIT, signals, peaks], check=True)
        found = np.load(peaks)
        rows = [found[f"{i}"] for i in range(len(recordings))]
    report("neurokit2", recordings, [row[1:].astype(np.int64) for row in rows], [float(row[0]) for row in rows])


def make_neurokit(folder: Path) -> str:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "neurokit2"], check=True)
    return str(python)


def bench_twelve_leads() -> None:
    batch = np.stack([simulate(["AFIB"], np.random.default_rng(i), 500.0) for i in range(8)])
    for name, leads in (("12 leads", None), ("I, II, V1 to V6", [0, 1, *range(6, 12)]), ("lead II", [1])):
        r_peaks(batch, 500.0, leads)
        times = []
        for _ in range(50):
            start = time.process_time()
            r_peaks(batch, 500.0, leads)
            times.append(time.process_time() - start)
        print(f"einthoven, {name + ' of 12 x 5000':<34}{len(batch) / min(times):>12,.0f} records/s")


def main() -> None:
    parser = argparse.ArgumentParser(description="R peaks beside other detectors")
    parser.add_argument("--neurokit", metavar="PYTHON", help="an interpreter that has neurokit2")
    parser.add_argument("--make-neurokit", metavar="FOLDER", type=Path, help="make an environment with neurokit2 there, or use it")
    options = parser.parse_args()
    shared = os.environ.get("EINTHOVEN_SHARED_DATA")
    if not shared:
        sys.exit(print("EINTHOVEN_SHARED_DATA is not set: no annotated recordings here, nothing to compare"))
    warnings.simplefilter("ignore")
    recordings = load(Path(shared))
    first = [Annotated(r.database, r.name, r.signal_LT[:1], r.fs_hz, r.truth) for r in recordings]
    print(f"{'detector':<24}{'database':<10}{'beats':>8}{'sens.':>10}{'precision':>10}{'F1':>10}{'records/s':>14}")
    run("einthoven", first, lambda r: r_peaks(r.signal_LT, r.fs_hz)[0])
    run("einthoven, both leads", [r for r in recordings if len(r.signal_LT) > 1], lambda r: r_peaks(r.signal_LT, r.fs_hz)[0])
    run("wfdb XQRS", first, lambda r: processing.xqrs_detect(r.signal_LT[0].astype(np.float64) / 1000, r.fs_hz, verbose=False))
    run("wfdb gqrs", first, lambda r: processing.gqrs_detect(r.signal_LT[0].astype(np.float64) / 1000, r.fs_hz))
    if python := options.neurokit or (options.make_neurokit and make_neurokit(options.make_neurokit)):
        run_neurokit(python, first)
    else:
        print("neurokit2: not run; name an interpreter that has it (--neurokit) or a folder to make one in (--make-neurokit)")
    print()
    bench_twelve_leads()


if __name__ == "__main__":
    main()
