"""The head on X-ray and ECG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import CheckpointError, TrainingError
from models.fused import FusedHead, FusedRecipe, read_fused, scores, train_fused, write_fused
from models.heads import macro_auroc

N, D = 240, 6
TRAIN, VALIDATION, TEST = np.arange(160), np.arange(160, 200), np.arange(200, N)


def data(seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """The first class shows in the image, the second in the ECG, which a third of the records lack."""
    rng = np.random.default_rng(seed)
    image_ND, ecg_ND = rng.normal(size=(2, N, D)).astype(np.float32)
    labels_NC = np.stack([image_ND[:, 0] > 0, ecg_ND[:, 1] > 0], axis=1).astype(np.int8)
    return image_ND, ecg_ND, rng.random(N) > 1 / 3, labels_NC


def test_both_parts_are_learned_and_a_missing_ecg_is_survived() -> None:
    image_ND, ecg_ND, has_ecg_N, labels_NC = data()
    head, history = train_fused(image_ND, ecg_ND, has_ecg_N, labels_NC, TRAIN, VALIDATION, seed=0)
    found = scores(head, image_ND, ecg_ND, has_ecg_N)
    there = TEST[has_ecg_N[TEST]]
    assert macro_auroc(found[there], labels_NC[there]) > 0.85
    assert macro_auroc(found[TEST][:, :1], labels_NC[TEST][:, :1]) > 0.85
    assert len(history) == 100 and history[-1].loss < history[0].loss


def test_a_missing_ecg_is_a_zero_ecg_and_never_read() -> None:
    image_ND, ecg_ND, _, labels_NC = data()
    nowhere = np.zeros(N, dtype=bool)
    head, _ = train_fused(image_ND, ecg_ND, ~nowhere, labels_NC, TRAIN, VALIDATION, 0, FusedRecipe(epochs=2))
    without = scores(head, image_ND, np.full_like(ecg_ND, np.nan), nowhere)
    np.testing.assert_array_equal(without, scores(head, image_ND, np.zeros_like(ecg_ND), ~nowhere))
    expected = image_ND @ head.out.weight.detach().numpy()[:, :D].T + head.out.bias.detach().numpy()
    np.testing.assert_allclose(without, expected, rtol=1e-5, atol=1e-5)


def test_the_ecg_is_withheld_from_the_stated_share_of_records() -> None:
    torch.manual_seed(0)
    head = FusedHead(1, 1, FusedRecipe(dropout=0.0)).train()
    with torch.no_grad():
        head.out.weight.copy_(torch.tensor([[0.0, 1.0]]))
        head.out.bias.zero_()
        found = head(torch.zeros(4000, 1), torch.ones(4000, 1), torch.ones(4000, dtype=torch.bool))
    assert abs(found.mean().item() - 0.7) < 3 * (0.21 / 4000) ** 0.5


def test_the_best_epoch_is_kept_and_a_seed_decides_everything() -> None:
    image_ND, ecg_ND, has_ecg_N, labels_NC = data()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, history = train_fused(image_ND, ecg_ND, has_ecg_N, labels_NC, TRAIN, VALIDATION, 1, FusedRecipe(epochs=8, lr=0.1))
    assert torch.equal(torch.random.get_rng_state(), state)
    second, _ = train_fused(image_ND, ecg_ND, has_ecg_N, labels_NC, TRAIN, VALIDATION, 1, FusedRecipe(epochs=8, lr=0.1))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    judged = scores(first, image_ND[VALIDATION], ecg_ND[VALIDATION], has_ecg_N[VALIDATION])
    assert macro_auroc(judged, labels_NC[VALIDATION]) == max(row.validation for row in history)


def test_without_a_validation_record_of_both_outcomes_the_last_epoch_is_taken() -> None:
    image_ND, ecg_ND, has_ecg_N, labels_NC = data()
    labels_NC[VALIDATION] = 0
    _, history = train_fused(image_ND, ecg_ND, has_ecg_N, labels_NC, TRAIN, VALIDATION, 1, FusedRecipe(epochs=2))
    assert all(np.isnan(row.validation) for row in history)


def test_nothing_to_train_on_and_features_that_are_not_finite_are_refused() -> None:
    image_ND, ecg_ND, has_ecg_N, labels_NC = data()
    with pytest.raises(TrainingError, match="no record with an image"):
        train_fused(image_ND, ecg_ND, has_ecg_N, labels_NC, TRAIN[:0], VALIDATION, 0)
    image_ND[3] = np.inf
    with pytest.raises(TrainingError, match="not finite"):
        train_fused(image_ND, ecg_ND, has_ecg_N, labels_NC, TRAIN, VALIDATION, 0)


def test_a_head_is_written_and_read(tmp_path: Path) -> None:
    head = FusedHead(D, 2)
    write_fused(tmp_path / "fused" / "head.safetensors", head, ("Edema", "MI"))
    again, classes = read_fused(tmp_path / "fused" / "head.safetensors")
    assert classes == ("Edema", "MI") and not again.training
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))
    (tmp_path / "broken").write_bytes(b"no tensors")
    for path in (tmp_path / "broken", tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="not a fused head"):
            read_fused(path)
