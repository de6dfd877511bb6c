"""DICOM waveforms: leads by code, amplitudes by sensitivity, groups chosen, files of makers that pydicom ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest

from assets.readers import read_record
from assets.record import RecordError
from models.types import LEADS
from tests.fuzz.encoders import PATIENT, SCP_CODES, dicom, dicom_channel, dicom_group

COUNTS_TL = np.random.default_rng(5).integers(-900, 900, (40, 2)).astype("<i2")


def two(**fields: Any) -> list[Any]:
    return [dicom_channel("5.6.3-9-1", **fields), dicom_channel("5.6.3-9-62")]


def one_group(**fields: Any) -> bytes:
    return dicom([dicom_group(COUNTS_TL, two(), **fields)])


def reason_of(folder: Path, data: bytes) -> str:
    (folder / "a.dcm").write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_record(folder / "a.dcm")
    assert PATIENT not in str(caught.value)
    return caught.value.reason


def read(folder: Path, data: bytes) -> Any:
    (folder / "a.dcm").write_bytes(data)
    return read_record(folder / "a.dcm")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_sensitivity_correction_and_baseline_are_applied(tmp_path: Path, syntax: str) -> None:
    channels = two(ChannelSensitivity="0.005", unit="mV", ChannelSensitivityCorrectionFactor="1.1", ChannelBaseline="0.25")
    stored_TL = COUNTS_TL.astype(">i2") if syntax.endswith("2.2") else COUNTS_TL
    record = read(tmp_path, dicom([dicom_group(stored_TL, channels)], syntax=syntax))
    np.testing.assert_allclose(record.signal_LT[0], COUNTS_TL[:, 0] * 5.5 + 250, rtol=1e-5)
    np.testing.assert_allclose(record.signal_LT[1], COUNTS_TL[:, 1] * 2.5)
    assert (record.leads, record.units, record.fs_hz) == (("I", "aVR"), ("uV", "uV"), 500.0)
    assert record.signal_LT.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["i1", "u1", "<u2", "<i2"])
def test_every_linear_kind_of_sample_is_read(tmp_path: Path, dtype: str) -> None:
    counts_TL = np.arange(21).reshape(7, 3).astype(dtype)
    record = read(tmp_path, dicom([dicom_group(counts_TL, [dicom_channel(f"5.6.3-9-{n}") for n in (1, 2, 3)])]))
    np.testing.assert_array_equal(record.signal_LT, counts_TL.T * np.float32(2.5))


def test_leads_are_named_by_code_meaning_or_label(tmp_path: Path) -> None:
    counts_TL = np.zeros((5, 15), "<i2")
    channels = [dicom_channel(f"2:{n}", "MDC") for n in SCP_CODES.values()]
    channels += [
        dicom_channel("X-1", "99LOCAL", "Lead V8"),
        dicom_channel("9", "SCPECG", "", ChannelLabel="Resp"),
        dicom_channel("1", "99X", "Other"),
    ]
    record = read(tmp_path, dicom([dicom_group(counts_TL, channels)]))
    assert record.leads == (*SCP_CODES, "V8", "V7", "Other")


def test_the_longest_group_is_the_rhythm(tmp_path: Path) -> None:
    beat = dicom_group(COUNTS_TL[:9], two(), SamplingFrequency="1000")
    record = read(tmp_path, dicom([beat, dicom_group(COUNTS_TL, two())]))
    assert (record.signal_LT.shape, record.fs_hz) == ((2, 40), 500.0)


def test_padding_at_the_end_of_the_range_is_missing_and_zero_is_not(tmp_path: Path) -> None:
    counts_TL = COUNTS_TL.copy()
    counts_TL[3, 1], counts_TL[4, 0] = -32768, 0
    marked = read(tmp_path, dicom([dicom_group(counts_TL, two(), WaveformPaddingValue=b"\x00\x80")]))
    assert np.argwhere(np.isnan(marked.signal_LT)).tolist() == [[1, 3]]
    zero = read(tmp_path, dicom([dicom_group(counts_TL, two(), WaveformPaddingValue=b"\0\0")]))
    assert not np.isnan(zero.signal_LT).any()


SOUND = one_group()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SOUND[:-30], "truncated"),
        (SOUND[:200], "unsupported_format"),  # the transfer syntax is cut off
        (SOUND[:128] + b"\0\0\0\0" + SOUND[132:], "unknown_format"),
        (dicom([]), "no_signals"),
        (dicom([dicom_group(COUNTS_TL, two()), dicom_group(COUNTS_TL, two())]), "several_groups"),
        (SOUND.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0"), "unsupported_format"),
        (one_group(WaveformBitsAllocated=32), "unsupported_format"),
        (one_group(WaveformSampleInterpretation="MB"), "unsupported_format"),
        (one_group(NumberOfWaveformSamples=4000000000), "truncated"),
        (one_group(NumberOfWaveformSamples=39), "length_mismatch"),
        (one_group(NumberOfWaveformSamples=0), "length_mismatch"),
        (one_group(NumberOfWaveformChannels=3), "bad_dicom"),
        (one_group(SamplingFrequency="0"), "sampling_rate"),
        (one_group(SamplingFrequency=None), "bad_dicom"),
        (one_group(WaveformData=None), "bad_dicom"),
        (dicom([dicom_group(COUNTS_TL, two(ChannelSensitivity=None))]), "bad_gain"),
        (dicom([dicom_group(COUNTS_TL, two(unit=None))]), "bad_gain"),
        (dicom([dicom_group(COUNTS_TL, two(ChannelSensitivity="0"))]), "zero_gain"),
        (dicom([dicom_group(COUNTS_TL, two(ChannelSensitivity="5", unit="V"))]), "bad_gain"),
        (dicom([dicom_group(COUNTS_TL, two(unit="MV"))]), "bad_units"),
        (dicom([dicom_group(COUNTS_TL, [dicom_channel(), dicom_channel()])]), "duplicate_leads"),
        (dicom([dicom_group(COUNTS_TL, [dicom_channel(), dicom_channel("1", "99X", "")])]), "unnamed_lead"),
        (dicom([dicom_group(COUNTS_TL[:0], two())]), "no_signals"),
    ],
)
def test_every_fault_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason


def test_an_image_is_no_recording(tmp_path: Path) -> None:
    path = Path(str(pydicom.data.get_testdata_file("CT_small.dcm", download=False)))
    assert reason_of(tmp_path, path.read_bytes()) == "no_signals"


def test_a_recording_of_a_maker_equals_pydicoms_reading() -> None:
    path = Path(str(pydicom.data.get_testdata_file("waveform_ecg.dcm", download=False)))
    record = read_record(path)
    assert (record.leads, record.fs_hz) == (LEADS, 1000.0)
    np.testing.assert_array_equal(record.signal_LT, pydicom.dcmread(path).waveform_array(0).T.astype(np.float32))
    by_lead = dict(zip(record.leads, record.signal_LT, strict=True))
    assert np.abs(by_lead["I"] + by_lead["III"] - by_lead["II"]).max() <= 1.25
