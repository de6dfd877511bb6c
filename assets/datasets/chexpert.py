"""CheXpert: 224,316 chest radiographs of 65,240 patients of Stanford Hospital, with 14 findings (Irvin et al. 2019).

Layout of the original download (full size or "small"), of which any part of the pictures may be there:

    train.csv, valid.csv                           one row a picture: path, sex, age, view, findings
    train/patient00001/study1/view1_frontal.jpg
    valid/patient64541/study1/view1_frontal.jpg

Labels of `train.csv` were read from reports by machine; those of `valid.csv` (234 pictures) are radiologists'. Folds are by
hash of the patient, as everywhere; the published part is the column `official_split`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.chexpert_labels import FINDINGS, finding_table, finding_task
from assets.dataset import Dataset, DatasetError, Download, Source, Task
from assets.record import RecordError
from assets.splits import FOLDS, fold_of, folds_of, patient
from assets.tables import read_table, some, write_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PARTS = ("train", "valid")

_TABLE_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
_PATH = r"(?:CheXpert-v1\.0[A-Za-z0-9 ._-]*/)?((train|valid)/(patient[0-9]{1,8})/(study[0-9]{1,4})/(view[0-9]{1,4}_[a-z]{1,16})\.jpg)"
"""The first folder is the download's own name and not below the dataset's folder."""

_REMEDY = "set the dataset's folder to the one that holds train.csv, valid.csv and the folders train and valid"


class CheXpert(Dataset):
    """CheXpert v1.0 as downloaded."""

    name: ClassVar[str] = "chexpert"
    source: ClassVar[Source] = Source(
        title="CheXpert",
        version="1.0",
        homepage="https://stanfordmlgroup.github.io/competitions/chexpert/",
        licence="Stanford University Dataset Research Use Agreement",
        terms="Register with Stanford AIMI and agree to its research use agreement; it may not be shared.",
        citation="Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison, AAAI (2019)",
        download=Download(
            checksums="",
            n_bytes=439_000_000_000,
            credentials="manual",
            directions=(
                "Register at Stanford AIMI (https://stanfordaimi.azurewebsites.net), agree to the terms and download CheXpert-v1.0 or its "
                "small version (11 GB) with the link sent to you. Put train.csv, valid.csv and the folders train and valid into one folder."
            ),
        ),
    )
    access: ClassVar[Access] = Access.CREDENTIALED
    has_images: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("chexpert",)

    def files(self) -> list[Path]:
        """Both tables, and the pictures that they name and that are there.

        Raises:
            DatasetError: a table is missing or cannot be read.
        """
        names = [name for name, there in zip(self._pictures["path"], self._there(), strict=True) if there]
        return sorted([*(Path(f"{part}.csv") for part in PARTS), *map(Path, names)])

    def records(self) -> pd.DataFrame:
        """One row a picture. Own columns: study_id, view (AP, PA, LATERAL, ...; "" where unknown) and official_split (train, valid).

        Raises:
            DatasetError: a table is missing, lacks a column, or holds a path or an age that cannot be read.
        """
        import pandas as pd

        table = self._pictures
        patients = "chexpert:" + table["patient"]
        return pd.DataFrame(
            {
                "record_id": table["record_id"],
                "patient_id": patients,
                "fold": folds_of(patients.tolist()),
                "age": table["age"],
                "sex": table["Sex"].str.lower().where(table["Sex"].isin(["Female", "Male"]), "unknown"),
                "site": "",
                "device": "",
                "acquired_at": "",
                "study_id": table["patient"] + "_" + table["study"],
                "view": table["AP/PA"].where(table["AP/PA"] != "", table["Frontal/Lateral"].replace("Frontal", "").str.upper()),
                "official_split": table["part"],
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which pictures are there."""
        there = dict(zip(self._pictures["record_id"], self._there(), strict=True))
        return [there[record_id] for record_id in record_ids]

    def image(self, record_id: str) -> NDArray[np.uint8]:
        """Read a picture as 8-bit grey, shape (height, width).

        Raises:
            RecordError: as `assets.images.read_grey`.
        """
        from assets.images import read_grey

        try:
            row = self._rows.get_loc(record_id)
        except KeyError as error:
            raise RecordError("absent", self.folder / "train.csv", f"names no picture {record_id!r}") from error
        return read_grey(self.folder / self._pictures["path"].iloc[row])

    def task(self, name: str) -> Task:
        """The 14 findings of CheXpert's labeller."""
        return finding_task(name) if name in self.task_names else super().task(name)

    def labels(self, task: str) -> pd.DataFrame:
        """Findings that are affirmed; uncertain and unmentioned ones count as absent.

        Raises:
            DatasetError: a table cannot be read or holds an unknown state.
        """
        if task not in self.task_names:
            return super().labels(task)
        return finding_table(self._pictures["record_id"], self._pictures[list(FINDINGS)], self.folder)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write 53 invented pictures of 30 patients in the original layout; one is missing, one is cut short."""
        _write_fixture(folder, seed)

    @cached_property
    def _pictures(self) -> pd.DataFrame:
        """Rows of both tables with record_id, path, part, patient, study and age."""
        import pandas as pd

        parts = []
        for part in PARTS:
            path = self.folder / f"{part}.csv"
            table = read_table(path, _TABLE_COLUMNS, _REMEDY)
            pieces = table["Path"].str.extract(rf"^{_PATH}$")
            if (bad := pieces[0].isna() | (pieces[1] != part)).any():
                raise DatasetError(
                    f"{path}: column Path holds {some(table['Path'][bad].tolist())}, where {part}/patientNNNNN/studyN/viewN_*.jpg is expected; "
                    "restore the original table"
                )
            ages = pd.to_numeric(table["Age"], errors="coerce")
            if (bad := ages.isna() & (table["Age"] != "")).any():
                raise DatasetError(
                    f"{path}: column Age holds {some(table['Age'][bad].tolist())}, which is no number; restore the original table"
                )
            pieces.columns = pd.Index(["path", "part", "patient", "study", "view"])
            ids = pieces["patient"] + "_" + pieces["study"] + "_" + pieces["view"]
            parts.append(pd.concat([table, pieces, ages.astype(float).rename("age"), ids.rename("record_id")], axis=1))
        pictures = pd.concat(parts, ignore_index=True)
        if (repeated := pictures["record_id"].duplicated()).any():
            raise DatasetError(
                f"{self.folder}: {some(pictures['record_id'][repeated].tolist())} stand in the tables more than once; restore the originals"
            )
        return pictures

    @cached_property
    def _rows(self) -> pd.Index[Any]:
        import pandas as pd

        rows: pd.Index[Any] = pd.Index(self._pictures["record_id"])
        return rows

    def _there(self) -> list[bool]:
        return [(self.folder / name).is_file() for name in self._pictures["path"]]


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    from assets.images import write_grey
    from assets.simulated_images import simulate_chest

    rng = np.random.default_rng(seed)
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    for i, number in enumerate(_patients(first=1, per_fold=3)):
        part = "valid" if i % 10 == 9 else "train"
        findings = _PROFILES[i % len(_PROFILES)]
        views = ("frontal", "lateral") if i % 4 != 2 else ("frontal",)
        for k, view in enumerate(views, start=1):
            name = f"{part}/patient{number:05d}/study{1 + i % 2}/view{k}_{view}.jpg"
            affirmed = [f for f, state in findings.items() if state == "1.0"]
            image = simulate_chest(affirmed, rng, 64 - 4 * (i % 3), 56, lateral=view == "lateral")
            states = {f: findings.get(f, "0.0") for f in FINDINGS} if part == "valid" else findings
            if i != 10:  # in the table, but not there
                write_grey(folder / name, image)
            rows[part].append(
                {
                    "Path": f"CheXpert-v1.0-small/{name}",
                    "Sex": "Unknown" if i == 4 else ("Female", "Male")[i % 2],
                    "Age": 18 + (7 * i) % 73,
                    "Frontal/Lateral": view.capitalize(),
                    "AP/PA": ("AP", "PA", "AP", "LL")[i % 4] if view == "frontal" else "",
                }
                | states
            )
    cut = folder / rows["train"][-1]["Path"].partition("/")[2]
    cut.write_bytes(cut.read_bytes()[:700])
    columns = (*_TABLE_COLUMNS[:5], "No Finding", *sorted(set(FINDINGS) - {"No Finding", "Support Devices"}), "Support Devices")
    for part in PARTS:
        write_table(folder / f"{part}.csv", columns, rows[part])


def _patients(first: int, per_fold: int) -> list[int]:
    """The lowest patient numbers of which every fold has `per_fold`."""
    found: dict[int, list[int]] = {fold: [] for fold in range(1, FOLDS + 1)}
    number = first
    while any(len(numbers) < per_fold for numbers in found.values()):
        numbers = found[fold_of(patient("chexpert", f"patient{number:05d}"))]
        if len(numbers) < per_fold:
            numbers.append(number)
        number += 1
    return sorted(n for numbers in found.values() for n in numbers)


_PROFILES: tuple[dict[str, str], ...] = (
    {"No Finding": "1.0", "Pneumothorax": "0.0"},
    {"Cardiomegaly": "1.0", "Edema": "-1.0", "Support Devices": "1.0"},
    {"Pleural Effusion": "1.0", "Atelectasis": "1.0"},
    {"Lung Opacity": "1.0", "Pneumonia": "-1.0", "Consolidation": "0.0"},
    {"Edema": "1.0", "Enlarged Cardiomediastinum": "1.0"},
    {},
    {"Pneumothorax": "1.0", "Fracture": "1.0"},
    {"Lung Lesion": "1.0", "Pleural Other": "1.0", "Pneumonia": "1.0", "Lung Opacity": "1.0", "Consolidation": "1.0"},
)
"""States of the invented patients' findings; the sixth report mentions none."""
