"""The WESAD transformers in words and numbers. Imports nothing heavy.

The paper's text was not to be had beyond abstract and summary. Window, normalisation, split, sizes and recipe are this house's; published is
that raw signals went into patch transformers of one signal each, in three classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from models.config import TrainingConfig
from models.errors import ConfigurationError
from models.head_recipes import FINETUNE, HeadRecipe
from models.recipes import Recipe
from models.spec import GateRule, MethodSpec, Paper, Published
from models.types import Modality

CHEST = ("ECG", "EDA", "EMG", "RESP", "TEMP", "ACC")
"""The six signals, each one channel; ACC is the length of the acceleration."""


@dataclass(frozen=True, kw_only=True)
class WesadConfig(TrainingConfig):
    """Hyperparameters of the networks; there is no pretraining, so the encoder is delivered after 0 steps.

    Attributes:
        channels: the one signal that the network reads; an axis of the accelerometer is one too.
        patch: samples of a patch.
        width: of the tokens, and of the embedding.
        depth: blocks.
        heads: of attention.
        hidden: width of the hidden layer of a block.
        dropout: in the blocks.
        positions: a learned table, or fixed sines and cosines.
        pool: whether the embedding is the class token or the mean of all others.
        normalisation: "train_zscore" takes the mean of the training windows and divides by their deviation; "per_window" does so window
            by window, which takes the level out of skin conductance and temperature.
        finetune_epochs: passes over the training windows.
        matrix_signals: the signals of the cross-modality matrix.
        matrix_splits: named splits that it is made by; the first is the headline.
        matrix_seeds: numbers that are added to the seed; the matrix is the mean over them.
        matrix_head_only: whether the last layer is refitted on training windows of the other signal too.
        subject_statistics: mean and deviation are those of a subject's own windows, the test subject's among them. Of the matrix alone,
            and named in its results.
    """

    channels: tuple[str, ...] = ("ECG",)
    recipe: str = "native"
    n_samples: int = 7000
    patch: int = 100
    width: int = 128
    depth: int = 4
    heads: int = 8
    hidden: int = 256
    dropout: float = 0.1
    positions: Literal["learned", "sinusoidal"] = "learned"
    pool: Literal["class_token", "mean"] = "class_token"
    normalisation: Literal["train_zscore", "per_window"] = "train_zscore"
    max_steps: int | None = 0
    finetune_epochs: int = 60
    finetune_batch_size: int = 64
    finetune_lr: float = 3e-4
    matrix_signals: tuple[str, ...] = CHEST
    matrix_splits: tuple[str, ...] = ("loso", "random_window")
    matrix_seeds: tuple[int, ...] = (0, 1, 2)
    matrix_head_only: bool = False
    subject_statistics: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigurationError where the network would read several signals, or normalisations exclude each other."""
        if len(self.channels) != 1:
            raise ConfigurationError(
                f"channels are {', '.join(self.channels) or 'none'}; a WESAD transformer reads one signal, such as ECG"
            )
        if self.subject_statistics and self.normalisation == "per_window":
            raise ConfigurationError("a window is normalised by itself or by its subject; choose train_zscore, or subject_statistics false")


def head_recipes(config: WesadConfig) -> Mapping[str, HeadRecipe]:
    """AdamW, three epochs of warm-up, a cosine; the epoch with the best macro F1 of the validation windows, ten without a better one end it."""
    recipe = HeadRecipe(
        epochs=config.finetune_epochs, batch_size=config.finetune_batch_size, lr=config.finetune_lr, schedule="cosine", final_lr=0.0,
        warmup=3, weight_decay=1e-2, clip=1.0, look_every=1, patience=10, in_passes=("warmup", "look_every", "patience"),
        select="macro_f1", balance=True, twin="frozen",
    )  # fmt: skip
    return {FINETUNE: recipe}


_SUMMARY_SOURCE = "Oliver and Dakshit 2025 (arXiv), summary; split not stated"
_HONEST = "open re-evaluation of WESAD (2026), leave one subject out"

SPEC = MethodSpec(
    name="wesad",
    title="WESAD transformers",
    version="1",
    paper=Paper(
        title="Cross-Modality Investigation on WESAD Stress Classification", venue="arXiv 2025", url="https://arxiv.org/abs/2502.18733"
    ),
    modalities=(Modality.WEARABLE,),
    config=WesadConfig,
    presets={
        "tiny": WesadConfig(
            recipe="wearable_70hz",
            n_samples=700,
            patch=50,
            width=32,
            depth=2,
            heads=4,
            hidden=64,
            finetune_epochs=15,
            finetune_batch_size=24,
            finetune_lr=3e-3,
            matrix_seeds=(0,),
            matrix_head_only=True,
        ),
        "paper": WesadConfig(),
        "paper_70hz": WesadConfig(recipe="wearable_70hz", n_samples=700, patch=10),
    },
    protocols=(FINETUNE, "cross_modality"),
    tasks=("affect3", "stress2"),
    gate=GateRule(task="affect3", protocol=FINETUNE, fraction=1.0),
    published=(
        Published(
            "WESAD transformers, lowest of six signals",
            "wesad/affect3",
            "finetune_unknown_split",
            0.9973,
            _SUMMARY_SOURCE,
            metric="accuracy",
        ),
        Published(
            "WESAD transformers, highest of six signals",
            "wesad/affect3",
            "finetune_unknown_split",
            0.9995,
            _SUMMARY_SOURCE,
            metric="accuracy",
        ),
        Published("1D CNN on raw windows", "wesad/affect3", "finetune_loso", 0.626, _HONEST, metric="accuracy"),
        Published("random forest on chest features", "wesad/affect3", "finetune_loso", 0.637, _HONEST, metric="accuracy"),
        Published("logistic regression on chest features", "wesad/affect3", "finetune_loso", 0.670, _HONEST, metric="accuracy"),
        Published("majority class", "wesad/affect3", "finetune_loso", 0.545, _HONEST, metric="accuracy"),
        Published(
            "hand-made features of all sensors", "wesad/affect3", "finetune_loso", 0.8034, "Schmidt et al., ICMI 2018", metric="accuracy"
        ),
    ),
    summary="A transformer over patches for each chest signal, told apart by subject; each is then shown the other signals unchanged.",
    recipes=(Recipe("wearable_70hz", fs_hz=70.0, window_s=10.0),),
    heads=head_recipes,
)
