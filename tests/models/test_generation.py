"""Beam search beside a greedy loop and beside trying everything."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.generation import Search, beam_search

V, START, END = 6, 0, 1
ALLOWED = torch.tensor([False, True, True, True, True, True])


class Chain:
    """Logits that depend on the text, the last token and the length."""

    def __init__(self, texts: int, beams: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(texts, V, 12, V, generator=generator)
        self.beams = beams

    def __call__(self, token_RN: Tensor) -> Tensor:
        text = torch.arange(len(token_RN)) // self.beams
        return self.table[text, token_RN[:, -1], token_RN.shape[1]]

    def log_probability(self, text: int, tokens: list[int]) -> float:
        total, last = 0.0, START
        for n, token in enumerate(tokens, start=1):
            total += self.table[text, last, n].log_softmax(0)[token].item()
            last = token
        return total


def greedy(chain: Chain, text: int, minimum: int, maximum: int) -> list[int]:
    tokens = [START]
    while len(tokens) < maximum:
        logits = chain.table[text, tokens[-1], len(tokens)].masked_fill(~ALLOWED, float("-inf"))
        if len(tokens) < minimum:
            logits[END] = float("-inf")
        best = int(logits.argmax())
        if best == END:
            break
        tokens.append(best)
    return tokens[1:]


@pytest.mark.parametrize("minimum", [1, 3, 5])
def test_one_beam_is_greedy(minimum: int) -> None:
    chain = Chain(20, 1)
    found = beam_search(chain, 20, START, END, ALLOWED, Search(1, 1, minimum, 10))
    assert found == [greedy(chain, text, minimum, 10) for text in range(20)]
    assert all(len(tokens) >= minimum - 1 for tokens in found)


@pytest.mark.parametrize("groups", [1, 2])
def test_enough_beams_find_the_best_text(groups: int) -> None:
    """Texts of at most three tokens, each tried."""
    beams = 64 * groups
    chain = Chain(4, beams)
    found = beam_search(chain, 4, START, END, ALLOWED, Search(beams, groups, 2, 5, penalty=0.3))
    for text in range(4):
        scores = {}
        for length in (1, 2, 3):
            for tokens in itertools.product(range(2, V), repeat=length):
                scores[tokens] = chain.log_probability(text, [*tokens, END]) / (length + 1)
        assert tuple(found[text]) == max(scores, key=lambda tokens: scores[tokens])


def test_more_beams_find_better_texts_on_average() -> None:
    wide, narrow = Chain(30, 6), Chain(30, 1)
    best = beam_search(wide, 30, START, END, ALLOWED, Search(6, 3, 2, 10))
    first = beam_search(narrow, 30, START, END, ALLOWED, Search(1, 1, 2, 10))
    gain = []
    for text in range(30):
        mean = [wide.log_probability(text, [*tokens, END]) / (len(tokens) + 1) for tokens in (best[text], first[text]) if len(tokens) < 9]
        if len(mean) == 2:
            gain.append(mean[0] - mean[1])
    assert len(gain) > 20 and sum(gain) / len(gain) > 0.02


def test_groups_write_the_same_without_a_penalty() -> None:
    chain, alone = Chain(10, 6), Chain(10, 2)
    assert beam_search(chain, 10, START, END, ALLOWED, Search(6, 3, 2, 8, penalty=0.0)) == beam_search(
        alone, 10, START, END, ALLOWED, Search(2, 1, 2, 8)
    )


def test_texts_do_not_depend_on_their_neighbours_and_repeat() -> None:
    chain = Chain(10, 6)
    whole = beam_search(chain, 10, START, END, ALLOWED, Search(6, 3, 2, 10))
    assert whole == beam_search(chain, 10, START, END, ALLOWED, Search(6, 3, 2, 10))
    chain.table = chain.table[:3]
    assert beam_search(chain, 3, START, END, ALLOWED, Search(6, 3, 2, 10)) == whole[:3]


def test_a_text_that_does_not_end_is_cut() -> None:
    def endless(token_RN: Tensor) -> Tensor:
        return torch.tensor([0.0, -50.0, 1.0, 0.5, 0.2, 0.1]).expand(len(token_RN), -1)

    assert [len(t) for t in beam_search(endless, 2, START, END, ALLOWED, Search(4, 2, 2, 7))] == [6, 6]


def test_beams_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="6 beams cannot be divided among 4 groups"):
        beam_search(Chain(1, 6), 1, START, END, ALLOWED, Search(6, 4))
    with pytest.raises(ConfigurationError, match="no token to write"):
        beam_search(Chain(1, 6), 1, START, END, torch.arange(V) == END, Search(6, 3))
