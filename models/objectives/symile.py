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
from models.objectives.contrastive import full, gather, multi_pair_info_nce, rank, world_size

Negatives = Literal["n", "n_squared"]

MOST_LOGITS = 2**26
"""Logits of one anchor and process that are computed without asking: 256 MiB in float32."""

_CHUNK_FLOATS = 2**25


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
        if negatives == "n_squared":
            losses = _against_all(local, everyone, logit_scale, target_B)
        else:
            order = _permutations(permutations, n_modalities, len(everyone[0]), device)
            losses = [_against_shuffled(i, local, everyone, order[i], logit_scale, target_B) for i in range(n_modalities)]
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
    names = [str(i) for i in range(len(embeddings))]
    losses = multi_pair_info_nce(
        dict(zip(names, embeddings, strict=True)),
        list(combinations(names, 2)),
        1 / logit_scale,
        observed=None if observed is None else dict(zip(names, observed, strict=True)),
        normalise=False,
    )
    return losses.total, int(losses.parts["skipped_pairs"])


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


def _against_shuffled(
    anchor: int, local: Sequence[Tensor], everyone: Sequence[Tensor], order_MN: Tensor, scale: float | Tensor, target_B: Tensor
) -> Tensor:
    """Cross-entropy of an anchor over N shuffled tuples, of which number n is the true one for row n."""
    shuffled_ND = _product([x_ND[order_MN[j]] for j, x_ND in enumerate(everyone) if j != anchor])
    logits_BN = (local[anchor] @ shuffled_ND.T).scatter(1, target_B[:, None], mip(local)[:, None])
    return functional.cross_entropy(scale * logits_BN, target_B)


def _against_all(local: Sequence[Tensor], everyone: Sequence[Tensor], scale: float | Tensor, target_B: Tensor) -> list[Tensor]:
    """Cross-entropy of each anchor over all combinations of rows of the others.

    One process needs the scores of all combinations only once: each anchor is another axis of them.
    """
    shared = _scores(everyone, scale) if world_size() == 1 else None
    losses = []
    for anchor in range(len(local)):
        factors = [local[j] if j == anchor else x_ND for j, x_ND in enumerate(everyone)]
        scores = _scores(factors, scale) if shared is None else shared
        own_B = torch.arange(len(target_B), device=target_B.device)
        true_B = scores[tuple(own_B if j == anchor else target_B for j in range(len(local)))]
        losses.append((scores.logsumexp(dim=[j for j in range(len(local)) if j != anchor]) - true_B).mean())
    return losses


def _scores(factors: Sequence[Tensor], scale: float | Tensor) -> Tensor:
    """s MIP of every combination of rows, one axis a modality. Products of rows are made a chunk at a time."""
    *leading, middle_ND, last_ND = factors
    n_leading = math.prod(len(x_ND) for x_ND in leading)
    step = max(1, _CHUNK_FLOATS // middle_ND.numel())

    def chunk(start: int, middle_ND: Tensor, last_ND: Tensor, *leading: Tensor) -> Tensor:
        number_R = torch.arange(start, min(start + step, n_leading), device=middle_ND.device)
        rows = []
        for x_ND in reversed(leading):
            rows.append(x_ND[number_R % len(x_ND)])
            number_R = number_R // len(x_ND)
        product_RD = (_product(rows)[:, None] * middle_ND).flatten(0, 1) if rows else middle_ND
        return product_RD @ last_ND.T

    scaled_ND = scale * last_ND
    if step >= n_leading:
        parts = [chunk(0, middle_ND, scaled_ND, *leading)]
    else:  # products are made again on the way back, so that they are never held all together
        starts = range(0, n_leading, step)
        parts = [checkpoint(chunk, start, middle_ND, scaled_ND, *leading, use_reentrant=False) for start in starts]
    return torch.cat(parts).view([len(x_ND) for x_ND in factors])
