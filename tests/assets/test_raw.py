"""The list of a dataset's files: every byte is read once, and again only when a file changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assets import raw
from assets.dataset import Dataset, get_dataset
from assets.outputs import sha256_file


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    get_dataset("synthetic").make_fixture(tmp_path / "source")
    return get_dataset("synthetic")(tmp_path / "source")


def test_only_changed_files_are_read_again(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(raw, "sha256_file", counted)
    cache = tmp_path / "cache" / "synthetic.parquet"
    first = raw.checksum(dataset, cache, print)
    assert len(read) == len(first) == len(dataset.files())
    assert first["sha256"].tolist() == [sha256_file(dataset.folder / p) for p in first["path"]]
    read.clear()
    assert raw.checksum(dataset, cache, print).equals(first)
    assert not read
    path = dataset.folder / "records100" / "00001.dat"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(1, 1))
    again = raw.checksum(dataset, cache, print)
    assert read == ["00001.dat"]
    assert (again["sha256"] != first["sha256"]).sum() == 1


def test_a_torn_cache_or_one_of_another_folder_is_not_believed(dataset: Dataset, tmp_path: Path) -> None:
    cache = tmp_path / "synthetic.parquet"
    first = raw.checksum(dataset, cache, print)
    cache.write_bytes(cache.read_bytes()[:100])
    assert raw.checksum(dataset, cache, print).equals(first)
    (tmp_path / "other").mkdir()
    get_dataset("synthetic").make_fixture(tmp_path / "other" / "source", seed=1)
    moved = raw.checksum(get_dataset("synthetic")(tmp_path / "other" / "source"), cache, print)
    assert not moved.equals(first)
