"""What counts as an identifier of a person, and what does not."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pandas as pd
import pytest

from assets.privacy import identifiers_in_columns, identifiers_in_header, identifiers_in_reports, identifiers_in_text, is_header


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Patient name: Smith", {"name"}),
        ("nachname=Muster", {"name"}),
        ("confirmed by Dr. Sommer", {"name"}),
        ("Frau Müller, 71 Jahre", {"name"}),
        ("Tel. 0761 123456", {"phone"}),
        ("write to a.b@clinic.example", {"email"}),
        ("geb. 12.3.1950", {"birth_date", "date"}),
        ("DOB 1950-03-12", {"birth_date", "date"}),
        ("ssn 123-45-6789", {"national_id"}),
        ("MRN: 0012345", {"record_number"}),
        ("Address: 12 Main Street", {"address"}),
        ("compared with 12.9.91.", {"date"}),
        ("sinus rhythm, axis 60, PR 160 ms, QRS 90-100 ms, V1-V3", set()),
        ("file name unknown. rhythm name: 3", set()),
        ("dr. notified, ___ reviewed", set()),
        ("Age: 56, Sex: Male, Dx: 426783006,39732003", set()),
        ("qtc 420.12.31 ms", set()),
    ],
)
def test_text(text: str, kinds: set[str]) -> None:
    assert identifiers_in_text(text) == kinds
    assert set(identifiers_in_reports(pd.Series(["normal ecg", text]))) == kinds


def test_columns_announce_what_they_hold() -> None:
    assert identifiers_in_columns(["patient_id", "lastname", "DOB", "e_mail", "filename_hr", "age"]) == {"name", "birth_date", "email"}


@pytest.mark.parametrize(
    ("name", "data", "kinds"),
    [
        ("a.hea", b"a 1 100 5\na.dat 16 1000 16 0 0 0 0 I\n# Patient name: Doe\n# Age: 4\n", {"name"}),
        ("a.csv", b"record_id,MRN,age\n1,2,3\n", {"record_number"}),
        ("a.csv.gz", gzip.compress(b"subject_id,patient_name\n1,x\n", mtime=0), {"name"}),
        ("a.xml", b"<RestingECG><PatientLastName>Doe</PatientLastName><DateofBirth>01-02-1950</DateofBirth>", {"name", "birth_date"}),
        ("b.xml", b"<RestingECG><PatientLastName></PatientLastName><PatientLastName> </PatientLastName>", set()),
        ("a.edf", b"0       " + b"MCH-0234567 F 02-MAY-1951 Haagse_Harry".ljust(80), {"name", "birth_date"}),
        ("b.edf", b"0       " + b"X X X X".ljust(80), set()),
        ("a.dcm", b"garbage", set()),
    ],
)
def test_headers(tmp_path: Path, name: str, data: bytes, kinds: set[str]) -> None:
    (tmp_path / name).write_bytes(data)
    assert is_header(tmp_path / name)
    assert identifiers_in_header(tmp_path / name) == kinds


def test_dicom_names_and_births(tmp_path: Path) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    for name, kinds in (("Doe^John", {"name", "birth_date"}), ("Anonymous", {"birth_date"})):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3"
        dataset = FileDataset(str(tmp_path / "x.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.PatientName, dataset.PatientBirthDate = name, "19500102"
        dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        assert identifiers_in_header(tmp_path / "x.dcm") == kinds


def test_real_reports_and_headers_are_clean(shared_data: Path) -> None:
    with (shared_data / "ptb-xl" / "ptbxl_database.csv").open(newline="") as stream:
        reports = pd.Series([row["report"] for row in csv.DictReader(stream)])
    assert {kind: len(rows) for kind, rows in identifiers_in_reports(reports).items()} == {"date": 1}
    headers = [p for folder in ("cinc2021", "challenge2025", "mitdb", "wfdb-samples") for p in (shared_data / folder).rglob("*.hea")]
    assert set().union(*(identifiers_in_header(p) for p in headers)) <= {"date"}
