"""Reads WFDB records: every signal format of the manual, of one segment and of several, whole or in parts.

Strict where a common reader guesses: a gain of 0 is refused and not taken for 200, checksums are compared, a data file must
have the length that its header states, and no header can make the reader open another folder or allocate more than a small
multiple of what the files hold.

A record has one rate. Where signals have several samples a frame (a header's `212x4`), each frame is averaged, as WFDB's own
library does by default; `full_rate` keeps all samples instead and repeats those of slower signals, which is its other mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from assets.readers import wfdb_files
from assets.readers.wfdb_decode import Segment, check_memory, check_sums, load_segment, open_segment, read_frames
from assets.readers.wfdb_header import NULL, Header, Layout, parse_header
from assets.record import Record, RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Part(NamedTuple):
    """A segment where it lies in a record of several; None where nothing was recorded."""

    start: int
    stop: int
    segment: Segment | None


def read_wfdb(path: Path, full_rate: bool = False) -> Record:
    """Read a WFDB record.

    Args:
        path: header, data file, or both without their ending.
        full_rate: return the rate of the fastest signal; otherwise the header's, for which samples of a frame are averaged.

    Returns:
        The record in the header's lead order (of several segments: in that of their layout); voltages in microvolts,
        signals of another kind in their own unit, what was not recorded as NaN.

    Raises:
        RecordError: reasons absent, missing_header, missing_segment, missing_signal, unreadable, lfs_pointer, bad_header,
            record_name, unsafe_path, unsupported_format, sampling_rate, zero_gain, bad_gain, bad_units, unnamed_lead,
            duplicate_leads, truncated, length_mismatch, empty, bad_signal_file, checksum, too_large.
    """
    header_path, raw, header = _read_header(path)
    digest = xxhash.xxh3_128(raw)
    if header.segments:
        return _join(header_path, header, full_rate, digest)
    segment = open_segment(header_path, raw, header)
    rate = header.layout.fastest if full_rate else 1
    signal_LT, sums_L = read_frames(segment, 0, segment.n_frames, rate, digest)
    check_sums(segment, sums_L)
    return _record(header.layout, signal_LT, header.fs_hz * rate, digest)


def read_wfdb_segments(
    path: Path, max_samples: int | None = None, full_rate: bool = False, on_fault: Callable[[RecordError], object] | None = None
) -> Iterator[Record]:
    """Read a WFDB record in parts, one after the other: its segments, which each have leads of their own, without the gaps.

    Args:
        path: as `read_wfdb`.
        max_samples: longer segments are cut into parts of so many samples.
        full_rate: as `read_wfdb`.
        on_fault: told of each segment that cannot be used, which then ends early; without it the fault is raised. A checksum
            is known at a segment's end only, after its parts.

    Yields:
        Parts with `start_s`, in order of time. `source_checksum` is over the segment's header and the part's bytes (of FLAC:
        the part's samples), of an uncut segment over its files.

    Raises:
        RecordError: as `read_wfdb`.
    """
    if max_samples is not None and max_samples < 1:
        raise ValueError(f"parts of {max_samples} samples cannot be made")
    header_path, raw, header = _read_header(path)
    if not header.segments:
        yield from _pieces(open_segment(header_path, raw, header), 0, max_samples, full_rate)
        return
    start = 0
    for name, length in header.segments:
        try:
            if name != NULL and length:
                yield from _pieces(_load(header_path, header, name, length), start, max_samples, full_rate)
        except RecordError as error:
            if on_fault is None:
                raise
            on_fault(error)
        start += length


def _read_header(path: Path) -> tuple[str, bytes, Header]:
    header_path = wfdb_files.header_of(path)
    raw = wfdb_files.read_header(header_path)
    return header_path, raw, parse_header(header_path, raw)


def _record(layout: Layout, signal_LT: NDArray[np.float32], fs_hz: float, digest: xxhash.xxh3_128, start_s: float = 0.0) -> Record:
    return Record(signal_LT, layout.leads, fs_hz, layout.units, digest.hexdigest(), start_s)


def _pieces(segment: Segment, start: int, max_samples: int | None, full_rate: bool) -> Iterator[Record]:
    """A segment that begins at frame `start` of its record, cut into parts."""
    layout, fs_hz = segment.header.layout, segment.header.fs_hz
    rate = layout.fastest if full_rate else 1
    step = segment.n_frames if max_samples is None else max(1, max_samples // rate)
    totals_L = np.zeros(len(layout.leads), np.int64)
    for first in range(0, segment.n_frames, step):
        digest = xxhash.xxh3_128(segment.raw)
        signal_LT, sums_L = read_frames(segment, first, min(first + step, segment.n_frames), rate, digest)
        totals_L += sums_L & 0xFFFF
        if step >= segment.n_frames:
            check_sums(segment, totals_L)  # before the segment is handed out, where that is possible
        yield _record(layout, signal_LT, fs_hz * rate, digest, (start + first) / fs_hz)
    check_sums(segment, totals_L)


def _load(header_path: str, header: Header, name: str, length: int) -> Segment:
    """A named segment, which must fit the record it belongs to."""
    folder = header_path[: header_path.rfind("/") + 1]
    segment = load_segment(wfdb_files.below(folder, name) + ".hea", "missing_segment")
    if segment.header.fs_hz != header.fs_hz:
        raise RecordError("sampling_rate", segment.path, f"states {segment.header.fs_hz:g} Hz in a record of {header.fs_hz:g} Hz")
    if segment.n_frames != length:
        raise RecordError("length_mismatch", segment.path, f"has {segment.n_frames} samples where its record states {length}")
    return segment


def _parts(header_path: str, header: Header, digest: xxhash.xxh3_128) -> tuple[Layout | None, list[_Part]]:
    """The layout, where there is one, and all segments."""
    layout, parts, start = None, [], 0
    for name, length in header.segments:
        if name == NULL:
            parts.append(_Part(start, start + length, None))
        elif length:
            parts.append(_Part(start, start + length, _load(header_path, header, name, length)))
        else:
            folder = header_path[: header_path.rfind("/") + 1]
            path = wfdb_files.below(folder, name) + ".hea"
            raw = wfdb_files.read_header(path, "missing_segment")
            digest.update(raw)
            layout = parse_header(path, raw).layout
            if layout.groups or not layout.leads:
                raise RecordError("bad_header", path, "has no samples by its record, and must be a layout then: data files named ~")
        start += length
    return layout, parts


def _join(header_path: str, header: Header, full_rate: bool, digest: xxhash.xxh3_128) -> Record:
    """Read all segments into one record, by the names of their layout's leads; what no segment holds is NaN."""
    layout, parts = _parts(header_path, header, digest)
    segments = [part.segment for part in parts if part.segment is not None]
    fixed = layout is None
    if layout is None:
        if not segments:
            raise RecordError("empty", header_path, "has neither a layout nor a segment with samples")
        layout = segments[0].header.layout
    if header.n_signals != len(layout.leads):
        raise RecordError("bad_header", header_path, f"states {header.n_signals} signals where its segments have {len(layout.leads)}")
    layouts = [layout, *(segment.header.layout for segment in segments)]
    rate = max(known.fastest for known in layouts) if full_rate else 1
    n_samples = (header.n_samples or 0) * rate
    check_memory(header_path, len(layout.leads), n_samples, len(header.segments) + sum(segment.n_bytes for segment in segments))
    signal_LT = np.full((len(layout.leads), n_samples), np.nan, np.float32)
    for start, stop, segment in parts:
        if segment is None:
            continue
        rows = _rows(segment, layout, fixed)
        digest.update(segment.raw)
        values_LT, sums_L = read_frames(segment, 0, stop - start, rate, digest)
        check_sums(segment, sums_L)
        signal_LT[rows, start * rate : stop * rate] = values_LT
    return _record(layout, signal_LT, header.fs_hz * rate, digest)


def _rows(segment: Segment, layout: Layout, fixed: bool) -> list[int]:
    """The record's rows that a segment's leads go to."""
    own = segment.header.layout
    if unknown := [lead for lead in own.leads if lead not in layout.leads]:
        raise RecordError("bad_header", segment.path, f"names {', '.join(unknown)[:80]}, which the record's layout does not")
    if fixed and own.leads != layout.leads:
        raise RecordError("bad_header", segment.path, "has other leads than the segments before; such a record needs a layout")
    rows = [layout.leads.index(lead) for lead in own.leads]
    if odd := [lead for lead, unit, row in zip(own.leads, own.units, rows, strict=True) if unit != layout.units[row]]:
        raise RecordError("bad_units", segment.path, f"gives {', '.join(odd)[:80]} in another unit than the record's layout")
    return rows
