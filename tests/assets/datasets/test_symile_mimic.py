"""Symile-MIMIC from its fixture, held to the published pairing rules, and from damaged copies of its tables and arrays."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.chexpert_labels import FINDINGS
from assets.dataset import LAB_COLUMNS, DatasetError
from assets.datasets.symile_mimic import PARTS, RETRIEVAL, SymileMimic
from assets.mimic import cohort
from assets.record import RecordError
from assets.splits import fold_of
from assets.symile import COHORT, FILE_LEADS, FIXTURE_CANDIDATES, LAB_ITEMS
from models.errors import ConfigurationError
from models.types import LEADS, Modality

TABLES = (COHORT, "train.csv", "val.csv", "val_retrieval.csv", "test.csv")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SymileMimic:
    folder = tmp_path_factory.mktemp("symile_mimic")
    SymileMimic.make_fixture(folder)
    return SymileMimic(folder)


@pytest.fixture
def tables(dataset: SymileMimic, tmp_path: Path) -> SymileMimic:
    """The fixture's tables without its arrays, to be damaged."""
    for name in TABLES:
        shutil.copy(dataset.folder / name, tmp_path / name)
    return SymileMimic(tmp_path)


@pytest.fixture
def val(dataset: SymileMimic, tables: SymileMimic) -> SymileMimic:
    """The tables with the arrays of val only, to be damaged."""
    shutil.copytree(dataset.folder / "data_npy" / "val", tables.folder / "data_npy" / "val")
    return tables


def change(path: Path, edit: Callable[[pd.DataFrame], object]) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    edit(table)
    table.to_csv(path, index=False)


def put(column: str, value: str, row: int = 0) -> Callable[[pd.DataFrame], object]:
    return lambda table: table.__setitem__(column, table[column].where(table.index != row, value))


def array(dataset: SymileMimic, name: str, part: str) -> Path:
    return dataset.folder / "data_npy" / part / f"{name}_{part}.npy"


def reason(read: Callable[[str], object], record_id: str) -> str:
    with pytest.raises(RecordError) as caught:
        read(record_id)
    return caught.value.reason


def of_part(dataset: SymileMimic, part: str) -> list[str]:
    records = dataset.records()
    return records.loc[records["official_split"] == part, "record_id"].tolist()


def test_it_offers_three_kinds_of_data() -> None:
    assert SymileMimic.offers() == {Modality.ECG, Modality.IMAGE, Modality.LABS}
    assert len(LAB_ITEMS) == len(set(LAB_ITEMS)) == 50
    assert sorted(LAB_ITEMS) == list(LAB_ITEMS)


def test_records_follow_the_published_rules(dataset: SymileMimic) -> None:
    records = dataset.records().set_index("record_id")
    stays = {str(stay.hadm_id): stay for stay in cohort(0).admissions}
    images = {image.dicom_id: (study, image) for study in cohort(0).xrays for image in study.images}
    edges = []
    for record_id, row in records.iterrows():
        stay = stays[str(record_id)]
        study, image = images[row["cxr_dicom_id"]]
        assert row["patient_id"] == f"mimic:{stay.subject_id}"
        assert study.subject_id == stay.subject_id
        assert row["cxr_study_id"] == str(study.study_id) != row["ecg_study_id"]
        assert row["view"] == image.view in ("AP", "PA")
        ecg_h = (pd.Timestamp(row["acquired_at"]) - stay.admitted) / pd.Timedelta("1h")
        cxr_h = (pd.Timestamp(row["cxr_at"]) - stay.admitted) / pd.Timedelta("1h")
        assert -24 <= ecg_h <= 24 < cxr_h <= 72
        edges += [ecg_h, cxr_h]
    assert {-24.0, 72.0} <= set(edges)  # a day before admission is within, so is the end of the third day


