"""Heads whose task is a number, as jobs: ridge and fine-tuning, about windows, in the target's unit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import load_encoder
from models.data import labelled_records
from models.errors import TrainingError
from models.finetune import Parts, train_head
from models.head_objectives import objective_of
from models.head_recipes import HeadRecipe
from models.inputs import open_as_read
from models.predictions import read_predictions
from models.regression import PENALTIES
from models.train import main

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Study

FOLD_N = 1 + np.arange(120) // 3 % 10
RATE_N = (60 + 20 * (np.arange(120) % 3) + np.random.default_rng(0).normal(0, 1, 120)).astype(np.float32)


@pytest.fixture
def rates(trained: Study) -> Path:
    """The size of lead V1, which three classes of records differ in, as a number of 60, 80 and 100 with some noise; by window."""
    path = trained.folder / "rates.parquet"
    pq.write_table(pa.table({"record_id": [f"r{i:04d}" for i in range(120)], "start": np.zeros(120), "rate": RATE_N}), path)
    return path


def test_ridge_predicts_in_the_unit_of_the_target_in_both_arms(trained: Study, rates: Path) -> None:
    job = trained.job("head", "numbers", labels=str(rates), task="rate", task_kind="regression", unit="beats/min")
    assert main([str(job)]) == 0
    tables = [read_predictions(p) for p in sorted((trained.folder / "numbers" / "predictions").glob("*.parquet"))]
    assert [t.origin.arm for t in tables] == ["pretrained", "random_init"]
    mean = float(RATE_N[FOLD_N <= 8].mean())
    for table in tables:
        assert (table.origin.kind, table.origin.unit) == ("regression", "beats/min")
        assert table.origin.reference == pytest.approx(mean, abs=1e-3)
        assert all(name.endswith("@0") for name in table.record_id.tolist())
        test = table.folds((10,))
        by_mean = np.abs(test.labels_NC - mean).mean()
        assert np.abs(test.scores_NC - test.labels_NC).mean() < 1.3 * by_mean, "standardised scores would be off by 80"
    lines = [json.loads(line) for line in (trained.folder / "numbers" / "history.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * len(PENALTIES) and all(line["validation"] < 0 for line in lines)


def test_fine_tuning_learns_a_number_and_stores_it_in_its_unit(trained: Study, rates: Path) -> None:
    bundle = trained.folder / "pretrain" / "bundle"
    data = labelled_records(open_as_read(trained.folder / "store", bundle), rates, "regression")
    parts = Parts(data.of_folds(range(1, 9)), data.of_folds([9]), data.of_folds([10]))
    done = train_head(load_encoder(bundle), HeadRecipe(steps=30, batch_size=32, look_every=10), data, parts, 0, torch.device("cpu"))
    assert np.abs(done.scores_NC - 80).max() < 60, "standardised scores would be off by 80"
    assert done.history[-1].loss < done.history[0].loss
    assert [r.epoch for r in done.history] == [10, 20, 30] and all(r.validation < 0 for r in done.history)


def test_hubers_loss_is_of_the_standardised_target() -> None:
    rates_NC = np.array([[60.0], [80.0], [100.0], [160.0]], np.float32)
    objective = objective_of("regression", HeadRecipe(), rates_NC, ("rate",))
    target_NC = objective.targets(rates_NC)
    assert (target_NC.mean(), target_NC.std()) == pytest.approx((0, 1), abs=1e-6)
    assert objective.scores(target_NC) == pytest.approx(rates_NC, abs=1e-3)
    outputs_NC = target_NC + np.array([[0.5], [-0.5], [3.0], [0.0]], np.float32)
    expected = (2 * 0.5 * 0.5**2 + (3.0 - 0.5)) / 4
    assert float(objective.loss(torch.from_numpy(outputs_NC), torch.from_numpy(target_NC))) == pytest.approx(expected, rel=1e-5)
    assert objective.value(rates_NC + 3, rates_NC) == -3
    with pytest.raises(TrainingError, match="'rate' is 61 for all 4"):
        objective_of("regression", HeadRecipe(), rates_NC * 0 + 61, ("rate",))
