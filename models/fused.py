"""A head that reads X-ray and ECG together and does without the ECG where there is none (MoRE, arXiv 2410.16239).

    logits = W Dropout([x, e]) + b

with x and e the projections of image and ECG of a frozen encoder. In training e is replaced by zeros for a share of the records,
drawn for each record; a record without an ECG is read with zeros too. Letters: N records, D width of a projection, C classes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.errors import CheckpointError, TrainingError
from models.heads import EpochReport, macro_auroc

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class FusedRecipe:
    """How a fused head is trained. The dropouts are MoRE's; a layer on frozen features learns faster than MoRE's fine-tuning.

    Attributes:
        dropout: of the joined projections.
        ecg_absent: share of training records whose ECG is withheld.
    """

    dropout: float = 0.2
    ecg_absent: float = 0.3
    lr: float = 3e-3
    weight_decay: float = 0.02
    batch_size: int = 64
    epochs: int = 100


class FusedHead(nn.Module):
    """One linear layer on the projections of image and ECG."""

    def __init__(self, width: int, n_classes: int, recipe: FusedRecipe | None = None) -> None:
        super().__init__()
        recipe = recipe or FusedRecipe()
        self.ecg_absent = recipe.ecg_absent
        self.dropout = nn.Dropout(recipe.dropout)
        self.out = nn.Linear(2 * width, n_classes)

    def forward(self, image_BD: Tensor, ecg_BD: Tensor, has_ecg_B: Tensor) -> Tensor:
        """Logits (B, C); `ecg_BD` is not read where `has_ecg_B` is False."""
        if self.training:
            has_ecg_B = has_ecg_B & (torch.rand(len(has_ecg_B), device=has_ecg_B.device) >= self.ecg_absent)
        return self.logits(self.join(image_BD, ecg_BD, has_ecg_B))

    @staticmethod
    def join(image_BD: Tensor, ecg_BD: Tensor, has_ecg_B: Tensor) -> Tensor:
        """Both projections side by side, zeros for a missing ECG, (B, 2 D)."""
        return torch.cat([image_BD, torch.where(has_ecg_B[:, None], ecg_BD, 0.0)], dim=1)

    def logits(self, joined_BX: Tensor) -> Tensor:
        """Logits (B, C) of joined projections."""
        out: Tensor = self.out(self.dropout(joined_BX))
        return out


def train_fused(
    image_ND: FloatArray,
    ecg_ND: FloatArray,
    has_ecg_N: NDArray[np.bool_],
    labels_NC: NDArray[np.int8],
    train_N: IntArray,
    validation_N: IntArray,
    seed: int,
    recipe: FusedRecipe | None = None,
) -> tuple[FusedHead, list[EpochReport]]:
    """Train a fused head and keep the epoch with the best validation macro AUROC.

    Args:
        image_ND: projections of the images, one a record.
        ecg_ND: projections of the ECGs; not read where there is none.
        has_ecg_N: which records have an ECG.
        labels_NC: zeros and ones.
        train_N: positions of training records.
        validation_N: positions of validation records.
        seed: of weights, order, dropout and withheld ECGs.
        recipe: the published one by default.

    Returns:
        The head in evaluation mode, and all epochs; the last epoch where no class has both outcomes in validation.

    Raises:
        TrainingError: no training records, or a loss that is not finite.
    """
    recipe = recipe or FusedRecipe()
    if not len(train_N):
        raise TrainingError("no record with an image to train a fused head on; check the folds of the pairing")
    tensors = torch.from_numpy(image_ND), torch.from_numpy(ecg_ND), torch.from_numpy(has_ecg_N)
    target_NC = torch.from_numpy(labels_NC).float()
    best: tuple[float, dict[str, Tensor]] | None = None
    history: list[EpochReport] = []
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        head = FusedHead(image_ND.shape[1], labels_NC.shape[1], recipe)
        optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        for epoch in range(1, recipe.epochs + 1):
            total = 0.0
            for rows in torch.from_numpy(train_N)[torch.randperm(len(train_N))].split(recipe.batch_size):  # type: ignore[no-untyped-call]
                logits_BC = head.train()(*(t[rows] for t in tensors))
                loss = functional.binary_cross_entropy_with_logits(logits_BC, target_NC[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item() * len(rows)
            if not math.isfinite(total):
                raise TrainingError("the loss of the fused head is not finite; look at the encoder's projections or train it again")
            judged = scores(head, image_ND[validation_N], ecg_ND[validation_N], has_ecg_N[validation_N])
            value = macro_auroc(judged, labels_NC[validation_N])
            history.append(EpochReport(epoch, total / len(train_N), value))
            if best is None or math.isnan(best[0]) or value > best[0]:
                best = value, {k: v.clone() for k, v in head.state_dict().items()}
    if best is not None:
        head.load_state_dict(best[1])
    return head.eval(), history


def scores(head: FusedHead, image_ND: FloatArray, ecg_ND: FloatArray, has_ecg_N: NDArray[np.bool_]) -> FloatArray:
    """Logits (N, C) in evaluation mode."""
    with torch.no_grad():
        found: FloatArray = head.eval()(*map(torch.from_numpy, (image_ND, ecg_ND, has_ecg_N))).numpy()
    return found


def write_fused(path: Path, head: FusedHead, classes: tuple[str, ...]) -> None:
    """Write a fused head as safetensors; the class of each output is in the header."""
    from safetensors.torch import save

    from models.training_state import write_durably

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    write_durably(path, save(tensors, {"classes": json.dumps(classes)}))


def read_fused(path: Path) -> tuple[FusedHead, tuple[str, ...]]:
    """A fused head in evaluation mode, and the classes of its outputs.

    Raises:
        CheckpointError: the file cannot be read or is no fused head.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            classes = tuple(json.loads(stream.metadata()["classes"]))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        head = FusedHead(tensors["out.weight"].shape[1] // 2, len(classes))
        head.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{path} is not a fused head ({error}); train it again") from error
    return head.eval(), classes
