"""Readers of recording formats behind one call: our own, strict, and bounded by the size of the files they read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assets.record import Record


def read_record(path: Path) -> Record:
    """Read a recording, whatever its format: told by content, and by ending only where a format has no signature.

    WFDB, EDF and EDF+, DICOM, SCP-ECG, GE MUSE and HL7 aECG (XML), MATLAB files of CPSC 2018 and 2019, HDF5 of the CODE study
    (single tracings; others through `assets.readers.hdf5.read_code15`), CSV and the text of the Challenge of 2011.

    Args:
        path: the file; for WFDB the header, a data file, or both without their ending.

    Returns:
        Voltages in microvolts, missing samples as NaN, leads under their usual names.

    Raises:
        RecordError: the recording cannot be used; `reason` says why, "absent" when there is no such recording,
            "unknown_format" when no reader knows it.
    """
    from assets.readers.formats import reader_of

    return reader_of(path)(path)
