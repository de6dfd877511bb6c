"""The WFDB reader against wfdb-python, against every broken record we know, and against bytes nobody meant."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.readers import read_record
from assets.readers.wfdb_write import write_record
from assets.record import Record, RecordError
from models.types import LEADS

SIGNAL_UV_LT = np.rint(np.random.default_rng(7).normal(0, 400, (12, 250)))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Header of a sound record of 12 leads, 250 samples at 100 Hz."""
    write_record(tmp_path, "r1", SIGNAL_UV_LT, [lead.upper() for lead in LEADS], 100)
    return tmp_path / "r1.hea"


def reason_of(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert str(caught.value.path) in str(caught.value)
    return caught.value.reason


def edit(path: Path, change: Callable[[list[str]], object]) -> None:
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def replace(old: str, new: str) -> Callable[[list[str]], object]:
    def change(lines: list[str]) -> None:
        lines[1] = lines[1].replace(old, new, 1)

    return change


def peer(path: Path) -> Record:
    """The record as wfdb-python reads it, in microvolts."""
    import wfdb

    read = wfdb.rdrecord(str(path.with_suffix("")))
    factor = {"mv": 1e3, "uv": 1.0, "v": 1e6}
    scale = np.array([factor.get(unit.lower(), 1.0) for unit in read.units])
    return Record((read.p_signal * scale).T.astype(np.float32), tuple(read.sig_name), float(read.fs), tuple(read.units), "")


def assert_like_peer(path: Path) -> None:
    ours, theirs = read_record(path), peer(path)
    assert ours.fs_hz == theirs.fs_hz
    assert tuple(lead.lower() for lead in ours.leads) == tuple(lead.lower() for lead in theirs.leads)
    np.testing.assert_array_equal(ours.signal_LT, theirs.signal_LT)


def test_reads_what_was_written(record: Path) -> None:
    read = read_record(record)
    np.testing.assert_array_equal(read.signal_LT, SIGNAL_UV_LT.astype(np.float32))
    assert read.leads == LEADS
    assert read.units == ("uV",) * 12
    assert read.signal_LT.dtype == np.float32
    both = record.read_bytes() + record.with_suffix(".dat").read_bytes()
    assert read.source_checksum == xxhash.xxh3_128(both).hexdigest()


@pytest.mark.parametrize("name", ["r1.hea", "r1.dat", "r1"])
def test_takes_header_data_file_or_stem(record: Path, name: str) -> None:
    assert read_record(record.with_name(name)).signal_LT.shape == (12, 250)


def test_equals_wfdb_python_on_our_files(record: Path) -> None:
    assert_like_peer(record)


def test_equals_wfdb_python_on_its_own_files(tmp_path: Path) -> None:
    import wfdb

    signal = np.random.default_rng(1).normal(0, 1, (300, 3))
    signal[10:20, 1] = np.nan
    wfdb.wrsamp(
        "peer", fs=360, units=["mV", "uV", "mV"], sig_name=["II", "V1", "x"], p_signal=signal, fmt=["16"] * 3, write_dir=str(tmp_path)
    )
    ours, theirs = read_record(tmp_path / "peer.hea"), peer(tmp_path / "peer.hea")
    assert np.isnan(ours.signal_LT[1, 10:20]).all()
    assert np.isfinite(ours.signal_LT).sum() == 890
    np.testing.assert_allclose(ours.signal_LT, theirs.signal_LT, rtol=1e-6)


def test_equals_wfdb_python_on_real_records(shared_data: Path) -> None:
    headers = sorted((shared_data / "ptb-xl").rglob("*.hea"))[::60] + sorted((shared_data / "cinc2021").rglob("*.hea"))[::4]
    assert len(headers) > 90
    for header in headers:
        assert_like_peer(header)


@pytest.mark.parametrize(("unit", "microvolts"), [("mV", 1000.0), ("uV", 1.0), ("µV", 1.0), ("mv", 1000.0)])
def test_units_become_microvolts(record: Path, unit: str, microvolts: float) -> None:
    edit(record, replace("/mV", f"/{unit}"))
    np.testing.assert_allclose(read_record(record).signal_LT[0], SIGNAL_UV_LT[0] * microvolts / 1000, rtol=1e-6)


def test_volts_and_other_quantities(record: Path) -> None:
    edit(record, replace("1000.0(0)/mV", "1e6(0)/V"))
    np.testing.assert_array_equal(read_record(record).signal_LT[0], SIGNAL_UV_LT[0].astype(np.float32))
    edit(record, replace("1e6(0)/V", "10(0)/mmHg"))
    read = read_record(record)
    assert read.units[0] == "mmHg"
    np.testing.assert_allclose(read.signal_LT[0], SIGNAL_UV_LT[0] / 10, rtol=1e-6)


def test_baseline_is_taken_off_and_defaults_to_the_zero_level(record: Path) -> None:
    edit(record, replace("1000.0(0)/mV 16 0", "1000.0(-50)/mV 16 9"))
    np.testing.assert_array_equal(read_record(record).signal_LT[0], (SIGNAL_UV_LT[0] + 50).astype(np.float32))
    edit(record, replace("1000.0(-50)/mV 16 9", "1000.0/mV 16 9"))
    np.testing.assert_array_equal(read_record(record).signal_LT[0], (SIGNAL_UV_LT[0] - 9).astype(np.float32))


def test_missing_sample_is_nan(tmp_path: Path) -> None:
    signal = SIGNAL_UV_LT.copy()
    signal[3, 17] = np.nan
    write_record(tmp_path, "gap", signal, LEADS, 100)
    missing = np.isnan(read_record(tmp_path / "gap").signal_LT)
    assert missing.sum() == 1
    assert missing[3, 17]


@pytest.mark.parametrize("form", ["16+24", "16x1+24"])
def test_byte_offset_of_mat_files(record: Path, form: str) -> None:
    data = record.with_suffix(".dat")
    data.with_suffix(".mat").write_bytes(b"\0" * 24 + data.read_bytes())
    data.unlink()
    record.write_text(record.read_text().replace(".dat 16 ", f".mat {form} "))
    np.testing.assert_array_equal(read_record(record).signal_LT, SIGNAL_UV_LT.astype(np.float32))


def test_signals_in_several_files(tmp_path: Path) -> None:
    write_record(tmp_path, "a", SIGNAL_UV_LT[:2], ["I", "II"], 100)
    write_record(tmp_path, "b", SIGNAL_UV_LT[2:5], ["vx", "vy", "vz"], 100)
    lines = (tmp_path / "a.hea").read_text().splitlines()[1:] + (tmp_path / "b.hea").read_text().splitlines()[1:]
    (tmp_path / "ab.hea").write_text("\n".join(["ab 5 100 250", *lines]))
    read = read_record(tmp_path / "ab")
    assert read.leads == ("I", "II", "vx", "vy", "vz")
    np.testing.assert_array_equal(read.signal_LT, SIGNAL_UV_LT[:5].astype(np.float32))
    (tmp_path / "ab.hea").write_text("\n".join(["ab 5 100 250", lines[0], lines[2], lines[1], *lines[3:]]))
    assert reason_of(tmp_path / "ab") == "bad_header"


def test_header_may_leave_out_length_checksums_and_hold_comments(record: Path) -> None:
    def change(lines: list[str]) -> None:
        lines[0] = "r1 12 100"
        lines[1:] = [f"r1.dat 16 1000.0(0)/mV 16 0    {lead}" for lead in LEADS]
        lines.insert(1, "# comment")
        lines.append("#Dx: ")

    edit(record, change)
    np.testing.assert_array_equal(read_record(record).signal_LT, SIGNAL_UV_LT.astype(np.float32))


def set_first_line(text: str) -> Callable[[list[str]], object]:
    return lambda lines: lines.__setitem__(0, text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace("1000.0(0)", "0(0)"), "zero_gain"),
        (replace("1000.0(0)", "1(1)"), "bad_gain"),
        (replace("1000.0(0)", "-200(0)"), "bad_gain"),
        (replace("1000.0(0)", "nan(0)"), "bad_gain"),
        (replace("1000.0(0)", "1e-300"), "bad_gain"),
        (replace("/mV", "/kV"), "bad_units"),
        (replace("/mV", "/MV"), "bad_units"),
        (replace(".dat 16 ", ".dat 99 "), "unsupported_format"),
        (replace(".dat 16 ", ".dat 212 "), "bad_header"),
        (replace(".dat 16 ", ".dat 16+24 "), "bad_header"),
        (replace(".dat 16 ", ".dat 16x2 "), "truncated"),
        (replace(".dat 16 ", ".dat x "), "bad_header"),
        (replace("r1.dat", "../r1.dat"), "unsafe_path"),
        (replace("r1.dat", "/etc/passwd"), "unsafe_path"),
        (replace("r1.dat", ".."), "unsafe_path"),
        (replace("r1.dat", "-"), "unsafe_path"),
        (replace(" 0 I", " 0"), "unnamed_lead"),
        (replace(" 0 I", " 0 avf"), "duplicate_leads"),
        (set_first_line("r1 12"), "sampling_rate"),
        (set_first_line("r1 12 0 250"), "sampling_rate"),
        (set_first_line("r1 12 nan 250"), "sampling_rate"),
        (set_first_line("r1 13 100 250"), "bad_header"),
        (set_first_line("r1"), "bad_header"),
        (set_first_line("r1 12 100 many"), "bad_header"),
        (set_first_line("r1 0 100 250"), "empty"),
        (set_first_line("r1 12 1e9 250"), "sampling_rate"),
        (set_first_line("r1/2 12 100 250"), "bad_header"),
        (replace("r1.dat", "~"), "unsupported_format"),
        (replace(" 0 I", " 9999999 I"), "bad_header"),
        (set_first_line("other 12 100 250"), "record_name"),
        (set_first_line("r1 12 100 251"), "truncated"),
        (set_first_line("r1 12 100 1000000000000"), "truncated"),
        (set_first_line("r1 12 100 249"), "length_mismatch"),
        (lambda lines: lines.clear(), "bad_header"),
    ],
)
def test_every_fault_of_a_header_has_its_reason(record: Path, change: Callable[[list[str]], object], reason: str) -> None:
    edit(record, change)
    assert reason_of(record) == reason


