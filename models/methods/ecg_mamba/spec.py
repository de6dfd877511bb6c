"""1D CNN ECG Mamba in words and numbers: paper, configuration, presets, published results. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from models.config import TrainingConfig
from models.head_recipes import FINETUNE, HeadRecipe
from models.methods.ecg_mamba.published import PUBLISHED
from models.recipes import Recipe, Resample
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class EcgMambaConfig(TrainingConfig):
    """Hyperparameters of ECG-Mamba; it has no pretraining, so its encoder is delivered after 0 steps.

    Attributes:
        length: samples that the network reads: longer recordings are cut, anywhere in training and from their middle in evaluation,
            shorter ones padded.
        stem_widths: of the two convolutions; the second is the width of the tokens.
        stem_padding: of the second.
        depth: blocks.
        state: states of a channel.
        drop_path: rate of the last block; it rises from 0 in the first.
        dropout: of what a block adds.
        class_token: where it stands among the tokens.
        halve: whether the two directions are averaged rather than added.
        window: the convolution over tokens sees a token and those before it, or those around it.
        finetune_schedule: of the learning rate; "noam" follows from width and warm-up, "cosine" has its peak at `finetune_lr`.
        warmup: its steps of warm-up.
        finetune_epochs: passes over the training records instead of `finetune_steps`.
        look_every: steps between two looks at the validation folds; after five without a better one training stops. With
            `finetune_epochs` there is one look a pass.
        mix: whether a growing share of the training records is mixed with others (`models.mixup`).
        balance: whether the positives of rare classes count more.
    """

    length: int = 1000
    stem_widths: tuple[int, int] = (16, 32)
    stem_padding: int = 7
    depth: int = 2
    state: int = 4
    drop_path: float = 0.1
    dropout: float = 0.0
    class_token: Literal["middle", "end"] = "middle"
    halve: bool = True
    window: Literal["causal", "centred"] = "causal"
    finetune_schedule: Literal["noam", "cosine"] = "noam"
    warmup: int = 80
    finetune_epochs: int | None = None
    look_every: int = 20
    mix: bool = False
    balance: bool = False
    max_steps: int | None = 0


_TINY = EcgMambaConfig(finetune_steps=140)

# What the author's later work changes. Its 17.17 million parameters do not follow from these changes, so there is none of its size.
_V2: dict[str, Any] = {"class_token": "end", "halve": False, "dropout": 0.1, "window": "centred", "finetune_schedule": "cosine"}

_PAPER = EcgMambaConfig(
    recipe="mamba_500hz",
    n_samples=16_384,
    length=8192,
    stem_widths=(128, 384),
    stem_padding=100,
    depth=24,
    state=16,
    warmup=4000,
    finetune_epochs=60,
    finetune_batch_size=30,
    finetune_lr=8e-4,
)

PRESETS = {
    "tiny": _TINY,
    "tiny_v2": replace(_TINY, **_V2, finetune_lr=5e-3, warmup=20),
    "paper": _PAPER,
    "companion": replace(_PAPER, depth=5),
}


def head_recipes(config: EcgMambaConfig) -> dict[str, HeadRecipe]:
    """Adam without weight decay, by Noam's schedule with its peak of 1 / sqrt(width warm-up); the look with the best AUPRC is kept."""
    noam, looks = config.finetune_schedule == "noam", 1 if config.finetune_epochs else config.look_every
    recipe = HeadRecipe(
        twin="frozen",
        steps=config.finetune_steps,
        epochs=config.finetune_epochs,
        batch_size=config.finetune_batch_size,
        optimizer="adam",
        betas=(0.9, 0.98),
        eps=1e-9,
        weight_decay=0.0,
        lr=(config.stem_widths[1] * config.warmup) ** -0.5 if noam else config.finetune_lr,
        final_lr=None if noam else 0.0,
        schedule=config.finetune_schedule,
        warmup=config.warmup,
        clip=1.0,
        look_every=looks,
        patience=5 * looks,
        in_passes=("look_every", "patience") if config.finetune_epochs else (),
        select="macro_auprc",
        balance=config.balance,
        mix=config.mix,
    )
    return {FINETUNE: recipe}


SPEC = MethodSpec(
    name="ecg_mamba",
    title="1D CNN ECG Mamba",
    version="1",
    paper=Paper(
        title="One Dimensional CNN ECG Mamba for Multilabel Abnormality Classification in 12 Lead ECG",
        venue="arXiv 2025",
        url="https://arxiv.org/abs/2510.13046",
    ),
    modalities=(Modality.ECG,),
    config=EcgMambaConfig,
    presets=PRESETS,
    protocols=(FINETUNE,),
    tasks=("dx", "super", "form", "rhythm"),
    gate=GateRule(task="super", protocol=FINETUNE, fraction=1.0),
    recipes=(Recipe("mamba_500hz", fs_hz=500.0, steps=(Resample("polyphase"),), window_s=32.768, short="pad", absent="zero"),),
    published=PUBLISHED,
    heads=head_recipes,
    splits=("patients5",),
    summary="A convolutional stem and bidirectional selective state spaces over its tokens, trained on labels alone.",
)
