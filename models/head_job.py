"""The job that trains the heads of one task, on an encoder and on its random-initialised twin.

A task is about recordings or about images; the protocol "fused" reads an image together with the ECG that a pairing ties to it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import load_encoder, parse_config, read_config, weights_sha256
from models.data import AnyStore, IntArray, Labelled, labelled_records
from models.embeddings import device_of, pooled_features, shared_features
from models.errors import ConfigurationError, TrainingError
from models.finetune import Parts, Trained, train_head
from models.fused import FusedRecipe, scores, train_fused, write_fused
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, LINEAR, HeadRecipe, recipe_of
from models.heads import EpochReport, choose_label_ids, train_probes, write_probe
from models.image_store import open_image_store
from models.inputs import open_as_read
from models.jobs import HeadJob, Job
from models.paired import nearest_ecgs
from models.predictions import Origin, Predictions, write_predictions
from models.progress import Progress
from models.registry import get_spec
from models.regression import SELECTION as RIDGE
from models.regression import train_ridges
from models.store import Store, open_store
from models.training_state import write_durably
from models.types import Modality

ARMS = ("pretrained", "random_init")
GRADIENT = (ATTENTIVE, FINETUNE, FINETUNE_AFTER)
"""Protocols of heads trained by gradient descent, by the recipes of the method's spec."""

FUSED, FUSED_IMAGE_ONLY = "fused", "fused_image_only"
"""Protocols of the tables of a fused head: with the ECGs that there are, and with none."""

PROTOCOLS = (LINEAR, *GRADIENT, FUSED)

_PROBE_SELECTION = "Adam 1e-3, L2 1e-4, batch 16, 100 epochs, x 0.1 after 40; features standardised on the training records; epoch by validation macro AUROC"
_PROBE_SELECTIONS = {"multilabel": _PROBE_SELECTION, "single_label": f"{_PROBE_SELECTION}; cross-entropy", "regression": RIDGE}


@dataclass(frozen=True)
class _Work:
    """A head job with its data at hand; positions refer to `data`.

    Attributes:
        trained: weights by protocol, arm and fraction that other protocols may start from.
    """

    job: HeadJob
    data: Labelled
    progress: Progress
    train_N: IntArray
    validation_N: IntArray
    judged_N: IntArray
    history: list[dict[str, Any]] = field(default_factory=list)
    trained: dict[tuple[str, str, float], Trained] = field(default_factory=dict)

    @property
    def bundles(self) -> dict[str, Path]:
        """The encoder of each arm that there is."""
        twin = {} if self.job.random_init is None else {"random_init": self.job.random_init}
        return {"pretrained": self.job.bundle, **twin}

    def subset(self, fraction: float, chosen: dict[str, list[str]]) -> IntArray:
        """Positions of the training records of a fraction; what was chosen is noted."""
        ids = self.data.column("record_id")
        picked = choose_label_ids(ids[self.train_N].tolist(), fraction)
        chosen[f"{fraction:g}"] = picked
        place = {record: i for i, record in enumerate(ids.tolist())}
        return np.array(sorted(place[record] for record in picked), dtype=np.int64)

    def about_task(self, origin: Origin, train_N: IntArray) -> Origin:
        """An origin that says of which kind the task is; of numbers also their unit and the mean that training has seen."""
        if self.data.kind != "regression":
            return replace(origin, kind=self.data.kind)
        reference = float(self.data.labels_NC[train_N].mean(dtype=np.float64))
        return replace(origin, kind=self.data.kind, unit=self.job.unit, reference=reference)

    def note(self, slug: str, reports: Iterable[EpochReport], chosen: int) -> None:
        """Keep a training history; a validation value that is undefined becomes null."""
        for r in reports:
            value = None if np.isnan(r.validation) else round(r.validation, 6)
            self.history.append(
                {"table": slug, "epoch": r.epoch, "loss": round(r.loss, 6), "validation": value, "chosen": r.epoch == chosen}
            )


def train_heads(job: HeadJob, progress: Progress) -> dict[str, Any]:
    """Train every protocol at every fraction of labels and write prediction tables of validation and test folds.

    Raises:
        ConfigurationError: unknown protocol or modality, a fraction outside (0, 1], or a fused head without a pairing.
        TrainingError: a fold group is empty, or labels do not fit.
        CheckpointError: an encoder bundle cannot be trusted.
    """
    started = time.perf_counter()
    unknown = sorted(set(job.protocols) - set(PROTOCOLS))
    if unknown or any(not 0 < f <= 1 for f in job.fractions):
        raise ConfigurationError(
            f"head job: protocols {', '.join(unknown) or '-'} are unknown, or a fraction of {job.fractions} is not in (0, 1]"
        )
    data = labelled_records(_open(job), job.labels, job.task_kind)
    groups = {
        name: data.of_folds(folds)
        for name, folds in (("train", job.train_folds), ("validation", job.validation_folds), ("test", job.test_folds))
    }
    empty = [name for name, positions in groups.items() if not len(positions)]
    if empty:
        raise TrainingError(f"task {job.task!r} has no record in the {' and '.join(empty)} folds; check folds and labels")
    judged_N = np.sort(np.concatenate([groups["validation"], groups["test"]]))
    work = _Work(job, data, progress, groups["train"], groups["validation"], judged_N)
    chosen: dict[str, list[str]] = {}
    tables = []
    if LINEAR in job.protocols:
        tables += _probe_all(work, chosen)
    for protocol in (p for p in GRADIENT if p in job.protocols):
        tables += _train_all(work, protocol, chosen)
    if FUSED in job.protocols:
        tables += _fuse_all(work, chosen)
    (job.output / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in work.history))
    (job.output / "label_ids.json").write_text(json.dumps(chosen, indent=1))
    return {
        "tables": tables,
        "classes": len(data.classes),
        "records": len(data.rows_N),
        "timing": {"seconds": round(time.perf_counter() - started, 1)},
    }


