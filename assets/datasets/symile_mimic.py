"""Symile-MIMIC: 11,214 hospital stays with an ECG, a chest X-ray and up to 50 lab results (Saporta et al. 2025).

Layout of the original download, of which any part of the arrays may be there:

    symile_mimic_data.csv           one row a stay of the whole cohort (11,622): times, person, findings, raw lab values
    train.csv, val.csv              stays of the parts, one row each
    test.csv, val_retrieval.csv     ten rows a stay: the stay itself (label 1) and nine others whose X-ray it is to be told from
    data_npy/train/ecg_train.npy    float32 (rows, 1, 5000, 12), rows as in train.csv; likewise val and test
    data_npy/train/cxr_train.npy    float32 (rows, 3, 320, 320)
    data_npy/train/hadm_id_train.npy

A record is a stay (record_id is its hadm_id), and only the stays of the three parts are records. Patients are those of MIMIC-IV,
MIMIC-IV-ECG and MIMIC-CXR, but parts are as published, for numbers to be comparable: patients of Symile's test part may be in
training folds of those datasets, whose folds are by hash. A model that was pretrained on one of them must not be judged here.

ECGs have lost their amplitude: each recording was stretched to [-1, 1] over all leads at once. Leads are in MIMIC's order, aVF before
aVL. Pictures had their shorter side scaled to 320 pixels and were cropped to a square (at random in train, at the centre else).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.chexpert_labels import FINDINGS, finding_table, finding_task
from assets.dataset import LAB_COLUMNS, Channel, Dataset, DatasetError, Download, Source, Split, Task
from assets.mimic import NAMESPACE
from assets.record import Record, RecordError
from assets.symile import COHORT, FILE_LEADS, IMAGENET_DEVIATION, IMAGENET_MEAN, LAB_ITEMS, write_symile_fixture
from assets.tables import read_table, some
from models.errors import ConfigurationError
from models.types import LEADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PARTS = {"train": 1, "val": 2, "test": 3}
"""Published parts and the folds that stand for them."""

RETRIEVAL = {"val": "val_retrieval.csv", "test": "test.csv"}

HIDDEN_AGE, SHOWN_AGE = 91.0, 90.0
"""Ages above 89 are all given as 91 in the patient's anchor year; we write 90, whatever the year."""

_COHORT_COLUMNS = (
    "subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type", "gender", "anchor_age", "age",
    "cxr_dicom_id", "cxr_study_id", "cxr_ViewPosition", "cxr_StudyDateTime", "ecg_study_id", "ecg_time", *FINDINGS, *LAB_ITEMS,
)  # fmt: skip
_REMEDY = "set the dataset's folder to the one that holds it, or download it from https://physionet.org/content/symile-mimic/1.0.0/"
_ARRAYS = ("ecg", "cxr", "hadm_id")
_ROUNDING = 1e-3


