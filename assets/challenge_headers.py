"""Finds recordings in folders of headers, and reads what the headers of the Challenge's form say of them.

The Challenges of 2020 and 2021 and the Shaoxing and Ningbo database have no table: age, sex and diagnoses stand in comments at the
end of each header ("#Age: 74" or "# Age: 74"), and recordings lie in many small folders, each with a list RECORDS. Every file is
read once, folders are listed and not asked file by file, and no link is followed: 88,253 headers take seconds.

Both releases hold recordings twice under different names, some with different diagnoses. Where the release's own SHA256SUMS.txt is
there, recordings whose data files have the same checksum are the same patient, in the fold of the first of them.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assets.dataset import Dataset, DatasetError
from assets.identities import Identity
from assets.record import Record, RecordError
from assets.tables import some

if TYPE_CHECKING:
    import pandas as pd

AGE_ABOVE_89 = 300.0
"""What PTB-XL writes instead of ages above 89, and the Challenges with it; we write 90."""

_OLDEST = 120.0
CHECKSUMS = "SHA256SUMS.txt"

_HEADER_BYTES = 1 << 16
_CHECKSUM_BYTES = 1 << 27
_LIST_BYTES = 1 << 22
_COMMENT = re.compile(rb"^#[ \t]*(age|sex|dx)[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_CHECKSUM = re.compile(rb"^([0-9a-f]{64})[ *]+(\S+\.mat)\r?$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}
_NO_CODE = ("", "unknown", "nan")


class Shelf(NamedTuple):
    """A folder of recordings.

    Attributes:
        path: relative to the dataset's folder, with "/".
        names: its files.
        records: names of its recordings, sorted: those of its RECORDS and those that have a header.
    """

    path: str
    names: frozenset[str]
    records: tuple[str, ...]

    def files(self) -> list[str]:
        """The list and the files of recordings, sorted."""
        known = {f"{record}{ending}" for record in self.records for ending in (".hea", ".mat")} | {"RECORDS"}
        return sorted(self.names & known)

    def has(self, record: str) -> bool:
        """Whether header and data file of a recording are there."""
        return f"{record}.hea" in self.names and f"{record}.mat" in self.names


class Comments(NamedTuple):
    """What a header says of its recording.

    Attributes:
        age: years; NaN where none is stated or it cannot be one (-1); 90 for all above 89 where the source says so.
        sex: female, male or unknown.
        codes: SNOMED CT codes in their order, repeated ones once.
        unreadable: what stands between commas and is no code.
    """

    age: float
    sex: str
    codes: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


NOTHING = Comments(math.nan, "unknown", ())


class HeaderDataset(Dataset):
    """A dataset without tables. Subclasses say where its shelves are, and whose a recording is."""

    @abstractmethod
    def _find_shelves(self) -> list[Shelf]:
        """All folders of recordings, sorted by path; raises DatasetError where there are none."""

    @abstractmethod
    def _who(self, record: str, shelf: Shelf) -> tuple[str, Identity]:
        """Site of a recording, and its patient."""

    def files(self) -> list[Path]:
        """Lists, headers and data files of the recordings.

        Raises:
            DatasetError: the folder has no recordings of this dataset.
        """
        lists = [Path(CHECKSUMS)] if (self.folder / CHECKSUMS).is_file() else []
        return lists + [Path(shelf.path, name) for shelf in self._shelves for name in shelf.files()]

    def records(self) -> pd.DataFrame:
        """Every recording that a list names or that has a header, by site and name; device and time are not published.

        Of recordings whose header is not there, age and sex are unknown.

        Raises:
            DatasetError: the folder has no recordings of this dataset, two of one name, or an unreadable list.
        """
        import pandas as pd

        sites, alone = zip(*(self._who(r, shelf) for r, shelf in self._places.items()), strict=True)
        people = self._with_copies(alone)
        comments = [self._comments.get(r, NOTHING) for r in self._places]
        table = pd.DataFrame(
            {
                "record_id": list(self._places),
                "patient_id": [p.patient_id for p in people],
                "fold": [p.fold for p in people],
                "age": [c.age for c in comments],
                "sex": [c.sex for c in comments],
                "site": sites,
                "device": "",
                "acquired_at": "",
            }
        )
        return table.sort_values(["site", "record_id"], ignore_index=True)

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which recordings have their header and their data file."""
        return [(shelf := self._places.get(r)) is not None and shelf.has(r) for r in record_ids]

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording at its own rate.

        Raises:
            RecordError: reason "absent" when header or data file is not there; else as `assets.readers.read_record`.
        """
        from assets.readers import read_record

        shelf = self._places.get(record_id)
        if shelf is None or not shelf.has(record_id):
            where = self.folder if shelf is None else self.folder / shelf.path
            raise RecordError("absent", where, f"has no header and data file of record {record_id!r}")
        return read_record(self.folder / shelf.path / f"{record_id}.hea")

    def _with_copies(self, people: Sequence[Identity]) -> list[Identity]:
        """The patients of all recordings; those of recordings with the same data file are the first of them."""
        published = dict[str, bytes]()
        if (self.folder / CHECKSUMS).is_file():
            with (self.folder / CHECKSUMS).open("rb") as stream:
                raw = stream.read(_CHECKSUM_BYTES)
            published = {match[2].decode("ascii", "replace"): match[1] for match in _CHECKSUM.finditer(raw)}
        keys = [published.get(f"{shelf.path}/{record}.mat", b"") for record, shelf in self._places.items()]
        first: dict[bytes, Identity] = {}
        for key, who in zip(keys, people, strict=True):
            first[key] = min(first.get(key, who), who)
        return [first[key] if key else who for key, who in zip(keys, people, strict=True)]

    def _codes(self) -> dict[str, tuple[str, ...]]:
        """SNOMED CT codes of all recordings that have a header; raises DatasetError where these are none."""
        if odd := [f"{r} ({c.unreadable[0]!r})" for r, c in self._comments.items() if c.unreadable]:
            raise DatasetError(f"{self.folder}: diagnoses of {some(odd)} are no SNOMED CT codes; restore the original headers")
        return {r: c.codes for r, c in self._comments.items()}

    @cached_property
    def _shelves(self) -> list[Shelf]:
        return self._find_shelves()

    @cached_property
    def _places(self) -> dict[str, Shelf]:
        """Where each recording is."""
        places: dict[str, Shelf] = {}
        for shelf in self._shelves:
            for record in shelf.records:
                if record in places:
                    raise DatasetError(
                        f"{self.folder}: recording {record} is both in {places[record].path} and in {shelf.path}; remove one"
                    )
                places[record] = shelf
        return places

    @cached_property
    def _comments(self) -> dict[str, Comments]:
        """Of all recordings that have a header; each header is read once."""
        return {
            record: read_comments(self.folder / shelf.path / f"{record}.hea")
            for record, shelf in self._places.items()
            if f"{record}.hea" in shelf.names
        }


def shelves(folder: Path, top: str, depth: int) -> Iterator[Shelf]:
    """The folders `depth` levels below `folder/top`, sorted by path; none where `top` is not there.

    Raises:
        DatasetError: a list RECORDS cannot be read or names something else than recordings.
    """
    if depth:
        for name in sorted(_entries(folder / top, folders=True)):
            yield from shelves(folder, f"{top}/{name}", depth - 1)
        return
    names = frozenset(_entries(folder / top, folders=False))
    headers = {name.removesuffix(".hea") for name in names if name.endswith(".hea")}
    listed = _listed(folder / top / "RECORDS") if "RECORDS" in names else set()
    records = tuple(sorted(listed | {h for h in headers if _NAME.fullmatch(h)}))
    if records:
        yield Shelf(top, names, records)


def read_comments(path: Path) -> Comments:
    """Age, sex and diagnoses of a header; unknown ones where it has no such comments, or cannot be read at all."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return NOTHING
    try:
        raw = os.read(descriptor, _HEADER_BYTES)
    except OSError:
        return NOTHING
    finally:
        os.close(descriptor)
    return parse_comments(raw)


