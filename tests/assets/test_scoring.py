"""Rows of metrics.parquet against direct computation, twins, alignment by name and id, and subgroups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from assets.scoring import F1, GAIN, Person, ScoringError, align, compare, compare_arms, probabilities, score_table, subgroups
from models.metrics.bootstrap import patient_bootstrap
from models.metrics.classification import best_thresholds
from models.predictions import Origin, Predictions

COLUMNS = {
    *("dataset", "task", "method", "preset", "protocol", "arm", "fraction", "prompts", "seed", "metric", "value", "low", "high"),
    *("channels", "split", "direction", "chance", "unit", "n_records", "n_patients", "n_classes", "n_undefined", "interval", "note"),
}
CLASSES = ("NORM", "LAFB/LPFB", "PRC(S)")


def table(seed: int = 0, n: int = 300, signal: float = 1.5, protocol: str = "linear_probe", arm: str = "pretrained") -> Predictions:
    """Predictions whose labels and patients depend on nothing but n, and whose scores follow the labels."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    labels = (fixed.random((n, 3)) < (0.5, 0.2, 0.1)).astype(np.int8)
    scores = signal * labels + rng.normal(size=labels.shape)
    origin = Origin("synthetic", "super", "merl", "tiny", protocol, arm, 0, "ab" * 32, fraction=None if protocol == "zero_shot" else 1.0)
    patients = np.array([f"p{i // 2}" for i in range(n)])
    folds = np.array([9 if i // 2 % 3 == 0 else 10 for i in range(n)])
    return Predictions(origin, CLASSES, np.array([f"r{i:04d}" for i in range(n)]), patients, folds, scores.astype(np.float32), labels)


def by_metric(rows: list[dict]) -> dict[str, dict]:
    assert all(set(row) == COLUMNS for row in rows)
    return {row["metric"]: row for row in rows}


def test_rows_hold_what_the_table_gives() -> None:
    predictions = table()
    rows = by_metric(score_table(predictions, (9,), (10,), n_resamples=50))
    test = predictions.folds((10,))
    expected = patient_bootstrap(test.scores_NC, test.labels_NC, test.patient_id, n=50)
    auroc = rows["macro_auroc"]
    assert (auroc["value"], auroc["low"], auroc["high"]) == (expected.value, expected.low, expected.high)
    assert auroc["value"] == pytest.approx(roc_auc_score(test.labels_NC, test.scores_NC))
    assert (auroc["n_records"], auroc["n_patients"], auroc["n_classes"], auroc["n_undefined"]) == (200, 100, 3, 0)
    assert auroc["interval"] == "95% patient bootstrap, 50 resamples"
    assert (auroc["fraction"], auroc["prompts"], auroc["arm"]) == (1.0, "", "pretrained")
    for c, name in enumerate(CLASSES):
        assert rows[f"auroc:{name}"]["value"] == pytest.approx(roc_auc_score(test.labels_NC[:, c], test.scores_NC[:, c]))
        assert math.isnan(rows[f"auroc:{name}"]["low"])
    validation = predictions.folds((9,))
    thresholds = best_thresholds(validation.scores_NC, validation.labels_NC)
    assert rows[F1]["value"] == pytest.approx(f1_score(test.labels_NC, test.scores_NC >= thresholds, average="macro"))
    assert 0 < rows["macro_ece"]["value"] < 0.5
    assert rows["macro_brier"]["value"] == pytest.approx(((1 / (1 + np.exp(-test.scores_NC)) - test.labels_NC) ** 2).mean(), abs=1e-6)


def test_only_test_rows_are_judged_and_validation_only_chooses() -> None:
    predictions = table()
    rows = by_metric(score_table(predictions, (9,), (10,), n_resamples=20))
    rng = np.random.default_rng(1)
    scrambled = predictions.scores_NC.copy()
    scrambled[predictions.fold == 9] = rng.random((int((predictions.fold == 9).sum()), 3))
    other = by_metric(score_table(replace(predictions, scores_NC=scrambled), (9,), (10,), n_resamples=20))
    assert other["macro_auroc"] == rows["macro_auroc"]
    assert other[F1]["value"] < rows[F1]["value"]


def test_zero_shot_scores_have_no_calibration() -> None:
    predictions = table(protocol="zero_shot")
    rows = by_metric(score_table(predictions, (9,), (10,), n_resamples=20))
    assert "macro_ece" not in rows
    with pytest.raises(ScoringError, match="holds no logits"):
        probabilities(predictions)
    assert math.isnan(rows["macro_auroc"]["fraction"])


def test_undefined_classes_are_counted_and_named() -> None:
    predictions = table()
    labels = predictions.labels_NC.copy()
    labels[predictions.fold == 10, 2] = 0
    rows = by_metric(score_table(replace(predictions, labels_NC=labels), (9,), (10,), n_resamples=20))
    assert (rows["macro_auroc"]["n_classes"], rows["macro_auroc"]["n_undefined"]) == (2, 1)
    assert "PRC(S)" in rows["macro_auroc"]["note"]
    assert (rows[F1]["n_classes"], rows[F1]["n_undefined"]) == (2, 1)
    assert math.isnan(rows["auroc:PRC(S)"]["value"])
    labels = predictions.labels_NC.copy()
    labels[predictions.fold == 9, 0] = 0
    rows = by_metric(score_table(replace(predictions, labels_NC=labels), (9,), (10,), n_resamples=20))
    assert (rows["macro_auroc"]["n_undefined"], rows[F1]["n_undefined"]) == (0, 1)
    assert "NORM" in rows[F1]["note"]


def test_no_defined_class_gives_nan_and_no_interval() -> None:
    predictions = table()
    rows = by_metric(score_table(replace(predictions, labels_NC=np.zeros_like(predictions.labels_NC)), (9,), (10,), n_resamples=20))
    assert math.isnan(rows["macro_auroc"]["value"])
    assert rows["macro_auroc"]["interval"] == ""


def test_no_test_record_is_an_error() -> None:
    with pytest.raises(ScoringError, match=r"no record of the test folds 3 \(it has 9, 10\)"):
        score_table(table(), (9,), (3,))


def test_gain_over_the_random_twin() -> None:
    ours, twin = table(), table(seed=1, signal=0.3, arm="random_init")
    alone = table(protocol="zero_shot")
    (row,) = compare_arms([twin, alone, ours], (10,), n_resamples=50)
    assert set(row) == COLUMNS
    assert (row["metric"], row["arm"], row["protocol"]) == (GAIN, "pretrained", "linear_probe")
    test, other = ours.folds((10,)), twin.folds((10,))
    assert row["value"] == pytest.approx(roc_auc_score(test.labels_NC, test.scores_NC) - roc_auc_score(other.labels_NC, other.scores_NC))
    assert 0 < row["low"] < row["value"] < row["high"]


def test_tables_of_channel_sets_are_compared_with_twins_of_the_same_set() -> None:
    shown = [(None, 1.5), ("II", 0.8), ("II+PLETH", 1.0)]
    tables = [
        replace(t, origin=replace(t.origin, channels=channels))
        for channels, signal in shown
        for t in (table(signal=signal), table(seed=1, signal=0.2, arm="random_init"))
    ]
    rows = compare_arms(tables, (10,), n_resamples=20)
    assert [row["channels"] for row in rows] == ["", "II", "II+PLETH"]
    assert len({round(row["value"], 6) for row in rows}) == 3
    assert {row["channels"] for row in score_table(tables[2], (9,), (10,), n_resamples=20)} == {"II"}


def test_of_exclusive_classes_the_softmax_is_judged() -> None:
    """A shift of all logits of a record says nothing about its class, and must change no metric."""
    rng = np.random.default_rng(5)
    whole = table()
    classes = rng.integers(0, 3, len(whole.record_id))
    logits = (2 * np.eye(3)[classes] + rng.normal(size=(len(classes), 3))).astype(np.float32)
    origin = replace(whole.origin, kind="single_label")
    one = replace(whole, origin=origin, labels_NC=np.eye(3, dtype=np.int8)[classes], scores_NC=logits)
    shifted = replace(one, scores_NC=logits + rng.normal(0, 5, (len(classes), 1)).astype(np.float32))
    found, moved = (by_metric(score_table(t, (9,), (10,), n_resamples=20)) for t in (one, shifted))
    for metric in ("macro_auroc", "macro_auprc", "macro_brier", F1):
        assert moved[metric]["value"] == pytest.approx(found[metric]["value"], abs=1e-4), metric
    test = one.folds((10,))
    shares = np.exp(test.scores_NC) / np.exp(test.scores_NC).sum(axis=1, keepdims=True)
    assert found["macro_auroc"]["value"] == pytest.approx(roc_auc_score(test.labels_NC, shares, average="macro"), abs=1e-6)
    np.testing.assert_allclose(probabilities(test).sum(axis=1), 1)
    right = [int(row.argmax()) == int(label.argmax()) for row, label in zip(test.scores_NC, test.labels_NC, strict=True)]
    accuracy = found["accuracy"]
    assert accuracy["value"] == pytest.approx(sum(right) / len(right)) and accuracy["low"] < accuracy["value"] < accuracy["high"]
    recalls = [sum(r for r, label in zip(right, test.labels_NC, strict=True) if label[c]) / test.labels_NC[:, c].sum() for c in range(3)]
    assert [found[f"recall:{c}"]["value"] for c in test.classes] == pytest.approx(recalls)
    assert found["macro_recall"]["value"] == pytest.approx(sum(recalls) / 3)
    apart = by_metric(score_table(replace(shifted, origin=whole.origin), (9,), (10,), n_resamples=20))
    assert apart["macro_auroc"]["value"] < found["macro_auroc"]["value"] - 0.05


def test_rows_and_columns_are_matched_by_name() -> None:
    ours, twin = table(), table(seed=1, signal=0.3, arm="random_init")
    rng = np.random.default_rng(0)
    order, columns = rng.permutation(300), [2, 0, 1]
    shuffled = Predictions(
        twin.origin,
        tuple(CLASSES[c] for c in columns),
        twin.record_id[order],
        twin.patient_id[order],
        twin.fold[order],
        twin.scores_NC[order][:, columns],
        twin.labels_NC[order][:, columns],
    )
    assert compare(ours, shuffled, (10,), n_resamples=30) == compare(ours, twin, (10,), n_resamples=30)


def test_tables_of_different_records_or_labels_are_refused() -> None:
    ours = table()
    with pytest.raises(ScoringError, match="300 and 298, 298 in common, 'r0298' is in one only"):
        align(ours, _cut(ours, 298))
    labels = ours.labels_NC.copy()
    labels[7, 1] ^= 1
    with pytest.raises(ScoringError, match="disagree on the labels of 1 records, the first is 'r0007'"):
        align(ours, replace(ours, labels_NC=labels))
    with pytest.raises(ScoringError, match="disagree on the patient"):
        align(ours, replace(ours, patient_id=np.array([f"q{i}" for i in range(300)])))
    with pytest.raises(ScoringError, match="differ in classes"):
        align(ours, replace(ours, classes=("NORM", "LAFB/LPFB", "MI")))


def _cut(predictions: Predictions, n: int) -> Predictions:
    p = predictions
    return Predictions(p.origin, p.classes, p.record_id[:n], p.patient_id[:n], p.fold[:n], p.scores_NC[:n], p.labels_NC[:n])


def test_subgroups_by_sex_and_age_band() -> None:
    people = {
        "a": Person("female", 39.9),
        "b": Person("male", 40.0),
        "c": Person("female", 300.0),
        "d": Person("unknown", None),
        "e": Person("male", math.nan),
    }
    groups = subgroups(list("abcde"), people)
    assert {g: "".join(np.array(list("abcde"))[m]) for g, m in groups.items()} == {
        "age: 40 to 59": "b",
        "age: 75 and over": "c",
        "age: under 40": "a",
        "age: unknown": "de",
        "sex: female": "ac",
        "sex: male": "be",
        "sex: unknown": "d",
    }
    with pytest.raises(ScoringError, match="record 'z' has no sex and age entry"):
        subgroups(["a", "z"], people)
