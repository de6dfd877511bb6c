"""Reads ECG waveforms from DICOM files (12-lead, general and ambulatory ECG Waveform Storage) through pydicom.

Only the waveform sequence is decoded; elements that name the patient are skipped.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.readers.lead_names import SCP_LEADS, lead_names
from assets.readers.source import checksum, read_source
from assets.readers.units import as_samples, per_count, usable_rate
from assets.record import Record, RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

MAGIC = b"DICM"
MAGIC_AT = 128

_BYTE_ORDERS = {
    "1.2.840.10008.1.2": "<",
    "1.2.840.10008.1.2.1": "<",
    "1.2.840.10008.1.2.2": ">",
}
"""Transfer syntaxes that are read: implicit and explicit little endian, explicit big endian. Deflated files are refused,
because pydicom unpacks them without a limit; waveforms have no other packed form."""

_SAMPLES = {("SB", 8): "i1", ("UB", 8): "u1", ("SS", 16): "i2", ("US", 16): "u2"}
_UID = re.compile(r"[0-9.]{1,64}")
_WAVEFORM_SEQUENCE = 0x54000100
_LONG_VRS = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT")


def read_dicom(path: Path) -> Record:
    """Read the rhythm of a DICOM ECG.

    Of several multiplex groups (rhythm, representative beat, ...) the one with most samples is read.

    Returns:
        Channels in the file's order under the names of their sources; sample * sensitivity * correction + baseline,
        voltages in microvolts; samples with a padding value at the end of the range are NaN.

    Raises:
        RecordError: reasons of `assets.readers.source`, units and lead names; bad_dicom, unsupported_format (deflated files,
            samples other than 8 or 16 bit linear), no_signals (no waveform: an image, say), several_groups (two groups of
            equal length), sampling_rate, truncated, length_mismatch, bad_gain, bad_samples.
    """
    data = read_source(path)
    if data[MAGIC_AT : MAGIC_AT + 4] != MAGIC:
        raise RecordError("bad_dicom", path, "is no DICOM file")
    order = _BYTE_ORDERS.get(syntax := _transfer_syntax(data))
    if order is None:
        named = syntax if _UID.fullmatch(syntax) else "unknown"  # anything may stand there in a damaged file
        raise RecordError("unsupported_format", path, f"has transfer syntax {named}; save it uncompressed (1.2.840.10008.1.2.1)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that are not used here, quoting them
            return _read(path, data, order)
    except (RecordError, MemoryError):
        raise
    except Exception as error:
        # What pydicom and broken values raise is not passed on, because it quotes the file, which names a patient.
        raise RecordError("bad_dicom", path, f"is damaged ({type(error).__name__}); export it again") from None


def _transfer_syntax(data: bytes) -> str:
    """The transfer syntax of the file meta information, which is always explicit little endian; "" where there is none."""
    position = MAGIC_AT + 4
    while position + 12 <= len(data):
        group, element, vr, size = struct.unpack_from("<HH2sH", data, position)
        if group != 2:
            break
        position += 8
        if vr in _LONG_VRS:
            size = struct.unpack_from("<I", data, position)[0]
            position += 4
        if element == 0x10:
            return data[position : position + min(size, 64)].decode("latin-1").strip(" \0")
        position += size
    return ""


def _read(path: Path, data: bytes, order: str) -> Record:
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=[_WAVEFORM_SEQUENCE])
    groups: list[Dataset] = list(dataset.get("WaveformSequence") or ())
    if not groups:
        raise RecordError("no_signals", path, "holds no waveform; it may be an image or a report")
    longest = max(int(g.NumberOfWaveformSamples) for g in groups)
    chosen = [g for g in groups if int(g.NumberOfWaveformSamples) == longest]
    if len(chosen) > 1:
        raise RecordError("several_groups", path, f"holds {len(chosen)} groups of {longest} samples; export one at a time")
    group = chosen[0]
    fs_hz = usable_rate(path, float(group.SamplingFrequency))
    channels: list[Dataset] = list(group.ChannelDefinitionSequence)
    counts_TL = _counts(path, group, len(channels), order)
    scales = [_scale(path, channel) for channel in channels]
    factor_L, offset_L = (np.array([s[i] for s in scales], np.float64) for i in (0, 1))
    signal_LT = as_samples(path, (counts_TL * factor_L + offset_L).T)
    if (padding := _padding(group, counts_TL.dtype)) is not None:
        signal_LT[(counts_TL == padding).T] = np.nan
    names = lead_names(path, [_source(channel) for channel in channels])
    return Record(signal_LT, names, fs_hz, tuple(str(s[2]) for s in scales), checksum(data))


def _counts(path: Path, group: Dataset, n_channels: int, order: str) -> NDArray[Any]:
    """Samples as stored, shape (samples, channels)."""
    kind = (str(group.WaveformSampleInterpretation), int(group.WaveformBitsAllocated))
    if kind not in _SAMPLES:
        raise RecordError(
            "unsupported_format", path, f"holds samples of kind {kind[0][:8]!r} in {kind[1]} bits; 8 and 16 bit linear ones are read"
        )
    n_samples = int(group.NumberOfWaveformSamples)
    if int(group.NumberOfWaveformChannels) != n_channels or n_channels < 1 or n_samples < 0:
        raise RecordError("bad_dicom", path, f"defines {n_channels} channels but states another number")
    raw = group.WaveformData
    if not isinstance(raw, bytes):
        raise RecordError("no_signals", path, "its waveform holds no samples")
    dtype = np.dtype(order + _SAMPLES[kind])
    expected = n_samples * n_channels * dtype.itemsize
    if len(raw) < expected:
        raise RecordError("truncated", path, f"holds {len(raw)} bytes of samples where {expected} are stated; export it again")
    if len(raw) > expected + expected % 2:  # an odd number of bytes is padded to an even one
        raise RecordError("length_mismatch", path, f"holds {len(raw)} bytes of samples where {expected} are stated")
    return np.frombuffer(raw, dtype, n_samples * n_channels).reshape(n_samples, n_channels)


def _scale(path: Path, channel: Dataset) -> tuple[float, float, str]:
    """Factor, offset and unit of a channel: sensitivity, correction and baseline."""
    units = channel.get("ChannelSensitivityUnitsSequence")
    sensitivity = channel.get("ChannelSensitivity")
    if sensitivity is None or not units:
        raise RecordError("bad_gain", path, "a channel states no sensitivity; amplitudes would be unknown")
    correction = channel.get("ChannelSensitivityCorrectionFactor")
    unit = str(units[0].CodeValue)
    nominal = float(sensitivity)
    factor, name = per_count(path, nominal * (1.0 if correction is None else float(correction)), unit)
    in_unit, _ = per_count(path, nominal, unit)
    baseline = channel.get("ChannelBaseline")
    offset = (0.0 if baseline is None else float(baseline)) * in_unit / nominal
    if not math.isfinite(offset):
        raise RecordError("bad_samples", path, "a channel states no finite baseline")
    return factor, offset, name


def _source(channel: Dataset) -> str:
    """The lead of a channel: by code where it is known, else by the code's meaning or the channel's label."""
    for source in channel.get("ChannelSourceSequence") or ():
        number = str(source.get("CodeValue", "")).strip().replace("5.6.3-9-", "2:").removeprefix("2:")
        if (
            str(source.get("CodingSchemeDesignator", "")).strip() in ("SCPECG", "MDC")
            and number.isdecimal()
            and int(number[:6]) in SCP_LEADS
        ):
            return SCP_LEADS[int(number)]
        if meaning := str(source.get("CodeMeaning", "")).strip():
            return meaning
    return str(channel.get("ChannelLabel", "") or "")


def _padding(group: Dataset, dtype: np.dtype[Any]) -> int | None:
    """The count that marks a missing sample: a stated padding value, if it is the lowest or highest count there is.

    Others are ignored: files exist whose padding value is 0 and whose zeros are samples like all others.
    """
    value = group.get("WaveformPaddingValue")
    if not isinstance(value, bytes) or len(value) < dtype.itemsize:
        return None
    padding = int(np.frombuffer(value, dtype, 1)[0])
    return padding if padding in (np.iinfo(dtype).min, np.iinfo(dtype).max) else None
