"""Recordings as text: header rules, rates from stamps, BIDMC and the Challenge of 2011 as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assets.readers import read_record
from assets.record import Record, RecordError

SIGNAL_LT = np.round(np.random.default_rng(8).normal(0, 0.5, (3, 200)), 4)


def table(header: str, fs_hz: float = 250.0, *, separator: str = ",", decimals: int = 6, newline: str = "\n") -> bytes:
    rows = [separator.join([f"{i / fs_hz:.{decimals}f}", *(f"{v:.4f}" for v in SIGNAL_LT[:, i])]) for i in range(SIGNAL_LT.shape[1])]
    return newline.join([header, *rows, ""]).encode()


def read(folder: Path, data: bytes, name: str = "a.csv") -> Record:
    (folder / name).write_bytes(data)
    return read_record(folder / name)


def reason_of(folder: Path, data: bytes, name: str = "a.csv") -> str:
    with pytest.raises(RecordError) as caught:
        read(folder, data, name)
    return caught.value.reason


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("Time [s],DI [mV],avf (uV),RESP", ","),
        (" time , 'DI [mV]', AVF (µV) , RESP ", ","),
        ("t (sec);DI (mV);ECG AVF [uV];RESP", ";"),
        ("Elapsed time\tLead I [mV]\taVF [uV]\tRESP", "\t"),
        ("\ufeffTime,I [mV],MDC_ECG_LEAD_AVF [uV],RESP", ","),
    ],
)
def test_names_carry_leads_and_units(tmp_path: Path, header: str, separator: str) -> None:
    record = read(tmp_path, table(header, separator=separator, newline="\r\n"))
    assert (record.leads, record.units, record.fs_hz) == (("I", "aVF", "RESP"), ("uV", "uV", "NU"), 250.0)
    np.testing.assert_allclose(record.signal_LT, SIGNAL_LT * np.array([[1000], [1], [1]]), rtol=1e-6)
    assert record.signal_LT.flags.c_contiguous


@pytest.mark.parametrize(("fs_hz", "decimals"), [(125.0, 3), (500.0, 3), (360.0, 3), (1.0, 0), (62.5, 4), (257.3, 6)])
def test_rates_come_from_rounded_stamps(tmp_path: Path, fs_hz: float, decimals: int) -> None:
    record = read(tmp_path, table("Time,I,II,V1", fs_hz, decimals=decimals))
    assert record.fs_hz == pytest.approx(fs_hz, rel=1e-5 if fs_hz == 257.3 else 1e-12)


def test_stamps_may_be_milliseconds(tmp_path: Path) -> None:
    assert read(tmp_path, b"Time [ms],II\n0,1\n4,2\n8,3\n").fs_hz == 250.0


def test_missing_values_are_missing(tmp_path: Path) -> None:
    record = read(tmp_path, b"Time,II [mV],V1 [mV]\n0,1,\n0.01,nan,3\n0.02,-,5\n")
    np.testing.assert_array_equal(record.signal_LT, [[1000, np.nan, np.nan], [np.nan, 3000, 5000]])


def cinc2011(n: int = 5, columns: int = 12) -> bytes:
    return b"".join(b",".join(b"%d" % v for v in (i, *range(columns))) + b"\n" for i in range(n))


def test_the_challenge_of_2011_has_its_own_lead_order(tmp_path: Path) -> None:
    record = read(tmp_path, cinc2011(), "1.txt")
    assert record.leads == ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
    np.testing.assert_array_equal(record.signal_LT, np.repeat(np.arange(12)[:, None] * 5.0, 5, axis=1))
    assert (record.fs_hz, record.units) == (500.0, ("uV",) * 12)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Time,II\n", "empty"),
        (b"Time,II\n0,1\n", "sampling_rate"),
        (b"Time,II\n0,1\n0,2\n", "sampling_rate"),
        (b"Time,II\n1,1\n0,2\n", "sampling_rate"),
        (b"Time,II\n0,1\n,2\n", "sampling_rate"),
        (b"II,V1\n0,1\n1,2\n", "sampling_rate"),
        (b"Time [h],II\n0,1\n1,2\n", "sampling_rate"),
        (b"Time,t,II\n0,0,1\n1,1,2\n", "sampling_rate"),
        (b"Time\n0\n1\n", "no_signals"),
        (b"Time,II,V1\n0,1,1\n1,2\n", "ragged"),
        (b"Time,II,V1\n0,1,1\n1,2,3,4\n", "ragged"),
        (b"Time,II\n0,1\n1,x\n", "bad_samples"),
        (b"Time,II\n0,1\n1,1e999\n", "bad_samples"),
        (b"Time,II [mV]\n0,1\n1,1e38\n", "bad_samples"),
        (b"Time,II\n0,1\n0.01,2\n0.02,3\n5,4\n5.01,5\n", "uneven_sampling"),
        (b"Time,II,II\n0,1,2\n1,2,3\n", "duplicate_leads"),
        (b"Time,II,\n0,1,2\n1,2,3\n", "unnamed_lead"),
        (b"Time,II [MV]\n0,1\n1,2\n", "bad_units"),
        (b"Time," + b"x" * 100_000, "bad_header"),
        (b"Time" + b",x" * 2000 + b"\n", "bad_header"),
        (b"Time,\0\n0,1\n", "bad_header"),
        (cinc2011(columns=11), "bad_header"),
        (cinc2011().replace(b"\n3,", b"\n4,"), "bad_samples"),
        (cinc2011()[:-8], "ragged"),
        (b"\x89PNG\r\n\x1a\n\0", "sampling_rate"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs_pointer"),
    ],
)
def test_every_fault_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason


def test_bidmc_is_read_by_name(shared_data: Path) -> None:
    paths = sorted((shared_data / "bidmc/bidmc_csv").glob("*_Signals.csv"))
    assert len(paths) == 9
    for path in paths:
        record = read_record(path)
        assert (record.fs_hz, record.signal_LT.shape[1]) == (125.0, 60001)
        assert {"II", "PLETH", "RESP"} <= set(record.leads)
        assert set(record.units) == {"NU"}
        header, first = path.read_text().splitlines()[:2]
        at = [name.strip() for name in header.split(",")].index("PLETH")
        assert record.signal_LT[record.leads.index("PLETH"), 0] == np.float32(first.split(",")[at])


def test_goldbergers_relations_hold_in_the_challenge_of_2011(shared_data: Path) -> None:
    paths = sorted((shared_data / "cinc2011/set-a").glob("*.txt"))
    assert len(paths) == 120
    for path in paths:
        by_lead = dict(zip((record := read_record(path)).leads, record.signal_LT, strict=True))
        assert np.abs(by_lead["I"] + by_lead["III"] - by_lead["II"]).max() <= 10
        assert np.abs(by_lead["aVL"] - (by_lead["I"] - by_lead["III"]) / 2).max() <= 10
        assert np.abs(by_lead["aVF"] - (by_lead["II"] + by_lead["III"]) / 2).max() <= 10
