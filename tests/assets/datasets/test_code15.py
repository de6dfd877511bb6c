"""CODE-15% from its fixture, from damaged copies of it, and real exams in the form in which the 2025 Challenge holds them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import assets.readers.hdf5
from assets.dataset import DatasetError
from assets.datasets.code15 import ABNORMALITIES, CODE15, EXAMS, N_PARTS
from assets.readers import read_record
from assets.readers.hdf5 import CODE_UV
from assets.record import RecordError
from models.errors import ConfigurationError
from models.types import LEADS

Row = dict[str, str]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CODE15:
    folder = tmp_path_factory.mktemp("code15")
    CODE15.make_fixture(folder)
    return CODE15(folder)


@pytest.fixture
def table(dataset: CODE15, tmp_path: Path) -> CODE15:
    """The fixture's table without the parts, to be changed."""
    shutil.copy(dataset.folder / EXAMS, tmp_path / EXAMS)
    return CODE15(tmp_path)


def rows(dataset: CODE15) -> list[Row]:
    with (dataset.folder / EXAMS).open(newline="") as stream:
        return list(csv.DictReader(stream))


def rewrite(dataset: CODE15, edit: Callable[[list[Row]], object]) -> CODE15:
    kept = rows(dataset)
    columns = list(kept[0])
    edit(kept)
    with (dataset.folder / EXAMS).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(kept)
    return CODE15(dataset.folder)


def put(column: str, value: str, row: int = 0) -> Callable[[list[Row]], object]:
    return lambda kept: kept[row].__setitem__(column, value)


def stored(dataset: CODE15, part: int) -> tuple[list[str], np.ndarray]:
    with h5py.File(dataset.folder / f"exams_part{part}.hdf5") as file:
        return [str(n) for n in file["exam_id"][:]], file["tracings"][:]


def test_records(dataset: CODE15) -> None:
    records, source = dataset.records().set_index("record_id"), rows(dataset)
    assert set(records["fold"]) == set(range(1, 11))
    assert records.groupby("patient_id")["fold"].nunique().max() == 1
    assert len(records) == len(source) > records["patient_id"].nunique()
    for row in source:
        found = records.loc[row["exam_id"]]
        assert found["patient_id"] == f"code15:{row['patient_id']}"
        assert found["age"] == float(row["age"])
        assert found["sex"] == ("male" if row["is_male"] == "True" else "female")
        assert found["normal_ecg"] == (row["normal_ecg"] == "True")


def test_records_are_in_the_order_of_the_files(dataset: CODE15) -> None:
    order = dataset.records()["record_id"].tolist()
    held = [*stored(dataset, 0)[0], *stored(dataset, 1)[0]]
    assert order[: len(held) - 2] == [number for number in held if number != "0"]
    assert [row["exam_id"] for row in rows(dataset)] != order


def test_what_is_read_is_what_is_stored_without_its_zeros(dataset: CODE15) -> None:
    for part in (0, 1):
        numbers, tracings_BTL = stored(dataset, part)
        for number, tracing_TL in zip(numbers, tracings_BTL, strict=True):
            if number == "0" or not tracing_TL.any():
                continue
            record = dataset.read(number)
            length = record.signal_LT.shape[1]
            first = (4096 - length) // 2
            assert np.array_equal(record.signal_LT, tracing_TL[first : first + length].T * np.float32(CODE_UV))
            assert not tracing_TL[:first].any()
            assert not tracing_TL[first + length :].any()
            assert record.leads == LEADS
            assert set(record.units) == {"uV"}
            assert record.fs_hz == 400


