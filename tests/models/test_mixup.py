"""Mixing of training records: how many, with what, and where it is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.data import labelled_records
from models.errors import ConfigurationError
from models.finetune import Parts, train_head
from models.head_recipes import HeadRecipe
from models.mixup import mixed
from models.store import open_store
from models.types import Batch
from tests.models.echo import Echo, EchoConfig

if TYPE_CHECKING:
    from conftest import Study


def records(n: int = 20) -> Batch:
    """Record i is i everywhere, and so are its labels."""
    value_B = torch.arange(n, dtype=torch.float32)
    present_BL = torch.eye(n, dtype=torch.bool)[:, :3]
    return Batch(value_B[:, None, None].repeat(1, 3, 5), torch.arange(n), labels_BC=value_B[:, None].repeat(1, 2), present_BL=present_BL)


@pytest.mark.parametrize(("passed", "count"), [(0, 4), (1, 8), (2, 12), (3, 16), (9, 16)])
def test_a_share_that_grows_from_pass_to_pass_is_mixed(passed: int, count: int) -> None:
    changed = [int((mixed(records(), passed, 0, step).signal_BLT[:, 0, 0] != torch.arange(20)).sum()) for step in range(30)]
    assert max(changed) <= count, "a record may be mixed with itself"
    assert np.mean(changed) > 0.7 * count


def test_signals_and_labels_are_mixed_by_one_weight_and_keep_between_the_two() -> None:
    found = mixed(records(), 3, 0, 0)
    assert found.labels_BC is not None
    assert torch.equal(found.signal_BLT[:, :, 0], found.labels_BC[:, :1].expand(-1, 3))
    assert found.signal_BLT.min() >= 0 and found.signal_BLT.max() <= 19
    weight = torch.cat([(mixed(records(2), 3, 0, s).signal_BLT[:, 0, 0]) for s in range(400)])
    inner = weight[(weight > 0) & (weight < 1)]
    assert ((inner < 0.1) | (inner > 0.9)).float().mean() > 0.5, "Beta(0.2, 0.2) is steep at both ends"
    assert inner.mean().item() == pytest.approx(0.5, abs=0.08)


def test_a_lead_is_there_where_either_record_has_it() -> None:
    before, found = records(), mixed(records(), 3, 0, 0)
    assert before.present_BL is not None and found.present_BL is not None
    assert (found.present_BL | ~before.present_BL).all() and found.present_BL.sum() > before.present_BL.sum()


def test_draws_are_a_function_of_seed_and_step() -> None:
    first, again = mixed(records(), 1, 3, 7), mixed(records(), 1, 3, 7)
    assert torch.equal(first.signal_BLT, again.signal_BLT)
    assert not torch.equal(first.signal_BLT, mixed(records(), 1, 3, 8).signal_BLT)
    assert not torch.equal(first.signal_BLT, mixed(records(), 1, 4, 7).signal_BLT)


def test_heads_train_on_mixed_records_and_exclusive_classes_are_refused(study: Study) -> None:
    data = labelled_records(open_store(study.folder / "store"), study.folder / "labels.parquet")
    parts = Parts(data.of_folds(range(1, 9)), data.of_folds([9]), data.of_folds([10]))
    recipe = HeadRecipe(steps=6, batch_size=16, look_every=3, patience=None, mix=True)
    assert "records mixed" in recipe.words()
    losses = {}
    for mix in (True, False):
        done = train_head(Echo(EchoConfig()), dataclasses.replace(recipe, mix=mix), data, parts, 0, torch.device("cpu"))
        losses[mix] = [look.loss for look in done.history]
    assert losses[True] != losses[False]
    with pytest.raises(ConfigurationError, match="mixed for multi-label tasks"):
        train_head(Echo(EchoConfig()), recipe, dataclasses.replace(data, kind="single_label"), parts, 0, torch.device("cpu"))
