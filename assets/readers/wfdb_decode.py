"""From the data files of one WFDB segment to physical values, whole or a range of frames."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from assets.readers import wfdb_files
from assets.readers.wfdb_formats import FLAC_FORMATS, FORMATS, flac_length, read_flac, undo_differences, unpack
from assets.readers.wfdb_header import Group, Header, parse_header
from assets.record import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALWAYS_BYTES = 1 << 28
"""Samples of a record may always take so much memory."""

TIMES_THE_FILES = 16
"""What is larger may take so many times the size of its files: gaps and compressed silence cost a writer nothing."""

MOST_BYTES = 1 << 32
"""What is larger still is read in parts."""

_CHUNK = 1 << 22


class Segment(NamedTuple):
    """A record of one segment whose files are there and as long as its header says.

    Attributes:
        path: the header.
        raw: the header's bytes.
        files: path and size of each group's data file.
        n_frames: frames in each.
    """

    path: str
    raw: bytes
    header: Header
    files: tuple[tuple[str, int], ...]
    n_frames: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return len(self.raw) + sum(size for _, size in self.files)


def open_segment(path: str, raw: bytes, header: Header) -> Segment:
    """Find the data files of a header of one segment and hold their lengths against it.

    Raises:
        RecordError: reasons missing_signal, unreadable, unsafe_path, lfs_pointer, truncated, length_mismatch, empty,
            bad_signal_file.
    """
    if not header.layout.groups:
        raise RecordError("empty", path, "is the layout of a record in several segments and has no samples of its own")
    folder = path[: path.rfind("/") + 1]
    files, lengths = [], []
    for group, name in zip(header.layout.groups, header.files, strict=True):
        file = folder + name
        size = wfdb_files.size_of(file)
        files.append((file, size))
        lengths.append(_frames_of(file, size, group, header.n_samples))
    if len(set(lengths)) > 1:
        raise RecordError("length_mismatch", path, f"data files hold {lengths} samples per lead; they must agree")
    return Segment(path, raw, header, tuple(files), lengths[0])


def check_memory(path: str, n_rows: int, n_columns: int, n_bytes: int) -> None:
    """Refuse what would take far more memory than the files that it comes from.

    Raises:
        RecordError: reason too_large.
    """
    if 4 * n_rows * n_columns > min(ALWAYS_BYTES + TIMES_THE_FILES * n_bytes, MOST_BYTES):
        raise RecordError(
            "too_large", path, f"{n_rows} leads of {n_columns} samples take too much memory; read it in parts with `read_wfdb_segments`"
        )


def read_frames(
    segment: Segment, start: int, stop: int, rate: int, digest: xxhash.xxh3_128
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Physical values of a range of frames.

    Args:
        segment: from `open_segment`.
        start: first frame.
        stop: frame behind the last.
        rate: samples a frame of what is returned: 1 averages the samples of a frame, any other repeats those of slower signals.
        digest: receives the bytes that were read; of a whole segment the whole files.

    Returns:
        Values of shape (leads, frames * rate), and the sum of each lead's counts, right in its lowest 16 bits.

    Raises:
        RecordError: reasons unreadable, truncated, bad_signal_file, too_large.
    """
    layout = segment.header.layout
    n_leads, n = len(layout.leads), stop - start
    check_memory(segment.path, n_leads, n * rate, segment.n_bytes)
    signal_LT = np.empty((n_leads, n * rate), np.float32)
    sums_L = np.empty(n_leads, np.int64)
    for group, (file, size) in zip(layout.groups, segment.files, strict=True):
        out_LT, totals = signal_LT[group.rows], sums_L[group.rows]
        counts = _counts(segment, group, file, size, start, stop, digest)
        if group.plain and rate == 1:
            _scale(group, counts, out_LT, totals)
        else:
            _scale_frames(group, counts, n, rate, out_LT, totals)
    return signal_LT, sums_L


def check_sums(segment: Segment, sums_L: NDArray[np.int64]) -> None:
    """Hold sums of whole signals against the header's checksums; without a length a 0 there means nothing.

    Raises:
        RecordError: reason checksum.
    """
    header = segment.header
    placeholder = "0" if header.n_samples is None else ""
    wrong = [
        lead
        for lead, checksum, total in zip(header.layout.leads, header.checksums, sums_L.tolist(), strict=True)
        if checksum and (total - int(checksum)) & 0xFFFF and checksum != placeholder
    ]
    if wrong:
        raise RecordError(
            "checksum", segment.path, f"the samples of {', '.join(wrong)} do not add up to the header's checksums; download it again"
        )


def load_segment(path: str, missing: str = "absent") -> Segment:
    """Read the header of one segment and find its files.

    Raises:
        RecordError: as `wfdb_files.read_header`, `parse_header` and `open_segment`.
    """
    raw = wfdb_files.read_header(path, missing)
    header = parse_header(path, raw)
    if header.segments:
        raise RecordError("bad_header", path, "is a segment that has segments itself")
    return open_segment(path, raw, header)