def _probe_all(work: _Work, chosen: dict[str, list[str]]) -> list[str]:
    """Linear probes over all channels, and over each set of channels that the store holds."""
    tables = _probe(work, work.data.store, chosen)
    if work.job.channel_sets and isinstance(work.data.store, Store):
        leads, stored = [c.name for c in work.data.store.channels], open_store(work.job.store)
        held = [c.name for c in stored.channels if c.name in leads]
        for channels in work.job.channel_sets:
            if set(channels) < set(held):
                shown = stored.select(channels).select(leads, fill=True)
                tables += _probe(work, shown, chosen, tuple(channels))
    return tables


def _probe(work: _Work, store: AnyStore, chosen: dict[str, list[str]], channels: tuple[str, ...] = ()) -> list[str]:
    """Linear probes on what the encoders make of a store; `channels` are those that it shows, where it does not show all."""
    job, data, device = work.job, work.data, device_of(work.job.accelerator)
    features = [pooled_features(load_encoder(b), b, store, job.embeddings, device, channels) for b in work.bundles.values()]
    features_ANF = np.stack(features)[:, data.rows_N]
    selection, tables = _PROBE_SELECTIONS[data.kind], []
    for fraction in job.fractions:
        train_N = work.subset(fraction, chosen)
        if data.kind == "regression":
            trained = train_ridges(features_ANF, data.labels_NC, train_N, work.validation_N, data.classes)
        else:
            exclusive = data.kind == "single_label"
            trained = train_probes(features_ANF, data.labels_NC, train_N, work.validation_N, job.seed, exclusive=exclusive)
        for arm, values_NF, (probe, reports) in zip(work.bundles, features_ANF, trained, strict=True):
            origin = make_origin(job, job.task, LINEAR, arm, work.bundles[arm], selection, fraction=fraction)
            origin = replace(work.about_task(origin, train_N), channels="+".join(channels) or None)
            save_table(job, data, work.judged_N, probe.scores(values_NF[work.judged_N]), origin)
            write_probe(job.output / "heads" / f"{origin.slug}.safetensors", probe, data.classes)
            work.note(origin.slug, reports, probe.epoch)
            tables.append(origin.slug)
            _report(work, origin.slug, reports, probe.epoch)
    return tables


def _train_all(work: _Work, protocol: str, chosen: dict[str, list[str]]) -> list[str]:
    """Heads by a recipe of the method's, for each arm and fraction."""
    from safetensors.torch import save

    job, tables = work.job, []
    recipe = recipe_of(_recipes(job), protocol)
    arms = [arm for arm in work.bundles if arm in recipe.arms]
    for arm in arms:
        steps = read_config(work.bundles[arm])["provenance"]["steps"]
        start = f"from {steps} pretraining steps" if steps else "from random weights"
        for fraction in job.fractions:
            train_N = work.subset(fraction, chosen)
            done = _trained(work, protocol, arm, fraction, train_N)
            selection = f"{recipe.of_arm(arm).words(work.data.kind)}; {start}"
            origin = make_origin(job, job.task, protocol, arm, work.bundles[arm], selection, fraction=fraction)
            origin = work.about_task(origin, train_N)
            save_table(job, work.data, work.judged_N, done.scores_NC, origin)
            path = job.output / "heads" / f"{origin.slug}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, save({k: v.contiguous() for k, v in done.state.items()}, {"classes": json.dumps(work.data.classes)}))
            work.note(origin.slug, done.history, done.chosen)
            tables.append(origin.slug)
            _report(work, origin.slug, done.history, done.chosen)
    return tables


def _recipes(job: HeadJob) -> dict[str, HeadRecipe]:
    """How the heads of a stored encoder are trained."""
    stored = read_config(job.bundle)
    spec = get_spec(stored["method"])
    return spec.head_recipes(parse_config(spec.config, stored["config"]))


def _trained(work: _Work, protocol: str, arm: str, fraction: float, train_N: IntArray) -> Trained:
    """A head, and the one that it starts from before it; each is trained once."""
    key = (protocol, arm, fraction)
    if key not in work.trained:
        recipe, job = recipe_of(_recipes(work.job), protocol).of_arm(arm), work.job
        start = _trained(work, recipe.start, arm, fraction, train_N).state if recipe.start else None
        parts, device = Parts(train_N, work.validation_N, work.judged_N), device_of(job.accelerator)
        work.trained[key] = train_head(load_encoder(work.bundles[arm]), recipe, work.data, parts, job.seed, device, start)
    return work.trained[key]


