"""Reconstruction: the job that fills missing leads of validation and test records and says how well, in four ways.

Errors of each missing lead of each record, beside those of the random-initialised twin, of linear regression from the kept leads and of
a zero output; Fréchet distance of the reconstructed test records from the real ones; what a classifier of real twelve leads says of
them; and some reconstructions themselves, to be looked at.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.checkpoint import load_encoder
from models.data import IntArray, Labelled, batch_of, labelled_records
from models.downstream import Finetuning, Founder, Prepared, Read, features_of_signals, finetune, scores_of
from models.embeddings import device_of
from models.errors import ConfigurationError, TrainingError
from models.finetune import Parts
from models.head_job import make_origin, save_table
from models.inputs import open_as_read
from models.jobs import ReconstructionJob
from models.method import Method
from models.metrics.fid import frechet_distance
from models.predictions import Origin, window_name
from models.progress import Progress
from models.reconstruction import IDENTITIES, UV_PER_MV, Errors, LinearLeads, errors_of, fit_linear
from models.reconstruction_tables import (
    ARMS,
    KEPT_LEADS,
    LINEAR_ARM,
    LINEAR_LEADS,
    PROTOCOL,
    REAL,
    RECONSTRUCTED,
    RETRAINED,
    TASK,
    ZERO_ARM,
    Distance,
    Reconstructions,
    write_reconstructions,
)
from models.store import Store

_CHUNK = 32
_REAL, _KEPT = "real", "kept"
_SIZES = ("tiny", "ecg_founder")


@dataclass(frozen=True)
class _Work:
    """A job with its data at hand.

    Attributes:
        kept: names of the leads that are shown.
        sources: what gives twelve leads of a row: the recording, each arm, and the kept leads with zeros elsewhere.
        prepared: the same as the classifier reads them.
    """

    job: ReconstructionJob
    store: Store
    kept: tuple[str, ...]
    sources: dict[str, Read]
    prepared: Prepared
    device: torch.device
    progress: Progress

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the leads that are not shown."""
        return tuple(c.name for c in self.store.channels if c.name not in self.kept)

    @property
    def test_rows(self) -> IntArray:
        """Rows of the test folds."""
        return self.store.rows_of_folds(self.job.test_folds)

    def origin(self, task: str, protocol: str, arm: str, selection: str, fraction: float | None = None) -> Origin:
        """Where a table comes from; baselines carry the encoder that they stand beside."""
        bundle = self.job.random_init if arm == "random_init" else self.job.bundle
        return make_origin(self.job, task, protocol, arm, bundle, selection, fraction=fraction)


def reconstruct_leads(job: ReconstructionJob, progress: Progress) -> dict[str, Any]:
    """Reconstruct validation and test records and write tables of errors, predictions of the classifier, and examples.

    Raises:
        ConfigurationError: the method reconstructs nothing, the classifier's size is unknown, or recordings are not in microvolts.
        TrainingError: a part is empty, or a reconstruction is not finite.
        CheckpointError: a bundle or the classifier's weights cannot be trusted.
    """
    started = time.perf_counter()
    if job.classifier not in _SIZES or job.fid_input not in ("prepared", "raw"):
        raise ConfigurationError(
            f"reconstruction job: classifier {job.classifier!r} and fid_input {job.fid_input!r}: choose one of {', '.join(_SIZES)}, and prepared or raw"
        )
    work = _open(job, progress)
    predictions, founder = _judge_by_classifier(work)
    distances = _distances(work, founder)
    for arm in ARMS:
        _write_errors(work, arm, distances.get(arm))
    _write_examples(work)
    shutil.rmtree(job.output / "prepared", ignore_errors=True)
    return {
        "records": len(work.test_rows),
        "tables": [*(f"{TASK}-{PROTOCOL}-{arm}" for arm in ARMS), *predictions],
        "timing": {"seconds": round(time.perf_counter() - started, 1)},
    }


