"""The Shaoxing and Ningbo database from its fixture, from damaged copies of it, and from real headers; its rules of labelling."""

from __future__ import annotations

import csv
import gzip
import shutil
from pathlib import Path

import pytest

from assets.dataset import DatasetError
from assets.datasets.sph import SPH
from assets.record import RecordError
from assets.rhythm_groups import RHYTHMS, rhythm
from assets.sph_labels import CONDITIONS, CSN_CLASSES, csn_classes
from models.types import LEADS

CODE = {acronym: code for code, (acronym, _) in CONDITIONS.items()}


def codes(acronyms: str) -> list[str]:
    return [CODE.get(a, a) for a in acronyms.split()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SPH:
    folder = tmp_path_factory.mktemp("sph")
    SPH.make_fixture(folder)
    return SPH(folder)


@pytest.fixture
def headers(dataset: SPH, tmp_path: Path) -> SPH:
    """The fixture's headers alone, to be damaged."""
    shutil.copytree(dataset.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.mat"))
    return SPH(tmp_path / "copy")


@pytest.mark.parametrize(
    ("acronyms", "exact", "published"),
    [
        ("SR", {"SR"}, {"SR"}),
        ("SB", None, None),  # the most frequent diagnosis is no class
        ("SB TWC", {"TWC"}, {"TWC"}),
        ("AFIB", {"AFIB"}, {"AFIB", "AF"}),
        ("AF", {"AF"}, {"AF"}),
        ("SB 3AVB", None, {"AVB", "VB"}),
        ("2AVB1 SR", {"2AVB1", "SR"}, {"2AVB1", "2AVB", "AVB", "VB", "SR"}),
        ("STDD", {"STDD"}, {"STDD", "ST"}),
        ("SB LVQRSAL", None, {"SA"}),
        ("CCR", {"CCR"}, {"CCR", "CR"}),
        ("SR 55827005", None, None),  # a code without an acronym
        ("", None, None),
    ],
)
def test_classes_of_the_published_files_and_exact_ones(acronyms: str, exact: set[str] | None, published: set[str] | None) -> None:
    assert csn_classes(codes(acronyms), published=False) == exact
    assert csn_classes(codes(acronyms), published=True) == published


@pytest.mark.parametrize(
    ("acronyms", "expected"),
    [
        ("SR", "SR"),
        ("SA", "SR"),
        ("SR SA", "SR"),
        ("SB TWC", "SB"),
        ("SA SB", "SB"),
        ("SA ST", "GSVT"),
        ("ST SVT AT", "GSVT"),
        ("AFIB AF", "AFIB"),
        ("251166008", "GSVT"),
        ("17366009", "GSVT"),
        ("TWC", "no_rhythm"),
        ("", "no_rhythm"),
        ("SR SB", "several_rhythms"),
        ("SR SA SB", "several_rhythms"),
        ("SA SB ST", "several_rhythms"),
        ("SA AFIB", "several_rhythms"),
        ("ST AF", "several_rhythms"),
    ],
)
def test_one_rhythm_or_the_reason_why_not(acronyms: str, expected: str) -> None:
    group, reason = rhythm(codes(acronyms))
    assert (group or reason) == expected
    assert (group in RHYTHMS) != bool(reason)


def test_records(dataset: SPH) -> None:
    records = dataset.records().set_index("record_id")
    assert len(records) == 52
    assert records["site"].value_counts().to_dict() == {"ningbo": 27, "chapman_shaoxing": 25}
    assert records["patient_id"]["JS20007"] == "sph:JS20007"
    assert records["patient_id"]["JS20001"] == "sph:JS00002"  # the same recording
    assert records["sex"]["JS01001"] == "unknown"  # not there
    assert dataset.present(["JS00001", "JS01001"]) == [True, False]
    assert (Path("WFDBRecords/01/010/JS00001.hea") in dataset.files()) and len(dataset.files()) == 2 * 51 + 4 + 1


def test_signals_and_the_header_that_lost_a_line_end(dataset: SPH) -> None:
    record = dataset.read("JS00001")
    assert (record.fs_hz, record.leads, record.signal_LT.shape) == (500, LEADS, (12, 5000))
    with pytest.raises(RecordError) as caught:
        dataset.read("JS01052")
    assert caught.value.reason == "bad_header"
    with pytest.raises(RecordError) as caught:
        dataset.read("JS01001")
    assert caught.value.reason == "absent"


def test_labels_and_what_they_leave_out(dataset: SPH) -> None:
    four, exact, published = (dataset.labels(t).set_index("record_id") for t in ("rhythm4", "csn_exact", "csn_published"))
    assert (four.sum(axis=1) == 1).all() and len(four) == 50
    assert dataset.left_out("rhythm4") == {"no_rhythm": 1}  # JS00042 has no codes, JS01001 no header
    assert tuple(exact.columns) == tuple(published.columns) == CSN_CLASSES
    assert (published.loc[exact.index] >= exact).all().all() and published["AF"].sum() > exact["AF"].sum()
    assert not {"JS00042", "JS20010"} & set(exact.index)


def test_diagnoses_that_are_no_codes(headers: SPH) -> None:
    path = headers.folder / "WFDBRecords/01/010/JS00001.hea"
    path.write_text(path.read_text().replace("#Dx: ", "#Dx: SB,"))
    with pytest.raises(DatasetError, match=r"JS00001 \('SB'\)"):
        headers.labels("rhythm4")


def test_the_challenge_names_other_folders(tmp_path: Path) -> None:
    (tmp_path / "training" / "ningbo" / "g1").mkdir(parents=True)
    with pytest.raises(DatasetError, match="WFDBRecords has no folders of recordings"):
        SPH(tmp_path).records()


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> SPH:
    """The real headers of both sources, as the Challenge has them, in this database's layout."""
    folder = tmp_path_factory.mktemp("real")
    shelf = folder / "WFDBRecords" / "01" / "010"
    shelf.mkdir(parents=True)
    for path in (shared_data / "cinc2021" / "training").glob("*/g1/JS*.hea"):
        shutil.copy(path, shelf)
    return SPH(folder)


def published_rows(shared_data: Path) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for part in ("train", "val", "test"):
        with gzip.open(shared_data / "merl_splits" / f"chapman_{part}.csv.gz", "rt", newline="") as stream:
            rows |= {Path(row["ecg_path"]).stem: row for row in csv.DictReader(stream)}
    return rows


def test_real_recordings_have_their_published_labels(real: SPH, shared_data: Path) -> None:
    published, table = published_rows(shared_data), real.labels("csn_published").set_index("record_id")
    assert len(real.records()) == 55
    assert set(table.index) == set(real.records()["record_id"]) & set(published)
    assert len(table) == 22
    for record in table.index:
        expected = {c: int(published[record][c]) for c in CSN_CLASSES}
        if record == "JS00005":  # the Challenge added a first-degree block, which is an AVB and a VB by its letters
            expected |= {"1AVB": 1, "AVB": 1, "VB": 1}
        assert table.loc[record].to_dict() == expected


def test_the_rules_reproduce_all_published_rows(shared_data: Path) -> None:
    rows = published_rows(shared_data)
    n_exact = n_none = 0
    for row in rows.values():
        found = codes(row["diagnose"].replace(",", " "))
        assert (csn_classes(found, published=True) or frozenset()) == {c for c in CSN_CLASSES if row[c] == "1"}
        n_none += csn_classes(found, published=True) is None
        n_exact += csn_classes(found, published=False) is not None
    assert (len(rows), n_none, n_exact) == (23026, 2, 23026 - 147)


def test_real_rhythms(real: SPH) -> None:
    table = real.labels("rhythm4").set_index("record_id")
    expected = {"JS00002": "SB", "JS00005": "AFIB", "JS11438": "GSVT", "JS36330": "SR", "JS24580": "SB"}  # the last with sinus arrhythmia
    assert all(table.loc[record, group] == 1 for record, group in expected.items())
    left_out = real.left_out("rhythm4")
    assert sum(left_out.values()) + len(table) == 55
