"""Rows of the Challenges' task against direct computation, thresholds that never saw a test record, twins, and what cannot be judged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from assets.challenge import scored_year
from assets.challenge_scoring import score_challenge
from assets.challenge_text import to_markdown
from assets.dataset import get_dataset
from assets.evaluation import score
from assets.leaderboard_table import build_leaderboard
from assets.leaderboard_text import to_markdown as leaderboard_text
from assets.scoring import ScoringError, score_table
from models.metrics.bootstrap import draw_with_replacement
from models.metrics.challenge import challenge_scores, choose_threshold, outputs_above
from models.metrics.challenge_bootstrap import challenge_interval
from models.metrics.challenge_classes import challenge_classes
from models.metrics.classification import MetricError
from models.predictions import Origin, Predictions, write_predictions
from models.registry import get_spec
from models.types import Modality

YEARS = (2020, 2021)


def table(year: int = 2021, arm: str = "pretrained", signal: float = 6.0, n: int = 240, protocol: str = "linear_probe") -> Predictions:
    """Logits that follow the labels; a third of the patients in fold 9, the others in fold 10; the first class never occurs."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(len(arm))
    names = tuple(c.name for c in challenge_classes(year))
    labels = (fixed.random((n, len(names))) < 0.1).astype(np.int8)
    labels[:, 0] = 0
    scores = signal * (labels - 0.7) + rng.normal(size=labels.shape)
    share = None if protocol == "zero_shot" else 1.0
    origin = Origin(f"cinc{year}", "dx", "merl", "tiny", protocol, arm, 0, f"hash of {arm}", fraction=share)
    person = np.arange(n) // 2
    fold, ids = np.where(person % 3 == 0, 9, 10), np.array([f"r{i:04d}" for i in range(n)])
    return Predictions(origin, names, ids, np.array([f"p{p}" for p in person]), fold, scores.astype(np.float32), labels)


def by_metric(rows: list[dict[str, Any]], arm: str = "pretrained") -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in rows if row["arm"] == arm}


def sigmoid(logits_NC: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-logits_NC.astype(np.float64)))


@pytest.mark.parametrize("year", YEARS)
def test_rows_are_what_the_scorer_gives_at_the_threshold_of_the_validation_fold(year: int) -> None:
    predictions = table(year)
    rows = by_metric(score_challenge([predictions], year, (9,), (10,), n_resamples=50))
    validation, test = predictions.folds((9,)), predictions.folds((10,))
    threshold, there = choose_threshold(year, validation.labels_NC, sigmoid(validation.scores_NC))
    found = challenge_scores(year, test.labels_NC, outputs_above(sigmoid(test.scores_NC), threshold), sigmoid(test.scores_NC))
    metric = rows["challenge_metric"]
    assert metric["value"] == pytest.approx(found.challenge_metric, abs=1e-12)
    assert metric["low"] < metric["value"] < metric["high"] and metric["chance"] == 0
    assert metric["interval"] == "95% patient bootstrap, 50 resamples"
    assert metric["note"] == (
        f"threshold {threshold:.2f} on probabilities of all classes, chosen on validation fold 9 (challenge_metric {there:.3f} there)"
    )
    n_classes = len(predictions.classes)
    assert (metric["n_records"], metric["n_patients"], metric["n_classes"], metric["n_undefined"]) == (160, 80, n_classes - 1, 1)
    assert (rows["challenge_f_measure"]["value"], rows["challenge_accuracy"]["value"]) == (found.f_measure, found.accuracy)
    assert rows["challenge_f_measure"]["n_classes"] == int(np.isfinite(found.f_measure_C).sum())
    for c, name in enumerate(predictions.classes):
        for start, values_C in (("auprc", found.auprc_C), ("f_measure", found.f_measure_C)):
            assert rows[f"{start}:{name}"]["value"] == pytest.approx(values_C[c], nan_ok=True)
        assert rows[f"f_measure:{name}"]["note"] == f"{found.support_C[c]} test records have it"
    assert math.isnan(rows[f"auprc:{predictions.classes[0]}"]["value"])


