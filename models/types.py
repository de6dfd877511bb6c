"""The words that every module shares: modalities, lead names and the tensors that travel between them.

Shape letters, used as suffixes of tensor names throughout: B batch, L leads, T time, D embedding width, N tokens,
C classes, F features. Signals are in microvolts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

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
    """What a training or evaluation step sees.

    Attributes:
        signal_BLT: float32 microvolts, shape (B, L, T).
        row_B: int64 row numbers in the store's index, shape (B,).
        texts: one report per record, or None where the method learns without text.
        labels_BC: float32 zeros and ones, shape (B, C), or None.
    """

    signal_BLT: Tensor
    row_B: Tensor
    texts: list[str] | None = None
    labels_BC: Tensor | None = None


@dataclass
class Features:
    """What an encoder makes of a batch.

    Attributes:
        pooled_BF: the feature vector that linear probes read, shape (B, F).
        embedding_BD: the projected embedding in the space shared with other modalities, shape (B, D), or None.
        tokens_BNF: the sequence before pooling, shape (B, N, F), or None.
    """

    pooled_BF: Tensor
    embedding_BD: Tensor | None = None
    tokens_BNF: Tensor | None = None


@dataclass
class Losses:
    """A scalar to minimise and its named parts, all tensors of shape ()."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