def test_parts_are_the_published_ones_and_not_our_folds(dataset: SymileMimic) -> None:
    records = dataset.records()
    assert records.groupby("patient_id")["fold"].nunique().max() == 1
    assert dict(zip(records["official_split"], records["fold"], strict=True)) == PARTS
    assert {dataset.part(fold) for fold in PARTS.values()} == {"train", "validation", "test"}
    test = records[records["fold"] == 3]
    assert {fold_of(p) for p in test["patient_id"]} & set(range(1, 9))  # what the docstring warns of
    assert len(records) == len(pd.read_csv(dataset.folder / COHORT)) - 1  # one stay is in no part


def test_ages_above_89_are_90(tables: SymileMimic) -> None:
    change(tables.folder / COHORT, lambda table: table.update(pd.DataFrame({"anchor_age": ["91", "60"], "age": ["97", "63"]})))
    assert tables.records().set_index("record_id")["age"].loc[pd.read_csv(tables.folder / COHORT, dtype=str)["hadm_id"][:2]].tolist() == [
        90,
        63,
    ]


def test_ecgs_are_rows_of_the_arrays_in_the_files_lead_order(dataset: SymileMimic) -> None:
    for part in PARTS:
        stored, ids = np.load(array(dataset, "ecg", part)), np.load(array(dataset, "hadm_id", part)).tolist()
        for record_id in of_part(dataset, part):
            record = dataset.read(record_id)
            assert np.array_equal(record.signal_LT, stored[ids.index(int(record_id)), 0].T)
            assert record.signal_LT.flags.c_contiguous
            assert (record.signal_LT.min(), record.signal_LT.max()) == (-1, 1)
            assert record.units == ("1",) * 12
    steps = {lead: np.diff(record.signal_LT[i].astype(float)) for i, lead in enumerate(record.leads)}
    assert record.leads == FILE_LEADS != LEADS
    assert np.allclose(steps["aVF"], (steps["II"] + steps["III"]) / 2, atol=0.01)
    assert not np.allclose(steps["aVL"], (steps["II"] + steps["III"]) / 2, atol=0.01)


def test_the_store_holds_ecgs_of_unit_one_without_loss() -> None:
    for channel in SymileMimic.channels():
        assert (channel.kind, channel.unit) == ("ECG", "1")
        assert 1 / np.float32(channel.scale) == 16384  # of 32767 counts
        assert np.float32(-1) / np.float32(channel.scale) * np.float32(channel.scale) == -1
    assert [channel.name for channel in SymileMimic.channels()] == list(LEADS)


def test_pictures_are_the_grey_that_was_normalised(dataset: SymileMimic) -> None:
    stored, ids = np.load(array(dataset, "cxr", "test")), np.load(array(dataset, "hadm_id", "test")).tolist()
    for record_id in of_part(dataset, "test"):
        image = dataset.image(record_id)
        assert image.dtype == np.uint8
        assert image.shape == (40, 40)
        for channel, (mean, deviation) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
            assert np.allclose((image / 255 - mean) / deviation, stored[ids.index(int(record_id)), channel], atol=1e-5)


def test_labs_are_the_raw_values(dataset: SymileMimic) -> None:
    labs = pd.concat(list(dataset.labs()))
    assert list(labs.columns) == list(LAB_COLUMNS)
    assert set(labs["charted_at"]) == set(labs["unit"]) == {""}
    source = pd.concat([pd.read_csv(dataset.folder / f"{part}.csv") for part in ("train", "val")])
    source = source.astype({"hadm_id": str}).set_index("hadm_id")
    found = labs[labs["encounter_id"].isin(source.index)]
    assert len(found) == source[list(LAB_ITEMS)].notna().sum().sum()
    for row in found.itertuples():
        assert source.at[row.encounter_id, row.item_id] == row.value
    assert set(labs["encounter_id"]) == set(dataset.records()["record_id"])
    earliest = {}
    for result in cohort(0).labs:
        earliest.setdefault((result.hadm_id, result.item_id), []).append(result.value)
    first = labs[labs["encounter_id"] == of_part(dataset, "train")[0]].iloc[0]
    assert first["value"] in earliest[int(first["encounter_id"]), int(first["item_id"])]


