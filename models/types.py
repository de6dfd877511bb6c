"""The words that every module shares: modalities, lead names and the tensors that travel between them.

Shape letters, used as suffixes of tensor names throughout: B batch, L leads, T time, D embedding width, N tokens,
C classes, F features, H image rows, W image columns, P lab items. Signals are in microvolts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The fixed lead order of every 12-lead store."""


class Modality(StrEnum):
    """A kind of input that a method learns from."""

    ECG = "ecg"
    PPG = "ppg"
    TEXT = "text"
    IMAGE = "image"
    LABS = "labs"
    WEARABLE = "wearable"


@dataclass
class Batch:
    """What a training or evaluation step sees. A modality that a method does not read is None for the whole batch.

    Attributes:
        signal_BLT: float32 microvolts, shape (B, L, T); zeros where `observed` says that there is none.
        row_B: int64 numbers that tell the records of a job apart (`record_ids` of its source names them), shape (B,).
        texts: one report per record ("" where missing), or None where the method learns without text.
        labels_BC: float32 zeros and ones, shape (B, C), or None.
        image_BHW: uint8 grey images, shape (B, H, W); zeros where missing.
        image_texts: one report per image ("" where missing).
        labs_BP: float32 percentiles of a lab panel in [0, 1], shape (B, P); missing items hold the training mean.
        labs_observed_BP: bool, True where an item was measured, shape (B, P).
        observed: by modality, bool (B,): whether the record has it. Modalities without an entry are there for every record.
        group_B: int64 numbers of patients, shape (B,), or None where nothing asks for them.
        present_BL: bool, shape (B, L): which channels a record has; the others hold zeros. None where all of them have all.
        source_B: int64, shape (B,): which member of a mixture of datasets a record comes from; None where there is one.
    """

    signal_BLT: Tensor
    row_B: Tensor
    texts: list[str] | None = None
    labels_BC: Tensor | None = None
    image_BHW: Tensor | None = None
    image_texts: list[str] | None = None
    labs_BP: Tensor | None = None
    labs_observed_BP: Tensor | None = None
    observed: dict[str, Tensor] | None = None
    group_B: Tensor | None = None
    present_BL: Tensor | None = None
    source_B: Tensor | None = None

    def __len__(self) -> int:
        return len(self.row_B)

    def has(self, modality: Modality) -> Tensor:
        """Which records have a modality, bool (B,)."""
        import torch

        if self.observed is not None and modality in self.observed:
            return self.observed[modality]
        return torch.ones(len(self), dtype=torch.bool, device=self.row_B.device)

    def part(self, start: int, stop: int) -> Batch:
        """The records from `start` to before `stop`."""
        cut = {f.name: _cut(getattr(self, f.name), slice(start, stop)) for f in fields(self)}
        return Batch(**cut)


def _cut(value: Any, rows: slice) -> Any:
    if isinstance(value, dict):
        return {name: part[rows] for name, part in value.items()}
    return None if value is None else value[rows]


@dataclass
class Features:
    """What an encoder makes of a batch.

    Attributes:
        pooled_BF: the feature vector that linear probes read, shape (B, F).
        embedding_BD: the projected embedding in the space shared with other modalities, shape (B, D), or None.
        tokens_BNF: the sequence before pooling, shape (B, N, F), or None.
        tokens_present_BN: bool, shape (B, N): which tokens stand for something; None where all of them do.
    """

    pooled_BF: Tensor
    embedding_BD: Tensor | None = None
    tokens_BNF: Tensor | None = None
    tokens_present_BN: Tensor | None = None


@dataclass
class Losses:
    """A scalar to minimise and its named parts, all tensors of shape ()."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
