"""What the datasets of the PhysioNet/CinC Challenges 2020 and 2021 share: layout, people, labels, and their imitation.

    training/<source>/g1/RECORDS     names of recordings
    training/<source>/g1/A0001.hea   WFDB header; age, sex and SNOMED CT codes in comments
    training/<source>/g1/A0001.mat   samples

All of 2020's recordings are in 2021 again, sample for sample, under the same names: never train on one and judge on the other
without looking at patients, which are the same here (`assets.identities`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.challenge_headers import HeaderDataset, Shelf, shelves, write_checksums
from assets.dataset import Dataset, DatasetError, Task
from assets.identities import Identity, challenge
from assets.rhythm_groups import RHYTHM4, left_out, rhythm_table
from assets.snomed import label_table, scored_classes
from models.types import LEADS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

TOP = "training"
TASK = "dx"


def scored_year(home: type[Dataset], task: str) -> int | None:
    """The Challenge that scored a task of a dataset; None for a task that none has scored."""
    return home.year if task == TASK and issubclass(home, ChallengeDataset) else None


class ChallengeDataset(HeaderDataset):
    """The training recordings of one Challenge: subclasses say which year and which sources, in order.

    The site of a recording is its source. Rates are 500 Hz, but 1000 Hz of ptb and 257 Hz of st_petersburg_incart.
    """

    year: ClassVar[int]
    sites: ClassVar[tuple[str, ...]]
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = 500.0
    task_names: ClassVar[tuple[str, ...]] = (TASK, RHYTHM4.name)

    def task(self, name: str) -> Task:
        """The classes that the Challenge scored, codes of one class merged; or four groups of rhythms."""
        if name == RHYTHM4.name:
            return RHYTHM4
        if name != TASK:
            return super().task(name)
        classes = scored_classes(self.year)
        title = f"diagnoses scored by the Challenge {self.year}"
        return Task(name, title, tuple(c.name for c in classes), {c.name: c.title for c in classes}, may_be_empty=True)

    def labels(self, task: str) -> pd.DataFrame:
        """Recordings whose codes are all unscored are labelled, with none of the classes; those without any code are left out.

        Of the four groups of rhythms every recording has exactly one; those without are left out, see `left_out`.

        Raises:
            DatasetError: a header's diagnoses are not SNOMED CT codes; as `records` too.
        """
        self.task(task)
        return rhythm_table(self._codes()) if task == RHYTHM4.name else label_table(self._codes(), scored_classes(self.year))

    def left_out(self, task: str) -> dict[str, int]:
        """Of the four groups of rhythms: recordings with none of them, or several."""
        return left_out(self._codes()) if task == RHYTHM4.name else super().left_out(task)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write some fifty invented recordings of all sources, in the original layout."""
        _write_fixture(folder, cls.year, cls.sites, seed)

    def _find_shelves(self) -> list[Shelf]:
        found = [shelf for source in self.sites for shelf in shelves(self.folder, f"{TOP}/{source}", 1)]
        if not found:
            raise DatasetError(
                f"{self.folder / TOP} has no folders of recordings such as {TOP}/{self.sites[0]}/g1; "
                f"set the dataset's folder to the one that holds {TOP}, or download it"
            )
        return found

    def _who(self, record: str, shelf: Shelf) -> tuple[str, Identity]:
        source = shelf.path.split("/")[1]
        return source, challenge(source, record)


_CASES: tuple[tuple[str, str], ...] = (
    ("NORM SR", "426783006"),
    ("AFIB", "164889003"),
    ("CRBBB SR", "713427006,426783006"),
    ("SBRAD", "426177001"),
    ("PVC", "427172004"),
    ("STACH", "427084000"),
    ("CLBBB", "164909002"),
    ("1AVB", "270492004"),
    ("AFLT", "164890007"),
    ("SARRH", "427393009"),
    ("CRBBB", "59118001"),
    ("CLBBB", "733534002,6374002"),
    ("LPR", "164947007"),
    ("IRBBB LAFB", "713426002,445118002,39732003"),
    ("LVOLT", "251146004"),
    ("LNGQT", "111975006"),
    ("PACE", "10370003"),
    ("PAC SR", "284470004,426783006,284470004"),
    ("PAC", "63593006"),
    ("PVC", "17338001"),
    ("QWAVE", "164917005,164865005"),
    ("RVH", "47665007,,89792004"),
    ("NDT", "164934002"),
    ("INVT", "59931005"),
    ("ABQRS", "698252002,365413008"),
    ("LVH", "164873001"),
    ("SBRAD", "426627000"),
)
"""What is drawn, and the codes that say so: every scored class of both years, one case without any, and lists as they occur."""