def _fuse_all(work: _Work, chosen: dict[str, list[str]]) -> list[str]:
    job, data, device = work.job, work.data, device_of(work.job.accelerator)
    if job.pairing is None or job.signals is None or job.modality != Modality.IMAGE:
        raise ConfigurationError("a fused head reads images with their ECGs: the job must name an image store, a pairing and signals")
    signals = _signals(job, job.signals)
    ecg_N = nearest_ecgs(job.pairing, data.column("record_id").tolist(), signals)
    has_ecg_N, nothing_N = ecg_N >= 0, np.zeros(len(ecg_N), bool)
    recipe = FusedRecipe()
    selection = (
        f"AdamW {recipe.lr:g}, batch {recipe.batch_size}, {recipe.epochs} epochs, ECG withheld from {recipe.ecg_absent:.0%} of training records; "
        f"epoch by validation macro AUROC; {int(has_ecg_N[work.judged_N].sum())} of {len(work.judged_N)} judged images have an ECG"
    )
    tables = []
    for arm, bundle in work.bundles.items():
        method = load_encoder(bundle)
        image_ND = shared_features(method, bundle, data.store, job.embeddings, device)[data.rows_N]
        ecg_ND = shared_features(method, bundle, signals, job.embeddings, device)[ecg_N]  # rows without an ECG are not read
        for fraction in job.fractions:
            train_N = work.subset(fraction, chosen)
            head, reports = train_fused(image_ND, ecg_ND, has_ecg_N, data.labels_NC, train_N, work.validation_N, job.seed, recipe)
            defined = [r for r in reports if not np.isnan(r.validation)]
            epoch = max(defined, key=lambda r: r.validation).epoch if defined else reports[-1].epoch
            for protocol, seen_N in ((FUSED, has_ecg_N), (FUSED_IMAGE_ONLY, nothing_N)):
                origin = make_origin(job, job.task, protocol, arm, bundle, selection, fraction=fraction)
                judged_NC = scores(head, image_ND[work.judged_N], ecg_ND[work.judged_N], seen_N[work.judged_N])
                save_table(job, data, work.judged_N, judged_NC, origin)
                tables.append(origin.slug)
                if protocol == FUSED:
                    write_fused(job.output / "heads" / f"{origin.slug}.safetensors", head, data.classes)
                    work.note(origin.slug, reports, epoch)
                    _report(work, origin.slug, reports, epoch)
    return tables


def _open(job: HeadJob) -> AnyStore:
    """The store that labels describe."""
    if job.modality not in (Modality.ECG, Modality.IMAGE):
        raise ConfigurationError(f"head job: labels describe {job.modality!r}; choose ecg or image")
    return open_image_store(job.store) if job.modality == Modality.IMAGE else _signals(job, job.store)


def _signals(job: HeadJob, folder: Path) -> Store:
    return open_as_read(folder, job.bundle)


def _report(work: _Work, slug: str, reports: list[EpochReport], chosen: int) -> None:
    best = next((r for r in reports if r.epoch == chosen), None)
    value = None if best is None or np.isnan(best.validation) else round(abs(best.validation), 4)
    name = "validation_mae" if work.data.kind == "regression" else "validation_macro_auroc"
    words = {"validation_mae": "validation error", "validation_macro_auroc": "validation macro AUROC"}[name]
    work.progress.metrics({"table": slug, name: value}, f"{slug}: {words} {'undefined' if value is None else f'{value:.4f}'}")


def make_origin(
    job: Job, task: str, protocol: str, arm: str, bundle: Path, selection: str, fraction: float | None = None, prompts: str | None = None
) -> Origin:
    """Where the scores of a table come from."""
    return Origin(
        dataset=job.dataset,
        task=task,
        method=job.method,
        preset=job.preset,
        protocol=protocol,
        arm=arm,
        seed=job.seed,
        encoder_sha256=weights_sha256(bundle),
        fraction=fraction,
        prompts=prompts,
        selection=selection,
    )


def save_table(
    job: Job, data: Labelled, positions: IntArray, scores_NC: NDArray[np.float32], origin: Origin, columns: list[int] | None = None
) -> None:
    """Write the prediction table of some labelled records; `columns` are the classes that were scored, all by default."""
    columns = list(range(len(data.classes))) if columns is None else columns
    fold_N = np.asarray(data.store.index["fold"])[data.rows_N]
    table = Predictions(
        origin,
        tuple(data.classes[c] for c in columns),
        data.column("record_id")[positions],
        data.column("patient_id")[positions],
        fold_N[positions].astype(np.int64),
        np.ascontiguousarray(scores_NC, dtype=np.float32),
        data.labels_NC[positions][:, columns],
    )
    write_predictions(job.output / "predictions" / f"{origin.slug}.parquet", table)
