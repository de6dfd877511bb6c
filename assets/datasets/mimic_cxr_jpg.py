"""MIMIC-CXR-JPG: 377,110 chest radiographs of 227,835 studies of 65,379 patients, with 14 findings (Johnson et al. 2019).

Layout of the original download, of which any part of the pictures may be there:

    mimic-cxr-2.0.0-metadata.csv.gz     one row a picture: patient, study, view, size, date and time
    mimic-cxr-2.0.0-split.csv.gz        the publisher's train, validate and test
    mimic-cxr-2.0.0-chexpert.csv.gz     one row a study: findings that CheXpert's labeller read from its report
    files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg
    files/p10/p10000032/s50414267.txt   reports, from `mimic-cxr-reports.zip` of MIMIC-CXR, unpacked here or into
                                        a folder `mimic-cxr-reports` beside `files`

Versions 2.0.0 and 2.1.0 hold the same pictures and tables. Folds are by hash of the patient, so that nobody is in two parts of
any MIMIC dataset; the published part is the column `official_split`. Dates are moved by one constant a patient.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.chexpert_labels import FINDINGS, finding_table, finding_task
from assets.dataset import Dataset, DatasetError, Download, Source, Task
from assets.mimic import NAMESPACE, cohort
from assets.record import RecordError
from assets.splits import folds_of
from assets.tables import read_table, some, write_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
SPLIT = "mimic-cxr-2.0.0-split.csv.gz"
CHEXPERT = "mimic-cxr-2.0.0-chexpert.csv.gz"
REPORT_FOLDERS = ("files", "mimic-cxr-reports/files")

_METADATA_COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime")
_PATTERNS = {
    "dicom_id": r"[0-9A-Za-z-]{1,64}",
    "subject_id": r"[0-9]{2,12}",
    "study_id": r"[0-9]{1,12}",
    "Rows": r"[0-9]{1,6}",
    "Columns": r"[0-9]{1,6}",
    "StudyDate": r"[0-9]{8}",
    "StudyTime": r"[0-9]{1,6}(?:\.[0-9]{1,20})?",
}
_REPORT_BYTES = 1 << 20
_REMEDY = "set the dataset's folder to the one that holds it, or download it from https://physionet.org/content/mimic-cxr-jpg/2.1.0/"


class MimicCxrJpg(Dataset):
    """MIMIC-CXR-JPG 2.1.0 (or 2.0.0) as downloaded."""

    name: ClassVar[str] = "mimic_cxr_jpg"
    source: ClassVar[Source] = Source(
        title="MIMIC-CXR-JPG",
        version="2.1.0",
        homepage="https://physionet.org/content/mimic-cxr-jpg/2.1.0/",
        licence="PhysioNet Credentialed Health Data License 1.5.0",
        terms="Credentialed access: a PhysioNet account with the required training and the signed data use agreement.",
        citation="Johnson et al., MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs, arXiv:1901.07042 (2019), doi:10.13026/jsn5-t979",
        download=Download(
            https="https://physionet.org/files/mimic-cxr-jpg/2.1.0/",
            n_bytes=558_000_000_000,
            credentials="physionet",
            directions=(
                "Become a credentialed user at https://physionet.org/settings/credentialing/ and sign the data use agreement of MIMIC-CXR-JPG. "
                "For reports, also that of MIMIC-CXR: unpack its mimic-cxr-reports.zip into the same folder."
            ),
        ),
    )
    access: ClassVar[Access] = Access.CREDENTIALED
    has_images: ClassVar[bool] = True
    has_reports: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("chexpert",)

    def files(self) -> list[Path]:
        """Tables, and those pictures and reports of the listed studies that are there.

        Raises:
            DatasetError: the metadata table is missing or cannot be read.
        """
        paths = self._paths
        found = [name for name in (METADATA, SPLIT, CHEXPERT) if (self.folder / name).is_file()]
        found += [name for name, there in zip(paths, self._there(), strict=True) if there]
        found += self._report_paths().values()
        return sorted(map(Path, found))

    def records(self) -> pd.DataFrame:
        """One row a picture. Own columns: study_id, view (AP, PA, LATERAL, ...; "" where unknown), rows and cols (pixels) and
        official_split (train, validate, test; "" without the table of it). Age and sex are in MIMIC-IV only.

        Raises:
            DatasetError: a table is missing, lacks a column, or holds values that cannot be read.
        """
        import pandas as pd

        table = self._pictures
        patients = f"{NAMESPACE}:" + table["subject_id"]
        return pd.DataFrame(
            {
                "record_id": table["dicom_id"],
                "patient_id": patients,
                "fold": folds_of(patients.tolist()),
                "age": float("nan"),
                "sex": "unknown",
                "site": "",
                "device": "",
                "acquired_at": self._moments(),
                "study_id": table["study_id"],
                "view": table["ViewPosition"],
                "rows": table["Rows"].astype("int64"),
                "cols": table["Columns"].astype("int64"),
                "official_split": self._official_split(),
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which pictures are there; patients whose folder is missing are not looked for one by one."""
        there = dict(zip(self._pictures["dicom_id"], self._there(), strict=True))
        return [there[record_id] for record_id in record_ids]

    def image(self, record_id: str) -> NDArray[np.uint8]:
        """Read a picture as 8-bit grey, shape (height, width).

        Raises:
            RecordError: as `assets.images.read_grey`.
        """
        from assets.images import read_grey

        row = int(self._row_of.get_indexer([record_id])[0])  # type: ignore[arg-type]  # a list is an index to pandas
        if row < 0:
            raise RecordError("absent", self.folder / METADATA, f"names no picture {record_id!r}")
        return read_grey(self.folder / self._paths[row])

    def task(self, name: str) -> Task:
        """The 14 findings of CheXpert's labeller."""
        return finding_task(name) if name in self.task_names else super().task(name)

    def labels(self, task: str) -> pd.DataFrame:
        """Findings of a picture's study that are affirmed; uncertain and unmentioned ones count as absent. Pictures of the few studies that the labeller could not read are left out.

        Raises:
            DatasetError: the table of findings is missing, names a study twice or holds an unknown state.
        """
        if task not in self.task_names:
            return super().labels(task)
        path = self.folder / CHEXPERT
        studies = read_table(path, ("study_id", *FINDINGS), _REMEDY).set_index("study_id")
        if (repeated := studies.index.duplicated()).any():
            raise DatasetError(f"{path}: study_id {some(studies.index[repeated].tolist())} stands in more than one row; remove the copies")
        pictures = self._pictures[self._pictures["study_id"].isin(studies.index)]
        return finding_table(pictures["dicom_id"], studies.loc[pictures["study_id"]], path)

    def reports(self) -> pd.DataFrame:
        """The whole report of each picture's study as it is in its file, "" where there is none; all by humans.

        Raises:
            DatasetError: no report at all is there, or one cannot be read.
        """
        import pandas as pd

        paths = self._report_paths()
        if not paths:
            raise DatasetError(
                f"{self.folder} holds no reports (files/p10/p10000032/s50414267.txt); they are part of MIMIC-CXR: download "
                "mimic-cxr-reports.zip from https://physionet.org/content/mimic-cxr/2.1.0/ and unpack it there"
            )
        texts = {study: self._read_report(self.folder / path) for study, path in paths.items()}
        return pd.DataFrame(
            {
                "record_id": self._pictures["dicom_id"],
                "text": [texts.get(study, "") for study in self._pictures["study_id"]],
                "source": "human",
            }
        )

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write the X-rays of the simulated MIMIC cohort in the original layout; one picture is missing, one is cut short."""
        _write_fixture(folder, seed)

    @cached_property
    def _pictures(self) -> pd.DataFrame:
        path = self.folder / METADATA
        table = read_table(path, _METADATA_COLUMNS, _REMEDY)
        for column, pattern in _PATTERNS.items():
            if (bad := ~table[column].str.fullmatch(pattern)).any():
                raise DatasetError(
                    f"{path}: column {column} holds {some(table[column][bad].tolist())}, which cannot be read; restore the original table"
                )
        if (repeated := table["dicom_id"].duplicated()).any():
            raise DatasetError(
                f"{path}: dicom_id {some(table['dicom_id'][repeated].tolist())} stands in more than one row; remove the copies"
            )
        return table

    @cached_property
    def _paths(self) -> list[str]:
        """Where pictures are, relative to the folder, in the table's order."""
        table = self._pictures
        subject = table["subject_id"]
        paths: list[str] = (
            "files/p" + subject.str[:2] + "/p" + subject + "/s" + table["study_id"] + "/" + table["dicom_id"] + ".jpg"
        ).tolist()
        return paths

    @cached_property
    def _row_of(self) -> pd.Index[Any]:
        import pandas as pd

        rows: pd.Index[Any] = pd.Index(self._pictures["dicom_id"])
        return rows

    def _there(self) -> list[bool]:
        patients = self._patient_folders("files")
        names = self._pictures["subject_id"]
        return [subject in patients and (self.folder / path).is_file() for subject, path in zip(names, self._paths, strict=True)]

    def _patient_folders(self, root: str) -> set[str]:
        """Patients that have a folder below `root`."""
        found: set[str] = set()
        for group in {subject[:2] for subject in self._pictures["subject_id"]}:
            try:
                with os.scandir(self.folder / root / f"p{group}") as entries:
                    found.update(entry.name[1:] for entry in entries)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return found

    def _report_paths(self) -> dict[str, str]:
        """Reports that are there, relative to the folder, by study."""
        studies = self._pictures.drop_duplicates("study_id")
        pairs = list(zip(studies["subject_id"], studies["study_id"], strict=True))
        found: dict[str, str] = {}
        for root in REPORT_FOLDERS:
            patients = self._patient_folders(root)
            for subject, study in pairs:
                if subject in patients and study not in found:
                    path = f"{root}/p{subject[:2]}/p{subject}/s{study}.txt"
                    if (self.folder / path).is_file():
                        found[study] = path
        return found

    def _read_report(self, path: Path) -> str:
        try:
            with path.open("rb") as stream:
                data = stream.read(_REPORT_BYTES + 1)
        except OSError as error:
            raise DatasetError(f"{path} cannot be read ({type(error).__name__}); check its permissions and its disk") from error
        if len(data) > _REPORT_BYTES:
            raise DatasetError(f"{path} is longer than {_REPORT_BYTES} bytes and cannot be a report; download it again")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def _moments(self) -> pd.Series[str]:
        """StudyDate and StudyTime as ISO 8601 to the millisecond. StudyTime is a number hhmmss.fff without leading zeros."""
        import pandas as pd

        table = self._pictures
        date, clock = table["StudyDate"], table["StudyTime"].str.partition(".")
        time, thousandths = clock[0].str.zfill(6), clock[2].str.ljust(3, "0").str[:3]
        if (bad := pd.to_datetime(date + time, format="%Y%m%d%H%M%S", errors="coerce").isna()).any():
            raise DatasetError(
                f"{self.folder / METADATA}: columns StudyDate and StudyTime hold {some((date + ' ' + table['StudyTime'])[bad].tolist())}, "
                "which is no time; restore the original table"
            )
        day = date.str[:4] + "-" + date.str[4:6] + "-" + date.str[6:]
        return day + "T" + time.str[:2] + ":" + time.str[2:4] + ":" + time.str[4:] + "." + thousandths

    def _official_split(self) -> pd.Series[str]:
        path = self.folder / SPLIT
        if not path.exists():
            return self._pictures["dicom_id"].map(lambda _: "")
        table = read_table(path, ("dicom_id", "split"), _REMEDY)
        return self._pictures["dicom_id"].map(dict(zip(table["dicom_id"], table["split"], strict=True))).fillna("")


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    from assets.images import write_grey
    from assets.simulated_images import simulate_chest

    rng = np.random.default_rng(seed)
    pictures, splits, studies = [], [], []
    written: list[Path] = []
    for i, study in enumerate(cohort(seed).xrays):
        patient_folder = folder / "files" / f"p{str(study.subject_id)[:2]}" / f"p{study.subject_id}"
        for image in study.images:
            shown = [finding for finding, state in study.chexpert.items() if state == 1]
            lateral = image.view == "LATERAL"
            pixels = simulate_chest(shown, rng, 64, 52 if lateral else 60, lateral=lateral)
            written.append(patient_folder / f"s{study.study_id}" / f"{image.dicom_id}.jpg")
            write_grey(written[-1], pixels)
            ids = {"dicom_id": image.dicom_id, "subject_id": study.subject_id, "study_id": study.study_id}
            size = {"Rows": pixels.shape[0], "Columns": pixels.shape[1]}
            taken = {"StudyDate": study.study_date, "StudyTime": study.study_time}
            pictures.append(ids | {"ViewPosition": "" if i == 9 else image.view} | size | taken)
            splits.append(ids | {"split": study.split})
        if i != 4:  # without a report
            (patient_folder / f"s{study.study_id}.txt").write_text(study.report)
        if i != 3:  # the labeller could not read it
            states = {} if i == 6 else {finding: f"{state:.1f}" for finding, state in study.chexpert.items()}
            studies.append({"subject_id": study.subject_id, "study_id": study.study_id} | states)
    written[7].unlink()
    written[20].write_bytes(written[20].read_bytes()[:500])
    write_table(folder / METADATA, _METADATA_COLUMNS, pictures)
    write_table(folder / SPLIT, ("dicom_id", "study_id", "subject_id", "split"), splits)
    write_table(folder / CHEXPERT, ("subject_id", "study_id", *FINDINGS), studies)
