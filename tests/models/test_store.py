"""The store reader: gathers against plain indexing, and refuses stores that are not what they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.errors import StoreError
from models.store import open_store
from models.types import LEADS

N_SAMPLES = 50


def write_store(folder: Path, rows: tuple[int, ...] = (5, 5, 3), scale: tuple[float, ...] = (1.0,) * 12, seed: int = 0) -> np.ndarray:
    """A published store as its format describes it; returns its counts, shape (N, 12, 50)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    shards = [rng.integers(-3000, 3000, (n, 12, N_SAMPLES)).astype("<i2") for n in rows]
    for i, shard in enumerate(shards):
        np.save(folder / f"shard-{i:05d}.npy", shard)
    total = sum(rows)
    index = pa.table(
        {
            "dataset": ["x"] * total,
            "record_id": [f"r{i}" for i in range(total)],
            "patient_id": [f"p{i // 2}" for i in range(total)],
            "start": pa.array([0.0] * total, pa.float64()),
            "row": pa.array(np.concatenate([np.arange(n) for n in (0, *rows)]), pa.int64()),
            "shard": pa.array(np.repeat(np.arange(len(rows)), rows), pa.int32()),
            "fold": pa.array(np.arange(total) % 10 + 1, pa.int32()),
            "n_samples": pa.array([N_SAMPLES] * total, pa.int32()),
        }
    )
    write_index(folder, index)
    facts = {
        "kind": "store",
        "format_version": 1,
        "channels": [{"name": n, "kind": "ECG", "unit": "uV", "scale": s, "fs_hz": 100.0} for n, s in zip(LEADS, scale, strict=True)],
        "shards": [
            {"file": f"shard-{i:05d}.npy", "rows": n, "channels": list(LEADS), "n_samples": N_SAMPLES, "fs_hz": 100.0}
            for i, n in enumerate(rows)
        ],
        "index": "index.arrow",
        "window_s": 0.5,
    }
    seal(folder, {"format_version": 1, "facts": facts})
    return np.concatenate([np.zeros((0, 12, N_SAMPLES), "<i2"), *shards])


