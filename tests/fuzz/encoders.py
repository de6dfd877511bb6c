"""Writes small recordings in every format that is read, for tests and as seeds of the fuzzer. All of them name a patient."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

PATIENT = "Xanthippe"
"""The name that must never appear in a message."""

SCP_CODES = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64}


# MATLAB and HDF5


def mat(variables: Mapping[str, Any], *, compressed: bool = True) -> bytes:
    """A MATLAB file of level 5."""
    import scipy.io

    out = io.BytesIO()
    scipy.io.savemat(out, dict(variables), do_compression=compressed)
    return out.getvalue()


def cpsc2018(signal_mV_LT: NDArray[Any], *, compressed: bool = True) -> bytes:
    """A recording of CPSC 2018: struct ECG of sex, age and data."""
    return mat({"ECG": {"sex": "Female", "age": 52.0, "data": signal_mV_LT, "name": PATIENT}}, compressed=compressed)


def code15(tracings: NDArray[Any], exam_ids: Sequence[int] | None = None, **options: Any) -> bytes:
    """An HDF5 file of CODE-15%; without numbers of exams, of SaMi-Trop. Options are those of `create_dataset`."""
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("tracings", data=tracings, **options)
        if exam_ids is not None:
            file["exam_id"] = np.asarray(exam_ids, np.int64)
    return out.getvalue()


# EDF


def edf_signal(label: str, counts: Sequence[Counts] | Counts, **fields: Any) -> dict[str, Any]:
    """A channel: its data records, and header fields that differ from the usual."""
    usual = {"unit": "uV", "low": "-3276.8", "high": "3276.7", "digital_low": "-32768", "digital_high": "32767"}
    return {"label": label, "records": [np.asarray(r, "<i2") for r in counts], **usual, **fields}


def edf(signals: Sequence[Mapping[str, Any]], *, duration: str = "1", kind: str = "", **header: str) -> bytes:
    """An EDF file; `header` overrides n_records, n_bytes or n_signals."""
    n_records = len(signals[0]["records"]) if signals else 0
    fields = {"n_bytes": str(256 * (len(signals) + 1)), "n_records": str(n_records), "n_signals": str(len(signals))} | header
    parts = [("0", 8), (PATIENT, 80), ("Startdate X", 80), ("01.01.01", 8), ("00.00.00", 8), (fields["n_bytes"], 8), (kind, 44)]
    parts += [(fields["n_records"], 8), (duration, 8), (fields["n_signals"], 4)]
    columns = (
        ("label", 16),
        ("", 80),
        ("unit", 8),
        ("low", 8),
        ("high", 8),
        ("digital_low", 8),
        ("digital_high", 8),
        ("", 80),
        ("n", 8),
        ("", 32),
    )
    for name, size in columns:
        for s in signals:
            parts.append((str(len(s["records"][0])) if name == "n" else str(s.get(name, "")), size))
    head = b"".join(text.encode("latin-1")[:size].ljust(size) for text, size in parts)
    return head + b"".join(s["records"][i].tobytes() for i in range(n_records) for s in signals)


# XML


def muse_lead(name: str, counts: Counts, **fields: str) -> str:
    """A lead of a MUSE waveform; `fields` overrides elements, None leaves them out."""
    raw = np.asarray(counts, "<i2").tobytes()
    usual: dict[str, Any] = {
        "LeadByteCountTotal": len(raw), "LeadTimeOffset": 0, "LeadSampleCountTotal": len(raw) // 2,
        "LeadAmplitudeUnitsPerBit": "4.88", "LeadAmplitudeUnits": "MICROVOLTS", "LeadID": name, "LeadOffsetFirstSample": 0,
        "LeadSampleSize": 2, "LeadDataCRC32": zlib.crc32(raw), "WaveFormData": base64.encodebytes(raw).decode(),
    }  # fmt: skip
    items = (usual | fields).items()
    return "<LeadData>" + "".join(f"<{k}>{v}</{k}>" for k, v in items if v is not None) + "</LeadData>"


def muse(leads: Sequence[str], *, base: str = "500", exponent: str = "0", kind: str = "Rhythm", doctype: str = "") -> bytes:
    """A MUSE file of a median and one other waveform."""
    doctype = doctype or '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">'
    rate = f"<SampleBase>{base}</SampleBase><SampleExponent>{exponent}</SampleExponent>"
    median = f"<Waveform><WaveformType>Median</WaveformType>{rate}{muse_lead('I', np.arange(4))}</Waveform>"
    rhythm = f"<Waveform><WaveformType>{kind}</WaveformType>{rate}{''.join(leads)}</Waveform>"
    patient = f"<PatientDemographics><PatientLastName>{PATIENT}</PatientLastName></PatientDemographics>"
    return f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{doctype}\n<RestingECG>{patient}{median}{rhythm}</RestingECG>'.encode("latin-1")


def aecg_lead(name: str, counts: Counts, *, unit: str = "uV", scale: str = "2.5", origin: str = "0", digits: str | None = None) -> str:
    """A sequence of an annotated ECG."""
    written = digits if digits is not None else " ".join(map(str, np.asarray(counts).tolist()))
    values = f'<origin value="{origin}" unit="{unit}"/><scale value="{scale}" unit="{unit}"/><digits>{written}</digits>'
    code = f'<code code="{name}" codeSystem="2.16.840.1.113883.6.24"/>'
    return f'<component><sequence>{code}<value xsi:type="SLIST_PQ">{values}</value></sequence></component>'


def aecg_set(leads: Sequence[str], *, increment: str = "0.002", unit: str = "s") -> str:
    """A set of sequences with its sequence of time."""
    value = f'<value xsi:type="GLIST_TS"><head value="20200101"/><increment value="{increment}" unit="{unit}"/></value>'
    time = f'<component><sequence><code code="TIME_ABSOLUTE"/>{value}</sequence></component>'
    return f"<component><sequenceSet>{time}{''.join(leads)}</sequenceSet></component>"


def aecg(sets: Sequence[str], *, code: str = "RHYTHM") -> bytes:
    """An annotated ECG of one series."""
    names = 'xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    series = f'<component><series><code code="{code}"/>{"".join(sets)}</series></component>'
    return f"<AnnotatedECG {names}><subject><name>{PATIENT}</name></subject>{series}</AnnotatedECG>".encode()


# SCP-ECG


def scp_section(number: int, content: bytes) -> bytes:
    """A section with its header and checksum, padded to an even length."""
    content += b"\0" * (len(content) % 2)
    reserved = b"SCPECG" if number == 0 else b"\0" * 6
    body = struct.pack("<HIBB", number, 16 + len(content), 20, 20) + reserved + content
    return struct.pack("<H", binascii.crc_hqx(body, 0xFFFF)) + body


def scp_file(sections: Mapping[int, bytes]) -> bytes:
    """A file of sections (contents by number) with pointers and checksums."""
    order = [n for n in sections if n]
    whole = {n: scp_section(n, sections[n]) for n in order}
    position, pointers = 6 + 16 + 120 + 1, {}
    for n in order:
        pointers[n] = struct.pack("<HII", n, len(whole[n]), position)
        position += len(whole[n])
    listed = b"".join(pointers.get(n, struct.pack("<HII", n, 0, 0)) for n in range(1, 12))
    first = scp_section(0, struct.pack("<HII", 0, 136, 7) + listed)
    body = struct.pack("<I", 6 + len(first) + sum(map(len, whole.values()))) + first + b"".join(whole.values())
    return struct.pack("<H", binascii.crc_hqx(body, 0xFFFF)) + body


def scp_repaired(data: bytes) -> bytes:
    """A damaged file with its length and checksums put right, so that the damage gets past them."""
    if len(data) < 6 + 16 + 120:
        return data
    out = bytearray(data)
    struct.pack_into("<I", out, 2, len(out))
    for offset in range(22, 22 + 120, 10):
        number, size, index = struct.unpack_from("<HII", data, offset)
        start = index - 1
        if size >= 16 and start >= 0 and start + size <= len(out):
            struct.pack_into("<HI", out, start + 2, number, size)
            struct.pack_into("<H", out, start, binascii.crc_hqx(bytes(out[start + 2 : start + size]), 0xFFFF))
    struct.pack_into("<H", out, 0, binascii.crc_hqx(bytes(out[2:]), 0xFFFF))
    return bytes(out)


def scp_packed(values: Sequence[int]) -> bytes:
    """Values in the default Huffman code."""
    bits = []
    for v in values:
        if v == 0:
            bits.append("0")
        elif abs(v) <= 8:
            bits.append("1" * abs(v) + "0" + ("1" if v < 0 else "0"))
        elif -128 <= v <= 127:
            bits.append("1" * 9 + "0" + f"{v & 0xFF:08b}")
        else:
            bits.append("1" * 10 + f"{v & 0xFFFF:016b}")
    joined = "".join(bits)
    joined += "0" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big") if joined else b""


def scp_differences(counts: Counts, order: int) -> Counts:
    """First or second differences, beginning with one or two samples themselves."""
    return np.concatenate([counts[:order], np.diff(counts, order)]) if order else counts


def scp(
    leads: Mapping[str, Counts], *, packed: bool = True, order: int = 2, interval_us: int = 2000, nV: int = 2500, **fields: Any
) -> bytes:
    """An SCP-ECG file; `fields` overrides flags, bimodal, table, start, end, or adds sections by `sections`."""
    n = len(next(iter(leads.values())))
    start, end = fields.get("start", 1), fields.get("end", n)
    listed = b"".join(struct.pack("<IIB", start, end, SCP_CODES.get(name, 255)) for name in leads)
    values = [scp_differences(np.asarray(c, np.int64), order) for c in leads.values()]
    data = [scp_packed(v.tolist()) if packed else v.astype("<i2").tobytes() for v in values]
    head = struct.pack("<HHBB", nV, interval_us, order, fields.get("bimodal", 0)) + struct.pack(f"<{len(data)}H", *map(len, data))
    sections = {1: b"\x00\x0a\x00" + PATIENT.encode() + b"\0\xff\0\0"}
    if packed:
        sections[2] = struct.pack("<H", fields.get("table", 19999))
    sections[3] = bytes([len(leads), fields.get("flags", 4 | min(len(leads), 31) << 3)]) + listed
    sections[6] = head + b"".join(data)
    return scp_file(sections | fields.get("sections", {}))


# DICOM


def dicom_channel(code: str = "5.6.3-9-1", scheme: str = "SCPECG", meaning: str = "Lead", **fields: Any) -> Any:
    """Definition of a channel; None leaves an attribute out."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    def coded(value: str, designator: str, text: str) -> Any:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, designator, text
        return item

    channel = Dataset()
    channel.ChannelSourceSequence = Items([coded(code, scheme, meaning)])
    unit = fields.pop("unit", "uV")
    if unit is not None:
        channel.ChannelSensitivityUnitsSequence = Items([coded(unit, "UCUM", "unit")])
    usual = {"ChannelSensitivity": "2.5", "ChannelSensitivityCorrectionFactor": "1", "ChannelBaseline": "0", "WaveformBitsStored": 16}
    for name, value in (usual | fields).items():
        if value is not None:
            setattr(channel, name, value)
    return channel


