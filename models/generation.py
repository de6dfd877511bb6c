"""Diverse beam search (Vijayakumar et al., 2018, arXiv 1610.02424): writing a text token by token.

Beams are divided into groups. Groups choose one after the other at each step, and a token that earlier groups have just chosen
costs a penalty, so that groups come to different texts. A group rests when it has ended as many texts as it has beams. The penalty
steers the choice only: ended texts are compared by their mean log-probability a token. Without penalty all groups write the same,
and with one beam the search is greedy. Letters: B texts, G groups, K beams of a group, C candidates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import ConfigurationError


@dataclass(frozen=True)
class Search:
    """How a text is searched for.

    Attributes:
        beams: hypotheses kept at each step, over all groups.
        groups: a divisor of `beams`.
        minimum: tokens before the end, the start among them.
        maximum: tokens altogether.
        penalty: taken off the log-probability of a token for each time that earlier groups have chosen it at this step.
    """

    beams: int = 6
    groups: int = 3
    minimum: int = 5
    maximum: int = 127
    penalty: float = 0.5


def beam_search(
    logits: Callable[[Tensor], Tensor], n_texts: int, start: int, end: int, allowed_V: Tensor, search: Search
) -> list[list[int]]:
    """Write texts; equal inputs give equal texts.

    Args:
        logits: from the tokens so far, int64 (B beams, n), the beams of a text behind each other, to the logits of the next
            token (B beams, V).
        n_texts: B.
        start: the first token of every text.
        end: the token that ends one.
        allowed_V: bool, the tokens that may be written, `end` among them.
        search: see there.

    Returns:
        The tokens of each text without start and end. A text that did not end by the maximum is cut there.

    Raises:
        ConfigurationError: beams cannot be divided among groups, or there is nothing to choose from.
    """
    G, K = search.groups, search.beams // max(1, search.groups)
    if G < 1 or search.beams != K * G:
        raise ConfigurationError(f"{search.beams} beams cannot be divided among {search.groups} groups")
    if int(allowed_V.sum()) < 2:
        raise ConfigurationError("there is no token to write; train the encoder on reports first")
    B, device = n_texts, allowed_V.device
    token_BGKn = torch.full((B, G, K, 1), start, device=device)
    open_BGK = torch.full((B, G, K), float("-inf"), device=device)
    open_BGK[..., 0] = 0.0
    best = _Best(B, device)
    ended_BG = torch.zeros(B, G, dtype=torch.int64, device=device)
    for n in range(1, search.maximum):
        allowed = allowed_V if n >= search.minimum else allowed_V & (torch.arange(len(allowed_V), device=device) != end)
        step_RV = functional.log_softmax(logits(token_BGKn.flatten(0, 2)).float(), dim=1)
        step_BGKV = step_RV.masked_fill(~allowed, float("-inf")).view(B, G, K, -1)
        taken_BV = torch.zeros(B, len(allowed_V), device=device)
        chosen = []
        for g in range(G):
            total_BKV = open_BGK[:, g, :, None] + step_BGKV[:, g]
            running_B = ended_BG[:, g] < K
            picked, ended_B = _continue(total_BKV, search.penalty * taken_BV, end, running_B, token_BGKn[:, g], best)
            ended_BG[:, g] += ended_B
            taken_BV.scatter_add_(1, picked[0], running_B.float()[:, None].expand(-1, K))
            chosen.append(picked)
        next_BGK, from_BGK, open_BGK = (torch.stack(part, dim=1) for part in zip(*chosen, strict=True))
        kept_BGKn = token_BGKn.gather(2, from_BGK[..., None].expand(-1, -1, -1, n))
        token_BGKn = torch.cat([kept_BGKn, next_BGK[..., None]], dim=3)
        if bool((ended_BG >= K).all()):
            break
    else:
        unfinished_BK = open_BGK.flatten(1).masked_fill(torch.isfinite(best.score_B)[:, None], float("-inf"))
        R = torch.arange(G * K, device=device).expand(B, -1)
        best.consider(unfinished_BK / max(1, search.maximum - 1), token_BGKn.flatten(1, 2), R)
    return best.tokens


class _Best:
    """The best finished text of each record so far."""

    def __init__(self, n_texts: int, device: torch.device) -> None:
        self.score_B = torch.full((n_texts,), float("-inf"), device=device)
        self.tokens: list[list[int]] = [[] for _ in range(n_texts)]

    def consider(self, score_BC: Tensor, token_BKn: Tensor, from_BC: Tensor) -> None:
        """Take candidates that are better; candidate c of text b is row from[b, c] of its tokens, less the start."""
        score_B, c_B = score_BC.max(dim=1)
        for b in (score_B > self.score_B).nonzero()[:, 0].tolist():
            self.score_B[b] = score_B[b]
            self.tokens[b] = token_BKn[b, from_BC[b, c_B[b]], 1:].tolist()


def _continue(
    total_BKV: Tensor, penalty_BV: Tensor, end: int, running_B: Tensor, token_BKn: Tensor, best: _Best
) -> tuple[list[Tensor], Tensor]:
    """Continue the beams of a group by a token.

    There are twice as many candidates as beams, since at most one of each beam's ends the text and the others must fill the group.
    An end counts among the first K only.

    Returns:
        Token, beam and log-probability of the new beams, (B, K) each, and how many texts have ended, int64 (B,).
    """
    K, V, n = total_BKV.shape[1], total_BKV.shape[2], token_BKn.shape[2]
    _, place_BC = (total_BKV - penalty_BV[:, None]).flatten(1).topk(2 * K, dim=1)
    next_BC, from_BC, value_BC = place_BC % V, place_BC // V, total_BKV.flatten(1).gather(1, place_BC)
    ends_BC = next_BC == end
    ended_BK = ends_BC[:, :K] & running_B[:, None]
    best.consider(value_BC[:, :K].masked_fill(~ended_BK, float("-inf")) / n, token_BKn, from_BC)
    goes_on_BK = ends_BC.long().argsort(dim=1, stable=True)[:, :K]
    return [x_BC.gather(1, goes_on_BK) for x_BC in (next_BC, from_BC, value_BC)], ended_BK.sum(dim=1)
