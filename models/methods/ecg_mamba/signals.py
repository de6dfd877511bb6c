"""What ECG-Mamba makes of the signals of a batch: each lead with mean 0 and variance 1, at the length of the network.

A batch does not say how much of a window was recorded, so the zeros that it ends with in all leads are taken for padding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_LEAST_SPREAD = 1e-8


def recorded_samples(signal_BLT: Tensor) -> Tensor:
    """Samples of each record before the zeros that all its leads end with, int64 (B,); at least 1."""
    there_BT = (signal_BLT != 0).any(dim=1)
    last_B = signal_BLT.shape[2] - there_BT.flip(1).int().argmax(dim=1)
    return torch.where(there_BT.any(dim=1), last_B, 1)


def standardise(signal_BLT: Tensor, recorded_B: Tensor) -> Tensor:
    """(x - mean) / (deviation + 1e-8) of each lead over what was recorded; zeros in constant leads and beyond, exactly.

    Args:
        signal_BLT: any units.
        recorded_B: samples of each record.
    """
    x_BLT = signal_BLT.float()
    real_B1T = torch.arange(x_BLT.shape[2], device=x_BLT.device) < recorded_B[:, None, None]
    count_B11 = recorded_B[:, None, None]
    centred_BLT = (x_BLT - (x_BLT * real_B1T).sum(dim=2, keepdim=True) / count_B11) * real_B1T
    spread_BL1 = (centred_BLT.square().sum(dim=2, keepdim=True) / count_B11).sqrt()
    # A mean that was rounded would leave something of a constant lead, and the division would enlarge it.
    varies_BL1 = torch.where(real_B1T, x_BLT != x_BLT[:, :, :1], False).any(dim=2, keepdim=True)
    return torch.where(varies_BL1, centred_BLT / (spread_BL1 + _LEAST_SPREAD), 0.0)


def fit(signal_BLT: Tensor, recorded_B: Tensor, length: int, random: bool) -> Tensor:
    """Signals of one length: of a longer recording a crop, anywhere or from its middle; a shorter one with zeros behind it.

    Args:
        signal_BLT: zeros beyond what was recorded.
        recorded_B: samples of each record.
        length: wanted.
        random: whether crops lie anywhere (drawn from torch's generator) or in the middle.
    """
    B, L, T = signal_BLT.shape
    if length >= T:
        return functional.pad(signal_BLT, (0, length - T))
    spare_B = (recorded_B - length).clamp(min=0)
    start_B = (torch.rand(B, device=spare_B.device) * (spare_B + 1)).long().clamp(max=spare_B) if random else spare_B // 2
    place_BT = start_B[:, None] + torch.arange(length, device=start_B.device)
    return signal_BLT.gather(2, place_BT[:, None].expand(B, L, length))
