"""Every registered dataset, from its fixture to a store: one file for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.access import Access
from assets.cleaned import build_cleaned, recipes_for
from assets.dataset import LAB_COLUMNS, QUESTION_COLUMNS, RECORD_COLUMNS, Dataset, DatasetError, get_dataset, list_datasets
from assets.lab_tables import ENCOUNTER_COLUMNS
from assets.outputs import Key, Output, Workspace, sha256_file
from models.errors import ConfigurationError
from models.image_store import open_image_store
from models.registry import get_recipe
from models.store import open_store

NAMES = list_datasets()


@pytest.fixture(scope="module", params=NAMES)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp(request.param)
    found = get_dataset(request.param)
    for name in (found.name, *found.companions):
        get_dataset(name).make_fixture(root / name)
    return found(root / found.name, {name: root / name for name in found.companions})


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def cleaned(dataset: Dataset, root: Path, recipe: str) -> Output:
    return Workspace(root).publish(
        Key(("cleaned", dataset.name), recipe),
        lambda f: build_cleaned(f, dataset, get_recipe(recipe), lambda *_: None),
        code_version="1",
        access=dataset.access,
    )


def one_of_each_kind(dataset: Dataset) -> list[str]:
    """A recipe for each kind of thing that the dataset offers."""
    by_kind = {get_recipe(name).modality: name for name in recipes_for(type(dataset))}
    return [{"ecg": "native"}.get(kind, name) for kind, name in by_kind.items()]


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
    assert tuple(records.columns[: len(RECORD_COLUMNS)]) == RECORD_COLUMNS
    assert records["record_id"].is_unique
    assert all(isinstance(v, str) for c in ("record_id", "patient_id", "sex", "site", "device", "acquired_at") for v in records[c])
    assert set(records["sex"]) <= {"female", "male", "unknown"}
    assert not records[["record_id", "patient_id", "fold"]].isna().any().any()
    assert records["patient_id"].str.fullmatch(r"[a-z0-9_]+:\S+").all()
    assert records["acquired_at"].str.fullmatch(r"(\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?)?)?").all()
    split = dataset.split
    assert {*split.train, *split.validation, *split.test} >= set(records["fold"])
    assert all(set(folds) & set(records["fold"]) for folds in (split.train, split.validation, split.test))
    present = dataset.present(records["record_id"].tolist())
    assert len(present) == len(records) and any(present)


def test_no_patient_is_in_two_parts(dataset: Dataset) -> None:
    records, split = dataset.records(), dataset.split
    part = records["fold"].map(
        {f: p for p, folds in (("train", split.train), ("validation", split.validation), ("test", split.test)) for f in folds}
    )
    assert part.notna().all()
    assert (part.groupby(records["patient_id"]).nunique() == 1).all()


def test_it_becomes_a_store_and_stays_untouched(dataset: Dataset, tmp_path: Path) -> None:
    if not recipes_for(type(dataset)):
        pytest.skip("holds questions alone")
    before = hashes(dataset.folder)
    for path in [dataset.folder, *dataset.folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        outputs = [cleaned(dataset, tmp_path, recipe) for recipe in one_of_each_kind(dataset)]
    finally:  # pytest removes the folder later
        for path in [dataset.folder, *dataset.folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert hashes(dataset.folder) == before
    assert outputs
    for output in outputs:
        {"store": check_store, "image_store": check_images, "labs": check_labs}[output.facts["kind"]](dataset, output)


def check_store(dataset: Dataset, output: Output) -> None:
    opened = open_store(output.folder)
    check_left_out(dataset, output, set(opened.record_ids()))
    signals_BLT = opened.signals(np.arange(min(len(opened), 200)))
    assert signals_BLT.dtype == np.float32
    assert np.isfinite(signals_BLT).all()
    assert tuple(c.name for c in opened.channels) == tuple(c.name for c in dataset.channels())
    peaks_L = np.abs(signals_BLT).max(axis=(0, 2)) / [c.scale for c in opened.channels]
    assert (peaks_L > 50).all(), "a channel whose scale leaves a signal a few counts only"


def check_images(dataset: Dataset, output: Output) -> None:
    opened = open_image_store(output.folder)
    check_left_out(dataset, output, set(opened.index["record_id"].to_pylist()))
    images = opened.images(np.arange(len(opened)))
    assert (images.max(axis=(1, 2)) > images.min(axis=(1, 2))).all()


def check_left_out(dataset: Dataset, output: Output, stored: set[str]) -> None:
    known = set(dataset.records()["record_id"])
    quarantined = pd.read_parquet(output.path("quarantine.parquet"))
    absent = set(pd.read_parquet(output.path("absent.parquet"))["record_id"])
    assert stored
    assert stored | set(quarantined["record_id"]) | absent == known
    assert output.facts["n_quarantined"] <= max(2, 0.1 * len(known))
    assert quarantined.empty or quarantined["reason"].str.fullmatch("[a-z_]+").all()


def check_labs(dataset: Dataset, output: Output) -> None:
    labs, encounters = (pd.read_parquet(output.path(f"{name}.parquet")) for name in ("labs", "encounters"))
    assert tuple(labs.columns) == LAB_COLUMNS
    assert tuple(encounters.columns) == ENCOUNTER_COLUMNS
    assert set(labs["patient_id"]) <= set(dataset.records()["patient_id"])
    assert labs["value"].notna().any()


def test_the_same_store_twice_is_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    if not recipes_for(type(dataset)):
        pytest.skip("holds questions alone")
    recipe = one_of_each_kind(dataset)[0]
    first, second = cleaned(dataset, tmp_path / "a", recipe), cleaned(dataset, tmp_path / "b", recipe)
    assert first.data_version == second.data_version


def test_annotated_beats_lie_in_their_recordings(dataset: Dataset) -> None:
    if not dataset.has_beats:
        pytest.skip("has no beats")
    records = dataset.records()["record_id"].tolist()
    there = [r for r, present in zip(records, dataset.present(records), strict=True) if present][:3]
    for record_id in there:
        beats, record = dataset.beats(record_id), dataset.read(record_id)
        assert len(beats.sample_N) == len(beats.symbols) == len(beats.notes) > 0
        assert (np.diff(beats.sample_N) >= 0).all()
        assert beats.sample_N[0] >= 0 and beats.sample_N[-1] / beats.fs_hz <= record.signal_LT.shape[1] / record.fs_hz


def test_every_task_has_its_classes_in_order(dataset: Dataset) -> None:
    known = set(dataset.records()["record_id"])
    for name in dataset.task_names:
        task, table = dataset.task(name), dataset.labels(name)
        keys = ["record_id", "start"] if task.per_window else ["record_id"]
        assert list(table.columns) == [*keys, *task.classes]
        assert list(task.class_names) and set(task.classes) <= set(task.class_names)
        values = table[list(task.classes)].to_numpy()
        if task.kind == "regression":
            assert np.isfinite(values).all() and values.std() > 0 and task.unit
        else:
            assert set(np.unique(values)) <= {0, 1}
            assert task.may_be_empty or (values.sum(axis=1) > 0).all()
            assert task.kind != "single_label" or (values.sum(axis=1) == 1).all()
            assert values.sum() > 0
        assert not table[keys].duplicated().any()
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


def test_questions_are_about_records_and_have_answers(dataset: Dataset) -> None:
    if not dataset.has_questions:
        pytest.skip("has no questions")
    questions = dataset.questions()
    assert tuple(questions.columns) == QUESTION_COLUMNS
    assert questions["question_id"].is_unique and set(questions["record_id"]) <= set(dataset.records()["record_id"])
    assert not (questions[["question", "question_type", "answers"]] == "").any().any()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_not_there_is_a_typed_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=str(tmp_path)):
        get_dataset(name)(tmp_path / "nowhere").files()


def test_an_unknown_dataset_is_a_typed_error() -> None:
    with pytest.raises(ConfigurationError, match="there is no dataset 'nonsense'"):
        get_dataset("nonsense")
