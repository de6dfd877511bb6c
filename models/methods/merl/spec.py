"""MERL in words and numbers: paper, configuration, presets, published results. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from models.config import TrainingConfig
from models.encoders.shapes import BackboneName
from models.methods.merl.published import PUBLISHED, PUBLISHED_PEERS
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class MerlConfig(TrainingConfig):
    """Hyperparameters of MERL.

    Attributes:
        report_form: partition of the reports that are learned from.
        backbone: ECG encoder; ResNets get the attention-pool head, ViTs the projection head.
        projection: D, width of the shared space.
        pool_heads: heads of the attention pool.
        dropout: of the two views of uni-modal alignment.
        temperature: tau, fixed.
        direction_reduction: "sum" of both directions as in MERL's code, or their "mean".
        text_weights: name of local text weights; None takes the offline BERT.
        text_vocabulary: largest vocabulary the offline BERT learns.
        text_width: hidden width of the text encoder.
        text_layers: layers of the offline BERT.
        text_heads: attention heads of the offline BERT.
        text_max_tokens: reports are cut to this length.
        text_dropout: of the offline BERT; active in training although it is frozen, as in MERL's code.
        text_trainable_layers: layers of the text encoder that learn, counted from the top.
        lr: learning rate of AdamW at the start of the schedule.
        weight_decay: of AdamW.
        schedule: one cosine over all steps, or cosines of `restart_steps` with warm restarts.
        restart_steps: T_0 of the warm restarts.
    """

    report_form: Literal["original", "english"] = "english"
    backbone: BackboneName = "resnet_mini"
    projection: int = 32
    pool_heads: int = 4
    dropout: float = 0.1
    temperature: float = 0.07
    direction_reduction: Literal["sum", "mean"] = "sum"
    text_weights: str | None = None
    text_vocabulary: int = 256
    text_width: int = 32
    text_layers: int = 2
    text_heads: int = 2
    text_max_tokens: int = 64
    text_dropout: float = 0.1
    text_trainable_layers: int = 0
    lr: float = 1e-3
    weight_decay: float = 1e-8
    schedule: Literal["cosine", "cosine_restarts"] = "cosine"
    restart_steps: int = 5000


# Chosen on fold 9 of 4,000 PTB-XL records: dropout in a frozen text encoder of width 32 adds as much noise as texts differ.
_TINY = MerlConfig(max_steps=1600, epochs=60, lr=3e-3, text_dropout=0.0)

# The values of the published code: 128 records on each of 8 devices, MedCPT's query encoder as language model.
_REPOSITORY = MerlConfig(
    recipe="native_500hz",
    n_samples=5000,
    min_words=4,
    report_form="original",
    backbone="resnet18",
    projection=256,
    text_weights="medcpt",
    text_width=768,
    text_max_tokens=256,
    batch_size=1024,
    epochs=20,
    lr=1e-3,
    weight_decay=1e-8,
    schedule="cosine_restarts",
    restart_steps=5000,
)

PRESETS = {
    "tiny": _TINY,
    "tiny_vit": replace(_TINY, backbone="vit_mini"),
    "repository": _REPOSITORY,
    # The values of the paper, recalled and not read again: 512 records on each of 8 devices.
    "paper": replace(_REPOSITORY, batch_size=4096, epochs=50, lr=2e-4, weight_decay=1e-5, schedule="cosine"),
}

SPEC = MethodSpec(
    name="merl",
    title="MERL",
    version="1",
    paper=Paper(
        title="Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement",
        venue="ICML 2024",
        url="https://arxiv.org/abs/2403.06659",
    ),
    modalities=(Modality.ECG, Modality.TEXT),
    config=MerlConfig,
    presets=PRESETS,
    protocols=("zero_shot", "linear_probe"),
    tasks=("super", "sub", "form", "rhythm"),
    gate=GateRule(task="super", protocol="linear_probe", fraction=1.0),
    published=PUBLISHED + PUBLISHED_PEERS,
    label_fractions=(0.01, 0.1, 1.0),
    summary="Contrastive pretraining of ECG and report, with two dropout views of the ECG; classifies from text prompts.",
)
