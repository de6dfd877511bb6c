"""MUSE and aECG files: leads, amplitudes, checksums, and XML that means harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.readers import read_record
from assets.record import Record, RecordError
from models.types import LEADS
from tests.fuzz.encoders import PATIENT, aecg, aecg_lead, aecg_set, muse, muse_lead

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
COUNTS = dict(zip(EIGHT, np.random.default_rng(6).integers(-3000, 3000, (8, 60)), strict=True))


def reason_of(folder: Path, data: bytes) -> str:
    (folder / "a.xml").write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_record(folder / "a.xml")
    assert PATIENT not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None or PATIENT not in str(caught.value.__context__)
    return caught.value.reason


def read(folder: Path, data: bytes) -> Record:
    (folder / "a.xml").write_bytes(data)
    return read_record(folder / "a.xml")


# MUSE


def eight(**fields: Any) -> list[str]:
    return [muse_lead(name, counts, **(fields if name == "II" else {})) for name, counts in COUNTS.items()]


def test_muse_has_twelve_leads_of_eight(tmp_path: Path) -> None:
    record = read(tmp_path, muse(eight()))
    assert (record.leads, record.fs_hz, record.units) == (LEADS, 500.0, ("uV",) * 12)
    by_lead = dict(zip(record.leads, record.signal_LT, strict=True))
    one, two = COUNTS["I"] * 4.88, COUNTS["II"] * 4.88
    for name, truth in (("I", one), ("III", two - one), ("aVR", -(one + two) / 2), ("aVL", one - two / 2), ("aVF", two - one / 2)):
        np.testing.assert_allclose(by_lead[name], truth, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(by_lead["V6"], COUNTS["V6"] * 4.88, rtol=1e-6)


def test_muse_leads_that_are_there_are_not_derived(tmp_path: Path) -> None:
    record = read(tmp_path, muse([*eight(), muse_lead("aVL", np.full(60, 7)), muse_lead("V4R", np.full(60, 9))]))
    by_lead = dict(zip(record.leads, record.signal_LT, strict=True))
    assert record.leads == (*LEADS, "V4R")
    np.testing.assert_allclose(by_lead["aVL"], 7 * 4.88, rtol=1e-6)


def test_muse_without_limb_leads_stays_so(tmp_path: Path) -> None:
    assert read(tmp_path, muse([muse_lead("V1", COUNTS["V1"])])).leads == ("V1",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (muse(eight(), kind="Other"), "no_signals"),
        (muse([]), "no_signals"),
        (muse([*eight(), "</Waveform><Waveform><WaveformType>Rhythm</WaveformType>"]), "several_groups"),
        (muse(eight(), base="0"), "sampling_rate"),
        (muse(eight(), base="x"), "sampling_rate"),
        (muse(eight(), exponent="-1"), "sampling_rate"),
        (muse(eight(LeadDataCRC32="1")), "checksum"),
        (muse(eight(LeadSampleCountTotal="61")), "truncated"),
        (muse(eight(LeadSampleCountTotal="59")), "length_mismatch"),
        (muse(eight(WaveFormData="AAA", LeadDataCRC32=None)), "bad_samples"),
        (muse(eight(WaveFormData="AAAA", LeadDataCRC32=None, LeadSampleCountTotal=None)), "truncated"),
        (muse(eight(WaveFormData="AAA=", LeadDataCRC32=None, LeadSampleCountTotal=None)), "length_mismatch"),
        (muse(eight(WaveFormData=None, LeadDataCRC32=None, LeadSampleCountTotal=None)), "length_mismatch"),
        (muse(eight(LeadAmplitudeUnitsPerBit="")), "bad_gain"),
        (muse(eight(LeadAmplitudeUnitsPerBit="0")), "zero_gain"),
        (muse(eight(LeadAmplitudeUnits="BANANAS")), "bad_units"),
        (muse(eight(LeadSampleSize="4")), "unsupported_format"),
        (muse(eight(LeadOffsetFirstSample="5")), "unsupported_format"),
        (muse(eight(LeadID="V1")), "duplicate_leads"),
        (muse(eight(LeadID="")), "unnamed_lead"),
        (muse([muse_lead("I", np.zeros(0))]), "empty"),
    ],
)
def test_every_fault_of_muse_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    record = read(tmp_path, muse([muse_lead("V1", COUNTS["V1"], LeadAmplitudeUnitsPerBit="4,88")]))
    np.testing.assert_allclose(record.signal_LT[0], COUNTS["V1"] * 4.88, rtol=1e-6)


# aECG


def sequences(n: int = 60, **fields: Any) -> list[str]:
    return [aecg_lead(f"MDC_ECG_LEAD_{name.upper()}", counts[:n], **(fields if name == "II" else {})) for name, counts in COUNTS.items()]


def test_aecg_is_origin_and_scale(tmp_path: Path) -> None:
    record = read(tmp_path, aecg([aecg_set(sequences(origin="0.5", scale="0.005", unit="mV"), increment="4", unit="ms")]))
    assert (record.leads, record.fs_hz, record.units) == (EIGHT, 250.0, ("uV",) * 8)
    np.testing.assert_allclose(record.signal_LT[0], COUNTS["I"] * 2.5)
    np.testing.assert_allclose(record.signal_LT[1], COUNTS["II"] * 5.0 + 500)


def test_the_longest_set_of_aecg_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, aecg([aecg_set(sequences(20)), aecg_set(sequences())])).signal_LT.shape == (8, 60)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (aecg([]), "no_signals"),
        (aecg([aecg_set([])]), "no_signals"),
        (aecg([aecg_set(sequences()), aecg_set(sequences())]), "several_groups"),
        (aecg([aecg_set(sequences(), increment="0")]), "sampling_rate"),
        (aecg([aecg_set(sequences(), increment="nan")]), "sampling_rate"),
        (aecg([aecg_set(sequences(), unit="fortnight")]), "sampling_rate"),
        (aecg([aecg_set(sequences()).replace("TIME_ABSOLUTE", "OTHER")]), "sampling_rate"),
        (aecg([aecg_set(sequences(digits="1 2 three"))]), "bad_samples"),
        (aecg([aecg_set(sequences(digits="1 2 nan"))]), "bad_samples"),
        (aecg([aecg_set(sequences(digits="1 2 3"))]), "length_mismatch"),
        (aecg([aecg_set(sequences(0))]), "empty"),
        (aecg([aecg_set(sequences(scale="0"))]), "zero_gain"),
        (aecg([aecg_set(sequences(scale="x"))]), "bad_gain"),
        (aecg([aecg_set(sequences(origin="x"))]), "bad_samples"),
        (aecg([aecg_set(sequences(unit="MV"))]), "bad_units"),
        (aecg([aecg_set([*sequences(), aecg_lead("MDC_ECG_LEAD_I", COUNTS["I"])])]), "duplicate_leads"),
    ],
)
def test_every_fault_of_aecg_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason


# XML that means harm


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (muse(eight(), doctype=f'<!DOCTYPE RestingECG [<!ENTITY l0 "{PATIENT}">{LAUGHS}]>').replace(b"4.88", b"&l9;"), "unsafe_xml"),
        (muse(eight(), doctype='<!DOCTYPE RestingECG [<!ENTITY x SYSTEM "file:///etc/hostname">]>').replace(b"4.88", b"&x;"), "unsafe_xml"),
        (muse(eight(), doctype='<!DOCTYPE RestingECG [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;]>'), "unsafe_xml"),
        (muse(eight(), doctype='<!DOCTYPE RestingECG [<!ATTLIST LeadData a CDATA "much">]>'), "unsafe_xml"),
        (b"<a>" * 100_000, "unsafe_xml"),
        (b"<a>" * 40, "bad_xml"),
        (muse(eight())[:-9], "bad_xml"),
        (b"<?xml version='1.0' encoding='no-such'?><RestingECG/>", "bad_xml"),
        (b"<RestingECG>\xff</RestingECG>", "bad_xml"),
        (b"<RestingECG/>", "no_signals"),
        (b"<AnnotatedECG/>", "no_signals"),
        (f"<CardiologyXML><n>{PATIENT}</n></CardiologyXML>".encode(), "unknown_format"),
        (b"<!-- nothing -->", "bad_xml"),
    ],
)
def test_xml_that_means_harm_or_nothing_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason


def test_xml_of_more_elements_than_any_recording_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.readers.safe_xml._MOST_ELEMENTS", 1000)
    assert reason_of(tmp_path, b"<a>" + b"<b/>" * 2000 + b"</a>") == "unsafe_xml"


def test_other_encodings_are_read(tmp_path: Path) -> None:
    text = muse(eight()).decode().replace("ISO-8859-1", "UTF-16")
    assert read(tmp_path, text.encode("utf-16")).leads == LEADS
