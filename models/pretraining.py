"""The job that trains an encoder, by Lightning, so that it can be killed at any step and goes on as if it had not been.

What makes that exact: the batches of a step and the random numbers of a step are functions of (seed, step, process) and
nothing else; weights, optimiser, schedule and early-stopping state are in the checkpoint.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import Provenance, parse_config, weights_sha256, write_bundle
from models.config import TrainingConfig
from models.data import BatchOrder, Records, StepLoader, records_with_reports
from models.errors import ConfigurationError
from models.jobs import PretrainJob
from models.method import Method
from models.pretraining_loop import Loop, build_callback, build_module
from models.progress import MetricsFile, Progress
from models.registry import create_method, get_spec
from models.store import Store, open_store
from models.throughput import count_parameters, flops_per_record
from models.training_state import LAST, PREVIOUS, checkpoint_io, latest
from models.types import LEADS, Modality

_log = logging.getLogger(__name__)


def pretrain(job: PretrainJob, progress: Progress) -> dict[str, Any] | None:
    """Train an encoder and write its bundle and its random-initialised twin's.

    Returns:
        The result, or None if the job was interrupted or ran out of time; its state is saved then.

    Raises:
        ConfigurationError: options that do not fit each other or the store.
        TrainingError: no usable records, or a loss that is not finite.
    """
    started = time.perf_counter()
    config = _config(job)
    store = open_store(job.store)
    _check_store(store, config, job.store)
    train, validation = _records(job, config, store)
    method = _create(job, config, train)
    steps = config.total_steps(len(train))
    origin = Provenance(
        method=job.method,
        preset=job.preset,
        seed=job.seed,
        arm="random_init",
        steps=0,
        records=len(train),
        fs_hz=store.fs_hz,
        **{k: v for k, v in job.card.items() if k in ("dataset", "access", "code_version", "data_versions")},
    )
    if progress.rank == 0 and not (job.output / "random_init").exists():
        write_bundle(job.output / "random_init", method, origin)
    loop = Loop(job, config, method, steps, train, validation, progress, MetricsFile(job.output / "metrics.jsonl"))
    if steps and not _fit(loop):
        return None
    if progress.rank == 0:
        write_bundle(job.output / "bundle", method, dataclasses.replace(origin, arm="pretrained", steps=loop.step))
        return {
            "steps": loop.step,
            "records": len(train),
            "skipped": train.skipped,
            "parameters": count_parameters(method),
            "encoder_sha256": weights_sha256(job.output / "bundle"),
            "final": loop.final,
            "timing": {"seconds": round(time.perf_counter() - started, 1), **loop.speed},
        }
    return {}


def _fit(loop: Loop) -> bool:
    """Train from the last saved state, if any; False if interrupted."""
    import lightning.pytorch as pl
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    job = loop.job
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    world = job.devices * job.nodes
    plugins: list[Any] = [checkpoint_io()]
    if SLURMEnvironment.detect():
        # Requeueing is the launcher's business; a single process must not take the job for a distributed one.
        plugins.append(SLURMEnvironment(auto_requeue=False) if world > 1 else LightningEnvironment())
    resume = latest(job.output)
    loop.progress.say(
        f"pretraining {job.method} for {loop.total_steps} steps on {len(loop.train)} records" + (f", from {resume.name}" if resume else "")
    )
    if torch.cuda.is_available() and job.accelerator != "cpu":
        loop.flops = flops_per_record(loop.method, loop.train.batch(BatchOrder(len(loop.train), min(2, len(loop.train)), 0).positions(0)))
    trainer = pl.Trainer(
        accelerator=job.accelerator,
        devices=job.devices,
        num_nodes=job.nodes,
        strategy="ddp" if world > 1 else "auto",
        precision=job.precision,  # type: ignore[arg-type]
        sync_batchnorm=world > 1 and torch.cuda.is_available(),
        max_steps=loop.total_steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[build_callback(loop)],
        plugins=plugins,
        default_root_dir=job.output,
    )
    batches = BatchOrder(len(loop.train), loop.batch_size, job.seed)

    def read(step: int) -> Any:
        return loop.train.batch(batches.share(step, trainer.global_rank, trainer.world_size))

    loop.loader = StepLoader(read, lambda: trainer.global_step, loop.total_steps)
    trainer.fit(build_module(loop), train_dataloaders=loop.loader, ckpt_path=resume, weights_only=True)
    loop.method.cpu()
    return not loop.interrupted


def remove_states(folder: Path) -> None:
    """Delete the training states of a finished job."""
    import shutil

    for name in (LAST, PREVIOUS):
        shutil.rmtree(folder / name, ignore_errors=True)


def process_rank(job: PretrainJob) -> int:
    """Number of this process among those of a job; 0 for a job of one process, wherever it runs."""
    if job.devices * job.nodes == 1:
        return 0
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0)


def _config(job: PretrainJob) -> TrainingConfig:
    spec = get_spec(job.method)
    if not issubclass(spec.config, TrainingConfig):
        raise ConfigurationError(f"the configuration of {job.method!r} must extend models.config.TrainingConfig to be trained by a job")
    try:
        config: TrainingConfig = parse_config(spec.config, job.config)
    except TypeError as error:
        raise ConfigurationError(f"method {job.method!r}: {error}") from error
    return config


def _check_store(store: Store, config: TrainingConfig, folder: Path) -> None:
    names = [c.name for c in store.channels]
    if names != list(LEADS):
        raise ConfigurationError(f"the store {folder} has channels {', '.join(names)}; 12 leads in the fixed order are needed")
    if store.n_samples != config.n_samples:
        raise ConfigurationError(
            f"records of the store {folder} have {store.n_samples} samples, the configuration says n_samples={config.n_samples}; set one to the other, or choose a recipe of another rate"
        )


def _records(job: PretrainJob, config: TrainingConfig, store: Store) -> tuple[Records, Records | None]:
    reads_text = Modality.TEXT in get_spec(job.method).modalities
    if reads_text and job.reports is None:
        raise ConfigurationError(f"method {job.method!r} reads reports, but the job names no reports table")
    reports = job.reports if reads_text else None
    train = records_with_reports(store, job.train_folds, reports, config.min_words)
    if train.skipped:
        _log.info("%d records left out for want of a report of %d words", train.skipped, config.min_words)
    if not config.validate_every or not job.validation_folds:
        return train, None
    return train, records_with_reports(store, job.validation_folds, reports, config.min_words)


def _create(job: PretrainJob, config: Any, train: Records) -> Method:
    torch.manual_seed(job.seed)
    if getattr(config, "text_weights", None) is None:
        method = create_method(job.method, config)
    else:
        method = create_method(job.method, dataclasses.replace(config, text_weights=job.text_weights))
        method.config = config  # the bundle names the weights, not the place where they happened to lie
    method.prepare(train.texts or [])
    return method
