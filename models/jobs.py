"""Training jobs: the JSON files that `models.train` understands, as typed records."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from models.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every job says.

    Attributes:
        output: the run folder; it survives retries.
        threads: CPU threads of torch; None leaves its default.
    """

    method: str
    preset: str
    seed: int
    output: Path
    dataset: str = ""
    train_folds: list[int] = field(default_factory=list)
    validation_folds: list[int] = field(default_factory=list)
    test_folds: list[int] = field(default_factory=list)
    accelerator: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class PretrainJob(Job):
    """Train an encoder, or the stage before it.

    Attributes:
        config: fields of the method's configuration.
        stage: name of the stage before the encoder's (`models.spec.Stage`) that is trained, or "encoder".
        first_stage: bundle of the stage before, for methods that have one.
        store: signals; None for a stage that reads none.
        reports: the reports table, for methods that read text.
        pairing: folder of a pairing (samples.parquet, panels.parquet ...), for methods that learn from tied modalities.
        images: image store of the pairing's pictures.
        image_reports: the reports table of these pictures.
        text_weights: folder of local text weights, where the configuration names some.
        devices: processes on this machine, one a device.
        nodes: machines.
        precision: as Lightning names it.
        time_limit_s: after so many seconds the state is saved and the job ends unfinished.
        card: dataset, access, data_versions and code_version for the bundle's card.
    """

    config: dict[str, Any]
    stage: str = "encoder"
    first_stage: Path | None = None
    store: Path | None = None
    reports: Path | None = None
    pairing: Path | None = None
    images: Path | None = None
    image_reports: Path | None = None
    text_weights: str | None = None
    devices: int = 1
    nodes: int = 1
    precision: str = "32-true"
    time_limit_s: float | None = None
    card: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeadJob(Job):
    """Train heads of one task on an encoder and on its random-initialised twin.

    Attributes:
        labels: the task's label table.
        fractions: shares of the training labels.
        embeddings: folder that caches the features of frozen encoders.
    """

    store: Path
    bundle: Path
    random_init: Path
    labels: Path
    task: str
    protocols: list[str]
    fractions: list[float]
    embeddings: Path


@dataclass(frozen=True, kw_only=True)
class ZeroShotJob(Job):
    """Classify from prompts, with an encoder and with its random-initialised twin.

    Attributes:
        labels: label table of each task.
        prompts: file of each prompt set.
    """

    store: Path
    bundle: Path
    random_init: Path
    labels: dict[str, Path]
    prompts: dict[str, Path]


_KINDS: dict[str, type[Job]] = {"pretrain": PretrainJob, "head": HeadJob, "zero_shot": ZeroShotJob}


def read_job(path: Path) -> Job:
    """Read a job file. Entries that its kind does not need are ignored.

    Raises:
        ConfigurationError: the file is missing or not JSON, its kind is unknown, or an entry is missing or of the wrong type.
    """
    try:
        values = json.loads(path.read_text())
        kind = _KINDS[values["kind"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is not a job of kind {', '.join(_KINDS)} ({error!r})") from error
    hints = typing.get_type_hints(kind)
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING and values.get(f.name) is None]
    if missing:
        raise ConfigurationError(f"{path}: a {values['kind']} job needs {', '.join(missing)}")
    known = {f.name: values[f.name] for f in fields(kind) if f.name in values}
    try:
        return kind(**{name: _typed(hints[name], value) for name, value in known.items()})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: an entry has the wrong type ({error})") from error


def kind_of(job: Job) -> Literal["pretrain", "head", "zero_shot"]:
    """The name of a job's kind."""
    names: dict[type[Job], Any] = {kind: name for name, kind in _KINDS.items()}
    found: Literal["pretrain", "head", "zero_shot"] = names[type(job)]
    return found


def _typed(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(arguments[0], value)
    if hint is Any:
        return value
    if origin is list:
        return [_typed(arguments[0], v) for v in _expect(list, value)]
    if origin is dict:
        return {str(k): _typed(arguments[1], v) for k, v in _expect(dict, value).items()}
    if hint is Path:
        return Path(_expect(str, value))
    if hint is float:
        return float(_expect((int, float), value))
    return _expect(hint, value)


def _expect(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} where {getattr(kind, '__name__', 'a number')} is expected")
    return value