def test_the_threshold_does_not_see_test_records() -> None:
    predictions = table()
    moved = predictions.scores_NC.copy()
    moved[predictions.fold == 10] += 4
    rows = [score_challenge([t], 2021, (9,), (10,), n_resamples=10) for t in (predictions, replace(predictions, scores_NC=moved))]
    first, second = (by_metric(r)["challenge_metric"] for r in rows)
    assert first["note"] == second["note"] and first["value"] > second["value"] + 0.05


def test_order_of_columns_changes_nothing() -> None:
    predictions = table()
    order = np.random.default_rng(0).permutation(len(predictions.classes))
    names = tuple(predictions.classes[i] for i in order)
    turned = replace(predictions, classes=names, scores_NC=predictions.scores_NC[:, order], labels_NC=predictions.labels_NC[:, order])
    first, second = (pd.DataFrame(score_challenge([t], 2021, (9,), (10,), n_resamples=10)) for t in (predictions, turned))
    pd.testing.assert_frame_equal(first, second)


def test_a_pretrained_table_has_its_paired_gain_over_its_twin() -> None:
    ours, twin = table(), table(arm="random_init", signal=2.0)
    shuffled = np.random.default_rng(0).permutation(len(twin.record_id))
    columns = {name: getattr(twin, name)[shuffled] for name in ("record_id", "patient_id", "fold", "scores_NC", "labels_NC")}
    rows = score_challenge([ours, replace(twin, **columns)], 2021, (9,), (10,), n_resamples=100)
    gain = by_metric(rows)["challenge_metric_gain_over_random_init"]
    values = [by_metric(rows, arm)["challenge_metric"]["value"] for arm in ("pretrained", "random_init")]
    assert gain["value"] == pytest.approx(values[0] - values[1], abs=1e-12) and 0 < gain["low"] < gain["value"] < gain["high"]
    same = by_metric(score_challenge([ours, replace(ours, origin=twin.origin)], 2021, (9,), (10,), n_resamples=10))
    assert [same["challenge_metric_gain_over_random_init"][k] for k in ("value", "low", "high")] == [0, 0, 0]


def test_cosines_of_zero_shot_are_cut_as_they_are() -> None:
    cosines = table(protocol="zero_shot")
    cosines = replace(cosines, scores_NC=np.tanh(cosines.scores_NC) * 0.2 + 0.3)
    row = by_metric(score_challenge([cosines], 2021, (9,), (10,), n_resamples=10))["challenge_metric"]
    assert row["note"].startswith("threshold 0.") and "on scores of all classes" in row["note"] and row["value"] > 0.5


def test_the_interval_is_that_of_weighted_patients() -> None:
    test = table(n=60).folds((10,))
    outputs = test.scores_NC > 0
    found = challenge_interval(2021, test.labels_NC, [outputs], test.patient_id, n=300, seed=3)
    _, patient_N = np.unique(test.patient_id, return_inverse=True)
    rng, values = np.random.default_rng(3), []
    for size in (250, 50):
        for counts_K in draw_with_replacement(rng, np.zeros(patient_N.max() + 1, np.int64), size):
            rows = np.repeat(np.arange(len(patient_N)), counts_K[patient_N])
            values.append(challenge_scores(2021, test.labels_NC[rows], outputs[rows], test.scores_NC[rows]).challenge_metric)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, (2.5, 97.5))), abs=1e-12)
    assert found.value == pytest.approx(challenge_scores(2021, test.labels_NC, outputs, test.scores_NC).challenge_metric, abs=1e-12)


@pytest.mark.parametrize("bad", ["classes", "patients", "resamples", "labels"])
def test_an_interval_of_what_does_not_fit_is_a_typed_error(bad: str) -> None:
    test = table(n=12)
    labels = test.labels_NC[:, 1:] if bad == "classes" else test.labels_NC + 2 * (bad == "labels")
    patients = test.patient_id[1:] if bad == "patients" else test.patient_id
    with pytest.raises(MetricError):
        challenge_interval(2021, labels, [labels > 0], patients, n=0 if bad == "resamples" else 5)