def test_stays(dataset: SymileMimic) -> None:
    stays = dataset.encounters().set_index("encounter_id")
    for stay in cohort(0).admissions:
        if str(stay.hadm_id) in stays.index:
            row = stays.loc[str(stay.hadm_id)]
            assert pd.Timestamp(row["admitted_at"]) == stay.admitted
            assert row["died_at"] == ("" if stay.died is None else stay.died.replace(microsecond=0).isoformat())
            assert row["kind"] == stay.kind
    assert set(stays.index) == set(dataset.records()["record_id"])
    assert (stays["died_at"] != "").any()


def test_labels_have_all_14_findings(dataset: SymileMimic) -> None:
    table = dataset.labels("chexpert").set_index("record_id")
    assert list(table.columns) == list(FINDINGS)
    cohort_table = pd.read_csv(dataset.folder / COHORT).astype({"hadm_id": str}).set_index("hadm_id")
    assert (table == (cohort_table.loc[table.index, list(FINDINGS)] == 1)).all(axis=None)
    assert (cohort_table[list(FINDINGS)] == -1).any(axis=None)  # uncertain, counted as absent
    with pytest.raises(ConfigurationError):
        dataset.labels("edema")


@pytest.mark.parametrize("part", ["val", "test"])
def test_retrieval(dataset: SymileMimic, part: str) -> None:
    pairs = dataset.retrieval(part)
    assert set(pairs["query_id"]) == set(of_part(dataset, part)) >= set(pairs["candidate_id"])
    assert (pairs.groupby("query_id").size() == FIXTURE_CANDIDATES).all()
    assert not pairs.duplicated(["query_id", "candidate_id"]).any()
    assert ((pairs["query_id"] == pairs["candidate_id"]) == (pairs["is_positive"] == 1)).all()
    with pytest.raises(ConfigurationError, match="choose val or test"):
        dataset.retrieval("train")


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize(
    "edit",
    [
        put("label", "0"),
        put("label", "2"),
        put("label_hadm_id", "1"),
        lambda t: t.__setitem__("label", [*t["label"][:-1], "1"]),
        lambda t: t.drop(index=0, inplace=True),
    ],
)
def test_a_retrieval_table_that_is_none(tables: SymileMimic, part: str, edit: Callable[[pd.DataFrame], object]) -> None:
    change(tables.folder / RETRIEVAL[part], edit)
    with pytest.raises(DatasetError, match="must have exactly one row of label 1"):
        tables.retrieval(part)


def test_tables_alone_are_enough_for_labs_and_labels(dataset: SymileMimic, tables: SymileMimic) -> None:
    assert [f.as_posix() for f in tables.files()] == sorted(TABLES)
    records = tables.records()
    assert records.equals(dataset.records())
    assert not any(tables.present(records["record_id"].tolist()))
    assert next(tables.labs()).equals(next(dataset.labs()))
    assert reason(tables.read, records["record_id"].iloc[0]) == reason(tables.image, records["record_id"].iloc[0]) == "absent"


def test_a_part_of_the_arrays(dataset: SymileMimic, val: SymileMimic) -> None:
    records = val.records()
    there = val.present(records["record_id"].tolist())
    assert [r for r, is_there in zip(records["record_id"], there, strict=True) if is_there] == of_part(val, "val")
    for record_id in of_part(val, "val"):
        assert val.read(record_id).source_checksum == dataset.read(record_id).source_checksum
    assert sum(f.suffix == ".npy" for f in val.files()) == 3


def test_a_row_is_read_without_the_rest_of_its_array(val: SymileMimic) -> None:
    record_id = of_part(val, "val")[0]
    ids, signal = np.load(array(val, "hadm_id", "val")), np.load(array(val, "ecg", "val"))[0]
    rows = 10_000  # 2.4 GB, of which the disk holds one row
    sparse = np.lib.format.open_memmap(array(val, "ecg", "val"), mode="w+", dtype="<f4", shape=(rows, 1, 5000, 12))
    sparse[0] = signal
    del sparse
    np.save(array(val, "hadm_id", "val"), np.concatenate([ids, np.arange(rows - len(ids))]))
    assert np.array_equal(val.read(record_id).signal_LT, signal[0].T)