def test_reading_in_order_opens_each_part_once(dataset: CODE15, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    iterate = assets.readers.hdf5.iterate_code15

    def counting(path: Path) -> object:
        opened.append(path.name)
        return iterate(path)

    monkeypatch.setattr(assets.readers.hdf5, "iterate_code15", counting)
    monkeypatch.setattr(assets.readers.hdf5, "read_code15", lambda *_, **__: pytest.fail("an exam was looked for"))
    fresh = CODE15(dataset.folder)
    reasons = []
    for record_id in fresh.records()["record_id"]:
        try:
            fresh.read(record_id)
        except RecordError as error:
            reasons.append(error.reason)
    assert opened == ["exams_part0.hdf5", "exams_part1.hdf5"]
    assert sorted(reasons) == ["absent", "absent", "empty"]


def test_reading_in_any_order_gives_the_same(dataset: CODE15) -> None:
    ids = [
        r
        for r, there in zip(dataset.records()["record_id"], dataset.present(dataset.records()["record_id"].tolist()), strict=True)
        if there
    ]

    def read_all(order: list[str]) -> dict[str, str]:
        fresh, sums = CODE15(dataset.folder), {}
        for record_id in order:
            try:
                sums[record_id] = fresh.read(record_id).source_checksum
            except RecordError as error:
                sums[record_id] = error.reason
        return sums

    shuffled = np.random.default_rng(1).permutation(ids).tolist()
    assert read_all(ids) == read_all(shuffled) == read_all(ids[::-1]) == read_all([ids[0], *ids])
    assert len(set(read_all(ids).values())) == len(ids)


def test_a_part_that_is_not_there_is_absent(dataset: CODE15) -> None:
    records = dataset.records()["record_id"].tolist()
    gone = [r for r, there in zip(records, dataset.present(records), strict=True) if not there]
    assert gone == [row["exam_id"] for row in rows(dataset) if row["trace_file"] == "exams_part2.hdf5"]
    with pytest.raises(RecordError, match=r"unpack exams_part2\.zip") as caught:
        dataset.read(gone[0])
    assert caught.value.reason == "absent"
    assert [f.name for f in dataset.files()] == [EXAMS, "exams_part0.hdf5", "exams_part1.hdf5"]
    with pytest.raises(RecordError, match="names no exam '7'"):
        dataset.read("7")


def test_the_table_alone_is_enough_for_records_and_labels(dataset: CODE15, table: CODE15) -> None:
    assert set(table.records()["record_id"]) == set(dataset.records()["record_id"])
    assert [f.name for f in table.files()] == [EXAMS]
    assert not any(table.present(table.records()["record_id"].tolist()))
    assert len(table.labels("abnormalities")) == len(table.records())


def test_abnormalities(dataset: CODE15) -> None:
    labels = dataset.labels("abnormalities").set_index("record_id")
    assert tuple(labels.columns) == tuple(ABNORMALITIES)
    for row in rows(dataset):
        assert labels.loc[row["exam_id"]].to_dict() == {name: int(row[name] == "True") for name in ABNORMALITIES}
    assert (labels.sum() >= 3).all()
    assert (labels.sum(axis=1) == 0).any()
    assert dataset.task("abnormalities").may_be_empty
    with pytest.raises(ConfigurationError):
        dataset.labels("super")


@pytest.mark.parametrize(
    ("death", "years", "label"),
    [
        ("True", "0.5", 1),
        ("True", "1.0", 1),
        ("True", "1.01", 0),
        ("False", "3.2", 0),
        ("False", "1.0", None),
        ("False", "0.4", None),
        ("", "", None),
    ],
)
def test_death_counts_where_the_year_is_known(table: CODE15, death: str, years: str, label: int | None) -> None:
    changed = rewrite(table, lambda kept: kept[3].update(death=death, timey=years))
    labels = dict(zip(*(changed.labels("mortality")[c] for c in ("record_id", "DAYS_365")), strict=True))
    assert labels.get(rows(table)[3]["exam_id"]) == label


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("exam_id", "../1", "column exam_id holds"),
        ("exam_id", "0", "column exam_id holds 0"),
        ("patient_id", "", "column patient_id holds"),
        ("trace_file", "../../exams_part0.hdf5", "column trace_file holds"),
        ("trace_file", "/etc/passwd", "column trace_file holds"),
        ("age", "old", "column age holds old"),
        ("is_male", "2", "column is_male holds 2"),
        ("AF", "maybe", "column AF holds maybe"),
        ("death", "maybe", "column death holds maybe"),
        ("timey", "soon", "column timey holds soon"),
    ],
)
def test_what_cannot_be_read_is_a_typed_error(table: CODE15, column: str, value: str, message: str) -> None:
    changed = rewrite(table, put(column, value))
    with pytest.raises(DatasetError, match=message):
        (changed.records(), changed.labels("abnormalities"), changed.labels("mortality"))


