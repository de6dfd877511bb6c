"""MATLAB files of CPSC 2018 and 2019, held to scipy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import xxhash

from assets.readers import read_record
from assets.record import RecordError
from models.types import LEADS
from tests.fuzz.encoders import cpsc2018, mat

MV_LT = np.random.default_rng(1).normal(0, 0.5, (12, 700))


def reason_of(folder: Path, data: bytes) -> str:
    (folder / "a.mat").write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_record(folder / "a.mat")
    return caught.value.reason


@pytest.mark.parametrize("compressed", [True, False])
def test_cpsc2018_is_read_in_microvolts(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "A0001.mat"
    path.write_bytes(cpsc2018(MV_LT, compressed=compressed))
    record = read_record(path)
    np.testing.assert_array_equal(record.signal_LT, (MV_LT * 1000).astype(np.float32))
    assert (record.leads, record.fs_hz, record.units) == (LEADS, 500.0, ("uV",) * 12)
    assert record.signal_LT.flags.c_contiguous
    assert record.source_checksum == xxhash.xxh3_128(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "i4", "u1", "i8"])
@pytest.mark.parametrize("across", [True, False])
def test_cpsc2019_is_one_lead_of_any_numbers(tmp_path: Path, dtype: str, across: bool) -> None:
    values = np.arange(50, dtype=dtype)
    (tmp_path / "a.mat").write_bytes(mat({"ecg": values[None] if across else values[:, None]}))
    record = read_record(tmp_path / "a.mat")
    np.testing.assert_array_equal(record.signal_LT, values[None].astype(np.float32) * 1000)
    assert record.leads == ("ECG",)


def test_missing_samples_stay_missing(tmp_path: Path) -> None:
    gap = MV_LT.copy()
    gap[3, 5:9] = np.nan
    (tmp_path / "a.mat").write_bytes(cpsc2018(gap))
    np.testing.assert_array_equal(np.isnan(read_record(tmp_path / "a.mat").signal_LT), np.isnan(gap))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (cpsc2018(MV_LT)[:-40], "truncated"),
        (cpsc2018(MV_LT, compressed=False)[:-40], "truncated"),
        (cpsc2018(MV_LT)[:300] + b"\0" * 40 + cpsc2018(MV_LT)[340:], "truncated"),
        (cpsc2018(MV_LT)[:126] + b"XX" + cpsc2018(MV_LT)[128:], "bad_matlab"),
        (cpsc2018(MV_LT[:11]), "unknown_layout"),
        (mat({"ecg": np.ones((5, 2))}), "unknown_layout"),
        (mat({"ecg": np.ones((5, 1)) * 1j}), "unknown_layout"),
        (mat({"ecg": "text"}), "unknown_layout"),
        (mat({"other": np.ones((5, 1))}), "unknown_layout"),
        (mat({"ECG": {"sex": "Male"}}), "unknown_layout"),
        (mat({"ecg": np.full((5, 1), np.inf)}), "bad_samples"),
        (mat({"ecg": np.full((5, 1), 1e308)}), "bad_samples"),
        (cpsc2018(np.zeros((12, 0))), "empty"),
        (mat({"ECG": {"data": {"a": {"b": {"c": {"d": {"e": 1.0}}}}}}}), "bad_matlab"),
    ],
)
def test_every_fault_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason


def test_a_compressed_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.readers.mat._UNPACKED_LIMIT", 1 << 20)
    assert reason_of(tmp_path, mat({"ecg": np.zeros((1 << 18, 1))})) == "too_large"


def test_a_challenge_matrix_without_its_header_says_so(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"val": np.ones((2, 9), np.int16)}, format="4")
    assert reason_of(tmp_path, (tmp_path / "a.mat").read_bytes()) == "missing_header"


@pytest.mark.parametrize(
    ("folder", "truth"),
    [
        ("cpsc2018/TrainingSet", lambda content: content["ECG"][0, 0]["data"]),
        ("cpsc2019/data", lambda content: content["ecg"].T),
    ],
)
def test_real_recordings_equal_scipys(shared_data: Path, folder: str, truth: Callable[[dict[str, Any]], Any]) -> None:
    paths = sorted((shared_data / folder).glob("*.mat"))
    assert paths
    for path in paths:
        np.testing.assert_array_equal(read_record(path).signal_LT, (truth(scipy.io.loadmat(path)) * 1000).astype(np.float32))
