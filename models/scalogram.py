"""Stacked scalograms: every second of a 12-lead ECG as one picture, a block of rows a lead.

After Aarotale and Rattani, "Deep Learning Models for Arrhythmia Classification Using Stacked Time-frequency Scalogram Images from ECG
Signals" (Computing in Cardiology 2023). Pictures are made of numbers, never of drawings: |W| of each lead and second in millivolts
(`models.wavelet`) is resized by lead, blocks are stacked with lead I on top, and v becomes log(1 + 20 v) over a constant, clipped to
[0, 1]. The baseline has been taken away when signals were cleaned.

Letters beside those of `models.types`: S seconds (windows), K frequencies, R rows of a lead's block, H rows and W columns of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import ConfigurationError
from models.wavelet import geometric_frequencies, morlet_modulus, signals_at_once

Scope = Literal["window", "record"]
GAIN = 20.0
"""Of a millivolt, before the logarithm."""


@dataclass(frozen=True)
class ScalogramShape:
    """How pictures are made.

    Attributes:
        fs_hz: sampling rate.
        n_samples: of a recording, a multiple of `window`.
        window: samples of a picture's window.
        n_leads: L.
        n_frequencies: K, geometric from `high_hz` (row 0) down to `low_hz`.
        rows: R of each lead.
        width: W.
        height: H, at least L R; the rest are zeros above and below.
        scope: each window transformed apart ("window"), or the recording at once and then cut ("record"), which has no inner edges.
    """

    fs_hz: float
    n_samples: int
    window: int
    n_leads: int
    n_frequencies: int
    high_hz: float
    low_hz: float
    rows: int
    width: int
    height: int
    scope: Scope = "window"

    def __post_init__(self) -> None:
        """Raises ConfigurationError where sizes do not fit each other."""
        if self.n_samples % self.window:
            raise ConfigurationError(
                f"recordings of n_samples={self.n_samples} cannot be cut into windows of {self.window} samples; change one of them"
            )
        if self.height < self.stacked:
            raise ConfigurationError(
                f"a picture of {self.height} rows has no room for {self.n_leads} leads of {self.rows} rows; raise height to {self.stacked}"
            )

    @property
    def stacked(self) -> int:
        """Rows that leads fill, L R."""
        return self.n_leads * self.rows

    @property
    def above(self) -> int:
        """Rows of zeros above them."""
        return (self.height - self.stacked) // 2

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """K frequencies, the highest first."""
        return geometric_frequencies(self.n_frequencies, self.high_hz, self.low_hz)


def stacked_scalograms(signal_BLT: Tensor, shape: ScalogramShape) -> Tensor:
    """Pictures (B, S, H, W) of signals (B, L, T) in microvolts, in log(1 + 20 mV): not yet over their constant.

    Raises:
        ConfigurationError: signals of other leads or of another length than the shape says.
    """
    _refuse(signal_BLT, shape)
    blocks_BSLRW = lead_blocks(signal_BLT / 1000, shape)
    stacked_BSHW = torch.log1p(GAIN * blocks_BSLRW).flatten(2, 3)
    below = shape.height - shape.stacked - shape.above
    return functional.pad(stacked_BSHW, (0, 0, shape.above, below))


def lead_blocks(signal_BLT: Tensor, shape: ScalogramShape) -> Tensor:
    """|W| of each second and lead, resized with antialiasing, (B, S, L, R, W), in the unit of the signals (B, L, T)."""
    B, L, T = signal_BLT.shape
    S = T // shape.window
    per_signal = S if shape.scope == "record" else 1
    signals_XT = signal_BLT.reshape(-1, T) if shape.scope == "record" else signal_BLT.reshape(-1, shape.window)
    # Without the mean of its window a signal has no step where it is reflected; a transform of the whole has no such ends inside.
    signals_XT = signals_XT - signals_XT.mean(dim=1, keepdim=True)
    frequencies_hz = shape.frequencies_hz
    at_once = signals_at_once(signals_XT.shape[1], shape.n_frequencies, signal_BLT.device)
    parts = []
    for start in range(0, len(signals_XT), at_once):
        modulus_XKT = morlet_modulus(signals_XT[start : start + at_once], shape.fs_hz, frequencies_hz)
        windows_XSKT = modulus_XKT.reshape(*modulus_XKT.shape[:2], per_signal, shape.window).transpose(1, 2).contiguous()
        parts.append(functional.interpolate(windows_XSKT, (shape.rows, shape.width), mode="bilinear", antialias=True))
    blocks = torch.cat(parts)
    blocks_BLSRW = blocks.reshape(B, L, S, shape.rows, shape.width)
    return blocks_BLSRW.transpose(1, 2)


def scaled(picture_BSHW: Tensor, constant: Tensor | float) -> Tensor:
    """Pictures over one constant for all of them, clipped to [0, 1], so that amplitudes can be compared between recordings."""
    return (picture_BSHW / constant).clamp(0, 1)


def scaled_each(picture_BSHW: Tensor, shape: ScalogramShape) -> Tensor:
    """Each picture from its own minimum to its own maximum; one of a single value becomes zeros, and rows without a lead stay so."""
    leads_BSHW = without_padding(picture_BSHW, shape)
    low_BS11, high_BS11 = leads_BSHW.amin((2, 3), keepdim=True), leads_BSHW.amax((2, 3), keepdim=True)
    span_BS11 = high_BS11 - low_BS11
    each_BSHW = (leads_BSHW - low_BS11) / torch.where(span_BS11 > 0, span_BS11, 1.0)
    return functional.pad(each_BSHW, (0, 0, shape.above, shape.height - shape.stacked - shape.above))


def without_padding(picture_BSHW: Tensor, shape: ScalogramShape) -> Tensor:
    """The rows of the leads alone, (..., L R, W)."""
    return picture_BSHW[..., shape.above : shape.above + shape.stacked, :]


class Quantile:
    """A quantile of very many numbers from 0 to `highest`, counted in bins; right to the width of a bin."""

    def __init__(self, share: float, highest: float = 8.0, bins: int = 1 << 15) -> None:
        self._share, self._highest = share, highest
        self._count = torch.zeros(bins, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Count numbers of any shape; those beyond the highest count as the highest."""
        found = values.detach().float().clamp(0, self._highest).flatten()
        self._count += torch.histc(found, len(self._count), 0, self._highest).cpu().double()

    def value(self) -> float:
        """Upper edge of the bin that holds the quantile; 0 where nothing was counted."""
        total = float(self._count.sum())
        if not total:
            return 0.0
        place = int(torch.searchsorted(self._count.cumsum(0), torch.tensor(self._share * total, dtype=torch.float64)))
        return (place + 1) * self._highest / len(self._count)


def _refuse(signal_BLT: Tensor, shape: ScalogramShape) -> None:
    leads, length = signal_BLT.shape[1:]
    if leads != shape.n_leads:
        raise ConfigurationError(
            f"signals have {leads} leads, the pictures {shape.n_leads}; give the leads of the configuration's channels"
        )
    if shape.scope == "record" and length != shape.n_samples:
        raise ConfigurationError(
            f"signals have {length} samples, and scope 'record' transforms recordings of n_samples={shape.n_samples} at once; give whole ones"
        )
    if not 0 < length <= shape.n_samples or length % shape.window:
        raise ConfigurationError(
            f"signals have {length} samples, which are not 1 to {shape.n_samples // shape.window} windows of {shape.window}; give whole windows"
        )
