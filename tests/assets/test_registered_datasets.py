"""Every registered dataset, from its fixture to a store: one file for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.access import Access
from assets.dataset import Dataset, DatasetError, get_dataset, list_datasets
from assets.outputs import Key, Output, Workspace, sha256_file
from models.errors import ConfigurationError
from models.registry import get_recipe
from models.store import open_store

NAMES = list_datasets()
RECORD_COLUMNS = ["record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at"]


@pytest.fixture(scope="module", params=NAMES)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp(request.param) / "source"
    get_dataset(request.param).make_fixture(folder)
    return get_dataset(request.param)(folder)


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def store(dataset: Dataset, root: Path, recipe: str = "native") -> Output:
    from assets.store import build_store

    return Workspace(root).publish(
        Key(("cleaned", dataset.name), recipe),
        lambda f: build_store(f, dataset, get_recipe(recipe)),
        code_version="1",
        access=dataset.access,
    )


def test_it_says_who_made_it_and_on_which_terms(dataset: Dataset) -> None:
    assert all(getattr(dataset.source, f) for f in ("title", "version", "homepage", "licence", "terms", "citation"))
    assert isinstance(dataset.access, Access)


def test_fixtures_are_the_same_bytes_for_the_same_seed(dataset: Dataset, tmp_path: Path) -> None:
    type(dataset).make_fixture(tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(dataset.folder)


def test_files_are_listed_relative_sorted_and_exist(dataset: Dataset) -> None:
    files = dataset.files()
    assert files == sorted(files)
    assert files
    assert all((dataset.folder / f).is_file() and not f.is_absolute() for f in files)


def test_records_have_the_columns_that_everything_reads(dataset: Dataset) -> None:
    records = dataset.records()
    assert list(records.columns) == RECORD_COLUMNS
    assert records["record_id"].is_unique
    assert all(isinstance(v, str) for c in ("record_id", "patient_id", "sex", "site", "device", "acquired_at") for v in records[c])
    assert set(records["sex"]) <= {"female", "male", "unknown"}
    assert not records[["record_id", "patient_id", "fold"]].isna().any().any()


def test_no_patient_is_in_two_parts(dataset: Dataset) -> None:
    records, split = dataset.records(), dataset.split
    part = records["fold"].map(
        {f: p for p, folds in (("train", split.train), ("validation", split.validation), ("test", split.test)) for f in folds}
    )
    assert part.notna().all()
    assert (part.groupby(records["patient_id"]).nunique() == 1).all()


def test_it_becomes_a_store_and_stays_untouched(dataset: Dataset, tmp_path: Path) -> None:
    before = hashes(dataset.folder)
    for path in [dataset.folder, *dataset.folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        output = store(dataset, tmp_path)
    finally:  # pytest removes the folder later
        for path in [dataset.folder, *dataset.folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert hashes(dataset.folder) == before
    opened = open_store(output.folder)
    quarantined = pd.read_parquet(output.path("quarantine.parquet"))
    assert len(opened) > 0
    assert len(quarantined) <= max(2, 0.1 * len(opened))
    assert quarantined.empty or quarantined["reason"].str.fullmatch("[a-z_]+").all()
    signals_BLT = opened.signals(np.arange(len(opened)))
    assert signals_BLT.dtype == np.float32
    assert np.isfinite(signals_BLT).all()
    assert set(opened.record_ids()) <= set(dataset.records()["record_id"])


def test_the_same_store_twice_is_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    first, second = store(dataset, tmp_path / "a"), store(dataset, tmp_path / "b")
    assert first.data_version == second.data_version


def test_every_task_has_its_classes_in_order(dataset: Dataset) -> None:
    known = set(dataset.records()["record_id"])
    for name in dataset.task_names:
        task, table = dataset.task(name), dataset.labels(name)
        assert list(table.columns) == ["record_id", *task.classes]
        assert list(task.class_names) and set(task.classes) <= set(task.class_names)
        values = table[list(task.classes)].to_numpy()
        assert set(np.unique(values)) <= {0, 1}
        assert (values.sum(axis=1) > 0).all()
        assert set(table["record_id"]) <= known


def test_an_unknown_task_is_a_typed_error(dataset: Dataset) -> None:
    with pytest.raises(ConfigurationError, match="no task 'nonsense'"):
        dataset.task("nonsense")


def test_reports_belong_to_records(dataset: Dataset) -> None:
    if not dataset.has_reports:
        pytest.skip("has no reports")
    reports = dataset.reports()
    assert list(reports.columns) == ["record_id", "text", "source"]
    assert set(reports["record_id"]) == set(dataset.records()["record_id"])
    assert set(reports["source"]) <= {"human", "machine"}


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_not_there_is_a_typed_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=str(tmp_path)):
        get_dataset(name)(tmp_path / "nowhere").files()


def test_an_unknown_dataset_is_a_typed_error() -> None:
    with pytest.raises(ConfigurationError, match="there is no dataset 'nonsense'"):
        get_dataset("nonsense")
