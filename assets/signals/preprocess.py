"""Runs the steps of a recipe on a batch of recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assets.signals import filters
from assets.signals.baseline import remove_baseline, running_median
from assets.signals.resample import resample
from models.recipes import BandPass, HighPass, MedianBaseline, MedianSmooth, MovingAverage, Notch, Recipe, Resample

_Filter = Notch | BandPass | HighPass | MovingAverage | MedianBaseline | MedianSmooth


def preprocess(
    signal_BLT: NDArray[np.float32], kinds: Sequence[str], fs_hz: float, recipe: Recipe, sources: Sequence[str] = ()
) -> NDArray[np.float32]:
    """Do what a recipe asks for, step after step.

    Args:
        signal_BLT: finite samples, shape (recordings, channels, samples), all at one rate; never written.
        kinds: of each channel (`Channel.kind`); steps that name kinds leave other channels alone.
        fs_hz: their rate.
        recipe: its rate decides what `Resample` does.
        sources: what the recordings come from, by every name that a step may call it: "cinc2021" and "cinc2021/ptb"; steps that
            name others are left out.

    Returns:
        float32 of shape (recordings, channels, samples at the recipe's rate); the input itself where nothing is to do.

    Raises:
        ConfigurationError: a step does not fit the rate.
    """
    for step in recipe.all_steps:
        if isinstance(step, Resample):
            to_hz = recipe.fs_hz or fs_hz
            signal_BLT, fs_hz = resample(signal_BLT, fs_hz, to_hz, step.method), to_hz
            continue
        if step.sources and not set(step.sources) & set(sources):
            continue
        meant = [not step.kinds or kind in step.kinds for kind in kinds]
        if all(meant):
            signal_BLT = _apply(step, signal_BLT, fs_hz)
        elif any(meant):
            done_BLT = signal_BLT.copy()
            done_BLT[:, meant] = _apply(step, signal_BLT[:, meant], fs_hz)
            signal_BLT = done_BLT
    return signal_BLT


def _apply(step: _Filter, signal_BLT: NDArray[np.float32], fs_hz: float) -> NDArray[np.float32]:
    match step:
        case Notch():
            return filters.notch(signal_BLT, fs_hz, step.hum_hz, step.quality)
        case BandPass():
            return filters.bandpass(signal_BLT, fs_hz, step.low_hz, step.high_hz, step.order)
        case HighPass():
            return filters.highpass(signal_BLT, fs_hz, step.cutoff_hz, step.order)
        case MovingAverage():
            return filters.moving_average(signal_BLT, fs_hz, step.hum_hz)
        case MedianBaseline():
            return remove_baseline(signal_BLT, fs_hz, step.first_s, step.second_s, step.edges)
        case MedianSmooth():
            flat_NT = signal_BLT.reshape(-1, signal_BLT.shape[-1])
            return running_median(flat_NT, step.samples, "replicate").reshape(signal_BLT.shape)
