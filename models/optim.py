"""The optimiser that methods share, by the quickest implementation that their device has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def adamw(groups: Iterable[nn.Parameter] | Iterable[dict[str, Any]], **options: Any) -> torch.optim.AdamW:
    """AdamW, as one fused kernel where every parameter is on a GPU.

    Args:
        groups: parameters, or groups of them, as torch takes them.
        options: of `torch.optim.AdamW`.
    """
    listed: list[Any] = list(groups)
    parameters = [p for group in listed for p in (group["params"] if isinstance(group, dict) else [group])]
    fused = bool(parameters) and all(p.device.type == "cuda" for p in parameters)
    return torch.optim.AdamW(listed, fused=fused or None, **options)
