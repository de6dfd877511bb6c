"""MIMIC-CXR-JPG from its fixture, held to the simulated cohort that it comes from, and from damaged copies of its tables."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.access import Access
from assets.chexpert_labels import FINDINGS
from assets.dataset import DatasetError
from assets.datasets.mimic_cxr_jpg import CHEXPERT, METADATA, SPLIT, MimicCxrJpg
from assets.mimic import cohort
from assets.record import RecordError
from models.errors import ConfigurationError
from models.types import Modality

STUDIES = cohort(0).xrays


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> MimicCxrJpg:
    folder = tmp_path_factory.mktemp("mimic_cxr_jpg")
    MimicCxrJpg.make_fixture(folder)
    return MimicCxrJpg(folder)


@pytest.fixture
def tables(dataset: MimicCxrJpg, tmp_path: Path) -> MimicCxrJpg:
    """The fixture's tables without its pictures and reports, to be damaged."""
    for name in (METADATA, SPLIT, CHEXPERT):
        shutil.copy(dataset.folder / name, tmp_path / name)
    return MimicCxrJpg(tmp_path)


def change(path: Path, edit: Callable[[pd.DataFrame], object]) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    edit(table)
    table.to_csv(path, index=False)


def put(column: str, value: str, row: int = 2) -> Callable[[pd.DataFrame], object]:
    return lambda table: table.__setitem__(column, table[column].where(table.index != row, value))


def test_it_offers_pictures_and_text_to_those_who_may_have_them() -> None:
    assert MimicCxrJpg.offers() == {Modality.IMAGE, Modality.TEXT}
    assert MimicCxrJpg.access == Access.CREDENTIALED


def test_records_are_the_cohorts_pictures(dataset: MimicCxrJpg) -> None:
    records = dataset.records().set_index("record_id")
    assert list(records.columns[7:]) == ["study_id", "view", "rows", "cols", "official_split"]
    folds = {str(person.subject_id): person.fold for person in cohort(0).people}
    blank = 0
    for study in STUDIES:
        for image in study.images:
            row = records.loc[image.dicom_id]
            assert row["patient_id"] == f"mimic:{study.subject_id}"
            assert row["fold"] == folds[str(study.subject_id)]
            assert row["study_id"] == str(study.study_id)
            assert row["official_split"] == study.split
            assert pd.Timestamp(row["acquired_at"]) == study.taken
            assert row["view"] in (image.view, "")
            blank += row["view"] == ""
    assert len(records) == sum(len(study.images) for study in STUDIES)
    assert blank == 1


def test_leading_zeros_that_study_times_lack(tables: MimicCxrJpg) -> None:
    change(tables.folder / METADATA, put("StudyTime", "7.53100000002", row=0))
    change(tables.folder / METADATA, put("StudyTime", "130", row=1))
    change(tables.folder / METADATA, put("StudyTime", "235959.9", row=2))
    clocks = [moment.partition("T")[2] for moment in MimicCxrJpg(tables.folder).records()["acquired_at"][:3]]
    assert clocks == ["00:00:07.531", "00:01:30.000", "23:59:59.900"]


def test_the_published_split_may_be_absent_and_is_not_ours(dataset: MimicCxrJpg, tables: MimicCxrJpg) -> None:
    records = dataset.records()
    assert set(records["official_split"]) == {"train", "validate", "test"}
    assert (records.groupby("patient_id")["fold"].nunique() == 1).all()
    part = records["fold"].map(lambda fold: "train" if fold <= 8 else "validate" if fold == 9 else "test")
    assert (part != records["official_split"]).any()
    (tables.folder / SPLIT).unlink()
    assert set(tables.records()["official_split"]) == {""}
    assert [f.as_posix() for f in tables.files()] == [CHEXPERT, METADATA]


def test_labels_are_those_of_the_study(dataset: MimicCxrJpg) -> None:
    table = dataset.labels("chexpert").set_index("record_id")
    assert list(table.columns) == list(FINDINGS) == list(dataset.task("chexpert").classes)
    for i, study in enumerate(STUDIES):
        expected = dict.fromkeys(FINDINGS, 0) if i == 6 else {f: int(study.chexpert.get(f) == 1) for f in FINDINGS}
        for image in study.images:
            if i == 3:  # the labeller could not read it
                assert image.dicom_id not in table.index
            else:
                assert table.loc[image.dicom_id].to_dict() == expected
    assert any(-1 in study.chexpert.values() for study in STUDIES)  # uncertain, counted as absent
    with pytest.raises(ConfigurationError):
        dataset.labels("edema")


