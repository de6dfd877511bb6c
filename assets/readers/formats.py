"""Tells formats apart."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from assets.readers.source import read_head
from assets.record import Record, RecordError

Reader = Callable[[Path], Record]

_HEAD_BYTES = 4096
_WFDB = "assets.readers.wfdb:read_wfdb"
_WFDB_ENDINGS = {".hea", ".dat"}
_CSV = "assets.readers.csv_text:read_csv_text"
_CSV_ENDINGS = {".csv", ".tsv", ".txt"}
_OTHER_ENDINGS = {".mat", ".hdf5", ".h5", ".edf", ".dcm", ".xml", ".scp", *_CSV_ENDINGS}
_SIGNATURES = (
    (0, b"\x89HDF\r\n\x1a\n", "assets.readers.hdf5:read_hdf5"),
    (0, b"0       ", "assets.readers.edf:read_edf"),
    (0, b"MATLAB 5.0 MAT-file", "assets.readers.mat:read_mat"),
    (128, b"DICM", "assets.readers.dicom:read_dicom"),
    (16, b"SCPECG", "assets.readers.scp_ecg:read_scp"),
)
"""Where a format's signature stands, what it is, and who reads it."""

_XML = "assets.readers.formats:read_xml_record"
_XML_STARTS = (b"<", b"\xff\xfe<", b"\xfe\xff\0<")
_KNOWN = "WFDB, EDF, DICOM, SCP-ECG, MUSE and aECG XML, MATLAB files of CPSC, HDF5 of CODE, CSV"


def reader_of(path: Path) -> Reader:
    """The reader of a file; that of WFDB for what does not exist, because a record may be named without an ending.

    Raises:
        RecordError: reasons of `assets.readers.source`; unknown_format.
    """
    module, _, name = _find(path).partition(":")
    reader: Reader = getattr(import_module(module), name)
    return reader


def _find(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in _WFDB_ENDINGS or (ending not in _OTHER_ENDINGS and not _is_file(path)):
        return _WFDB
    if ending == ".mat" and _is_file(path.with_suffix(".hea")):
        return _WFDB
    head = read_head(path, _HEAD_BYTES)
    for offset, signature, reader in _SIGNATURES:
        if head.startswith(signature, offset):
            return reader
    if ending == ".mat" or _is_file(path.with_suffix(".hea")):
        return _WFDB  # a data file of whatever ending; where its header is missing, that reader says so
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_XML_STARTS):
        return _XML
    if ending in _CSV_ENDINGS:
        return _CSV
    raise RecordError("unknown_format", path, f"is of no format that is read: {_KNOWN}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be searched; readers say so
        return False


def read_xml_record(path: Path) -> Record:
    """Read a MUSE or aECG file, whichever its root says.

    Raises:
        RecordError: as `read_muse` and `read_aecg`; reason unknown_format for XML of another kind.
    """
    from assets.readers import aecg, muse
    from assets.readers.safe_xml import local, read_xml

    root, data = read_xml(path)
    name = local(root.tag)
    if name == muse.ROOT:
        return muse.muse_record(path, root, data)
    if name == aecg.ROOT:
        return aecg.aecg_record(path, root, data)
    raise RecordError("unknown_format", path, f"is XML, but neither a {muse.ROOT} of MUSE nor an {aecg.ROOT} of HL7")
