"""The part of a method's configuration that the training code reads. Every method's configuration extends it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from models.errors import ConfigurationError
from models.types import LEADS

WEIGHTS_TOLERANCE = 1e-6
"""By how much the weights of a mixture may miss 1."""


def weights_option(config: Any) -> str | None:
    """The option by which a configuration names local weights of a text or picture network; None where it names none."""
    return next((option for option in ("text_weights", "picture_weights") if getattr(config, option, None)), None)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and on what a method trains.

    Attributes:
        recipe: partition of the cleaned store.
        n_samples: T, samples of a record; the network is built for this length.
        channels: channels that the network reads, by name and in this order; the store may hold others too.
        batch_size: records of one optimiser step, summed over all devices.
        accumulate: parts into which a step's records are cut to save memory; contrastive methods still compare all of them.
        mixture: datasets to train on together, each with its weight: "ptb_xl 0.05", "cinc2021/georgia 0.0375" (a site of one);
            empty trains on the dataset of the partition alone. Records are drawn with replacement: dataset by weight, then record.
        distinct_patients: no patient twice in a batch; a pass then takes one record of every patient.
        max_steps: optimiser steps of pretraining; 0 delivers the untrained network.
        epochs: passes over the training records; where both are given, the smaller number of steps counts.
        min_words: records whose report has fewer words are left out (methods that read text only); 0 keeps those without any.
        validate_every: steps between two measurements of the validation loss; 0 for none.
        patience: validations without improvement before training stops, and the best weights are delivered; None runs to
            the end and delivers the last.
        checkpoint_every: steps between two checkpoints of the training state.
        log_every: steps between two rows of metrics.jsonl.
        finetune_steps: optimiser steps when the whole network is trained on labels.
        finetune_batch_size: records of one such step.
        finetune_lr: peak learning rate of these steps.
    """

    recipe: str = "native"
    n_samples: int = 1000
    channels: tuple[str, ...] = LEADS
    batch_size: int = 64
    accumulate: int = 1
    mixture: tuple[str, ...] = ()
    distinct_patients: bool = False
    max_steps: int | None = None
    epochs: int | None = None
    min_words: int = 1
    validate_every: int = 100
    patience: int | None = None
    checkpoint_every: int = 200
    log_every: int = 20
    finetune_steps: int = 600
    finetune_batch_size: int = 32
    finetune_lr: float = 3e-3

    def mixture_weights(self) -> dict[str, float]:
        """Weights of the members of the mixture by name, in their order; nothing where there is none.

        Raises:
            ConfigurationError: an entry is no name with a weight above 0, a name stands twice, or the weights do not sum to 1.
        """
        found: dict[str, float] = {}
        for entry in self.mixture:
            name, _, text = entry.strip().rpartition(" ")
            try:
                weight = float(text)
            except ValueError:
                weight = math.nan
            if not name or not 0 < weight <= 1:
                raise ConfigurationError(f"mixture entry {entry!r} is no name and weight between 0 and 1, such as 'ptb_xl 0.05'")
            if name.strip() in found:
                raise ConfigurationError(f"the mixture names {name.strip()!r} twice; give it one weight")
            found[name.strip()] = weight
        if found and abs(sum(found.values()) - 1) > WEIGHTS_TOLERANCE:
            raise ConfigurationError(
                f"the weights of the mixture sum to {sum(found.values()):g}, not to 1; change {', '.join(self.mixture)}"
            )
        return found

    def total_steps(self, n_records: int) -> int:
        """Optimiser steps of pretraining on so many records.

        Raises:
            ConfigurationError: neither `max_steps` nor `epochs` says when to stop.
        """
        limits = []
        if self.max_steps is not None:
            limits.append(self.max_steps)
        if self.epochs is not None:
            limits.append(self.epochs * max(1, n_records // self.batch_size))
        if not limits:
            raise ConfigurationError("neither max_steps nor epochs is set, so training would never end; set one of them")
        return min(limits)
