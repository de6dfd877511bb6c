"""One recording, and the error that tells why a recording cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import EinthovenError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RecordError(EinthovenError):
    """A recording that must not be used as it is.

    Attributes:
        reason: a short machine-readable word, the same for the same kind of fault (`checksum`, `zero_gain`, ...).
        path: the file at fault.
    """

    def __init__(self, reason: str, path: Path | str, explanation: str) -> None:
        super().__init__(f"{path}: {explanation}")
        self.reason = reason
        self.path = Path(path)
        self.explanation = explanation


@dataclass(frozen=True)
class Record:
    """A recording as read from its files.

    Attributes:
        signal_LT: float32 in microvolts (or the lead's own unit), shape (leads, samples), in the file's lead order;
            missing samples are NaN.
        leads: names as the field writes them (I, II, III, aVR, ..., V6) where known, else as in the file.
        fs_hz: sampling rate.
        units: one physical unit per lead, "uV" for voltages.
        source_checksum: XXH3 (128 bits, hexadecimal) over the bytes of the files read, header first.
        start_s: where this piece begins in the recording, for recordings that are read in pieces.
    """

    signal_LT: NDArray[np.float32]
    leads: tuple[str, ...]
    fs_hz: float
    units: tuple[str, ...]
    source_checksum: str
    start_s: float = 0.0


@dataclass(frozen=True)
class Annotations:
    """Annotated moments of a recording, in order of time.

    Attributes:
        sample_N: int64 sample numbers at `fs_hz`, shape (N,).
        symbols: one code a moment, as PhysioNet writes them ("N" normal beat, "V" ventricular, "+" rhythm change, ...).
        notes: free text a moment ("(AFIB", ...), "" for most.
        fs_hz: rate that sample numbers refer to.
    """

    sample_N: NDArray[np.int64]
    symbols: tuple[str, ...]
    notes: tuple[str, ...]
    fs_hz: float
