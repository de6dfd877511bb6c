"""Reports as training data of their own, for stages that read no signals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from models.data import IntArray, count_words, numbered
from models.errors import ConfigurationError, TrainingError
from models.signal_scale import SignalScale
from models.types import Batch


@dataclass(frozen=True)
class Texts:
    """Texts alone, for training that reads no signals."""

    ids: list[str]
    texts: list[str]
    patients: IntArray
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, positions: IntArray) -> Batch:
        """The texts at some positions; the signal is empty."""
        rows = np.asarray(positions, np.int64)
        return Batch(torch.zeros(len(rows), 0, 0), torch.from_numpy(rows), [self.texts[i] for i in rows])

    def names(self, rows: Sequence[int]) -> list[str]:
        """Ids of some rows of batches."""
        return [self.ids[int(row)] for row in rows]

    def vocabulary(self) -> list[str]:
        """All texts, from which a tokenizer learns."""
        return self.texts

    def scale(self) -> SignalScale:
        """There are no signals.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("texts alone have no signals whose scale could be measured")

    def on(self, device: torch.device) -> Texts:
        """There is nothing to hold."""
        return self


def texts_of_folds(reports: Path, folds: Sequence[int], min_words: int) -> Texts:
    """The reports of some folds, those of fewer words than `min_words` left out.

    Raises:
        TrainingError: nothing is left, or the table cannot be read.
    """
    try:
        table = pq.read_table(reports, columns=["record_id", "patient_id", "fold", "text"])
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{reports} is not a reports table ({error}); materialise the reports again") from error
    in_folds = table.filter(np.isin(table["fold"].to_numpy(), list(folds)))
    ids, patients, texts = (in_folds[c].to_pylist() for c in ("record_id", "patient_id", "text"))
    kept = [i for i, text in enumerate(texts) if count_words(text or "") >= max(1, min_words)]
    if not kept:
        raise TrainingError(f"no text to learn from: folds {list(folds)} of {reports} hold {len(ids)} records, none with a usable report")
    return Texts([ids[i] for i in kept], [texts[i] for i in kept], numbered([patients[i] for i in kept]), len(ids) - len(kept))