def damage_array(path: Path, how: str) -> None:
    stored = np.load(path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        path.write_bytes(pickle.dumps([1]))
    elif how == "objects":
        np.save(path, np.array([{}] * len(stored)), allow_pickle=True)
    elif how == "archive":
        np.savez(path.with_suffix(".npz"), stored)
        path.with_suffix(".npz").rename(path)
    elif how == "rows":
        np.save(path, stored[:-1])
    elif how == "integers":
        np.save(path, stored.astype(np.int16))
    elif how == "axes":
        np.save(path, np.moveaxis(stored, 1, -1))
    elif how == "flat":
        np.save(path, stored.ravel())
    elif how == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize("how", ["cut", "empty", "pickle", "objects", "archive", "rows", "integers", "axes", "flat", "pointer"])
@pytest.mark.parametrize("name", ["ecg", "cxr"])
def test_arrays_that_are_not_as_published(val: SymileMimic, name: str, how: str) -> None:
    damage_array(array(val, name, "val"), how)
    read, other = (val.read, val.image) if name == "ecg" else (val.image, val.read)
    record_id = of_part(val, "val")[0]
    assert reason(read, record_id) == "bad_array"
    other(record_id)


def test_arrays_of_another_order_are_refused(val: SymileMimic) -> None:
    np.save(array(val, "hadm_id", "val"), np.load(array(val, "hadm_id", "val"))[::-1])
    assert {reason(val.read, record_id) for record_id in of_part(val, "val")} == {"row_order"}
    assert {reason(val.image, record_id) for record_id in of_part(val, "val")} == {"row_order"}


@pytest.mark.parametrize("value", [2.0, np.inf, -1.5])
def test_samples_that_are_not_normalised(val: SymileMimic, value: float) -> None:
    stored = np.load(array(val, "ecg", "val"))
    stored[0, 0, 17, 3] = value
    np.save(array(val, "ecg", "val"), stored)
    first, second = of_part(val, "val")[:2]
    assert reason(val.read, first) == "bad_samples"
    val.read(second)


@pytest.mark.parametrize("value", [5.0, np.nan, -np.inf])
def test_pixels_that_are_not_normalised(val: SymileMimic, value: float) -> None:
    stored = np.load(array(val, "cxr", "val"))
    stored[0, 0, 17, 3] = value
    np.save(array(val, "cxr", "val"), stored)
    first, second = of_part(val, "val")[:2]
    assert reason(val.image, first) == "bad_samples"
    val.image(second)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (COHORT, put("hadm_id", "x"), "column hadm_id holds x"),
        (COHORT, lambda t: t.__setitem__("hadm_id", t["hadm_id"].iloc[0]), "stands in more than one row"),
        (COHORT, lambda t: t.drop(index=range(3), inplace=True), "lacks hadm_id"),
        (COHORT, put("subject_id", "10000000"), "lacks hadm_id"),
        (COHORT, put("age", "old"), "column age holds old"),
        (COHORT, put("ecg_time", "yesterday"), "column ecg_time holds yesterday"),
        (COHORT, put("Edema", "0.5"), "column Edema holds 0.5"),
        (COHORT, put("50912", "high"), "column 50912 holds high"),
        (COHORT, lambda t: t.drop(columns="52172", inplace=True), "no column 52172"),
        ("train.csv", lambda t: t.__setitem__("hadm_id", t["hadm_id"].iloc[0]), "in the parts more than once"),
    ],
)
def test_tables_that_cannot_be_read(tables: SymileMimic, name: str, edit: Callable[[pd.DataFrame], object], message: str) -> None:
    change(tables.folder / name, edit)
    with pytest.raises(DatasetError, match=message):
        (tables.records(), tables.labels("chexpert"), list(tables.labs()), tables.encounters())


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_table_is_named(tables: SymileMimic, name: str) -> None:
    (tables.folder / name).unlink()
    with pytest.raises(DatasetError, match=f"{name} is missing; set the dataset's folder"):
        (tables.files(), tables.records(), tables.retrieval("val"))