def test_reports_are_whole(dataset: MimicCxrJpg, tmp_path: Path) -> None:
    texts = dataset.reports().set_index("record_id")
    assert set(texts["source"]) == {"human"}
    for i, study in enumerate(STUDIES):
        for image in study.images:
            assert texts.loc[image.dicom_id, "text"] == ("" if i == 4 else study.report)
    # Unpacked beside the pictures rather than among them, they are the same.
    for name in (METADATA, SPLIT, CHEXPERT):
        shutil.copy(dataset.folder / name, tmp_path / name)
    for path in dataset.folder.rglob("s*.txt"):
        target = tmp_path / "mimic-cxr-reports" / path.relative_to(dataset.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    apart = MimicCxrJpg(tmp_path)
    assert apart.reports().equals(dataset.reports())
    assert len(apart.files()) == 3 + len(STUDIES) - 1


def test_no_report_at_all_says_where_they_are(tables: MimicCxrJpg) -> None:
    with pytest.raises(DatasetError, match=r"holds no reports.*mimic-cxr-reports\.zip"):
        tables.reports()


def test_an_endless_report_is_refused(tables: MimicCxrJpg) -> None:
    study = STUDIES[0]
    path = tables.folder / "files" / f"p{str(study.subject_id)[:2]}" / f"p{study.subject_id}" / f"s{study.study_id}.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"caf\xe9")
    assert tables.reports().set_index("record_id").loc[study.images[0].dicom_id, "text"] == "café"
    path.write_bytes(bytes(1 << 21))
    with pytest.raises(DatasetError, match="cannot be a report"):
        tables.reports()


def test_pictures(dataset: MimicCxrJpg) -> None:
    records = dataset.records()
    reasons = {}
    for row in records.itertuples():
        try:
            image = dataset.image(str(row.record_id))
            assert image.dtype == np.uint8
            assert image.shape == (row.rows, row.cols)
        except RecordError as error:
            reasons[row.record_id] = error.reason
    assert sorted(reasons.values()) == ["absent", "truncated"]
    there = dict(zip(records["record_id"], dataset.present(records["record_id"].tolist()), strict=True))
    assert [r for r, is_there in there.items() if not is_there] == [r for r, reason in reasons.items() if reason == "absent"]
    with pytest.raises(RecordError, match="names no picture"):
        dataset.image("../../etc/passwd")


def test_files_of_a_part(dataset: MimicCxrJpg, tables: MimicCxrJpg) -> None:
    names = [f.as_posix() for f in dataset.files()]
    assert len(names) == 3 + len(dataset.records()) - 1 + len(STUDIES) - 1
    study = STUDIES[1]
    part = Path("files", f"p{str(study.subject_id)[:2]}", f"p{study.subject_id}")
    shutil.copytree(dataset.folder / part, tables.folder / part)
    (tables.folder / part / "notes.md").write_text("of the user's own")
    held = {f.as_posix() for f in tables.files()}
    assert held == {METADATA, SPLIT, CHEXPERT} | {name for name in names if name.startswith(part.as_posix() + "/")}
    present = [
        r for r, there in zip(tables.records()["record_id"], tables.present(tables.records()["record_id"].tolist()), strict=True) if there
    ]
    assert {image.dicom_id for image in study.images} <= set(present)
    assert len(present) == sum(name.endswith(".jpg") for name in held)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("dicom_id", "../../../secret", "column dicom_id holds"),
        ("subject_id", "../12345678", "column subject_id holds"),
        ("study_id", "", "column study_id holds"),
        ("Rows", "-3", "column Rows holds"),
        ("StudyDate", "2180-05-06", "column StudyDate holds"),
        ("StudyDate", "21800231", "StudyDate and StudyTime hold 21800231"),
        ("StudyTime", "250000.1", "StudyDate and StudyTime hold"),
        ("StudyTime", "6199", "StudyDate and StudyTime hold"),
        ("StudyTime", "noon", "column StudyTime holds noon"),
        ("StudyTime", "", "column StudyTime holds"),
    ],
)
def test_metadata_that_cannot_be_read(tables: MimicCxrJpg, column: str, value: str, message: str) -> None:
    change(tables.folder / METADATA, put(column, value))
    with pytest.raises(DatasetError, match=message):
        tables.records()


def test_tables_that_cannot_be_read(tables: MimicCxrJpg) -> None:
    change(tables.folder / CHEXPERT, put("Edema", "probably"))
    with pytest.raises(DatasetError, match="column Edema holds probably"):
        tables.labels("chexpert")
    change(tables.folder / CHEXPERT, lambda table: table.__setitem__("study_id", table["study_id"].iloc[0]))
    with pytest.raises(DatasetError, match="stands in more than one row"):
        tables.labels("chexpert")
    (tables.folder / CHEXPERT).write_bytes(gzip.compress(b"study_id\n1\n")[:-8])
    with pytest.raises(DatasetError, match="chexpert"):
        tables.labels("chexpert")
    (tables.folder / CHEXPERT).unlink()
    with pytest.raises(DatasetError, match="is missing; set the dataset's folder"):
        tables.labels("chexpert")
    change(tables.folder / METADATA, lambda table: table.__setitem__("dicom_id", table["dicom_id"].iloc[0]))
    with pytest.raises(DatasetError, match="stands in more than one row"):
        MimicCxrJpg(tables.folder).records()
