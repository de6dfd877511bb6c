"""Stacked scalograms in words and numbers: paper, configuration, presets, recipes, published results. Imports nothing heavy.

The paper's abstract and opening are all that is known: that signals are median-filtered, cut into seconds, made scalograms, stacked
lead by lead into pictures, and classified into four groups of rhythms by a fine-tuned CNN, a 1-D CNN and a 1-D CNN-LSTM. All numbers
(widths of medians, wavelet, sizes of pictures, which CNNs, how they are trained) are our design.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from models.config import TrainingConfig
from models.encoders.shapes import ScalogramFamily
from models.head_recipes import FINETUNE, HeadRecipe
from models.recipes import MedianBaseline, MedianSmooth, Recipe, Step
from models.spec import GateRule, MethodSpec, Paper, Published
from models.types import Modality

ROWS = ("cnn1d", "cnn_lstm", "cnn_lstm_record")
"""Families that read the rows of a picture as signals; the others see the picture."""


@dataclass(frozen=True, kw_only=True)
class ScalogramConfig(TrainingConfig):
    """Hyperparameters; there is no pretraining, so the encoder is delivered after 0 steps.

    Attributes:
        family: network. "cnn_lstm_record" reads the seconds of a recording in a row; all others judge each second by itself, and a
            recording has the mean of its seconds' probabilities.
        fs_hz: sampling rate of the recipe.
        window: samples of a picture.
        n_frequencies: rows of a scalogram before it is resized, geometric from `high_hz` down to `low_hz`.
        high_hz: the highest frequency, in row 0.
        low_hz: the lowest.
        rows: of a lead's block in the picture.
        width: columns of the picture.
        height: rows of the picture; those that leads do not fill are zeros.
        scope: "window" transforms each second apart; "record" the whole recording and then cuts it, for frequencies below 4 Hz.
        scaling: one "constant" from the training pictures, or each picture from its minimum to its maximum ("per_image").
        colours: of pictures for 2-D networks: "grey" three times, or a fixed map to red, green and blue ("jet").
        picture_weights: name of local weights of the network for pictures (safetensors, torchvision's names); None for random ones.
        widths: channels of the convolutions over time.
        kernels: their lengths.
        hidden: width of the layer, or of the LSTM's state, after them.
        dropout: of what the last layer reads, in families that read rows.
        shift: by how many samples training pictures may begin late; with scope "window" only.
        balance: whether rare classes count more, n / (C n_k).
        looks: at the validation recordings in the course of training: one an epoch. Training stops after five without a better one.
    """

    recipe: str = "scalogram_100hz"
    family: ScalogramFamily = "residual_mini"
    fs_hz: float = 100.0
    window: int = 100
    n_frequencies: int = 16
    high_hz: float = 40.0
    low_hz: float = 4.0
    rows: int = 4
    width: int = 48
    height: int = 48
    scope: Literal["window", "record"] = "window"
    scaling: Literal["constant", "per_image"] = "constant"
    colours: Literal["grey", "jet"] = "grey"
    picture_weights: str | None = None
    widths: tuple[int, ...] = (16, 24, 32)
    kernels: tuple[int, ...] = (5, 3, 3)
    hidden: int = 16
    dropout: float = 0.5
    shift: int = 0
    balance: bool = False
    looks: int = 15
    max_steps: int | None = 0
    finetune_steps: int = 600
    finetune_batch_size: int = 64
    finetune_lr: float = 3e-3


def head_recipes(config: ScalogramConfig) -> dict[str, HeadRecipe]:
    """How the network is trained: single pictures of many recordings, or whole recordings where one is transformed or read at once.

    Pictures: AdamW, a cosine after an epoch of warm-up. Rows: Adam, halved on a plateau. Chosen by macro F1 on validation recordings.
    `finetune_batch_size` counts pictures, or recordings where one is read as a whole.
    """
    every = max(1, config.finetune_steps // config.looks)
    by_record = config.family == "cnn_lstm_record"
    whole = config.scope == "record" or by_record
    per_recording = config.n_samples // config.window if whole and not by_record else 1
    recipe = HeadRecipe(
        steps=config.finetune_steps,
        batch_size=max(1, config.finetune_batch_size // per_recording),
        lr=config.finetune_lr,
        clip=None,
        look_every=every,
        patience=5 * every,
        select="macro_f1",
        twin="frozen",
        balance=config.balance,
        aggregate="mean_probability",
        crop=None if whole else config.window,
        stride=None if whole else config.window,
        shift=None if whole else config.shift,
        schedule="cosine",
        final_lr=0.0,
        warmup=every,
        weight_decay=1e-4,
    )
    if config.family in ROWS:
        recipe = replace(recipe, optimizer="adam", weight_decay=0.0, schedule="plateau", final_lr=None, warmup=0, plateau=3)
    return {FINETUNE: recipe}


_FULL: dict[str, Any] = {
    "recipe": "scalogram_500hz", "n_samples": 5000, "fs_hz": 500.0, "window": 500, "n_frequencies": 64, "high_hz": 100.0,
    "rows": 18, "width": 224, "height": 224,
}  # fmt: skip
# Fifteen passes over the ten pictures of 36,000 recordings of SPH are 84,375 steps of 64, forty are 112,500 of 128.
_PICTURES: dict[str, Any] = {**_FULL, "finetune_steps": 84_375, "finetune_lr": 1e-4, "picture_weights": "imagenet"}
_ROWS: dict[str, Any] = {
    **_FULL, "widths": (64, 128, 256), "kernels": (7, 5, 3), "hidden": 128, "looks": 40, "finetune_steps": 112_500,
    "finetune_batch_size": 128, "finetune_lr": 1e-3,
}  # fmt: skip

_SOURCE = "Aarotale and Rattani, CinC 2023, abstract: of pictures or of recordings, and by which split, is not known"


def _recipe(name: str, fs_hz: float, smooth: bool = False) -> Recipe:
    steps: tuple[Step, ...] = (MedianBaseline(0.2, 0.6, edges="replicate"), *((MedianSmooth(5),) if smooth else ()))
    return Recipe(name, fs_hz=fs_hz, steps=steps, flat="refuse")


SPEC = MethodSpec(
    name="scalogram",
    title="Stacked scalograms",
    version="1",
    paper=Paper(
        title="Deep Learning Models for Arrhythmia Classification Using Stacked Time-frequency Scalogram Images from ECG Signals",
        venue="CinC 2023",
        url="https://doi.org/10.22489/CinC.2023.350",
    ),
    modalities=(Modality.ECG,),
    config=ScalogramConfig,
    presets={
        "tiny": ScalogramConfig(),
        "tiny_cnn1d": replace(ScalogramConfig(), family="cnn1d"),
        "tiny_lstm": replace(ScalogramConfig(), family="cnn_lstm"),
        "tiny_lstm_record": replace(ScalogramConfig(), family="cnn_lstm_record", finetune_batch_size=16),
        "tiny_record": replace(ScalogramConfig(), scope="record", low_hz=1.0),
        "resnet50": ScalogramConfig(**_PICTURES, family="resnet50"),
        "densenet121": ScalogramConfig(**_PICTURES, family="densenet121"),
        "mobilenet_v3_large": ScalogramConfig(**_PICTURES, family="mobilenet_v3_large"),
        "efficientnet_b0": ScalogramConfig(**_PICTURES, family="efficientnet_b0"),
        "cnn1d": ScalogramConfig(**_ROWS, family="cnn1d"),
        "cnn_lstm": ScalogramConfig(**_ROWS, family="cnn_lstm"),
        "cnn_lstm_record": ScalogramConfig(**_ROWS, family="cnn_lstm_record"),
    },
    protocols=(FINETUNE,),
    tasks=("rhythm4",),
    gate=GateRule(task="rhythm4", protocol=FINETUNE, fraction=1.0),
    recipes=(
        _recipe("scalogram_100hz", 100.0),
        _recipe("scalogram_500hz", 500.0),
        _recipe("scalogram_500hz_smooth", 500.0, smooth=True),
    ),
    published=(
        Published("fine-tuned CNN, about", "sph/rhythm4", "finetune_unknown_split", 0.98, _SOURCE, fraction=1.0, metric="accuracy"),
        Published("CNN-LSTM", "sph/rhythm4", "finetune_unknown_split", 0.95, _SOURCE, fraction=1.0, metric="accuracy"),
    ),
    heads=head_recipes,
    splits=("records",),
    summary="Every second of a recording as a picture of wavelet scalograms, a block of rows a lead, seen by a 2-D or a 1-D network.",
)
