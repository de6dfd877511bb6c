"""Simulated chest pictures that show what their findings say, for imitations of datasets: shapes, not anatomy.

A frontal picture is a bright body with two dark lungs and a bright heart; a lateral one has a single lung behind the
heart. A finding changes the picture where the disease would: a large heart, fluid at a lung's base, haze over both lungs.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

_BODY, _LUNG, _HEART, _METAL = 150.0, 45.0, 190.0, 250.0


def simulate_chest(
    findings: Collection[str], rng: Generator, height: int = 64, width: int = 56, *, lateral: bool = False
) -> NDArray[np.uint8]:
    """Draw a picture, different for each state of `rng`.

    Args:
        findings: names of `assets.chexpert_labels.FINDINGS`; those without a shape of their own change nothing.
        rng: source of build, exposure and noise.
        height: rows, in pixels.
        width: columns.
        lateral: the view from the side.

    Returns:
        8-bit grey, shape (height, width).
    """
    down, right = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    build = rng.uniform(0.9, 1.1)
    image = np.full((height, width), 8.0)
    image[_ellipse(down, right, 0.55, 0.5, 0.55, 0.46 * build)] = _BODY
    centres = (0.45,) if lateral else (0.28, 0.72)
    lungs = np.zeros((height, width), bool)
    for centre in centres:
        lungs |= _ellipse(down, right, 0.48, centre, 0.34, 0.16 * build)
    image[lungs] = _LUNG
    _change_lungs(image, lungs, down, right, frozenset(findings), rng)
    heart = 0.20 if "Cardiomegaly" in findings else 0.11
    image[_ellipse(down, right, 0.62, 0.56, 0.17, heart)] = _HEART
    if "Enlarged Cardiomediastinum" in findings:
        image[(np.abs(right - 0.5) < 0.12) & (down < 0.55) & (down > 0.15)] = _HEART
    if "Support Devices" in findings:
        image[np.abs(right - 0.3 - 0.35 * down) < 0.02] = _METAL
    image = image * rng.uniform(0.9, 1.05) + rng.normal(0, 3, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _change_lungs(
    image: NDArray[np.float64],
    lungs: NDArray[np.bool_],
    down: NDArray[np.float64],
    right: NDArray[np.float64],
    findings: frozenset[str],
    rng: Generator,
) -> None:
    side = 0.28 if rng.random() < 0.5 else 0.72
    if "Edema" in findings:
        image[lungs] += 45
    if findings & {"Pneumonia", "Consolidation", "Lung Opacity"}:
        image[lungs & _ellipse(down, right, 0.45, side, 0.10, 0.09)] += 70
    if "Lung Lesion" in findings:
        image[lungs & _ellipse(down, right, 0.30, side, 0.03, 0.03)] += 120
    if "Atelectasis" in findings:
        image[lungs & (np.abs(down - 0.62) < 0.02)] += 90
    if "Pneumothorax" in findings:
        image[lungs & (down < 0.30) & (np.abs(right - side) < 0.2)] -= 35
    if "Pleural Effusion" in findings:
        image[lungs & (down > 0.68) & (np.abs(right - side) < 0.2)] = _BODY


def _ellipse(
    down: NDArray[np.float64], right: NDArray[np.float64], y: float, x: float, half_height: float, half_width: float
) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = ((down - y) / half_height) ** 2 + ((right - x) / half_width) ** 2 <= 1
    return inside