def _open(job: ReconstructionJob, progress: Progress) -> _Work:
    device = device_of(job.accelerator)
    methods = [load_encoder(bundle).to(device).eval() for bundle in (job.bundle, job.random_init)]
    store, kept = open_as_read(job.store, job.bundle), getattr(methods[0].config, "kept", ())
    if not kept:
        raise ConfigurationError(f"method {job.method!r} keeps no leads to reconstruct others from, so it has no protocol {PROTOCOL}")
    if odd := [c.name for c in store.channels if c.unit != "uV"]:
        raise ConfigurationError(f"channels {', '.join(odd)} of {job.store} are not in microvolts; reconstruction compares millivolts")
    train_N = store.rows_of_folds(job.train_folds)
    places = [i for i, c in enumerate(store.channels) if c.name in kept]
    linear = fit_linear(store.signals, train_N, places)
    progress.say(f"linear regression of leads fitted on {len(train_N)} training records")
    sources: dict[str, Read] = {
        _REAL: store.signals,
        _KEPT: lambda rows: _only(store.signals(rows), places),
        "pretrained": _reconstructed(methods[0], store, device),
        "random_init": _reconstructed(methods[1], store, device),
        LINEAR_ARM: _linear(linear, store),
        ZERO_ARM: lambda rows: np.zeros_like(store.signals(rows)),
    }
    return _Work(job, store, tuple(kept), sources, Prepared(store, job.output / "prepared", sources), device, progress)


def _only(signal_BLT: Any, places: list[int]) -> Any:
    shown_BLT = np.zeros_like(signal_BLT)
    shown_BLT[:, places] = signal_BLT[:, places]
    return shown_BLT


def _linear(linear: LinearLeads, store: Store) -> Read:
    return lambda rows: linear(store.signals(rows))


def _reconstructed(method: Method, store: Store, device: torch.device) -> Read:
    def read(rows_N: IntArray) -> Any:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows_N), _CHUNK):
                rows = rows_N[start : start + _CHUNK]
                parts.append(method.reconstruct(batch_of(store, rows, device)).float().cpu().numpy())
        found_BLT = np.concatenate(parts)
        if (bad_B := ~np.isfinite(found_BLT).all(axis=(1, 2))).any():
            named = ", ".join(str(store.index["record_id"][int(row)]) for row in rows_N[bad_B][:10])
            raise TrainingError(f"reconstructions of {int(bad_B.sum())} records are not finite ({named}); train the encoder again")
        return found_BLT

    return read


def _write_errors(work: _Work, arm: str, distance: Distance | None) -> None:
    """The table of an arm: validation and test records."""
    job, store = work.job, work.store
    leads = [c.name for c in store.channels]
    rows_N = store.rows_of_folds([*job.validation_folds, *job.test_folds])
    parts = []
    for start in range(0, len(rows_N), _CHUNK):
        rows = rows_N[start : start + _CHUNK]
        found_BLT, true_BLT = work.sources[arm](rows) / UV_PER_MV, store.signals(rows) / UV_PER_MV
        parts.append(errors_of(found_BLT, true_BLT, leads, work.missing))
    errors = Errors(*(np.concatenate([getattr(p, name) for p in parts]) for name in Errors.__dataclass_fields__))
    said = {LINEAR_ARM: "least squares from the kept leads of a moment over all training samples", ZERO_ARM: "zero in every lead"}
    origin = work.origin(TASK, PROTOCOL, arm, said.get(arm, f"from {', '.join(work.kept)}; mean of the latent, no sampling"))
    table = Reconstructions(
        origin,
        work.missing,
        tuple(name for name, _ in IDENTITIES),
        _names(store, rows_N),
        [str(store.index["patient_id"][int(row)]) for row in rows_N],
        store.index["fold"].to_numpy()[rows_N].astype(np.int64),
        errors,
        distance,
    )
    write_reconstructions(job.output / "reconstructions" / f"{origin.slug}.parquet", table)
    on_test = np.isin(table.fold_N, job.test_folds)
    mse = round(float(errors.mse_NM[on_test].mean()), 5)
    work.progress.metrics({"arm": arm, "mse": mse}, f"{arm}: {mse} mV^2 on the missing leads of the test records")


def _names(store: Store, rows_N: IntArray) -> list[str]:
    """Records, or windows of recordings where there are several of one."""
    ids, start_N = store.record_ids(), store.index["start"].to_numpy()
    if len(set(ids)) == len(ids):
        return [ids[row] for row in rows_N.tolist()]
    return [window_name(ids[row], start_N[row]) for row in rows_N.tolist()]


