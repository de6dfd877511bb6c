"""Prompts for the findings of CheXpert's labeller: "severity subtype location" from short lists, as MoRE asks (more.md, section 6).

The words are Einthoven's own. Of all combinations of a finding, `PER_FINDING` are drawn with a fixed seed, so that the set is the
same everywhere; findings that one does not grade have whole phrases instead.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass

PER_FINDING = 5
_SEED = 0


@dataclass(frozen=True)
class Words:
    """What phrases about a finding are made of; an empty word is left out."""

    severity: tuple[str, ...] = ("",)
    subtype: tuple[str, ...] = ("",)
    location: tuple[str, ...] = ("",)

    def phrases(self) -> list[str]:
        """All combinations, in the order of the lists."""
        combined = itertools.product(self.severity, self.subtype, self.location)
        return [" ".join(word for word in words if word) for words in combined]


_SIDES = ("on the left", "on the right", "on both sides")
_BASES = ("at the left base", "at the right base", "at both bases")
_LOBES = ("in the left lower lobe", "in the right lower lobe", "in the right upper lobe", "in the middle lobe", "in the lingula")

WORDS: Mapping[str, Words] = {
    "Atelectasis": Words(
        ("", "slight", "mild", "increased"),
        ("atelectasis", "linear atelectasis", "plate-like atelectasis", "subsegmental collapse", "basal atelectasis", "volume loss"),
        (*_BASES, "behind the heart", "in the left lower lobe", "in the right middle zone"),
    ),
    "Cardiomegaly": Words(
        ("", "mild", "moderate", "marked", "unchanged"),
        ("cardiomegaly", "enlargement of the heart", "widening of the cardiac silhouette", "left ventricular enlargement"),
    ),
    "Consolidation": Words(
        ("", "patchy", "dense", "new"), ("consolidation", "airspace consolidation", "consolidation with air bronchograms"), _LOBES
    ),
    "Edema": Words(
        ("", "mild", "moderate", "severe", "persistent"),
        ("pulmonary edema", "interstitial edema", "alveolar edema", "vascular congestion with edema"),
    ),
    "Enlarged Cardiomediastinum": Words(
        ("", "mild", "marked"),
        (
            "widening of the mediastinum",
            "enlarged cardiomediastinal contour",
            "broadening of the upper mediastinum",
            "prominence of the aortic contour",
        ),
    ),
    "Fracture": Words(
        ("", "old", "acute", "healing"), ("rib fracture", "clavicle fracture", "fractured ribs"), ("", "on the left", "on the right")
    ),
    "Lung Lesion": Words(("small", "large", "solitary"), ("pulmonary nodule", "lung mass", "cavitary lesion"), (*_LOBES, "near the hilum")),
    "Lung Opacity": Words(
        ("", "faint", "patchy", "diffuse"), ("opacity", "opacification", "hazy opacity", "airspace opacity"), (*_SIDES, *_BASES)
    ),
    "No Finding": Words(
        subtype=(
            "normal chest X-ray",
            "clear lungs and normal heart size",
            "no acute cardiopulmonary process",
            "lungs without consolidation, effusion or pneumothorax",
            "unremarkable heart, mediastinum and bones",
            "no abnormality of the chest",
        )
    ),
    "Pleural Effusion": Words(
        ("", "small", "moderate", "large", "increasing"),
        ("pleural effusion", "layering effusion", "subpulmonic effusion", "blunting of the costophrenic angle"),
        _SIDES,
    ),
    "Pleural Other": Words(("", "mild", "chronic"), ("pleural thickening", "pleural scarring", "calcified pleural plaque"), _SIDES),
    "Pneumonia": Words(("", "early", "extensive"), ("pneumonia", "infectious infiltrate", "bronchopneumonia"), _LOBES),
    "Pneumothorax": Words(
        ("", "tiny", "small", "large"),
        ("pneumothorax", "apical pneumothorax", "basal pneumothorax", "collapse of the lung by pleural air"),
        ("on the left", "on the right"),
    ),
    "Support Devices": Words(
        subtype=(
            "pacemaker with leads in place",
            "central venous catheter",
            "endotracheal tube above the carina",
            "feeding tube below the diaphragm",
            "sternal wires and surgical clips",
            "chest drain in place",
            "implanted defibrillator",
        )
    ),
}
"""By the labeller's name of a finding."""


def chest_prompts() -> dict[str, list[str]]:
    """The prompts of each finding."""
    return {finding: random.Random(f"{_SEED}:{finding}").sample(words.phrases(), PER_FINDING) for finding, words in WORDS.items()}
