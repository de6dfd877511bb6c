"""What CSFM makes of the signals of a batch: crops of unit variance, and the tokens of the channels that each record has.

Letters: L channels of the configuration, S places in time, P samples of a patch, C channels of the fullest record of a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.encoders.channel_transformer import Patches

_SMALLEST_SPREAD = 1e-8


@dataclass(frozen=True)
class Part:
    """Records of a batch with about as many channels.

    Attributes:
        rows: places in the batch, int64 (R,).
        channels: of each record, int64 (R, C): places among the configured channels; -1 behind the last.
        counts: how many channels each record has.
    """

    rows: Tensor
    channels: Tensor
    counts: list[int]


def crop(signal_BLT: Tensor, length: int, random: bool) -> Tensor:
    """Crops of one length, one of each record: anywhere, or the middle. Shorter recordings are left as they are."""
    B, L, T = signal_BLT.shape
    if length >= T:
        return signal_BLT
    if not random:
        start = (T - length) // 2
        return signal_BLT[:, :, start : start + length]
    start_B = torch.randint(T - length + 1, (B,), device=signal_BLT.device)
    place_BT = start_B[:, None] + torch.arange(length, device=signal_BLT.device)
    return signal_BLT.gather(2, place_BT[:, None].expand(-1, L, -1))


def standardise(signal_BLT: Tensor, pad_after: bool) -> Tensor:
    """Each channel with mean 0 and variance 1; a constant one becomes zeros.

    Args:
        signal_BLT: any units.
        pad_after: leave the zeros that a recording ends with, in all channels, out of mean and variance and keep them 0. The
            published code counts them, so that what was recorded has no unit variance.
    """
    x_BLT = signal_BLT.float()
    if not pad_after:
        centred_BLT = x_BLT - x_BLT.mean(dim=2, keepdim=True)
        spread_BL1 = centred_BLT.square().mean(dim=2, keepdim=True).sqrt()
        real_BLT: Tensor | float = 1.0
    else:
        recorded_BT = x_BLT.ne(0).any(dim=1).flip(1).cummax(dim=1).values.flip(1)
        real_BLT, count_B11 = recorded_BT[:, None].float(), recorded_BT.sum(dim=1).clamp(min=1)[:, None, None]
        centred_BLT = (x_BLT - x_BLT.sum(dim=2, keepdim=True) / count_B11) * real_BLT
        spread_BL1 = (centred_BLT.square().sum(dim=2, keepdim=True) / count_B11).sqrt()
    # Rounding gives a constant channel a mean that is not quite its value, and so a spread that must not be divided by.
    constant_BL1 = x_BLT.amin(dim=2, keepdim=True) == x_BLT.amax(dim=2, keepdim=True)
    return torch.where(constant_BL1, 0.0, centred_BLT / (spread_BL1 + _SMALLEST_SPREAD)) * real_BLT


def by_channels(present_BL: Tensor) -> Iterator[Part]:
    """The records in parts of which none has more than twice as many channels as another, so that little is padded.

    Args:
        present_BL: bool on the CPU, which channels are read of each record; at least one of each.
    """
    count_B = present_BL.sum(dim=1)
    order_BL = (~present_BL).to(torch.int8).argsort(dim=1, stable=True)
    size_B = count_B.double().log2().ceil().long()
    for size in sorted(set(size_B.tolist())):
        rows = torch.nonzero(size_B == size).flatten()
        counts = count_B[rows]
        most = int(counts.max())
        channels_RC = order_BL[rows, :most].masked_fill(torch.arange(most) >= counts[:, None], -1)
        yield Part(rows, channels_RC, counts.tolist())


def patches_of(signal_BLT: Tensor, part: Part, patch: int, index_L: Tensor) -> Patches:
    """All signal tokens of some records, channel by channel, each from its first moment.

    Args:
        signal_BLT: standardised signals of the whole batch.
        part: which records and channels.
        patch: P.
        index_L: row of the network's table for each configured channel.
    """
    device = signal_BLT.device
    rows, channels_RC = part.rows.to(device), part.channels.to(device)
    (R, C), S = channels_RC.shape, signal_BLT.shape[2] // patch
    sample_RNP = signal_BLT[rows[:, None], channels_RC.clamp(min=0)].view(R, C * S, patch)
    channel_RN = index_L.to(device)[channels_RC.clamp(min=0)].repeat_interleave(S, dim=1)
    place_RN = torch.arange(S, device=device).repeat(C).expand(R, -1)
    padded = min(part.counts) < C
    real_RN = (channels_RC >= 0).repeat_interleave(S, dim=1) if padded else None
    return Patches(sample_RNP, channel_RN, place_RN, real_RN)


def over_time(state_RNF: Tensor, patches: Patches, n_channels: int) -> Tensor:
    """States of signal tokens averaged over the channels that a record has, (R, S, F)."""
    R, N, F = state_RNF.shape
    state_RCSF = state_RNF.reshape(R, n_channels, N // n_channels, F)
    if patches.real_BN is None:
        return state_RCSF.mean(dim=1)
    real_RCS1 = patches.real_BN.view(R, n_channels, N // n_channels, 1)
    return torch.where(real_RCS1, state_RCSF, 0.0).sum(dim=1) / real_RCS1.sum(dim=1)


def by_slot(state_RNF: Tensor, patches: Patches, n_channels: int, slots: int) -> Tensor:
    """States of signal tokens with a place for every channel of the network, zeros where absent, (R, slots, S, F)."""
    R, N, F = state_RNF.shape
    S = N // n_channels
    slot_RN = patches.channel_BN if patches.real_BN is None else patches.channel_BN.masked_fill(~patches.real_BN, slots)
    place_RN = slot_RN * S + patches.place_BN
    spread_RXF = state_RNF.new_zeros(R, (slots + 1) * S, F).scatter(1, place_RN[:, :, None].expand(-1, -1, F), state_RNF)
    return spread_RXF[:, : slots * S].view(R, slots, S, F)
