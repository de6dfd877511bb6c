"""Writes WFDB records in format 16, with a plain or a MATLAB data file, for imitations of datasets and for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

INVALID = -32768
"""The count that marks a missing sample in format 16."""

_LEVEL_4_INT16 = 30
"""Type word of a MATLAB level 4 matrix: little-endian, int16, numbers."""


def write_record(
    folder: Path, name: str, signal_uV_LT: NDArray[Any], leads: Sequence[str], fs_hz: float, gain_per_mV: float = 1000.0
) -> None:
    """Write `<name>.hea` and `<name>.dat` with first values and checksums.

    Args:
        folder: made when it is not there.
        name: of the record and its two files.
        signal_uV_LT: microvolts, shape (leads, samples); a sample that is not finite is written as missing.
        leads: one name a row of the signal.
        fs_hz: sampling rate.
        gain_per_mV: counts per millivolt; samples are rounded to the nearest count.

    Raises:
        ValueError: the shape does not fit `leads`, or an amplitude does not fit in 16 bits.
    """
    counts_TL = _counts(name, signal_uV_LT, leads, gain_per_mV)
    lines = _header(name, counts_TL, leads, fs_hz, f"{name}.dat 16 {gain_per_mV}(0)/mV")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.dat").write_bytes(counts_TL.tobytes())


def write_challenge_record(
    folder: Path, name: str, signal_uV_LT: NDArray[Any], leads: Sequence[str], fs_hz: float, comments: Sequence[str] = ()
) -> None:
    """Write `<name>.hea` and `<name>.mat` as the Challenges of 2020 and 2021 do, with 1,000 counts per millivolt.

    The data file is a MATLAB level 4 matrix `val` (leads x samples, int16): its header of 24 bytes, which WFDB's format
    `16x1+24` skips, then the samples.

    Args:
        folder: made when it is not there.
        name: of the record and its two files.
        signal_uV_LT: microvolts, shape (leads, samples); a sample that is not finite is written as missing.
        leads: one name a row of the signal.
        fs_hz: sampling rate.
        comments: lines at the end of the header, "#" included.

    Raises:
        ValueError: the shape does not fit `leads`, or an amplitude does not fit in 16 bits.
    """
    counts_TL = _counts(name, signal_uV_LT, leads, 1000.0)
    lines = _header(name, counts_TL, leads, fs_hz, f"{name}.mat 16x1+24 1000.0(0)/mV")
    matrix_name = b"val\0"
    head = struct.pack("<5i", _LEVEL_4_INT16, len(leads), counts_TL.shape[0], 0, len(matrix_name)) + matrix_name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.hea").write_text("\n".join([*lines, *comments]) + "\n")
    (folder / f"{name}.mat").write_bytes(head + counts_TL.tobytes())


def _counts(name: str, signal_uV_LT: NDArray[Any], leads: Sequence[str], gain_per_mV: float) -> NDArray[np.int16]:
    """Samples in counts, shape (samples, leads)."""
    counts_LT = np.rint(np.asarray(signal_uV_LT, np.float64) * (gain_per_mV / 1000.0))
    if counts_LT.ndim != 2 or counts_LT.shape[0] != len(leads):
        raise ValueError(f"{name}: a signal of shape {counts_LT.shape} does not fit {len(leads)} leads")
    counts_LT[~np.isfinite(counts_LT)] = INVALID
    if counts_LT.size and (counts_LT.min() < INVALID or counts_LT.max() > 32767):
        raise ValueError(f"{name}: an amplitude does not fit in 16 bits at {gain_per_mV:g} counts per mV")
    return np.ascontiguousarray(counts_LT.T.astype("<i2"))


def _header(name: str, counts_TL: NDArray[np.int16], leads: Sequence[str], fs_hz: float, source: str) -> list[str]:
    """Record line and signal lines; `source` is how each of these begins: file, format, gain."""
    # A WFDB checksum is the sum of a lead's samples in signed 16-bit arithmetic.
    checksums = counts_TL.sum(axis=0, dtype=np.int64).astype(np.int16)
    lines = [f"{name} {len(leads)} {fs_hz:g} {counts_TL.shape[0]}"]
    for i, lead in enumerate(leads):
        first = counts_TL[0, i] if counts_TL.shape[0] else 0
        lines.append(f"{source} 16 0 {first} {checksums[i]} 0 {lead}")
    return lines
