"""Training jobs: the JSON files that `models.train` understands, as typed records."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import ConfigurationError
from models.typed_json import filled, missing_entries


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
class DataJob(Job):
    """A job that reads records with all their modalities.

    Attributes:
        stage: name of the stage before the encoder's (`models.spec.Stage`), or "encoder".
        store: signals; None for a stage that reads none.
        reports: the reports table, for methods that read text.
        pairing: folder of a pairing (samples.parquet, panels.parquet ...), for methods that learn from tied modalities.
        images: image store of the pairing's pictures.
        image_reports: the reports table of these pictures.
    """

    stage: str = "encoder"
    store: Path | None = None
    reports: Path | None = None
    pairing: Path | None = None
    images: Path | None = None
    image_reports: Path | None = None


@dataclass(frozen=True, kw_only=True)
class MixtureMember:
    """Where one dataset of a mixture lies, and which of its folds are for what.

    Attributes:
        store: its signals.
        site: the one site of it that is meant; all where empty.
        reports: its reports table, where it has reports and the method reads text.
    """

    store: Path
    train_folds: list[int]
    validation_folds: list[int]
    test_folds: list[int]
    site: str = ""
    reports: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PretrainJob(DataJob):
    """Train an encoder, or the stage before it.

    Attributes:
        config: fields of the method's configuration.
        mixture: the datasets that the configuration's mixture names, by these names.
        first_stage: bundle of the stage before, for methods that have one.
        text_weights: where local weights of a text or picture network lie, where the configuration names some.
        devices: processes on this machine, one a device.
        nodes: machines.
        precision: as Lightning names it; "auto" takes bfloat16 where weights stay float32 on GPUs that have it, else float32.
        time_limit_s: after so many seconds the state is saved and the job ends unfinished.
        card: dataset, access, data_versions and code_version for the bundle's card.
    """

    config: dict[str, Any]
    mixture: dict[str, MixtureMember] = field(default_factory=dict)
    first_stage: Path | None = None
    text_weights: str | None = None
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"
    time_limit_s: float | None = None
    card: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeadJob(Job):
    """Train heads of one task on an encoder and on its random-initialised twin.

    Attributes:
        store: what the labels describe: recordings, or images.
        random_init: bundle of the twin; None where an encoder from elsewhere has none.
        modality: "ecg", or "image" where it is a store of images.
        labels: the task's label table.
        fractions: shares of the training labels.
        embeddings: folder that caches the features of frozen encoders.
        task_kind: "multilabel", "single_label" or "regression", see `models.data.Labelled`.
        unit: of a regression task's numbers.
        channel_sets: sets of channels, each shown alone to a linear probe of its own where the store holds all of it.
        pairing: for heads over image and ECG: folder of the pairing that ties them.
        signals: for these: store of the ECGs.
    """

    store: Path
    bundle: Path
    random_init: Path | None = None
    labels: Path
    task: str
    protocols: list[str]
    fractions: list[float]
    embeddings: Path
    modality: str = "ecg"
    task_kind: str = "multilabel"
    unit: str = ""
    channel_sets: list[list[str]] = field(default_factory=list)
    pairing: Path | None = None
    signals: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CrossValidationJob(Job):
    """Fine-tune an encoder in every fold of named splits of one task; a fold that is finished is not trained again.

    Attributes:
        store: recordings.
        labels: the task's label table.
        task_kind: "multilabel", "single_label" or "regression".
        unit: of a regression task's numbers.
        splits: names of `models.splits_named`.
    """

    store: Path
    bundle: Path
    labels: Path
    task: str
    splits: list[str]
    task_kind: str = "multilabel"
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class CrossModalityJob(Job):
    """Train a network a signal in every fold of named splits, and show each the other signals; what is finished is not trained again.

    Attributes:
        store: recordings with all signals.
        bundle: the untrained encoder; its configuration says which signals, splits and seeds.
        labels: label table of a task of which exactly one class holds.
        task: its name.
    """

    store: Path
    bundle: Path
    labels: Path
    task: str


@dataclass(frozen=True, kw_only=True)
class ExternalJob(Job):
    """Train heads of one task on an encoder that somebody else wrote; `preset` is the name of its entry.

    Attributes:
        config: fields of `models.external.spec.ExternalConfig`, the class among them.
        store, labels, task, protocols, fractions, embeddings, task_kind: as of a head job.
    """

    config: dict[str, Any]
    store: Path
    labels: Path
    task: str
    protocols: list[str]
    fractions: list[float]
    embeddings: Path
    task_kind: str = "multilabel"


@dataclass(frozen=True, kw_only=True)
class FeaturesJob(Job):
    """Train linear probes of one task on features that somebody else computed; `preset` is the name of their entry.

    Attributes:
        features: array or table of features.
        ids: the record of each row, where the features do not say it themselves.
        records: the dataset's table of records.
        labels, task, fractions, task_kind: as of a head job.
    """

    features: Path
    records: Path
    labels: Path
    task: str
    fractions: list[float]
    ids: Path | None = None
    task_kind: str = "multilabel"


@dataclass(frozen=True, kw_only=True)
class ZeroShotJob(Job):
    """Classify from prompts, with an encoder and with its random-initialised twin.

    Attributes:
        store: signals, or images.
        labels: label table of each task.
        prompts: file of each prompt set.
        modality: "ecg", or "image" where the store and the labels are about images.
    """

    store: Path
    bundle: Path
    random_init: Path
    labels: dict[str, Path]
    prompts: dict[str, Path]
    modality: str = "ecg"


@dataclass(frozen=True, kw_only=True)
class RetrievalJob(DataJob):
    """Find the items of one modality by those of others, with an encoder and with its random-initialised twin.

    Attributes:
        directions: "text->ecg", "ecg+labs->image", ...
    """

    bundle: Path
    random_init: Path
    directions: list[str]


@dataclass(frozen=True, kw_only=True)
class IdentificationJob(Job):
    """Find the other recording of the same patient, with an encoder and with its random-initialised twin."""

    store: Path
    bundle: Path
    random_init: Path


@dataclass(frozen=True, kw_only=True)
class GenerationJob(DataJob):
    """Write reports for test records, with an encoder and with its random-initialised twin.

    Attributes:
        limit: how many records at most.
    """

    bundle: Path
    random_init: Path
    limit: int = 500


@dataclass(frozen=True, kw_only=True)
class ExplainJob(DataJob):
    """Say which parts of image and ECG made a fused head decide as it did.

    Attributes:
        head: the stored fused head of the encoder.
        task: what the head decides.
        labels: the task's label table.
        limit: how many test samples at most.
    """

    bundle: Path
    head: Path
    task: str
    labels: Path
    limit: int = 4


@dataclass(frozen=True, kw_only=True)
class QuestionJob(Job):
    """Answer questions about recordings, with an encoder and with its random-initialised twin.

    Attributes:
        questions: the table of questions.
        limits: how many questions at most, by part ("train", "validation", "test"); all of a part that is not named.
        minimum_count: how many training questions must have an answer that may be given.
    """

    store: Path
    bundle: Path
    random_init: Path
    questions: Path
    limits: dict[str, int] = field(default_factory=dict)
    minimum_count: int = 5


@dataclass(frozen=True, kw_only=True)
class ReconstructionJob(Job):
    """Fill missing leads of records, with an encoder, its random-initialised twin and two baselines, and judge what comes out.

    Attributes:
        labels: label table of the task that a classifier is fine-tuned on; None for none.
        task: its name.
        task_kind: "multilabel" or "single_label".
        classifier: size of the classifier, "tiny" or "ecg_founder".
        classifier_weights: safetensors file of its weights; None starts from random ones.
        epochs: passes when it is fine-tuned.
        batch_size: records of a step.
        lr: learning rate.
        fid_input: what features for the Fréchet distance are taken from: "prepared" signals, or "raw" millivolts.
        limit: how many reconstructions are kept.
    """

    store: Path
    bundle: Path
    random_init: Path
    labels: Path | None = None
    task: str = ""
    task_kind: str = "multilabel"
    classifier: str = "tiny"
    classifier_weights: Path | None = None
    epochs: int = 5
    batch_size: int = 256
    lr: float = 1e-4
    fid_input: str = "prepared"
    limit: int = 100


@dataclass(frozen=True, kw_only=True)
class TransferJob(Job):
    """Train probes on one dataset's tasks and score other datasets' with them, for an encoder and its random-initialised twin.

    Attributes:
        stores: store of each dataset.
        labels: label table of each task, by "dataset/task".
        folds: of each dataset, by part: "train", "validation", "test".
        directions: by name; each has a source and a target ("dataset/task") and says in `covers` which classes of the source
            stand for which class of the target.
        embeddings: folder that caches the features of frozen encoders.
    """

    bundle: Path
    random_init: Path
    stores: dict[str, Path]
    labels: dict[str, Path]
    folds: dict[str, dict[str, list[int]]]
    directions: dict[str, dict[str, Any]]
    embeddings: Path


_KINDS: dict[str, type[Job]] = {
    "pretrain": PretrainJob,
    "head": HeadJob,
    "cross_validation": CrossValidationJob,
    "cross_modality": CrossModalityJob,
    "external": ExternalJob,
    "features": FeaturesJob,
    "zero_shot": ZeroShotJob,
    "retrieval": RetrievalJob,
    "identification": IdentificationJob,
    "generation": GenerationJob,
    "explain": ExplainJob,
    "question_answering": QuestionJob,
    "reconstruction": ReconstructionJob,
    "transfer": TransferJob,
}


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
    if missing := missing_entries(kind, values):
        raise ConfigurationError(f"{path}: a {values['kind']} job needs {', '.join(missing)}")
    try:
        job: Job = filled(kind, values)
        return job
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: an entry has the wrong type ({error})") from error


def kind_of(job: Job) -> str:
    """The name of a job's kind."""
    return next(name for name, kind in _KINDS.items() if kind is type(job))
