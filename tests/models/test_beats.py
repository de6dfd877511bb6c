"""The contrast of beats and sentences: its definition written as loops, and what must not change it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from models.objectives.beats import Aggregate, BeatLoss, beat_logits, beat_loss

FORMS: list[tuple[BeatLoss, Aggregate]] = [("code", "sum"), ("code", "mean"), ("paper", "sum"), ("paper", "mean")]


def example(B: int = 5, L: int = 4, S: int = 3, D: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    beat_BLD, sentence_BSD = torch.randn(B, L, D, generator=generator), torch.randn(B, S, D, generator=generator)
    mask_BS = torch.arange(S) < 1 + torch.arange(B)[:, None] % S
    return beat_BLD.double(), sentence_BSD.double() * mask_BS[..., None], mask_BS


def cosine(x: list[float], y: list[float]) -> float:
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def naive_logit(beats: list[list[float]], sentences: list[list[float]], form: str, aggregate: str) -> float:
    if form == "code":
        share = [softmax([sum(a * b for a, b in zip(beat, s, strict=True)) for s in sentences]) for beat in beats]
        focus = [[4 * share[j][k] for j in range(len(beats))] for k in range(len(sentences))]
        inner, outer = 5.0, 10.0
    else:
        focus = [[cosine(s, beat) / 0.25 for beat in beats] for s in sentences]
        inner, outer = 10.0, 1.0
    total = 0.0
    for sentence, row in zip(sentences, focus, strict=True):
        alpha = softmax(row)
        context = [sum(a * beat[d] for a, beat in zip(alpha, beats, strict=True)) for d in range(len(sentence))]
        total += math.exp(inner * cosine(sentence, context))
    return outer * math.log(total / (len(sentences) if aggregate == "mean" else 1))


@pytest.mark.parametrize(("form", "aggregate"), FORMS)
def test_logits_are_the_definition(form: BeatLoss, aggregate: Aggregate) -> None:
    beat_BLD, sentence_BSD, mask_BS = example()
    found = beat_logits(beat_BLD, sentence_BSD, mask_BS, form, aggregate)
    for b, i in itertools.product(range(5), range(5)):
        sentences = sentence_BSD[i][mask_BS[i]].tolist()
        assert found[b, i].item() == pytest.approx(naive_logit(beat_BLD[b].tolist(), sentences, form, aggregate), rel=1e-10)
    target = torch.arange(5)
    both = torch.nn.functional.cross_entropy(found, target) + torch.nn.functional.cross_entropy(found.T, target)
    torch.testing.assert_close(beat_loss(beat_BLD, sentence_BSD, mask_BS, form, aggregate), both / 2)


@pytest.mark.parametrize(("form", "aggregate"), FORMS)
def test_equal_beats_and_sentences_give_log_b(form: BeatLoss, aggregate: Aggregate) -> None:
    beat_BLD, sentence_BSD, _ = example()
    mask_BS = torch.ones(5, 3, dtype=torch.bool)
    same = beat_loss(beat_BLD[:1].expand(5, -1, -1), sentence_BSD[2:3].expand(5, -1, -1), mask_BS, form, aggregate)
    assert same.item() == pytest.approx(1.6094, abs=1e-4)


@pytest.mark.parametrize(("form", "aggregate"), FORMS)
def test_the_order_of_pairs_beats_and_sentences_does_not_matter(form: BeatLoss, aggregate: Aggregate) -> None:
    beat_BLD, sentence_BSD, mask_BS = example()
    pairs, beats = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 3, 1])
    before = beat_loss(beat_BLD, sentence_BSD, mask_BS, form, aggregate)
    torch.testing.assert_close(beat_loss(beat_BLD[pairs], sentence_BSD[pairs], mask_BS[pairs], form, aggregate), before)
    logits = beat_logits(beat_BLD, sentence_BSD, mask_BS, form, aggregate)
    torch.testing.assert_close(beat_logits(beat_BLD[:, beats], sentence_BSD, mask_BS, form, aggregate), logits)
    torch.testing.assert_close(beat_logits(beat_BLD, sentence_BSD.flip(1), mask_BS.flip(1), form, aggregate), logits)


def test_one_sentence_is_compared_with_the_mean_beat() -> None:
    beat_BLD, sentence_BSD, _ = example(S=1)
    found = beat_logits(beat_BLD, sentence_BSD, torch.ones(5, 1, dtype=torch.bool))
    mean_BD = torch.nn.functional.normalize(beat_BLD.mean(dim=1), dim=1)
    torch.testing.assert_close(found, 50 * mean_BD @ torch.nn.functional.normalize(sentence_BSD[:, 0], dim=1).T, rtol=0, atol=2e-6)
    paper = beat_logits(beat_BLD, sentence_BSD, torch.ones(5, 1, dtype=torch.bool), "paper")
    assert paper.abs().max() <= 10


def test_padding_has_no_share_and_gradients_are_finite() -> None:
    beat_BLD, sentence_BSD, mask_BS = example()
    for form, aggregate in FORMS:
        loud = sentence_BSD.masked_fill(~mask_BS[..., None], 1e3)
        torch.testing.assert_close(
            beat_loss(beat_BLD, loud, mask_BS, form, aggregate), beat_loss(beat_BLD, sentence_BSD, mask_BS, form, aggregate)
        )
        x = beat_BLD.float().requires_grad_()
        y = sentence_BSD.float().requires_grad_()
        beat_loss(x, y, mask_BS, form, aggregate).backward()
        assert x.grad is not None and y.grad is not None and torch.isfinite(x.grad).all() and torch.isfinite(y.grad).all()
        assert y.grad[~mask_BS].abs().max() == 0
