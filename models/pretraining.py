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

from models.acceleration import allow_tf32, choose_precision, compile_parts, pinned
from models.checkpoint import Provenance, load_encoder, parse_config, weights_sha256, write_bundle
from models.config import TrainingConfig, weights_option
from models.data import StepLoader, TrainingData
from models.embeddings import device_of
from models.errors import ConfigurationError
from models.inputs import open_inputs, per_pass
from models.jobs import PretrainJob
from models.lab_scale import read_pairing_scale
from models.method import Method
from models.mixture import open_mixture
from models.pretraining_loop import Loop, build_callback, build_module
from models.progress import MetricsFile, Progress
from models.registry import create_method, get_spec
from models.signal_scale import spread
from models.throughput import count_parameters, flops_per_record, spell_speed
from models.training_state import LAST, PREVIOUS, checkpoint_io, latest

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
    inputs = open_inputs(job, config)
    mixture = open_mixture(job, config, inputs.store) if config.mixture and inputs.store is not None else None
    train = inputs.training_data(job.train_folds) if mixture is None else mixture.train()
    validation = None
    if train.skipped:
        _log.info("%d records left out for want of a report of %d words or of a second modality", train.skipped, config.min_words)
    if config.validate_every and job.validation_folds:
        validation = inputs.training_data(job.validation_folds) if mixture is None else mixture.validation()
    method = _create(job, config, train)
    if method.needs_scale:
        scale = train.scale()
        method.set_scale(scale if mixture is None else scale.followed_by(inputs.training_data(job.train_folds).scale()))
    method.measure(train.batch(positions) for positions in spread(len(train)))
    steps = config.total_steps(per_pass(train, config))
    origin = Provenance(
        method=job.method,
        preset=job.preset,
        seed=job.seed,
        arm="random_init",
        steps=0,
        records=len(train),
        stage=job.stage,
        fs_hz=0.0 if inputs.store is None else inputs.store.fs_hz,
        **{k: v for k, v in job.card.items() if k in ("dataset", "access", "code_version", "data_versions")},
    )
    labs = read_pairing_scale(job.pairing) if job.pairing is not None and inputs.sources is not None and inputs.sources.panels else None
    if progress.rank == 0 and not (job.output / "random_init").exists():
        write_bundle(job.output / "random_init", method, origin, labs)
    loop = Loop(job, config, method, steps, train, validation, progress, MetricsFile(job.output / "metrics.jsonl"))
    if steps and not _fit(loop):
        return None
    if loop.speed:
        progress.say(f"{loop.step} steps taken, at last with {spell_speed(loop.speed)}")
    if progress.rank == 0:
        write_bundle(job.output / "bundle", method, dataclasses.replace(origin, arm="pretrained", steps=loop.step), labs)
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
    loop.flops = flops_per_record(loop.method, loop.train.batch(loop.order(min(2, loop.batch_size)).positions(0)))
    device = device_of(job.accelerator)
    loop.precision = choose_precision(job.precision, device)
    if device.type == "cuda":
        allow_tf32()
        compile_parts(loop.method.compiled_parts())
    trainer = pl.Trainer(
        accelerator=job.accelerator,
        devices=job.devices,
        num_nodes=job.nodes,
        strategy="ddp" if world > 1 else "auto",
        precision=loop.precision,  # type: ignore[arg-type]
        sync_batchnorm=world > 1 and torch.cuda.is_available(),
        max_steps=loop.total_steps,
        max_epochs=-1,
        accumulate_grad_batches=loop.parts,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[build_callback(loop)],
        plugins=plugins,
        default_root_dir=job.output,
    )
    if loop.batch_size // world % loop.parts:
        raise ConfigurationError(
            f"{loop.batch_size} records on {world} devices cannot be cut into {loop.parts} equal parts; change batch_size or accumulate"
        )
    batches = loop.order(loop.batch_size)
    device = trainer.strategy.root_device
    loop.train = loop.train.on(device)
    loop.validation = None if loop.validation is None else loop.validation.on(device)

    def read(number: int) -> Any:
        step, part = divmod(number, loop.parts)
        share = batches.share(step, trainer.global_rank, trainer.world_size)
        size = len(share) // loop.parts
        return pinned(loop.train.batch(share[part * size : (part + 1) * size]), device)

    loop.loader = StepLoader(read, lambda: trainer.global_step * loop.parts, loop.total_steps * loop.parts)
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
    if job.stage == "encoder":
        return config
    if spec.first_stage is None or spec.first_stage.name != job.stage:
        raise ConfigurationError(f"method {job.method!r} has no stage {job.stage!r}")
    configured: TrainingConfig = spec.first_stage.configure(config)
    return configured


def _create(job: PretrainJob, config: Any, train: TrainingData) -> Method:
    torch.manual_seed(job.seed)
    option = weights_option(config)
    if option is None:
        method = create_method(job.method, config, job.stage)
    else:
        method = create_method(job.method, dataclasses.replace(config, **{option: job.text_weights}), job.stage)
        method.config = config  # the bundle names the weights, not the place where they happened to lie
    method.prepare(train.vocabulary())
    if job.first_stage is not None:
        method.start_from(load_encoder(job.first_stage))
    return method
