"""CSFM in words and numbers: paper, configuration, presets, published results. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from models.config import TrainingConfig
from models.head_recipes import FINETUNE, HeadRecipe, Loss
from models.recipes import BandPass, HighPass, MovingAverage, Recipe, Resample
from models.spec import GateRule, MethodSpec, Paper, Published
from models.types import LEADS, Modality

CHANNELS = (*LEADS, "PLETH")
"""Rows of the network's table of channels; the ECG of a monitor or a wearable counts as lead II."""


@dataclass(frozen=True, kw_only=True)
class CsfmConfig(TrainingConfig):
    """Hyperparameters of CSFM.

    Attributes:
        report_form: partition of the reports that are learned from, where a dataset has any.
        crop: samples that the network reads; training takes them anywhere in a record, `encode` from its middle.
        patch: samples of a token.
        pad_after_norm: leave the zeros behind a short recording out of mean and variance.
        width: of a token.
        depth: blocks of the encoder.
        heads: attention heads of the encoder.
        head_width: width of a head; heads * head_width need not be the width.
        hidden: width inside the encoder's MLP.
        dropout: of the encoder.
        vocabulary: rows of the table of word pieces, the most that are learned from the training reports.
        text_tokens: texts are cut to this length.
        decoder_width: of a token in the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        decoder_head_width: width of one of them.
        decoder_hidden: width inside the decoder's MLP.
        signal_mask: share of the signal tokens that is hidden.
        text_mask: share of a text's tokens that is hidden.
        text_dropout: share of the records whose text is left out.
        all_channels: share of the records of which all channels are read, the others being read by some.
        text_weight: lambda_txt, what a text token counts beside a signal token.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW, on matrices that are no tables of positions or kinds.
        warmup: share of the steps in which the learning rate rises.
        clip: largest norm of the gradient.
        finetune_loss: of multi-label tasks when the whole network is trained.
    """

    channels: tuple[str, ...] = CHANNELS
    report_form: Literal["original", "english"] = "english"
    crop: int = 500
    patch: int = 25
    pad_after_norm: bool = False
    width: int = 32
    depth: int = 2
    heads: int = 2
    head_width: int = 16
    hidden: int = 64
    dropout: float = 0.0
    vocabulary: int = 512
    text_tokens: int = 16
    decoder_width: int = 24
    decoder_depth: int = 1
    decoder_heads: int = 2
    decoder_head_width: int = 12
    decoder_hidden: int = 48
    signal_mask: float = 0.75
    text_mask: float = 0.5
    text_dropout: float = 0.2
    all_channels: float = 0.5
    text_weight: float = 1.0
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 1.0
    finetune_loss: Loss = "bce"


_TINY = CsfmConfig(
    recipe="native_100hz",
    min_words=0,
    batch_size=32,
    max_steps=1000,
    lr=5e-3,
    finetune_steps=300,
    finetune_lr=1e-3,
)

# Sizes of the public code; width of the decoder and learning rate are this platform's, since neither is published.
_PAPER_TINY = CsfmConfig(
    recipe="csfm_250hz",
    n_samples=2500,
    crop=2500,
    min_words=0,
    width=768,
    depth=6,
    heads=8,
    head_width=64,
    hidden=1024,
    dropout=0.1,
    vocabulary=30_522,
    text_tokens=64,
    decoder_width=192,
    decoder_depth=4,
    decoder_heads=8,
    decoder_head_width=64,
    decoder_hidden=768,
    batch_size=1024,
    epochs=100,
    lr=1.5e-4 * 1024 / 256,
    validate_every=1000,
    finetune_steps=20_000,
    finetune_batch_size=16,
    finetune_lr=1e-4,
    finetune_loss="asymmetric",
)
_PAPER_LARGE = replace(_PAPER_TINY, width=1024, depth=16, heads=24, hidden=4096)


def heads(config: CsfmConfig) -> dict[str, HeadRecipe]:
    """Fine-tuning as in the public code: layer-wise decay of the learning rate, a line down to 0.

    The code counts 20 passes and keeps the best by macro F1 at a threshold of 0.5; here steps are counted and the macro AUROC
    of the validation folds chooses.
    """
    steps = config.finetune_steps
    finetune = HeadRecipe(
        steps=steps,
        batch_size=config.finetune_batch_size,
        lr=config.finetune_lr,
        final_lr=0.0,
        schedule="linear",
        warmup=steps // 10,
        weight_decay=0.05,
        clip=None,
        look_every=max(1, steps // 20),
        patience=None,
        loss=config.finetune_loss,
        layer_decay=0.75,
    )
    return {FINETUNE: finetune}


SPEC = MethodSpec(
    name="csfm",
    title="CSFM",
    version="1",
    paper=Paper(
        title="Sensing Cardiac Health Across Scenarios and Devices: A Multi-Modal Foundation Model Pretrained on Heterogeneous Data from 1.7 Million Individuals",
        venue="Nature Machine Intelligence 2026",
        url="https://doi.org/10.1038/s42256-026-01180-5",
    ),
    modalities=(Modality.ECG, Modality.PPG, Modality.TEXT),
    optional=(Modality.ECG, Modality.PPG, Modality.TEXT),
    any_channels=True,
    channel_sets=(LEADS, ("I",), ("II",), ("V1",), ("I", "II", "V2"), ("PLETH",), ("II", "PLETH")),
    units=("uV",),
    config=CsfmConfig,
    presets={
        "tiny": _TINY,
        "paper_tiny": _PAPER_TINY,
        "paper_base": replace(_PAPER_TINY, depth=12, heads=12, hidden=3072),
        "paper_large": _PAPER_LARGE,
        # The size that the paper's 343 million parameters fit; in the code depth and heads look swapped.
        "paper_large_24x16": replace(_PAPER_LARGE, depth=24, heads=16),
    },
    recipes=(
        Recipe(
            "csfm_250hz",
            fs_hz=250.0,
            steps=(
                Resample("fourier"),
                HighPass(0.5, order=5, kinds=("ECG",)),
                MovingAverage(50.0, kinds=("ECG",)),
                BandPass(0.5, 8.0, order=3, kinds=("PPG",)),
            ),
            window_s=10.0,
            short="pad",
            absent="zero",
        ),
    ),
    protocols=("linear_probe", "finetune", "question_answering"),
    tasks=("super", "form", "rhythm", "age", "sex", "bmi", "heart_rate", "respiration", "spo2", "mortality", "vitals", "perfusion"),
    gate=GateRule(task="super", protocol="linear_probe", fraction=1.0),
    published=(
        Published(
            "CSFM",
            "code15/mortality",
            "finetune",
            0.844,
            "quoted second-hand from Nature Machine Intelligence 8(2), 2026; split, size and protocol are not known",
        ),
    ),
    heads=heads,
    summary="Masked pretraining on any set of ECG leads, pulse wave and report; one encoder for twelve leads, one lead or a pulse wave.",
)
