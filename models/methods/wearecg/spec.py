"""WearECG in words and numbers: paper, configuration, presets. Imports nothing heavy.

The numbers of the paper's result tables are not repeated here, since they could not be read; reconstructions stand beside linear
regression from the kept leads and beside a zero output instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from models.config import TrainingConfig
from models.reconstruction_tables import DOWNSTREAM, PROTOCOL, RECONSTRUCTED
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class WearEcgConfig(TrainingConfig):
    """Hyperparameters of WearECG, and of the classifier that its reconstructions are judged with.

    Attributes:
        kept: leads that the network sees; the others are zeros for it, whatever a record holds in them.
        widths: channels at full, half and quarter length.
        groups: of the group norms.
        latent: channels of the latent, which has an eighth of the length.
        attention_norm: whether attention normalises its input; the released network creates the norm and does not use it.
        kl_weight: of the divergence of the latent from a normal distribution.
        lr: peak learning rate of the one cycle.
        warmup: share of the steps in which it rises.
        weight_decay: of AdamW, on everything.
        classifier: size of the network that is fine-tuned on real and on reconstructed leads: ECGFounder's, or a tiny one.
        classifier_weights: name of its local weights in the settings, a safetensors file; "" starts from random ones.
        finetune_epochs: passes over the training records when it is fine-tuned.
        fid_input: what features for the Fréchet distance are taken from: signals prepared as ECGFounder asks for, or raw millivolts
            as in the released script.
    """

    kept: tuple[str, ...] = ("II", "V1", "V5")
    widths: tuple[int, int, int] = (8, 16, 32)
    groups: int = 4
    latent: int = 4
    attention_norm: bool = False
    kl_weight: float = 1e-4
    lr: float = 5e-3
    warmup: float = 0.2
    weight_decay: float = 0.01
    classifier: Literal["tiny", "ecg_founder"] = "tiny"
    classifier_weights: str = ""
    finetune_epochs: int = 3
    fid_input: Literal["prepared", "raw"] = "prepared"


_TINY = WearEcgConfig(batch_size=8, max_steps=200, validate_every=50, patience=200, finetune_batch_size=16, finetune_lr=1e-2)

# The released run: AdamW in one cycle of ten passes. The best validation error on the missing leads is kept, not the last step.
_PAPER = WearEcgConfig(
    recipe="native_500hz",
    n_samples=5000,
    widths=(128, 256, 512),
    groups=32,
    lr=5e-5,
    batch_size=16,
    epochs=10,
    validate_every=1000,
    patience=10_000,
    checkpoint_every=1000,
    log_every=50,
    classifier="ecg_founder",
    finetune_epochs=5,
    finetune_batch_size=256,
    finetune_lr=1e-4,
)

SPEC = MethodSpec(
    name="wearecg",
    title="WearECG",
    version="1",
    paper=Paper(
        title="Reconstructing 12-Lead ECG from 3-Lead ECG using Variational Autoencoder to Improve Cardiac Disease Detection of Wearable ECG Devices",
        venue="PLOS Digital Health 2026",
        url="https://arxiv.org/abs/2510.11442",
    ),
    modalities=(Modality.ECG,),
    config=WearEcgConfig,
    presets={
        "tiny": _TINY,
        # As tiny as the tiny one, but with the time to learn the real leads of a few thousand records.
        "tiny_long": replace(_TINY, max_steps=2500, validate_every=250),
        "paper": _PAPER,
        "paper_64": replace(_PAPER, latent=64, kl_weight=1e-6),
    },
    protocols=("linear_probe", PROTOCOL, *DOWNSTREAM),
    tasks=("super", "all"),
    # What reconstructions are for: that a classifier of real leads finds in them what it finds in the twelve.
    gate=GateRule(task="super", protocol=RECONSTRUCTED, fraction=1.0),
    summary="Twelve leads from II, V1 and V5, the three of a wearable: a variational autoencoder that never sees the other nine.",
)
