"""Reads GE MUSE resting ECGs exported as XML (`RestingECG`)."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.readers.lead_names import lead_names
from assets.readers.safe_xml import child, children, local, read_xml, text
from assets.readers.source import checksum
from assets.readers.units import as_samples, per_count, usable_rate
from assets.record import Record, RecordError
from models.types import LEADS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

ROOT = "RestingECG"

_NUMBER = re.compile(r"[0-9]{1,9}(?:[.,][0-9]{1,9})?")
_COUNT = re.compile(r"[0-9]{1,9}")


def read_muse(path: Path) -> Record:
    """Read the rhythm waveform of a MUSE XML file.

    Such files usually hold eight measured leads (I, II, V1 to V6). The other four follow from I and II by Einthoven's and
    Goldberger's relations and are added where they are missing: III = II - I, aVR = -(I + II) / 2, aVL = I - II / 2,
    aVF = II - I / 2.

    Returns:
        Leads in the standard order, others behind them; microvolts.

    Raises:
        RecordError: reasons of `assets.readers.source`, `safe_xml`, units and lead names; unknown_layout, no_signals,
            several_groups (more than one rhythm waveform), sampling_rate, unsupported_format, bad_samples, truncated,
            length_mismatch, checksum.
    """
    root, data = read_xml(path)
    if local(root.tag) != ROOT:
        raise RecordError("unknown_layout", path, f"is XML, but no {ROOT} of MUSE")
    return muse_record(path, root, data)


def muse_record(path: Path, root: Element, data: bytes) -> Record:
    """The record of a parsed file. Raises as `read_muse`."""
    rhythm = [w for w in children(root, "Waveform") if text(w, "WaveformType").lower() == "rhythm"]
    if not rhythm or not children(rhythm[0], "LeadData"):
        raise RecordError("no_signals", path, "holds no rhythm waveform; export it with waveforms")
    if len(rhythm) > 1:
        raise RecordError("several_groups", path, f"holds {len(rhythm)} rhythm waveforms; export one at a time")
    fs_hz = _rate(path, rhythm[0])
    elements = children(rhythm[0], "LeadData")
    names = lead_names(path, [text(e, "LeadID") for e in elements])
    rows = [_lead(path, e, name) for e, name in zip(elements, names, strict=True)]
    if len(lengths := {len(r) for r in rows}) > 1:
        raise RecordError("length_mismatch", path, f"its leads hold {sorted(lengths)} samples; they must agree")
    by_name = _complete(dict(zip(names, rows, strict=True)))
    ordered = sorted(by_name, key=lambda n: LEADS.index(n) if n in LEADS else len(LEADS))
    signal_LT = as_samples(path, np.stack([by_name[n] for n in ordered]))
    return Record(signal_LT, tuple(ordered), fs_hz, ("uV",) * len(ordered), checksum(data))


def _rate(path: Path, waveform: Element) -> float:
    base, exponent = text(waveform, "SampleBase"), text(waveform, "SampleExponent") or "0"
    fs_hz = float(base) if _COUNT.fullmatch(base) else 0.0
    if not fs_hz or exponent != "0":  # no file with another exponent is known, nor what it would mean
        raise RecordError("sampling_rate", path, "states no rate that is understood (SampleBase in Hz, SampleExponent 0)")
    return usable_rate(path, fs_hz)


def _lead(path: Path, element: Element, name: str) -> NDArray[np.float32]:
    """Samples of a lead in microvolts, shape (samples,)."""
    if text(element, "LeadSampleSize") not in ("", "2"):
        raise RecordError("unsupported_format", path, f"lead {name} has samples of another size than two bytes, which are not read")
    if text(element, "LeadOffsetFirstSample") not in ("", "0") or text(element, "LeadTimeOffset") not in ("", "0"):
        raise RecordError("unsupported_format", path, f"lead {name} begins later than others; leads must be simultaneous")
    waveform = child(element, "WaveFormData")
    try:
        raw = base64.b64decode("".join((waveform.text or "").split()) if waveform is not None else "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError("bad_samples", path, f"the samples of lead {name} are no base64; download it again") from error
    stated = text(element, "LeadSampleCountTotal")
    if len(raw) % 2 or (stated and (not _COUNT.fullmatch(stated) or 2 * int(stated) > len(raw))):
        raise RecordError("truncated", path, f"lead {name} holds fewer samples than it states; download it again")
    if stated and 2 * int(stated) < len(raw):
        raise RecordError("length_mismatch", path, f"lead {name} holds more samples than it states")
    crc = text(element, "LeadDataCRC32")
    if crc and crc != str(zlib.crc32(raw)):
        raise RecordError("checksum", path, f"the samples of lead {name} do not fit their checksum; download it again")
    resolution = text(element, "LeadAmplitudeUnitsPerBit")
    if not _NUMBER.fullmatch(resolution):
        raise RecordError("bad_gain", path, f"lead {name} states no resolution (LeadAmplitudeUnitsPerBit); amplitudes would be unknown")
    factor, unit = per_count(path, float(resolution.replace(",", ".")), text(element, "LeadAmplitudeUnits"))
    if unit != "uV":
        raise RecordError("bad_units", path, f"lead {name} is in no unit of voltage that is known (LeadAmplitudeUnits)")
    return (np.frombuffer(raw, "<i2") * factor).astype(np.float32)


def _complete(by_name: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The leads with those that follow from I and II."""
    if not {"I", "II"} <= by_name.keys():
        return by_name
    one_T, two_T = by_name["I"], by_name["II"]
    derived = {"III": two_T - one_T, "aVR": -(one_T + two_T) / 2, "aVL": one_T - two_T / 2, "aVF": two_T - one_T / 2}
    return derived | by_name
