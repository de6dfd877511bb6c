"""Analytic Morlet wavelets as a bank of filters: the continuous wavelet transform by FFT, on a CPU or a GPU.

Of frequency f_k and sampling rate fs the scale is s_k = w0 / (2 pi f_k) seconds, and the filter over angular frequency w (rad/s)

    H_k(w) = 2 exp(-(s_k w - w0)^2 / 2) for w > 0, else 0                                                    (w0 = 6, L1 norm)

so a sine of amplitude a at f_k has |W_k| = a away from the edges. Signals are extended at both ends by reflection.

Letters: K frequencies, N points of the transform.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import ConfigurationError

CENTRE = 6.0
"""w0: radians of the wave within one standard deviation of its envelope."""


def geometric_frequencies(count: int, high_hz: float, low_hz: float) -> tuple[float, ...]:
    """Frequencies in equal ratios, the highest first.

    Raises:
        ConfigurationError: fewer than two, or not 0 < low < high.
    """
    if count < 2 or not 0 < low_hz < high_hz:
        raise ConfigurationError(f"{count} frequencies from {high_hz:g} down to {low_hz:g} Hz: choose two or more, and 0 < low < high")
    return tuple(high_hz * (low_hz / high_hz) ** (k / (count - 1)) for k in range(count))


def transform_points(length: int) -> int:
    """Points of the transform of so many samples: the next power of two from one and a half times as many."""
    return 1 << (3 * length // 2 - 1).bit_length()


@lru_cache(maxsize=16)
def morlet_bank(points: int, fs_hz: float, frequencies_hz: tuple[float, ...]) -> Tensor:
    """Filters (K, points / 2 + 1) over the frequencies from 0 to half the sampling rate, float32; beyond, they are 0.

    Computed once for each number of points and set of frequencies.

    Raises:
        ConfigurationError: a frequency is not below half the sampling rate.
    """
    if max(frequencies_hz) >= fs_hz / 2:
        raise ConfigurationError(f"wavelets of {max(frequencies_hz):g} Hz need more than {fs_hz:g} samples a second; lower the frequencies")
    w_N = 2 * math.pi * torch.fft.rfftfreq(points, 1 / fs_hz, dtype=torch.float64)
    scale_K1 = CENTRE / (2 * math.pi * torch.tensor(frequencies_hz, dtype=torch.float64)[:, None])
    bank_KN = 2 * torch.exp(-((scale_K1 * w_N - CENTRE) ** 2) / 2)
    bank_KN[:, 0] = 0.0
    bank_KN[:, -1] = 0.0  # half the sampling rate is as much below zero as above
    return bank_KN.float()


def morlet_parts(signal_BT: Tensor, fs_hz: float, frequencies_hz: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Real and imaginary part (B, K, T) of the coefficients of signals (B, T), in their unit; of a constant they are zero.

    Coefficients have no frequencies below zero, so the inverse transform as if they were real gives twice their real part, and that of
    them divided by i twice their imaginary part: two transforms of real numbers, side by side in memory, in place of one of complex.

    Raises:
        ConfigurationError: as `morlet_bank`; or the signal has fewer than four samples.
    """
    length = signal_BT.shape[-1]
    if length < 4:
        raise ConfigurationError(f"a signal of {length} samples is too short for wavelets; give 4 or more")
    points = transform_points(length)
    before = (points - length) // 2
    extended_B1N = functional.pad(signal_BT[:, None], (before, points - length - before), mode="reflect")
    spectrum_B1N = torch.fft.rfft(extended_B1N)
    half_KN = 0.5 * morlet_bank(points, fs_hz, frequencies_hz).to(signal_BT.device, signal_BT.dtype)
    kept = slice(before, before + length)
    real_BKT = torch.fft.irfft(spectrum_B1N * half_KN, n=points)[..., kept]
    imaginary_BKT = torch.fft.irfft((-1j * spectrum_B1N) * half_KN, n=points)[..., kept]
    return real_BKT, imaginary_BKT


def morlet_modulus(signal_BT: Tensor, fs_hz: float, frequencies_hz: tuple[float, ...]) -> Tensor:
    """Moduli |W| (B, K, T) of signals (B, T), in their unit: a sine of amplitude a has a at its frequency. Raises as `morlet_parts`."""
    real_BKT, imaginary_BKT = morlet_parts(signal_BT, fs_hz, frequencies_hz)
    if real_BKT.requires_grad:  # the derivative of this one is finite at 0
        return torch.complex(real_BKT, imaginary_BKT).abs()
    return torch.addcmul(real_BKT * real_BKT, imaginary_BKT, imaginary_BKT).sqrt_()


def signals_at_once(length: int, n_frequencies: int, device: torch.device) -> int:
    """How many signals are best transformed together: so many that what is made of them stays in a processor's cache, or in a share
    of a GPU's memory.
    """
    room = 1 << (28 if device.type == "cuda" else 20)
    return max(1, room // (4 * transform_points(length) * n_frequencies))
