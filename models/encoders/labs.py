"""The encoder of a lab panel: an MLP over percentiles and over what was measured (Symile's, Saporta et al., 2024).

P is the number of items of the panel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabPanel(nn.Module):
    """Linear, GELU and so on over [percentiles, observed], (B, 2 P).

    Percentiles of items that were not measured are zero here, whatever the panel holds in their place, so what they are
    filled with cannot matter. The published network reads the training mean there.

    Args:
        n_items: P.
        hidden: widths of the layers; the last is the width of the output.
    """

    def __init__(self, n_items: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width in zip((2 * n_items, *hidden[:-1]), hidden, strict=True):
            layers += [nn.Linear(width_in, width), nn.GELU()]
        self.layers = nn.Sequential(*layers)
        self.width = hidden[-1]

    def forward(self, percentile_BP: Tensor, observed_BP: Tensor) -> Tensor:
        """Encode percentiles in [0, 1] and bools, both (B, P), into (B, F)."""
        seen_BP = observed_BP.to(percentile_BP.dtype)
        pooled_BF: Tensor = self.layers(torch.cat([torch.where(observed_BP, percentile_BP, 0.0), seen_BP], dim=1))
        return pooled_BF
