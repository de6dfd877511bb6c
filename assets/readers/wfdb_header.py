"""Parses WFDB headers, of one segment and of several.

Written from the format's description (header(5) of the WFDB manual). Strict where a common reader guesses: a gain of 0 is
refused and not taken for 200, a missing sampling rate is not taken for 250, and no header can name a file in another folder.
Headers of a dataset repeat each other almost word for word, so what a set of signal lines means is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assets.readers.lead_names import lead_names
from assets.readers.units import COARSEST_UV, MICROVOLTS, to_microvolts
from assets.readers.wfdb_formats import FLAC_FORMATS, FORMATS
from assets.record import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NULL = "~"
"""Name of a segment without samples, and of the data file of a signal in a layout header."""

_NUMBER = r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?"
_FORMAT = re.compile(r"([0-9]{1,4})(?:x([0-9]{1,4}))?(?::([0-9]{1,9}))?(?:\+([0-9]{1,18}))?")
_GAIN = re.compile(rf"({_NUMBER})(?:\(([+-]?[0-9]{{1,9}})\))?(?:/(\S+))?")
_NAME = re.compile(r"[^\s/]+(?:/[0-9]{1,18})?")
_RATE = re.compile(rf"{_NUMBER}(?:/\S*)?")
_COUNT = re.compile(r"[0-9]{1,18}")
_RECORD = re.compile(rf"([^\s/]+)(?:/([0-9]{{1,18}}))?\s+([0-9]{{1,18}})\s+({_NUMBER})(?:/\S*)?(?:\s+([0-9]{{1,18}})(?:\s.*)?)?")
_INTEGERS = re.compile(r"(?:[+-]?[0-9]{1,18} )+")
_SIGNAL = re.compile(r"(\S+)\s+(\S+)(?:\s+(\S+)((?:\s+[+-]?[0-9]{1,18}(?!\S)){0,5})\s*(.*))?")
_SEGMENT = re.compile(r"(\S+)\s+([0-9]{1,18})(?:\s.*)?")
_DATA_FILE = re.compile(r"(?!\.{1,2}$)[^~\x00-\x1f/\\][^\x00-\x1f/\\]{0,254}")
_FOLDER = re.compile(r"(?!\.{1,2}$)[^~+\x00-\x1f\\/][^\x00-\x1f\\/]{0,254}")

_FASTEST_HZ = 1e7
_LONGEST_BLOCK = 1 << 20
_REMEMBERED_BYTES = 1 << 13
_MOST_REMEMBERED = 256

Columns = tuple[tuple[str, ...], ...]
"""The nine fields of signal lines: file, format, gain, resolution, zero, first value, checksum, block size, name."""


class Group(NamedTuple):
    """Neighbouring signals that share a data file; `physical = (count - baseline) * factor`.

    Attributes:
        first: row of its first signal in the record.
        per_frame: samples a frame of each signal; a frame lasts 1 / fs_hz.
        skew: samples of each signal that precede the record's first.
        offset: bytes (FLAC: samples) in front of the first sample.
        block_bytes: the file may be padded to a multiple of this; 0 where it is not.
        plain: one sample a frame throughout and no skew.
    """

    first: int
    fmt: int
    per_frame: tuple[int, ...]
    skew: tuple[int, ...]
    offset: int
    block_bytes: int
    plain: bool
    factor_L: NDArray[np.float64]
    baseline_L: NDArray[np.float64]

    @property
    def rows(self) -> slice:
        """The record's rows that hold its signals."""
        return slice(self.first, self.first + len(self.per_frame))


class Layout(NamedTuple):
    """What the signal lines of a header say that other headers say word for word; no groups in the layout header of a
    record whose segments differ."""

    groups: tuple[Group, ...]
    leads: tuple[str, ...]
    units: tuple[str, ...]
    zeros: tuple[int, ...]
    fastest: int


