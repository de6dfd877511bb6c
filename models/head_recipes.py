"""How heads are trained on labels: one recipe a protocol, said by the method's spec. Imports nothing heavy.

`linear_probe`         frozen encoder, pooled features of the whole record, standardised, one linear layer (for numbers: ridge)
`attentive_probe`      frozen encoder, one learned query that attends to its tokens, one linear layer; not linear
`finetune`             everything is trained
`finetune_after_probe` everything is trained, starting from the attentive probe
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from models.config import TrainingConfig
from models.errors import ConfigurationError

LINEAR, ATTENTIVE, FINETUNE, FINETUNE_AFTER = "linear_probe", "attentive_probe", "finetune", "finetune_after_probe"
FROZEN = (LINEAR, ATTENTIVE)
"""Protocols that leave the encoder as it is: they are run on its random-initialised twin too."""

Select = Literal["macro_auroc", "macro_auprc", "macro_f1"]
_SELECTED = {"macro_auroc": "macro AUROC", "macro_auprc": "macro AUPRC", "macro_f1": "macro F1"}

Loss = Literal["bce", "asymmetric"]
"""Of tasks whose classes do not exclude each other; a single-label task has cross-entropy and numbers have Huber's loss."""


@dataclass(frozen=True, kw_only=True)
class HeadRecipe:
    """One way to train a head by gradient descent. Lengths of time are in samples of the store.

    Attributes:
        frozen: whether the encoder stays as it is.
        readout: "features" puts a linear layer on what `Method.finetune_features` gives; "attentive" pools the tokens by one learned
            query before it.
        heads: of the attentive readout, which the width of the tokens must be a multiple of.
        bias: whether the linear layer on features has one; the attentive readout has none anywhere.
        twin: what is done with the untrained twin of the encoder: "" nothing, "trained" the same, "frozen" only its last layer learns
            (for networks without pretraining, whose twin would be themselves). Frozen recipes always have one.
        start: protocol whose head and encoder training starts from; "" starts from the encoder and a new head.
        steps: optimiser steps.
        epochs: passes over the training records instead of `steps`.
        in_passes: which of `warmup`, `look_every` and `patience` count passes over the training records instead of steps.
        batch_size: records of a step; fewer where there are fewer.
        optimizer: Adam decays no weights.
        eps: of the optimiser.
        lr: peak learning rate.
        final_lr: at the end of "cosine" and "linear".
        schedule: "constant", "cosine" to `final_lr`, "linear" (a line to it), "noam" (falls with the root of the step), each after a
            linear warm-up, "plateau" (halved after more than `plateau` looks without a better one), or "one_cycle" as torch's defaults.
        plateau: looks that do no better before the rate is halved.
        warmup: steps of warm-up.
        first_lr: where warm-up starts.
        weight_decay: of AdamW; on what `Method.decays` says and on the head's matrices.
        betas: of the optimiser.
        dropout: of the encoder while it is fine-tuned; None leaves it as it was built.
        clip: largest norm of the gradient; None for none.
        look_every: steps between two looks at the validation folds.
        patience: steps since the best look after which training stops; None runs to the end.
        keep: the best look at the validation folds, or the last step.
        select: by what a look at classes is judged: macro AUROC, macro AUPRC, or macro F1 (of the likeliest class where classes exclude
            each other, else at a threshold of 0.5). Numbers are judged by their error.
        crop: samples of a crop; None reads whole records. Training takes one random crop of each record it sees.
        stride: samples between the crops that evaluation takes; the scores of a record's crops are aggregated.
        shift: by how many samples training crops may begin later than one of these; None lets them begin anywhere.
        aggregate: "mean" of the crops' logits, class-wise "maximum", or "mean_probability", whose
            logits are stored. Of numbers it is always the mean.
        loss: of multi-label tasks.
        balance: whether rare classes count more: binary cross-entropy weighs positives by (n - n_k) / n_k, at most 20;
            cross-entropy weighs class k of C by n / (C n_k).
        mix: whether a growing share of the training records is mixed with others, multi-label tasks only (`models.mixup`).
        layer_decay: factor of the learning rate from a layer to the one before it; None for one rate.
    """

    frozen: bool = False
    readout: Literal["features", "attentive"] = "features"
    heads: int = 4
    bias: bool = True
    twin: Literal["", "trained", "frozen"] = ""
    start: str = ""
    steps: int = 600
    epochs: int | None = None
    in_passes: tuple[Literal["warmup", "look_every", "patience"], ...] = ()
    batch_size: int = 32
    optimizer: Literal["adamw", "adam"] = "adamw"
    eps: float = 1e-8
    lr: float = 3e-3
    final_lr: float | None = None
    schedule: Literal["constant", "cosine", "linear", "noam", "one_cycle", "plateau"] = "one_cycle"
    plateau: int = 3
    warmup: int = 0
    first_lr: float = 0.0
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    dropout: float | None = None
    clip: float | None = 1.0
    look_every: int = 30
    patience: int | None = 210
    keep: Literal["best", "last"] = "best"
    select: Select = "macro_auroc"
    crop: int | None = None
    stride: int | None = None
    shift: int | None = None
    aggregate: Literal["mean", "maximum", "mean_probability"] = "mean"
    loss: Loss = "bce"
    balance: bool = False
    mix: bool = False
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        """Raises ConfigurationError where options contradict each other."""
        if (self.crop is None) != (self.stride is None):
            raise ConfigurationError("a head recipe has a crop with a stride, or neither")
        if self.crop is not None and self.stride is not None and not 0 < self.stride <= self.crop:
            raise ConfigurationError(f"a stride of {self.stride} samples does not fit crops of {self.crop}; choose 1 to the crop's length")
        if self.shift is not None and (self.stride is None or not 0 <= self.shift <= self.stride):
            raise ConfigurationError(f"a shift of {self.shift} samples does not fit a stride of {self.stride}; choose 0 to the stride")
        if (self.schedule in ("cosine", "linear")) != (self.final_lr is not None):
            raise ConfigurationError(
                f"a head recipe with a {self.schedule} schedule and final_lr {self.final_lr}: cosine and linear need one"
            )
        if self.schedule == "noam" and self.warmup < 1:
            raise ConfigurationError(f"a head recipe with a noam schedule and a warm-up of {self.warmup} steps; choose 1 or more")
        if self.optimizer == "adam" and self.weight_decay:
            raise ConfigurationError(f"a head recipe with Adam and a weight decay of {self.weight_decay:g}; choose adamw, or a decay of 0")
        if self.balance and self.loss == "asymmetric":
            raise ConfigurationError("the asymmetric loss weighs classes by itself; choose balance False, or loss bce")
        if self.keep == "last" and self.patience is not None:
            raise ConfigurationError("a head recipe that keeps the last step has no patience; choose patience None or keep best")
        if self.frozen and (self.dropout is not None or self.layer_decay is not None or self.start):
            raise ConfigurationError("a frozen encoder has no dropout, no rates by layer and no head to start from; choose frozen False")

    def on(self, n_records: int) -> HeadRecipe:
        """The recipe in steps where it counts passes over so many training records; each leaves out its incomplete last batch."""
        per_pass = max(1, n_records // self.batch_size)
        counted = {name: getattr(self, name) * per_pass for name in self.in_passes}
        steps = self.steps if self.epochs is None else self.epochs * per_pass
        return replace(self, steps=steps, epochs=None, in_passes=(), **counted)

    @property
    def arms(self) -> tuple[str, ...]:
        """Of which encoders heads are trained."""
        return ("pretrained", "random_init") if self.frozen or self.twin else ("pretrained",)

    def of_arm(self, arm: str) -> HeadRecipe:
        """The recipe of an arm: that of a twin may leave the network as it is."""
        if arm == "pretrained" or self.twin != "frozen":
            return self
        return replace(self, frozen=True, dropout=None, layer_decay=None)

    def words(self, kind: str = "multilabel") -> str:
        """The recipe in a sentence, for prediction tables of tasks of a kind."""
        parts = [
            f"{'AdamW' if self.optimizer == 'adamw' else 'Adam'} {self.lr:g} {self.schedule.replace('_', '-')}, weight decay {self.weight_decay:g}, batch {self.batch_size}, at most {f'{self.steps} steps' if self.epochs is None else f'{self.epochs} epochs'}",
            "frozen encoder" if self.frozen else "the whole network" if self.layer_decay is None else f"layer decay {self.layer_decay:g}",
        ]
        if self.start:
            parts.append(f"from the {self.start.replace('_', ' ')}")
        if self.readout == "attentive":
            parts.append(f"one learned query of {self.heads} heads, then a linear layer (not a linear probe)")
        if kind == "multilabel" and self.loss != "bce":
            parts.append(f"{self.loss} loss")
        if self.crop is not None:
            parts.append(f"crops of {self.crop} samples, every {self.stride} in evaluation, {self.aggregate} of their scores")
        if self.balance:
            parts.append("rare classes weighted")
        if self.mix:
            parts.append("records mixed")
        chosen = f"by validation {_SELECTED[self.select]}" if kind != "regression" else "by validation error"
        parts.append("last step" if self.keep == "last" else f"step {chosen}{', stopped early' if self.patience is not None else ''}")
        return "; ".join(parts)


def house_recipes(config: TrainingConfig) -> dict[str, HeadRecipe]:
    """The recipes of methods that declare none: whole records, one-cycle, twenty looks at the validation folds."""
    steps = config.finetune_steps
    every = max(1, steps // 20)
    whole = HeadRecipe(steps=steps, batch_size=config.finetune_batch_size, lr=config.finetune_lr, look_every=every, patience=7 * every)
    probe = HeadRecipe(
        frozen=True, readout="attentive", steps=steps, batch_size=config.finetune_batch_size, lr=1e-3, schedule="constant",
        weight_decay=0.1, look_every=every, patience=None,
    )  # fmt: skip
    after = HeadRecipe(
        readout="attentive", start=ATTENTIVE, steps=steps, batch_size=config.finetune_batch_size, lr=config.finetune_lr / 10,
        look_every=every, patience=7 * every,
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
