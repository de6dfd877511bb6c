"""Wavelet transform of one ten-second 12-lead ECG beside PyWavelets and ssqueezepy, and its median baseline beside scipy; one process and thread.

Run `OMP_NUM_THREADS=1 python benchmarks/bench_cwt.py [--peers FOLDER]`. The peers are PyWavelets and ssqueezepy where they are installed,
or in a folder that pip filled (`pip install --target FOLDER --no-deps PyWavelets ssqueezepy`); neither is part of this project. 120
windows of 500 samples, 64 frequencies from 100 to 4 Hz. Moduli are not compared: the peers' wavelets are scaled in other ways. scipy's
median filter is timed in both ways in which it is called: over the matrix of leads with `size=(1, w)`, and lead by lead, where scipy has a
much faster one. What is printed is the least of several runs, in milliseconds.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import medfilt

from assets.signals.baseline import remove_baseline
from assets.signals.simulate import simulate
from models.scalogram import ScalogramShape, stacked_scalograms
from models.wavelet import geometric_frequencies, morlet_modulus, signals_at_once

FS_HZ = 500.0
FREQUENCIES_HZ = geometric_frequencies(64, 100.0, 4.0)
SHAPE = ScalogramShape(FS_HZ, 5000, 500, 12, 64, 100.0, 4.0, 18, 224, 224)


def milliseconds(run: Callable[[], object], budget_s: float = 4.0) -> float:
    run()
    times: list[float] = []
    while len(times) < 2 or (sum(times) < budget_s and len(times) < 30):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def ours(windows_XT: torch.Tensor) -> torch.Tensor:
    at_once = signals_at_once(windows_XT.shape[1], len(FREQUENCIES_HZ), windows_XT.device)
    return torch.cat([morlet_modulus(part, FS_HZ, FREQUENCIES_HZ) for part in windows_XT.split(at_once)])


def transforms(windows_XT: NDArray[np.float32]) -> dict[str, Callable[[], Any]]:
    tensor_XT = torch.from_numpy(windows_XT)
    runs: dict[str, Callable[[], Any]] = {"einthoven": lambda: ours(tensor_XT)}
    try:
        pywt = importlib.import_module("pywt")
    except ImportError:
        print("PyWavelets: not installed; name a folder with --peers")
    else:
        scales = pywt.central_frequency("cmor1.5-1.0") * FS_HZ / np.array(FREQUENCIES_HZ)
        for method in ("conv", "fft"):
            runs[f"PyWavelets, {method}, window by window"] = lambda m=method: [
                pywt.cwt(x, scales, "cmor1.5-1.0", method=m) for x in windows_XT
            ]
            runs[f"PyWavelets, {method}, all at once"] = lambda m=method: pywt.cwt(windows_XT, scales, "cmor1.5-1.0", method=m, axis=-1)
    try:
        squeezed = importlib.import_module("ssqueezepy")
    except ImportError:
        print("ssqueezepy: not installed; name a folder with --peers")
    else:
        widths = np.array([6 * FS_HZ / (2 * np.pi * f) for f in FREQUENCIES_HZ])
        runs["ssqueezepy, all at once"] = lambda: squeezed.cwt(windows_XT, ("morlet", {"mu": 6}), scales=widths, fs=FS_HZ, l1_norm=True)
    return runs


def medians(signal_LT: NDArray[np.float32]) -> dict[str, Callable[[], Any]]:
    def in_rows(x_LT: NDArray[np.float32], width: int) -> Any:
        return median_filter(x_LT, size=(1, width), mode="nearest")

    def by_lead(x_LT: NDArray[np.float32], width: int) -> Any:
        return np.stack([median_filter(x_T, width, mode="nearest") for x_T in x_LT])

    def by_medfilt(x_LT: NDArray[np.float32], width: int) -> Any:
        return np.stack([medfilt(x_T, width) for x_T in x_LT])

    runs: dict[str, Callable[[], Any]] = {"einthoven": lambda: remove_baseline(signal_LT, FS_HZ, 0.2, 0.6, edges="replicate")}
    for name, one in (("scipy.ndimage, size=(1, w)", in_rows), ("scipy.ndimage, lead by lead", by_lead), ("scipy.signal.medfilt, lead by lead", by_medfilt)):  # fmt: skip
        runs[name] = lambda f=one: signal_LT - f(f(signal_LT, 101), 301)
    return runs


def report(title: str, runs: dict[str, Callable[[], Any]]) -> None:
    print(f"{title:<46}{'ms':>10}{'times ours':>14}")
    base = 0.0
    for name, run in runs.items():
        found = milliseconds(run)
        base = base or found
        print(f"  {name:<44}{found:>10.1f}{found / base:>14.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="wavelets and medians beside peers")
    parser.add_argument("--peers", metavar="FOLDER", type=Path, help="a folder with pywt and ssqueezepy, where they are not installed")
    folder = parser.parse_args().peers
    if folder is not None:
        sys.path.append(str(folder))
    torch.set_num_threads(1)
    signal_LT = simulate(["AFIB"], np.random.default_rng(0), FS_HZ, 10.0).astype(np.float32)
    windows_XT = np.ascontiguousarray(signal_LT.reshape(12, 10, 500).reshape(120, 500))
    whole_BLT = torch.from_numpy(signal_LT)[None]
    report("recording to ten pictures of 224 x 224", {"einthoven": lambda: stacked_scalograms(whole_BLT, SHAPE)})
    report("median baseline of 12 x 5000, 101 and 301", medians(signal_LT))
    report("wavelets of 120 windows, 64 frequencies", transforms(windows_XT))  # the last, since peers leave threads of their own behind


if __name__ == "__main__":
    main()