class Header(NamedTuple):
    """A header.

    Attributes:
        fs_hz: frames a second.
        n_samples: frames; None where the header leaves it open.
        files: the data file of each group.
        initial: each signal's first value, "" where none is stated.
        checksums: of each signal, "" where none is stated.
        segments: name and number of frames of each segment; empty in a record of one segment.
    """

    fs_hz: float
    n_samples: int | None
    layout: Layout
    files: tuple[str, ...] = ()
    initial: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()
    segments: tuple[tuple[str, int], ...] = ()
    n_signals: int = 0


_NO_LAYOUT = Layout((), (), (), (), 1)
_LAYOUTS: dict[tuple[object, ...], Layout] = {}


def parse_header(path: str, raw: bytes) -> Header:
    """Parse a header.

    Raises:
        RecordError: reasons bad_header, record_name, sampling_rate, empty, unsafe_path, unsupported_format, zero_gain,
            bad_gain, bad_units, unnamed_lead, duplicate_leads, length_mismatch.
    """
    lines = _lines(path, raw)
    n_signals, n_segments, fs_hz, n_samples = _parse_record_line(path, lines[0])
    if n_segments is not None:
        return _parse_segments(path, lines[1:], n_signals, n_segments, fs_hz, n_samples)
    if n_signals != len(lines) - 1:
        raise RecordError("bad_header", path, f"states {n_signals} signals but has {len(lines) - 1} signal lines")
    columns, layout = _recall(lines[1:])
    if layout is None:
        columns = _fields(path, lines[1:])
        layout = _understand(path, columns, len(raw))
    files = tuple([columns[0][group.first] for group in layout.groups])
    for file in files:
        if not _DATA_FILE.fullmatch(file) or file == "-":
            raise RecordError("unsafe_path", path, f"names the data file {file[:80]!r}; only a plain file beside the header is read")
    if len(set(files)) != len(files):
        raise RecordError("bad_header", path, "signals of one data file must stand on neighbouring lines")
    return Header(fs_hz, n_samples, layout, files, columns[5], columns[6], n_signals=n_signals)


def parse_rate(path: str, raw: bytes) -> tuple[float, int | None]:
    """Frames a second and number of frames (None where it is left open), whatever the signal lines say.

    Raises:
        RecordError: reasons bad_header, record_name, sampling_rate, empty.
    """
    _, _, fs_hz, n_samples = _parse_record_line(path, _lines(path, raw)[0])
    return fs_hz, n_samples


