"""Reads the HDF5 files of the CODE study, a tracing at a time: CODE-15% (`exams_part<n>.hdf5`) and SaMi-Trop (`exams.hdf5`).

Layout: `tracings` (exams, 4096, 12), float32 or float64, and in CODE-15% `exam_id` (exams), the number of each row's exam;
each part ends with a filler row of number 0. 400 Hz, leads I, II, III, aVR, aVL, aVF, V1 to V6, zeros before and after
shorter recordings. CODE-test looks the same but has its leads in another order; it is refused.

Unit: none is stated on Zenodo. The authors' preprocessing (github.com/antonior92/ecg-preprocessing) says that these sets were
made from millivolts with `--scale 2`, so a stored 1 is taken for 500 uV. Amplitudes support that without proving it: taken for
millivolts, 187 recordings of CODE-15% are 1.66 times as tall as 160 of PTB-XL (median over leads of the median height within
a second), and the people differ. Others, the Challenge of 2025 among them, take the same numbers for millivolts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assets.readers.source import checksum, read_head
from assets.readers.units import as_samples
from assets.record import Record, RecordError
from models.types import LEADS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE_HZ = 400.0
CODE_UV = 500.0
"""Microvolts per stored unit, see above."""

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_ROW_LIMIT = 1 << 26
_CHUNK_LIMIT = 1 << 27
_FILTERS = {1, 2, 3, 32000}
"""Deflate, shuffle, Fletcher's checksum and LZF; HDF5 would look for any other one in a library to load."""

_UNPACKED_PER_BYTE = 1100
"""What a byte can hold at most once it is unpacked: deflate's limit is 1,032."""

_SAME_LEAD = 0.01
"""Two leads are one if they differ by less than this share of their height."""


class _Tracings(NamedTuple):
    """The datasets of an open file."""

    path: Path
    rows: Any
    exam_id_N: NDArray[np.int64] | None


def read_hdf5(path: Path) -> Record:
    """Read the one tracing of a file.

    Raises:
        RecordError: reason several_records where it holds more (use `read_code15`); else as `read_code15`.
    """
    with _open(path) as tracings:
        if (n := len(tracings.rows)) != 1:
            raise RecordError("several_records", path, f"holds {n} tracings; name the exam or row: read_code15(path, row=...)")
        return _record(tracings, 0)


def read_code15(path: Path, *, exam_id: int | None = None, row: int | None = None) -> Record:
    """Read one tracing without touching the others.

    Args:
        path: an HDF5 file of CODE-15% or SaMi-Trop.
        exam_id: which exam, where the file numbers them; or
        row: which row, from 0.

    Returns:
        The tracing without the zeros before and after it (times in which all leads are 0), in microvolts; missing samples
        are NaN. `source_checksum` covers the row as it is stored, unpacked.

    Raises:
        RecordError: absent (no such file, exam or row), unreadable, bad_hdf5, unknown_layout, unsupported_format
            (filters, links to other files), duplicate_exam, too_large, lead_order, empty, bad_samples.
        ValueError: neither or both of `exam_id` and `row` are given.
    """
    if (exam_id is None) == (row is None):
        raise ValueError("give either an exam_id or a row")
    with _open(path) as tracings:
        wanted = row if exam_id is None else _row_of(tracings, exam_id)
        if wanted is None or not 0 <= wanted < len(tracings.rows):
            raise RecordError("absent", path, f"has no row {wanted}; it has {len(tracings.rows)}")
        return _record(tracings, wanted)


def iterate_code15(path: Path) -> Iterator[tuple[int, Record | RecordError]]:
    """All tracings in the order of the file, which is the fastest, one in memory at a time; the file is opened once.

    Yields:
        Number of the exam (of the row, where exams have none), and its record or why it cannot be used. Fillers (exam 0)
        are left out.

    Raises:
        RecordError: the file itself cannot be used; as `read_code15`.
    """
    with _open(path) as tracings:
        ids = tracings.exam_id_N
        for row in range(len(tracings.rows)):
            number = row if ids is None else int(ids[row])
            if ids is not None and number == 0:
                continue
            try:
                found: Record | RecordError = _record(tracings, row)
            except RecordError as error:
                found = error
            yield number, found


@contextmanager
def _open(path: Path) -> Iterator[_Tracings]:
    import h5py

    if read_head(path, len(SIGNATURE)) != SIGNATURE:
        raise RecordError("bad_hdf5", path, "is no HDF5 file; download it again")
    try:
        # Locks fail on file systems without them, and nothing here is ever written.
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CHUNK_LIMIT)
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(path) from error
    with file:
        try:
            tracings = _find(path, file)
        except (RecordError, MemoryError):
            raise
        except Exception as error:
            raise _broken(path) from error
        yield tracings