def dicom_group(counts_TL: NDArray[Any], channels: Sequence[Any], **fields: Any) -> Any:
    """A multiplex group; the samples' kind follows from their dtype."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    group = Dataset()
    raw = np.ascontiguousarray(counts_TL).tobytes()
    kind = {"i1": "SB", "u1": "UB", "i2": "SS", "u2": "US"}[counts_TL.dtype.str[1:]]
    usual = {
        "WaveformOriginality": "ORIGINAL", "NumberOfWaveformChannels": counts_TL.shape[1], "NumberOfWaveformSamples": counts_TL.shape[0],
        "SamplingFrequency": "500", "ChannelDefinitionSequence": Items(channels), "WaveformBitsAllocated": 8 * counts_TL.dtype.itemsize,
        "WaveformSampleInterpretation": kind, "WaveformData": raw + b"\0" * (len(raw) % 2),
    }  # fmt: skip
    for name, value in (usual | fields).items():
        if value is not None:
            setattr(group, name, value)
    return group


def dicom(groups: Sequence[Any], *, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """A 12-lead ECG Waveform Storage file."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.9.1.1"), UID("1.2.3.4")
    meta.TransferSyntaxUID = UID(syntax)
    little, implicit = syntax != "1.2.840.10008.1.2.2", syntax == "1.2.840.10008.1.2"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=implicit, is_little_endian=little)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.Modality = PATIENT, "ECG"
    if groups:
        dataset.WaveformSequence = Items(groups)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


