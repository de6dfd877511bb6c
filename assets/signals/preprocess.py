"""Runs the steps of a recipe on a batch of recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assets.signals import filters
from assets.signals.resample import resample
from models.recipes import BandPass, Notch, Recipe, Resample, Step


def preprocess(signal_BLT: NDArray[np.float32], kinds: Sequence[str], fs_hz: float, recipe: Recipe) -> NDArray[np.float32]:
    """Do what a recipe asks for, step after step.

    Args:
        signal_BLT: finite samples, shape (recordings, channels, samples), all at one rate.
        kinds: of each channel (`Channel.kind`); steps that name kinds leave other channels alone.
        fs_hz: their rate.
        recipe: its rate decides what `Resample` does.

    Returns:
        float32 of shape (recordings, channels, samples at the recipe's rate); the input itself where nothing is to do.
    """
    for step in recipe.all_steps:
        if isinstance(step, Resample):
            to_hz = recipe.fs_hz or fs_hz
            signal_BLT, fs_hz = resample(signal_BLT, fs_hz, to_hz, step.method), to_hz
        else:
            signal_BLT = _apply(step, signal_BLT, kinds, fs_hz)
    return signal_BLT


def _apply(step: Step, signal_BLT: NDArray[np.float32], kinds: Sequence[str], fs_hz: float) -> NDArray[np.float32]:
    if isinstance(step, Notch):
        return filters.notch(signal_BLT, fs_hz, step.hum_hz)
    assert isinstance(step, BandPass)
    return filters.bandpass(signal_BLT, fs_hz, step.low_hz, step.high_hz)
