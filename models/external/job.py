"""The jobs that put heads on somebody else's encoder, and on somebody else's features."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import fields, replace
from typing import Any

import numpy as np

from models.errors import ConfigurationError
from models.external.tables import places, read_features
from models.external.truth import read_truth
from models.head_recipes import LINEAR
from models.heads import choose_label_ids, train_probes, write_probe
from models.jobs import ExternalJob, FeaturesJob, HeadJob
from models.predictions import Origin, Predictions, read_predictions, write_predictions
from models.progress import Progress

_BROUGHT = "from the weights that the class brings"


def judge_encoder(job: ExternalJob, progress: Progress) -> dict[str, Any]:
    """Train heads on an external encoder as on any other, with its untrained twin where the class offers one.

    Raises:
        ConfigurationError: the class cannot be imported, or does not keep the contract of `models.external.method`.
        TrainingError: as `models.head_job.train_heads`.
    """
    import torch

    from models.checkpoint import Provenance, parse_config, write_bundle
    from models.external.method import ExternalEncoder, find_class
    from models.external.spec import ExternalConfig
    from models.head_job import train_heads
    from models.store import open_store

    config = parse_config(ExternalConfig, job.config)
    fs_hz = open_store(job.store).channels[0].fs_hz
    arms = {"pretrained": config}
    if hasattr(find_class(config.encoder), "random_init"):
        arms["random_init"] = replace(config, untrained=True)
    for arm, chosen in arms.items():
        torch.manual_seed(job.seed)
        provenance = Provenance("external", job.preset, job.seed, arm, steps=0, records=0, fs_hz=fs_hz)
        write_bundle(job.output / arm, ExternalEncoder(chosen), provenance)
    entries = {f.name: getattr(job, f.name) for f in fields(job) if f.name != "config"}
    twin = job.output / "random_init" if "random_init" in arms else None
    done = train_heads(HeadJob(**entries, bundle=job.output / "pretrained", random_init=twin), progress)
    for path in (job.output / "predictions").glob("*-pretrained-*.parquet"):
        table = read_predictions(path)
        said = table.origin.selection.replace("from random weights", _BROUGHT)
        write_predictions(path, replace(table, origin=replace(table.origin, selection=said)))
    return done


def probe_features(job: FeaturesJob, progress: Progress) -> dict[str, Any]:
    """Train linear probes on features that were computed elsewhere, by the recipe of all linear probes.

    Raises:
        ExternalError: the features are unreadable, or lack records that the task labels.
        ConfigurationError: a fraction is outside (0, 1].
    """
    started = time.perf_counter()
    if any(not 0 < f <= 1 for f in job.fractions):
        raise ConfigurationError(f"features job: a fraction of {job.fractions} is not in (0, 1]")
    truth = read_truth(job.records, job.labels)
    ids, features_NF = read_features(job.features, job.ids)
    groups = {
        name: truth.of_folds(folds)
        for name, folds in (("training", job.train_folds), ("validation", job.validation_folds), ("test", job.test_folds))
    }
    for name, positions in groups.items():
        places(truth, positions, ids, job.features, name)
    every_N = np.sort(np.concatenate(list(groups.values())))
    features_1NF = np.zeros((1, len(truth.record_id), features_NF.shape[1]), np.float32)
    features_1NF[0, every_N] = features_NF[places(truth, every_N, ids, job.features, "benchmark's")]
    judged_N = np.sort(np.concatenate([groups["validation"], groups["test"]]))
    brought = hashlib.sha256(np.ascontiguousarray(features_NF).tobytes()).hexdigest()
    tables, chosen = [], {}
    history: list[dict[str, Any]] = []
    for fraction in job.fractions:
        picked = chosen[f"{fraction:g}"] = choose_label_ids(truth.record_id[groups["training"]].tolist(), fraction)
        train_N = np.flatnonzero(np.isin(truth.record_id, picked))
        exclusive = job.task_kind == "single_label"
        ((probe, reports),) = train_probes(features_1NF, truth.labels_NC, train_N, groups["validation"], job.seed, exclusive=exclusive)
        origin = Origin(
            job.dataset, job.task, job.method, job.preset, LINEAR, "pretrained", job.seed, brought, fraction=fraction,
            selection="features as they were brought, standardised on the training records; epoch by validation macro AUROC", kind=job.task_kind,
        )  # fmt: skip
        scores_NC = probe.scores(features_1NF[0, judged_N])
        rows = (truth.record_id[judged_N], truth.patient_id[judged_N], truth.fold[judged_N])
        write_predictions(
            job.output / "predictions" / f"{origin.slug}.parquet",
            Predictions(origin, truth.classes, *rows, scores_NC, truth.labels_NC[judged_N]),
        )
        write_probe(job.output / "heads" / f"{origin.slug}.safetensors", probe, truth.classes)
        history += [{"table": origin.slug, "epoch": r.epoch, "loss": round(r.loss, 6), "chosen": r.epoch == probe.epoch} for r in reports]
        tables.append(origin.slug)
        progress.say(f"{origin.slug}: epoch {probe.epoch} chosen")
    (job.output / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    (job.output / "label_ids.json").write_text(json.dumps(chosen, indent=1))
    timing = {"seconds": round(time.perf_counter() - started, 1)}
    return {"tables": tables, "classes": len(truth.classes), "records": len(every_N), "timing": timing}