# Annotations and archives


def annotations(moments: Sequence[tuple[int, int]], *, notes: Mapping[int, bytes] | None = None) -> bytes:
    """WFDB annotations: (samples since the last one, code) and texts by position."""
    out = bytearray()
    for i, (step, code) in enumerate(moments):
        if step > 1023:
            out += struct.pack("<HHH", 59 << 10, step >> 16, step & 0xFFFF)
            step = 0
        out += struct.pack("<H", code << 10 | step)
        if notes and i in notes:
            out += struct.pack("<H", 63 << 10 | len(notes[i])) + notes[i] + b"\0" * (len(notes[i]) % 2)
    return bytes(out) + b"\0\0"


def zip_of(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def tar_of(members: Sequence[tuple[tarfile.TarInfo | str, bytes]], *, mode: str = "w") -> bytes:
    """A tar archive; members are names, or their headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def flac(n_leads: int, n_samples: int = 60) -> bytes:
    """A FLAC file of 16 bits."""
    import soundfile

    out = io.BytesIO()
    counts_TL = np.random.default_rng(0).integers(-300, 300, (n_samples, n_leads)).astype(np.int16)
    soundfile.write(out, counts_TL, 96000, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def wesad_pickle(n_samples: int) -> bytes:
    """The dictionary of a WESAD subject, as protocol 2 writes it."""
    import pickle

    chest = {name: np.zeros((n_samples, 3 if name == "ACC" else 1)) for name in ("ACC", "ECG", "EMG", "EDA", "Temp", "Resp")}
    session = {"signal": {"chest": chest, "wrist": {}}, "label": np.ones(n_samples, np.int32), "subject": "S2"}
    return pickle.dumps(session, protocol=2)
