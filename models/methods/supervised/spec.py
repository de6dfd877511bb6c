"""The supervised baseline in words and numbers. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from models.config import TrainingConfig
from models.encoders.shapes import BackboneName
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(TrainingConfig):
    """Hyperparameters of the baseline; it has no pretraining, so its encoder is delivered after 0 steps.

    Attributes:
        backbone: ECG encoder, the same choice as for the pretrained methods.
    """

    backbone: BackboneName = "resnet_mini"
    max_steps: int | None = 0


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
        "resnet18": SupervisedConfig(
            recipe="native_500hz", n_samples=5000, backbone="resnet18", finetune_steps=6000, finetune_batch_size=128
        ),
    },
    protocols=("finetune",),
    tasks=("super", "sub", "form", "rhythm"),
    gate=GateRule(task="super", protocol="finetune", fraction=1.0),
    baseline=True,
    label_fractions=(0.01, 0.1, 1.0),
    summary="The backbone of the pretrained methods trained on labels alone: what pretraining has to beat.",
)
