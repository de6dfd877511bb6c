"""Order and joining of records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.data import BatchOrder, StepLoader, labelled_records, records_with_reports
from models.errors import ConfigurationError, TrainingError
from models.store import Store, open_store
from models.types import Batch

if TYPE_CHECKING:
    from conftest import Study


def test_a_pass_sees_every_record_once_and_passes_differ() -> None:
    order = BatchOrder(12, 3, seed=0)
    first, second = (np.concatenate([order.positions(s) for s in range(p * 4, p * 4 + 4)]) for p in range(2))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()
    assert (order.positions(5) == BatchOrder(12, 3, seed=0).positions(5)).all()
    assert (order.positions(5) != BatchOrder(12, 3, seed=1).positions(5)).any()


def test_an_incomplete_last_batch_is_dropped() -> None:
    order = BatchOrder(11, 4, seed=0)
    assert all(len(order.positions(s)) == 4 for s in range(10))
    assert not set(order.positions(0)) & set(order.positions(1))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shares_of_all_processes_are_the_batch(world: int) -> None:
    order = BatchOrder(50, 8, seed=0)
    shares = np.concatenate([order.share(3, rank, world) for rank in range(world)])
    assert shares.tolist() == order.positions(3).tolist()
    with pytest.raises(ConfigurationError, match="divided among 3 devices"):
        order.share(0, 0, 3)


def test_the_loader_goes_on_from_any_step_and_counts_its_waits() -> None:
    def read(step: int) -> Batch:
        time.sleep(0.02)
        return Batch(torch.zeros(1, 1, 1), torch.tensor([step]))

    def steps(loader: Iterator[Batch]) -> list[int]:
        return [int(b.row_B) for b in loader]

    assert steps(iter(StepLoader(read, lambda: 0, 5))) == [0, 1, 2, 3, 4]
    late = StepLoader(read, lambda: 3, 5)
    assert steps(iter(late)) == [3, 4]
    assert late.waited_s > 0.03
    assert steps(iter(StepLoader(read, lambda: 5, 5))) == []


def test_an_error_of_the_reader_reaches_the_loop() -> None:
    def read(step: int) -> Batch:
        raise TrainingError("a shard is gone")

    with pytest.raises(TrainingError, match="a shard is gone"):
        next(iter(StepLoader(read, lambda: 0, 1)))


def test_reports_follow_records_by_name(study: Study) -> None:
    """The reports table of the fixture is shuffled."""
    records = records_with_reports(open_store(study.folder / "store"), [9], study.folder / "reports.parquet", 1)
    batch = records.batch(np.array([0, 5]))
    table = pq.read_table(study.folder / "reports.parquet").to_pydict()
    text_of = dict(zip(table["record_id"], table["text"], strict=True))
    assert batch.texts == [text_of[f"r{int(row):04d}"] for row in batch.row_B]
    assert batch.signal_BLT.shape == (2, 12, 160)


def test_short_reports_are_left_out_by_their_words(study: Study, tmp_path: Path) -> None:
    ids = [f"r{i:04d}" for i in range(120)]
    pq.write_table(
        pa.table({"record_id": ids, "text": ["*** sinus rhythm ***"] * 60 + ["sinus rhythm, normal ECG"] * 60}), tmp_path / "two.parquet"
    )
    records = records_with_reports(open_store(study.folder / "store"), list(range(1, 11)), tmp_path / "two.parquet", 4)
    assert (len(records), records.skipped) == (60, 60)
    with pytest.raises(TrainingError, match="is not a reports table"):
        records_with_reports(open_store(study.folder / "store"), [1], study.folder / "labels.parquet", 1)


def test_of_a_recording_in_windows_the_first_is_labelled(study: Study) -> None:
    """Rows 4 and 5 become later windows of record r0003, whose first one stands behind them."""
    path = study.folder / "store" / "index.arrow"
    index = pa.ipc.open_file(path).read_all().to_pydict()
    index["record_id"][3:6] = ["r0003"] * 3
    index["start"][3:6] = [20.0, 10.0, 0.0]
    table = pa.table(index, schema=pa.ipc.open_file(path).schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = labelled_records(open_store(study.folder / "store"), study.folder / "labels.parquet")
    assert len(set(data.column("record_id").tolist())) == len(data.rows_N) == 118
    assert [row for row in data.rows_N.tolist() if row < 7] == [0, 1, 2, 5, 6]


def cut(study: Study, step: float = 10.0) -> Store:
    """The store of a study as if it held the recordings "w0", "w1", ... of three windows each, which begin `step` seconds apart."""
    store = open_store(study.folder / "store")
    rows = np.arange(len(store))
    for name, values in (("record_id", [f"w{i // 3}" for i in rows]), ("start", step * (rows % 3))):
        store.index = store.index.set_column(store.index.column_names.index(name), name, pa.array(values))
    return store


def write_rates(folder: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "rates.parquet")
    return folder / "rates.parquet"


def test_labels_of_windows_are_joined_by_recording_and_second(study: Study) -> None:
    store = cut(study)
    labels = write_rates(study.folder, record_id=["w9", "w1", "w1", "x"], start=[20.0, 10.0, 30.0, 0.0], rate=[80.5, 61.0, 62.0, 63.0])
    data = labelled_records(store, labels, "regression")
    assert data.column("record_id").tolist() == ["w1@10", "w9@20"], "the window at 30 s was refused by the store, x is not in it"
    assert data.rows_N.tolist() == [4, 29]
    assert data.labels_NC.dtype == np.float32
    assert data.labels_NC[:, 0].tolist() == [61.0, 80.5]
    assert data.of_folds([10]).tolist() == [1]


def test_windows_of_another_length_are_refused_by_name(study: Study) -> None:
    store = cut(study, step=30.0)
    labels = write_rates(study.folder, record_id=["w1", "w2"], start=[10.0, 20.0], rate=[61.0, 62.0])
    with pytest.raises(TrainingError, match="'w1@10'"):
        labelled_records(store, labels, "regression")


def test_a_target_that_is_no_number_is_refused_by_name(study: Study) -> None:
    labels = write_rates(study.folder, record_id=["r0000", "r0001"], rate=[61.0, float("nan")])
    with pytest.raises(TrainingError, match=r"no finite number for 1 records \(r0001\)"):
        labelled_records(open_store(study.folder / "store"), labels, "regression")


def test_one_class_alone_holds_in_a_single_label_task(study: Study) -> None:
    store = open_store(study.folder / "store")
    fits = write_rates(study.folder, record_id=["r0000", "r0001"], x=[1, 0], y=[0, 1])
    assert labelled_records(store, fits, "single_label").labels_NC.tolist() == [[1, 0], [0, 1]]
    both = write_rates(study.folder, record_id=["r0000", "r0001"], x=[1, 0], y=[1, 1])
    with pytest.raises(TrainingError, match=r"1 records none or several of the classes \(r0000\)"):
        labelled_records(store, both, "single_label")
