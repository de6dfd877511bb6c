"""Symile in words and numbers: paper, configuration, presets. Imports nothing heavy.

No published rows: of the printed accuracies none has been read from its table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from models.config import TrainingConfig
from models.encoders.picture_shapes import PictureBackbone
from models.encoders.shapes import BackboneName
from models.recipes import ImageRecipe
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class SymileConfig(TrainingConfig):
    """Hyperparameters of Symile.

    Attributes:
        modalities: what is tied together, two or more of "ecg", "image", "labs", "ppg" and "text"; "ecg" is always one.
        ppg_channels: which of `channels` are the pulse wave; the others are the ECG.
        pairing: rule by which a dataset's modalities are tied; "auto" takes the one of the dataset, "none" one store.
        image_recipe: partition of the image store.
        image_size: height and width of its pictures.
        n_labs: P, items of the lab panel.
        report_form: partition of the reports.
        width: D, width of the shared space.
        normalise: vectors of unit length, or as the last LayerNorm leaves them (the published Symile-MIMIC).
        objective: Symile's loss, or the sum of pairwise InfoNCE losses that it is held against.
        negatives: how tuples are formed that are told from the true one; of "symile" only.
        scale: multiplier of cosines at the start, 1 / temperature; it is brought to the number of modalities and the width.
        maximum_scale: upper bound of the learned multiplier of scores; None for none.
        ecg_backbone: residual network that reads the ECG as a picture of one channel, time by leads.
        image_backbone: residual network of the X-ray.
        ppg_backbone: residual network over time of the pulse wave.
        labs_hidden: widths of the lab MLP before the map into the shared space.
        text_vocabulary: largest vocabulary the text encoder learns.
        text_width: its hidden width.
        text_layers: its layers; all of them are trained.
        text_heads: its attention heads.
        text_max_tokens: reports are cut to this length.
        text_dropout: its dropout.
        lr: constant learning rate of AdamW.
        weight_decay: of AdamW; the scale has none.
    """

    modalities: tuple[str, ...] = ("ecg", "image", "labs")
    ppg_channels: tuple[str, ...] = ()
    pairing: str = "auto"
    image_recipe: str = "grey_64"
    image_size: int = 64
    n_labs: int = 50
    report_form: Literal["original", "english"] = "english"
    width: int = 32
    normalise: Literal["l2", "none"] = "l2"
    objective: Literal["symile", "pairwise"] = "symile"
    negatives: Literal["n", "n_squared"] = "n"
    scale: float = 1 / 0.07
    maximum_scale: float | None = None
    ecg_backbone: PictureBackbone = "resnet_mini"
    image_backbone: PictureBackbone = "bottleneck_mini"
    ppg_backbone: BackboneName = "resnet_mini"
    labs_hidden: tuple[int, ...] = (32, 64)
    text_vocabulary: int = 256
    text_width: int = 32
    text_layers: int = 2
    text_heads: int = 2
    text_max_tokens: int = 64
    text_dropout: float = 0.0
    lr: float = 1e-3
    weight_decay: float = 0.01


_TINY = SymileConfig(batch_size=16, max_steps=1200, epochs=60)

# 10,000 admissions make 156 and 39 steps an epoch. Training runs to its end and delivers the best weights on the way.
_MIMIC = SymileConfig(
    recipe="native_500hz",
    n_samples=5000,
    image_recipe="grey_320",
    image_size=320,
    width=8192,
    normalise="none",
    negatives="n_squared",
    ecg_backbone="resnet18",
    image_backbone="resnet50",
    labs_hidden=(256, 1024),
    batch_size=64,
    epochs=80,
    validate_every=156,
    patience=80,
    checkpoint_every=156,
    lr=1e-4,
)

PRESETS = {
    "tiny": _TINY,
    "tiny_pairwise": replace(_TINY, objective="pairwise"),
    "tiny_ppg": replace(
        _TINY,
        modalities=("ecg", "ppg", "text"),
        channels=("II", "PLETH"),
        ppg_channels=("PLETH",),
        n_samples=1250,
        pairing="none",
    ),
    # The released code has no defaults; these are the working ones. The widths are what others who built it again use.
    "mimic": _MIMIC,
    "mimic_l2": replace(_MIMIC, width=512, normalise="l2", negatives="n", batch_size=256, validate_every=39, checkpoint_every=39),
}

SPEC = MethodSpec(
    name="symile",
    title="Symile",
    version="1",
    paper=Paper(
        title="Contrasting with Symile: Simple Model-Agnostic Representation Learning for Unlimited Modalities",
        venue="NeurIPS 2024",
        url="https://arxiv.org/abs/2411.01053",
    ),
    modalities=(Modality.ECG, Modality.IMAGE, Modality.LABS),
    config=SymileConfig,
    presets=PRESETS,
    protocols=("linear_probe", "retrieval"),
    tasks=("super", "form", "rhythm", "chest", "chexpert"),
    gate=GateRule(task="super", protocol="linear_probe", fraction=1.0),
    label_fractions=(0.01, 0.1, 1.0),
    recipes=(ImageRecipe("grey_64", 64, 64, fit="cover"),),
    alternatives=((Modality.ECG, Modality.PPG, Modality.TEXT),),
    pairings=("synthetic", "symile_mimic", "symile_mimic_published"),
    units=("uV", "1"),
    directions=(
        "ecg+labs->image",
        "ecg->image",
        "labs->image",
        "image+labs->ecg",
        "ecg+image->labs",
        "ecg+text->ppg",
        "ppg+text->ecg",
        "ecg+ppg->text",
    ),
    summary="Contrastive pretraining of whole tuples (ECG, chest X-ray, lab panel), which also learns what no pair of them shows.",
)
