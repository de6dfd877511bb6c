"""Fuzzes every reader with atheris: `python -m tests.fuzz.run --seconds 600`, or `make fuzz`.

A child process runs libFuzzer over all targets at once, in one process and with a limit of memory. Inputs that raise
anything but a typed error, take long, or end the process (a crash in C, a hang) are written to the folder of crashes;
`--reproduce FILE` runs one again. Seeds are made by the encoders; with EINTHOVEN_SHARED_DATA real files are added.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz import targets

MEMORY_BYTES = 1 << 30
"""What an input of at most 64 KiB may take beyond what the process has when it begins."""

_HANG_S = 30
_LONGEST = 1 << 16
_REAL = {
    "mat": ("cpsc2019/data/*.mat",),
    "csv": ("bidmc/bidmc_csv/*_Numerics.csv", "cinc2011/set-a/*.txt"),
    "wfdb_header": ("wfdb-samples/**/*.hea", "broken/**/*.hea", "mitdb/*.hea", "cpsc2021/*.hea"),
    "annotations": ("mitdb/*.atr", "cpsc2021/*.atr", "qtdb/*.pu1"),
}
_TOKENS = (
    "Waveform", "LeadData", "WaveFormData", "LeadAmplitudeUnitsPerBit", "SampleBase", "sequenceSet", "digits", "increment",
    "<!DOCTYPE a [", "<!ENTITY x", "&x;", "EDF+C", "EDF+D", "EDF Annotations", "1.2.840.10008.1.2.1", "Time [s]", "MATLAB 5.0 MAT-file",
    "16x2:3+24", "200(0)/mV", "## time resolution: ", "../", "1e308", "nan", "-1", "4294967295",
)  # fmt: skip


def main() -> int:
    """Fuzz, or reproduce; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--crashes", type=Path, default=Path("var/fuzz"))
    parser.add_argument("--targets", nargs="*", default=list(targets.TARGETS), choices=list(targets.TARGETS))
    parser.add_argument("--reproduce", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reproduce:
        return _reproduce(options.reproduce)
    if options.child:
        return _fuzz(options, options.child)
    return _supervise(options)


def _reproduce(path: Path) -> int:
    name = path.name.partition("-")[0]
    result, fault = targets.outcome(targets.TARGETS[name], path.read_bytes())
    targets.remove_scratch()
    print(f"{name}: {result}\n{fault}")
    return 1 if fault else 0


def _supervise(options: argparse.Namespace) -> int:
    """Run children until the time is over; one that dies has found something, and another goes on."""
    before = set(options.crashes.glob("*.bin"))
    end = time.monotonic() + options.seconds
    totals: dict[str, dict[str, int]] = {}
    died = 0
    # In memory where there is room for that: a fuzzer writes millions of files.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        work = Path(name)
        _write_corpus(work / "corpus", options.targets)
        (work / "tokens").write_text("".join('"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"\n' for t in _TOKENS))
        while (left := end - time.monotonic()) > 1:
            command = [sys.executable, "-m", "tests.fuzz.run", "--child", name, "--seconds", str(left), "--crashes", str(options.crashes)]
            done = subprocess.run(
                [*command, "--targets", *options.targets],
                capture_output=True,
                text=True,
                errors="replace",
                env=os.environ | {"TMPDIR": name},
            )
            _add(totals, json.loads((work / "counts.json").read_text()) if (work / "counts.json").exists() else {})
            (work / "counts.json").unlink(missing_ok=True)
            if done.returncode == 0:
                break
            died += 1
            _keep(options.crashes, work / "current", done.stderr)
            if died >= 20 or not totals:
                break
    _report(totals)
    found = sorted(set(options.crashes.glob("*.bin")) - before)
    for path in found:
        print(f"FOUND {path}\n{path.with_suffix('.txt').read_text()[-1500:]}")
    executions = sum(n for counts in totals.values() for n in counts.values())
    print(f"{executions} executions, {len(found)} findings, {died} processes ended early")
    return 1 if found or died or not executions else 0


def _write_corpus(folder: Path, names: list[str]) -> None:
    """Seeds, each behind a byte that says which target they are for."""
    folder.mkdir()
    shared = os.environ.get("EINTHOVEN_SHARED_DATA")
    for index, name in enumerate(names):
        seeds = targets.TARGETS[name].seeds()
        for pattern in _REAL.get(name, ()) if shared else ():
            seeds += [p.read_bytes()[:_LONGEST] for p in sorted(Path(shared or "").glob(pattern))[:20]]
        for i, seed in enumerate(seeds):
            (folder / f"{name}-{i}").write_bytes(bytes([index]) + seed)


def _fuzz(options: argparse.Namespace, work: Path) -> int:
    """The child: never returns, libFuzzer ends the process."""
    import atheris

    # Numba compiles its kernels from their own bytecode, which atheris would have changed.
    with atheris.instrument_imports(include=["assets.readers"], exclude=["assets.readers.wfdb_kernels"]):
        for module in sorted(p.stem for p in Path(targets.__file__).parents[2].glob("assets/readers/*.py") if p.stem != "__init__"):
            __import__(f"assets.readers.{module}")
    observer = targets.Observer(options.crashes)
    for _ in _warm(options.targets):
        pass
    _limit_memory()
    names, current = options.targets, (work / "current").open("wb", buffering=0)
    n = 0

    def one(data: bytes) -> None:
        nonlocal n
        if not data:
            return
        name = names[data[0] % len(names)]
        # What runs now is on disk, for the case that it takes the process with it.
        current.seek(0)
        current.truncate()
        current.write(name.encode() + b"\n" + data[1:])
        observer.observe(name, data[1:])
        n += 1
        if n % 500 == 0 or observer.counts[name].total() <= 1:
            _write_counts(work, observer)

    # Twice the time is libFuzzer's way of counting: it asks for it after each input, slow ones included.
    atheris.Setup(
        [
            sys.argv[0], f"-max_total_time={max(int(options.seconds), 1)}", f"-timeout={_HANG_S}", f"-max_len={_LONGEST}", "-rss_limit_mb=0",
            "-len_control=0", f"-dict={work / 'tokens'}", f"-artifact_prefix={work}/", "-print_final_stats=1", str(work / "corpus"),
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()
    return 0


def _warm(names: list[str]) -> Iterator[Any]:
    """Every seed once, before memory is limited: libraries are loaded and kernels compiled on the way."""
    for name in names:
        for seed in targets.TARGETS[name].seeds():
            yield targets.outcome(targets.TARGETS[name], seed)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _write_counts(work: Path, observer: targets.Observer) -> None:
    temporary = work / "counts.new"
    temporary.write_text(json.dumps(observer.counts))
    temporary.replace(work / "counts.json")


def _add(totals: dict[str, dict[str, int]], counts: dict[str, dict[str, int]]) -> None:
    for name, found in counts.items():
        for result, n in found.items():
            totals.setdefault(name, {})[result] = totals.get(name, {}).get(result, 0) + n


def _keep(crashes: Path, current: Path, stderr: str) -> None:
    """Write down the input that ended a process, if it was one."""
    crashes.mkdir(parents=True, exist_ok=True)
    name, _, data = current.read_bytes().partition(b"\n") if current.exists() else (b"none", b"", b"")
    stem = f"{name.decode()}-process-{time.strftime('%H%M%S')}"
    (crashes / f"{stem}.bin").write_bytes(data)
    (crashes / f"{stem}.txt").write_text(f"the process ended:\n{stderr[-4000:]}")


def _report(totals: dict[str, dict[str, int]]) -> None:
    for name, counts in totals.items():
        most = sorted(counts.items(), key=lambda c: -c[1])
        print(f"{name:13} {sum(counts.values()):9} executions: {', '.join(f'{r} {n}' for r, n in most[:9])}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        targets.remove_scratch()