def _lines(path: str, raw: bytes) -> list[str]:
    """Lines that are neither blank nor comments."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line for line in map(str.strip, text.splitlines()) if line and line[0] != "#"]
    if not lines:
        raise RecordError("bad_header", path, "holds no record line")
    return lines


def _parse_record_line(path: str, line: str) -> tuple[int, int | None, float, int | None]:
    """Number of signals, of segments (None without segments), frames a second, number of frames (None where left open)."""
    match = _RECORD.fullmatch(line)
    if match is None:
        raise _record_line_fault(path, line)
    name, segments, signals, rate, samples = match.groups()
    stem = path[path.rfind("/") + 1 : -len(".hea")]
    if stem != name and stem != name.rpartition(".")[0]:
        raise RecordError("record_name", path, f"describes record {name[:80]!r} but is named {stem!r}; restore the original file name")
    n_signals, n_segments, fs_hz = int(signals), int(segments) if segments else None, float(rate)
    if n_segments == 0:
        raise RecordError("bad_header", path, "states that it has 0 segments")
    if n_signals == 0:
        raise RecordError("empty", path, "describes a record without signals")
    if not 0 < fs_hz <= _FASTEST_HZ:
        raise RecordError("sampling_rate", path, f"record line {line[:80]!r} states no usable sampling rate")
    return n_signals, n_segments, fs_hz, int(samples or 0) or None  # 0 means unspecified in this format


def _record_line_fault(path: str, line: str) -> RecordError:
    """What is wrong with a record line that is none."""
    fields = line.split()
    if len(fields) < 2 or not _COUNT.fullmatch(fields[1]) or not _NAME.fullmatch(fields[0]):
        return RecordError("bad_header", path, f"record line {line[:80]!r} does not state a name and a number of signals")
    if len(fields) < 3 or not _RATE.fullmatch(fields[2]):
        return RecordError("sampling_rate", path, f"record line {line[:80]!r} states no usable sampling rate")
    return RecordError("bad_header", path, f"record line {line[:80]!r} states {fields[3][:20]!r} samples per signal")


def _parse_segments(path: str, lines: list[str], n_signals: int, n_segments: int, fs_hz: float, n_samples: int | None) -> Header:
    if n_segments != len(lines):
        raise RecordError("bad_header", path, f"states {n_segments} segments but has {len(lines)} segment lines")
    segments = []
    for i, line in enumerate(lines):
        match = _SEGMENT.fullmatch(line)
        if match is None:
            raise RecordError("bad_header", path, f"segment line {line[:80]!r} does not state a name and a length")
        name, length = match[1], int(match[2])
        if name != NULL and not all(_FOLDER.fullmatch(part) for part in name.split("/")):
            raise RecordError("unsafe_path", path, f"names the segment {name[:80]!r}; only files beside the header or below it are read")
        if length == 0 and (i > 0 or name == NULL):  # the first may be the layout
            raise RecordError("bad_header", path, f"segment {name[:80]!r} has no samples")
        segments.append((name, length))
    total = sum(length for _, length in segments)
    if total == 0:
        raise RecordError("empty", path, "describes a record without samples")
    if n_samples not in (None, total):
        raise RecordError("length_mismatch", path, f"states {n_samples} samples per signal where its segments add up to {total}")
    return Header(fs_hz, total, _NO_LAYOUT, segments=tuple(segments), n_signals=n_signals)


def _recall(lines: list[str]) -> tuple[Columns, Layout | None]:
    """The fields of regular lines, and what they mean if that is known already."""
    try:
        columns = tuple(zip(*[line.split(None, 8) for line in lines], strict=True))
    except ValueError:
        return (), None
    if len(columns) != 9 or not _INTEGERS.fullmatch(" ".join((*columns[5], *columns[6], ""))):
        return (), None
    return columns, _LAYOUTS.get(_key(columns))


def _key(columns: Columns) -> tuple[object, ...]:
    """Everything but names of files, first values and checksums; files only by where one follows another."""
    files = columns[0]
    sizes = len(files) if files.count(files[0]) == len(files) else tuple(len(list(same)) for _, same in groupby(files))
    return (sizes, NULL in files, columns[1], columns[2], columns[3], columns[4], columns[7], columns[8])


def _fields(path: str, lines: list[str]) -> Columns:
    """The nine fields of lines that may stop early ("" for what is not there) and have names of several words."""
    rows = []
    for line in lines:
        match = _SIGNAL.fullmatch(line)
        if match is None:
            raise RecordError("bad_header", path, f"signal line {line[:80]!r} states no signal format")
        file, form, gain, integers, name = match.groups(default="")
        numbers = integers.split()
        rows.append((file, form, gain, *numbers, *[""] * (5 - len(numbers)), " ".join(name.split())))
    return tuple(zip(*rows, strict=True))


def _understand(path: str, columns: Columns, n_bytes: int) -> Layout:
    """Find out what signal lines mean, and remember it."""
    files, forms, gains, _, zeros, _, _, blocks, names = columns
    if NULL in files:
        layout = _parse_layout(path, files, forms, gains, names)
    else:
        zero = tuple(int(text) if text else 0 for text in zeros)
        scales = [_parse_gain(path, *line) for line in zip(gains, zero, strict=True)]
        leads = lead_names(Path(path), names)
        groups = _parse_groups(path, columns, scales, [abs(int(text)) if text else 0 for text in blocks])
        fastest = max(max(group.per_frame) for group in groups)
        layout = Layout(groups, leads, tuple(unit for *_, unit in scales), zero, fastest)
    if n_bytes <= _REMEMBERED_BYTES:  # otherwise a folder of huge headers would fill the memory
        if len(_LAYOUTS) >= _MOST_REMEMBERED:
            _LAYOUTS.clear()
        _LAYOUTS[_key(columns)] = layout
    return layout


def _parse_layout(path: str, files: Sequence[str], forms: Sequence[str], gains: Sequence[str], names: Sequence[str]) -> Layout:
    """The signals of a layout header: names and units in their order; its gains are those of no data file."""
    if any(file != NULL for file in files):
        raise RecordError("unsupported_format", path, "has signals with and without a data file; only a layout has signals without")
    fastest = max(_parse_format(path, form)[1] for form in forms)
    units = []
    for gain in gains:
        match = _GAIN.fullmatch(gain)
        if match is None:
            raise RecordError("bad_gain", path, f"gain {gain[:40]!r} is not a number of counts per unit")
        units.append(to_microvolts(Path(path), match[3] or "mV")[1])
    return Layout((), lead_names(Path(path), names), tuple(units), (0,) * len(files), fastest)


def _parse_groups(path: str, columns: Columns, scales: list[tuple[float, float, str]], blocks: list[int]) -> tuple[Group, ...]:
    """Signals by data file, in the header's order."""
    formats = [_parse_format(path, form) for form in columns[1]]
    groups: list[Group] = []
    starts = [i for i, file in enumerate(columns[0]) if i == 0 or file != columns[0][i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(formats)], strict=True):
        numbers, per_frame, skew, offsets = zip(*formats[start:stop], strict=True)
        if unknown := sorted(set(numbers) - FORMATS.keys()):
            raise RecordError("unsupported_format", path, f"signal format {unknown[0]} is not read")
        if len(set(numbers)) > 1 or len(set(offsets)) > 1:
            raise RecordError("bad_header", path, "signals of one data file state different formats or byte offsets")
        if max(blocks[start:stop]) > _LONGEST_BLOCK:
            raise RecordError("bad_header", path, f"states a block size of {max(blocks[start:stop])} bytes")
        if numbers[0] in FLAC_FORMATS and len(set(per_frame)) > 1:
            raise RecordError("bad_header", path, "signals of one FLAC file state different numbers of samples a frame")
        groups.append(
            Group(
                first=start,
                fmt=numbers[0],
                per_frame=per_frame,
                skew=skew,
                offset=offsets[0],
                block_bytes=max(blocks[start:stop]),
                plain=set(per_frame) == {1} and not any(skew),
                factor_L=np.array([factor for factor, _, _ in scales[start:stop]]),
                baseline_L=np.array([baseline for _, baseline, _ in scales[start:stop]]),
            )
        )
    return tuple(groups)


