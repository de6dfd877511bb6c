"""An encoder that somebody else wrote, in words and numbers. Not among the methods that are listed: it has no recipe of its own."""

from __future__ import annotations

from dataclasses import dataclass

from models.config import TrainingConfig
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class ExternalConfig(TrainingConfig):
    """Which class to take, and how it is fine-tuned where it is.

    Attributes:
        encoder: "package.module:Class"; see `models.external.method` for what the class must be.
        untrained: whether it is the untrained twin (`Class.random_init()`) that is built.
    """

    encoder: str = ""
    untrained: bool = False
    max_steps: int | None = 0


SPEC = MethodSpec(
    name="external",
    title="External",
    version="1",
    paper=Paper(title="not stated", venue="not stated", url=""),
    modalities=(Modality.ECG,),
    config=ExternalConfig,
    presets={"tiny": ExternalConfig()},
    protocols=("linear_probe", "attentive_probe", "finetune", "finetune_after_probe"),
    tasks=(),
    gate=GateRule(task="super", protocol="linear_probe", fraction=1.0),
    summary="An encoder, features or scores that were brought from elsewhere.",
)
