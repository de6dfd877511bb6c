"""Pairwise contrastive losses whose values and gradients do not depend on the number of processes.

For x, y of shape (B, D) and temperature tau, s_ij = cos(x_i, y_j) / tau, InfoNCE is CE(s, diag) + CE(s^T, diag), or half of
that. Equal embeddings give ln B a direction, and with K different texts in a batch hardly less than ln(B / K) can be reached.

Each process compares its own rows with the rows of all processes (the local form), and the gather passes gradients back
to where rows came from. With gradients averaged over processes, as DDP does, this equals one process with the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError, TrainingError
from models.types import Losses

Reduction = Literal["sum", "mean"]
GroupForm = Literal["mask", "soft"]

MOST_LOGITS = 2**26
"""Logits of one comparison and process that are computed without asking: 256 MiB in float32."""


class LogitScale(nn.Module):
    """A learned multiplier of similarities, exp(log_scale) = 1 / temperature.

    It is clamped after each optimiser step, since a clamp inside `forward` would have no gradient beyond its bounds.

    Args:
        initial: the multiplier at the start; CLIP's is 1 / 0.07.
        learnable: whether it is trained.
        maximum: upper bound of the multiplier, 100 in CLIP; None for none.
        minimum: lower bound.
        pairs: how many multipliers, one a pair of modalities; None for a single one.
    """

    def __init__(
        self,
        initial: float = 1 / 0.07,
        learnable: bool = True,
        maximum: float | None = 100.0,
        minimum: float = 1.0,
        pairs: int | None = None,
    ) -> None:
        super().__init__()
        shape = () if pairs is None else (pairs,)
        self.log_scale = nn.Parameter(torch.full(shape, math.log(initial)), requires_grad=learnable)
        self.minimum, self.maximum = minimum, maximum

    def forward(self) -> Tensor:
        """The multiplier, shape () or (pairs,)."""
        return self.log_scale.exp()

    def clamp(self) -> None:
        """Bring the parameter back between its bounds."""
        high = None if self.maximum is None else math.log(self.maximum)
        with torch.no_grad():
            self.log_scale.clamp_(math.log(self.minimum), high)

    def clamp_after(self, optimizer: torch.optim.Optimizer) -> None:
        """Clamp whenever this optimiser has taken a step."""
        optimizer.register_step_post_hook(lambda *_: self.clamp())


def info_nce(
    x: Tensor,
    y: Tensor,
    temperature: float | Tensor,
    reduction: Reduction = "sum",
    group: Tensor | None = None,
    *,
    group_form: GroupForm = "mask",
    most_logits: int = MOST_LOGITS,
) -> Tensor:
    """InfoNCE between rows of equal position, with all rows of all processes as negatives.

    Args:
        x: embeddings of this process, shape (B, D), any length.
        y: their partners, shape (B, D).
        temperature: tau, divides the cosines.
        reduction: "sum" adds both directions as MERL's code does, "mean" halves that as CLIP does.
        group: int64 (B,); rows of one group (a patient, a report) are no negatives of each other. None: all are.
        group_form: "mask" takes the row's group out of the denominator, its partner excepted; "soft" makes all of the group
            equally right.
        most_logits: refuse a batch that needs more of them in one direction on this process.

    Returns:
        Scalar: mean over this process's rows. The mean over processes is the loss of the whole batch.

    Raises:
        ConfigurationError: more logits than `most_logits`.
        TrainingError: processes hold batches of different size.
    """
    with _full_precision(x):
        sides = _side(x, normalise=True), _side(y, normalise=True)
        check_logits(len(sides[0].own_BD), len(sides[0].all_ND), most_logits)
        total = _both_directions(*sides, temperature, None, None if group is None else gather(group), group_form)
    return total if reduction == "sum" else total / 2


def multi_pair_info_nce(
    features: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
    temperature: float | Tensor,
    *,
    weights: Sequence[float] | None = None,
    reduction: Reduction = "sum",
    observed: Mapping[str, Tensor] | None = None,
    group: Tensor | None = None,
    group_form: GroupForm = "mask",
    normalise: bool = True,
    most_logits: int = MOST_LOGITS,
) -> Losses:
    """Symmetric InfoNCE (the mean of both directions) of several pairs of modalities. Each modality is gathered once.

    A row that lacks either side of a pair is neither query nor candidate of it. A pair of which fewer than two rows of all
    processes have both sides has no negatives and is skipped, on all processes alike.

    Args:
        features: by modality, this process's embeddings (B, D); what stands in rows that are not observed is not read.
        pairs: which modalities are compared.
        temperature: tau, shape () or one a pair, shape (P,).
        weights: one a pair; None for 1.
        reduction: "sum" over pairs, or their weighted "mean" over the pairs that were not skipped.
        observed: by modality, bool (B,); modalities without an entry are there in every row.
        group: as in `info_nce`.
        group_form: as in `info_nce`.
        normalise: whether cosines are compared, or the vectors as they are.
        most_logits: refuse a batch that needs more of them in one direction of one pair on this process.

    Returns:
        The loss; its parts are the term of each pair that was not skipped ("text_ecg"), unweighted, and "skipped_pairs". With
        all pairs skipped it is zero and still gives every embedding and the temperature a gradient, of zeros.

    Raises:
        ConfigurationError: no pairs, a pair without features, weights or temperatures of another number, or more logits than
            `most_logits`.
        TrainingError: processes, or modalities, hold batches of different size.
    """
    _check_pairs(features, pairs, weights, temperature)
    names = sorted({name for pair in pairs for name in pair})
    first = features[names[0]]
    seen = {name: rows_B for name, rows_B in (observed or {}).items() if name in names}
    with _full_precision(first):
        sides = {name: _side(features[name], normalise, seen.get(name)) for name in names}
        check_logits(len(first), len(sides[names[0]].all_ND), most_logits)
        seen_N = dict(zip(seen, gather(torch.stack(list(seen.values()), dim=1).long()).bool().unbind(1), strict=True)) if seen else {}
        group_N = None if group is None else gather(group)
        # Nothing is added, but every process has every parameter in its graph, whatever its rows lack.
        total = torch.stack([side.own_BD.sum() for side in sides.values()]).sum() * 0
        if isinstance(temperature, Tensor):
            total = total + temperature.sum() * 0
        parts: dict[str, Tensor] = {}
        weight_sum = 0.0
        for number, (one, other) in enumerate(pairs):
            both_N = _both(seen_N.get(one), seen_N.get(other))
            if (len(sides[one].all_ND) if both_N is None else int(both_N.sum())) < 2:
                continue
            tau = temperature[number] if isinstance(temperature, Tensor) and temperature.ndim else temperature
            term = _both_directions(sides[one], sides[other], tau, both_N, group_N, group_form) / 2
            parts[f"{one}_{other}"] = term
            weight = 1.0 if weights is None else weights[number]
            total, weight_sum = total + weight * term, weight_sum + weight
        if reduction == "mean" and weight_sum:
            total = total / weight_sum
    skipped = torch.tensor(float(len(pairs) - len(parts)), device=first.device)
    return Losses(total, {**parts, "skipped_pairs": skipped})


class _Side(NamedTuple):
    """One modality: embeddings of this process (B, D), and those of all processes (N, D)."""

    own_BD: Tensor
    all_ND: Tensor


def _side(x_BD: Tensor, normalise: bool, observed_B: Tensor | None = None) -> _Side:
    x_BD = full(x_BD)
    if observed_B is not None:
        x_BD = torch.where(observed_B[:, None], x_BD, 0.0)
    if normalise:
        x_BD = functional.normalize(x_BD, dim=1)
    return _Side(x_BD, gather(x_BD))


def _both(one_N: Tensor | None, other_N: Tensor | None) -> Tensor | None:
    """Rows of all processes that have both; None for all of them."""
    if one_N is None or other_N is None:
        return one_N if other_N is None else other_N
    return one_N & other_N


def _both_directions(
    x: _Side, y: _Side, temperature: float | Tensor, both_N: Tensor | None, group_N: Tensor | None, group_form: GroupForm
) -> Tensor:
    """The two cross-entropies added, over this process's share of the rows that have both sides.

    Processes hold different numbers of such rows: the sum is divided by their mean number, so that the mean over processes is
    the mean over all rows. A process without any takes part all the same, since its rows of other processes wait for it.
    """
    target_B = torch.arange(len(x.own_BD), device=x.own_BD.device) + rank() * len(x.own_BD)
    if both_N is not None:
        mine_B = both_N[target_B]
        target_B = (both_N.cumsum(0) - 1)[target_B][mine_B]
        x, y = (_Side(side.own_BD[mine_B], side.all_ND[both_N]) for side in (x, y))
        group_N = None if group_N is None else group_N[both_N]
    same_BN = None if group_N is None else group_N[target_B][:, None] == group_N[None]
    forward = _cross_entropy(x.own_BD @ y.all_ND.T / temperature, target_B, same_BN, group_form)
    backward = _cross_entropy(y.own_BD @ x.all_ND.T / temperature, target_B, same_BN, group_form)
    return (forward + backward) * (world_size() / len(x.all_ND))


def _cross_entropy(logits_BN: Tensor, target_B: Tensor, same_BN: Tensor | None, group_form: GroupForm) -> Tensor:
    """Summed over rows."""
    if same_BN is None:
        return functional.cross_entropy(logits_BN, target_B, reduction="sum")
    if group_form == "soft":
        return functional.cross_entropy(logits_BN, same_BN.to(logits_BN) / same_BN.sum(dim=1, keepdim=True), reduction="sum")
    others_BN = same_BN.scatter(1, target_B[:, None], False)
    return functional.cross_entropy(logits_BN.masked_fill(others_BN, float("-inf")), target_B, reduction="sum")


def _full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Similarities are divided by a small temperature: half precision would lose the differences that magnifies."""
    return torch.autocast(x.device.type, enabled=False)


