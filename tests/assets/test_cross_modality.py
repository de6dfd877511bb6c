"""The cross-modality matrix from its tables: numbers, correlations, the leaderboard's rows, the words and the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from assets.cross_modality import summarise
from assets.cross_modality_scoring import cell, classes_of, confusion_of, correlations, leaderboard_rows, matrix_rows, square
from models.predictions import Origin

SIGNALS, CLASSES, SUBJECTS = ["ECG", "EDA", "TEMP"], ["amusement", "baseline", "stress"], 4
FACTS: dict[str, Any] = {
    "windows": 72, "subjects": SUBJECTS, "classes": CLASSES, "shared_subjects": {"loso": 0, "random_window": 4}, "window_s": 10.0,
    "normalisation": "train_zscore", "signals": SIGNALS, "dataset": "small", "task": "affect3", "method": "wesad", "preset": "tiny", "seed": 0,
}  # fmt: skip


def write_tables(folder: Path) -> Path:
    """Networks that are right on their own signal by a share, and by chance on others; two seeds, two splits."""
    rng = np.random.default_rng(0)
    class_N = np.tile(np.repeat(np.arange(3), 6), SUBJECTS)
    subject_N = np.repeat(np.arange(SUBJECTS), 18)
    predictions, numbers, variance, maps = [], [], [], []

    def table(split: str, seed: int, source: str, target: str, skill: float) -> None:
        called_N = np.where(rng.random(72) < skill, class_N, rng.integers(0, 3, 72)) if source != "majority" else np.ones(72, int)
        logits_NC = np.eye(3)[called_N] + 0.1 * rng.random((72, 3))
        predictions.append(pd.DataFrame({
            "split": split, "source": source, "target": target, "variant": "unchanged", "fold": subject_N + 1 if split == "loso" else 1,
            "seed": seed, "record_id": [f"p{s}-{CLASSES[c]}@{i}" for i, (s, c) in enumerate(zip(subject_N, class_N, strict=True))],
            "patient_id": [f"p{s}" for s in subject_N], "class": [CLASSES[c] for c in class_N],
            **{f"logit:{c}": logits_NC[:, i] for i, c in enumerate(CLASSES)},
        }))  # fmt: skip

    for split, skill in (("loso", 0.6), ("random_window", 1.0)):
        for name in ("majority", "time_only"):
            table(split, -1, name, "", 0.1)
        for k, source in enumerate(SIGNALS):
            variance += [{"split": split, "fold": 1, "signal": source, "class": "", "name": n, "value": v}
                         for n, v in (("within", 0.9 - 0.1 * k), ("between", 0.1 + 0.1 * k), ("between_share", 0.1 + 0.1 * k))]  # fmt: skip
            for target in SIGNALS:
                for seed in (0, 1):
                    table(split, seed, source, target, skill if source == target else 0.1 * k)
                    names = (
                        "silhouette_class",
                        "silhouette_subject",
                        "subject_probe",
                        "subject_probe_chance",
                        "embedding_variance",
                        "between_class_share",
                    )
                    numbers += [
                        {"split": split, "fold": 1, "seed": seed, "source": source, "target": target, "name": n, "value": rng.random()}
                        for n in names
                    ]
                maps.append(
                    predictions[-1][["record_id", "patient_id", "class"]].assign(
                        source=source, target=target, method="pca", x=rng.random(72), y=rng.random(72)
                    )
                )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("predictions", pd.concat(predictions)),
        ("projection", pd.concat(maps)),
        ("embeddings", pd.DataFrame(numbers)),
        ("variance", pd.DataFrame(variance)),
    ):
        rows.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = write_tables(tmp_path_factory.mktemp("matrix") / "output")
    assert summarise(found, dict(FACTS), "Networks").rows == len(pd.read_parquet(found / "matrix.parquet"))
    return found


@pytest.fixture
def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {p.stem: pd.read_parquet(p) for p in folder.glob("*.parquet")}


def test_cells_are_what_scikit_learn_makes_of_each_seed(tables: dict[str, pd.DataFrame]) -> None:
    predictions, matrix = tables["predictions"], tables["matrix"]
    assert classes_of(predictions) == CLASSES
    chosen = predictions[(predictions["split"] == "loso") & (predictions["source"] == "EDA") & (predictions["target"] == "TEMP")]
    expected: dict[str, list[float]] = {}
    for _, rows in chosen.groupby("seed"):
        true = rows["class"]
        called = np.array(CLASSES)[rows[[f"logit:{c}" for c in CLASSES]].to_numpy().argmax(axis=1)]
        options: dict[str, Any] = {"average": "macro", "labels": CLASSES, "zero_division": 0}
        values = {
            "accuracy": accuracy_score(true, called),
            "macro_precision": precision_score(true, called, **options),
            "macro_recall": recall_score(true, called, **options),
            "macro_f1": f1_score(true, called, **options),
            "stress_accuracy": accuracy_score(true == "stress", called == "stress"),
        }
        for name, value in values.items():
            expected.setdefault(name, []).append(value)
    for name, found in expected.items():
        row = cell(matrix, "loso", "EDA", "TEMP", name)
        assert row["value"] == pytest.approx(np.mean(found)), name
        assert (row["n_windows"], row["n_subjects"], row["n_seeds"]) == (72, 4, 2)


def test_subjects_have_a_mean_and_a_deviation(tables: dict[str, pd.DataFrame]) -> None:
    predictions = tables["predictions"]
    chosen = predictions[(predictions["split"] == "loso") & (predictions["source"] == "ECG") & (predictions["target"] == "ECG")]
    called = np.array(CLASSES)[chosen[[f"logit:{c}" for c in CLASSES]].to_numpy().argmax(axis=1)]
    by_subject = (called == chosen["class"]).groupby(chosen["patient_id"]).mean()
    row = cell(tables["matrix"], "loso", "ECG", "ECG")
    assert (row["subject_mean"], row["subject_deviation"]) == pytest.approx((by_subject.mean(), by_subject.std()))
    assert row["low"] < row["value"] < row["high"]


def test_who_always_says_the_same_has_a_macro_recall_of_one_third(tables: dict[str, pd.DataFrame]) -> None:
    assert cell(tables["matrix"], "loso", "majority", metric="macro_recall")["value"] == pytest.approx(1 / 3)


def test_the_matrix_is_square_in_the_order_of_the_signals(tables: dict[str, pd.DataFrame]) -> None:
    found = square(tables["matrix"], SIGNALS, "random_window")
    assert list(found.index) == list(found.columns) == SIGNALS
    assert (np.diag(found) == 1).all() and found.loc["ECG", "EDA"] == cell(tables["matrix"], "random_window", "ECG", "EDA")["value"]


def test_correlations_are_those_of_rows_and_columns(tables: dict[str, pd.DataFrame]) -> None:
    found = correlations(tables["matrix"], tables["variance"], tables["embeddings"], SIGNALS, "loso").set_index(["quantity", "mean_of"])
    values = square(tables["matrix"], SIGNALS, "loso").to_numpy()
    assert found.loc[("signal between_share", "row"), "correlation"] == pytest.approx(
        np.corrcoef([0.1, 0.2, 0.3], values.mean(axis=1))[0, 1]
    )
    assert found.loc[("signal within", "column"), "correlation"] == pytest.approx(np.corrcoef([0.9, 0.8, 0.7], values.mean(axis=0))[0, 1])
    still = tables["variance"].assign(value=0.5)
    flat = correlations(tables["matrix"], still, tables["embeddings"], SIGNALS, "loso")
    assert flat[flat["quantity"].str.startswith("signal")]["correlation"].isna().all()


def test_the_leaderboard_gets_every_network_on_its_own_signal_by_split(tables: dict[str, pd.DataFrame]) -> None:
    origin = Origin("small", "affect3", "wesad", "tiny", "cross_modality", "pretrained", 0, "", 1.0)
    rows = leaderboard_rows(tables["matrix"], origin, FACTS)
    assert [(r["protocol"], r["direction"]) for r in rows] == [(f"finetune_{s}", n) for s in ("loso", "random_window") for n in SIGNALS]
    first, leaking = rows[0], rows[-1]
    assert first["value"] == cell(tables["matrix"], "loso", "ECG", "ECG")["value"]
    assert first["chance"] == cell(tables["matrix"], "loso", "majority")["value"]
    assert "no subject trains and judges" in first["note"] and "4 of 4 subjects train and judge" in leaking["note"]
    assert "windows of 10 s" in first["note"] and "train_zscore" in first["note"]


def test_the_words_put_the_headline_beside_the_split_that_leaks(folder: Path) -> None:
    text = (folder / "matrix.md").read_text()
    gap = 1 - cell(pd.read_parquet(folder / "matrix.parquet"), "loso", "ECG", "ECG")["value"]
    (row,) = [line for line in text.splitlines() if line.startswith("| ECG") and "±" in line]
    assert row.endswith(f"| 1.000 | {gap:+.3f} |")
    assert "loso is the headline" in text and "random_window: 4 of 4 subjects train and judge" in text
    assert "time only" in text and "subject probe" in text
    subject = "those of whoever is judged among them"
    assert subject not in text


def test_statistics_of_the_test_subject_are_named(folder: Path, tmp_path: Path) -> None:
    again = write_tables(tmp_path / "output")
    summarise(again, FACTS | {"normalisation": "per_subject"}, "Networks")
    assert "those of whoever is judged among them" in (again / "matrix.md").read_text()
    assert "per_subject" in pd.read_parquet(again / "metrics.parquet")["note"].iloc[0]


def test_there_is_a_picture_of_everything(folder: Path) -> None:
    found = {p.name for p in (folder / "figures").iterdir()}
    assert found == {"matrix.png", "confusion.png", *(f"embeddings-{s}.png" for s in SIGNALS)}


def test_confusion_counts_every_window(tables: dict[str, pd.DataFrame]) -> None:
    predictions = tables["predictions"]
    chosen = predictions[(predictions["split"] == "random_window") & (predictions["source"] == "EDA") & (predictions["target"] == "EDA")]
    assert confusion_of(chosen).tolist() == [[48, 0, 0], [0, 48, 0], [0, 0, 48]]


def test_intervals_do_not_depend_on_the_order_of_rows(tables: dict[str, pd.DataFrame]) -> None:
    predictions = tables["predictions"][tables["predictions"]["source"] == "TEMP"]
    turned = matrix_rows(predictions.sample(frac=1, random_state=0), n_resamples=200)
    found = matrix_rows(predictions, n_resamples=200)
    on = ["split", "variant", "source", "target", "metric"]
    pd.testing.assert_frame_equal(*(rows.drop(columns=["low", "high"]).sort_values(on, ignore_index=True) for rows in (found, turned)))