def test_faults_of_the_data_file(record: Path) -> None:
    data = record.with_suffix(".dat")
    sound = data.read_bytes()
    data.write_bytes(sound[:-100])
    assert reason_of(record) == "truncated"
    data.write_bytes(b"")
    assert reason_of(record) == "truncated"
    flipped = bytearray(sound)
    flipped[1234] ^= 0x10
    data.write_bytes(flipped)
    with pytest.raises(RecordError, match=r"samples of aVF do not add up") as caught:
        read_record(record)
    assert caught.value.reason == "checksum"
    data.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 6000\n")
    assert reason_of(record) == "lfs_pointer"
    data.unlink()
    assert reason_of(record) == "missing_signal"
    data.mkdir()
    assert reason_of(record) == "missing_signal"


def test_no_length_and_no_whole_frame_or_no_sample(record: Path) -> None:
    edit(record, lambda lines: [lines.__setitem__(0, "r1 12 100")])
    data = record.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:-2])
    assert reason_of(record) == "truncated"
    data.write_bytes(b"")
    assert reason_of(record) == "empty"


def test_absent_record_and_absent_header(record: Path) -> None:
    assert reason_of(record.with_name("r2")) == "absent"
    assert reason_of(record.with_name("r2.hea")) == "absent"
    record.unlink()
    assert reason_of(record) == "missing_header"