def check_logits(n_rows: int, n_all: int, most_logits: int = MOST_LOGITS) -> None:
    """Refuse a comparison of `n_rows` rows of a process with `n_all` rows before anything of that size is allocated.

    Raises:
        ConfigurationError: it needs more than `most_logits` logits.
    """
    if n_rows * n_all > most_logits:
        raise ConfigurationError(
            f"comparing {n_rows:,} rows with {n_all:,} needs {n_rows * n_all:,} logits ({n_rows * n_all / 2**28:.1f} GiB) in one "
            f"direction, more than {most_logits:,}; lower batch_size, train on more devices, or raise the limit"
        )


def _check_pairs(
    features: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]], weights: Sequence[float] | None, temperature: float | Tensor
) -> None:
    missing = sorted({name for pair in pairs for name in pair} - set(features))
    if missing or not pairs:
        raise ConfigurationError(
            f"pairs to compare need features of both sides; there are {', '.join(features)}, not {', '.join(missing) or 'a pair'}"
        )
    counts = {"weights": None if weights is None else len(weights)}
    if isinstance(temperature, Tensor) and temperature.ndim:
        counts["temperatures"] = temperature.numel()
    for what, count in counts.items():
        if count is not None and count != len(pairs):
            raise ConfigurationError(f"there are {count} {what} for {len(pairs)} pairs; give one a pair")
    sizes = {name: len(features[name]) for pair in pairs for name in pair}
    if len(set(sizes.values())) > 1:
        raise TrainingError(
            f"modalities hold different numbers of rows ({sizes}); give every record a row, and say in `observed` what is there"
        )


def gather(x_BD: Tensor) -> Tensor:
    """Rows of all processes in rank order, shape (W B, ...), with gradients to every process; identity for one process.

    Raises:
        TrainingError: processes hold batches of different size.
    """
    if world_size() == 1:
        return x_BD
    gathered: Tensor = _Gather.apply(x_BD)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BD: Tensor) -> Tensor:
        world = dist.get_world_size()
        sizes = [torch.zeros(1, dtype=torch.int64, device=x_BD.device) for _ in range(world)]
        dist.all_gather(sizes, torch.tensor([len(x_BD)], device=x_BD.device))
        if len({int(s) for s in sizes}) > 1:
            raise TrainingError(
                f"processes hold batches of different size ({', '.join(str(int(s)) for s in sizes)}); drop the last incomplete batch"
            )
        parts = [torch.empty_like(x_BD) for _ in range(world)]
        dist.all_gather(parts, x_BD.contiguous())
        ctx.rows = len(x_BD)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def full(x: Tensor) -> Tensor:
    """A tensor in float32, or in float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if world_size() > 1 else 0
