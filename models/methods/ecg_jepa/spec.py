"""ECG-JEPA in words and numbers: paper, configuration, presets, published results. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from models.config import TrainingConfig
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, HeadRecipe
from models.methods.ecg_jepa.databases import ALL_TEN, WITHOUT_BASELINE
from models.methods.ecg_jepa.published import PUBLISHED
from models.recipes import HighPass, Recipe, Resample
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class EcgJepaConfig(TrainingConfig):
    """Hyperparameters of ECG-JEPA.

    Attributes:
        patch: samples of a patch.
        layout: a patch holds all leads ("fused"), or one lead ("leads").
        width: of the encoder, a multiple of `heads`.
        depth: blocks of the encoder.
        heads: its attention heads.
        predictor_width: of the predictor, a multiple of `predictor_heads`.
        predictor_depth: its blocks.
        predictor_heads: its attention heads.
        registers: learned tokens before the patches; with one, fine-tuning reads it, else the mean of all tokens.
        biases: "none", those of layer norms alone (older published weights), or of everything but query, key and value.
        norm_eps: of the layer norms.
        attention: of the encoder; "cross" lets a token attend to its own lead and its own time.
        positions: added once, or to the input of every block.
        residual: the output maps of blocks start with 0.02 / sqrt(2 depth), or with the block's own number in place of the depth.
        drop_path: rate of the last block of student and predictor; it rises from 0 in the first.
        mask: "blocks" of each record apart, one "union" of four blocks or random "columns" for the whole batch.
        mask_low: least share of the patches: kept ("blocks"), in each block ("union"), hidden ("columns").
        mask_high: largest share.
        min_block: shortest run of hidden patches ("blocks").
        target_norm: targets as they are, or normalised once more over their features.
        loss: absolute difference, or Huber's form of it.
        normalisation: by the constants that are published for a dataset, where there are some; by those measured on the training
            records; or none beyond microvolts to millivolts.
        clip: bound of normalised signals; None for none.
        momentum: of the teacher at the start.
        final_momentum: at the end; it moves in a line.
        lr: peak learning rate.
        first_lr: where warm-up starts.
        final_lr: where the cosine ends.
        warmup: share of the steps.
        weight_decay: at the start; on matrices alone.
        final_weight_decay: at the end of its cosine.
        beta2: of AdamW.
        adam_eps: of AdamW.
    """

    patch: int = 25
    layout: Literal["fused", "leads"] = "fused"
    width: int = 32
    depth: int = 2
    heads: int = 2
    predictor_width: int = 16
    predictor_depth: int = 2
    predictor_heads: int = 2
    registers: int = 1
    biases: Literal["none", "norms", "all"] = "none"
    norm_eps: float = 1e-6
    attention: Literal["full", "cross"] = "full"
    positions: Literal["once", "every_block"] = "once"
    residual: Literal["depth", "layer"] = "depth"
    drop_path: float = 0.0
    mask: Literal["blocks", "union", "columns"] = "blocks"
    mask_low: float = 0.15
    mask_high: float = 0.25
    min_block: int = 10
    target_norm: Literal["none", "features"] = "none"
    loss: Literal["l1", "smooth_l1"] = "l1"
    normalisation: Literal["published", "measured", "millivolts"] = "published"
    clip: float | None = 5.0
    momentum: float = 0.998
    final_momentum: float = 0.9995
    lr: float = 1e-3
    first_lr: float = 1e-6
    final_lr: float = 1e-6
    warmup: float = 0.1
    weight_decay: float = 0.01
    final_weight_decay: float = 0.1
    beta2: float = 0.99
    adam_eps: float = 1e-6


# With batches of 64 a linear probe does better than with the specified 8 in the same time (simulated records, fold 9).
_TINY = EcgJepaConfig(min_block=2, max_steps=1800, normalisation="measured", lr=2e-3, warmup=0.0)

_TINY_KIM = replace(
    _TINY,
    batch_size=16,
    channels=("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"),
    patch=50,
    layout="leads",
    registers=0,
    biases="all",
    norm_eps=1e-5,
    attention="cross",
    positions="every_block",
    residual="layer",
    drop_path=0.1,
    mask="union",
    mask_low=0.175,
    mask_high=0.225,
    target_norm="features",
    loss="smooth_l1",
    normalisation="millivolts",
    clip=None,
    momentum=0.996,
    final_momentum=1.0,
    weight_decay=0.05,
    final_weight_decay=0.05,
    beta2=0.999,
    adam_eps=1e-8,
)

_VIT_S = EcgJepaConfig(
    recipe="jepa_500hz",
    n_samples=5000,
    width=384,
    depth=8,
    heads=6,
    predictor_width=192,
    predictor_depth=8,
    predictor_heads=6,
    batch_size=2048,
    max_steps=100_000,
    finetune_steps=10_000,
    finetune_batch_size=128,
    finetune_lr=1e-3,
    validate_every=1000,
    checkpoint_every=10_000,
    log_every=100,
)
_VIT_XS = replace(_VIT_S, width=192, heads=4, predictor_width=96, predictor_heads=4)
_VIT_B = replace(
    _VIT_S, width=768, depth=12, heads=12, predictor_width=384, predictor_depth=12, predictor_heads=12, batch_size=1024, accumulate=2
)


def _at_100_hz(config: EcgJepaConfig) -> EcgJepaConfig:
    """The same patches of 50 ms at 100 Hz. The published constants are of 500 Hz, so they are measured anew."""
    return replace(config, recipe="native_100hz", n_samples=1000, patch=5, normalisation="measured")


_KIM = replace(
    _TINY_KIM,
    recipe="jepa_250hz",
    n_samples=2500,
    width=768,
    depth=12,
    heads=16,
    predictor_width=384,
    predictor_depth=6,
    predictor_heads=12,
    lr=5.5e-5,
    warmup=0.05,
    batch_size=64,
    max_steps=None,
    epochs=100,
    validate_every=1000,
    checkpoint_every=1000,
    log_every=100,
)

PRESETS = {
    "tiny": _TINY,
    "tiny_kim": _TINY_KIM,
    "vit_xs": _VIT_XS,
    "vit_s": _VIT_S,
    "vit_b": _VIT_B,
    "vit_xs_all": replace(_VIT_XS, mixture=ALL_TEN),
    "vit_s_all": replace(_VIT_S, mixture=ALL_TEN),
    "vit_b_all": replace(_VIT_B, mixture=ALL_TEN),
    "vit_xs_100hz": _at_100_hz(_VIT_XS),
    "vit_s_100hz": _at_100_hz(_VIT_S),
    # Of a size that learns on a processor within an hour or two: patches of 100 ms, 17 passes over PTB-XL.
    "small_100hz": replace(
        _at_100_hz(_VIT_XS),
        patch=10,
        min_block=5,
        width=128,
        depth=6,
        predictor_width=64,
        predictor_depth=4,
        batch_size=64,
        max_steps=4000,
        validate_every=200,
        checkpoint_every=200,
        log_every=20,
        finetune_steps=2000,
    ),
    "kim": _KIM,
    "kim_columns": replace(_KIM, mask="columns", mask_low=0.6, mask_high=0.7, batch_size=128, lr=2.5e-5),
}


def head_recipes(config: EcgJepaConfig) -> Mapping[str, HeadRecipe]:
    """Heads as Weimann and Conrad train them, their steps and rates in proportion to `finetune_steps` (10,000) and `finetune_lr` (1e-3).

    A quarter of a record is seen in training; evaluation averages the logits of quarters that overlap by half. What they call
    linear evaluation is the attentive probe. Kim's presets have the house's recipes.
    """
    if config.layout == "leads":
        return {}
    steps, lr = config.finetune_steps, config.finetune_lr
    crop = config.patch * (config.n_samples // config.patch // 4)
    probe = HeadRecipe(
        frozen=True,
        readout="attentive",
        heads=config.heads,
        steps=steps // 2,
        batch_size=config.finetune_batch_size,
        lr=lr,
        schedule="constant",
        weight_decay=0.1,
        look_every=min(100, max(1, steps // 20)),
        patience=steps // 2,
        crop=crop,
        stride=crop // 2,
    )
    after = replace(
        probe,
        frozen=False,
        start=ATTENTIVE,
        lr=lr / 10,
        final_lr=lr / 1000,
        first_lr=lr / 1000,
        schedule="cosine",
        warmup=steps // 50,
        weight_decay=0.0,
        dropout=0.1,
        patience=steps // 5,
    )
    direct = replace(
        after,
        readout="features",
        bias=False,
        twin="trained",
        start="",
        steps=steps,
        lr=lr,
        final_lr=lr / 100,
        weight_decay=0.01,
        betas=(0.9, 0.99),
        dropout=0.05,
        clip=None,
    )
    return {ATTENTIVE: probe, FINETUNE_AFTER: after, FINETUNE: direct}


SPEC = MethodSpec(
    name="ecg_jepa",
    title="ECG-JEPA",
    version="1",
    paper=Paper(
        title="Self-Supervised Pre-Training with Joint-Embedding Predictive Architecture Boosts ECG Classification Performance",
        venue="Computers in Biology and Medicine 2025",
        url="https://arxiv.org/abs/2410.13867",
    ),
    modalities=(Modality.ECG,),
    config=EcgJepaConfig,
    presets=PRESETS,
    protocols=("linear_probe", "attentive_probe", "finetune"),
    tasks=("all", "diag", "sub", "super", "form", "rhythm"),
    gate=GateRule(task="super", protocol="linear_probe", fraction=1.0),
    recipes=(
        Recipe("jepa_500hz", fs_hz=500.0, steps=(HighPass(0.5, order=4, sources=WITHOUT_BASELINE), Resample("fourier")), window_s=10.0),
        Recipe("jepa_250hz", fs_hz=250.0, steps=(Resample("fourier"),), window_s=10.0),
    ),
    published=PUBLISHED,
    heads=head_recipes,
    summary="Encoder of ECG without labels: what a slowly following teacher says of hidden stretches is predicted from the rest.",
)