_INVENTED: dict[str, str] = {
    "ptb-xl": "HR00001 HR00002 HR00003 HR00005 HR00006 HR00007 HR00008 HR00009 HR00010 HR00017 HR00038 HR00040 HR00137 HR01001",
    "georgia": "E00001 E00003 E00004 E00005 E00006 E00007 E00008 E00009 E00010 E00011 E00012 E00013 E00022 E00024 E01001",
    "cpsc_2018": "A0001 A0002 A0003 A0004 A0005 A0006 A0007 A0015 A0017 A0025 A0031 A0043",
    "cpsc_2018_extra": "Q0002 Q0003 Q0005 Q0006 Q0008",
    "ptb": "S0001 S0002 S0004",
    "st_petersburg_incart": "I0016 I0017 I0020",
    "chapman_shaoxing": "JS00002 JS00004 JS00005",
    "ningbo": "JS20001 JS20002 JS20003 S23074",
}
"""Names as published, so that patients and folds are real while what they show is not."""

_MISSING = ("georgia", "g1", "E00999")
"""A recording that its list names and that is not there."""

_COPIES = {"JS20001": "JS00002", "E00009": "E00003"}
"""Recordings that are in the release twice, as some dozens are."""

_UNLABELLED, _SHORT, _WITHOUT_DATA = "A0002", "E00005", "E00007"
_AGES = {"HR00008": "300", "A0003": "-1", "E00003": "NaN", "E00004": "Unknown"}


def _write_fixture(folder: Path, year: int, sources: tuple[str, ...], seed: int) -> None:
    import numpy as np

    from assets.readers.wfdb_write import write_challenge_record
    from assets.signals.simulate import simulate

    rng = np.random.default_rng(seed)
    lists: dict[Path, list[str]] = {}
    signals: dict[str, NDArray[np.float32]] = {}
    names = [(source, name) for source in sources for name in _INVENTED[source].split()]
    for i, (source, name) in enumerate(names):
        findings, codes = _CASES[i % len(_CASES)]
        fs_hz, seconds = {"ptb": (1000, 12.0), "st_petersburg_incart": (257, 20.0)}.get(source, (500, 10.0))
        seconds = {_SHORT: 6.0, "A0001": 15.0}.get(name, seconds)
        shelf = folder / TOP / source / f"g{int(name.lstrip('AEHIJQRS')) // 1000 + 1}"
        copied = signals.get(_COPIES.get(name, ""))
        signals[name] = simulate(findings.split(), rng, fs_hz, seconds) if copied is None else copied
        comments = _invented_comments(rng, name, "" if name == _UNLABELLED else codes, "#" if i % 3 else "# ", short_sex=year == 2020)
        write_challenge_record(shelf, name, signals[name], LEADS, fs_hz, comments)
        lists.setdefault(shelf, []).append(name)
        if name == _WITHOUT_DATA:
            (shelf / f"{name}.mat").unlink()
    lists[folder / TOP / _MISSING[0] / _MISSING[1]].append(_MISSING[2])
    for shelf, listed in lists.items():
        (shelf / "RECORDS").write_text("\n".join(listed) + "\n")
    write_checksums(folder)


def _invented_comments(rng: Generator, name: str, codes: str, mark: str, *, short_sex: bool) -> list[str]:
    sex = ("Male", "Female")[int(rng.integers(2))]
    if name.startswith("I") and short_sex:  # so the release of 2020 writes INCART's
        sex = sex[0]
    fields = {"Age": _AGES.get(name, str(rng.integers(20, 89))), "Sex": sex, "Dx": codes, "Rx": "Unknown", "Hx": "Unknown", "Sx": "Unknown"}
    return [f"{mark}{field}: {value}" for field, value in fields.items()]
