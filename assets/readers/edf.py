"""Reads EDF and EDF+ (European Data Format, edfplus.info): 16-bit signals in records of fixed length.

A parser of our own: the format is small, and this one never looks at the fields that name the patient.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assets.readers.lead_names import lead_names
from assets.readers.source import checksum, read_source
from assets.readers.units import as_samples, per_count, usable_rate
from assets.record import Record, RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE = b"0       "

_BLOCK = 256
_NUMBER = re.compile(r"[+-]?[0-9]{1,8}(?:\.[0-9]{0,8})?(?:[eE][+-]?[0-9]{1,2})?")
_COUNT = re.compile(r"-?[0-9]{1,8}")
_ANNOTATIONS = "EDF Annotations"


class _Signal(NamedTuple):
    """One channel: `physical = count * factor + offset` in `unit`, `n_per_record` samples in each data record."""

    label: str
    unit: str
    factor: float
    offset: float
    start: int
    n_per_record: int


def read_edf(path: Path) -> Record:
    """Read an EDF or EDF+ recording without gaps. Annotation channels are left out.

    Returns:
        The channels in the file's order; voltages in microvolts, others in their own unit ("NU" where none is stated).

    Raises:
        RecordError: reasons of `assets.readers.source`, units and lead names; bad_header, truncated, length_mismatch,
            discontinuous (EDF+D), several_rates (channels differ in rate; the message names them), sampling_rate,
            no_signals, bad_gain.
    """
    data = read_source(path)
    n_signals, n_records, duration_s, plus = _file_header(path, data)
    signals, width = _signals(path, data, n_signals, plus)
    if not signals:
        raise RecordError("no_signals", path, "holds no channel but annotations")
    if duration_s == 0:
        raise RecordError("sampling_rate", path, "its data records last 0 s, so no channel has a rate")
    if len({s.n_per_record for s in signals}) > 1:
        rates = ", ".join(f"{s.label} {s.n_per_record / duration_s:g} Hz" for s in signals[:20])
        raise RecordError(
            "several_rates", path, f"its channels differ in rate ({rates}); convert it to one rate, or keep channels of one rate"
        )
    names = lead_names(path, [s.label for s in signals])
    begin = _BLOCK * (n_signals + 1)
    expected = begin + n_records * width * 2
    if len(data) < expected:
        raise RecordError("truncated", path, f"holds {len(data)} bytes where its header asks for {expected}; download it again")
    if len(data) > expected:
        raise RecordError("length_mismatch", path, f"holds more than the {expected} bytes of its header; the header is wrong")
    counts_RW = np.frombuffer(data, "<i2", n_records * width, begin).reshape(n_records, width)
    return Record(
        signal_LT=as_samples(path, _physical(counts_RW, signals)),
        leads=names,
        fs_hz=usable_rate(path, signals[0].n_per_record / duration_s),
        units=tuple(s.unit for s in signals),
        source_checksum=checksum(data),
    )


def _physical(counts_RW: NDArray[np.int16], signals: list[_Signal]) -> NDArray[np.float32]:
    """Samples of channels of one rate, shape (leads, samples), from data records of shape (records, width)."""
    n = signals[0].n_per_record
    signal_LT = np.empty((len(signals), counts_RW.shape[0] * n), np.float32)
    for row_T, s in zip(signal_LT, signals, strict=True):
        row_T[:] = (counts_RW[:, s.start : s.start + n] * s.factor + s.offset).reshape(-1)
    return signal_LT


def _file_header(path: Path, data: bytes) -> tuple[int, int, float, bool]:
    """Number of channels, number of data records, their length in seconds, whether it is EDF+."""
    if not data.startswith(SIGNATURE) or len(data) < _BLOCK:
        raise RecordError("bad_header", path, "is no EDF file, or cut short within its header")
    n_bytes = _count(path, data[184:192], "length of the header")
    kind = data[192:197]
    n_records = _count(path, data[236:244], "number of data records")
    duration_s = _number(path, data[244:252], "length of a data record")
    n_signals = _count(path, data[252:256], "number of channels")
    if kind == b"EDF+D":
        raise RecordError("discontinuous", path, "is an EDF+D file with gaps between its data records; convert it to EDF+C pieces")
    if n_signals < 1 or n_bytes != _BLOCK * (n_signals + 1):
        raise RecordError("bad_header", path, f"states {n_signals} channels in a header of {n_bytes} bytes, which do not fit")
    if len(data) < n_bytes:
        raise RecordError("truncated", path, "ends within its header; download it again")
    if n_records < 1:
        raise RecordError(
            "bad_header", path, f"states {n_records} data records: it was never closed; close it with the recorder's software"
        )
    if duration_s < 0:
        raise RecordError("sampling_rate", path, f"states data records of {duration_s:g} s")
    return n_signals, n_records, duration_s, kind == b"EDF+C"


def _signals(path: Path, data: bytes, n_signals: int, plus: bool) -> tuple[list[_Signal], int]:
    """The channels but annotations, and the samples of all channels in one data record."""
    columns = []
    position = _BLOCK
    for size in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):
        columns.append([data[position + i * size : position + (i + 1) * size] for i in range(n_signals)])
        position += size * n_signals
    labels, _, units, low, high, digital_low, digital_high, _, lengths, _ = columns
    found, start = [], 0
    for i in range(n_signals):
        n = _count(path, lengths[i], "number of samples")
        if n < 0:
            raise RecordError("bad_header", path, f"channel {i + 1} states {n} samples a data record")
        label = _text(labels[i])
        if not (plus and label == _ANNOTATIONS) and n:
            low_count = _count(path, digital_low[i], "digital minimum")
            span = _count(path, digital_high[i], "digital maximum") - low_count
            bottom = _number(path, low[i], "physical minimum")
            height = _number(path, high[i], "physical maximum") - bottom
            if span <= 0:
                raise RecordError("bad_gain", path, f"channel {i + 1} states a digital maximum that is not above its minimum")
            factor, unit = per_count(path, height / span, _text(units[i]))
            scale = factor / (height / span)
            found.append(_Signal(label, unit, factor, bottom * scale - low_count * factor, start, n))
        start += n
    return found, start


def _text(field: bytes) -> str:
    return field.decode("latin-1").strip()


def _number(path: Path, field: bytes, what: str) -> float:
    match = _NUMBER.fullmatch(_text(field))
    value = float(match[0]) if match else math.nan
    if not math.isfinite(value):
        raise RecordError("bad_header", path, f"its {what} is no number")
    return value


def _count(path: Path, field: bytes, what: str) -> int:
    match = _COUNT.fullmatch(_text(field))
    if match is None:
        raise RecordError("bad_header", path, f"its {what} is no whole number")
    return int(match[0])
