"""What a dataset is: a class in one file of `assets/datasets`, found by folder or by entry point.

A dataset describes an original download as it lies on disk and is never allowed to change it.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import assets.datasets
from assets.access import Access
from assets.record import Annotations, Record
from models.errors import ConfigurationError, EinthovenError
from models.types import LEADS, Modality

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

RECORD_COLUMNS = ("record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at")
"""Columns that every table of records begins with; a dataset may add its own behind them."""

QUESTION_COLUMNS = ("question_id", "record_id", "question", "question_type", "answers", "template", "attribute", "published_part")
"""Columns of a table of questions, all text. What somebody asks of two recordings at once names both in record_id, joined by ";"."""

LAB_COLUMNS = ("patient_id", "encounter_id", "charted_at", "item_id", "value", "unit")


class DatasetError(EinthovenError):
    """A dataset folder that is missing, incomplete in a way that matters, or not in the layout it should have."""


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        path: where it goes, relative to the dataset's folder.
        url: https address.
        checksum: "sha256:<hex>" or "md5:<hex>" as its publisher states it; "" where none is stated.
        n_bytes: size, 0 where unknown.
        unpack: whether it is an archive whose members become the dataset's files.
    """

    path: str
    url: str
    checksum: str = ""
    n_bytes: int = 0
    unpack: bool = False


@dataclass(frozen=True)
class Download:
    """How a dataset can be fetched. Without `s3`, `https` and `files` it cannot be, and `directions` say what to do.

    Attributes:
        s3: "s3://bucket/prefix/" that holds the layout as it is read.
        https: base address of the same tree.
        checksums: path below it of the list "<sha256>  <path>" that the dataset publishes.
        files: single files, for collections that are published as such.
        n_bytes: approximate size of everything, for the check of free space.
        credentials: what the source asks for.
        directions: how a person gets access, in a sentence or two.
    """

    s3: str = ""
    https: str = ""
    checksums: str = "SHA256SUMS.txt"
    files: tuple[RemoteFile, ...] = ()
    n_bytes: int = 0
    credentials: Literal["none", "physionet", "manual"] = "none"
    directions: str = ""


@dataclass(frozen=True)
class Source:
    """Where a dataset is published and on which terms.

    Attributes:
        licence: short name of the licence.
        terms: what a user must do to get it, in a sentence.
        citation: how its authors ask to be cited.
        download: how it can be fetched, if at all.
    """

    title: str
    version: str
    homepage: str
    licence: str
    terms: str
    citation: str
    download: Download = Download()


@dataclass(frozen=True)
class Channel:
    """One channel of a dataset's store.

    Attributes:
        name: as in the dataset's records.
        kind: of signal: ECG, PPG, EDA, ACC, RESP, ...
        unit: of its samples; "uV" for every ECG lead.
        scale: units per count of the int16 store.
    """

    name: str
    kind: str = "ECG"
    unit: str = "uV"
    scale: float = 1.0


@dataclass(frozen=True)
class Task:
    """A label space: classes by name, in the order of its label table's columns; or numbers that belong to a recording.

    Attributes:
        may_be_empty: whether a record without any positive class is a labelled record (a survivor, a normal recording)
            rather than one that was never labelled, which label tables leave out.
        vocabulary: whose codes the classes are: "scp" for SCP-ECG statements, "chexpert" for the findings of CheXpert's labeller,
            else "". Prompts are written for a vocabulary.
        modality: what the labels describe: the recording, or the image of the same record.
        kind: "multilabel"; "single_label" where exactly one class holds for every record; "regression" where columns are numbers.
        unit: of the numbers.
        per_window: whether the label table has a column `start` (seconds) and a row a window of a recording rather than one a recording.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    class_names: Mapping[str, str]
    may_be_empty: bool = False
    vocabulary: str = ""
    modality: Modality = Modality.ECG
    kind: Literal["multilabel", "single_label", "regression"] = "multilabel"
    unit: str = ""
    per_window: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigurationError where a task is about several numbers: each has a unit and an error of its own."""
        if self.kind == "regression" and len(self.classes) != 1:
            raise ConfigurationError(f"task {self.name!r} predicts {len(self.classes)} numbers; make it a task each")

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of its label table that say what a row is about."""
        return ("record_id", "start") if self.per_window else ("record_id",)

    @property
    def dtype(self) -> Literal["int8", "float32"]:
        """Type of the other columns."""
        return "float32" if self.kind == "regression" else "int8"


@dataclass(frozen=True)
class Split:
    """Which folds train, choose and judge. Folds never share a patient."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