def write_index(folder: Path, index: pa.Table) -> None:
    with pa.OSFile(str(folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, index.schema) as stream:
        stream.write_table(index)


def read_index(folder: Path) -> pa.Table:
    return pa.ipc.open_file(folder / "index.arrow").read_all()


def seal(folder: Path, manifest: dict) -> None:
    manifest["files"] = [{"path": p.name, "bytes": p.stat().st_size} for p in sorted(folder.iterdir()) if p.name != "manifest.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit_manifest(folder: Path, change: Callable[[dict], object], reseal: bool = False) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    if reseal:
        seal(folder, manifest)
    else:
        (folder / "manifest.json").write_text(json.dumps(manifest))


def test_gather_equals_plain_indexing(tmp_path: Path) -> None:
    counts = write_store(tmp_path / "s")
    store = open_store(tmp_path / "s")
    assert (len(store), store.n_samples, store.fs_hz) == (13, N_SAMPLES, 100.0)
    assert tuple(c.name for c in store.channels) == LEADS
    rng = np.random.default_rng(1)
    for rows in (np.arange(13), rng.integers(0, 13, 40), np.array([12, 0, 12, 5, 4]), np.array([], np.int64)):
        signals = store.signals(rows)
        assert signals.dtype == np.float32
        np.testing.assert_array_equal(signals, counts[rows].astype(np.float32))


def test_scale_turns_counts_into_units(tmp_path: Path) -> None:
    scale = tuple(0.5 + i for i in range(12))
    counts = write_store(tmp_path / "s", scale=scale)
    np.testing.assert_allclose(open_store(tmp_path / "s").signals(np.arange(13)), counts * np.array(scale)[:, None], rtol=1e-6)


def test_channels_that_a_store_lacks_are_zeros_and_absent(tmp_path: Path) -> None:
    counts_NLT = write_store(tmp_path / "store", scale=(2.0,) * 12)
    store = open_store(tmp_path / "store")
    view = store.select(("PLETH", "V1", "II"), fill=True)
    rows = np.array([7, 0])
    assert [c.name for c in view.channels] == ["PLETH", "V1", "II"]
    np.testing.assert_array_equal(view.signals(rows)[:, 1:], counts_NLT[rows][:, [6, 1]] * 2.0)
    assert not view.signals(rows)[:, 0].any()
    np.testing.assert_array_equal(view.present(rows), [[False, True, True]] * 2)
    again = view.select(("II", "PLETH", "V1"), fill=True)
    np.testing.assert_array_equal(again.signals(rows), view.signals(rows)[:, [2, 0, 1]])
    np.testing.assert_array_equal(again.present(rows), [[True, False, True]] * 2)
    assert view.select(("II",)).present(rows) is None
    assert store.select(LEADS, fill=True) is store
    with pytest.raises(StoreError, match="not PLETH"):
        view.select(("PLETH", "II"))
    with pytest.raises(StoreError, match=r"has channels I, II, .* not PLETH, RESP"):
        store.select(("PLETH", "RESP"), fill=True)
    assert store.present(rows) is None


def test_what_records_lack_and_what_the_store_lacks_is_absent_alike(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    index = read_index(tmp_path / "store").append_column("absent", pa.array([0b10] + [0] * 12, pa.int32()))
    write_index(tmp_path / "store", index)
    seal(tmp_path / "store", json.loads((tmp_path / "store" / "manifest.json").read_text()))
    view = open_store(tmp_path / "store").select(("II", "PLETH", "I"), fill=True)
    np.testing.assert_array_equal(view.present(np.array([0, 1])), [[False, False, True], [True, False, True]])


def test_folds_and_ids(tmp_path: Path) -> None:
    write_store(tmp_path / "s")
    store = open_store(tmp_path / "s")
    assert store.rows_of_folds((1, 3)).tolist() == [0, 2, 10, 12]
    assert store.rows_of_folds(()).dtype == np.int64
    assert store.record_ids()[12] == "r12"
    assert store.index["patient_id"][5].as_py() == "p2"


@pytest.mark.parametrize("rows", [np.array([13]), np.array([-1]), np.array([0.5]), np.array([[1]]), np.array([True])])
def test_rows_that_are_not_there(tmp_path: Path, rows: np.ndarray) -> None:
    write_store(tmp_path / "s")
    with pytest.raises(StoreError, match="row"):
        open_store(tmp_path / "s").signals(rows)


def test_open_store_keeps_reading_the_old_data(tmp_path: Path) -> None:
    counts = write_store(tmp_path / "s")
    store = open_store(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    write_store(tmp_path / "s", rows=(2,), seed=9)
    np.testing.assert_array_equal(store.signals(np.arange(13)), counts.astype(np.float32))
    assert store.record_ids()[7] == "r7"
    assert store.index["start"].to_pylist() == [0.0] * 13
    assert len(open_store(tmp_path / "s")) == 2


def test_store_without_windows(tmp_path: Path) -> None:
    write_store(tmp_path / "s", rows=())
    store = open_store(tmp_path / "s")
    assert (len(store), store.n_samples) == (0, N_SAMPLES)
    assert store.signals(np.array([], np.int64)).shape == (0, 12, N_SAMPLES)


def truncate(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-7])


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def change_shard(array: np.ndarray) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        np.save(folder / "shard-00001.npy", array)
        edit_manifest(folder, lambda m: None, reseal=True)

    return harm


def garbage(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"\x93" * (folder / name).stat().st_size)


def pickled(folder: Path) -> None:
    np.save(folder / "shard-00001.npy", np.array([{}], dtype=object), allow_pickle=True)
    edit_manifest(folder, lambda m: None, reseal=True)


def change_index(column: str, value: int | None) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        index = read_index(folder)
        place = index.column_names.index(column)
        if value is None:
            index = index.drop_columns([column])
        else:
            index = index.set_column(place, column, pa.array([value] * index.num_rows, index.schema.field(column).type))
        write_index(folder, index)
        edit_manifest(folder, lambda m: None, reseal=True)

    return harm


def shorten_index(folder: Path) -> None:
    write_index(folder, read_index(folder).slice(0, 12))
    edit_manifest(folder, lambda m: None, reseal=True)


def manifest(change: Callable[[dict], object]) -> Callable[[Path], object]:
    return lambda folder: edit_manifest(folder, change)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (remove("manifest.json"), "manifest.json is missing"),
        (truncate("manifest.json"), "manifest.json cannot be read"),
        (truncate("shard-00001.npy"), "shard-00001.npy has .* bytes"),
        (remove("shard-00002.npy"), "shard-00002.npy is missing"),
        (garbage("shard-00000.npy"), "shard-00000.npy is no readable shard"),
        (pickled, "shard-00001.npy"),
        (truncate("index.arrow"), "index.arrow has"),
        (remove("index.arrow"), "index.arrow is missing"),
        (garbage("index.arrow"), "index.arrow is no readable index"),
        (change_shard(np.zeros((5, 12, 50), np.float32)), "holds float32"),
        (change_shard(np.zeros((4, 12, 50), np.int16)), r"shape \(4, 12, 50\)"),
        (change_index("row", 5), "points to windows that no shard holds"),
        (change_index("shard", 3), "points to windows that no shard holds"),
        (change_index("shard", -1), "points to windows that no shard holds"),
        (change_index("fold", None), "no column fold"),
        (shorten_index, "lists 12 windows, the shards hold 13"),
        (manifest(lambda m: m.update(format_version=2)), "format version 2"),
        (manifest(lambda m: m["facts"].update(format_version=7)), "format version 7"),
        (manifest(lambda m: m["facts"].update(kind="labels")), "something else than a store"),
        (manifest(lambda m: m["facts"].pop("channels")), "does not describe a store"),
        (manifest(lambda m: m["facts"]["channels"][3].update(fs_hz=50.0)), "different rates"),
        (manifest(lambda m: m["facts"]["shards"][0].update(channels=["II"])), "differ in channels"),
        (manifest(lambda m: m["facts"]["shards"][0].update(file="../s/shard-00000.npy")), "no file of its folder"),
        (manifest(lambda m: m["files"].clear()), "not listed"),
    ],
)
def test_a_store_that_is_not_what_it_says(tmp_path: Path, harm: Callable[[Path], object], message: str) -> None:
    write_store(tmp_path / "s")
    harm(tmp_path / "s")
    with pytest.raises(StoreError, match=message) as caught:
        open_store(tmp_path / "s")
    assert str(tmp_path / "s") in str(caught.value)


def test_reading_needs_no_torch() -> None:
    code = "import sys, models.store; sys.exit(any(m in sys.modules for m in ('torch', 'dagster', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
