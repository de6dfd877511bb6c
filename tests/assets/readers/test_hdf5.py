"""HDF5 files of the CODE study: one tracing at a time, padding left out, damage and foreign layouts refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from assets.readers import read_record
from assets.readers.hdf5 import iterate_code15, read_code15
from assets.record import Record, RecordError
from models.types import LEADS
from tests.fuzz.encoders import code15


def tracing(seed: int, pad: int = 30) -> Any:
    """A padded tracing (200, 12) whose limb leads obey Goldberger's relations, in stored units."""
    free_TL = np.random.default_rng(seed).normal(0, 2, (200, 12)).astype(np.float32)
    one, two = free_TL[:, 0], free_TL[:, 1]
    free_TL[:, 2:6] = np.stack([two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
    free_TL[:pad] = free_TL[200 - pad :] = 0
    return free_TL


TRACINGS = np.stack([tracing(1), tracing(2, 0), np.zeros((200, 12), np.float32), tracing(4)])
IDS = (11, 12, 13, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "exams_part0.hdf5"
    path.write_bytes(code15(TRACINGS, IDS))
    return path


def reason_of(path: Path, **which: int) -> str:
    with pytest.raises(RecordError) as caught:
        read_code15(path, **which) if which else read_record(path)
    return caught.value.reason


def test_an_exam_is_read_without_its_padding(path: Path) -> None:
    record = read_code15(path, exam_id=11)
    np.testing.assert_array_equal(record.signal_LT, TRACINGS[0, 30:170].T * np.float32(500))
    assert (record.leads, record.fs_hz, record.units) == (LEADS, 400.0, ("uV",) * 12)
    assert record.signal_LT.flags.c_contiguous
    assert read_code15(path, row=0).source_checksum == record.source_checksum != read_code15(path, row=1).source_checksum


def test_missing_samples_and_inner_zeros_stay(tmp_path: Path) -> None:
    odd = tracing(5)
    odd[60:70] = 0
    odd[100, 7] = np.nan
    (tmp_path / "a.hdf5").write_bytes(code15(odd[None]))
    record = read_record(tmp_path / "a.hdf5")
    assert record.signal_LT.shape == (12, 140)
    assert (record.signal_LT[:, 30:40] == 0).all()
    assert np.argwhere(np.isnan(record.signal_LT)).tolist() == [[7, 70]]


def test_all_exams_come_in_the_files_order_and_bad_ones_as_errors(path: Path) -> None:
    found = dict(iterate_code15(path))
    assert list(found) == [11, 12, 13]
    assert isinstance(found[12], Record)
    np.testing.assert_array_equal(found[12].signal_LT, read_code15(path, exam_id=12).signal_LT)
    assert isinstance(found[13], RecordError)
    assert found[13].reason == "empty"


def test_faults_of_a_request(path: Path, tmp_path: Path) -> None:
    assert reason_of(path) == "several_records"
    assert reason_of(path, exam_id=99) == "absent"
    assert reason_of(path, exam_id=0) == "absent"
    assert reason_of(path, row=4) == "absent"
    assert reason_of(path, row=-1) == "absent"
    assert reason_of(path, exam_id=13) == "empty"
    assert reason_of(tmp_path / "nowhere.hdf5", row=0) == "absent"
    with pytest.raises(ValueError, match="either"):
        read_code15(path)
    (tmp_path / "twice.hdf5").write_bytes(code15(TRACINGS[:2], (7, 7)))
    assert reason_of(tmp_path / "twice.hdf5", exam_id=7) == "duplicate_exam"
    (tmp_path / "unnumbered.hdf5").write_bytes(code15(TRACINGS[:2]))
    assert reason_of(tmp_path / "unnumbered.hdf5", exam_id=7) == "absent"
    np.testing.assert_array_equal(read_code15(tmp_path / "unnumbered.hdf5", row=1).signal_LT, read_code15(path, row=1).signal_LT)


def test_the_lead_order_of_code_test_is_noticed(tmp_path: Path) -> None:
    standard = tracing(6)
    (tmp_path / "a.hdf5").write_bytes(code15(standard[None][:, :, [0, 1, 2, 4, 5, 3, *range(6, 12)]]))
    assert reason_of(tmp_path / "a.hdf5", row=0) == "lead_order"


@pytest.mark.parametrize(
    "options", [{"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}, {"chunks": (1, 200, 12)}]
)
def test_packed_files_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "a.hdf5").write_bytes(code15(TRACINGS, IDS, **options))
    np.testing.assert_array_equal(read_code15(tmp_path / "a.hdf5", row=1).signal_LT, TRACINGS[1].T * np.float32(500))


def foreign(**datasets: Any) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (foreign(other=TRACINGS), "unknown_layout"),
        (foreign(tracings=TRACINGS[:, :, :8]), "unknown_layout"),
        (foreign(tracings=TRACINGS[0]), "unknown_layout"),
        (foreign(tracings=TRACINGS.astype(np.int16)), "unknown_layout"),
        (foreign(tracings=np.array([b"text"])), "unknown_layout"),
        (foreign(tracings=TRACINGS, exam_id=np.arange(3)), "unknown_layout"),
        (foreign(tracings=h5py.SoftLink("/other"), other=TRACINGS), "unknown_layout"),
        (foreign(tracings=h5py.ExternalLink("/etc/hostname", "/x")), "unknown_layout"),
        (foreign(tracings=TRACINGS)[:1000], "bad_hdf5"),
        (b"\x89HDF\r\n\x1a\n" + b"\xff" * 4000, "bad_hdf5"),
        (foreign(tracings=np.full((1, 5, 12), np.inf, np.float32)), "bad_samples"),
        (foreign(tracings=np.full((1, 5, 12), 1e308)), "bad_samples"),
    ],
)
def test_every_fault_of_a_file_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.hdf5").write_bytes(data)
    assert reason_of(tmp_path / "a.hdf5", row=0) == reason


def test_nothing_outside_of_the_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(TRACINGS.tobytes())
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("tracings", TRACINGS.shape, "f4", external=[(str(tmp_path / "raw"), 0, TRACINGS.nbytes)])
    assert reason_of(tmp_path / "a.hdf5", row=0) == "unsupported_format"
    layout = h5py.VirtualLayout(TRACINGS.shape, "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "b.hdf5", "tracings", TRACINGS.shape)
    with h5py.File(tmp_path / "v.hdf5", "w") as file:
        file.create_virtual_dataset("tracings", layout)
    assert reason_of(tmp_path / "v.hdf5", row=0) == "unsupported_format"


def test_what_states_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("tracings", (1 << 40, 1 << 20, 12), "f4", chunks=(1, 64, 12))
    assert reason_of(tmp_path / "a.hdf5", row=0) == "too_large"
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file.create_dataset("tracings", (1 << 20, 4096, 12), "f4", chunks=(1 << 16, 4096, 12), compression="gzip")
    assert reason_of(tmp_path / "b.hdf5", row=0) == "too_large"


def test_amplitudes_are_those_of_other_sets(shared_data: Path) -> None:
    """Read as the Challenge of 2025 did (1 = 1 mV), CODE-15% is about 1.7 times as tall as PTB-XL: nearer to twice than to once."""

    def height(paths: list[Path]) -> float:
        heights = []
        for path in paths:
            record = read_record(path)
            n = int(record.fs_hz)
            whole_LT = record.signal_LT[:, : record.signal_LT.shape[1] // n * n]
            heights.append(np.median(np.ptp(whole_LT.reshape(12, -1, n), axis=2)))
        return float(np.median(heights))

    code = height(sorted((shared_data / "challenge2025/code15").glob("*.hea"))[:60])
    ptb_xl = height(sorted((shared_data / "ptb-xl/records500").glob("*/*.hea"))[:60])
    assert 1.4 < code / ptb_xl < 2.2
