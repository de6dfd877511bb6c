"""Rows about predicted numbers: what they hold, what a gain means, where windows belong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.leaderboard_table import build_leaderboard
from assets.leaderboard_text import to_markdown
from assets.plots import judged_figure
from assets.regression_scoring import ERROR_GAIN
from assets.scoring import Person, compare, compare_arms, score_table, subgroups
from models.predictions import Origin, PredictionError, Predictions, read_predictions, write_predictions
from models.registry import get_spec

REFERENCE = 72.0


def table(noise: float = 2.0, arm: str = "pretrained", n: int = 120) -> Predictions:
    """Heart rates of windows of 30 recordings, a patient each, in folds 9 and 10; only the predictions depend on `noise`."""
    fixed, rng = np.random.default_rng(5), np.random.default_rng(int(noise * 10))
    recording_N = np.arange(n) // 4
    true_N = 70 + 10 * fixed.standard_normal(30)[recording_N] + fixed.standard_normal(n)
    origin = Origin(
        "bidmc", "heart_rate", "symile", "tiny_ppg", "linear_probe", arm, 0, "ab" * 32, 1.0, kind="regression", unit="beats/min",
        reference=REFERENCE,
    )  # fmt: skip
    names = np.array([f"r{r}@{10 * (i % 4):g}" for i, r in enumerate(recording_N)])
    scores_NC = (true_N + noise * rng.standard_normal(n))[:, None].astype(np.float32)
    people = np.array([f"p{r}" for r in recording_N])
    return Predictions(origin, ("heart_rate",), names, people, 9 + recording_N % 2, scores_NC, true_N[:, None].astype(np.float32))


def test_a_table_of_numbers_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_predictions(tmp_path / "t.parquet", table())
    found = read_predictions(tmp_path / "t.parquet")
    assert found.origin == table().origin and found.labels_NC.dtype == np.float32
    assert (found.labels_NC == table().labels_NC).all() and (found.record_id == table().record_id).all()
    with pytest.raises(PredictionError, match="1 targets are not finite"):
        replace(table(), labels_NC=np.where(np.arange(120)[:, None] == 3, np.nan, table().labels_NC))


def test_rows_are_errors_with_unit_interval_and_what_the_mean_would_come_to() -> None:
    rows = {row["metric"]: row for row in score_table(table(), (9,), (10,), n_resamples=100)}
    test = table().folds((10,))
    assert set(rows) == {"mae", "rmse", "r2", "pearson"}
    assert rows["mae"]["value"] == pytest.approx(np.abs(test.scores_NC - test.labels_NC).mean(), abs=1e-5)
    assert rows["mae"]["chance"] == pytest.approx(np.abs(test.labels_NC - REFERENCE).mean(), abs=1e-4)
    assert (rows["mae"]["unit"], rows["r2"]["unit"]) == ("beats/min", "")
    assert rows["mae"]["low"] < rows["mae"]["value"] < rows["mae"]["high"] < rows["mae"]["chance"]
    assert (rows["mae"]["n_records"], rows["mae"]["n_patients"]) == (60, 15)


def test_a_gain_over_the_twin_is_how_much_smaller_the_error_is() -> None:
    good, twin = table(1.0), table(6.0, arm="random_init")
    (row,) = compare_arms([good, twin], (10,), n_resamples=100)
    assert row["metric"] == ERROR_GAIN and row["value"] > 3 and row["low"] > 0
    assert compare(good, twin, (10,), metric="mae", n_resamples=100).value == pytest.approx(-row["value"])


def test_one_test_patient_has_a_value_and_no_interval() -> None:
    rows = score_table(replace(table(), patient_id=np.full(120, "p")), (9,), (10,), n_resamples=100)
    assert all(np.isnan(row["low"]) and row["interval"] == "" and row["note"] == "one patient, so there is no interval" for row in rows)


def test_a_window_is_in_the_subgroup_of_its_patient() -> None:
    masks = subgroups(["r1@0", "r1@10", "r2@0"], {"r1": Person("female", 30.0), "r2": Person("male", 70.0)})
    assert masks["sex: female"].tolist() == [True, True, False]


def test_the_leaderboard_puts_the_smaller_error_first_and_names_the_unit() -> None:
    def rows(preset: str, noise: float) -> list[dict]:
        pair = [table(noise), table(6.0, arm="random_init")]
        pair = [replace(t, origin=replace(t.origin, preset=preset)) for t in pair]
        return [r for t in pair for r in score_table(t, (9,), (10,), n_resamples=50)] + compare_arms(pair, (10,), n_resamples=50)

    metrics = pd.DataFrame(rows("worse", 4.0) + rows("better", 1.0)).assign(data_version="cd" * 32)
    board = build_leaderboard(metrics, [get_spec("symile")])
    assert board["preset"].tolist() == ["better", "worse"] and (board["metric"] == "mae").all()
    assert board["gain"].tolist() == pytest.approx((board["random_init"] - board["value"]).tolist())
    assert "mae (beats/min)" in to_markdown(board)


def test_numbers_are_drawn_over_what_is_true(tmp_path: Path) -> None:
    judged_figure(tmp_path / "numbers.png", table().folds((10,)))
    assert (tmp_path / "numbers.png").stat().st_size > 10_000
