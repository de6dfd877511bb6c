"""Crops against a loop over records, and what a record's crops come to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import expit

from models.crops import aggregate, cut, random_starts, recorded_samples, shifted_starts, strided_starts
from models.errors import ConfigurationError, TrainingError
from models.image_store import ImageStore
from models.store import Store, open_store
from models.types import Batch
from tests.models.conftest import make_study


def store_of(folder: Path, recorded: list[int], n_samples: int) -> Store:
    """A store as far as crops look at it."""
    store = Store.__new__(Store)
    store.folder, store.n_samples, store.index = folder, n_samples, pa.table({"n_samples": pa.array(recorded, pa.int32())})
    return store


@pytest.mark.parametrize(("samples", "crop", "stride"), [(1000, 250, 125), (5000, 1250, 625)])
def test_a_ten_second_record_has_exactly_seven_crops(samples: int, crop: int, stride: int) -> None:
    record_M, start_M = strided_starts(np.array([samples]), crop, stride)
    assert record_M.tolist() == [0] * 7
    assert start_M.tolist() == [stride * k for k in range(7)]
    assert start_M[-1] + crop == samples


def test_crops_and_their_aggregation_are_those_of_a_loop_over_records() -> None:
    rng = np.random.default_rng(0)
    recorded_N, crop, stride = np.array([40, 17, 10, 29]), 10, 6
    signal_NLT = torch.from_numpy(rng.normal(size=(4, 3, 40)).astype(np.float32))
    present_NL = torch.from_numpy(rng.integers(0, 2, (4, 3)).astype(bool))
    record_M, start_M = strided_starts(recorded_N, crop, stride)
    found = cut(Batch(signal_NLT, torch.arange(4) + 50, present_BL=present_NL), record_M, start_M, crop)
    weight_TC = rng.normal(size=(crop, 2)).astype(np.float32)
    scores_MC = found.signal_BLT.mean(dim=1).numpy() @ weight_TC
    m = 0
    for record, recorded in enumerate(recorded_N):
        own = []
        for start in range(0, recorded - crop + 1, stride):
            torch.testing.assert_close(found.signal_BLT[m], signal_NLT[record, :, start : start + crop], rtol=0, atol=0)
            assert found.row_B[m] == 50 + record
            assert found.present_BL is not None and torch.equal(found.present_BL[m], present_NL[record])
            own.append(signal_NLT[record, :, start : start + crop].mean(dim=0).numpy() @ weight_TC)
            m += 1
        np.testing.assert_allclose(aggregate(scores_MC, record_M, "mean")[record], np.mean(own, axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(aggregate(scores_MC, record_M, "maximum")[record], np.max(own, axis=0), rtol=1e-5, atol=1e-6)
    assert m == len(record_M) == len(found)


def test_logits_are_averaged_rather_than_probabilities() -> None:
    """Two crops: logits -4 and 4 mean one half by either; 0 and 4 mean .881, and .741 if probabilities were averaged."""
    logits_MC, record_M = np.array([[-4, 0], [4, 4]], np.float32), np.array([0, 0])
    mean_C = expit(aggregate(logits_MC, record_M, "mean"))[0]
    assert mean_C.tolist() == pytest.approx([0.5, 0.881], abs=5e-4)
    assert expit(logits_MC).mean(axis=0).tolist() == pytest.approx([0.5, 0.741], abs=5e-4)


def test_the_maximum_differs_from_the_mean_and_is_that_of_sigmoids() -> None:
    logits_MC, record_M = np.random.default_rng(1).normal(size=(14, 5)).astype(np.float32), np.repeat([0, 1], 7)
    greatest_NC = aggregate(logits_MC, record_M, "maximum")
    np.testing.assert_allclose(expit(greatest_NC), expit(logits_MC).reshape(2, 7, 5).max(axis=1), rtol=1e-6)
    assert (greatest_NC > aggregate(logits_MC, record_M, "mean")).all()


def test_random_crops_depend_on_seed_and_step_alone_and_reach_both_ends() -> None:
    recorded_B = np.array([20] * 400 + [10])
    first_B = random_starts(recorded_B, 10, seed=3, step=7)
    np.testing.assert_array_equal(first_B, random_starts(recorded_B, 10, seed=3, step=7))
    assert set(first_B[:-1].tolist()) == set(range(11)) and first_B[-1] == 0
    assert (first_B != random_starts(recorded_B, 10, seed=3, step=8)).any()
    assert (first_B != random_starts(recorded_B, 10, seed=4, step=7)).any()


@pytest.mark.parametrize("shift", [0, 30, 100])
def test_crops_may_begin_where_those_of_evaluation_do_or_a_little_later(shift: int) -> None:
    recorded_B = np.tile([1000, 1000, 450], 200)
    start_B = np.concatenate([shifted_starts(recorded_B, 100, 100, shift, 3, step) for step in range(8)])
    late_B = start_B % 100
    assert (start_B >= 0).all() and (start_B <= np.tile(recorded_B, 8) - 100).all()
    assert set(start_B[np.tile(recorded_B, 8) == 1000] // 100) == set(range(10))
    assert late_B.max() == min(shift, 99) and (shift == 100 or (late_B <= shift).all())
    np.testing.assert_array_equal(shifted_starts(recorded_B, 100, 100, shift, 3, 1), shifted_starts(recorded_B, 100, 100, shift, 3, 1))


def test_a_record_shorter_than_a_crop_is_named_with_both_lengths(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="160 samples, fewer than the 250 of a crop"):
        recorded_samples(open_store(make_study(tmp_path, n=6).folder / "store"), np.arange(3), 250)


def test_crops_are_taken_from_what_was_recorded_and_not_from_padding(tmp_path: Path) -> None:
    """Of a record that ends within a crop, the one from its beginning is taken, padding and all, as a whole record would be."""
    recorded_N = recorded_samples(store_of(tmp_path, [100, 60, 12], 100), np.array([2, 0, 1]), 25)
    assert recorded_N.tolist() == [25, 100, 60]
    record_M, start_M = strided_starts(recorded_N, 25, 25)
    assert [(int(r), int(s)) for r, s in zip(record_M, start_M, strict=True)] == [
        (0, 0),
        (1, 0),
        (1, 25),
        (1, 50),
        (1, 75),
        (2, 0),
        (2, 25),
    ]


def test_images_have_no_crops() -> None:
    images = ImageStore.__new__(ImageStore)
    vars(images).update(vars(SimpleNamespace(folder=Path("pictures"))))
    with pytest.raises(ConfigurationError, match="holds images"):
        recorded_samples(images, np.arange(1), 10)
