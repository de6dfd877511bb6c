"""Annotations against wfdb-python, against bytes nobody meant, and against the records they belong to."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.readers.annotations import SYMBOLS, read_annotations
from assets.record import RecordError

BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")


def reason_of(path: Path, extension: str = "atr") -> str:
    with pytest.raises(RecordError) as caught:
        read_annotations(path, extension)
    return caught.value.reason


def assert_like_peer(path: Path, extension: str) -> None:
    import wfdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = wfdb.rdann(str(path.with_suffix("")), extension)
    ours = read_annotations(path, extension)
    np.testing.assert_array_equal(ours.sample_N, peer.sample)
    assert (list(ours.symbols), ours.fs_hz) == (peer.symbol, peer.fs)
    assert list(ours.notes) == [note.rstrip("\0") for note in peer.aux_note]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A header of 100,000 samples at 250 Hz, and annotations of every kind, one far from the others."""
    import wfdb

    samples = np.array([3, 3, 500, 2000, 2001, 90_000, 99_999, 100_000])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrann(
            "r", "atr", samples, symbol=["+", "N", "V", '"', "p", "N", "~", "/"], aux_note=["(AFIB", "", "", "odd", "", "", "", "even"],
            chan=np.array([0, 0, 1, 1, 0, 0, 0, 0]), subtype=np.array([0, 1, 2, 0, 0, 0, -1, 0]), num=np.array([0, 0, 3, 3, 0, 0, 0, 0]),
            write_dir=str(tmp_path),
        )  # fmt: skip
    (tmp_path / "r.hea").write_text("r 1 250 100000\nr.dat 16 0 0 0 0 0 0 its signal is of no interest\n")
    return tmp_path / "r.hea"


def test_reads_what_was_written(record: Path) -> None:
    for path in (record, record.with_suffix(""), record.with_suffix(".atr")):
        read = read_annotations(path, "atr")
        assert read.sample_N.tolist() == [3, 3, 500, 2000, 2001, 90_000, 99_999, 100_000]
        assert read.sample_N.dtype == np.int64
        assert read.symbols == ("+", "N", "V", '"', "p", "N", "~", "/")
        assert read.notes == ("(AFIB", "", "", "odd", "", "", "", "even")
        assert read.fs_hz == 250
    assert_like_peer(record, "atr")


def words(*pairs: tuple[int, int] | bytes) -> bytes:
    """Byte pairs of (code, number), and bytes as they are."""
    return b"".join(pair if isinstance(pair, bytes) else (pair[0] << 10 | pair[1]).to_bytes(2, "little") for pair in pairs)


def test_rates_and_codes_of_the_file_itself(record: Path) -> None:
    notes = [b"## time resolution: 1000", b"42 CAL Calibration", b"1 X not to be changed"]
    defining = [part for note in notes for part in ((22, 0), (63, len(note)), note + b"\0" * (len(note) % 2))]
    record.with_suffix(".x").write_bytes(words(*defining, (42, 7), (1, 900), (0, 50), (43, 100), b"\0\0"))
    read = read_annotations(record, "x")
    assert (read.symbols, read.sample_N.tolist(), read.fs_hz) == (("CAL", "N", "[43]"), [7, 907, 1057], 1000)
    record.unlink()
    assert read_annotations(record, "x").fs_hz == 1000
    assert reason_of(record) == "missing_header"


def test_no_annotations_at_all(record: Path) -> None:
    record.with_suffix(".x").write_bytes(b"\0\0")
    read = read_annotations(record, "x")
    assert (read.sample_N.shape, read.symbols, read.notes) == ((0,), (), ())


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "truncated"),
        (b"\0", "truncated"),
        (words((1, 5)), "truncated"),
        (words((1, 5), (59, 0), b"\0\0"), "truncated"),
        (words((1, 5), (63, 9), b"(N\0\0"), "truncated"),
        (words((1, 5), (63, 300), b"\0\0"), "truncated"),
        (words((63, 2), b"(N", (1, 5), b"\0\0"), "bad_annotations"),
        (words((55, 5), b"\0\0"), "bad_annotations"),
        (words((1, 5), b"\0\0", (1, 5), b"\0\0"), "bad_annotations"),
        (words((1, 5), (59, 0), b"\xff\xff\xfe\xff", (1, 0), b"\0\0"), "bad_annotations"),
        (words((59, 0), b"\xff\xff\xf0\xff", (1, 5), b"\0\0"), "bad_annotations"),
        (words((59, 0), b"\x02\0\0\0", (1, 5), b"\0\0"), "beyond_record"),
        (b"\0N" + bytes(14), "unsupported_format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 60\n", "lfs_pointer"),
    ],
)
def test_every_fault_has_its_reason(record: Path, raw: bytes, reason: str) -> None:
    record.with_suffix(".atr").write_bytes(raw)
    assert reason_of(record) == reason


def test_faults_around_the_file(record: Path) -> None:
    assert reason_of(record, "qrs") == "absent"
    for extension in ("../r", "a/b", "", "."):
        assert reason_of(record, extension) == "unsafe_path"
    for line, reason in (
        ("s 1 250 100000", "record_name"),
        ("r 1 0 100000", "sampling_rate"),
        ("r 1 250 99999", "beyond_record"),
        ("", "bad_header"),
    ):
        record.write_text(line)
        assert reason_of(record) == reason
    record.write_text("r 1 250")  # no length: nothing to hold the annotations against
    assert read_annotations(record, "atr").sample_N[-1] == 100_000
    with record.with_suffix(".atr").open("r+b") as stream:
        stream.truncate(1 << 40)
    assert reason_of(record) == "too_large"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=80), at=st.floats(0, 1))
def test_bad_bytes_raise_nothing_but_record_error(record: Path, raw: bytes, at: float) -> None:
    sound = record.with_suffix(".atr").read_bytes()
    cut = int(at * len(sound))
    record.with_suffix(".x").write_bytes(sound[:cut] + raw + sound[cut:])
    try:
        read = read_annotations(record, "x")
    except RecordError as error:
        assert error.reason
    else:
        assert len(read.symbols) == len(read.notes) == read.sample_N.size
        assert (np.diff(read.sample_N) >= 0).all()


def test_symbols_are_those_of_wfdb_python() -> None:
    from wfdb.io.annotation import ann_labels

    peer = {label.label_store: label.symbol for label in ann_labels if label.label_store}
    assert {code: symbol for code, symbol in SYMBOLS.items() if not symbol.startswith("[1")} == peer


def test_real_annotations_equal_wfdb_python(shared_data: Path) -> None:
    files = [f for f in shared_data.rglob("*") if f.suffix in (".atr", ".pu1")]
    assert len(files) > 15
    for file in files:
        assert_like_peer(file, file.suffix[1:])


def test_beats_and_rhythms_of_real_records(shared_data: Path) -> None:
    read = [read_annotations(f, "atr") for f in sorted((shared_data / "mitdb").glob("*.hea"))]
    assert sum(symbol in BEATS for annotations in read for symbol in annotations.symbols) == 11_143
    rhythm = read_annotations(shared_data / "cpsc2021" / "data_101_6", "atr")
    assert {"(AFIB", "(N"} <= set(rhythm.notes)
    assert read_annotations(shared_data / "broken" / "missing_signal_file" / "1003", "atr").sample_N.size == 957
