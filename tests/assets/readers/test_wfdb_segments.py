"""WFDB records of several segments: fixed and variable layout, gaps, parts, and everything that can be wrong with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash

from assets.readers.wfdb import read_wfdb, read_wfdb_segments
from assets.readers.wfdb_write import write_record
from assets.record import RecordError

RNG = np.random.default_rng(3)
FIRST, SECOND = (np.rint(RNG.normal(0, 300, (2, n))) for n in (40, 25))


def reason_of(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        read_wfdb(path)
    return caught.value.reason


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """Two segments with the same leads, the second in a folder below."""
    write_record(tmp_path, "a", FIRST, ["II", "V5"], 100)
    write_record(tmp_path / "sub", "b", SECOND, ["II", "V5"], 100)
    (tmp_path / "m.hea").write_text("m/2 2 100 65 10:00:00\na 40\nsub/b 25\n# comment\n")
    return tmp_path / "m.hea"


@pytest.fixture
def variable(tmp_path: Path) -> Path:
    """As MIMIC has them: a layout, a gap, a segment with all leads in another order, a gap, a segment with one lead."""
    write_record(tmp_path, "w_0001", FIRST, ["V5", "II"], 100, gain_per_mV=2000)
    write_record(tmp_path, "w_0002", SECOND[:1], ["ABP"], 100)
    edit(tmp_path / "w_0002.hea", "1000.0(0)/mV", "10(0)/mmHg")
    (tmp_path / "w_layout.hea").write_text("w_layout 3 100 0\n~ 0 1/mV 8 0 0 0 0 II\n~ 0 10/mmHg 8 0 0 0 0 ABP\n~ 0 200/mV 8 0 0 0 0 V5\n")
    (tmp_path / "w.hea").write_text("w/5 3 100 80 10:00:00\nw_layout 0\n~ 5\nw_0001 40\n~ 10\nw_0002 25\n")
    return tmp_path / "w.hea"


def test_fixed_layout(fixed: Path) -> None:
    import wfdb

    read = read_wfdb(fixed)
    np.testing.assert_array_equal(read.signal_LT, np.concatenate([FIRST, SECOND], axis=1).astype(np.float32))
    assert (read.leads, read.fs_hz, read.units) == (("II", "V5"), 100, ("uV", "uV"))
    names = ("m.hea", "a.hea", "a.dat", "sub/b.hea", "sub/b.dat")
    assert read.source_checksum == xxhash.xxh3_128(b"".join((fixed.parent / name).read_bytes() for name in names)).hexdigest()
    (fixed.parent / "sub" / "b.hea").rename(fixed.parent / "b.hea")
    (fixed.parent / "sub" / "b.dat").rename(fixed.parent / "b.dat")
    edit(fixed, "sub/b", "b")  # wfdb-python knows no folders
    np.testing.assert_allclose(wfdb.rdrecord(str(fixed.with_suffix(""))).p_signal.T * 1e3, read.signal_LT, rtol=1e-6)


def test_variable_layout(variable: Path) -> None:
    import wfdb

    read = read_wfdb(variable)
    assert (read.leads, read.units) == (("II", "ABP", "V5"), ("uV", "mmHg", "uV"))
    expected = np.full((3, 80), np.nan, np.float32)
    expected[[2, 0], 5:45] = FIRST
    expected[1, 55:] = SECOND[0] / 10
    np.testing.assert_allclose(read.signal_LT, expected, rtol=1e-6)
    peer = wfdb.rdrecord(str(variable.with_suffix(""))).p_signal.T * [[1e3], [1], [1e3]]
    np.testing.assert_allclose(read.signal_LT, peer, rtol=1e-6)


def test_segments_one_after_the_other(variable: Path) -> None:
    parts = list(read_wfdb_segments(variable))
    assert [(part.start_s, part.leads, part.signal_LT.shape) for part in parts] == [
        (0.05, ("V5", "II"), (2, 40)),
        (0.55, ("ABP",), (1, 25)),
    ]
    assert parts[1].source_checksum == read_wfdb(variable.with_name("w_0002")).source_checksum
    cut = list(read_wfdb_segments(variable, max_samples=15))
    assert [part.start_s for part in cut] == [0.05, 0.2, 0.35, 0.55, 0.7]
    np.testing.assert_array_equal(np.concatenate([part.signal_LT for part in cut[:3]], axis=1), parts[0].signal_LT)
    assert len({part.source_checksum for part in cut}) == 5
    (single,) = read_wfdb_segments(variable.with_name("w_0001"))
    assert (single.start_s, single.source_checksum) == (0, parts[0].source_checksum)


def test_one_bad_segment_does_not_end_the_others(variable: Path) -> None:
    edit(variable.with_name("w_0001.hea"), "2000(0)", "1(0)")
    assert reason_of(variable) == "bad_gain"
    with pytest.raises(RecordError):
        list(read_wfdb_segments(variable))
    faults: list[RecordError] = []
    parts = list(read_wfdb_segments(variable, on_fault=faults.append))
    assert [part.start_s for part in parts] == [0.55]
    assert [(fault.reason, fault.path.name) for fault in faults] == [("bad_gain", "w_0001.hea")]


def test_a_record_of_nothing_but_gaps(variable: Path) -> None:
    variable.write_text("w/2 3 100 7\nw_layout 0\n~ 7\n")
    read = read_wfdb(variable)
    assert read.signal_LT.shape == (3, 7)
    assert np.isnan(read.signal_LT).all()
    assert list(read_wfdb_segments(variable)) == []
    variable.write_text("w/1 3 100 7\n~ 7\n")
    assert reason_of(variable) == "empty"
    assert reason_of(variable.with_name("w_layout")) == "empty"


def test_segments_with_several_samples_a_frame(tmp_path: Path) -> None:
    counts = np.arange(30).astype("<i2")
    for name, form in (("a", "16x3"), ("b", "16x1")):
        n = 10 if name == "a" else 30
        (tmp_path / f"{name}.hea").write_text(f"{name} 1 10 {n}\n{name}.dat {form} 1000/mV 16 0 0 {counts.sum()} 0 II\n")
        (tmp_path / f"{name}.dat").write_bytes(counts.tobytes())
    (tmp_path / "m.hea").write_text("m/2 1 10\na 10\nb 30\n")
    slow, full = read_wfdb(tmp_path / "m"), read_wfdb(tmp_path / "m", full_rate=True)
    np.testing.assert_array_equal(slow.signal_LT[0], [*range(1, 30, 3), *range(30)])
    np.testing.assert_array_equal(full.signal_LT[0], [*range(30), *np.repeat(range(30), 3)])
    assert (slow.fs_hz, full.fs_hz) == (10, 30)


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder / name, old, new)


def link_out(folder: Path) -> None:
    (folder / "up").symlink_to(folder.parent)
    edit(folder / "m.hea", "sub/b", "up/b")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace("m.hea", "a 40", "c 40"), "missing_segment"),
        (lambda folder: (folder / "sub" / "b.dat").unlink(), "missing_signal"),
        (lambda folder: (folder / "sub" / "b.hea").unlink(), "missing_segment"),
        (replace("m.hea", "sub/b", "../b"), "unsafe_path"),
        (replace("m.hea", "sub/b", "sub/../b"), "unsafe_path"),
        (replace("m.hea", "sub/b", "/sub/b"), "unsafe_path"),
        (replace("m.hea", "sub/b", "sub//b"), "unsafe_path"),
        (replace("m.hea", "sub/b", "sub\\b"), "unsafe_path"),
        (link_out, "unsafe_path"),
        (replace("m.hea", "m/2", "m/3"), "bad_header"),
        (replace("m.hea", "m/2", "m/0"), "bad_header"),
        (replace("m.hea", "m/2", "m/x"), "bad_header"),
        (replace("m.hea", "a 40", "a"), "bad_header"),
        (replace("m.hea", "sub/b 25", "sub/b 0"), "bad_header"),
        (replace("m.hea", "a 40", "~ 0"), "bad_header"),
        (replace("m.hea", "m/2 2", "m/2 3"), "bad_header"),
        (replace("m.hea", " 65 ", " 66 "), "length_mismatch"),
        (replace("m.hea", "100 65 10:00:00\na 40", "100\na 39"), "length_mismatch"),
        (replace("sub/b.hea", "b 2 100", "b 2 101"), "sampling_rate"),
        (replace("m.hea", "m/2 2 100", "m/2 2 0"), "sampling_rate"),
        (replace("sub/b.hea", " V5", " V4"), "bad_header"),
        (replace("sub/b.hea", "1000.0(0)/mV", "1000.0(0)/mmHg"), "bad_units"),
        (lambda folder: (folder / "sub" / "b.hea").write_text("b/1 2 100 25\na 25\n"), "bad_header"),
        (replace("a.hea", " 0 V5", "1 0 V5"), "checksum"),
        (lambda folder: (folder / "m.hea").write_text("m/2 2 100\na 0\nsub/b 25\n"), "bad_header"),  # such a first segment is a layout
    ],
)
def test_every_fault_has_its_reason(fixed: Path, change: Callable[[Path], object], reason: str) -> None:
    change(fixed.parent)
    assert reason_of(fixed) == reason


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("w_layout.hea", " V5", " V6", "bad_header"),
        ("w_layout.hea", "10/mmHg", "10/kPa", "bad_units"),
        ("w_layout.hea", "200/mV", "x/mV", "bad_gain"),
        ("w_layout.hea", " V5", " II", "duplicate_leads"),
        ("w.hea", "w_layout 0", "w_other 0", "missing_segment"),
    ],
)
def test_faults_of_layouts(variable: Path, name: str, old: str, new: str, reason: str) -> None:
    edit(variable.with_name(name), old, new)
    assert reason_of(variable) == reason


def test_gaps_cost_a_writer_nothing_and_the_reader_no_memory(variable: Path) -> None:
    variable.write_text("w/3 3 100\nw_layout 0\nw_0001 40\n~ 1000000000000\n")
    assert reason_of(variable) == "too_large"
    assert [part.start_s for part in read_wfdb_segments(variable)] == [0]
    start = time.process_time()
    variable.write_text("w/20000 3 100\n" + "~ 999999999999999999\n" * 20_000)
    assert reason_of(variable) == "empty"
    assert time.process_time() - start < 2


def test_real_record_of_two_segments(shared_data: Path) -> None:
    import wfdb

    header = shared_data / "wfdb-samples" / "multi-segment" / "041s" / "041s.hea"
    read = read_wfdb(header, full_rate=True)
    assert (read.fs_hz, read.signal_LT.shape) == (500, (7, 8000))
    peer = wfdb.rdrecord(str(header.with_suffix("")), smooth_frames=False)
    for lead in range(7):
        own = peer.e_p_signal[lead] * (1e3 if peer.units[lead] == "mV" else 1)
        np.testing.assert_allclose(read.signal_LT[lead], np.repeat(own, 8000 // own.size), rtol=2e-7)
    parts = list(read_wfdb_segments(header, full_rate=True))
    assert [part.start_s for part in parts] == [0, 8]
    np.testing.assert_array_equal(np.concatenate([part.signal_LT for part in parts], axis=1), read.signal_LT)
