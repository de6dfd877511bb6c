"""The sigmoid loss for pairs (SigLIP; Zhai et al., ICCV 2023, arXiv 2303.15343): every cell of the matrix is a yes or no.

With z_ij = s cos(x_i, y_j) + b, and t_ij = 1 for partners and -1 elsewhere, the loss is -1/B sum_ij log sigmoid(t_ij z_ij).
Since -log sigmoid(z) = softplus(z) - z, that is the sum of softplus(z) over all cells less z over the diagonal: labels are never
built, and rows can be worked on a few at a time. As in `models.objectives.contrastive`, each process compares its own rows
with those of all, and the mean over processes is the loss of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.objectives.contrastive import MOST_LOGITS, LogitScale, check_logits, full, gather


class SigLip(nn.Module):
    """The sigmoid loss with its learned scale and bias. It starts with s = 10 and b = -10, since nearly all cells are a no."""

    def __init__(self, scale: float = 10.0, bias: float = -10.0, chunk_rows: int | None = None) -> None:
        super().__init__()
        self.scale = LogitScale(scale, maximum=None)
        self.bias = nn.Parameter(torch.tensor(bias))
        self.chunk_rows = chunk_rows

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of embeddings (B, D) and their partners, shape ()."""
        return siglip(x, y, self.scale(), self.bias, self.chunk_rows)


def siglip(
    x: Tensor,
    y: Tensor,
    scale: float | Tensor,
    bias: float | Tensor,
    chunk_rows: int | None = None,
    most_logits: int = MOST_LOGITS,
) -> Tensor:
    """The sigmoid loss between rows of equal position, with all rows of all processes as negatives.

    Args:
        x: embeddings of this process, shape (B, D), any length.
        y: their partners, shape (B, D).
        scale: s, multiplies the cosines.
        bias: b, is added.
        chunk_rows: rows that are compared at a time, and again on the way back, so that no more logits are held; None for all.
        most_logits: refuse a comparison that needs more of them at a time.

    Returns:
        Scalar: sum over cells divided by this process's rows. The mean over processes is the loss of the whole batch.

    Raises:
        ConfigurationError: more logits than `most_logits`.
        TrainingError: processes hold batches of different size.
    """
    with torch.autocast(x.device.type, enabled=False):
        x_BD, y_BD = functional.normalize(full(x), dim=1), functional.normalize(full(y), dim=1)
        y_ND = gather(y_BD)
        rows = chunk_rows or len(x_BD)
        check_logits(min(rows, len(x_BD)), len(y_ND), most_logits)

        def cells(x_RD: Tensor) -> Tensor:
            return functional.softplus(scale * (x_RD @ y_ND.T) + bias).sum()

        if rows >= len(x_BD):
            total = cells(x_BD)
        else:
            total = torch.stack(
                [checkpoint(cells, x_RD, use_reentrant=False, preserve_rng_state=False) for x_RD in torch.split(x_BD, rows)]
            ).sum()
        partners_B = scale * (x_BD * y_BD).sum(dim=1) + bias
        return (total - partners_B.sum()) / len(x_BD)