def parse_comments(raw: bytes) -> Comments:
    """The same of a header's bytes."""
    age, sex, codes, unreadable = math.nan, "unknown", dict[str, None](), []
    for match in _COMMENT.finditer(raw, max(raw.find(b"#"), 0)):
        field, value = match[1].lower(), match[2].decode("ascii", "replace").strip()
        if field == b"age":
            age = _age(value)
        elif field == b"sex":
            sex = _SEXES.get(value.lower(), "unknown")
        else:
            for part in (p.strip() for p in value.split(",")):
                if part.isascii() and part.isdigit():
                    codes[part] = None
                elif part.lower() not in _NO_CODE:
                    unreadable.append(part[:40])
    return Comments(age, sex, tuple(codes), tuple(unreadable))


def _age(text: str) -> float:
    try:
        age = float(text)
    except ValueError:
        return math.nan
    if age == AGE_ABOVE_89:
        return 90.0
    return age if 0 <= age <= _OLDEST else math.nan


def _entries(folder: Path, *, folders: bool) -> list[str]:
    """Names of the plain folders or plain files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if (e.is_dir if folders else e.is_file)(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DatasetError(f"{folder} cannot be listed ({type(error).__name__}); check its permissions and its disk") from error


def _listed(path: Path) -> set[str]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LIST_BYTES)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({type(error).__name__}); check its permissions and its disk") from error
    names = {line for line in raw.decode("ascii", "replace").split() if line}
    if wrong := sorted(n for n in names if not _NAME.fullmatch(n)):
        raise DatasetError(f"{path} names {wrong[0][:60]!r}, which is no recording; download it again")
    return names


def write_checksums(folder: Path) -> None:
    """Write the list of checksums that a release has, for imitations."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}" for p in paths]
    (folder / CHECKSUMS).write_text("\n".join(lines) + "\n")
