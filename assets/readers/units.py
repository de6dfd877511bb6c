"""Physical units and values of samples: voltages become microvolts, everything else keeps its own unit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.record import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MICROVOLTS: dict[str, float] = {
    "nV": 1e-3,
    "uV": 1.0, "uv": 1.0, "µV": 1.0, "μV": 1.0, "MICROVOLTS": 1.0,
    "mV": 1e3, "mv": 1e3, "MILLIVOLTS": 1e3,
    "V": 1e6, "v": 1e6,
}  # fmt: skip
"""Microvolts per unit. "MV" is missing on purpose: it may mean milli or mega."""

NO_UNIT = "NU"
"""What stands for a unit that the file does not state, as in WFDB headers."""

COARSEST_UV = 1000.0
"""A count as coarse as this cannot carry an ECG (R waves are about 1 mV tall): such a gain is a placeholder."""


def to_microvolts(path: Path, unit: str) -> tuple[float, str]:
    """By what samples in a unit are multiplied, and their unit thereafter: "uV", or the unit as it is.

    Raises:
        RecordError: reason bad_units, for a voltage in an unknown multiple and for what cannot be a unit.
    """
    unit = unit.strip()
    if factor := MICROVOLTS.get(unit):
        return factor, "uV"
    if unit.lower().endswith(("v", "volt", "volts")):
        raise RecordError("bad_units", path, f"unit {unit[:20]!r} is not known; voltages are read in nV, uV, mV and V")
    if len(unit) > 32 or not unit.isprintable():
        raise RecordError("bad_units", path, f"{unit[:20]!r} is no physical unit")
    return 1.0, unit or NO_UNIT


def per_count(path: Path, units_per_count: float, unit: str) -> tuple[float, str]:
    """Microvolts (or units, where it is no voltage) per count of an integer sample, and the unit thereafter.

    Raises:
        RecordError: reasons zero_gain, bad_gain, bad_units.
    """
    factor, unit = to_microvolts(path, unit)
    scale = units_per_count * factor
    if units_per_count == 0:
        raise RecordError("zero_gain", path, "a scale of 0 leaves amplitudes unknown; take it from the recorder's documentation")
    if not math.isfinite(scale) or not 1e-12 <= abs(scale) <= 1e12:
        raise RecordError("bad_gain", path, f"a scale of {units_per_count:g} {unit[:20]} per count is out of any sensible range")
    if unit == "uV" and abs(scale) >= COARSEST_UV:
        raise RecordError("bad_gain", path, f"one count is {scale:g} uV, too coarse for any ECG")
    return scale, unit


def usable_rate(path: Path, fs_hz: float) -> float:
    """The rate as it is.

    Raises:
        RecordError: reason sampling_rate, outside of a sample in 1,000 s to 10 MHz.
    """
    if not 1e-3 <= fs_hz <= 1e7:
        raise RecordError("sampling_rate", path, f"states a rate of {fs_hz:g} Hz, at which nothing is recorded")
    return fs_hz


def as_samples(path: Path, values_LT: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as records have them: float32, contiguous by lead, missing ones NaN.

    Raises:
        RecordError: reason empty, or bad_samples where one is infinite or does not fit.
    """
    if not values_LT.size:
        raise RecordError("empty", path, "holds no samples")
    with np.errstate(over="ignore"):
        signal_LT = np.ascontiguousarray(values_LT, np.float32)
    if np.isinf(signal_LT).any():
        raise RecordError("bad_samples", path, "holds samples that are infinite; download it again")
    return signal_LT
