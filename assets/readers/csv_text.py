"""Reads recordings written as text: CSV with lead names in the first line, and the files of the Challenge of 2011.

With a header. The first line names the columns, separated by comma, semicolon or tab (whichever it has most of); names may
carry a unit, as "II [mV]" or "II (mV)". Without one a channel's unit is unknown ("NU") and its values stay as they are: the
files of BIDMC are so. One column must be the time ("Time", "t", "Elapsed time"; in s unless its unit is ms or us). The rate
is that of an even grid over its stamps, the whole number of hertz where stamps allow it; stamps may be rounded to a period.

Without a header. Thirteen columns of whole numbers of which the first counts 0, 1, 2, ... are a recording of the Challenge
of 2011: 500 Hz, 5 uV per unit, leads I, II, III, aVR, aVF, aVL, V1 to V6, in this order, as Goldberger's relations show in
all records held, whatever documentation says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.readers.lead_names import lead_names
from assets.readers.source import TEXT_LIMIT, checksum, read_source
from assets.readers.units import as_samples, to_microvolts, usable_rate
from assets.record import Record, RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CINC2011_HZ = 500.0
CINC2011_UV = 5.0
CINC2011_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")

_SEPARATORS = b",;\t"
_HEADER_LIMIT = 1 << 16
_MOST_COLUMNS = 1024
_NAMED_UNIT = re.compile(r"(.*?)\s*(?:\[([^\[\]]*)\]|\(([^()]*)\))")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TIMES = {"time", "t", "elapsed time"}
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}
_MISSING = ["", "-", "nan", "NaN", "NAN"]


def read_csv_text(path: Path) -> Record:
    """Read a recording written as text, see above.

    Returns:
        Columns but the time in the file's order; missing values ("", "-", "nan") are NaN.

    Raises:
        RecordError: reasons of `assets.readers.source`, units and lead names; bad_header, bad_samples (what is no number),
            ragged (rows of different length), sampling_rate (no time column, or no such one), uneven_sampling, no_signals,
            empty.
    """
    data = read_source(path, TEXT_LIMIT)
    line, _, _ = data[:_HEADER_LIMIT].partition(b"\n")
    if len(line) >= _HEADER_LIMIT or b"\0" in line:
        raise RecordError("bad_header", path, "is no table of text")
    separator = max(_SEPARATORS, key=line.count)
    fields = [_plain(f) for f in line.removeprefix(b"\xef\xbb\xbf").split(bytes([separator]))]
    if len(fields) > _MOST_COLUMNS:
        raise RecordError("bad_header", path, f"has {len(fields)} columns; recordings have at most {_MOST_COLUMNS}")
    if all(_NUMBER.fullmatch(f) for f in fields):
        return _cinc2011(path, data, fields, chr(separator))
    return _with_header(path, data, fields, chr(separator), len(line) + 1)


def _plain(field: bytes) -> str:
    return field.decode("utf-8", "replace").strip().strip("\"'").strip()


def _cinc2011(path: Path, data: bytes, fields: list[str], separator: str) -> Record:
    if len(fields) != len(CINC2011_LEADS) + 1:
        raise RecordError(
            "bad_header", path, f"has {len(fields)} columns and no header; without one only the 13 of the Challenge of 2011 are known"
        )
    columns = _columns(path, data, len(fields), separator)
    if not np.array_equal(columns[0], np.arange(len(columns[0]))):
        raise RecordError("bad_samples", path, "its first column does not count samples from 0; rows are missing or out of order")
    signal_LT = as_samples(path, np.stack(columns[1:]) * CINC2011_UV)
    return Record(signal_LT, CINC2011_LEADS, CINC2011_HZ, ("uV",) * len(CINC2011_LEADS), checksum(data))


def _with_header(path: Path, data: bytes, fields: list[str], separator: str, begin: int) -> Record:
    matches = [_NAMED_UNIT.fullmatch(f) for f in fields]
    names = [m[1] if m else f for m, f in zip(matches, fields, strict=True)]
    units = [(m[2] or m[3] or "").strip() if m else "" for m in matches]
    times = [i for i, name in enumerate(names) if name.lower() in _TIMES]
    if len(times) != 1 or units[times[0]] not in _SECONDS:
        raise RecordError("sampling_rate", path, "its header names no column of time (Time, t or Elapsed time, in s, ms or us), or several")
    channels = [i for i in range(len(names)) if i != times[0]]
    if not channels:
        raise RecordError("no_signals", path, "holds no column but the time")
    leads = lead_names(path, [names[i] for i in channels])
    factors = [to_microvolts(path, units[i]) for i in channels]
    columns = _columns(path, data[begin:], len(fields), separator)
    fs_hz = _rate(path, columns[times[0]] * _SECONDS[units[times[0]]])
    with np.errstate(over="ignore"):
        rows = [columns[i] * factor for i, (factor, _) in zip(channels, factors, strict=True)]
    return Record(as_samples(path, np.stack(rows)), leads, fs_hz, tuple(unit for _, unit in factors), checksum(data))


def _columns(path: Path, data: bytes, n_columns: int, separator: str) -> list[NDArray[np.float64]]:
    """The numbers of a table without its header, column by column."""
    import pyarrow as pa
    from pyarrow import csv

    if not data.strip():
        raise RecordError("empty", path, "holds no samples")
    names = [str(i) for i in range(n_columns)]
    try:
        table = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(use_threads=False, column_names=names),
            parse_options=csv.ParseOptions(delimiter=separator, quote_char=False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=_MISSING),
        )
    except pa.ArrowInvalid as error:
        # Arrow's message quotes the row; ours does not.
        ragged = "Expected" in str(error) and "columns" in str(error)
        what = f"has rows that are not of {n_columns} fields" if ragged else "holds fields that are no numbers"
        raise RecordError("ragged" if ragged else "bad_samples", path, f"{what}; the file is damaged or cut short") from None
    return [table.column(i).to_numpy(zero_copy_only=False).astype(np.float64) for i in range(n_columns)]


def _rate(path: Path, time_s_T: NDArray[np.float64]) -> float:
    """The rate of an even grid that the stamps lie on, each within a period."""
    if len(time_s_T) < 2 or not np.isfinite(time_s_T).all() or not 1e-7 < time_s_T[-1] - time_s_T[0] < 1e9:
        raise RecordError("sampling_rate", path, "its column of time does not run from a first to a later last sample")
    fs_hz = float((len(time_s_T) - 1) / (time_s_T[-1] - time_s_T[0]))
    index_T = np.arange(len(time_s_T))
    for rate in (float(round(fs_hz)), fs_hz):
        if rate > 0 and abs(rate - fs_hz) <= 1e-3 * fs_hz and np.abs((time_s_T - time_s_T[0]) * rate - index_T).max() <= 1:
            return usable_rate(path, rate)
    raise RecordError(
        "uneven_sampling", path, f"its samples are not evenly spaced (about {fs_hz:g} Hz); resample it, or split it at its gaps"
    )