def test_an_exam_in_two_rows_is_a_typed_error(table: CODE15) -> None:
    changed = rewrite(table, lambda kept: kept.append(dict(kept[0])))
    with pytest.raises(DatasetError, match="stands in more than one row"):
        changed.files()


@pytest.mark.parametrize("damage", ["half", "start", "pointer", "nothing"])
def test_a_damaged_part_spoils_its_own_exams_only(dataset: CODE15, table: CODE15, damage: str) -> None:
    shutil.copy(dataset.folder / "exams_part1.hdf5", table.folder)
    data = (dataset.folder / "exams_part0.hdf5").read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    damaged = {"half": data[: len(data) // 2], "start": data[:100], "pointer": pointer, "nothing": b""}[damage]
    (table.folder / "exams_part0.hdf5").write_bytes(damaged)
    reasons: dict[str, set[str]] = {}
    for record_id in table.records()["record_id"]:
        try:
            table.read(record_id)
        except RecordError as error:
            reasons.setdefault(error.path.name, set()).add(error.reason)
    assert len(reasons["exams_part0.hdf5"]) == 1
    assert reasons["exams_part0.hdf5"] <= {"bad_hdf5", "lfs_pointer", "empty"}
    assert (reasons["exams_part1.hdf5"], reasons["exams_part2.hdf5"]) == ({"empty"}, {"absent"})


def test_an_index_in_another_file_is_not_followed(dataset: CODE15, table: CODE15) -> None:
    shutil.copy(dataset.folder / "exams_part0.hdf5", table.folder / "elsewhere.hdf5")
    with h5py.File(table.folder / "exams_part0.hdf5", "w") as file:
        for name in ("exam_id", "tracings"):
            file[name] = h5py.ExternalLink("elsewhere.hdf5", name)
    linked = CODE15(table.folder)
    record_id = next(row["exam_id"] for row in rows(table) if row["trace_file"] == "exams_part0.hdf5")
    assert linked.records()["record_id"].is_unique
    with pytest.raises(RecordError) as caught:
        linked.read(record_id)
    assert caught.value.reason == "unknown_layout"


def test_every_file_of_the_publication_can_be_fetched() -> None:
    files = CODE15.source.download.files
    assert [f.path for f in files] == [EXAMS, *(f"exams_part{i}.zip" for i in range(N_PARTS))]
    assert all(f.url.startswith("https://zenodo.org/records/4916206/files/") for f in files)
    assert [f.unpack for f in files] == [False] + [True] * N_PARTS


def test_real_exams_as_the_challenge_holds_them(shared_data: Path) -> None:
    folder = shared_data / "challenge2025"
    with (folder / "exams.csv").open(newline="") as stream:
        exams = list(csv.DictReader(stream))
    assert {exam["source"] for exam in exams} == {"code15", "samitrop"}
    lengths: dict[str, list[int]] = {"code15": [], "samitrop": []}
    for exam in exams:
        record = read_record(folder / exam["source"] / f"{exam['exam_id']}.hea")
        assert record.leads == LEADS
        assert record.fs_hz == float(exam["fs"]) == CODE15.fs_hz
        assert record.signal_LT.shape == (12, int(exam["n_samples"]))
        lengths[exam["source"]].append(record.signal_LT.shape[1])
    assert (len(lengths["code15"]), len(lengths["samitrop"])) == (187, 12)
    # What the window and the limit of the quarantine rest on.
    seconds = np.array(lengths["code15"]) / CODE15.fs_hz
    assert (seconds >= CODE15.window_s).mean() > 1 - CODE15.quarantine_limit
    assert (seconds >= 10).mean() < 0.5