class Dataset(ABC):
    """A published collection. Subclasses are the one public class of a file in `assets/datasets`.

    Class attributes describe it; methods read `self.folder`, which is the user's and read-only.
    """

    name: ClassVar[str]
    source: ClassVar[Source]
    access: ClassVar[Access]
    leads: ClassVar[tuple[str, ...]] = ()
    """ECG leads; none for datasets of images or lab results."""
    fs_hz: ClassVar[float] = 0.0
    """Rate of the `native` recipe."""
    sites: ClassVar[tuple[str, ...]] = ()
    """What may stand in the column `site`, where that is known before the records are read."""
    required_channels: ClassVar[tuple[str, ...] | None] = None
    """Channels without which a recording is refused; None for all of them. Others are zeros where absent, and flagged."""
    has_reports: ClassVar[bool] = False
    has_image_reports: ClassVar[bool] = False
    """Whether a record has a report of its image beside that of its recording."""
    has_images: ClassVar[bool] = False
    has_labs: ClassVar[bool] = False
    has_beats: ClassVar[bool] = False
    has_questions: ClassVar[bool] = False
    companions: ClassVar[tuple[str, ...]] = ()
    """Other datasets whose tables some of the tasks are joined from, where the user has them."""
    question_sources: ClassVar[tuple[str, ...]] = ()
    """Other datasets that hold questions about these recordings, which are asked where the user has them."""
    task_names: ClassVar[tuple[str, ...]] = ()
    split: ClassVar[Split] = Split(train=tuple(range(1, 9)), validation=(9,), test=(10,))
    quarantine_limit: ClassVar[float] = 0.02
    """Largest share of records present that may be quarantined before the dataset counts as broken."""
    window_s: ClassVar[float] = 10.0
    """Length of the windows in which recordings are stored; longer ones are cut, shorter ones quarantined."""
    simulated: ClassVar[bool] = False
    """Whether `prepare` makes the folder."""
    version: ClassVar[str] = "1"
    """Raised by hand whenever a change to the file alters what is read."""

    def __init__(self, folder: Path, companions: Mapping[str, Path] | None = None) -> None:
        """`companions` holds the folders of those of `self.companions` and `self.question_sources` that are there."""
        self.folder = folder
        self.companion_folders = dict(companions or {})

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """The channels of the store, in order: the twelve standard leads in theirs, other leads in the dataset's.

        Datasets with other signals than ECG override this.
        """
        return tuple(Channel(lead) for lead in (LEADS if set(cls.leads) == set(LEADS) else cls.leads))

    @classmethod
    def offers(cls) -> frozenset[Modality]:
        """What a method can learn from here."""
        kinds = {channel.kind for channel in cls.channels()}
        found = {m for m in (Modality.ECG, Modality.PPG) if m.name in kinds}
        if kinds - {"ECG", "PPG"}:
            found.add(Modality.WEARABLE)
        flags = ((Modality.TEXT, cls.has_reports), (Modality.IMAGE, cls.has_images), (Modality.LABS, cls.has_labs))
        return frozenset(found | {m for m, there in flags if there})

    @classmethod
    def part(cls, fold: int) -> str:
        """Which of train, validation and test a fold belongs to; "no part" for folds that the split does not name."""
        parts = {"train": cls.split.train, "validation": cls.split.validation, "test": cls.split.test}
        return next((name for name, folds in parts.items() if fold in folds), "no part")

    def prepare(self) -> None:  # noqa: B027 - most datasets have nothing to do here
        """Make the folder, for datasets that are simulated rather than downloaded. Downloads are never touched."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that make up the dataset, relative to the folder, sorted; only those that are there.

        Raises:
            DatasetError: the folder or a table that everything depends on is missing.
        """

    @abstractmethod
    def records(self) -> pd.DataFrame:
        """One row a record (a recording, an image, a hospital stay) that the dataset lists, whether its files are there or not.

        Columns: record_id (str, unique), patient_id (str, see `assets.splits`), fold (int), age (float, years), sex (str: female, male or
        unknown), site (str), device (str), acquired_at (str, ISO 8601 or empty). Missing text is "". A dataset may add columns of its own behind these.

        Raises:
            DatasetError: a table is missing, lacks a column or holds a value that cannot be read; names file and rows.
        """

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which records have their signal files, at the dataset's own rate; a download may be partial."""
        return [True] * len(record_ids)

    def images_present(self, record_ids: list[str]) -> list[bool]:
        """Which records have their images; asked of datasets whose records carry a recording and an image."""
        return [self.has_images] * len(record_ids)

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording, from the file whose rate is nearest to `fs_hz` (default: `self.fs_hz`).

        Raises:
            RecordError: the record cannot be used; reason "absent" when its files are not there at all.
            DatasetError: the dataset has no signals.
        """
        raise DatasetError(f"dataset {self.name!r} has no signals")

    def pieces(self, record_id: str, fs_hz: float | None = None) -> Iterator[Record]:
        """The parts in which a recording is read, one after the other; recordings of hours override this, so that no more
        than a part is in memory. Each part says where it begins (`Record.start_s`). Raises as `read`, for a part alone too.
        """
        yield self.read(record_id, fs_hz)

    def image(self, record_id: str) -> NDArray[np.uint8]:
        """Read an image, 8-bit grey, shape (height, width).

        Raises:
            RecordError: the image cannot be used; reason "absent" when it is not there.
            DatasetError: the dataset has no images.
        """
        raise DatasetError(f"dataset {self.name!r} has no images")

    def labs(self) -> Iterator[pd.DataFrame]:
        """Lab results in parts of bounded size: `LAB_COLUMNS`, all text ("" where unknown; charted_at ISO 8601) but value
        (float, NaN where the source has no number).

        Raises:
            DatasetError: the dataset has no lab results, or a table cannot be read.
        """
        raise DatasetError(f"dataset {self.name!r} has no lab results")

    def encounters(self) -> pd.DataFrame:
        """Hospital stays: encounter_id, patient_id, admitted_at, discharged_at, died_at (ISO 8601 or ""), kind.

        Raises:
            DatasetError: the dataset has no such table.
        """
        raise DatasetError(f"dataset {self.name!r} has no table of hospital stays")

    def beats(self, record_id: str) -> Annotations:
        """Annotated beats of a recording: the truth that detectors are held to.

        Raises:
            RecordError: the annotations cannot be read; reason "absent" when they are not there.
            DatasetError: the dataset has none.
        """
        raise DatasetError(f"dataset {self.name!r} has no beat annotations")

    def task(self, name: str) -> Task:
        """A label space of the dataset.

        Raises:
            ConfigurationError: the dataset has no such task.
        """
        raise ConfigurationError(f"dataset {self.name!r} has no task {name!r}; it has {', '.join(self.task_names) or 'none'}")

    def labels(self, task: str) -> pd.DataFrame:
        """record_id, then one int8 column of zeros and ones per class of the task; records that were not labelled left out.

        Of a regression task the columns are float32 numbers in its unit. A task about windows has a column `start` behind record_id:
        the second at which a window of `window_s` begins.

        Raises:
            ConfigurationError: the dataset has no such task.
            DatasetError: a table that the labels come from, possibly a companion's, is missing or cannot be read.
        """
        raise ConfigurationError(f"dataset {self.name!r} has no task {task!r}; it has {', '.join(self.task_names) or 'none'}")

    def left_out(self, task: str) -> dict[str, int]:
        """How many records have no label of a task by a rule that the dataset counts, by reason. Default: nothing is counted."""
        return {}

    def reports(self) -> pd.DataFrame:
        """record_id, text (as in the source, "" where empty), source ("human", "machine").

        Raises:
            DatasetError: the dataset has no reports.
        """
        raise DatasetError(f"dataset {self.name!r} has no reports")

    def image_reports(self) -> pd.DataFrame:
        """Reports of the images of records that have a recording's report too; columns as in `reports`.

        Raises:
            DatasetError: the dataset has none.
        """
        raise DatasetError(f"dataset {self.name!r} has no reports of images beside those of its recordings")

    def questions(self) -> pd.DataFrame:
        """Questions about recordings, with the columns `QUESTION_COLUMNS`; answers sorted and joined by ";", "" where there is none.

        Raises:
            DatasetError: the dataset has none, or a file that they come from cannot be read.
        """
        raise DatasetError(f"dataset {self.name!r} has no questions")

    @classmethod
    @abstractmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write a small imitation of the dataset, in its true layout, into an empty folder."""


@cache
def _classes() -> dict[str, type[Dataset]]:
    found: dict[str, type[Dataset]] = {}
    modules = [f"assets.datasets.{m.name}" for m in pkgutil.iter_modules(assets.datasets.__path__)]
    modules += [point.value for point in entry_points(group="einthoven.datasets")]
    for module_name in modules:
        module = importlib.import_module(module_name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Dataset) and value.__module__ == module_name:
                if value.name in found:
                    raise ConfigurationError(
                        f"two datasets are called {value.name!r}: {found[value.name].__module__} and {module_name}; rename one"
                    )
                found[value.name] = value
    return found


def list_datasets() -> list[str]:
    """Names of all datasets, the platform's own and those of installed packages, sorted."""
    return sorted(_classes())


def get_dataset(name: str) -> type[Dataset]:
    """The class of a dataset.

    Raises:
        ConfigurationError: no dataset of that name.
    """
    if name not in _classes():
        raise ConfigurationError(f"there is no dataset {name!r}; choose one of {', '.join(list_datasets())}")
    return _classes()[name]
