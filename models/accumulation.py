"""Large contrastive batches on little memory: encode a batch in parts, compare it as a whole.

Each part runs without keeping its activations; the loss is computed once, from the features of all parts; on the way back each
part runs again, with the random numbers of the first time (dropout, DropKey, masks), and receives its share of the gradient. So
gradients of towers and of the scale are those of one large batch: the scale is differentiated once, not once a part. This is
gradient caching (Gao et al. 2021, arXiv 2101.06983), expressed as activation checkpointing.

Batch norm is the one exception: its statistics are those of a part. They are moved once, not again when the part runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from models.errors import TrainingError
from models.types import Batch

Towers = Callable[[Batch], dict[str, Tensor]]


def in_parts(towers: Towers, batch: Batch, n_parts: int) -> dict[str, Tensor]:
    """The towers of a batch, computed in `n_parts` equal parts; as they are for one part.

    Args:
        towers: a bound method of a network; gives tensors (B, ...) by name.
        batch: its records.
        n_parts: at least 1.

    Raises:
        TrainingError: the batch cannot be cut evenly.
    """
    if n_parts == 1:
        return towers(batch)
    if n_parts < 1 or len(batch) % n_parts:
        raise TrainingError(f"a batch of {len(batch)} records cannot be cut into {n_parts} equal parts; change batch_size or accumulate")
    size = len(batch) // n_parts
    network = getattr(towers, "__self__", None)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still(network) if isinstance(network, nn.Module) else nullcontext()

    def run(part: Batch, _device: Tensor) -> dict[str, Tensor]:
        return towers(part)

    found: list[dict[str, Tensor]] = []
    for start in range(0, len(batch), size):
        part = batch.part(start, start + size)
        if torch.is_grad_enabled():
            # `checkpoint` restores random states of the devices whose tensors it is given, and does not look into a batch.
            found.append(checkpoint(run, part, part.row_B, use_reentrant=False, preserve_rng_state=True, context_fn=contexts))
        else:
            found.append(towers(part))
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


@contextmanager
def _still(network: nn.Module) -> Iterator[None]:
    """Leave running statistics of batch norm where they are."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in norms]
    counts = [None if m.num_batches_tracked is None else m.num_batches_tracked.clone() for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)