class SymileMimic(Dataset):
    """Symile-MIMIC 1.0.0 as downloaded."""

    name: ClassVar[str] = "symile_mimic"
    source: ClassVar[Source] = Source(
        title="Symile-MIMIC",
        version="1.0.0",
        homepage="https://physionet.org/content/symile-mimic/1.0.0/",
        licence="PhysioNet Credentialed Health Data License 1.5.0",
        terms="Become a credentialed user of PhysioNet, complete the required training and sign the data use agreement; it may not be shared.",
        citation="Saporta et al., Symile-MIMIC: a multimodal clinical dataset of chest X-rays, electrocardiograms, and blood labs from MIMIC-IV (version 1.0.0), PhysioNet (2025), doi:10.13026/3vvj-s428",
        download=Download(
            https="https://physionet.org/files/symile-mimic/1.0.0/",
            n_bytes=35_000_000_000,
            credentials="physionet",
            directions="The tables alone (symile_mimic_data.csv, train.csv, val.csv, val_retrieval.csv, test.csv) are enough for lab results and labels.",
        ),
    )
    access: ClassVar[Access] = Access.CREDENTIALED
    leads: ClassVar[tuple[str, ...]] = LEADS
    fs_hz: ClassVar[float] = 500.0
    has_images: ClassVar[bool] = True
    has_labs: ClassVar[bool] = True
    task_names: ClassVar[tuple[str, ...]] = ("chexpert",)
    split: ClassVar[Split] = Split(train=(1,), validation=(2,), test=(3,))
    version: ClassVar[str] = "2"

    def __init__(self, folder: Path, companions: Mapping[str, Path] | None = None) -> None:
        super().__init__(folder, companions)
        self._mapped: dict[Path, NDArray[Any]] = {}

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """Leads without a unit: 1 is the highest and -1 the lowest sample of the recording. The scale leaves room for filters to overshoot."""
        return tuple(Channel(lead, "ECG", "1", 2.0**-14) for lead in LEADS)

    def files(self) -> list[Path]:
        """Tables, and those arrays of the parts that are there; those of `val_retrieval`, which repeat val's, are not read.

        Raises:
            DatasetError: the table of the cohort is missing.
        """
        if not (self.folder / COHORT).is_file():
            raise DatasetError(f"{self.folder / COHORT} is missing; {_REMEDY}")
        names = [COHORT, "labs_means.json", *RETRIEVAL.values(), *(f"{part}.csv" for part in PARTS)]
        names += [f"data_npy/{part}/{array}_{part}.npy" for part in PARTS for array in _ARRAYS]
        return sorted({Path(name) for name in names if (self.folder / name).is_file()})

    def records(self) -> pd.DataFrame:
        """One row a stay of the three parts; acquired_at is the time of the ECG. Own columns: official_split (train, val, test),
        ecg_study_id, cxr_dicom_id, cxr_study_id, view, cxr_at (ISO 8601), candidates (published list for retrieval: ids of stays with
        blanks between them, the stay itself first; "" for the train part, and where the table of the lists is not there).

        Raises:
            DatasetError: a table is missing, lacks a column or a stay, or holds values that cannot be read.
        """
        import pandas as pd

        stays = self._stays
        age, anchor = self._numbers("age"), self._numbers("anchor_age")
        return pd.DataFrame(
            {
                "record_id": stays["hadm_id"],
                "patient_id": f"{NAMESPACE}:" + stays["subject_id"],
                "fold": stays["part"].map(PARTS),
                "age": age.mask(anchor >= HIDDEN_AGE, SHOWN_AGE),
                "sex": stays["gender"].map({"F": "female", "M": "male"}).fillna("unknown"),
                "site": "",
                "device": "",
                "acquired_at": self._times("ecg_time"),
                "official_split": stays["part"],
                "ecg_study_id": stays["ecg_study_id"].str.removesuffix(".0"),
                "cxr_dicom_id": stays["cxr_dicom_id"],
                "cxr_study_id": stays["cxr_study_id"].str.removesuffix(".0"),
                "view": stays["cxr_ViewPosition"],
                "cxr_at": self._times("cxr_StudyDateTime"),
                "candidates": stays["hadm_id"].map(self._lists()).fillna(""),
            }
        )

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which stays' ECGs are there."""
        return self._there("ecg", record_ids)

    def images_present(self, record_ids: list[str]) -> list[bool]:
        """Which stays' X-rays are there."""
        return self._there("cxr", record_ids)

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read the ECG of a stay: unit "1", leads in the file's order.

        Raises:
            RecordError: reasons absent, unreadable, bad_array, row_order, bad_samples.
        """
        import numpy as np
        import xxhash

        row_1TL, path = self._row("ecg", record_id, (1, None, len(FILE_LEADS)))
        stored_TL = np.ascontiguousarray(row_1TL[0], np.float32)
        if np.nanmax(np.abs(stored_TL), initial=0) > 1 + _ROUNDING:
            raise RecordError("bad_samples", path, f"the ECG of stay {record_id} leaves [-1, 1]; it is not as published, download it again")
        return Record(
            signal_LT=np.ascontiguousarray(stored_TL.T),
            leads=FILE_LEADS,
            fs_hz=self.fs_hz,
            units=("1",) * len(FILE_LEADS),
            source_checksum=xxhash.xxh3_128_hexdigest(stored_TL.tobytes()),
        )

    def image(self, record_id: str) -> NDArray[np.uint8]:
        """The X-ray of a stay as 8-bit grey, shape (320, 320): the published normalisation undone on the first of its equal channels.

        Raises:
            RecordError: reasons absent, unreadable, bad_array, row_order, bad_samples.
        """
        import numpy as np

        row_CHW, path = self._row("cxr", record_id, (3, None, None))
        grey = row_CHW[0].astype(np.float32) * IMAGENET_DEVIATION[0] + IMAGENET_MEAN[0]
        if not (grey.min() >= -_ROUNDING and grey.max() <= 1 + _ROUNDING):  # also where a value is no number
            raise RecordError("bad_samples", path, f"the picture of stay {record_id} is not normalised as published; download it again")
        image: NDArray[np.uint8] = np.rint(grey * 255).clip(0, 255).astype(np.uint8)
        return image

    def labs(self) -> Iterator[pd.DataFrame]:
        """Raw lab values of the records' stays, the first of each test within a day of admission. When it was taken and its unit
        are not published.

        Raises:
            DatasetError: a table cannot be read or holds what is no number.
        """
        import pandas as pd

        stays = self._stays
        values = pd.DataFrame({item: self._numbers(item) for item in LAB_ITEMS})
        values.insert(0, "encounter_id", stays["hadm_id"])
        values.insert(0, "patient_id", f"{NAMESPACE}:" + stays["subject_id"])
        table = values.melt(["patient_id", "encounter_id"], var_name="item_id", value_name="value", ignore_index=False)
        table = table.dropna(subset="value").sort_index(kind="stable").assign(charted_at="", unit="")
        yield table[list(LAB_COLUMNS)].reset_index(drop=True)

    def encounters(self) -> pd.DataFrame:
        """The records' stays; columns as in `Dataset.encounters`.

        Raises:
            DatasetError: a table cannot be read.
        """
        import pandas as pd

        stays = self._stays
        times = {"admitted_at": "admittime", "discharged_at": "dischtime", "died_at": "deathtime"}
        return pd.DataFrame(
            {"encounter_id": stays["hadm_id"], "patient_id": f"{NAMESPACE}:" + stays["subject_id"]}
            | {name: self._times(column) for name, column in times.items()}
            | {"kind": stays["admission_type"]}
        )

    def task(self, name: str) -> Task:
        """The 14 findings of CheXpert's labeller on the stay's X-ray."""
        return finding_task(name) if name in self.task_names else super().task(name)

    def labels(self, task: str) -> pd.DataFrame:
        """Findings that are affirmed; uncertain and unmentioned ones count as absent.

        Raises:
            DatasetError: a table cannot be read or holds an unknown state.
        """
        if task not in self.task_names:
            return super().labels(task)
        return finding_table(self._stays["hadm_id"], self._stays[list(FINDINGS)], self.folder / COHORT)

    def retrieval(self, part: str) -> pd.DataFrame:
        """The published retrieval task of "val" or "test": which stays' X-rays each query is to be told from.

        Returns:
            query_id, candidate_id (record ids), is_positive (int8): ten rows a query, one of them positive.

        Raises:
            ConfigurationError: another part.
            DatasetError: the table is missing, or a query has not exactly one positive, which must be itself.
        """
        if part not in RETRIEVAL:
            raise ConfigurationError(f"{self.name} publishes no retrieval task for {part!r}; choose val or test")
        table = self._read_retrieval(part)[["label_hadm_id", "hadm_id", "label"]]
        table.columns = table.columns.map({"label_hadm_id": "query_id", "hadm_id": "candidate_id", "label": "is_positive"})
        return table.astype({"is_positive": "int8"})

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write the stays of the simulated MIMIC cohort that fulfil the published rules, in the original layout."""
        write_symile_fixture(folder, seed)

    @cached_property
    def _stays(self) -> pd.DataFrame:
        """Rows of the cohort's table that are in a part, in the order of parts, with the part and the row in its arrays."""
        import pandas as pd

        parts = []
        for part in PARTS:
            if part == "test":
                table = self._read_retrieval(part)
                table = table[table["label"] == "1"]
            else:
                table = read_table(self.folder / f"{part}.csv", ("hadm_id", "subject_id"), _REMEDY)
            parts.append(table[["hadm_id", "subject_id"]].assign(part=part, row=table.index))
        members = pd.concat(parts, ignore_index=True)
        if (repeated := members["hadm_id"].duplicated()).any():
            raise DatasetError(
                f"{self.folder}: hadm_id {some(members['hadm_id'][repeated].tolist())} is in the parts more than once; restore the tables"
            )
        path = self.folder / COHORT
        cohort = read_table(path, _COHORT_COLUMNS, _REMEDY)
        for column in ("hadm_id", "subject_id"):
            if (bad := ~cohort[column].str.fullmatch("[0-9]{1,12}")).any():
                raise DatasetError(
                    f"{path}: column {column} holds {some(cohort[column][bad].tolist())}, which is no id; restore the original table"
                )
        if (repeated := cohort["hadm_id"].duplicated()).any():
            raise DatasetError(
                f"{path}: hadm_id {some(cohort['hadm_id'][repeated].tolist())} stands in more than one row; remove the copies"
            )
        stays = members.merge(cohort, how="left", on=["hadm_id", "subject_id"])
        if (unknown := stays["admittime"].isna()).any():
            raise DatasetError(f"{path} lacks hadm_id {some(stays['hadm_id'][unknown].tolist())} of the parts' tables; download it again")
        return stays

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        """Part of each record, and its row in the part's arrays."""
        stays = self._stays
        return dict(zip(stays["hadm_id"], zip(stays["part"], stays["row"].astype(int), strict=True), strict=True))

    def _there(self, array: str, record_ids: list[str]) -> list[bool]:
        there = {part: self._path(array, part).is_file() for part in PARTS}
        return [there[self._places[record_id][0]] for record_id in record_ids]

    def _lists(self) -> dict[str, str]:
        """The published list of each query, the true one first."""
        tables = [self.retrieval(part) for part in RETRIEVAL if (self.folder / RETRIEVAL[part]).is_file()]
        lists: dict[str, list[str]] = {}
        for query, candidate, positive in (row for table in tables for row in table.itertuples(index=False)):
            held = lists.setdefault(query, [])
            held.insert(0 if positive else len(held), candidate)
        return {query: " ".join(held) for query, held in lists.items()}

    def _read_retrieval(self, part: str) -> pd.DataFrame:
        path = self.folder / RETRIEVAL[part]
        table = read_table(path, ("hadm_id", "subject_id", "label_hadm_id", "label"), _REMEDY)
        own = table["label"] == "1"
        good = (table["label"].isin(["0", "1"]) & ((table["hadm_id"] == table["label_hadm_id"]) == own)).all()
        if not good or table.loc[own, "hadm_id"].duplicated().any() or not set(table["label_hadm_id"]) == set(table.loc[own, "hadm_id"]):
            raise DatasetError(f"{path}: each label_hadm_id must have exactly one row of label 1, its own; restore the original table")
        return table

    def _path(self, array: str, part: str) -> Path:
        return self.folder / "data_npy" / part / f"{array}_{part}.npy"

    def _row(self, array: str, record_id: str, shape: tuple[int | None, ...]) -> tuple[NDArray[Any], Path]:
        """The row of a stay in an array of its part, without reading others."""
        if record_id not in self._places:
            raise RecordError("absent", self.folder / COHORT, f"has no stay {record_id!r} in any part")
        part, row = self._places[record_id]
        path, ids_path = self._path(array, part), self._path("hadm_id", part)
        stored, ids = self._map(path), self._map(ids_path)
        n_rows = len(ids) if ids.ndim == 1 and ids.dtype.kind in "iu" else -1
        fits = stored.ndim == len(shape) + 1 and all(n is None or n == m for n, m in zip(shape, stored.shape[1:], strict=True))
        if not fits or stored.dtype.kind != "f" or stored.shape[0] != n_rows:
            raise RecordError("bad_array", path, f"holds {stored.dtype} of shape {stored.shape}, not what was published; download it again")
        if row >= n_rows or str(ids[row]) != record_id:
            raise RecordError("row_order", ids_path, f"row {row} is not stay {record_id}: tables and arrays do not belong together")
        return stored[row], path

    def _map(self, path: Path) -> NDArray[Any]:
        """A .npy file as it lies on disk; nothing of it is read yet."""
        import numpy as np

        if path not in self._mapped:
            try:
                self._mapped[path] = np.lib.format.open_memmap(path, mode="r")
            except FileNotFoundError as error:
                raise RecordError("absent", path, "is not there; download it") from error
            except OSError as error:
                raise RecordError(
                    "unreadable", path, f"cannot be read ({type(error).__name__}); check its permissions and its disk"
                ) from error
            except (ValueError, EOFError, SyntaxError) as error:
                raise RecordError("bad_array", path, f"is no complete array ({error}); download it again") from error
        return self._mapped[path]

    def _numbers(self, column: str) -> pd.Series[float]:
        import pandas as pd

        text = self._stays[column]
        numbers = pd.to_numeric(text, errors="coerce").astype("float64")
        if (bad := numbers.isna() & (text != "")).any():
            raise DatasetError(
                f"{self.folder / COHORT}: column {column} holds {some(text[bad].tolist())}, which is no number; restore the original table"
            )
        return numbers

    def _times(self, column: str) -> pd.Series[str]:
        """A column of times as ISO 8601."""
        text = self._stays[column]
        if (bad := ~text.str.fullmatch(r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}(?: [0-9]{2}:[0-9]{2}:[0-9]{2})?)?")).any():
            raise DatasetError(
                f"{self.folder / COHORT}: column {column} holds {some(text[bad].tolist())}, which is no time; restore the original table"
            )
        return text.str.replace(" ", "T", regex=False)
