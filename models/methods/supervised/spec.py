"""The supervised baseline in words and numbers. Imports nothing heavy.

Its networks are of two kinds: the backbones of the pretrained methods, and those that the PTB-XL benchmark was made with or that
lead it, trained as the benchmark trains (Strodthoff et al., IEEE JBHI 2020): 100 Hz, random crops of 2.5 s, AdamW in one cycle of 50
epochs, the last epoch kept, class-wise maximum over seven crops in evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from models.config import TrainingConfig
from models.encoders.shapes import BackboneName
from models.errors import ConfigurationError
from models.head_recipes import FINETUNE, HeadRecipe
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(TrainingConfig):
    """Hyperparameters of the baseline; it has no pretraining, so its encoder is delivered after 0 steps.

    Attributes:
        backbone: ECG encoder, the same choice as for the pretrained methods.
        scaling: "unit" takes each record to [0, 1]; "constants" takes one mean from all records and divides by one deviation.
        head: what stands between backbone and last linear layer: nothing ("linear"), or the benchmark's pooling and hidden layer.
        crop: samples of the crops it is trained and judged on, by the benchmark's recipe; None trains on whole records by the house's.
        aggregate: of the scores of a record's crops.
        finetune_epochs: passes over the training records instead of `finetune_steps`; with crops only.
    """

    backbone: BackboneName = "resnet_mini"
    scaling: Literal["unit", "constants"] = "unit"
    head: Literal["linear", "concat_pool"] = "linear"
    crop: int | None = None
    aggregate: Literal["mean", "maximum"] = "maximum"
    finetune_epochs: int | None = None
    max_steps: int | None = 0


def head_recipes(config: SupervisedConfig) -> dict[str, HeadRecipe]:
    """The benchmark's recipe where the configuration has crops. It clips no gradient.

    Raises:
        ConfigurationError: passes are asked for, but no crops.
    """
    if config.crop is None:
        if config.finetune_epochs is not None:
            raise ConfigurationError("finetune_epochs belongs to training on crops; set crop too, or finetune_steps instead")
        return {}
    recipe = HeadRecipe(
        steps=config.finetune_steps, epochs=config.finetune_epochs, batch_size=config.finetune_batch_size, lr=config.finetune_lr,
        weight_decay=1e-2, clip=None, look_every=max(1, config.finetune_steps // 20), patience=None, keep="last",
        crop=config.crop, stride=max(1, config.crop // 2), aggregate=config.aggregate,
    )  # fmt: skip
    return {FINETUNE: recipe}


_CROPS: dict[str, Any] = {"recipe": "native_100hz", "n_samples": 1000, "scaling": "constants", "crop": 250}
_BENCHMARK: dict[str, Any] = {**_CROPS, "finetune_epochs": 50, "finetune_steps": 6800, "finetune_batch_size": 128}
"""Fifty passes over the 17,418 records of the task with all 71 statements are 6,800 steps; looks at validation are spaced for these."""

SPEC = MethodSpec(
    name="supervised",
    title="Supervised from scratch",
    version="1",
    paper=Paper(title="Deep Residual Learning for Image Recognition (backbone)", venue="CVPR 2016", url="https://arxiv.org/abs/1512.03385"),
    modalities=(Modality.ECG,),
    config=SupervisedConfig,
    presets={
        "tiny": SupervisedConfig(),
        "tiny_vit": SupervisedConfig(backbone="vit_mini"),
        "tiny_xresnet": SupervisedConfig(**_CROPS, backbone="xresnet_mini", head="concat_pool", finetune_lr=1e-2),
        "tiny_s4": SupervisedConfig(**_CROPS, backbone="s4_mini", aggregate="mean", finetune_steps=200),
        "resnet18": SupervisedConfig(
            recipe="native_500hz", n_samples=5000, backbone="resnet18", finetune_steps=6000, finetune_batch_size=128
        ),
        "xresnet1d101": SupervisedConfig(**_BENCHMARK, backbone="xresnet1d101", head="concat_pool", finetune_lr=1e-2),
        # Published as S4 for ECGs (arXiv 2211.07579) with the mean of its crops and a learning rate of 1e-3.
        "s4": SupervisedConfig(**_BENCHMARK, backbone="s4", aggregate="mean", finetune_lr=1e-3),
        "cnn": SupervisedConfig(**_BENCHMARK, backbone="cnn", head="concat_pool", finetune_lr=1e-2),
    },
    protocols=("finetune",),
    tasks=("super", "sub", "form", "rhythm"),
    gate=GateRule(task="super", protocol="finetune", fraction=1.0),
    baseline=True,
    label_fractions=(0.01, 0.1, 1.0),
    summary="The backbone of the pretrained methods trained on labels alone: what pretraining has to beat.",
    heads=head_recipes,
)
