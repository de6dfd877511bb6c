"""What a dataset is: a class in one file of `assets/datasets`, found by folder or by entry point.

A dataset describes an original download as it lies on disk and is never allowed to change it.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import assets.datasets
from assets.access import Access
from assets.record import Record
from models.errors import ConfigurationError, EinthovenError
from models.types import LEADS

if TYPE_CHECKING:
    import pandas as pd


class DatasetError(EinthovenError):
    """A dataset folder that is missing, incomplete in a way that matters, or not in the layout it should have."""


@dataclass(frozen=True)
class Source:
    """Where a dataset is published and on which terms.

    Attributes:
        licence: short name of the licence.
        terms: what a user must do to get it, in a sentence.
        citation: how its authors ask to be cited.
    """

    title: str
    version: str
    homepage: str
    licence: str
    terms: str
    citation: str


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
    """A label space: multi-label, classes by name, in the order of its label table's columns."""

    name: str
    title: str
    classes: tuple[str, ...]
    class_names: Mapping[str, str]


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
    leads: ClassVar[tuple[str, ...]]
    fs_hz: ClassVar[float]
    """Rate of the `native` recipe."""
    has_reports: ClassVar[bool] = False
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        """The channels of the store, in order: the twelve standard leads in theirs, other leads in the dataset's.

        Datasets with other signals than ECG override this.
        """
        return tuple(Channel(lead) for lead in (LEADS if set(cls.leads) == set(LEADS) else cls.leads))

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
        """One row a record that the dataset lists, whether its signal files are there or not.

        Columns: record_id (str, unique), patient_id (str), fold (int), age (float, years), sex (str: female, male or
        unknown), site (str), device (str), acquired_at (str, ISO 8601 or empty). Missing text is "".

        Raises:
            DatasetError: a table is missing, lacks a column or holds a value that cannot be read; names file and rows.
        """

    def present(self, record_ids: list[str]) -> list[bool]:
        """Which records have their signal files, at the dataset's own rate; a download may be partial."""
        return [True] * len(record_ids)

    @abstractmethod
    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        """Read a recording, from the file whose rate is nearest to `fs_hz` (default: `self.fs_hz`).

        Raises:
            RecordError: the record cannot be used; reason "absent" when its files are not there at all.
        """

    @abstractmethod
    def task(self, name: str) -> Task:
        """A label space of the dataset.

        Raises:
            ConfigurationError: the dataset has no such task.
        """

    @abstractmethod
    def labels(self, task: str) -> pd.DataFrame:
        """record_id, then one int8 column of zeros and ones per class of the task; records without any label left out."""

    def reports(self) -> pd.DataFrame:
        """record_id, text (as in the source, "" where empty), source ("human", "machine").

        Raises:
            DatasetError: the dataset has no reports.
        """
        raise DatasetError(f"dataset {self.name!r} has no reports")

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
