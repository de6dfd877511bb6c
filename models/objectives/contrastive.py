"""Pairwise contrastive loss (InfoNCE) whose value and gradients do not depend on the number of processes.

For x, y of shape (B, D), s_ij = cos(x_i, y_j) / tau, L(x, y) = CE(s, diag) + CE(s^T, diag).
Each process compares its own rows with the rows of all processes (the local form), and the gather passes gradients back
to where rows came from. With gradients averaged over processes, as DDP does, this equals one process with the whole batch.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from models.errors import TrainingError

DirectionReduction = Literal["sum", "mean"]


def info_nce(x_BD: Tensor, y_BD: Tensor, temperature: float, direction_reduction: DirectionReduction = "sum") -> Tensor:
    """InfoNCE between rows of equal position, with all rows of all processes as negatives (MERL's CMA and UMA).

    Args:
        x_BD: embeddings of this process, shape (B, D), any length.
        y_BD: their partners, shape (B, D).
        temperature: tau, divides the cosines.
        direction_reduction: "sum" adds both directions as MERL's code does, "mean" halves that as CLIP does.

    Returns:
        Scalar: mean over this process's rows. The mean over processes is the loss of the whole batch.

    Raises:
        TrainingError: processes hold batches of different size.
    """
    # Similarities are divided by a small temperature: half precision would lose the differences that magnifies.
    with torch.autocast(x_BD.device.type, enabled=False):
        x_BD, y_BD = functional.normalize(_full(x_BD), dim=1), functional.normalize(_full(y_BD), dim=1)
        target_B = torch.arange(len(x_BD), device=x_BD.device) + _rank() * len(x_BD)
        forward = functional.cross_entropy(x_BD @ gather(y_BD).T / temperature, target_B)
        backward = functional.cross_entropy(y_BD @ gather(x_BD).T / temperature, target_B)
        total = forward + backward
    return total if direction_reduction == "sum" else total / 2


def gather(x_BD: Tensor) -> Tensor:
    """Rows of all processes in rank order, shape (W B, D), with gradients to every process; identity for one process.

    Raises:
        TrainingError: processes hold batches of different size.
    """
    if not _distributed():
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
        return total[_rank() * ctx.rows : (_rank() + 1) * ctx.rows]


def _full(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _rank() -> int:
    return dist.get_rank() if _distributed() else 0
