"""Errors of reconstructed leads and what a classifier says of them, against loops; what is drawn of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, recall_score

from assets.plots_page import EcgPage
from assets.plots_reconstruction import lead_errors_figure, overlay_figure
from assets.reconstruction_scoring import (
    LINEAR_GAIN,
    TO_REAL,
    best_balanced_threshold,
    operating_points,
    score_downstream,
    score_reconstructions,
)
from assets.scoring import GAIN_SUFFIX, ScoringError
from models.predictions import Origin, Predictions
from models.reconstruction import IDENTITIES, Errors
from models.reconstruction_tables import ARMS, REAL, RECONSTRUCTED, Distance, Reconstructions
from models.types import LEADS

KEPT = ("II", "V1", "V5")
MISSING = tuple(lead for lead in LEADS if lead not in KEPT)
SIZES = dict(zip(ARMS, (0.5, 0.9, 0.6, 1.0), strict=True))


def lead_table(arm: str = "pretrained", n: int = 40) -> Reconstructions:
    """Test records of patients who have two, and ten validation records with errors a hundred times larger."""
    rng = np.random.default_rng(len(arm))
    mae_NM = SIZES[arm] * rng.random((n + 10, 9)) + 0.1
    mae_NM[n:] *= 100
    errors = Errors(1.5 * mae_NM**2, mae_NM, 1 - mae_NM, 0.1 * rng.random((n + 10, 4)))
    if arm == "zero":
        errors = replace(errors, pearson_NM=np.full_like(mae_NM, np.nan))
    ids, patients = [f"r{i}" for i in range(n + 10)], [f"p{i // 2}" for i in range(n + 10)]
    fold_N = np.repeat([10, 9], [n, 10])
    origin = Origin("small", "leads", "wearecg", "tiny", "reconstruction", arm, 0, "abc")
    distance = Distance(2.5, n, 16, "Net1D", "f" * 64, "prepared")
    return Reconstructions(origin, MISSING, tuple(name for name, _ in IDENTITIES), ids, patients, fold_N, errors, distance)


def scored(tables: list[Reconstructions]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["arm"], row["metric"]): row for row in score_reconstructions(tables, (10,), n_resamples=200)}


def test_errors_are_means_over_test_records_and_missing_leads() -> None:
    rows, table = scored([lead_table(arm) for arm in ARMS]), lead_table()
    for name, unit in (("mse", "mV^2"), ("mae", "mV"), ("pearson", "")):
        values_NM = getattr(table.errors, f"{name}_NM")[:40]
        row = rows["pretrained", name]
        assert row["value"] == pytest.approx(np.mean([values_NM[:, m].mean() for m in range(9)])) and row["unit"] == unit
        assert row["low"] < row["value"] < row["high"] and (row["n_records"], row["n_patients"]) == (40, 20)
        for m, lead in enumerate(MISSING):
            assert rows["pretrained", f"{name}:{lead}"]["value"] == pytest.approx(values_NM[:, m].mean())
    assert rows["pretrained", "limb_residual"]["value"] == pytest.approx(table.errors.residual_NI[:40].mean())


def test_chance_is_the_zero_output() -> None:
    rows, zero = scored([lead_table(arm) for arm in ARMS]), lead_table("zero")
    assert rows["pretrained", "mse"]["chance"] == pytest.approx(zero.errors.mse_NM[:40].mean())
    assert rows["pretrained", "mae:V3"]["chance"] == pytest.approx(zero.errors.mae_NM[:40, MISSING.index("V3")].mean())
    assert math.isnan(rows["pretrained", "pearson"]["chance"]) and math.isnan(rows["zero", "pearson"]["value"])


def test_gains_are_paired_and_larger_is_better() -> None:
    rows = scored([lead_table(arm) for arm in ARMS])
    for suffix, other in ((GAIN_SUFFIX, "random_init"), (LINEAR_GAIN, "linear_regression")):
        row = rows["pretrained", f"mse{suffix}"]
        assert row["value"] == pytest.approx(rows[other, "mse"]["value"] - rows["pretrained", "mse"]["value"]) and row["value"] > 0
        assert row["low"] < row["value"] < row["high"]
        assert ("random_init", f"mse{suffix}") not in rows
    same = scored([lead_table(), replace(lead_table(), origin=replace(lead_table().origin, arm="random_init"))])
    assert all(same["pretrained", f"mse{GAIN_SUFFIX}"][end] == 0 for end in ("value", "low", "high"))


def test_a_flat_lead_of_a_record_is_left_out_of_correlation_and_counted() -> None:
    table = lead_table()
    table.errors.pearson_NM[3, 2] = np.nan
    row = scored([table])["pretrained", f"pearson:{MISSING[2]}"]
    assert row["n_undefined"] == 1 and "1 flat" in row["note"]
    assert row["value"] == pytest.approx(np.nanmean(table.errors.pearson_NM[:40, 2]))


def test_the_distance_comes_with_its_embedding() -> None:
    row = scored([lead_table()])["pretrained", "fid"]
    assert row["value"] == 2.5 and math.isnan(row["low"]) and "Net1D (ffffffffffff), 16 features of prepared signals, n 40" in row["note"]


def test_tables_about_other_records_are_refused() -> None:
    with pytest.raises(ScoringError, match="not about the same"):
        score_reconstructions([lead_table(), lead_table("zero", n=30)], (10,))
    with pytest.raises(ScoringError, match="no record of the test folds"):
        score_reconstructions([lead_table()], (3,))
    assert score_reconstructions([], (10,)) == []


def prediction_table(protocol: str, skill: float = 1.0) -> Predictions:
    rng = np.random.default_rng(0)
    labels_NC = (rng.random((120, 3)) < [0.5, 0.3, 0.2]).astype(np.int8)
    scores_NC = (skill * 2 * labels_NC - 1 + rng.normal(size=(120, 3))).astype(np.float32)
    ids, patients = np.array([f"r{i}" for i in range(120)]), np.array([f"p{i // 2}" for i in range(120)])
    origin = Origin("small", "super", "wearecg", "tiny", protocol, "pretrained", 0, "abc", 1.0)
    return Predictions(origin, ("A", "B", "C"), ids, patients, np.repeat([9, 10], [40, 80]), scores_NC, labels_NC)


def test_differences_to_real_leads_are_paired() -> None:
    from assets.scoring import score_table

    real, other = prediction_table(REAL), prediction_table(RECONSTRUCTED, 0.3)
    rows = {(r["protocol"], r["metric"]): r for r in score_downstream([real, other], (9,), (10,), n_resamples=100)}
    value = {t.origin.protocol: {r["metric"]: r["value"] for r in score_table(t, (9,), (10,), n_resamples=20)} for t in (real, other)}
    for metric in ("macro_auroc", "macro_auprc"):
        row = rows[RECONSTRUCTED, f"{metric}{TO_REAL}"]
        assert row["value"] == pytest.approx(value[RECONSTRUCTED][metric] - value[REAL][metric]) and row["value"] < 0
        assert row["low"] < row["value"] < row["high"] and (REAL, f"{metric}{TO_REAL}") not in rows
    assert score_downstream([prediction_table("linear_probe")], (9,), (10,)) == []


def test_calls_are_those_at_the_threshold_of_best_balanced_accuracy() -> None:
    table = prediction_table(REAL)
    rows = {r["metric"]: r["value"] for r in operating_points(table, (9,), (10,))}
    chance_NC = 1 / (1 + np.exp(-table.scores_NC.astype(np.float64)))
    means: dict[str, list[float]] = {"sensitivity": [], "specificity": [], "f1": []}
    for c, name in enumerate(table.classes):
        tried = [k / 100 for k in range(1, 100)]
        threshold = max(tried, key=lambda t: (balanced_accuracy_score(table.labels_NC[:40, c], chance_NC[:40, c] >= t), -t))
        called, true = chance_NC[40:, c] >= threshold, table.labels_NC[40:, c]
        expected = {"sensitivity": recall_score(true, called), "specificity": recall_score(1 - true, ~called), "f1": f1_score(true, called)}
        for metric, value in expected.items():
            assert rows[f"{metric}:{name}"] == pytest.approx(value)
            means[metric].append(value)
        assert rows[f"auprc:{name}"] == pytest.approx(average_precision_score(true, table.scores_NC[40:, c]))
    assert all(rows[f"macro_{metric}_at_balanced_threshold"] == pytest.approx(np.mean(values)) for metric, values in means.items())


def test_of_equally_good_thresholds_the_lowest_is_taken() -> None:
    assert best_balanced_threshold(np.array([0.2, 0.8]), np.array([False, True])) == pytest.approx(0.21)


def test_a_class_without_an_outcome_is_left_out() -> None:
    table = prediction_table(REAL)
    table.labels_NC[:40, 1] = 0
    rows = {r["metric"]: r for r in operating_points(table, (9,), (10,))}
    assert math.isnan(rows["f1:B"]["value"]) and rows["macro_f1_at_balanced_threshold"]["n_undefined"] == 1
    assert rows["macro_f1_at_balanced_threshold"]["value"] == pytest.approx((rows["f1:A"]["value"] + rows["f1:C"]["value"]) / 2)


def page(seed: int) -> EcgPage:
    return EcgPage.of(300 * np.random.default_rng(seed).normal(size=(12, 1000)).cumsum(axis=1) / 30, LEADS, 100.0)


def test_reconstructions_are_drawn_over_what_was_recorded(tmp_path: Path) -> None:
    from matplotlib.image import imread

    overlay_figure(tmp_path / "one.png", page(0), page(1), KEPT, "A test record")
    overlay_figure(tmp_path / "other.png", page(0), page(2), KEPT, "A test record")
    one, other = imread(tmp_path / "one.png"), imread(tmp_path / "other.png")
    assert one.shape == other.shape and (one != other).any()
    kept_only = replace(page(1), traces=page(1).traces | {lead: page(2).traces[lead] for lead in KEPT})
    overlay_figure(tmp_path / "again.png", page(0), kept_only, KEPT, "A test record")
    assert np.array_equal(imread(tmp_path / "again.png"), one)  # of shown leads only the recording is drawn


def test_errors_by_lead_are_drawn(tmp_path: Path) -> None:
    rows = pd.DataFrame(score_reconstructions([lead_table(arm) for arm in ARMS], (10,), n_resamples=20))
    lead_errors_figure(tmp_path / "leads.png", rows, "Leads")
    assert (tmp_path / "leads.png").stat().st_size > 10_000
