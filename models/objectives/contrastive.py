"""Pairwise contrastive losses whose values and gradients do not depend on the number of processes.

For x, y of shape (B, D) and temperature tau, s_ij = cos(x_i, y_j) / tau, InfoNCE is CE(s, diag) + CE(s^T, diag).
Each process compares its own rows with the rows of all processes (the local form), and the gather passes gradients back
to where rows came from. With gradients averaged over processes, as DDP does, this equals one process with the whole batch.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from models.errors import TrainingError

Reduction = Literal["sum", "mean"]


class LogitScale(nn.Module):
    """A learned multiplier of similarities, exp(log_scale) = 1 / temperature.

    It is clamped after each optimiser step, since a clamp inside `forward` would have no gradient beyond its bounds.

    Args:
        initial: the multiplier at the start; CLIP's is 1 / 0.07.
        learnable: whether it is trained.
        maximum: upper bound of the multiplier, 100 in CLIP; None for none.
        minimum: lower bound.
    """

    def __init__(self, initial: float = 1 / 0.07, learnable: bool = True, maximum: float | None = 100.0, minimum: float = 1.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial)), requires_grad=learnable)
        self.minimum, self.maximum = minimum, maximum

    def forward(self) -> Tensor:
        """The multiplier, shape ()."""
        return self.log_scale.exp()

    def clamp(self) -> None:
        """Bring the parameter back between its bounds."""
        high = None if self.maximum is None else math.log(self.maximum)
        with torch.no_grad():
            self.log_scale.clamp_(math.log(self.minimum), high)

    def clamp_after(self, optimizer: torch.optim.Optimizer) -> None:
        """Clamp whenever this optimiser has taken a step."""
        optimizer.register_step_post_hook(lambda *_: self.clamp())


def info_nce(x: Tensor, y: Tensor, temperature: float | Tensor, reduction: Reduction = "sum", group: Tensor | None = None) -> Tensor:
    """InfoNCE between rows of equal position, with all rows of all processes as negatives.

    Args:
        x: embeddings of this process, shape (B, D), any length.
        y: their partners, shape (B, D).
        temperature: tau, divides the cosines.
        reduction: "sum" adds both directions as MERL's code does, "mean" halves that as CLIP does.
        group: int64 (B,); rows of one group (a patient, a report) are no negatives of each other. None: all are.

    Returns:
        Scalar: mean over this process's rows. The mean over processes is the loss of the whole batch.

    Raises:
        TrainingError: processes hold batches of different size.
    """
    # Similarities are divided by a small temperature: half precision would lose the differences that magnifies.
    with torch.autocast(x.device.type, enabled=False):
        x, y = functional.normalize(full(x), dim=1), functional.normalize(full(y), dim=1)
        target_B = torch.arange(len(x), device=x.device) + rank() * len(x)
        same_BN = None if group is None else _same_group(group, target_B)
        forward = _cross_entropy(x @ gather(y).T / temperature, target_B, same_BN)
        backward = _cross_entropy(y @ gather(x).T / temperature, target_B, same_BN)
        total = forward + backward
    return total if reduction == "sum" else total / 2


def _cross_entropy(logits_BN: Tensor, target_B: Tensor, same_BN: Tensor | None) -> Tensor:
    if same_BN is not None:
        logits_BN = logits_BN.masked_fill(same_BN, float("-inf"))
    return functional.cross_entropy(logits_BN, target_B)


def _same_group(group_B: Tensor, target_B: Tensor) -> Tensor:
    """Where a column is of the row's group without being its partner, bool (B, N)."""
    same_BN = group_B[:, None] == gather(group_B)[None]
    return same_BN.scatter(1, target_B[:, None], False)


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
