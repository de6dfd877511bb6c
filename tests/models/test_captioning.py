"""Cross-entropy of tokens by record, and the choice of tokens that a language model must name."""

from __future__ import annotations

import math

import pytest
import torch

from models.objectives.captioning import token_mean, token_sums
from models.objectives.masked_language import LanguageHead, mask_tokens


def test_sums_and_mean_are_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(3, 5, 4, generator=generator).double()
    output, bias = torch.randn(4, 7, generator=generator).double(), torch.randn(7, generator=generator).double()
    target = torch.randint(0, 7, (3, 5), generator=generator)
    counts = torch.tensor([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    for b in (None, bias):
        found, n = token_sums(state, output, target, counts, b)
        total, number = 0.0, 0
        for i in range(3):
            row = 0.0
            for j in range(5):
                if counts[i, j]:
                    logits = (state[i, j] @ output + (0 if b is None else b)).tolist()
                    row += math.log(sum(math.exp(x) for x in logits)) - logits[target[i, j]]
                    number += 1
            assert found[i].item() == pytest.approx(row, rel=1e-10)
            total += row
        assert n.tolist() == [3, 0, 5]
        assert token_mean(found, n).item() == pytest.approx(total / number, rel=1e-10)


def test_zero_output_gives_log_v_and_nothing_to_predict_gives_zero() -> None:
    state = torch.randn(2, 3, 4, requires_grad=True)
    target, counts = torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool)
    loss = token_mean(*token_sums(state, torch.zeros(4, 11), target, counts))
    assert loss.item() == pytest.approx(math.log(11))
    nothing = token_mean(*token_sums(state, torch.zeros(4, 11), target, ~counts))
    assert nothing.item() == 0
    nothing.backward()
    assert state.grad is not None and torch.isfinite(state.grad).all()


def test_fifteen_percent_are_chosen_and_most_of_them_hidden() -> None:
    torch.manual_seed(0)
    B, N, mask, ordinary = 400, 40, 3, torch.arange(10, 60)
    number = torch.randint(10, 60, (B, N))
    eligible = torch.rand(B, N) < 0.8
    eligible[0] = False
    eligible[1] = torch.arange(N) == 7
    read, chosen = mask_tokens(number, eligible, mask, ordinary, 0.15)
    assert not (chosen & ~eligible).any()
    for i in range(B):
        n = int(eligible[i].sum())
        assert chosen[i].sum() == (max(1, round(0.15 * n)) if n else 0)
    assert torch.equal(read[~chosen], number[~chosen])
    hidden = (read[chosen] == mask).double().mean().item()
    kept = (read[chosen] == number[chosen]).double().mean().item()
    assert hidden == pytest.approx(0.8, abs=0.03)
    assert kept == pytest.approx(0.1 + 0.1 / 50, abs=0.03)
    assert torch.isin(read[chosen], torch.cat([ordinary, torch.tensor([mask])])).all()
    places = chosen[2:].double().mean(dim=0)
    assert places.max() < 2 * places.min()


def test_the_head_is_one_transformation() -> None:
    head = LanguageHead(8, 20)
    assert head(torch.randn(2, 3, 8)).shape == (2, 3, 8)
    assert sum(p.numel() for p in head.parameters()) == 8 * 8 + 8 + 16 + 20