def test_a_huge_data_file_is_not_read(record: Path) -> None:
    with record.with_suffix(".dat").open("r+b") as stream:
        stream.truncate(1 << 42)
    assert reason_of(record) == "length_mismatch"
    with record.open("r+b") as stream:
        stream.truncate(1 << 42)
    assert reason_of(record) == "bad_header"


BROKEN = {
    "lfs_pointer/00001_hr": "lfs_pointer",
    "header_only/00841_hr": "missing_signal",
    "missing_signal_file/1003": "missing_signal",
    "no_length/100-no-len": "missing_signal",
    "unlabelled/A0002": "missing_signal",
    "unlabelled/Q0001": "missing_signal",
    "label_conflict/JS20005.a": "record_name",
    "label_conflict/JS20005.b": "record_name",
    "zero_gain/9190_all_data_is_zero": "bad_gain",
}


def test_every_broken_record_has_its_reason(shared_data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shared_data / "broken", tmp_path / "broken")
    headers = {h.relative_to(folder).with_name(h.stem).as_posix() for h in folder.rglob("*.hea")}
    assert headers == set(BROKEN) | {"record_name_with_extension/E00015"}
    assert {name: reason_of(folder / f"{name}.hea") for name in BROKEN} == BROKEN


def test_record_name_with_extension_is_read(shared_data: Path) -> None:
    from scipy.io import loadmat

    path = shared_data / "broken" / "record_name_with_extension" / "E00015.mat"
    read = read_record(path)
    assert read.leads == LEADS
    np.testing.assert_allclose(read.signal_LT, loadmat(path)["val"] * (1000 / 4880), rtol=1e-6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 8), st.one_of(st.binary(max_size=6), st.text("0123456789+-:/.()xeEmVI #\n", max_size=8))),
        max_size=4,
    ),
    data=st.one_of(st.none(), st.binary(max_size=64)),
)
def test_bad_bytes_raise_nothing_but_record_error(record: Path, cuts: list[tuple[float, int, bytes | str]], data: bytes | None) -> None:
    folder = record.parent / "fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    raw = record.read_bytes()
    for where, length, new in cuts:
        at = int(where * len(raw))
        raw = raw[:at] + (new.encode() if isinstance(new, str) else new) + raw[at + length :]
    (folder / "r1.hea").write_bytes(raw)
    (folder / "r1.dat").write_bytes(record.with_suffix(".dat").read_bytes() if data is None else data)
    try:
        read = read_record(folder / "r1.hea")
    except RecordError as error:
        assert error.reason
    else:
        assert read.signal_LT.size <= 12 * 250
        assert not np.isinf(read.signal_LT).any()


def test_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16 bits"):
        write_record(tmp_path, "x", np.full((1, 5), 40_000.0), ["I"], 100)
    with pytest.raises(ValueError, match="does not fit 2 leads"):
        write_record(tmp_path, "x", np.zeros((3, 5)), ["I", "II"], 100)
