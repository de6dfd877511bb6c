"""Every signal format, frames of several samples, skew, FLAC: against our own encoders and against wfdb-python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.readers import wfdb_files
from assets.readers.wfdb import read_wfdb, read_wfdb_segments
from assets.record import Record, RecordError

BITS = {8: 7, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10}
MICROVOLTS = {"mv": 1e3, "uv": 1.0, "v": 1e6}


def reason_of(path: Path, **options: Any) -> str:
    with pytest.raises(RecordError) as caught:
        read_wfdb(path, **options)
    return caught.value.reason


def encode(fmt: int, counts: Sequence[int]) -> bytes:
    """Samples one after the other as the manual has them, number by number; nothing behind the last."""
    if fmt in (16, 24, 32):
        return b"".join(c.to_bytes(fmt // 8, "little", signed=True) for c in counts)
    if fmt == 61:
        return b"".join(c.to_bytes(2, "big", signed=True) for c in counts)
    if fmt in (80, 160):
        return b"".join((c + (128 if fmt == 80 else 32768)).to_bytes(1 if fmt == 80 else 2, "little") for c in counts)
    out = b""
    size = 2 if fmt == 212 else 3
    for i in range(0, len(counts), size):
        block = list(counts[i : i + size])
        a, b, c = [n & (4095 if fmt == 212 else 1023) for n in [*block, 0, 0][:3]]
        if fmt == 212:
            packed, lengths = bytes((a & 255, a >> 8 | (b >> 8) << 4, b & 255)), (2, 3)
        elif fmt == 310:
            low, high = a << 1 | (c & 31) << 11, b << 1 | (c >> 5) << 11
            packed, lengths = low.to_bytes(2, "little") + high.to_bytes(2, "little"), (2, 4, 4)
        else:
            packed, lengths = (a | b << 10 | c << 20).to_bytes(4, "little"), (2, 3, 4)
        out += packed[: lengths[len(block) - 1]]
    return out


def write(
    folder: Path,
    fmt: int,
    counts_FW: np.ndarray,
    per_frame: Sequence[int],
    skew: Sequence[int] = (),
    length: bool = True,
    padding: bytes = b"",
) -> Path:
    """A record `x` of leads a, b, ... with checksums; 200 counts a millivolt, baseline 3."""
    edges = np.cumsum([0, *per_frame])
    counts_FW = counts_FW.astype(np.int64)
    flat = counts_FW.reshape(-1)
    data, first = b"", counts_FW[0, edges[:-1]]
    if fmt == 8:
        steps_FW = np.empty_like(counts_FW)
        for start, stop in pairwise(edges):
            own = counts_FW[:, start:stop].reshape(-1)
            steps_FW[:, start:stop] = np.diff(own, prepend=own[0]).reshape(-1, stop - start)
        data = steps_FW.astype(np.int8).tobytes()
    else:
        data = encode(fmt, flat.tolist())
    lines = [f"x {len(per_frame)} 50" + (f" {len(counts_FW)}" if length else "")]
    for i, n in enumerate(per_frame):
        total = int(counts_FW[:, edges[i] : edges[i + 1]].sum()) & 0xFFFF
        colon = f":{skew[i]}" if skew and skew[i] else ""
        lines.append(f"x.dat {fmt}x{n}{colon}+5 200(3)/mV 12 0 {first[i]} {total} 0 {chr(97 + i)}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.hea").write_text("\n".join(lines) + "\n")
    (folder / "x.dat").write_bytes(b"12345" + data + padding)
    return folder / "x.hea"


def random_counts(fmt: int, shape: tuple[int, int]) -> np.ndarray:
    """Counts over the whole range of a format, with missing samples in some places."""
    rng = np.random.default_rng(fmt)
    half = 1 << (BITS[fmt] - 1)
    if fmt == 8:
        return rng.integers(-60, 60, shape)  # differences fit eight bits
    counts = rng.integers(-half + 1, half, shape)
    counts[rng.random(shape) < 0.05] = -half
    return counts


def joined(parts: Sequence[Record]) -> np.ndarray:
    return np.concatenate([part.signal_LT for part in parts], axis=1)


@pytest.mark.parametrize("n_leads", [1, 2, 3])
@pytest.mark.parametrize("fmt", sorted(BITS))
def test_every_format_whole_and_in_parts(tmp_path: Path, fmt: int, n_leads: int) -> None:
    import wfdb

    counts_TL = random_counts(fmt, (101, n_leads))
    header = write(tmp_path, fmt, counts_TL, [1] * n_leads)
    read = read_wfdb(header)
    expected_LT = ((counts_TL.T - 3) / 200 * 1000).astype(np.float32)
    if fmt != 8:
        expected_LT[np.equal(counts_TL.T, -(1 << (BITS[fmt] - 1)))] = np.nan
    np.testing.assert_allclose(read.signal_LT, expected_LT, rtol=2e-7)
    np.testing.assert_allclose(read.signal_LT, wfdb.rdrecord(str(header.with_suffix(""))).p_signal.T * 1e3, rtol=2e-7)
    for size in (7, 100):
        parts = list(read_wfdb_segments(header, max_samples=size))
        assert [part.start_s for part in parts] == [k / 50 for k in range(0, 101, size)]
        np.testing.assert_array_equal(joined(parts), read.signal_LT)
    header = write(tmp_path, fmt, counts_TL[:99], [1] * n_leads, length=False)  # of 101 samples, format 310 would show 102
    np.testing.assert_array_equal(read_wfdb(header).signal_LT, read.signal_LT[:, :99])


@pytest.mark.parametrize("fmt", sorted(BITS))
def test_a_file_of_every_format_must_have_its_length(tmp_path: Path, fmt: int) -> None:
    header = write(tmp_path, fmt, random_counts(fmt, (101, 1)), [1])
    data = header.with_suffix(".dat")
    sound = data.read_bytes()
    data.write_bytes(sound[:-1])
    assert reason_of(header) == "truncated"
    data.write_bytes(sound + b"\0" * 3)
    assert reason_of(header) == "length_mismatch"
    flipped = bytearray(sound)
    flipped[5] ^= 4
    data.write_bytes(flipped)
    assert reason_of(header) == "checksum"


@pytest.mark.parametrize(("fmt", "fill"), [(212, b"\0"), (310, b"\0\0"), (311, b"\0\0")])
def test_a_last_block_may_be_filled(tmp_path: Path, fmt: int, fill: bytes) -> None:
    counts = random_counts(fmt, (103, 1))
    read = read_wfdb(write(tmp_path, fmt, counts, [1], padding=fill))
    assert read.signal_LT.shape == (1, 103)
    counts = random_counts(fmt, (37, 7))  # of a length that is left open, what fills the block makes no whole frame
    assert read_wfdb(write(tmp_path, fmt, counts, [1] * 7, length=False, padding=fill)).signal_LT.shape == (7, 37)


def test_a_file_may_be_filled_up_to_its_block_size(tmp_path: Path) -> None:
    header = write(tmp_path, 16, random_counts(16, (10, 1)), [1], padding=b"\0" * 39)
    assert reason_of(header) == "length_mismatch"
    header.write_text(header.read_text().replace(" 0 a", " 64 a"))
    assert read_wfdb(header).signal_LT.shape == (1, 10)


@pytest.mark.parametrize("fmt", [8, 16, 212, 310])
def test_frames_are_averaged_or_kept(tmp_path: Path, fmt: int) -> None:
    import wfdb

    per_frame, skew = [4, 1, 2], [0, 3, 2]
    counts_FW = random_counts(fmt, (60, 7))
    header = write(tmp_path, fmt, counts_FW, per_frame)
    slow, full = read_wfdb(header), read_wfdb(header, full_rate=True)
    assert (slow.fs_hz, full.fs_hz) == (50, 200)
    assert (slow.signal_LT.shape, full.signal_LT.shape) == ((3, 60), (3, 240))
    peer = wfdb.rdrecord(str(header.with_suffix("")), smooth_frames=False)
    for lead, n in enumerate(per_frame):
        own = peer.e_p_signal[lead].reshape(60, n) * 1e3
        np.testing.assert_allclose(slow.signal_LT[lead], own.mean(axis=1), rtol=1e-6, atol=1e-3)
        np.testing.assert_allclose(full.signal_LT[lead], np.repeat(own, 4 // n, axis=1).reshape(-1), rtol=2e-7)
    np.testing.assert_array_equal(joined(list(read_wfdb_segments(header, 28, full_rate=True))), full.signal_LT)
    header = write(tmp_path, fmt, counts_FW, per_frame, skew)
    skewed = read_wfdb(header, full_rate=True).signal_LT  # checksums hold: they are over samples in front of the record, too
    np.testing.assert_array_equal(skewed[0], full.signal_LT[0])
    np.testing.assert_array_equal(skewed[1, :-12], full.signal_LT[1, 12:])
    np.testing.assert_array_equal(skewed[2, :-4], full.signal_LT[2, 4:])
    assert np.isnan(skewed[1, -12:]).all()
    assert np.isnan(skewed[2, -4:]).all()
    np.testing.assert_array_equal(joined(list(read_wfdb_segments(header, 12, full_rate=True))), skewed)


def write_flac(folder: Path, fmt: str, counts: list[np.ndarray], per_frame: int) -> Path:
    import wfdb

    wfdb.wrsamp(
        "f", fs=50, units=["mV"] * len(counts), sig_name=[chr(97 + i) for i in range(len(counts))], e_d_signal=counts, fmt=[fmt] * len(counts),
        adc_gain=[200.0] * len(counts), baseline=[0] * len(counts), samps_per_frame=[per_frame] * len(counts), write_dir=str(folder),
    )  # fmt: skip
    return folder / "f.hea"


@pytest.mark.parametrize("per_frame", [1, 2])
@pytest.mark.parametrize(("fmt", "bits"), [("508", 8), ("516", 16), ("524", 24)])
def test_flac(tmp_path: Path, fmt: str, bits: int, per_frame: int) -> None:
    half = 1 << (bits - 1)
    rng = np.random.default_rng(bits)
    counts = [rng.integers(-half + 1, half, 400) for _ in range(3)]
    counts[1][5:7] = -half
    header = write_flac(tmp_path, fmt, counts, per_frame)
    expected = np.array(counts, np.float64) * 5
    expected[1, 5:7] = np.nan
    read = read_wfdb(header, full_rate=True)
    np.testing.assert_array_equal(read.signal_LT, expected.astype(np.float32))
    np.testing.assert_allclose(
        read_wfdb(header).signal_LT, expected.reshape(3, -1, per_frame).mean(axis=2).astype(np.float32), rtol=1e-6, atol=0.01
    )
    np.testing.assert_array_equal(joined(list(read_wfdb_segments(header, 90, full_rate=True))), read.signal_LT)
    header.write_text(header.read_text().replace(f" {400 // per_frame}\n", "\n", 1))
    np.testing.assert_array_equal(read_wfdb(header, full_rate=True).signal_LT, read.signal_LT)


def test_faults_of_flac_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    header = write_flac(tmp_path, "516", [rng.integers(-100, 100, 9000) for _ in range(2)], 1)
    data, text = header.with_suffix(".dat"), header.read_text()
    sound = data.read_bytes()
    for written, reason in ((text.replace(" 9000", " 9001"), "truncated"), (text.replace(" 9000", " 8999"), "length_mismatch")):
        header.write_text(written)
        assert reason_of(header) == reason
    header.write_text("\n".join(text.replace("f 2 ", "f 1 ").splitlines()[:2]))
    assert reason_of(header) == "bad_signal_file"
    header.write_text(text.replace(" 516x", " 508x"))
    assert reason_of(header) == "bad_signal_file"
    header.write_text(text)
    for broken in (b"", b"RIFF" + sound[4:], sound[:20], b"fLaC" + bytes(200)):
        data.write_bytes(broken)
        assert reason_of(header) == "bad_signal_file"
    data.write_bytes(sound[: len(sound) // 2])
    assert reason_of(header) in ("truncated", "bad_signal_file")


def test_silence_that_is_compressed_does_not_fill_the_memory(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "s.dat", np.zeros(3_000_000, np.int16), 96000, "PCM_16", format="FLAC")
    lines = ["s 30 250 3000000"]
    for i in range(30):
        os.link(tmp_path / "s.dat", tmp_path / f"s{i}.dat")
        lines.append(f"s{i}.dat 516 200/mV 16 0 0 0 0 lead{i}")
    (tmp_path / "s.hea").write_text("\n".join(lines))
    assert reason_of(tmp_path / "s.hea") == "too_large"
    part = next(read_wfdb_segments(tmp_path / "s.hea", max_samples=1000))
    assert part.signal_LT.shape == (30, 1000)
    (tmp_path / "x.dat").write_bytes(bytes(19_999))
    names = [f"x.dat 8x{9999 if i == 0 else 1}" for i in range(10_001)]
    (tmp_path / "x.hea").write_text("\n".join(["x 10001 1 1", *[f"{name} 200/mV 8 0 0 0 0 a{i}" for i, name in enumerate(names)]]))
    assert reason_of(tmp_path / "x.hea", full_rate=True) == "too_large"


def test_a_part_of_a_long_file_is_all_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = write(tmp_path, 212, random_counts(212, (40_000, 2)), [1, 1])
    sizes = []
    read = wfdb_files.read
    monkeypatch.setattr(wfdb_files, "read", lambda path, start, size, room=0: (sizes.append(size), read(path, start, size, room))[1])
    assert sum(part.signal_LT.shape[1] for part in read_wfdb_segments(header, max_samples=1000)) == 40_000
    assert max(sizes) <= 3003


def test_a_checksum_of_parts_is_known_at_the_end(tmp_path: Path) -> None:
    header = write(tmp_path, 16, random_counts(16, (100, 2)), [1, 1])
    header.write_text(header.read_text().replace(" 0 b", "1 0 b"))
    seen = []
    with pytest.raises(RecordError) as caught:
        seen.extend(part.start_s for part in read_wfdb_segments(header, max_samples=30))
    assert caught.value.reason == "checksum"
    with pytest.raises(RecordError):
        next(read_wfdb_segments(header))
    with pytest.raises(ValueError, match="0 samples"):
        next(read_wfdb_segments(header, max_samples=0))


def test_links_and_pipes(tmp_path: Path) -> None:
    header = write(tmp_path / "in", 16, random_counts(16, (10, 1)), [1])
    data = header.with_suffix(".dat")
    data.rename(tmp_path / "in" / "y.dat")
    data.symlink_to("y.dat")
    assert read_wfdb(header).signal_LT.shape == (1, 10)
    (tmp_path / "in" / "y.dat").rename(tmp_path / "y.dat")
    data.unlink()
    data.symlink_to("../y.dat")
    assert reason_of(header) == "unsafe_path"
    data.unlink()
    data.symlink_to("x.dat")
    assert reason_of(header) == "unreadable"
    data.unlink()
    os.mkfifo(data)
    assert reason_of(header) == "missing_signal"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.hea").symlink_to(header)
    assert reason_of(tmp_path / "out" / "x.hea") == "unsafe_path"
    os.mkfifo(tmp_path / "out" / "z.hea")
    assert reason_of(tmp_path / "out" / "z.hea") == "bad_header"


HEADERS = {
    "comments, counter, time, date, no checksums": (
        ["# first", "x 3 50.0/100(7) 10 10:11:12 1/2/2003", "x.dat 16+5 200(3)/mv 16 0 1    AVF", "x.dat 16+5 200(3) 12 0   aVL", "x.dat 16x1+5 2e2(3)/mV 3rd", "#Age: 3"],
        ("aVF", "aVL", "3rd"),
    ),
    "blank line, tabs, skew of 0, zero for baseline, names of words": (
        ["x 3 50 10", "", "x.dat\t16+5\t200.(3)/mV\t16\t0\tI", "  x.dat 16:0+5 +200(+3)/mV ECG  1", "x.dat 16x0+5 200/mV 12 3 9 Resp.  Imp. "],
        ("I", "ECG 1", "Resp. Imp."),
    ),
    "no length, placeholders for checksums": (
        ["x 3 50 0", "x.dat 16+5 200(3)/mV 12 0 0 0 0 \u0435", "x.dat 16+5 200(3)/mV 12 0 0 0 0 b", "x.dat 16+5 200(3)/mV 12 0 0 0 0 c"],
        ("\u0435", "b", "c"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", HEADERS)
def test_headers_as_they_occur(tmp_path: Path, form: str, end: str) -> None:
    header = write(tmp_path, 16, random_counts(16, (10, 3)), [1] * 3)
    expected = read_wfdb(header).signal_LT
    lines, leads = HEADERS[form]
    header.write_bytes(end.join(lines).encode())
    read = read_wfdb(header)
    assert read.leads == leads
    np.testing.assert_array_equal(read.signal_LT, expected)


def test_what_is_remembered_of_headers_changes_nothing(tmp_path: Path) -> None:
    header = write(tmp_path, 16, random_counts(16, (10, 2)), [1, 1])
    sound = header.read_text()
    assert read_wfdb(header).leads == ("a", "b")
    strange = sound.replace(" 12 0 ", " 12 0 z ", 1)
    for _ in range(2):
        header.write_text(strange)
        assert read_wfdb(header).leads[0].startswith("z ")
        header.write_text(sound)
        assert read_wfdb(header).leads == ("a", "b")
    (tmp_path / "y.dat").write_bytes(b"12345" + bytes(20))
    for other in ("y.dat", "../x.dat", "~"):
        header.write_text(sound.replace("x.dat", other, 1))
        with pytest.raises(RecordError):
            read_wfdb(header)


def test_importing_the_reader_is_light() -> None:
    code = "import sys, assets.readers.wfdb, assets.readers.annotations; print({'numba', 'pandas', 'wfdb', 'soundfile'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == "set()"


REAL = ("wfdb-samples", "mitdb", "qtdb", "cpsc2021", "challenge2025")


@pytest.mark.parametrize("folder", REAL)
def test_real_records_equal_wfdb_python(shared_data: Path, folder: str) -> None:
    import wfdb

    headers = sorted((shared_data / folder).rglob("*.hea"))[:: 20 if folder == "challenge2025" else 2 if folder == "mitdb" else 1]
    assert headers
    for header in headers:
        slow, full = read_wfdb(header), read_wfdb(header, full_rate=True)
        peer = wfdb.rdrecord(str(header.with_suffix("")), smooth_frames=False)
        fastest = max(peer.samps_per_frame)
        assert (slow.fs_hz, full.fs_hz) == (peer.fs, peer.fs * fastest)
        assert [lead.lower() for lead in slow.leads] == [lead.lower() for lead in peer.sig_name]
        for lead, n in enumerate(peer.samps_per_frame):
            own = peer.e_p_signal[lead].reshape(-1, n) * MICROVOLTS.get(peer.units[lead].lower(), 1.0)
            np.testing.assert_allclose(slow.signal_LT[lead], own.mean(axis=1), rtol=1e-6, atol=1e-3)
            np.testing.assert_allclose(full.signal_LT[lead], own[:, np.arange(fastest) * n // fastest].reshape(-1), rtol=2e-7)


def test_averages_are_those_of_wfdb_python_up_to_its_rounding(shared_data: Path) -> None:
    import wfdb

    header = shared_data / "wfdb-samples" / "03700181.hea"
    peer = wfdb.rdrecord(str(header.with_suffix("")))
    read = read_wfdb(header)
    count_uV = 1e3 / 2963.77  # wfdb-python cuts averages to whole counts
    assert np.abs(read.signal_LT[0] - peer.p_signal[:, 0] * 1e3).max() < count_uV
    np.testing.assert_allclose(read.signal_LT[1], peer.p_signal[:, 1], rtol=1e-6)
    assert read.units == ("uV", "mmHg", "uV")
