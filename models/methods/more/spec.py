"""MoRE in words and numbers: paper, configuration, presets. Imports nothing heavy.

No results stand here: the tables of the paper could not be checked against its text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from models.config import TrainingConfig
from models.recipes import ImageRecipe, MedianBaseline, Recipe, Resample
from models.spec import GateRule, MethodSpec, Paper
from models.types import Modality


@dataclass(frozen=True, kw_only=True)
class MoreConfig(TrainingConfig):
    """Hyperparameters of MoRE.

    Attributes:
        report_form: partition of the reports that are learned from.
        pairing: rule that ties X-rays to ECGs; "auto" takes the one for the dataset, "none" learns from ECG and report alone.
        image_recipe: partition of the cleaned images.
        image_size: rows and columns of an image.
        patch: rows and columns of a patch; 224 / 16 gives 196 tokens.
        ecg_channels: channels between the two convolutions of the ECG tokeniser.
        width: of both trunks.
        depth: transformer blocks of a trunk.
        heads: attention heads of a trunk.
        hidden: width inside the MLP of a trunk.
        dropkey: share of keys that a trunk's attention drops in training, in the first layer or in all.
        dropkey_schedule: "linear" falls to 0 in the last layer (the paper's words), "constant" is the code's.
        projection: width of the shared space.
        text_weights: name of local text weights, a RoBERTa; None takes one with random weights and a learned vocabulary.
        text_vocabulary: largest vocabulary that is learned.
        text_width: hidden width of the text encoder.
        text_layers: layers of the random text encoder.
        text_heads: attention heads of the random text encoder.
        text_hidden: width inside the MLP of the random text encoder.
        text_dropout: of the random text encoder.
        text_max_tokens: texts are cut to this length.
        text_pool: mean over tokens, or "mean_all": over padding up to `text_max_tokens` too, as the code does.
        lora_rank: inner width of the adapters.
        lora_alpha: adapters are multiplied by lora_alpha / lora_rank.
        lora_dropout: of the adapters' input.
        temperature: tau at the start.
        learnable_temperature: False keeps tau, as the code does although it calls tau learnable.
        third_term: compare X-ray and ECG too.
        mask_patients: rows of one patient are no negatives of each other; False is as published.
        augment: change images and ECGs at random in training.
        image_flip: mirror images too, which puts the heart on the other side.
        ecg_per_lead: draw warps and shuffles of an ECG for each lead apart, as the code does.
        lr: learning rate of AdamW at the start.
        lr_end: learning rate at the end of a cosine.
        weight_decay: of AdamW; not of the temperature.
        schedule: one cosine over all steps, or one every `restart_epochs`, changed once an epoch.
        restart_epochs: length of a cosine with restarts.
    """

    report_form: Literal["original", "english"] = "english"
    pairing: str = "auto"
    image_recipe: str = "more_32"
    image_size: int = 32
    patch: int = 8
    ecg_channels: int = 16
    width: int = 32
    depth: int = 2
    heads: int = 4
    hidden: int = 128
    dropkey: float = 0.3
    dropkey_schedule: Literal["linear", "constant"] = "linear"
    projection: int = 16
    text_weights: str | None = None
    text_vocabulary: int = 256
    text_width: int = 32
    text_layers: int = 2
    text_heads: int = 4
    text_hidden: int = 64
    text_dropout: float = 0.1
    text_max_tokens: int = 64
    text_pool: Literal["mean", "mean_all"] = "mean"
    lora_rank: int = 4
    lora_alpha: int = 2
    lora_dropout: float = 0.1
    temperature: float = 0.02
    learnable_temperature: bool = True
    third_term: bool = False
    mask_patients: bool = True
    augment: bool = True
    image_flip: bool = True
    ecg_per_lead: bool = False
    lr: float = 2e-3
    lr_end: float = 0.0
    weight_decay: float = 0.1
    schedule: Literal["cosine", "cosine_restarts"] = "cosine"
    restart_epochs: int = 10


# Chosen on 1,411 simulated visits: crops of 32 pixels hide what a report names, so that 600 steps with them stay at chance.
_TINY = MoreConfig(
    batch_size=32,
    max_steps=800,
    epochs=60,
    distinct_patients=True,
    temperature=0.1,
    augment=False,
    ecg_channels=64,
    text_vocabulary=512,
    finetune_steps=100,
)

# ViT-B/16 twice and RoBERTa-base, in the sizes of the published code. Its step sums the gradients of four batches of 100, each
# with negatives of its own; here a step encodes four parts of 100 and compares all 400.
_PAPER = MoreConfig(
    recipe="more_100hz",
    n_samples=1000,
    report_form="original",
    image_recipe="more_224",
    image_size=224,
    patch=16,
    ecg_channels=256,
    width=768,
    depth=12,
    heads=12,
    hidden=3072,
    projection=128,
    text_weights="roberta_pm_m3",
    text_width=768,
    text_max_tokens=512,
    lora_rank=16,
    lora_alpha=8,
    batch_size=400,
    accumulate=4,
    epochs=100,
    lr=3e-5,
    lr_end=3e-6,
    finetune_steps=6000,
    finetune_batch_size=64,
    finetune_lr=3e-5,
    schedule="cosine_restarts",
    validate_every=1000,
    patience=10,
)

SPEC = MethodSpec(
    name="more",
    title="MoRE",
    version="1",
    paper=Paper(
        title="MoRE: Multi-Modal Contrastive Pre-training with Transformers on X-Rays, ECGs, and Diagnostic Report",
        venue="arXiv 2024",
        url="https://arxiv.org/abs/2410.16239",
    ),
    modalities=(Modality.ECG, Modality.TEXT, Modality.IMAGE),
    optional=(Modality.IMAGE,),
    config=MoreConfig,
    presets={
        "tiny": _TINY,
        "paper": _PAPER,
        # What the code does where it departs from the paper or from sense.
        "repository": replace(
            _PAPER,
            dropkey_schedule="constant",
            text_pool="mean_all",
            learnable_temperature=False,
            mask_patients=False,
            ecg_per_lead=True,
            batch_size=100,
            accumulate=1,
        ),
    },
    recipes=(
        Recipe("more_100hz", fs_hz=100.0, steps=(Resample(), MedianBaseline(0.2, 0.6))),
        ImageRecipe("more_224", 224, 224, equalise=True),
        ImageRecipe("more_32", 32, 32, equalise=True),
    ),
    pairings=("synthetic", "more"),
    protocols=("zero_shot", "linear_probe", "finetune", "fused", "retrieval", "explanation"),
    tasks=("super", "sub", "form", "rhythm", "chest", "chexpert"),
    gate=GateRule(task="super", protocol="linear_probe", fraction=1.0),
    directions=("text->ecg", "text->image", "ecg->text", "image->text", "ecg->image", "image->ecg"),
    summary="Contrastive pretraining that ties chest X-ray and ECG to one report; retrieves in all directions and explains on both.",
)
