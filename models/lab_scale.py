"""How lab values become percentiles: the empirical distributions that a pairing fitted, as they travel with an encoder.

An encoder that reads lab panels knows percentiles only. So its bundle holds `labs.json`, with which a panel that no pairing has
seen can be brought to the same scale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import CheckpointError, TrainingError

LABS = "labs.json"


@dataclass(frozen=True)
class LabScale:
    """Empirical distribution of each item of a panel among the training panels.

    Attributes:
        items: item ids, in the order of the panel.
        values: different training values of each item, ascending.
        shares: share of the training values that are at most that, for each of them.
        means_P: mean percentile of the training values, float64 (P,); a missing value gets it.
    """

    items: tuple[str, ...]
    values: tuple[NDArray[np.float64], ...]
    shares: tuple[NDArray[np.float64], ...]
    means_P: NDArray[np.float64]

    def apply(self, values_NP: NDArray[np.float64]) -> NDArray[np.float32]:
        """Percentiles (N, P) in [0, 1]: the share of training values that are at most the value; the mean for NaN, which is missing.

        Raises:
            CheckpointError: the panels have another number of items.
        """
        if values_NP.ndim != 2 or values_NP.shape[1] != len(self.items):
            raise CheckpointError(f"panels of shape {values_NP.shape} are given, the encoder reads {len(self.items)} items: {self.items}")
        percentile_NP = np.tile(self.means_P, (len(values_NP), 1))
        for p, (values, shares) in enumerate(zip(self.values, self.shares, strict=True)):
            there = ~np.isnan(values_NP[:, p])
            if len(values):  # an item without any training value keeps its mean
                percentile_NP[there, p] = np.append(0.0, shares)[np.searchsorted(values, values_NP[there, p], "right")]
        return percentile_NP.astype(np.float32)

    def as_json(self) -> bytes:
        """The scale as JSON, equal bytes for equal scales."""
        rows = zip(self.items, self.means_P.tolist(), self.values, self.shares, strict=True)
        items = [{"item_id": i, "mean_percentile": m, "values": v.tolist(), "percentiles": s.tolist()} for i, m, v, s in rows]
        return json.dumps({"items": items}, allow_nan=False).encode()


def read_pairing_scale(pairing: Path) -> LabScale | None:
    """The scale of a pairing (items.parquet, percentiles.parquet); None for one without lab panels.

    Raises:
        TrainingError: the tables cannot be read.
    """
    if not (pairing / "items.parquet").exists():
        return None
    try:
        items, steps = pq.read_table(pairing / "items.parquet"), pq.read_table(pairing / "percentiles.parquet")
        names = items["item_id"].to_pylist()
        owner = np.array(steps["item_id"].to_pylist(), dtype=np.str_)
        value, share = (steps[c].to_numpy().astype(np.float64) for c in ("value", "percentile"))
        means_P = items["mean_percentile"].to_numpy().astype(np.float64)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise TrainingError(f"{pairing} holds no readable scale of lab values ({error}); materialise the pairing again") from error
    return LabScale(tuple(names), tuple(value[owner == n] for n in names), tuple(share[owner == n] for n in names), means_P)


def read_bundle_scale(bundle: Path) -> LabScale:
    """The scale that travels with an encoder; verify the bundle before.

    Raises:
        CheckpointError: the bundle has none, or it cannot be read.
    """
    try:
        items = json.loads((bundle / LABS).read_text())["items"]
        values, shares = (tuple(np.array(i[name], np.float64) for i in items) for name in ("values", "percentiles"))
        means_P = np.array([i["mean_percentile"] for i in items], np.float64)
        return LabScale(tuple(i["item_id"] for i in items), values, shares, means_P)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{bundle / LABS} cannot be read ({error!r}); the encoder reads no lab panels, or train it again") from error