def _parse_format(path: str, text: str) -> tuple[int, int, int, int]:
    """Number of the format, samples a frame, skew, byte offset."""
    match = _FORMAT.fullmatch(text)
    if match is None:
        raise RecordError("bad_header", path, f"{text[:40]!r} is no signal format")
    number, per_frame, skew, offset = match.groups()
    return int(number), int(per_frame or 1) or 1, int(skew or 0), int(offset or 0)


def _parse_gain(path: str, text: str, zero: int) -> tuple[float, float, str]:
    """Physical units per count, the count of 0 units (the ADC's zero where none is stated), unit."""
    match = _GAIN.fullmatch(text)
    if match is None:
        raise RecordError("bad_gain", path, f"gain {text[:40]!r} is not a number of counts per unit; amplitudes would be unknown")
    gain, unit = float(match[1]), match[3] or "mV"
    if gain == 0:
        raise RecordError("zero_gain", path, "a gain of 0 leaves amplitudes unknown; take the gain from the recorder's documentation")
    if not 1e-9 <= gain <= 1e12:
        raise RecordError("bad_gain", path, f"gain {text[:40]!r} is negative or out of any sensible range")
    unit_to, known = to_microvolts(Path(path), unit)[1], MICROVOLTS.get(unit, 1.0)
    if unit_to == "uV" and known / gain >= COARSEST_UV:
        raise RecordError("bad_gain", path, f"with gain {text[:40]!r} one count is {known / gain:g} uV, too coarse for any ECG")
    return known / gain, float(zero if match[2] is None else match[2]), unit_to
