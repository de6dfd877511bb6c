"""Entries of a benchmark: one output `benchmark/<dataset>/<entry>` a question, for methods of ours and models of others.

    predictions/*.parquet   scores of the validation and test folds, with record ids, class names and task
    metrics.parquet         every number of `assets.benchmark_scores`, computed from them
    heads, history.jsonl, label_ids.json   where heads were trained

The partition says task, protocol, share of the labels and seed. The identity holds the encoder's data version (or the
hashes of what was brought), the labels' and the store's, so that the same question is answered once.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.benchmark_scores import BenchmarkError, benchmark_rows, require_defined
from assets.compute import Compute, collect, run_job
from assets.dataset import Dataset, get_dataset
from assets.judging import PROMPTS, VOCABULARIES
from assets.materialize import require, versions
from assets.outputs import Built, Key, Output, Workspace, digest, identify
from assets.settings import Settings
from assets.training import configured, inputs_for, job_base, task_modality
from assets.user_tasks import task_names
from models.errors import ConfigurationError
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, LINEAR
from models.registry import get_spec
from models.spec import MethodSpec
from models.types import Modality

CODE_VERSION = "1"
ZERO_SHOT = "zero_shot"
PROTOCOLS = (LINEAR, ATTENTIVE, FINETUNE, FINETUNE_AFTER, ZERO_SHOT)
EXTERNAL, NOT_STATED = "external", "not_stated"
"""Method of entries from elsewhere, and protocol of scores of which nobody says how they were obtained."""


@dataclass(frozen=True)
class Question:
    """What is asked of an entry.

    Attributes:
        fraction: share of the training labels; None where none are used, or nobody says.
        skip_undefined: whether classes without a positive or a negative test record are left out and counted.
    """

    dataset: str
    task: str
    protocol: str
    fraction: float | None = 1.0
    seed: int = 0
    skip_undefined: bool = False

    @property
    def partition(self) -> str:
        """Folder name of the answer."""
        share = "" if self.fraction is None else f"-{self.fraction:g}"
        return f"{self.task}-{self.protocol}{share}-seed{self.seed}" + ("-skipped" if self.skip_undefined else "")

    @property
    def home(self) -> type[Dataset]:
        """The dataset."""
        return get_dataset(self.dataset)

    def require_known(self, home: Path) -> None:
        """Refuse what cannot be asked, before anything is made.

        Raises:
            ConfigurationError: the dataset, task or protocol is unknown, or a fraction is outside (0, 1].
        """
        if self.task not in (names := task_names(self.home, home)):
            raise ConfigurationError(f"{self.dataset} has no task {self.task!r}; it has {', '.join(names) or 'none'}")
        if self.task in self.home.task_names and task_modality(self.home, self.task) is Modality.IMAGE:
            raise ConfigurationError(f"task {self.task!r} of {self.dataset} is about images; the benchmark judges recordings")
        if self.protocol not in (*PROTOCOLS, NOT_STATED):
            raise ConfigurationError(f"there is no protocol {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ConfigurationError(f"a fraction of {self.fraction:g} of the labels cannot be used; choose one above 0 and up to 1")


@dataclass(frozen=True)
class Entry:
    """Who answers.

    Attributes:
        method: ours, or "external".
        name: the preset, or the name that others chose for theirs.
        options: what was changed of the preset.
        source: where an external entry comes from, in free text.
    """

    method: str
    name: str
    options: Mapping[str, Any]
    source: str = ""

    @property
    def slug(self) -> str:
        """Folder name: always with a dot, so that it is never taken for a partition."""
        return f"{self.method}.{self.name}" + (f"-{digest(dict(self.options))[:8]}" if self.options else "")

    @property
    def label(self) -> str:
        """For people: the preset with its options, or the name of an external entry."""
        said = f" ({', '.join(f'{k}={v}' for k, v in self.options.items())})" if self.options else ""
        return self.name if self.method == EXTERNAL else f"{self.method}:{self.name}{said}"

    def key(self, question: Question) -> Key:
        """Where its answer to a question is kept."""
        return Key(("benchmark", question.dataset, self.slug), question.partition)


def data_keys(question: Question, store: Key | None) -> list[Key]:
    """What every entry is judged on: records, labels, and the store where signals are read."""
    named = [Key(("raw", question.dataset)), Key(("labels", question.dataset), question.task)]
    return [*named, *([] if store is None else [store])]


def make_method_entry(
    context: dg.AssetExecutionContext, settings: Settings, compute: Compute, entry: Entry, question: Question, encoder: Output
) -> Output:
    """Put heads of one protocol on an encoder (frozen protocols: on its random-initialised twin too) and judge them.

    Raises:
        ConfigurationError: the method has nothing that answers the protocol.
        BenchmarkError: the macro mean is undefined on the test records.
        OutputError, UnsafeUpstreamError: data has not been made, or failed a check.
    """
    spec, workspace = get_spec(entry.method), Workspace(settings.home)
    store = inputs_for(spec, configured(spec, encoder.facts["config"]), question.dataset).signals
    if store is None:
        raise ConfigurationError(f"{spec.name} reads no recordings, so it has no encoder for them")
    zero_shot = question.protocol == ZERO_SHOT
    upstream = require(workspace, *data_keys(question, store), *([PROMPTS] if zero_shot else []))
    upstream[str(encoder.key)] = encoder
    labels = upstream[str(Key(("labels", question.dataset), question.task))]
    _require_judgeable(question, upstream, store)
    if zero_shot and (ZERO_SHOT not in spec.protocols or labels.facts["vocabulary"] != VOCABULARIES[Modality.ECG]):
        raise ConfigurationError(f"{spec.name} cannot be judged zero-shot on {question.task}: it has no text tower, or the task no prompts")
    about = {"saw_test_patients": bool(set(encoder.facts["train_folds"]) & set(question.home.split.test)), "kind": "ours"}

    def job(run_folder: Path) -> dict[str, Any]:
        base = job_base("zero_shot" if zero_shot else "head", spec, question.home, entry.name, question.seed, run_folder)
        base |= {"bundle": str(encoder.path("bundle")), "random_init": str(encoder.path("random_init"))}
        base["store"] = str(upstream[str(store)].folder)
        if zero_shot:
            prompts = upstream[str(PROMPTS)]
            sets = {name: str(prompts.path(f"{name}.json")) for name in prompts.facts["sets"]}
            return base | {"labels": {question.task: str(labels.path("labels.parquet"))}, "prompts": sets}
        return base | _head_entries(workspace, question, labels)

    asked = {"options": dict(entry.options)}
    return _publish(context, compute, workspace, entry, question, upstream, asked, about, job)


def make_encoder_entry(
    context: dg.AssetExecutionContext,
    settings: Settings,
    compute: Compute,
    entry: Entry,
    question: Question,
    config: Mapping[str, Any],
    fingerprint: str,
) -> Output:
    """Put heads of one protocol on somebody else's encoder.

    Args:
        context: of the run.
        settings: of this installation.
        compute: runs the job.
        entry: its name.
        question: what is asked.
        config: fields of `models.external.spec.ExternalConfig`.
        fingerprint: of the code that the class comes from; other code is another question.

    Raises:
        BenchmarkError, OutputError, UnsafeUpstreamError: as `make_method_entry`.
    """
    workspace, store = Workspace(settings.home), Key(("cleaned", question.dataset), config["recipe"])
    upstream = require(workspace, *data_keys(question, store))
    _require_judgeable(question, upstream, store)
    labels = upstream[str(Key(("labels", question.dataset), question.task))]

    def job(run_folder: Path) -> dict[str, Any]:
        base = job_base("external", get_spec(EXTERNAL), question.home, entry.name, question.seed, run_folder)
        return base | _head_entries(workspace, question, labels) | {"config": dict(config), "store": str(upstream[str(store)].folder)}

    asked = {"config": dict(config), "fingerprint": fingerprint, "source": entry.source}
    return _publish(context, compute, workspace, entry, question, upstream, asked, _EXTERNAL_FACTS, job)


def make_features_entry(
    context: dg.AssetExecutionContext,
    settings: Settings,
    compute: Compute,
    entry: Entry,
    question: Question,
    features: Path,
    ids: Path | None,
    sha256: Mapping[str, str],
) -> Output:
    """Put linear probes on features that somebody else computed; `sha256` are the hashes of the files.

    Raises:
        BenchmarkError, OutputError, UnsafeUpstreamError: as `make_method_entry`.
    """
    workspace = Workspace(settings.home)
    upstream = require(workspace, *data_keys(question, None))
    _require_judgeable(question, upstream, None)
    raw, labels = upstream.values()

    def job(run_folder: Path) -> dict[str, Any]:
        base = job_base("features", get_spec(EXTERNAL), question.home, entry.name, question.seed, run_folder)
        files = {"features": str(features), "ids": None if ids is None else str(ids), "records": str(raw.path("records.parquet"))}
        return base | _head_entries(workspace, question, labels) | files

    return _publish(
        context, compute, workspace, entry, question, upstream, {"files": dict(sha256), "source": entry.source}, _EXTERNAL_FACTS, job
    )


def make_predictions_entry(settings: Settings, entry: Entry, question: Question, path: Path, sha256: str) -> Output:
    """Judge scores of which we know the numbers alone.

    Raises:
        ExternalError: they are not exactly those of the test records, or of the validation and test records.
        BenchmarkError, OutputError, UnsafeUpstreamError: as `make_method_entry`.
    """
    workspace = Workspace(settings.home)
    upstream = require(workspace, *data_keys(question, None))
    _require_judgeable(question, upstream, None)
    raw, labels = upstream.values()

    def fill(folder: Path, _: Path) -> None:
        from assets.benchmark_brought import predictions_of
        from models.predictions import write_predictions

        split = question.home.split
        table = predictions_of(path, raw, labels, split, entry, question, sha256)
        write_predictions(folder / "predictions" / f"{table.origin.slug}.parquet", table)

    asked = {"files": {"predictions": sha256}, "source": entry.source}
    return _published(workspace, entry, question, upstream, asked, _EXTERNAL_FACTS, fill)


_EXTERNAL_FACTS: Mapping[str, Any] = {"saw_test_patients": None, "kind": EXTERNAL}


def _head_entries(workspace: Workspace, question: Question, labels: Output) -> dict[str, Any]:
    return {
        "labels": str(labels.path("labels.parquet")),
        "task": question.task,
        "task_kind": labels.facts["kind"],
        "protocols": [question.protocol],
        "fractions": [question.fraction],
        "embeddings": str(workspace.root / "cache" / "embeddings"),
    }


def _require_judgeable(question: Question, upstream: Mapping[str, Output], store: Key | None) -> None:
    """Refuse a task that the benchmark does not judge, before hours of training."""
    import numpy as np

    from models.external.truth import read_truth
    from models.store import open_store

    raw, labels = upstream[str(Key(("raw", question.dataset)))], upstream[str(Key(("labels", question.dataset), question.task))]
    if labels.facts["kind"] == "regression" or labels.facts["per_window"]:
        raise BenchmarkError(
            f"task {question.task!r} of {question.dataset} holds numbers, or labels of windows; the benchmark judges classes of recordings"
        )
    truth = read_truth(raw.path("records.parquet"), labels.path("labels.parquet"))
    test_N = truth.of_folds(question.home.split.test)
    if store is not None:
        held = open_store(upstream[str(store)].folder).index["record_id"].to_pylist()
        test_N = test_N[np.isin(truth.record_id[test_N], held)]
    require_defined(truth.labels_NC[test_N], truth.classes, f"{question.dataset}/{question.task}", question.skip_undefined)


def _publish(
    context: dg.AssetExecutionContext,
    compute: Compute,
    workspace: Workspace,
    entry: Entry,
    question: Question,
    upstream: Mapping[str, Output],
    asked: Mapping[str, Any],
    about: Mapping[str, Any],
    job: Callable[[Path], dict[str, Any]],
) -> Output:
    def fill(folder: Path, run_folder: Path) -> None:
        run_job(context, compute, job(run_folder))
        collect(run_folder, folder, "predictions", "heads", "history.jsonl", "label_ids.json")

    return _published(workspace, entry, question, upstream, asked, about, fill)


def _published(
    workspace: Workspace,
    entry: Entry,
    question: Question,
    upstream: Mapping[str, Output],
    asked: Mapping[str, Any],
    about: Mapping[str, Any],
    fill: Callable[[Path, Path], None],
) -> Output:
    key, split = entry.key(question), question.home.split
    config = {"question": asdict(question), **asked}
    inputs: dict[str, Any] = {"code_version": _code_version(entry), "config": config, "upstream": versions(upstream)}
    run_folder = workspace.run_folder(key, identify(**inputs))

    def build(folder: Path) -> Built:
        import pandas as pd

        from models.predictions import read_predictions

        fill(folder, run_folder)
        tables = [read_predictions(p) for p in sorted((folder / "predictions").glob("*.parquet"))]
        rows = [row for t in tables for row in benchmark_rows(t, split.validation, split.test, skip_undefined=question.skip_undefined)]
        pd.DataFrame(rows).to_parquet(folder / "metrics.parquet", index=False)
        facts = {
            "entry": asdict(entry) | {"options": dict(entry.options)},
            "label": entry.label,
            "question": asdict(question),
            "n_labelled_test": _labelled_test(upstream, question),
            "tables": sorted(t.origin.slug for t in tables),
            **about,
        }
        return Built(rows=len(rows), facts=facts)

    output = workspace.publish(key, build, access=strictest(o.access for o in upstream.values()), **inputs)
    shutil.rmtree(run_folder, ignore_errors=True)
    return output


def _labelled_test(upstream: Mapping[str, Output], question: Question) -> int:
    """Test records that the task labels, whether their signals are there or not."""
    from models.external.truth import read_truth

    raw, labels = upstream[str(Key(("raw", question.dataset)))], upstream[str(Key(("labels", question.dataset), question.task))]
    truth = read_truth(raw.path("records.parquet"), labels.path("labels.parquet"))
    return len(truth.of_folds(question.home.split.test))


def _code_version(entry: Entry) -> str:
    spec: MethodSpec = get_spec(entry.method)
    return f"{CODE_VERSION}.{spec.version}"
