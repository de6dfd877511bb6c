"""R peaks of ECGs, from single leads and many, by a detector of our own.

1. Thinning: means of round(fs/125) samples, so everything runs at 90 to 190 Hz.
2. Envelope: magnitude of a Gabor wavelet at 16 Hz, 25 ms wide. A QRS complex of any polarity and shape is one bump; P and T
   waves and drift lie below the band, mains and most muscle noise above it. With three leads or more T waves are small beside
   the QRS of all leads, and the wavelet lies at 14 Hz, where wide complexes are larger. (Pan and Tompkins, IEEE Trans Biomed Eng 32
   (1985), square a derivative and integrate over 150 ms to the same end.)
3. Leads are added, weighted by how far their usual QRS stands out of their RMS, in blocks of 1.2 s: a lead that falls off or
   is full of noise loses its weight there and then. What goes far beyond a lead's usual QRS is held down. No lead has to be
   chosen, a bad one does no harm, and an extrasystole that is small in most leads is found in the others.
4. The usual QRS of a moment is the 30th percentile of the highest values of the blocks up to 10 s away: artefacts, pauses and
   large extrasystoles do not move it. Maxima that dominate 240 ms to either side and reach 0.4 of it are beats, unless they
   fall short of 0.6 of the beat up to 350 ms before, whose T wave they may be.
5. Gaps over 1.5 of the median interval around are searched again for the highest maximum over 0.3 of the usual QRS and over
   three times the noise.
6. The R peak is the sample within 60 ms that is farthest from its surroundings, in the lead with the largest clear QRS.

It looks both ways in time, so it suits recordings, not monitors. The numbers were set on MIT-BIH 100, 102, 103, 105, 106 and CPSC
2021, on each channel and both together, and on simulated twelve leads; CPSC 2019 and the QT database were held out. `benchmarks/bench_peaks.py` shows what it
reaches beside other detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError

if TYPE_CHECKING:
    from assets.signals.qrs import Rules

_THINNED_HZ = 125.0
_CENTRE_HZ, _CENTRE_OF_MANY_HZ, _MANY = 16.0, 14.0, 3
_WIDTH_S = 0.025
_NEARBY_S = 0.06


def r_peaks(signal_BLT: NDArray[np.float32], fs_hz: float, leads: Sequence[int] | None = None) -> list[NDArray[np.int64]]:
    """Find the R peaks of recordings.

    Args:
        signal_BLT: ECG in any unit, shape (recordings, leads, samples), or (leads, samples) for one; never written. A sample that is not
            finite takes the value before it.
        fs_hz: sampling rate; below about 90 Hz a QRS complex is hardly seen.
        leads: which leads to look at; None takes all, which is best unless some are no ECG.

    Returns:
        Ascending sample numbers of each recording. A flat recording has none; noise without an ECG has some, see
        `assets.signals.quality`.

    Raises:
        ConfigurationError: no lead is left to look at.
    """
    from assets.signals.qrs import find_beats

    recordings_BLT = np.ascontiguousarray(signal_BLT if signal_BLT.ndim == 3 else signal_BLT[None], np.float32)
    n_leads = recordings_BLT.shape[1]
    chosen = np.arange(n_leads) if leads is None else np.arange(n_leads)[np.asarray(leads, np.int64)]
    if not chosen.size:
        raise ConfigurationError("no lead to look for beats in; name one, or None for all")
    step, even, odd, rules = _design(float(fs_hz), _CENTRE_OF_MANY_HZ if chosen.size >= _MANY else _CENTRE_HZ)
    beats_N, count_B = find_beats(recordings_BLT, chosen, step, even, odd, rules, max(round(_NEARBY_S * fs_hz), 1))
    return [beats_N[end - count : end] for count, end in zip(count_B.tolist(), count_B.cumsum().tolist(), strict=True)]


@lru_cache(maxsize=64)
def _design(fs_hz: float, centre_hz: float) -> tuple[int, NDArray[np.float32], NDArray[np.float32], Rules]:
    """Samples that become one, halves of the wavelet's even and odd part, and the rules."""
    from assets.signals.qrs import Rules

    step = max(round(fs_hz / _THINNED_HZ), 1)
    thinned_hz = fs_hz / step
    seconds = np.arange(int(np.ceil(3 * _WIDTH_S * thinned_hz)) + 1) / thinned_hz
    bell = np.exp(-((seconds / _WIDTH_S) ** 2) / 2)
    even, odd = bell * np.cos(2 * np.pi * centre_hz * seconds), bell * np.sin(2 * np.pi * centre_hz * seconds)
    even -= bell * (2 * even.sum() - even[0]) / (2 * bell.sum() - bell[0])  # a constant gives nothing
    scale = 2 / (2 * bell.sum() - bell[0])

    def samples(seconds: float) -> int:
        return max(round(seconds * thinned_hz), 1)

    rules = Rules(
        apart=samples(0.24),
        block=samples(1.2),
        reach=8,
        low_quantile=0.3,
        threshold=0.4,
        near=samples(0.35),
        far=samples(0.45),
        near_level=0.6,
        far_level=0.1,
        rival=samples(0.36),
        gap=1.5,
        guard=samples(0.36),
        again_level=0.3,
        again_noise=3.0,
    )
    return step, (even * scale).astype(np.float32), (odd * scale).astype(np.float32), rules
