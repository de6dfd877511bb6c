"""What a pretraining job reads: opens its stores and tables, holds them against the configuration, gives the data of folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import read_config
from models.config import TrainingConfig
from models.data import BatchOrder, TrainingData, records_with_reports
from models.errors import ConfigurationError
from models.image_store import ImageStore, open_image_store
from models.jobs import DataJob
from models.registry import get_spec
from models.samples import Panels, Sources, read_panels, read_samples, texts_by_id
from models.store import Store, open_store
from models.texts import texts_of_folds
from models.types import Modality


@dataclass(frozen=True)
class Inputs:
    """Open stores and tables of a job; None for what it does not read.

    Attributes:
        store: signals, the configured channels chosen.
        sources: what samples of a pairing point into.
    """

    config: TrainingConfig
    store: Store | None
    reports: Path | None
    pairing: Path | None
    sources: Sources | None

    def training_data(self, folds: Sequence[int]) -> TrainingData:
        """The records or samples of some folds.

        Raises:
            TrainingError: none is usable, or a table cannot be read.
        """
        if self.pairing is not None and self.sources is not None:
            return read_samples(self.pairing, folds, self.sources)
        if self.store is None:
            assert self.reports is not None, "a job without signals has reports"
            return texts_of_folds(self.reports, folds, self.config.min_words)
        return records_with_reports(self.store, folds, self.reports, self.config.min_words)


def open_inputs(job: DataJob, config: TrainingConfig) -> Inputs:
    """Open what a job names.

    Raises:
        ConfigurationError: something that the configuration reads is not named, or does not fit it.
        StoreError: a store cannot be opened.
    """
    spec = get_spec(job.method)
    reads = spec.first_stage.modalities if job.stage != "encoder" and spec.first_stage else spec.reads(config)
    if Modality.TEXT in reads and Modality.TEXT not in spec.optional and job.reports is None:
        raise ConfigurationError(f"method {job.method!r} reads reports, but the job names no reports table")
    store = None
    if {Modality.ECG, Modality.PPG, Modality.WEARABLE} & set(reads):
        if job.store is None:
            raise ConfigurationError(f"method {job.method!r} reads signals, but the job names no store")
        store = open_signals(job.store, config, any_channels=spec.any_channels)
    reports = job.reports if Modality.TEXT in reads else None
    if job.pairing is None:
        tied = [m for m in (Modality.IMAGE, Modality.LABS) if m in reads and m not in spec.optional]
        if tied:
            raise ConfigurationError(
                f"method {job.method!r} reads {', '.join(tied)}, but the job names no pairing that ties them to signals"
            )
        return Inputs(config, store, reports, None, None)
    images = _open_images(job, config) if Modality.IMAGE in reads else None
    sources = Sources(
        signals=store,
        images=images,
        panels=_open_panels(job.pairing, config) if Modality.LABS in reads else None,
        texts=texts_by_id(reports),
        image_texts=texts_by_id(job.image_reports) if Modality.TEXT in reads and images is not None else None,
        min_words=config.min_words,
    )
    return Inputs(config, store, reports, job.pairing, sources)


def open_signals(folder: Path, config: TrainingConfig, *, any_channels: bool = False) -> Store:
    """A store of signals, read as the channels that a configuration asks for.

    Args:
        folder: of the store.
        config: what is asked for.
        any_channels: whether the store may lack channels, which are zeros then and absent, as long as it has one.

    Raises:
        ConfigurationError: it lacks a channel, or its records have another length.
        StoreError: it cannot be opened.
    """
    store = open_store(folder)
    names = [c.name for c in store.channels]
    missing = [name for name in config.channels if name not in names]
    if len(missing) == len(config.channels) or (missing and not any_channels):
        wanted = f"one of {', '.join(missing)} is needed" if any_channels else f"{', '.join(missing)} are needed too"
        raise ConfigurationError(f"the store {folder} has channels {', '.join(names)}; {wanted}")
    if store.n_samples != config.n_samples:
        raise ConfigurationError(
            f"records of the store {folder} have {store.n_samples} samples, the configuration says n_samples={config.n_samples}; set one to the other, or choose a recipe of another rate"
        )
    return store.select(config.channels, fill=any_channels)


def open_as_read(folder: Path, bundle: Path) -> Store:
    """A store of signals, read as the channels that a stored encoder reads.

    Raises:
        CheckpointError: the bundle cannot be read.
        StoreError: the store cannot be opened, or lacks a channel that the encoder cannot do without.
    """
    stored = read_config(bundle)
    return open_store(folder).select(stored["input"]["leads"], fill=get_spec(stored["method"]).any_channels)


def _open_images(job: DataJob, config: TrainingConfig) -> ImageStore:
    if job.images is None:
        raise ConfigurationError(f"method {job.method!r} reads images, but the job names no image store")
    images = open_image_store(job.images)
    size = getattr(config, "image_size", None)
    if size is not None and (images.height, images.width) != (size, size):
        raise ConfigurationError(
            f"pictures of {job.images} are {images.height} x {images.width}, the configuration says image_size={size}; set one to the other, or choose another image_recipe"
        )
    return images


def _open_panels(pairing: Path, config: TrainingConfig) -> Panels:
    panels = read_panels(pairing)
    n_labs, width = getattr(config, "n_labs", None), panels.percentiles_NP.shape[1]
    if n_labs is not None and width != n_labs:
        raise ConfigurationError(f"panels of {pairing} have {width} items, the configuration says n_labs={n_labs}; set one to the other")
    return panels


def per_pass(data: TrainingData, config: TrainingConfig) -> int:
    """Records of one pass over the data."""
    return BatchOrder(len(data), 1, 0, data.patients if config.distinct_patients else None).per_pass
