"""One settings file for everything that differs between sites.

`settings.yaml` in the workspace (or the file named by EINTHOVEN_SETTINGS); every entry is optional:

    datasets:                    # folders of original downloads, read in place and never written
      ptb_xl: /data/physionet/ptb-xl/1.0.3
    mlflow_tracking_uri: sqlite:///.../mlflow.db
    key_prefix: []               # put before every asset key and registered model name
    weights:                     # local weight files, by the name a method asks for
      medcpt: {path: /models/MedCPT-Query-Encoder, licence: public domain, access: open}
    prompts:                     # further prompt sets (JSON: class code -> prompt), evaluated as rows of their own
      merl_published: {path: /papers/merl/CKEPE_prompt.json, licence: MIT, access: open}
    accepted_identifiers:        # kinds of identifiers that a dataset may hold: name, birth_date, record_number, ...
      our_hospital: [record_number]
    destinations:                # strictest class of data that each may receive when it is not on this machine
      mlflow: open
      dvc: open
      dagster: open

Weights and prompts whose class is not declared count as private.

EINTHOVEN_HOME moves the workspace (default: `data/` beside this package's project), EINTHOVEN_DATASET_<NAME> one dataset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import yaml

from assets.access import Access
from assets.privacy import SEVERE
from models.errors import ConfigurationError

if TYPE_CHECKING:
    from assets.dataset import Dataset

PROJECT = Path(__file__).resolve().parents[1]
DESTINATIONS = ("mlflow", "dvc", "dagster")


@dataclass(frozen=True)
class Supplied:
    """A file or folder that the site supplies, with the terms under which it may be used."""

    path: Path
    access: Access = Access.PRIVATE
    licence: str = "not declared"


@dataclass(frozen=True)
class Settings:
    """The settings in force. Read with `load()`."""

    home: Path
    datasets: Mapping[str, Path] = field(default_factory=dict)
    mlflow_tracking_uri: str = ""
    key_prefix: tuple[str, ...] = ()
    weights: Mapping[str, Supplied] = field(default_factory=dict)
    prompts: Mapping[str, Supplied] = field(default_factory=dict)
    destinations: Mapping[str, Access] = field(default_factory=dict)
    accepted_identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI; by default an SQLite file in the workspace."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def tracking_is_local(self) -> bool:
        """Whether what is logged to MLflow stays on this machine."""
        return is_local(self.tracking_uri)

    def dataset_folder(self, name: str) -> Path:
        """Where the original files of a dataset lie."""
        variable = os.environ.get(f"EINTHOVEN_DATASET_{name.upper()}")
        return Path(variable) if variable else Path(self.datasets.get(name, self.home / "source" / name))

    def open_dataset(self, dataset: type[Dataset]) -> Dataset:
        """A dataset over its folder, with the folders of those companions that are there."""
        folders = {name: self.dataset_folder(name) for name in (*dataset.companions, *dataset.question_sources)}
        return dataset(self.dataset_folder(dataset.name), {name: folder for name, folder in folders.items() if folder.is_dir()})

    def limit(self, destination: str) -> Access:
        """The strictest class of data that a destination off this machine may receive."""
        return self.destinations.get(destination, Access.OPEN)


def is_local(uri: str) -> bool:
    """Whether a URI names a file or database file of this machine."""
    scheme = urlparse(uri).scheme
    return scheme in ("", "file", "sqlite") or (len(scheme) == 1)


def workspace_home() -> Path:
    """The workspace, which no settings file needs to be read for."""
    named = os.environ.get("EINTHOVEN_HOME")
    if named is None:
        return PROJECT / "data"
    return _absolute(named, "" if named.startswith("/") else str(Path.cwd()))


@cache
def _absolute(folder: str, beside: str) -> Path:
    """Remembered, since definitions ask thousands of times; `beside` is where relative folders lie."""
    return Path(beside, folder)


@cache
def _settings_file(home: Path, named: str | None) -> Path:
    return home / "settings.yaml" if named is None else Path(named)


def load() -> Settings:
    """Read the settings file and the environment.

    Raises:
        ConfigurationError: the file is not YAML, or holds a key or class that does not exist.
    """
    home = workspace_home()
    path = _settings_file(home, os.environ.get("EINTHOVEN_SETTINGS"))
    if not path.exists():
        if "EINTHOVEN_SETTINGS" in os.environ:
            raise ConfigurationError(f"EINTHOVEN_SETTINGS names {path}, which does not exist")
        return Settings(home=home)
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from error
    return _parse(home, path, raw)


def _parse(home: Path, path: Path, raw: Any) -> Settings:
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path} must hold a mapping of settings")
    known = {"datasets", "mlflow_tracking_uri", "key_prefix", "weights", "prompts", "destinations", "accepted_identifiers"}
    if unknown := sorted(set(raw) - known):
        raise ConfigurationError(f"{path}: unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    destinations = raw.get("destinations") or {}
    if unknown := sorted(set(destinations) - set(DESTINATIONS)):
        raise ConfigurationError(f"{path}: unknown destinations {', '.join(unknown)}; known are {', '.join(DESTINATIONS)}")
    try:
        limits = {name: Access(value) for name, value in destinations.items()}
    except ValueError as error:
        raise ConfigurationError(f"{path}: destinations: {error}; classes are {', '.join(Access)}") from error
    prefix = raw.get("key_prefix") or []
    return Settings(
        home=home,
        datasets={k: Path(v).expanduser() for k, v in (raw.get("datasets") or {}).items()},
        mlflow_tracking_uri=raw.get("mlflow_tracking_uri") or "",
        key_prefix=(prefix,) if isinstance(prefix, str) else tuple(prefix),
        weights={k: _supplied(path, f"weights.{k}", v) for k, v in (raw.get("weights") or {}).items()},
        prompts={k: _supplied(path, f"prompts.{k}", v) for k, v in (raw.get("prompts") or {}).items()},
        destinations=limits,
        accepted_identifiers=_accepted(path, raw.get("accepted_identifiers") or {}),
    )


def _accepted(settings_file: Path, raw: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{settings_file}: accepted_identifiers must map datasets to lists of kinds")
    found = {str(name): tuple([kinds] if isinstance(kinds, str) else kinds) for name, kinds in raw.items()}
    if unknown := sorted({kind for kinds in found.values() for kind in kinds} - set(SEVERE)):
        raise ConfigurationError(
            f"{settings_file}: accepted_identifiers: unknown kinds {', '.join(unknown)}; kinds are {', '.join(SEVERE)}"
        )
    return found


def _supplied(settings_file: Path, entry: str, raw: Any) -> Supplied:
    fields = {"path": raw} if isinstance(raw, str) else raw
    if not isinstance(fields, dict) or "path" not in fields or set(fields) - {"path", "access", "licence"}:
        raise ConfigurationError(f"{settings_file}: {entry} must be a path, or a mapping of path, access and licence")
    try:
        access = Access(fields.get("access", Access.PRIVATE))
    except ValueError as error:
        raise ConfigurationError(f"{settings_file}: {entry}: {error}; classes are {', '.join(Access)}") from error
    return Supplied(Path(fields["path"]).expanduser(), access, str(fields.get("licence", "not declared")))
