"""What masked pretraining hides, counted, and its losses against their definitions written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.objectives.masked import KINDS, draw_channels, draw_kinds, hide_signal, hide_words, places_of, signal_error, word_error

S = 20
SETS = torch.tensor(
    [[True] * 13, [False, True] + [False] * 11, [False, True] + [False] * 10 + [True], [True, True] + [False] * 4 + [True] + [False] * 6]
)


def hidden(kind: str, share: float = 0.75, repeats: int = 8) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    present_BL = SETS.repeat(repeats, 1)
    return present_BL, hide_signal(present_BL, S, share, torch.full((len(present_BL),), KINDS.index(kind)))


@pytest.mark.parametrize("share", [0.75, 0.33])
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_share_of_real_tokens_is_hidden(kind: str, share: float) -> None:
    present_BL, hidden_BLS = hidden(kind, share)
    assert hidden_BLS.sum(dim=(1, 2)).tolist() == [round(share * S * n) for n in present_BL.sum(dim=1).tolist()]
    assert not hidden_BLS[~present_BL].any()


def test_by_channel_all_but_one_are_whole() -> None:
    present_BL, hidden_BLS = hidden("channel")
    for present_L, hidden_LS in zip(present_BL, hidden_BLS, strict=True):
        count_L = hidden_LS[present_L].sum(dim=1)
        assert ((count_L > 0) & (count_L < S)).sum() <= 1


def test_by_time_all_moments_but_one_are_whole() -> None:
    present_BL, hidden_BLS = hidden("time")
    for present_L, hidden_LS in zip(present_BL, hidden_BLS, strict=True):
        count_S = hidden_LS[present_L].sum(dim=0)
        assert ((count_S > 0) & (count_S < present_L.sum())).sum() <= 1


def test_at_random_neither_channels_nor_moments_are_whole() -> None:
    present_BL, hidden_BLS = hidden("random", repeats=40)
    full_BLS = hidden_BLS[present_BL.all(dim=1)].float()
    assert not full_BLS.mean(dim=2).eq(1).any(dim=1).all()
    torch.testing.assert_close(full_BLS.mean(dim=0), torch.full((13, S), 0.75), rtol=0, atol=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_one_channel_alone_is_hidden_at_random(kind: str) -> None:
    present_BL = SETS[1:2].expand(400, -1)
    torch.manual_seed(0)
    hidden_BLS = hide_signal(present_BL, S, 0.75, torch.full((400,), KINDS.index(kind)))
    rate_S = hidden_BLS[:, 1].float().mean(dim=0)
    torch.testing.assert_close(rate_S, torch.full((S,), 0.75), rtol=0, atol=0.1)
    assert len(hidden_BLS[:, 1].unique(dim=0)) > 300


def test_every_kind_is_drawn_about_as_often() -> None:
    torch.manual_seed(0)
    counts = draw_kinds(3000, torch.device("cpu")).bincount(minlength=3)
    assert counts.min() > 900


def test_half_of_the_words_are_hidden_whatever_their_number() -> None:
    torch.manual_seed(0)
    lengths_B = torch.arange(17)
    real_BW = torch.arange(16) < lengths_B[:, None]
    hidden_BW = hide_words(real_BW, 0.5)
    assert hidden_BW.sum(dim=1).tolist() == [round(0.5 * n) for n in lengths_B.tolist()]
    assert not hidden_BW[~real_BW].any()


def test_channels_drawn_are_some_of_those_there_and_often_all() -> None:
    torch.manual_seed(0)
    present_BL = SETS[:1].expand(2000, -1) & (torch.arange(13) < 12)
    count_B = draw_channels(present_BL, 0.5).sum(dim=1)
    assert count_B.min() == 1 and count_B.max() == 12
    assert 0.5 < (count_B == 12).float().mean() < 0.6
    some = SETS.repeat(50, 1)
    assert not (draw_channels(some, 0.0) & ~some).any() and draw_channels(some, 0.0).any(dim=1).all()
    assert torch.equal(draw_channels(some, 1.0), some)


def test_places_are_those_chosen_in_order_and_padding_is_none() -> None:
    chosen = places_of(torch.tensor([[False, True, True, False], [True, False, False, False]]), 2)
    assert chosen.place_BM[0].tolist() == [1, 2] and chosen.place_BM[1, 0] == 0
    assert chosen.real_BM.tolist() == [[True, True], [True, False]]


def test_losses_are_their_definitions() -> None:
    torch.manual_seed(0)
    predicted, patch, real = torch.randn(2, 3, 5), torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True, False, False]])
    expected = sum(
        sum((predicted[b, h, p] - patch[b, h, p]).item() ** 2 for p in range(5)) / 5 for b in range(2) for h in range(3) if real[b, h]
    )
    assert signal_error(predicted, patch, real).item() == pytest.approx(expected, rel=1e-5)
    logits, numbers = torch.randn(4, 6), torch.tensor([5, 0, 2, 2])
    naive = -sum(torch.log(logits[i].exp() / logits[i].exp().sum())[numbers[i]].item() for i in range(4))
    assert word_error(logits, numbers).item() == pytest.approx(naive, rel=1e-5)
    assert word_error(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)).item() == 0.0
