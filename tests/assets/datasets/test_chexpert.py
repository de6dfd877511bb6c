"""CheXpert from its fixture and from damaged copies of its tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from assets.chexpert_labels import FINDINGS
from assets.dataset import DatasetError
from assets.datasets.chexpert import CheXpert
from assets.record import RecordError
from models.errors import ConfigurationError
from models.types import Modality


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CheXpert:
    folder = tmp_path_factory.mktemp("chexpert")
    CheXpert.make_fixture(folder)
    return CheXpert(folder)


@pytest.fixture
def tables(dataset: CheXpert, tmp_path: Path) -> CheXpert:
    """The fixture's tables without its pictures, to be damaged."""
    for name in ("train.csv", "valid.csv"):
        shutil.copy(dataset.folder / name, tmp_path / name)
    return CheXpert(tmp_path)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_it_offers_pictures_and_nothing_else() -> None:
    assert CheXpert.offers() == {Modality.IMAGE}


def test_records(dataset: CheXpert) -> None:
    records = dataset.records()
    assert list(records.columns[8:]) == ["study_id", "view", "official_split"]
    assert records["patient_id"].str.fullmatch(r"chexpert:patient[0-9]{5}").all()
    assert set(records["fold"]) == set(range(1, 11))
    assert set(records["view"]) == {"AP", "PA", "LL", "LATERAL"}
    assert set(records["sex"]) == {"female", "male", "unknown"}
    assert records["age"].between(18, 90).all()
    assert records.groupby("official_split")["patient_id"].nunique().to_dict() == {"train": 27, "valid": 3}
    assert records.groupby("study_id")["patient_id"].nunique().max() == 1
    lateral = records["record_id"].str.endswith("lateral")
    assert (records.loc[lateral, "view"] == "LATERAL").all()


def test_labels_count_what_is_affirmed(dataset: CheXpert) -> None:
    table = dataset.labels("chexpert").set_index("record_id")
    assert list(table.columns) == list(FINDINGS)
    assert len(table) == len(dataset.records())
    assert table.loc["patient00001_study1_view1_frontal"].to_dict() == dict.fromkeys(FINDINGS, 0) | {"No Finding": 1}
    uncertain = table.loc["patient00002_study2_view1_frontal"]
    assert uncertain[["Cardiomegaly", "Support Devices"]].tolist() == [1, 1]
    assert uncertain["Edema"] == 0
    assert (table.sum(axis=1) == 0).any()  # a report that mentions nothing is a label too
    assert dataset.task("chexpert").may_be_empty
    with pytest.raises(ConfigurationError, match="no task 'rhythm'"):
        dataset.labels("rhythm")


def test_pictures(dataset: CheXpert) -> None:
    image = dataset.image("patient00001_study1_view1_frontal")
    assert image.dtype == np.uint8
    assert image.shape == (64, 56)
    reasons = {}
    for record_id in dataset.records()["record_id"]:
        try:
            dataset.image(record_id)
        except RecordError as error:
            reasons[record_id] = error.reason
    assert sorted(reasons.values()) == ["absent", "truncated"]
    there = dict(zip(dataset.records()["record_id"], dataset.present(dataset.records()["record_id"].tolist()), strict=True))
    assert [r for r, is_there in there.items() if not is_there] == [r for r, reason in reasons.items() if reason == "absent"]
    with pytest.raises(RecordError) as caught:
        dataset.image("patient00001_study1_view9_frontal")
    assert caught.value.reason == "absent"


def test_files_are_those_that_are_there(dataset: CheXpert, tables: CheXpert) -> None:
    names = [f.as_posix() for f in dataset.files()]
    assert {"train.csv", "valid.csv"} < set(names)
    assert len(names) == 2 + len(dataset.records()) - 1
    assert all((dataset.folder / name).is_file() for name in names)
    assert [f.as_posix() for f in tables.files()] == ["train.csv", "valid.csv"]
    assert not any(tables.present(tables.records()["record_id"].tolist()))


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0/", "CheXpert-v1.0-small/", ""])
def test_the_downloads_own_name_does_not_matter(tables: CheXpert, prefix: str) -> None:
    for name in ("train.csv", "valid.csv"):
        path = tables.folder / name
        path.write_text(path.read_text().replace("CheXpert-v1.0-small/", prefix))
    assert "patient00001_study1_view1_frontal" in set(tables.records()["record_id"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train/patient00001", "train/../../patient00001", "column Path holds"),
        ("train/patient00001", "/etc/patient00001", "column Path holds"),
        ("train/patient00001", "valid/patient00001", "column Path holds"),
        ("view1_frontal.jpg", "view1_frontal.pt", "column Path holds"),
        (",18,Frontal", ",eighteen,Frontal", "column Age holds eighteen"),
        ("-1.0", "maybe", "column Edema holds maybe"),
        ("view2_lateral", "view1_frontal", "more than once"),
        ("Frontal/Lateral", "View", "no column Frontal/Lateral"),
    ],
)
def test_what_cannot_be_read_is_a_typed_error(tables: CheXpert, old: str, new: str, message: str) -> None:
    change(tables.folder / "train.csv", old, new)
    with pytest.raises(DatasetError, match=message) as caught:
        tables.labels("chexpert")
    assert str(tables.folder) in str(caught.value)


def test_a_missing_table_is_named(tables: CheXpert) -> None:
    (tables.folder / "valid.csv").unlink()
    with pytest.raises(DatasetError, match=r"valid\.csv is missing; set the dataset's folder"):
        tables.records()
