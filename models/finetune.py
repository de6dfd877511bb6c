"""Fine-tuning: encoder and a linear layer on top, all trained on labels. Works for every method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.config import TrainingConfig
from models.data import BatchOrder, IntArray, Labelled, batch_of
from models.embeddings import encode_rows, features_of
from models.errors import TrainingError
from models.heads import EpochReport, macro_auroc
from models.image_store import ImageStore
from models.method import Method
from models.pretraining_loop import reseed
from models.types import Batch, Modality

_LOOKS = 20
"""How often the validation folds are looked at during training."""

_PATIENCE = 6
"""Looks without improvement before training stops."""


class Classifier(nn.Module):
    """An encoder with a linear layer on its features of recordings or images, which are `width` wide."""

    def __init__(self, encoder: Method, n_classes: int, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.head(self.encoder.finetune_features(features_of(self.encoder, batch)))
        return logits


@dataclass(frozen=True)
class Finetuned:
    """Scores (N, C) of the judged records by the network of the best look, taken after `chosen` steps, and all looks."""

    scores_NC: NDArray[np.float32]
    state: dict[str, Tensor]
    chosen: int
    history: list[EpochReport]


def finetune(
    encoder: Method, data: Labelled, train_N: IntArray, validation_N: IntArray, judged_N: IntArray, seed: int, device: torch.device
) -> Finetuned:
    """Train encoder and head on labels and keep the look with the best validation macro AUROC.

    AdamW with a one-cycle schedule and binary cross-entropy; steps, batch and peak learning rate come from the encoder's
    configuration. `encoder` is changed. A look at which no class has both outcomes counts as better than those before.

    Args:
        encoder: any method.
        data: labelled records.
        train_N: positions in `data` of training records.
        validation_N: positions of the records that choose the look.
        judged_N: positions of the records to score in the end.
        seed: of the head, the order of records and dropout.
        device: where to train.

    Raises:
        TrainingError: the loss is not finite.
    """
    config: TrainingConfig = encoder.config
    width = encode_rows(encoder, data.store, data.rows_N[train_N[:1]], device, encoder.finetune_features).shape[1]
    torch.manual_seed(seed)
    network = Classifier(encoder, len(data.classes), width).to(device)
    learns = encoder.finetune_parameters(Modality.IMAGE if isinstance(data.store, ImageStore) else Modality.ECG)
    trained = [*learns, *network.head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=config.finetune_lr, weight_decay=1e-2)
    steps = config.finetune_steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.finetune_lr, total_steps=max(steps, 2))
    order = BatchOrder(len(train_N), min(config.finetune_batch_size, len(train_N)), seed)
    every = max(1, steps // _LOOKS)
    best_value, best_state, chosen, failures, total = -math.inf, _copy(network), 0, 0, 0.0
    history: list[EpochReport] = []
    for step in range(steps):
        reseed(seed, step, 0)
        total += _step(network.train(), data, train_N[order.positions(step)], optimizer, device)
        schedule.step()
        if (step + 1) % every and step + 1 < steps:
            continue
        value = macro_auroc(_scores(network, data, validation_N, device), data.labels_NC[validation_N])
        history.append(EpochReport(step + 1, total / (step + 1), value))
        if math.isnan(value) or value > best_value:
            best_state, chosen, failures = _copy(network), step + 1, 0
            best_value = best_value if math.isnan(value) else value
        else:
            failures += 1
        if failures > _PATIENCE:
            break
    network.load_state_dict(best_state)
    return Finetuned(_scores(network, data, judged_N, device), best_state, chosen, history)


def _step(network: nn.Module, data: Labelled, positions: IntArray, optimizer: torch.optim.Optimizer, device: torch.device) -> float:
    rows = data.rows_N[positions]
    target_BC = torch.from_numpy(data.labels_NC[positions]).to(device, torch.float32)
    batch = batch_of(data.store, rows, device)
    loss = functional.binary_cross_entropy_with_logits(network(batch), target_BC)
    if not math.isfinite(loss.item()):
        named = ", ".join(str(data.store.index["record_id"][int(row)]) for row in rows[:20])
        raise TrainingError(f"the fine-tuning loss is {loss.item():g} on records {named}; look at these records or lower finetune_lr")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _scores(network: Classifier, data: Labelled, positions: IntArray, device: torch.device) -> NDArray[np.float32]:
    network.eval()
    features_NF = encode_rows(network.encoder, data.store, data.rows_N[positions], device, network.encoder.finetune_features)
    with torch.inference_mode():
        scores: NDArray[np.float32] = network.head(torch.from_numpy(features_NF).to(device)).cpu().numpy()
    return scores


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
