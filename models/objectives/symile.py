"""Symile (Saporta et al., NeurIPS 2024, arXiv 2411.01053): one contrastive loss for tuples of any number of modalities.

The score of a tuple is the multilinear inner product, MIP(r_1, ..., r_m) = sum_k prod_i r_ik. Each modality is the anchor once:
its row n is told, by cross-entropy over s MIP, from which tuple of the other modalities' rows it came; the loss is the mean over
anchors. `log(candidates) - loss` is a lower bound of the total correlation of the modalities, in nats (section 3 of the paper).

Negatives of a row:

    n           each other modality is shuffled by a permutation of its own, drawn anew for every anchor; candidate c joins the
                c-th rows, and candidate n is overwritten by the true tuple: N candidates
    n_squared   all combinations of rows of the others: N^(m-1) candidates, which is N squared for three modalities only

With several processes anchors are local and the others gathered with gradients (`models.objectives.contrastive`), N counts rows
of all processes, and permutations are those of the first. Averaged over processes, value and gradients are those of one process
with the whole batch. Nothing here normalises: that is the method's choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.errors import ConfigurationError, TrainingError
from models.objectives.contrastive import full, gather, rank, world_size

Negatives = Literal["n", "n_squared"]

MOST_LOGITS = 2**26
"""Logits of one anchor and process that are computed without asking: 256 MiB in float32."""

_CHUNK_FLOATS = 2**24


def symile_loss(
    embeddings: Sequence[Tensor],
    logit_scale: float | Tensor,
    negatives: Negatives = "n",
    permutations: Any = None,
    most_logits: int = MOST_LOGITS,
) -> Tensor:
    """The Symile loss. For two modalities and "n_squared" it is symmetric InfoNCE of the vectors as they are.

    Args:
        embeddings: one tensor (B, D) a modality, at least two; row i of all is the i-th tuple of this process.
        logit_scale: the positive multiplier of scores itself, not its logarithm.
        negatives: "n" or "n_squared".
        permutations: integers (m, m, N): `permutations[i, j]` orders the rows of modality j for anchor i; entries [i, i] are
            not read. None draws them from torch's CPU generator, anchor by anchor and in it modality by modality, which is the
            order of the published package.
        most_logits: refuse a batch that needs more of them, for one anchor on one process.

    Returns:
        Scalar: mean over anchors and over this process's rows.

    Raises:
        ConfigurationError: no such strategy, or more logits than `most_logits`.
        TrainingError: embeddings or permutations of unfit shape, or processes with batches of different size.
    """
    check_negatives(negatives)
    _check_embeddings(embeddings)
    n_modalities, n_rows = len(embeddings), len(embeddings[0])
    check_logits(negatives, n_modalities, n_rows, n_rows * world_size(), most_logits)
    device = embeddings[0].device
    # Scores are products of many small numbers and magnified: half precision would lose their differences.
    with torch.autocast(device.type, enabled=False):
        local = [full(x_BD) for x_BD in embeddings]
        everyone = [gather(x_BD) for x_BD in local]
        target_B = torch.arange(n_rows, device=device) + rank() * n_rows
        order = _permutations(permutations, n_modalities, len(everyone[0]), device) if negatives == "n" else None
        losses = []
        for anchor, anchor_BD in enumerate(local):
            others = [j for j in range(n_modalities) if j != anchor]
            if order is None:
                losses.append(_against_all(anchor_BD, [everyone[j] for j in others], logit_scale, target_B))
                continue
            shuffled_ND = _product([everyone[j][order[anchor, j]] for j in others])
            logits_BN = anchor_BD @ shuffled_ND.T
            logits_BN = logits_BN.scatter(1, target_B[:, None], mip(local)[:, None])
            losses.append(functional.cross_entropy(logit_scale * logits_BN, target_B))
        return torch.stack(losses).mean()


def pairwise_loss(
    embeddings: Sequence[Tensor], logit_scale: float | Tensor, observed: Sequence[Tensor] | None = None
) -> tuple[Tensor, int]:
    """The baseline that Symile is held against: symmetric InfoNCE of every pair of modalities, summed over pairs.

    The published code sums although its description says average. Vectors are compared as they are; of unit vectors a pair's
    term is `info_nce(x, y, 1 / logit_scale, "mean")`.

    Args:
        embeddings: one tensor (B, D) a modality, at least two.
        logit_scale: the positive multiplier of dot products.
        observed: one bool tensor (B,) a modality; rows that lack either side of a pair are left out of its term.

    Returns:
        The scalar loss, a mean over this process's share of the rows, and how many pairs were skipped because fewer than two
        rows had both sides.

    Raises:
        TrainingError: embeddings of unfit shape, or processes with batches of different size.
    """
    _check_embeddings(embeddings)
    device = embeddings[0].device
    with torch.autocast(device.type, enabled=False):
        local = [full(x_BD) for x_BD in embeddings]
        everyone = [gather(x_BD) for x_BD in local]
        seen = None if observed is None else [gather(o_B.long()).bool() for o_B in observed]
        total, skipped = local[0].sum() * 0, 0
        for i, j in combinations(range(len(local)), 2):
            both_N = torch.ones(len(everyone[i]), dtype=torch.bool, device=device) if seen is None else seen[i] & seen[j]
            if int(both_N.sum()) < 2:
                skipped += 1
                total = total + (local[i].sum() + local[j].sum()) * 0
                continue
            total = total + (_pair(local[i], everyone[j], logit_scale, both_N) + _pair(local[j], everyone[i], logit_scale, both_N)) / 2
        return total, skipped


def mip(embeddings: Sequence[Tensor]) -> Tensor:
    """The multilinear inner product of vectors (..., D), one a modality: shape (...)."""
    return _product([full(x) for x in embeddings]).sum(dim=-1)


def mip_scores(query: Sequence[Tensor], candidate_CD: Tensor) -> Tensor:
    """MIP of every query with every candidate, (Q, C), not scaled.

    Args:
        query: vectors (Q, D) or (D,) of the other modalities. One that is left out counts as a vector of ones.
        candidate_CD: vectors of the modality that is looked for.

    Raises:
        ConfigurationError: a query without a modality.
    """
    if not query:
        raise ConfigurationError("a query needs the embedding of at least one modality; give one")
    product = _product([full(x) for x in query])
    return (product if product.ndim == 2 else product[None]) @ full(candidate_CD).T


def initial_log_scale(scale: float, n_modalities: int, width: int) -> float:
    """ln(scale) + ((m - 2) / 2) ln(D): where to start the logarithm of the scale for unit vectors.

    The MIP of m unit vectors in random directions has a standard deviation of D^-((m-1)/2), so a multiplier that suits dot
    products (m = 2) leaves the loss at chance for more modalities. With this start logits spread as they do for m = 2.
    """
    return math.log(scale) + (n_modalities - 2) / 2 * math.log(width)


def n_candidates(negatives: Negatives, n_modalities: int, n_rows: int) -> int:
    """From how many tuples the true one is told, for `n_rows` rows of all processes."""
    return n_rows if negatives == "n" else n_rows ** (n_modalities - 1)


def information_bound(loss: Tensor, negatives: Negatives, n_modalities: int, n_rows: int) -> Tensor:
    """log(candidates) - loss: an estimate from below of the total correlation, in nats; it cannot exceed log(candidates).

    Args:
        loss: mean over rows, of `symile_loss`.
        negatives: strategy of that loss.
        n_modalities: m.
        n_rows: rows of this process; those of the others are added.
    """
    return math.log(n_candidates(negatives, n_modalities, n_rows * world_size())) - loss.detach()


def check_negatives(negatives: str) -> None:
    """Refuse a strategy that does not exist.

    Raises:
        ConfigurationError: it does not.
    """
    if negatives not in get_args(Negatives):
        raise ConfigurationError(f"there are no negatives {negatives!r}; choose one of {', '.join(get_args(Negatives))}")


def check_logits(negatives: Negatives, n_modalities: int, n_rows: int, n_all: int, most_logits: int = MOST_LOGITS) -> None:
    """Refuse a batch that would need too many logits, before anything is allocated.

    Args:
        negatives: strategy.
        n_modalities: m.
        n_rows: rows of one process.
        n_all: rows of all processes.
        most_logits: how many are allowed for one anchor.

    Raises:
        ConfigurationError: it would.
    """
    n_logits = n_rows * n_candidates(negatives, n_modalities, n_all)
    if n_logits > most_logits:
        raise ConfigurationError(
            f"{n_all} rows of {n_modalities} modalities with negatives {negatives!r} need {n_logits:,} logits an anchor, "
            f"more than {most_logits:,}; lower batch_size, choose negatives='n', or raise the limit"
        )


def _check_embeddings(embeddings: Sequence[Tensor]) -> None:
    shapes = [tuple(x_BD.shape) for x_BD in embeddings]
    if len(shapes) < 2 or len(set(shapes)) > 1 or len(shapes[0]) != 2 or not shapes[0][0]:
        raise TrainingError(f"embeddings of two or more modalities in one shape (B, D) are needed, not {shapes}; give one row a record")


def _product(factors: Sequence[Tensor]) -> Tensor:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def _permutations(given: Any, n_modalities: int, n_all: int, device: torch.device) -> Tensor:
    """The permutations (m, m, N) of all anchors on the device; with several processes those of the first."""
    places = [(i, j) for i in range(n_modalities) for j in range(n_modalities) if i != j]
    if given is None:
        order = torch.zeros(n_modalities, n_modalities, n_all, dtype=torch.int64)
        for i, j in places:
            order[i, j] = torch.randperm(n_all)
        order = order.to(device)
        if world_size() > 1:
            dist.broadcast(order, src=0)
        return order
    order = torch.as_tensor(given, dtype=torch.int64, device=device)
    if order.shape != (n_modalities, n_modalities, n_all):
        raise TrainingError(
            f"permutations of shape {(n_modalities, n_modalities, n_all)} are needed for {n_modalities} modalities and {n_all} rows, "
            f"not {tuple(order.shape)}"
        )
    rows_N = torch.arange(n_all, device=device)
    if any(not torch.equal(order[i, j].sort().values, rows_N) for i, j in places):
        raise TrainingError(f"permutations must each hold the rows 0 to {n_all - 1} once")
    return order


def _against_all(anchor_BD: Tensor, others: Sequence[Tensor], scale: float | Tensor, target_B: Tensor) -> Tensor:
    """Cross-entropy over all N^(m-1) combinations of rows of the others, a chunk of them at a time.

    Combinations are numbered with the last modality's row fastest, so the true one of row t is t (1 + N + ... + N^(m-2)).
    """
    *leading, last_ND = others
    n_all, width = last_ND.shape
    n_leading = n_all ** len(leading)
    step = max(1, _CHUNK_FLOATS // (n_all * (width + len(anchor_BD))))
    positive_B = target_B * sum(n_all**k for k in range(len(others)))

    def chunk(start: int, anchor_BD: Tensor, last_ND: Tensor, scale: float | Tensor, *leading: Tensor) -> tuple[Tensor, Tensor]:
        number_R = torch.arange(start, min(start + step, n_leading), device=anchor_BD.device)
        rows = [factor_ND[number_R // n_all**k % n_all] for k, factor_ND in zip(range(len(leading) - 1, -1, -1), leading, strict=True)]
        candidates_CD = (_product(rows)[:, None] * last_ND).flatten(0, 1) if rows else last_ND
        logits_BC = scale * (anchor_BD @ candidates_CD.T)
        place_B = positive_B - start * n_all
        inside_B = (place_B >= 0) & (place_B < logits_BC.shape[1])
        found_B = logits_BC.gather(1, place_B.clamp(0, logits_BC.shape[1] - 1)[:, None])[:, 0]
        return logits_BC.logsumexp(dim=1), torch.where(inside_B, found_B, torch.zeros_like(found_B))

    starts = range(0, n_leading, step)
    if len(starts) == 1:
        whole_B, true_B = chunk(0, anchor_BD, last_ND, scale, *leading)
        return (whole_B - true_B).mean()
    # Chunks are computed again on the way back: only their sums are kept.
    parts = [checkpoint(chunk, start, anchor_BD, last_ND, scale, *leading, use_reentrant=False) for start in starts]
    return (torch.stack([p[0] for p in parts]).logsumexp(dim=0) - torch.stack([p[1] for p in parts]).sum(dim=0)).mean()


def _pair(x_BD: Tensor, y_ND: Tensor, scale: float | Tensor, both_N: Tensor) -> Tensor:
    """Cross-entropy of this process's rows that have both sides; the mean over processes is the mean over all such rows."""
    start = rank() * len(x_BD)
    mine_B = both_N[start : start + len(x_BD)]
    place_B = (both_N.cumsum(0) - 1)[start : start + len(x_BD)]
    logits = scale * (x_BD[mine_B] @ y_ND[both_N].T)
    total = functional.cross_entropy(logits, place_B[mine_B], reduction="sum")
    return total * world_size() / both_N.sum()
