"""Reads SCP-ECG (EN 1064, ISO 11073-91064): rhythm data, plain or packed with the default Huffman table.

Written from the standard's layout and held to files of four makers: a file is a pointer section (0) and sections with a
checksum each; section 3 lists the leads, section 6 holds the rhythm: resolution in nanovolts, sampling interval in
microseconds, then the leads one after the other, as samples or as their first or second differences. Not read, because no
file to hold them to was found: subtraction of reference beats, bimodal compression, and Huffman tables of a file's own.
Section 1, which names the patient, is never looked at.
"""

from __future__ import annotations

import binascii
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assets.readers.lead_names import SCP_LEADS, lead_names
from assets.readers.source import checksum, read_source
from assets.readers.units import as_samples, per_count
from assets.record import Record, RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"SCPECG"
MAGIC_AT = 16

_RECORD_HEADER = 6
_SECTION_HEADER = 16
_POINTER = struct.Struct("<HII")
_DEFAULT_TABLE = 19999
_HUFFMAN, _LEADS, _RHYTHM = 2, 3, 6
_PREFIX = 10
"""Bits of the longest prefixes of the default table: nine ones, and one that says how many bits the value has."""

_SPARE_BITS = 16


class _Leads(NamedTuple):
    names: tuple[str, ...]
    n_samples: int
    reference_beats: bool


def read_scp(path: Path) -> Record:
    """Read the rhythm of an SCP-ECG file.

    The interval between samples is stated in whole microseconds; where a whole number of hertz has the same interval, that
    is the rate (1667 us: 600 Hz).

    Returns:
        Leads in the file's order, in microvolts.

    Raises:
        RecordError: reasons of `assets.readers.source` and lead names; bad_header, checksum, truncated, length_mismatch,
            no_signals, unsupported_format, sampling_rate, zero_gain, bad_gain, bad_samples.
    """
    data = read_source(path)
    sections = _sections(path, data)
    leads = _leads(path, sections.get(_LEADS, b""))
    rhythm = sections.get(_RHYTHM, b"")
    head = 6 + 2 * len(leads.names)
    if not rhythm:
        raise RecordError("no_signals", path, "holds no rhythm data (section 6)")
    if len(rhythm) < head:
        raise RecordError("truncated", path, "its rhythm data end within their header; export it again")
    resolution_nV, interval_us, differences, bimodal = struct.unpack_from("<HHBB", rhythm)
    packed = _is_packed(path, sections)
    if leads.reference_beats or bimodal or differences > 2:
        raise RecordError("unsupported_format", path, "has reference beats subtracted, or is compressed bimodally; export it without")
    factor, _ = per_count(path, float(resolution_nV), "nV")
    if leads.n_samples * len(leads.names) > 8 * len(rhythm):  # a sample takes a bit at least
        raise RecordError("truncated", path, f"states {leads.n_samples} samples a lead, more than it can hold; export it again")
    counts_LT = np.empty((len(leads.names), leads.n_samples), np.int64)
    position = head
    for row_T, size in zip(counts_LT, struct.unpack_from(f"<{len(leads.names)}H", rhythm, 6), strict=True):
        lead = rhythm[position : position + size]
        if len(lead) < size:
            raise RecordError("truncated", path, "its rhythm data are shorter than its leads; export it again")
        row_T[:] = _unpack(path, lead, leads.n_samples) if packed else _plain(path, lead, leads.n_samples)
        position += size
    return Record(
        signal_LT=as_samples(path, _summed(path, counts_LT, differences) * factor),
        leads=leads.names,
        fs_hz=_rate(path, interval_us),
        units=("uV",) * len(leads.names),
        source_checksum=checksum(data),
    )


def _sections(path: Path, data: bytes) -> dict[int, bytes]:
    """Contents of the sections that are read, without their headers, checksums compared."""
    if len(data) < _RECORD_HEADER + _SECTION_HEADER or data[MAGIC_AT : MAGIC_AT + len(MAGIC)] != MAGIC:
        raise RecordError("bad_header", path, "is no SCP-ECG file")
    crc, n_bytes = struct.unpack_from("<HI", data)
    if n_bytes != len(data):
        reason = "truncated" if len(data) < n_bytes else "length_mismatch"
        raise RecordError(reason, path, f"holds {len(data)} bytes where it states {n_bytes}; export it again")
    if crc != binascii.crc_hqx(data[2:], 0xFFFF):
        raise RecordError("checksum", path, "does not fit its checksum; export it again")
    pointers = _section(path, data, 0, _RECORD_HEADER, struct.unpack_from("<I", data, _RECORD_HEADER + 4)[0])
    found: dict[int, bytes] = {}
    for offset in range(0, len(pointers) - len(pointers) % _POINTER.size, _POINTER.size):
        number, size, index = _POINTER.unpack_from(pointers, offset)
        if number in (_HUFFMAN, _LEADS, _RHYTHM) and size:
            if number in found:
                raise RecordError("bad_header", path, f"points to section {number} twice")
            found[number] = _section(path, data, number, index - 1, size)
    return found


def _section(path: Path, data: bytes, number: int, start: int, size: int) -> bytes:
    if start < 0 or size < _SECTION_HEADER or start + size > len(data):
        raise RecordError("bad_header", path, f"section {number} lies outside of the file")
    crc, stated, length = struct.unpack_from("<HHI", data, start)
    if stated != number or length != size:
        raise RecordError("bad_header", path, f"its pointers and the header of section {number} disagree")
    if crc != binascii.crc_hqx(data[start + 2 : start + size], 0xFFFF):
        raise RecordError("checksum", path, f"section {number} does not fit its checksum; export it again")
    return data[start + _SECTION_HEADER : start + size]


