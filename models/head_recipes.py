"""How heads are trained on labels: one recipe a protocol, said by the method's spec. Imports nothing heavy.

`linear_probe`         frozen encoder, pooled features of the whole record, standardised, one linear layer (for numbers: ridge)
`attentive_probe`      frozen encoder, one learned query that attends to its tokens, one linear layer; not linear
`finetune`             everything is trained
`finetune_after_probe` everything is trained, starting from the attentive probe
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from models.config import TrainingConfig
from models.errors import ConfigurationError

LINEAR, ATTENTIVE, FINETUNE, FINETUNE_AFTER = "linear_probe", "attentive_probe", "finetune", "finetune_after_probe"
FROZEN = (LINEAR, ATTENTIVE)
"""Protocols that leave the encoder as it is: they are run on its random-initialised twin too."""

Loss = Literal["bce", "asymmetric"]
"""Of tasks whose classes do not exclude each other; a single-label task has cross-entropy and numbers have Huber's loss."""


@dataclass(frozen=True, kw_only=True)
class HeadRecipe:
    """One way to train a head by gradient descent (AdamW). Lengths of time are in samples of the store.

    Attributes:
        frozen: whether the encoder stays as it is.
        readout: "features" reads what `Method.finetune_features` gives; "attentive" pools the tokens by one learned query.
        start: protocol whose head and encoder training starts from; "" starts from the encoder and a new head.
        steps: optimiser steps.
        batch_size: records of a step; fewer where there are fewer.
        lr: peak learning rate.
        final_lr: at the end; None for a constant rate, where no one-cycle schedule is asked for.
        schedule: "constant", "cosine" (linear warm-up, then cosine to `final_lr`), "linear" (warm-up, then a line to it), or
            "one_cycle" as torch's defaults.
        warmup: steps of warm-up.
        first_lr: where warm-up starts.
        weight_decay: of AdamW; on what `Method.decays` says and on the head's matrices.
        betas: of AdamW.
        dropout: of the encoder while it is fine-tuned; None leaves it as it was built.
        clip: largest norm of the gradient; None for none.
        look_every: steps between two looks at the validation folds.
        patience: steps without improvement before training stops; None runs to the end.
        keep: the look with the best validation macro AUROC, or the last step.
        crop: samples of a crop; None reads whole records. Training takes one random crop of each record it sees.
        stride: samples between the crops that evaluation takes; the scores of a record's crops are aggregated.
        aggregate: "mean" of the crops' logits, or class-wise "maximum".
        loss: of multi-label tasks.
        layer_decay: factor of the learning rate from a layer to the one before it; None for one rate.
    """

    frozen: bool = False
    readout: Literal["features", "attentive"] = "features"
    start: str = ""
    steps: int = 600
    batch_size: int = 32
    lr: float = 3e-3
    final_lr: float | None = None
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "one_cycle"
    warmup: int = 0
    first_lr: float = 0.0
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    dropout: float | None = None
    clip: float | None = 1.0
    look_every: int = 30
    patience: int | None = 180
    keep: Literal["best", "last"] = "best"
    crop: int | None = None
    stride: int | None = None
    aggregate: Literal["mean", "maximum"] = "mean"
    loss: Loss = "bce"
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        """Raises ConfigurationError where options contradict each other."""
        if (self.crop is None) != (self.stride is None):
            raise ConfigurationError("a head recipe has a crop with a stride, or neither")
        if self.crop is not None and self.stride is not None and not 0 < self.stride <= self.crop:
            raise ConfigurationError(f"a stride of {self.stride} samples does not fit crops of {self.crop}; choose 1 to the crop's length")


def house_recipes(config: TrainingConfig) -> dict[str, HeadRecipe]:
    """The recipes of methods that declare none: whole records, one-cycle, twenty looks at the validation folds."""
    steps = config.finetune_steps
    every = max(1, steps // 20)
    whole = HeadRecipe(steps=steps, batch_size=config.finetune_batch_size, lr=config.finetune_lr, look_every=every, patience=6 * every)
    probe = HeadRecipe(
        frozen=True, readout="attentive", steps=steps, batch_size=config.finetune_batch_size, lr=1e-3, schedule="constant",
        weight_decay=0.1, look_every=every, patience=None,
    )  # fmt: skip
    after = HeadRecipe(
        readout="attentive", start=ATTENTIVE, steps=steps, batch_size=config.finetune_batch_size, lr=config.finetune_lr / 10,
        look_every=every, patience=6 * every,
    )  # fmt: skip
    return {FINETUNE: whole, ATTENTIVE: probe, FINETUNE_AFTER: after}


def recipe_of(recipes: Mapping[str, HeadRecipe], protocol: str) -> HeadRecipe:
    """The recipe of a protocol.

    Raises:
        ConfigurationError: there is none.
    """
    if protocol not in recipes:
        raise ConfigurationError(f"there is no recipe for heads by {protocol!r}; there are {', '.join(recipes)}")
    return recipes[protocol]
