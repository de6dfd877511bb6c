"""SCP-ECG: every way of packing gives back the samples, and every damage is noticed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from assets.readers import read_record
from assets.record import RecordError
from tests.fuzz.encoders import PATIENT, SCP_CODES, scp, scp_file, scp_packed, scp_repaired

RNG = np.random.default_rng(7)
# Small steps, large steps and jumps, so that every kind of code is used.
COUNTS = {name: np.cumsum(RNG.choice([-200, -9, -8, -3, 0, 0, 0, 1, 8, 9, 127, 128], 300)) for name in SCP_CODES}


def reason_of(folder: Path, data: bytes) -> str:
    (folder / "a.scp").write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_record(folder / "a.scp")
    assert PATIENT not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_samples_come_back(tmp_path: Path, packed: bool, order: int) -> None:
    (tmp_path / "a.scp").write_bytes(scp(COUNTS, packed=packed, order=order))
    record = read_record(tmp_path / "a.scp")
    np.testing.assert_array_equal(record.signal_LT, np.stack(list(COUNTS.values())) * np.float32(2.5))
    assert (record.leads, record.fs_hz, record.units) == (tuple(SCP_CODES), 500.0, ("uV",) * 12)
    assert record.signal_LT.flags.c_contiguous


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_shortest_recordings_are_read(tmp_path: Path, n: int) -> None:
    (tmp_path / "a.scp").write_bytes(scp({"I": COUNTS["I"][:n]}))
    np.testing.assert_array_equal(read_record(tmp_path / "a.scp").signal_LT[0], COUNTS["I"][:n] * np.float32(2.5))


def test_codes_are_those_of_the_default_table() -> None:
    """From the table of EN 1064: 0, 100, 101, 1100, 1101, ..., 8 ones with 0 and sign, then prefixes of ten bits."""
    assert scp_packed([0, 1, -1, 2, -2]) == bytes([0b01001011, 0b10011010])
    assert scp_packed([9]) == bytes([0b11111111, 0b10000010, 0b01000000])
    assert scp_packed([-300]) == bytes([0b11111111, 0b11111111, 0b10110101, 0b00000000])


@pytest.mark.parametrize(
    ("interval_us", "fs_hz"), [(2000, 500.0), (1667, 600.0), (4000, 250.0), (1000, 1000.0), (33333, 30.0), (65535, 1e6 / 65535)]
)
def test_rates_are_whole_where_the_interval_is_rounded(tmp_path: Path, interval_us: int, fs_hz: float) -> None:
    (tmp_path / "a.scp").write_bytes(scp({"I": COUNTS["I"]}, interval_us=interval_us))
    assert read_record(tmp_path / "a.scp").fs_hz == fs_hz


def test_leads_may_begin_at_sample_0(tmp_path: Path) -> None:
    (tmp_path / "a.scp").write_bytes(scp(COUNTS, packed=False, order=0, start=0))
    assert read_record(tmp_path / "a.scp").signal_LT.shape == (12, 300)


SOUND = scp(COUNTS)
LEAD = {"I": COUNTS["I"]}


def damaged(position: int) -> bytes:
    return SOUND[:position] + bytes([SOUND[position] ^ 255]) + SOUND[position + 1 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SOUND[:-1], "truncated"),
        (SOUND + b"\0", "length_mismatch"),
        (damaged(0), "checksum"),
        (damaged(len(SOUND) - 3), "checksum"),
        (scp(LEAD, flags=5), "unsupported_format"),
        (scp(LEAD, bimodal=1), "unsupported_format"),
        (scp(LEAD, table=1), "unsupported_format"),
        (scp(LEAD, interval_us=0), "sampling_rate"),
        (scp(LEAD, nV=0), "zero_gain"),
        (scp(LEAD, end=299), "length_mismatch"),
        (scp(LEAD, end=400), "truncated"),
        (scp(LEAD, end=4_000_000_000), "truncated"),
        (scp(LEAD, end=0), "bad_header"),
        (scp(LEAD, packed=False, order=0, end=301), "truncated"),
        (scp(LEAD, packed=False, order=0, end=299), "length_mismatch"),
        (scp({"unknown": COUNTS["I"]}), "unnamed_lead"),
        (scp(LEAD, sections={3: b"\0\0"}), "no_signals"),
        (scp(LEAD, sections={3: b"\x05\x2c" + bytes(9)}), "truncated"),
        (scp(LEAD, sections={3: b"\x02\x14" + struct.pack("<IIBIIB", 1, 300, 1, 2, 300, 2)}), "length_mismatch"),
        (scp(LEAD, sections={3: b"\x02\x14" + struct.pack("<IIBIIB", 1, 300, 1, 1, 300, 1)}), "duplicate_leads"),
        (scp(LEAD, sections={6: b"\0\0"}), "truncated"),
        (scp(LEAD, sections={6: struct.pack("<HHBBH", 2500, 2000, 2, 0, 60000)}), "truncated"),
        (scp(LEAD, sections={6: struct.pack("<HHBBH", 2500, 2000, 3, 0, 0)}), "unsupported_format"),
        (scp_file({3: b"\x01\x0c" + struct.pack("<IIB", 1, 300, 1)}), "no_signals"),
        (
            scp({"I": np.full(300, 30000)}, order=1, sections={6: struct.pack("<HHBBH", 2500, 2000, 2, 0, 800) + b"\xff\xc7\xff" * 267}),
            "truncated",
        ),
    ],
)
def test_every_fault_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason


def test_differences_that_run_away_are_noticed(tmp_path: Path) -> None:
    steps = scp_packed([30000] * 300)
    data = scp(LEAD, sections={6: struct.pack("<HHBBH", 2500, 2000, 2, 0, len(steps)) + steps})
    assert reason_of(tmp_path, data) == "bad_samples"


@pytest.mark.parametrize("section", [2, 3, 6])
@pytest.mark.parametrize("index", [0, 7, 100, 0xFFFFFF00])
def test_pointers_that_miss_their_section_are_refused(tmp_path: Path, section: int, index: int) -> None:
    data = bytearray(SOUND)
    struct.pack_into("<I", data, 22 + 10 * section + 6, index)
    assert reason_of(tmp_path, scp_repaired(bytes(data))) in ("bad_header", "checksum")