def _is_packed(path: Path, sections: dict[int, bytes]) -> bool:
    """Whether leads are packed with the default Huffman table; without a section 2 they are plain."""
    table = sections.get(_HUFFMAN)
    if table is None:
        return False
    if len(table) < 2 or struct.unpack_from("<H", table)[0] != _DEFAULT_TABLE:
        raise RecordError("unsupported_format", path, "is packed with a Huffman table of its own; export it with the default one")
    return True


def _leads(path: Path, section: bytes) -> _Leads:
    if len(section) < 2 or not section[0]:
        raise RecordError("no_signals", path, "lists no leads (section 3)")
    if len(section) < 2 + 9 * section[0]:
        raise RecordError("truncated", path, "its list of leads is cut short; export it again")
    entries = [struct.unpack_from("<IIB", section, 2 + 9 * i) for i in range(section[0])]
    if len({(start, end) for start, end, _ in entries}) > 1:
        raise RecordError("length_mismatch", path, "its leads begin or end at different times; they must be simultaneous")
    start, end, _ = entries[0]
    # Samples count from 1, but files exist that begin at 0 and end at the number of samples.
    n_samples = end - max(start, 1) + 1
    if n_samples < 1:
        raise RecordError("bad_header", path, f"its leads run from sample {start} to {end}")
    unknown = [code for _, _, code in entries if code not in SCP_LEADS]
    if unknown:
        raise RecordError("unnamed_lead", path, f"holds a lead of code {unknown[0]}, whose name is not known")
    return _Leads(lead_names(path, [SCP_LEADS[code] for _, _, code in entries]), n_samples, bool(section[1] & 1))


def _plain(path: Path, lead: bytes, n_samples: int) -> NDArray[np.int16]:
    if len(lead) != 2 * n_samples:
        reason = "truncated" if len(lead) < 2 * n_samples else "length_mismatch"
        raise RecordError(reason, path, f"a lead holds {len(lead)} bytes where {n_samples} samples are stated; export it again")
    return np.frombuffer(lead, "<i2")


def _unpack(path: Path, lead: bytes, n_samples: int) -> NDArray[np.int64]:
    """Values of a lead packed with the default table, highest bit of each byte first.

    A code is 0 for 0; k ones (1 to 8), a 0 and a sign for k or -k; nine ones, a 0 and 8 bits, or ten ones and 16 bits, for
    any other value. What a code would be is worked out for every bit at once; only the walk from code to code is a loop.
    """
    n_bits = 8 * len(lead)
    bits = np.zeros(n_bits + _PREFIX + 16, np.int64)
    bits[:n_bits] = np.unpackbits(np.frombuffer(lead, np.uint8))
    ones = np.zeros(n_bits, np.int64)  # how many ones follow from here, up to ten
    unbroken = np.ones(n_bits, np.int64)
    for i in range(_PREFIX):
        unbroken &= bits[i : i + n_bits]
        ones += unbroken
    lengths = np.select([ones == 0, ones < 9, ones == 9], [1, ones + 2, _PREFIX + 8], _PREFIX + 16).tolist()
    places, place = [], 0
    for _ in range(n_samples):
        if place >= n_bits:
            raise RecordError("truncated", path, "a lead ends before its last sample; export it again")
        places.append(place)
        place += lengths[place]
    if place > n_bits:
        raise RecordError("truncated", path, "a lead ends within its last sample; export it again")
    if n_bits - place >= _SPARE_BITS:
        raise RecordError("length_mismatch", path, "a lead goes on after its last sample")
    place_T = np.array(places)
    ones_T = ones[place_T]
    value_T: NDArray[np.int64] = np.where(bits[place_T + np.minimum(ones_T, 8) + 1] == 1, -ones_T, ones_T)
    for n_ones, width in ((9, 8), (10, 16)):
        at = place_T[ones_T == n_ones] + _PREFIX
        literal = np.zeros(len(at), np.int64)
        for i in range(width):
            literal = literal * 2 + bits[at + i]
        value_T[ones_T == n_ones] = literal - ((literal >> (width - 1)) << width)
    return value_T


def _summed(path: Path, values_LT: NDArray[np.int64], differences: int) -> NDArray[np.int64]:
    """Samples from their first or second differences; the first one or two values are samples themselves."""
    if differences == 1:
        values_LT = np.cumsum(values_LT, axis=1)
    elif differences == 2 and values_LT.shape[1] > 1:
        values_LT[:, 1] -= values_LT[:, 0]
        slopes_LT = np.cumsum(values_LT[:, 1:], axis=1)
        values_LT[:, 1:] = values_LT[:, :1] + np.cumsum(slopes_LT, axis=1)
    if np.abs(values_LT).max() > 1 << 20:  # samples are 16 bits; sums of damaged differences run away
        raise RecordError("bad_samples", path, "its differences do not add up to samples; export it again")
    return values_LT


def _rate(path: Path, interval_us: int) -> float:
    if not interval_us:
        raise RecordError("sampling_rate", path, "states an interval of 0 us between samples")
    whole = round(1e6 / interval_us)
    return float(whole) if whole and round(1e6 / whole) == interval_us else 1e6 / interval_us
