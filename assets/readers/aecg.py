"""Reads HL7 annotated ECGs (`AnnotatedECG`, urn:hl7-org:v3), the format of the FDA's ECG warehouse."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assets.readers.lead_names import lead_names
from assets.readers.safe_xml import child, children, local, read_xml, text
from assets.readers.source import checksum
from assets.readers.units import as_samples, per_count, to_microvolts
from assets.record import Record, RecordError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from numpy.typing import NDArray

ROOT = "AnnotatedECG"

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def read_aecg(path: Path) -> Record:
    """Read the rhythm of an annotated ECG.

    Of several rhythm series (`code` RHYTHM) and sequence sets, the one with most samples is read; derived series
    (representative beats) never are.

    Returns:
        Leads in the file's order, microvolts; sequences of another kind in their own unit.

    Raises:
        RecordError: reasons of `assets.readers.source`, `safe_xml`, units and lead names; unknown_layout, no_signals,
            several_groups (two sets of equal length), sampling_rate, bad_gain, bad_samples, length_mismatch.
    """
    root, data = read_xml(path)
    if local(root.tag) != ROOT:
        raise RecordError("unknown_layout", path, f"is XML, but no {ROOT} of HL7")
    return aecg_record(path, root, data)


def aecg_record(path: Path, root: Element, data: bytes) -> Record:
    """The record of a parsed file. Raises as `read_aecg`."""
    sets = [_sequences(s) for series in _rhythms(root) for c in children(series, "component") for s in children(c, "sequenceSet")]
    sets = [s for s in sets if any(name == "SLIST_PQ" for _, name, _ in s)]
    if not sets:
        raise RecordError("no_signals", path, "holds no rhythm series with samples")
    parsed = [_parsed(path, s) for s in sets]
    longest = max(signal_LT.shape[1] for _, signal_LT, _, _ in parsed)
    chosen = [p for p in parsed if p[1].shape[1] == longest]
    if len(chosen) > 1:
        raise RecordError("several_groups", path, f"holds {len(chosen)} sets of {longest} samples; export one at a time")
    names, signal_LT, units, fs_hz = chosen[0]
    return Record(as_samples(path, signal_LT), lead_names(path, names), fs_hz, units, checksum(data))


def _rhythms(root: Element) -> list[Element]:
    """The rhythm series; the only series where none says what it is."""
    series = [s for c in children(root, "component") for s in children(c, "series")]
    rhythm = [s for s in series if _attribute(s, "code", "code").upper() == "RHYTHM"]
    return rhythm or (series if len(series) == 1 else [])


def _attribute(element: Element, name: str, attribute: str) -> str:
    found = child(element, name)
    return found.get(attribute, "").strip() if found is not None else ""


def _sequences(sequence_set: Element) -> list[tuple[str, str, Element]]:
    """Code, type and value of each sequence of a set."""
    found = []
    for component in children(sequence_set, "component"):
        for sequence in children(component, "sequence"):
            value = child(sequence, "value")
            if value is not None:
                kinds = [v.rpartition(":")[2].strip() for k, v in value.attrib.items() if local(k) == "type"]
                found.append((_attribute(sequence, "code", "code"), kinds[0] if kinds else "", value))
    return found


def _parsed(path: Path, sequences: list[tuple[str, str, Element]]) -> tuple[list[str], NDArray[np.float64], tuple[str, ...], float]:
    """Codes, samples (leads, samples), units and rate of a sequence set."""
    fs_hz, names, rows, units = 0.0, [], [], []
    for code, kind, value in sequences:
        if kind in ("GLIST_TS", "GLIST_PQ") and code.startswith("TIME_"):
            fs_hz = _rate(path, value)
        elif kind == "SLIST_PQ":
            samples_T, unit = _samples(path, value)
            names.append(code)
            rows.append(samples_T)
            units.append(unit)
    if not fs_hz:
        raise RecordError("sampling_rate", path, "a set of sequences states no increment of time")
    if len(lengths := {len(r) for r in rows}) > 1:
        raise RecordError("length_mismatch", path, f"leads of a set hold {sorted(lengths)[:9]} samples; they must agree")
    return names, np.stack(rows), tuple(units), fs_hz


def _rate(path: Path, value: Element) -> float:
    step = _number(_attribute(value, "increment", "value")) * _SECONDS.get(_attribute(value, "increment", "unit"), math.nan)
    if not 1e-7 <= step <= 1e4:
        raise RecordError("sampling_rate", path, "states no increment of time that is understood (s, ms or us)")
    return round(1 / step, 9)


def _samples(path: Path, value: Element) -> tuple[NDArray[np.float64], str]:
    """Samples of a lead, shape (samples,), and their unit."""
    scale = _number(_attribute(value, "scale", "value"))
    factor, unit = per_count(path, scale, _attribute(value, "scale", "unit"))
    origin = _number(_attribute(value, "origin", "value") or "0")
    origin_factor, origin_unit = to_microvolts(path, _attribute(value, "origin", "unit"))
    if not math.isfinite(origin):
        raise RecordError("bad_samples", path, "a lead's origin is no number")
    if origin and unit != origin_unit:
        raise RecordError("bad_units", path, "a lead's origin and scale are in units that do not fit")
    digits = text(value, "digits")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older numpy only warns of text that is no number
            counts_T = np.fromstring(digits, np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise RecordError("bad_samples", path, "holds digits that are no numbers; download it again") from error
    if not np.isfinite(counts_T).all():
        raise RecordError("bad_samples", path, "holds digits that are no finite numbers; download it again")
    return counts_T * factor + origin * origin_factor, unit


def _number(value: str) -> float:
    try:
        return float(value) if len(value) <= 32 else math.nan
    except ValueError:
        return math.nan
