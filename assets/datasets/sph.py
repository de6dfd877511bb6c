"""Shaoxing and Ningbo: 45,152 ten-second 12-lead ECGs, one a patient, with SNOMED CT codes (Zheng et al. 2020, 2022).

Layout of the original download, of which any part may be there:

    ConditionNames_SNOMED-CT.csv            acronyms of 55 of some ninety codes; not read, see `assets.sph_labels`
    WFDBRecords/01/010/RECORDS              names of recordings
    WFDBRecords/01/010/JS00001.hea, .mat    WFDB; age, sex and SNOMED CT codes in comments

JS00001 to JS10646 are from Shaoxing, the others from Ningbo; the Challenge of 2021 has all of them as chapman_shaoxing and ningbo,
with some diagnoses added. The headers of JS01052 and JS23074 lost a line end in this release and are quarantined. Folds are
MERL's published split where it has a recording (23,026 of them), else by hash (`assets.identities`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from assets.access import Access
from assets.challenge_headers import HeaderDataset, Shelf, shelves, write_checksums
from assets.dataset import DatasetError, Download, Source, Task
from assets.identities import Identity, of_record
from assets.rhythm_groups import RHYTHM4, left_out, rhythm_table
from assets.sph_labels import CONDITIONS, CSN_NAMES, csn_classes
from models.types import LEADS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

TOP = "WFDBRecords"
LAST_OF_SHAOXING = "JS10646"

CSN_TASKS = {
    "csn_exact": "MERL's 38 classes by acronym",
    "csn_published": "MERL's 38 classes as published, by part of an acronym",
}


class SPH(HeaderDataset):
    """The database as downloaded."""

    name: ClassVar[str] = "sph"
    source: ClassVar[Source] = Source(
        title="Large scale 12-lead electrocardiogram database for arrhythmia study",
        version="1.0.0",
        homepage="https://physionet.org/content/ecg-arrhythmia/1.0.0/",
        licence="CC BY 4.0",
        terms="Free to download from PhysioNet without an account.",
        citation="Zheng, Guo, Chu, A large scale 12-lead electrocardiogram database for arrhythmia study (version 1.0.0), PhysioNet (2022), doi:10.13026/wgex-er52; Zheng et al., Optimal Multi-Stage Arrhythmia Classification Approach, Sci Rep 10:2898 (2020), doi:10.1038/s41598-020-59821-7",
        download=Download(
            s3="s3://physionet-open/ecg-arrhythmia/1.0.0/",
            https="https://physionet.org/files/ecg-arrhythmia/1.0.0/",
            n_bytes=5_500_000_000,
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = 500.0
    task_names: ClassVar[tuple[str, ...]] = (RHYTHM4.name, *CSN_TASKS)

    def task(self, name: str) -> Task:
        """Four rhythms, one a recording; or MERL's classes, exactly or as its files have them."""
        if name == RHYTHM4.name:
            return RHYTHM4
        if name not in CSN_TASKS:
            return super().task(name)
        return Task(name, CSN_TASKS[name], tuple(CSN_NAMES), CSN_NAMES)

    def labels(self, task: str) -> pd.DataFrame:
        """Recordings to which the rule of the task (`assets.rhythm_groups`, `assets.sph_labels`) gives no class are left out.

        Raises:
            DatasetError: a header's diagnoses are not SNOMED CT codes; as `records` too.
        """
        import numpy as np
        import pandas as pd

        classes = self.task(task).classes
        if task == RHYTHM4.name:
            return rhythm_table(self._codes())
        published = task == "csn_published"
        found = {r: some for r, codes in self._codes().items() if (some := csn_classes(codes, published=published))}
        values = np.array([[c in some for c in classes] for some in found.values()], np.int8).reshape(len(found), len(classes))
        table = pd.DataFrame(values, columns=list(classes))
        table.insert(0, "record_id", list(found))
        return table

    def left_out(self, task: str) -> dict[str, int]:
        """Of the four groups of rhythms: recordings with none of them, or several."""
        return left_out(self._codes()) if task == RHYTHM4.name else super().left_out(task)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write 52 invented recordings in the original layout; one header is damaged as in the original, one recording missing."""
        _write_fixture(folder, seed)

    def _find_shelves(self) -> list[Shelf]:
        found = list(shelves(self.folder, TOP, 2))
        if not found:
            raise DatasetError(
                f"{self.folder / TOP} has no folders of recordings such as {TOP}/01/010; "
                f"set the dataset's folder to the one that holds {TOP}, or download it"
            )
        return found

    def _who(self, record: str, shelf: Shelf) -> tuple[str, Identity]:
        return "chapman_shaoxing" if record <= LAST_OF_SHAOXING else "ningbo", of_record("sph", record)


_CASES: tuple[tuple[str, str], ...] = (
    ("NORM SR", "SR"),
    ("SBRAD", "SB"),
    ("AFIB", "AFIB TWC"),
    ("STACH", "ST"),
    ("SARRH", "SA SB"),
    ("AFLT", "AF STDD STTC"),
    ("CRBBB SR", "SR RBBB"),
    ("STACH", "SVT"),
    ("PVC", "SR VPB"),
    ("PAC", "APB ST"),
    ("1AVB", "SB 1AVB 3AVB"),
    ("LVH", "LVH LVQRSAL SB"),
)
"""What is drawn, and the acronyms that say so."""

_FIXTURE = {
    "01/010": "JS00001 JS00002 JS00004 JS00005 JS00007 JS00008 JS00012 JS00013 JS00016 JS00018 JS00023 JS00041 JS00042 JS00044 JS00050 JS00052 "
    "JS00060 JS00061 JS00074 JS00085 JS00088 JS00093",
    "01/019": "JS01001 JS01002 JS01052",
    "11/113": "JS10655 JS10656 JS10657 JS10668 JS10670 JS10671 JS10672 JS10673 JS10674 JS10675 JS10704 JS10717 JS10722 JS10734 JS10739 JS10756 "
    "JS10762 JS10810",
    "20/206": "JS20001 JS20007 JS20008 JS20010 JS20011 JS20018 JS20021 JS20022 JS20023",
}
"""Names as published, so that patients and folds are real while what they show is not."""

_COPIES = {"JS20001": "JS00002"}
_DAMAGED, _MISSING, _UNLABELLED, _FOREIGN = "JS01052", "JS01001", "JS00042", "JS20010"


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    from assets.readers.wfdb_write import write_challenge_record
    from assets.signals.simulate import simulate

    rng = np.random.default_rng(seed)
    codes_of = {acronym: code for code, (acronym, _) in CONDITIONS.items()}
    signals: dict[str, NDArray[np.float32]] = {}
    for place, names in _FIXTURE.items():
        for name in names.split():
            findings, acronyms = _CASES[int(name[2:]) % len(_CASES)]
            codes = [] if name == _UNLABELLED else [codes_of[a] for a in acronyms.split()]
            codes += ["55827005"] * (name == _FOREIGN)  # left ventricular high voltage has no acronym
            fields = {"Age": rng.integers(4, 90), "Sex": ("Male", "Female")[int(rng.integers(2))], "Dx": ",".join(codes)}
            comments = [f"#{field}: {value}" for field, value in (fields | dict.fromkeys(("Rx", "Hx", "Sx"), "Unknown")).items()]
            copied = signals.get(_COPIES.get(name, ""))
            signals[name] = simulate(findings.split(), rng, 500.0) if copied is None else copied
            if name != _MISSING:
                write_challenge_record(folder / TOP / place, name, signals[name], LEADS, 500, comments)
        (folder / TOP / place / "RECORDS").write_text(names.replace(" ", "\n") + "\n")
    damaged = folder / TOP / "01/019" / f"{_DAMAGED}.hea"
    damaged.write_text(damaged.read_text().replace(f"\n{_DAMAGED}.mat 16x1+24 1000.0(0)", "00", 1))
    rows = [f"{acronym},{name},{code}" for code, (acronym, name) in CONDITIONS.items() if "," not in name]
    (folder / "ConditionNames_SNOMED-CT.csv").write_text(
        "\ufeffAcronym Name,Full Name,Snomed_CT\n" + "\n".join(rows) + "\n", encoding="utf-8"
    )
    write_checksums(folder)
