"""Formats are told apart by content, leads have one name, units become microvolts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from assets.readers import read_record
from assets.readers.lead_names import lead_name, lead_names
from assets.readers.units import per_count, to_microvolts
from assets.readers.wfdb_write import write_record
from assets.record import RecordError
from models.types import LEADS
from tests.fuzz.encoders import (
    aecg,
    aecg_lead,
    aecg_set,
    code15,
    cpsc2018,
    dicom,
    dicom_channel,
    dicom_group,
    edf,
    edf_signal,
    muse,
    muse_lead,
    scp,
)

COUNTS = np.arange(40)
RECORDINGS = {
    "mat": cpsc2018(np.ones((12, 5))),
    "hdf5": code15(np.ones((1, 5, 12), np.float32)),
    "edf": edf([edf_signal("I", [COUNTS])]),
    "dcm": dicom([dicom_group(COUNTS[:, None].astype("<i2"), [dicom_channel()])]),
    "muse": muse([muse_lead("I", COUNTS)]),
    "aecg": aecg([aecg_set([aecg_lead("MDC_ECG_LEAD_I", COUNTS)])]),
    "scp": scp({"I": COUNTS}),
}


def reason_of(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert str(path.parent) in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("ending", ["", ".bin", ".xml", ".txt"])
def test_content_decides_not_the_ending(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"recording{ending}"
    path.write_bytes(RECORDINGS[name])
    assert read_record(path).leads[0] == "I"


def test_csv_needs_its_ending(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"Time,I\n0,1\n1,2\n")
    shutil.copy(tmp_path / "a.csv", tmp_path / "a.bin")
    assert read_record(tmp_path / "a.csv").leads == ("I",)
    assert reason_of(tmp_path / "a.bin") == "unknown_format"


@pytest.mark.parametrize("ending", [".hea", ".dat", "", ".mat"])
def test_wfdb_is_named_by_any_of_its_files(tmp_path: Path, ending: str) -> None:
    write_record(tmp_path, "r1", np.zeros((1, 50)), ["I"], 100)
    if ending == ".mat":
        (tmp_path / "r1.hea").write_text((tmp_path / "r1.hea").read_text().replace("r1.dat", "r1.mat"))
        (tmp_path / "r1.dat").rename(tmp_path / "r1.mat")
    assert read_record(tmp_path / f"r1{ending}").fs_hz == 100


@pytest.mark.parametrize("name", ["r1", "r1.hea", "r1.dat", "r1.edf", "r1.csv", "r1.hdf5", "r1.xml", "r1.mat", "r1.odd", "no/r1.edf"])
def test_what_is_not_there_is_absent(tmp_path: Path, name: str) -> None:
    assert reason_of(tmp_path / name) == "absent"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.edf", b"version https://git-lfs.github.com/spec/v1\n", "lfs_pointer"),
        ("a.edf", b"", "empty"),
        ("a.edf", b"nonsense", "unknown_format"),
        ("a.hdf5", b"\0" * 600, "unknown_format"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 600, "unknown_format"),
        ("a.xml", b"nonsense", "unknown_format"),
        ("a.xml", b"<html></html>", "unknown_format"),
    ],
)
def test_what_is_of_no_format_says_so(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert reason_of(tmp_path / name) == reason


def test_the_message_lists_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(RecordError, match="WFDB, EDF, DICOM, SCP-ECG, MUSE and aECG XML"):
        read_record(tmp_path / "a.png")


def test_a_file_too_large_for_its_format_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("wb") as stream:
        stream.write(b"Time,I\n")
        stream.truncate(1 << 30)
    assert reason_of(tmp_path / "a.csv") == "too_large"


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("DI", "I"), ("DII", "II"), ("diii", "III"), ("AVR", "aVR"), ("avl", "aVL"), ("v1", "V1"), ("V3r", "V3R"),
        ("MDC_ECG_LEAD_V1", "V1"), ("MDC_ECG_LEAD_AVF", "aVF"), ("Lead I (Einthoven)", "I"), ("Lead aVR", "aVR"),
        ("ECG II", "II"), ("EKG V5", "V5"), ("ECGI", "I"), ("ecg aVF", "aVF"), (" V  ", "V"), ("MLII", "MLII"), ("ECG", "ECG"),
        ("PLETH", "PLETH"), ("x", "x"), ("Resp  chest", "Resp chest"), ("V", "V"), ("D", "D"),
    ],
)  # fmt: skip
def test_a_lead_has_one_name(raw: str, name: str) -> None:
    assert lead_name(raw) == name


def test_every_standard_lead_keeps_its_name() -> None:
    assert tuple(lead_name(lead) for lead in LEADS) == LEADS
    assert lead_names(Path("x"), [f"MDC_ECG_LEAD_{lead.upper()}" for lead in LEADS]) == LEADS


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(["I", "DI"], "duplicate_leads"), (["I", " "], "unnamed_lead"), (["x" * 65], "unnamed_lead"), (["a\x07"], "unnamed_lead")],
)
def test_names_that_cannot_be_used(raw: list[str], reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        lead_names(Path("x"), raw)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("unit", "factor", "read"),
    [("mV", 1e3, "uV"), ("µV", 1.0, "uV"), ("V", 1e6, "uV"), ("nV", 1e-3, "uV"), ("mmHg", 1.0, "mmHg"), (" ", 1.0, "NU")],
)
def test_voltages_become_microvolts(unit: str, factor: float, read: str) -> None:
    assert to_microvolts(Path("x"), unit) == (factor, read)


@pytest.mark.parametrize(
    ("scale", "unit", "reason"),
    [
        (0.0, "uV", "zero_gain"),
        (1.0, "mV", "bad_gain"),
        (float("nan"), "uV", "bad_gain"),
        (float("inf"), "uV", "bad_gain"),
        (1.0, "MV", "bad_units"),
        (1.0, "a\0b", "bad_units"),
    ],
)
def test_scales_that_cannot_be_used(scale: float, unit: str, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        per_count(Path("x"), scale, unit)
    assert caught.value.reason == reason