def _judge_by_classifier(work: _Work) -> tuple[list[str], Founder]:
    """Prediction tables of the classifier, and itself as fine-tuned on real leads; as it starts where there are no labels."""
    job = work.job
    torch.manual_seed(job.seed)
    founder = Founder(job.classifier, len(work.store.channels), job.classifier_weights)  # type: ignore[arg-type]
    if job.labels is None:
        return [], founder
    data = labelled_records(work.store, job.labels, job.task_kind)
    train_N, validation_N, test_N = (data.of_folds(f) for f in (job.train_folds, job.validation_folds, job.test_folds))
    if not (len(train_N) and len(validation_N) and len(test_N)):
        raise TrainingError(f"task {job.task!r} lacks records in the training, validation or test folds; check folds and labels")
    parts = Parts(train_N, validation_N, np.sort(np.concatenate([validation_N, test_N])))
    how = Finetuning(job.epochs, job.batch_size, job.lr)
    words = f"{founder.title}; {how.recipe.words(job.task_kind)}"
    tables: list[str] = []

    def shown(source: str, positions_N: IntArray) -> Labelled:
        return replace(data, store=work.prepared.store(source, data.rows_N[positions_N]))

    def save(protocol: str, scores_NC: Any, selection: str, arm: str = "pretrained") -> None:
        origin = replace(work.origin(job.task, protocol, arm, selection, fraction=1.0), kind=data.kind)
        save_table(job, data, parts.judged_N, scores_NC, origin)
        tables.append(origin.slug)
        work.progress.say(f"classifier: {origin.slug} done")

    everyone_N = np.concatenate([train_N, parts.judged_N])
    real = finetune(founder, shown(_REAL, everyone_N), parts, how, job.seed, work.device)
    founder.title = f"{founder.title}, fine-tuned on real leads of {job.dataset}/{job.task}"
    founder.sha256 = founder.hash()
    save(REAL, real.scores_NC, f"{words}; real leads in training and test")
    for protocol, source, arm in (
        (RECONSTRUCTED, "pretrained", "pretrained"),
        (RECONSTRUCTED, "random_init", "random_init"),
        (KEPT_LEADS, _KEPT, "pretrained"),
        (LINEAR_LEADS, LINEAR_ARM, "pretrained"),
    ):
        scores_NC = scores_of(founder, real, shown(source, np.append(parts.judged_N, train_N[:1])), parts, how, job.seed, work.device)
        save(protocol, scores_NC, f"{words}; real leads in training, {source} ones in test", arm)
    torch.manual_seed(job.seed)
    again = Founder(job.classifier, len(work.store.channels), job.classifier_weights)  # type: ignore[arg-type]
    retrained = finetune(again, shown("pretrained", everyone_N), parts, how, job.seed, work.device)
    save(RETRAINED, retrained.scores_NC, f"{words}; reconstructed leads in training and test")
    return tables, founder


def _distances(work: _Work, founder: Founder) -> dict[str, Distance]:
    """Of each arm's test records from the real ones; none where there are fewer than two."""
    rows_N = work.test_rows
    if len(rows_N) < 2:
        return {}
    raw = work.job.fid_input == "raw"

    def features(source: str) -> Any:
        held: Store | Callable[..., Any] = work.prepared.raw(source) if raw else work.prepared.store(source, rows_N)
        return features_of_signals(founder, held, rows_N, work.device)

    real_NF = features(_REAL)
    about = (len(rows_N), real_NF.shape[1], founder.title, founder.sha256, work.job.fid_input)
    return {arm: Distance(frechet_distance(real_NF, features(arm)), *about) for arm in ARMS}


def _write_examples(work: _Work) -> None:
    """Reconstructions of some test records, the first by a hash of their names, as int16 microvolts."""
    rows_N = work.test_rows
    names = dict(zip(rows_N.tolist(), _names(work.store, rows_N), strict=True))
    chosen = sorted(names, key=lambda row: hashlib.sha256(names[row].encode()).digest())[: work.job.limit]
    if not chosen:
        raise TrainingError("no test record to reconstruct; check the folds")
    folder = work.job.output / "reconstructed"
    folder.mkdir(parents=True, exist_ok=True)
    signal_NLT = work.sources["pretrained"](np.array(chosen, np.int64))
    np.save(folder / "signals.npy", np.rint(signal_NLT).clip(-32768, 32767).astype(np.int16))
    patients = [str(work.store.index["patient_id"][row]) for row in chosen]
    pq.write_table(pa.table({"record_id": [names[row] for row in chosen], "patient_id": patients}), folder / "records.parquet")