def test_what_cannot_be_judged_is_a_typed_error() -> None:
    predictions = table()
    renamed = replace(predictions, classes=("Atrial", *predictions.classes[1:]))
    with pytest.raises(ScoringError, match=r"merl/cinc2021/dx-.*26 classes .*differ in AF, Atrial"):
        score_challenge([renamed], 2021, (9,), (10,))
    with pytest.raises(ScoringError, match="24 classes"):
        score_challenge([predictions], 2020, (9,), (10,))
    for folds, what in (((3,), (10,)), "validation folds 3"), (((9,), (3, 4)), "test folds 3, 4"):
        with pytest.raises(ScoringError, match=what):
            score_challenge([predictions], 2021, *folds)


def test_which_tasks_a_challenge_scored() -> None:
    assert [scored_year(get_dataset(name), "dx") for name in ("cinc2020", "cinc2021", "cpsc2018", "ptb_xl")] == [2020, 2021, None, None]
    assert scored_year(get_dataset("cinc2021"), "another") is None


def test_an_evaluation_of_the_task_has_the_metric_in_its_rows_leaderboard_and_text(tmp_path: Path) -> None:
    tables = [table(), table(arm="random_init", signal=2.0)]
    dataset = get_dataset("cinc2021")
    fold = np.where(tables[0].fold == 9, dataset.split.validation[0], dataset.split.test[0])
    for t in tables:
        write_predictions(tmp_path / "predictions" / f"{t.origin.slug}.parquet", replace(t, fold=fold))
    score(tmp_path, dataset, {"dx": (dataset, Modality.ECG)})
    metrics = pd.read_parquet(tmp_path / "metrics.parquet")
    assert (metrics["metric"] == "challenge_metric").sum() == 2
    assert not metrics.duplicated(["arm", "metric"]).any()

    text = to_markdown(metrics)
    assert f"chosen on validation fold {dataset.split.validation[0]}" in text and "Classes of linear_probe 100%" in text
    assert "| AF |  |  |" in text and text.count("\n| ") == 1 + 2 + 2 + 26 and "160 of 80 patients" in text

    board = build_leaderboard(metrics.assign(data_version="1" * 12), [get_spec("merl")])
    row = board[board["metric"] == "challenge_metric"].iloc[0]
    assert row["gain"] == pytest.approx(row["value"] - row["random_init"]) and row["low"] < row["value"] < row["high"]
    assert "160 of 80 patients, threshold 0." in leaderboard_text(board)


def test_other_tasks_have_no_such_rows(tmp_path: Path) -> None:
    dataset = get_dataset("ptb_xl")
    other = table()
    other = replace(other, origin=replace(other.origin, dataset="ptb_xl", task="all"))
    write_predictions(tmp_path / "predictions" / "one.parquet", other)
    score(tmp_path, dataset, {"all": (dataset, Modality.ECG)})
    assert not pd.read_parquet(tmp_path / "metrics.parquet")["metric"].str.contains("challenge").any()


def test_real_labels_of_the_challenge_are_judged(shared_data: Path) -> None:
    dataset = get_dataset("cinc2021")(shared_data / "cinc2021")
    labels, records = dataset.labels("dx").set_index("record_id"), dataset.records().set_index("record_id")
    names = tuple(c for c in labels.columns)
    known = records.loc[labels.index]
    # Few records are here: halves of their patients stand for the folds.
    patients = sorted(set(known["patient_id"]))
    fold = known["patient_id"].map({p: 9 + i % 2 for i, p in enumerate(patients)}).to_numpy(np.int64)
    held = labels.to_numpy(np.int8)
    logits = 4.0 * held - 2 + np.random.default_rng(0).normal(size=held.shape)
    origin = Origin("cinc2021", "dx", "merl", "tiny", "linear_probe", "pretrained", 0, "", fraction=1.0)
    ids, people = labels.index.to_numpy(np.str_), known["patient_id"].to_numpy(np.str_)
    rows = by_metric(score_challenge([Predictions(origin, names, ids, people, fold, logits.astype(np.float32), held)], 2021, (9,), (10,)))
    metric = rows["challenge_metric"]
    assert 0.3 < metric["low"] < metric["value"] < metric["high"] < 1 and metric["n_records"] > 40
    judged = by_metric(
        score_table(Predictions(origin, names, ids, people, fold, logits.astype(np.float32), held), (9,), (10,), n_resamples=10)
    )
    assert metric["n_classes"] == judged["macro_auroc"]["n_classes"] < 26
