"""Masked modelling of signals of several channels, with texts: what is hidden, and what its reconstruction costs.

Of each record exactly a share of its tokens is hidden, in one of three ways: anywhere, whole channels first, or whole moments of all
channels first. Padding is never hidden and never counted. Letters: L channels, S places in time, P samples of a patch, V tokens of
the vocabulary, H hidden tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

KINDS = ("random", "channel", "time")


@dataclass(frozen=True)
class Chosen:
    """Some of a record's tokens.

    Attributes:
        place_BM: int64 places, ascending.
        real_BM: bool, False for padding, whose place means nothing.
    """

    place_BM: Tensor
    real_BM: Tensor


def draw_kinds(count: int, device: torch.device) -> Tensor:
    """A kind for each record, int64 places in `KINDS`, shape (B,)."""
    return torch.randint(len(KINDS), (count,), device=device)


def draw_channels(present_BL: Tensor, whole: float) -> Tensor:
    """Channels to read of each record, bool (B, L): all that it has with probability `whole`, else some of them.

    How many is uniform from one to all of them, so that single channels are met as often as nearly all; which ones is uniform too.
    """
    count_B = present_BL.sum(dim=1)
    size_B = (torch.rand(len(count_B), device=present_BL.device) * count_B).long() + 1
    size_B = torch.where(torch.rand(len(count_B), device=present_BL.device) < whole, count_B, size_B)
    return present_BL & _lowest(torch.rand(present_BL.shape, device=present_BL.device).masked_fill(~present_BL, 2.0), size_B)


def hide_signal(present_BL: Tensor, n_places: int, share: float, kind_B: Tensor) -> Tensor:
    """Which signal tokens are hidden.

    Args:
        present_BL: bool, which channels a record has.
        n_places: S, tokens of a channel.
        share: of a record's tokens, between 0 and 1; their number is rounded.
        kind_B: place in `KINDS`. By channel, whole channels are hidden but for one; by time, whole moments but for one.

    Returns:
        bool (B, L, S).
    """
    (B, L), device = present_BL.shape, present_BL.device
    chance_BLS = torch.rand(B, L, n_places, device=device)
    # Half the chance is less than the distance of two ranks, so chance decides only within a channel or moment.
    by_channel_BLS = _random_ranks(B, L, device)[:, :, None] + chance_BLS / 2
    by_time_BLS = _random_ranks(B, n_places, device)[:, None, :] + chance_BLS / 2
    kind_B11 = kind_B[:, None, None]
    key_BLS = torch.where(kind_B11 == KINDS.index("channel"), by_channel_BLS, chance_BLS)
    key_BLS = torch.where(kind_B11 == KINDS.index("time"), by_time_BLS, key_BLS)
    key_BLS = key_BLS.masked_fill(~present_BL[:, :, None], torch.inf)
    wanted_B = (present_BL.sum(dim=1).double() * n_places * share).round()
    return _lowest(key_BLS.flatten(1), wanted_B).view(B, L, n_places)


def hide_words(real_BN: Tensor, share: float) -> Tensor:
    """Which tokens of a text are hidden, bool (B, N): the rounded share of its real ones, each set equally likely."""
    key_BN = torch.rand(real_BN.shape, device=real_BN.device).masked_fill(~real_BN, torch.inf)
    return _lowest(key_BN, (real_BN.sum(dim=1).double() * share).round())


def places_of(chosen_BN: Tensor, most: int) -> Chosen:
    """Where the chosen of N tokens are, padded to `most`, of which no row has more."""
    place_BM = (~chosen_BN).to(torch.int8).argsort(dim=1, stable=True)[:, :most]
    return Chosen(place_BM, chosen_BN.gather(1, place_BM))


def signal_error(predicted_BHP: Tensor, patch_BHP: Tensor, real_BH: Tensor) -> Tensor:
    """Squared error of hidden patches, averaged over the samples of a patch and summed over real ones, shape ()."""
    error_BH = (predicted_BHP.float() - patch_BHP.float()).square().mean(dim=2)
    return (error_BH * real_BH).sum()


def word_error(logits_HV: Tensor, number_H: Tensor) -> Tensor:
    """Cross-entropy of hidden tokens of texts, summed, shape (); 0 where there is none."""
    return functional.cross_entropy(logits_HV.float(), number_H, reduction="sum")


def _random_ranks(B: int, count: int, device: torch.device) -> Tensor:
    return torch.rand(B, count, device=device).argsort(dim=1).float()


def _lowest(key_BN: Tensor, wanted_B: Tensor) -> Tensor:
    """The places of the `wanted` lowest keys of each row."""
    return key_BN.argsort(dim=1).argsort(dim=1) < wanted_B[:, None]
