"""What goes wrong on real disks and with real files while a store is made: nothing is lost, nothing is torn."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from assets.cleaned import make_cleaned
from assets.dataset import Dataset, get_dataset
from assets.outputs import Key, Output, OutputError, Workspace, sha256_file, verify
from assets.raw import make_raw
from assets.verdicts import BLOCKING, Verdict, save

KEY = Key(("cleaned", "ptb_xl"), "native")


def quiet(_: str) -> None:
    return


def scanned(workspace: Workspace, dataset: Dataset) -> Output:
    """raw, with green verdicts: the checks have tests of their own."""
    output: Output = make_raw(workspace, dataset, quiet)
    for check in BLOCKING["raw"]:
        save(workspace, output, Verdict(check, True, ""))
    return output


@pytest.fixture
def source(tmp_path: Path) -> Dataset:
    folder = tmp_path / "download"
    get_dataset("ptb_xl").make_fixture(folder)
    return get_dataset("ptb_xl")(folder)


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 3 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up(small_disk: Path, source: Dataset) -> None:
    workspace = Workspace(small_disk)
    scanned(workspace, source)
    before = hashes(source.folder)
    with pytest.raises(OutputError, match="is full; free some space"):
        make_cleaned(workspace, source, "native", quiet)
    assert workspace.current(KEY) is None
    assert not [p for p in workspace.folder(KEY).rglob("*") if p.is_file() and not p.name.startswith(".lock")]
    assert hashes(source.folder) == before
    verify(workspace.require(Key(("raw", "ptb_xl"))))


def test_kill_9_while_a_store_is_written(tmp_path: Path, source: Dataset) -> None:
    workspace = Workspace(tmp_path / "home")
    scanned(workspace, source)
    code = (
        "import sys, time, numpy as np\n"
        "from pathlib import Path\n"
        "import assets.store\n"
        "from assets.cleaned import make_cleaned\n"
        "from assets.dataset import get_dataset\n"
        "from assets.outputs import Workspace\n"
        "build = assets.store.build_store\n"
        "def slow(folder, dataset, recipe, **options):\n"
        "    built = build(folder, dataset, recipe, **options)\n"
        "    Path(sys.argv[3]).touch()\n"
        "    time.sleep(60)\n"
        "    return built\n"
        "assets.store.build_store = slow\n"
        "make_cleaned(Workspace(sys.argv[1]), get_dataset('ptb_xl')(Path(sys.argv[2])), 'native', print)\n"
    )
    written = tmp_path / "written"
    process = subprocess.Popen([sys.executable, "-P", "-c", code, str(workspace.root), str(source.folder), str(written)])
    deadline = time.monotonic() + 60
    while not written.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert workspace.current(KEY) is None, "a store that was never finished can be seen"
    assert list(workspace.folder(KEY).glob(".building-*")), "the test killed it too early or too late"

    output = make_cleaned(workspace, source, "native", quiet)
    verify(output)
    assert not list(workspace.folder(KEY).glob(".building-*"))


def replace_files(source: Dataset, record: int, header: Path, data: Path | None) -> None:
    """Put another record's files in the place of one, under its names."""
    target = source.folder / "records100" / "00000" / f"{record:05d}_lr"
    target.with_suffix(".hea").write_bytes(header.read_bytes())
    target.with_suffix(".dat").unlink()
    if data is not None:
        target.with_suffix(".dat").write_bytes(data.read_bytes())


def test_bad_records_are_quarantined_and_the_rest_is_stored(tmp_path: Path, source: Dataset, shared_data: Path) -> None:
    """Every kind of broken file found in the wild, in one download."""
    broken = shared_data / "broken"
    good = source.folder / "records100" / "00000"
    first = sorted(p.stem for p in good.glob("*.hea"))[:8]
    numbers = [int(name.split("_")[0]) for name in first]
    replace_files(source, numbers[0], broken / "lfs_pointer" / "00001_hr.hea", broken / "lfs_pointer" / "00001_hr.dat")
    replace_files(source, numbers[1], broken / "header_only" / "00841_hr.hea", None)
    replace_files(source, numbers[2], broken / "missing_signal_file" / "1003.hea", None)
    replace_files(source, numbers[3], broken / "no_length" / "100-no-len.hea", None)
    zero = broken / "zero_gain" / "9190_all_data_is_zero"
    replace_files(source, numbers[4], zero.with_suffix(".hea"), zero.with_suffix(".dat"))
    cut = good / f"{numbers[5]:05d}_lr.dat"
    cut.write_bytes(cut.read_bytes()[:-100])
    flipped = good / f"{numbers[6]:05d}_lr.dat"
    data = bytearray(flipped.read_bytes())
    data[1000] ^= 0x10
    flipped.write_bytes(bytes(data))

    workspace = Workspace(tmp_path / "home")
    scanned(workspace, source)
    output = make_cleaned(workspace, source, "native", quiet)
    quarantine = pd.read_parquet(output.path("quarantine.parquet")).set_index("record_id")
    ids = [str(n) for n in numbers]
    assert set(quarantine.index) == set(ids[:7])
    reasons = quarantine["reason"].to_dict()
    assert reasons[ids[0]] == "lfs_pointer"
    assert reasons[ids[5]] == "truncated"
    assert reasons[ids[6]] == "checksum"
    assert all(quarantine["explanation"].str.len() > 20)
    n_records = len(list(csv.DictReader((source.folder / "ptbxl_database.csv").open())))
    assert output.rows == n_records - 7


def test_a_half_finished_download_is_read_and_what_is_missing_is_said(tmp_path: Path, source: Dataset) -> None:
    for path in sorted((source.folder / "records100").rglob("*_lr.*"))[20:]:
        path.unlink()
    shutil.rmtree(source.folder / "records500")
    before = hashes(source.folder)
    workspace = Workspace(tmp_path / "home")
    raw = scanned(workspace, source)
    output = make_cleaned(workspace, source, "native", quiet)
    assert raw.facts["n_present"] == output.rows == 10
    assert output.facts["n_absent"] == raw.facts["n_records"] - 10
    assert output.facts["n_quarantined"] == 0
    assert hashes(source.folder) == before