def _frames_of(path: str, size: int, group: Group, stated: int | None) -> int:
    """Frames in a data file, which must have the length that the header asks for."""
    width, form = sum(group.per_frame), FORMATS[group.fmt]
    if group.fmt in FLAC_FORMATS:
        fewest = most = (stated or 0) * group.per_frame[0]
        length = flac_length(path, group.fmt, len(group.per_frame)) - group.offset
        found = None if length < 0 or length % group.per_frame[0] else length // group.per_frame[0]
        unit = "samples"
    else:
        fewest, most = form.bytes_of((stated or 0) * width), form.whole_bytes_of((stated or 0) * width)
        if group.block_bytes:
            most = max(most, -(-(fewest + group.offset) // group.block_bytes) * group.block_bytes - group.offset)
        length = size - group.offset
        found = None if length < 0 else form.frames_in(length, width)
        unit = "bytes"
    if stated is not None and length > most:
        raise RecordError("length_mismatch", path, f"holds more than the {fewest} {unit} of its header; the two do not belong together")
    if length < fewest or (stated is None and found is None):
        wanted = f"{fewest} {unit}" if stated is not None else f"whole frames of {width} samples"
        raise RecordError(
            "truncated", path, f"holds {length} {unit} from {group.offset} on where its header asks for {wanted}; download it again"
        )
    frames = stated if stated is not None else found or 0
    if not frames:
        raise RecordError("empty", path, "holds no samples")
    return frames


def _counts(segment: Segment, group: Group, file: str, size: int, start: int, stop: int, digest: xxhash.xxh3_128) -> NDArray[Any]:
    """Counts of a range of frames and of those behind it that skewed signals need.

    Returns:
        int16 or int32, shape (frames, samples a frame); of FLAC shape (samples, signals).
    """
    whole = stop - start == segment.n_frames
    end = (
        stop
        if group.plain
        else min(segment.n_frames, stop + max(-(-skew // n) for skew, n in zip(group.skew, group.per_frame, strict=True)))
    )
    if group.fmt in FLAC_FORMATS:
        n = group.per_frame[0]
        counts = read_flac(file, group.fmt, len(group.per_frame), group.offset + start * n, group.offset + end * n)
        digest.update((wfdb_files.read(file, 0, size) if whole else counts).data)
        return counts
    width, form = sum(group.per_frame), FORMATS[group.fmt]
    lead_in = start * width % form.samples  # samples of the first block that belong to the frame before
    n_samples = lead_in + (end - start) * width
    room = form.whole_bytes_of(n_samples)
    if whole:
        buffer = wfdb_files.read(file, 0, size, group.offset + room)
        digest.update(buffer[:size].data)
        packed = buffer[group.offset : group.offset + room]
        packed = packed.copy() if group.offset % 4 else packed
    else:
        at = group.offset + (start * width - lead_in) // form.samples * form.n_bytes
        n_bytes = form.bytes_of(n_samples)
        packed = wfdb_files.read(file, at, n_bytes, room)
        digest.update(packed[:n_bytes].data)
    counts = unpack(group.fmt, packed, n_samples)
    counts = (counts[lead_in:].copy() if lead_in else counts).reshape(-1, width)  # a copy, as kernels want it aligned
    if group.fmt == 8:
        counts = undo_differences(counts, group.per_frame, _before(segment, group, file, start))
    return counts


def _before(segment: Segment, group: Group, file: str, start: int) -> NDArray[np.int64]:
    """Counts of format 8 in front of a frame: the header's first values and all differences up to there."""
    width = sum(group.per_frame)
    edges = np.cumsum((0, *group.per_frame[:-1]))
    header = segment.header
    counts = np.array([int(text) if text else zero for text, zero in zip(header.initial, header.layout.zeros, strict=True)][group.rows])
    step = max(1, _CHUNK // width)
    for frame in range(0, start, step):
        part = wfdb_files.read(file, group.offset + frame * width, (min(start, frame + step) - frame) * width)
        counts += np.add.reduceat(part.view(np.int8).reshape(-1, width).sum(axis=0, dtype=np.int64), edges)
    return counts


@cache
def _kernels() -> Any:
    from assets.readers import wfdb_kernels

    return wfdb_kernels


def _scale(group: Group, counts_TL: NDArray[Any], out_LT: NDArray[np.float32], sums_L: NDArray[np.int64]) -> None:
    kernels = _kernels()
    missing = FORMATS[group.fmt].missing
    if counts_TL.itemsize == 2 and counts_TL.shape[1] % 2 == 0:
        kernels.scale_pairs(counts_TL.view(np.int32), group.factor_L, group.baseline_L, np.int32(missing), out_LT, sums_L)
    else:
        kernels.scale(counts_TL, group.factor_L, group.baseline_L, counts_TL.dtype.type(missing), out_LT, sums_L)


def _scale_frames(
    group: Group, counts: NDArray[Any], n_frames: int, rate: int, out_LT: NDArray[np.float32], sums_L: NDArray[np.int64]
) -> None:
    """As `wfdb_kernels.scale` for signals with several samples a frame or a skew; see `read_frames`."""
    first = 0
    for lead, (n, skew) in enumerate(zip(group.per_frame, group.skew, strict=True)):
        flat = counts[:, lead] if group.fmt in FLAC_FORMATS else counts[:, first : first + n].reshape(-1)
        first += n
        sums_L[lead] = flat[: n_frames * n].sum(dtype=np.int64)
        flat = flat[skew : skew + n_frames * n]
        values = np.full(n_frames * n, np.nan)
        values[: flat.size] = (flat - group.baseline_L[lead]) * group.factor_L[lead]
        values[: flat.size][flat == FORMATS[group.fmt].missing] = np.nan
        frames = values.reshape(-1, n)
        if rate == 1:
            out_LT[lead] = frames[:, 0] if n == 1 else frames.mean(axis=1)
        else:
            out_LT[lead] = frames[:, np.arange(rate) * n // rate].reshape(-1)