def _broken(path: Path) -> RecordError:
    return RecordError("bad_hdf5", path, "is a damaged HDF5 file; download it again")


def _find(path: Path, file: Any) -> _Tracings:
    rows = _dataset(path, file, "tracings")
    if rows is None or rows.ndim != 3 or rows.shape[2] != len(LEADS) or rows.dtype.kind != "f" or rows.dtype.itemsize not in (4, 8):
        raise RecordError(
            "unknown_layout", path, "holds no dataset `tracings` of shape (exams, samples, 12); it is no file of CODE-15% or SaMi-Trop"
        )
    n_bytes = rows.shape[1] * rows.shape[2] * rows.dtype.itemsize
    if n_bytes > _ROW_LIMIT or n_bytes > rows.id.get_storage_size() * _UNPACKED_PER_BYTE:
        raise RecordError("too_large", path, f"states {n_bytes} bytes a tracing, more than it can hold or anyone records")
    ids = _dataset(path, file, "exam_id")
    if ids is None:
        return _Tracings(path, rows, None)
    if ids.shape != rows.shape[:1] or ids.dtype.kind not in "iu":
        raise RecordError("unknown_layout", path, "its dataset `exam_id` does not number the tracings")
    if ids.size * ids.dtype.itemsize > ids.id.get_storage_size() * _UNPACKED_PER_BYTE:
        raise RecordError("too_large", path, "states more exams than it can hold")
    return _Tracings(path, rows, ids[:].astype(np.int64))


def _dataset(path: Path, file: Any, name: str) -> Any:
    """A dataset that lies in this file, or None."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return None
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        return None
    if dataset.external or dataset.is_virtual:
        raise RecordError("unsupported_format", path, f"its dataset `{name}` lies in other files, which are not opened")
    properties = dataset.id.get_create_plist()
    if unknown := {properties.get_filter(i)[0] for i in range(properties.get_nfilters())} - _FILTERS:
        raise RecordError("unsupported_format", path, f"its dataset `{name}` is packed by filter {min(unknown)}, which is not read")
    if dataset.chunks and int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize > _CHUNK_LIMIT:
        raise RecordError("too_large", path, f"its dataset `{name}` is packed in pieces of more than {_CHUNK_LIMIT} bytes")
    return dataset


def _row_of(tracings: _Tracings, exam_id: int) -> int:
    if tracings.exam_id_N is None:
        raise RecordError("absent", tracings.path, "does not number its exams; ask for a row")
    found = np.flatnonzero(tracings.exam_id_N == exam_id)
    if not len(found) or exam_id == 0:
        raise RecordError("absent", tracings.path, f"has no exam {exam_id}")
    if len(found) > 1:
        raise RecordError(
            "duplicate_exam", tracings.path, f"has {len(found)} rows for exam {exam_id}; ask for one of rows {found[:5].tolist()}"
        )
    return int(found[0])


def _record(tracings: _Tracings, row: int) -> Record:
    path = tracings.path
    try:
        stored_TL = tracings.rows[row]
    except MemoryError:
        raise
    except Exception as error:
        raise RecordError("bad_hdf5", path, f"row {row} cannot be read; the file is damaged, download it again") from error
    recorded = np.flatnonzero((stored_TL != 0).any(axis=1))
    if not len(recorded):
        raise RecordError("empty", path, f"row {row} holds zeros only: this exam has no tracing")
    _check_lead_order(path, stored_TL)
    kept_TL = stored_TL[recorded[0] : recorded[-1] + 1]
    with np.errstate(over="ignore"):
        signal_LT = as_samples(path, kept_TL.T * stored_TL.dtype.type(CODE_UV))
    return Record(signal_LT, LEADS, CODE_HZ, ("uV",) * len(LEADS), checksum(stored_TL.tobytes()))


def _check_lead_order(path: Path, stored_TL: NDArray[Any]) -> None:
    """In this layout aVR is computed as -(I + II) / 2. Where it stands in the sixth column, the order is that of CODE-test."""
    finite_TL = stored_TL[np.isfinite(stored_TL).all(axis=1)]
    if not len(finite_TL):
        return
    with np.errstate(over="ignore", invalid="ignore"):
        avr_T = -(finite_TL[:, 0] + finite_TL[:, 1]) / 2
        allowed = _SAME_LEAD * np.ptp(avr_T)
        fourth, sixth = (np.abs(finite_TL[:, i] - avr_T).max() for i in (3, 5))
    if fourth > allowed >= sixth:
        raise RecordError("lead_order", path, "has aVR in the sixth column: its leads are in the order of CODE-test, which is not read")
