"""Readers of recording formats behind one call: our own, strict, and bounded by the size of the files they read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assets.record import Record


def read_record(path: Path) -> Record:
    """Read a recording, whatever its format.

    Args:
        path: header, data file, or both without their ending.

    Returns:
        Voltages in microvolts, missing samples as NaN, leads under their usual names.

    Raises:
        RecordError: the recording cannot be used; `reason` says why, "absent" when there is no such recording.
    """
    from assets.readers.wfdb import read_wfdb

    return read_wfdb(path)
