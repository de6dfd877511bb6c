"""What the PTB-XL benchmark says of scores: its toy golden, its rules, and what a prediction export must carry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.benchmark_scores import AUPRC, AUROC, F_MAX, RECORDS_90, BenchmarkError, benchmark_rows
from assets.datasets.ptb_xl import DATABASE, PTBXL
from assets.scp import TASK_TITLES, label_table, task_classes
from models.metrics.bootstrap import patient_bootstrap, printed_form, resample_patients
from models.metrics.classification import MetricError, auroc_per_class, macro_auroc
from models.predictions import Origin, Predictions, read_predictions, write_predictions

TOY_LABELS = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], np.int8)
TOY_SCORES = np.array([[0.9, 0.2, 0.8], [0.1, 0.6, 0.4], [0.4, 0.7, 0.3], [0.5, 0.3, 0.4]], np.float32)


def table(labels: np.ndarray, scores: np.ndarray, validation: int = 0) -> Predictions:
    """A prediction table of which the first records are the validation fold's."""
    n = len(labels)
    origin = Origin("ptb_xl", "super", "merl", "tiny", "linear_probe", "pretrained", 0, "0" * 64, fraction=1.0)
    ids = np.array([f"{i:04d}" for i in range(n)])
    patients = np.array([f"p{i // 2}" for i in range(n)])
    fold = np.where(np.arange(n) < validation, 9, 10)
    return Predictions(origin, tuple("ABCDE"[: labels.shape[1]]), ids, patients, fold, scores.astype(np.float32), labels)


def drawn(n: int = 240, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < 0.3).astype(np.int8)
    return table(labels, rng.normal(size=labels.shape) + labels, n // 2)


def value(rows: list[dict[str, object]], metric: str) -> dict[str, object]:
    (found,) = [r for r in rows if r["metric"] == metric]
    return found


def test_the_toy_golden() -> None:
    assert auroc_per_class(TOY_SCORES, TOY_LABELS).tolist() == [0.75, 1.0, 0.875]
    assert macro_auroc(TOY_SCORES, TOY_LABELS).value == 0.875
    rows = benchmark_rows(table(TOY_LABELS, TOY_SCORES), (9,), (10,), n_resamples=20)
    assert value(rows, AUROC)["value"] == 0.875
    assert [value(rows, f"auroc:{c}")["value"] for c in "ABC"] == [0.75, 1.0, 0.875]


def test_exclusive_classes_are_put_in_order_by_their_softmax() -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.int8)[rng.integers(0, 3, 90)]
    shift = 5 * rng.normal(size=(90, 1))  # a softmax does not see it, an order of logits does
    held = table(labels, rng.normal(size=labels.shape) + labels + shift)
    exclusive = replace(held, origin=replace(held.origin, kind="single_label"))
    probability = np.exp(held.scores_NC.astype(np.float64))
    wanted = auroc_per_class(probability / probability.sum(axis=1, keepdims=True), labels).mean()
    assert value(benchmark_rows(exclusive, (9,), (10,), n_resamples=5), AUROC)["value"] == pytest.approx(wanted)
    assert value(benchmark_rows(held, (9,), (10,), n_resamples=5), AUROC)["value"] < wanted - 0.05


def test_the_printed_form_is_truncated() -> None:
    assert printed_form(0.925436, 0.918523, 0.931485) == "0.925(06)"


def test_macro_auroc_asks_for_order_alone() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.4).astype(np.int8)
    scores = rng.normal(size=labels.shape)
    told = macro_auroc(scores, labels).value
    bent = np.stack([np.exp(scores[:, 0]), scores[:, 1] ** 3, 5 * scores[:, 2] - 1], axis=1)
    assert macro_auroc(bent, labels).value == told
    order = rng.permutation(60)
    assert macro_auroc(scores[order], labels[order]).value == pytest.approx(told, abs=1e-12)
    assert macro_auroc(np.ones_like(scores), labels).value == 0.5
    with pytest.raises(MetricError, match="undefined"):
        macro_auroc(scores, np.zeros_like(labels))


def test_every_number_is_there_with_its_rule() -> None:
    predictions = drawn()
    rows = benchmark_rows(predictions, (9,), (10,), n_resamples=60)
    test = predictions.folds((10,))
    patients, records = (patient_bootstrap(test.scores_NC, test.labels_NC, who, 60) for who in (test.patient_id, test.record_id))
    auroc = value(rows, AUROC)
    assert (auroc["value"], auroc["low"], auroc["high"]) == (patients.value, patients.low, patients.high)
    assert auroc["interval"] == "95% patient bootstrap, 60 resamples"
    assert (auroc["n_records"], auroc["n_patients"], auroc["n_classes"]) == (120, 60, 3)
    by_record = value(rows, RECORDS_90)
    narrower = patient_bootstrap(test.scores_NC, test.labels_NC, test.record_id, 60, percentiles=(5, 95))
    assert (by_record["low"], by_record["high"], by_record["printed"]) == (narrower.low, narrower.high, narrower.printed())
    assert records.low <= narrower.low < narrower.high <= records.high
    assert value(rows, AUPRC)["low"] < value(rows, AUPRC)["value"] < value(rows, AUPRC)["high"]
    assert "chosen on 120 validation records" in str(value(rows, F_MAX)["note"])


def test_the_threshold_of_f_is_not_chosen_on_test() -> None:
    predictions = drawn()
    worse = predictions.scores_NC.copy()
    worse[:120] = np.random.default_rng(9).normal(size=(120, 3))  # other validation scores, the same test scores
    other = table(predictions.labels_NC, worse, 120)
    found = [value(benchmark_rows(p, (9,), (10,), n_resamples=10), F_MAX)["value"] for p in (predictions, other)]
    assert found[0] != found[1]
    assert np.isnan(value(benchmark_rows(predictions.folds((10,)), (9,), (10,), n_resamples=10), F_MAX)["value"])  # type: ignore[arg-type]


def test_a_class_without_positives_is_refused_or_counted() -> None:
    predictions = drawn()
    labels = predictions.labels_NC.copy()
    labels[120:, 1] = 0
    lacking = table(labels, predictions.scores_NC, 120)
    with pytest.raises(
        BenchmarkError, match=r"1 of 3 classes have no positive or no negative among the 120 test records \(B\).*--skip-undefined"
    ):
        benchmark_rows(lacking, (9,), (10,), n_resamples=10)
    auroc = value(benchmark_rows(lacking, (9,), (10,), skip_undefined=True, n_resamples=10), AUROC)
    assert (auroc["n_classes"], auroc["n_undefined"]) == (2, 1)
    assert "B" in str(auroc["note"])
    with pytest.raises(BenchmarkError, match="nothing can be judged"):
        benchmark_rows(lacking, (9,), (3,), skip_undefined=True)


def test_every_resample_has_all_classes_and_can_be_drawn_again() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((80, 4)) < 0.03).astype(np.int8)
    labels[:4] = np.eye(4, dtype=np.int8)
    ids = np.arange(80)
    found = resample_patients(labels, ids, 100, 5)
    positives = found.counts_RK @ labels
    assert (positives > 0).all()
    assert (resample_patients(labels, ids, 100, 5).counts_RK == found.counts_RK).all()
    assert not (resample_patients(labels, ids, 100, 6).counts_RK == found.counts_RK).all()


def test_an_export_is_enough_to_compute_its_table_again(tmp_path: Path) -> None:
    predictions = drawn()
    write_predictions(tmp_path / "p.parquet", predictions)
    again = read_predictions(tmp_path / "p.parquet")
    assert (again.classes, again.origin.task, again.record_id.tolist()) == (predictions.classes, "super", predictions.record_id.tolist())
    before, after = (pd.DataFrame(benchmark_rows(p, (9,), (10,), n_resamples=20)) for p in (predictions, again))
    pd.testing.assert_frame_equal(before, after, check_exact=True)


CLASSES = {"all": 71, "diag": 44, "sub": 23, "super": 5, "form": 19, "rhythm": 12}
RECORDS = {
    "all": (17418, 2183, 2198),
    "diag": (17084, 2146, 2158),
    "sub": (17084, 2146, 2158),
    "super": (17084, 2146, 2158),
    "form": (7197, 901, 880),
    "rhythm": (16832, 2100, 2098),
}
SUPER_POSITIVES = {
    "NORM": (7596, 955, 963),
    "MI": (4379, 540, 550),
    "STTC": (4186, 528, 521),
    "CD": (3907, 495, 496),
    "HYP": (2119, 268, 262),
}


@pytest.mark.parametrize("task", CLASSES)
def test_classes_are_as_many_as_published_and_sorted(task: str) -> None:
    found = task_classes(task)
    assert len(found) == CLASSES[task]
    assert list(found) == sorted(found)
    assert task in TASK_TITLES


def test_all_records_give_the_published_counts(shared_data: Path) -> None:
    path = shared_data / "ptb-xl-full" / "labels.csv.gz"
    if not path.exists():
        pytest.skip("the labels of all records are not there")
    listed = pd.read_csv(path, dtype={"ecg_id": str, "patient_id": str})
    part = listed.set_index("ecg_id")["strat_fold"].map(lambda f: 0 if f <= 8 else f - 8)
    assert listed.groupby("patient_id")["strat_fold"].nunique().max() == 1
    codes = {i: text.split() for i, text in zip(listed["ecg_id"], listed["scp_codes"].fillna(""), strict=True)}
    for task, expected in RECORDS.items():
        labels = label_table(codes, task).set_index("record_id")
        where = part.reindex(labels.index)
        assert tuple(int((where == p).sum()) for p in range(3)) == expected, task
        if task == "super":
            assert {c: tuple(int(labels.loc[where == p, c].sum()) for p in range(3)) for c in labels} == SUPER_POSITIVES
            counts = labels[where == 0].sum(axis=1).value_counts()
            assert [int(counts[n]) for n in (1, 2, 3, 4)] == [12957, 3274, 730, 123]


@pytest.fixture(scope="module")
def fixture(tmp_path_factory: pytest.TempPathFactory) -> PTBXL:
    folder = tmp_path_factory.mktemp("ptb_xl")
    PTBXL.make_fixture(folder)
    return PTBXL(folder)


def test_no_likelihood_is_too_small_to_count(fixture: PTBXL) -> None:
    rows = pd.read_csv(fixture.folder / DATABASE, dtype=str)
    named = rows[rows["scp_codes"].str.contains("'IMI': 0.0")]
    assert len(named)
    labels = fixture.labels("super").set_index("record_id")
    assert (labels.loc[named["ecg_id"], "MI"] == 1).all()


def test_two_codes_of_a_superclass_are_one_positive(fixture: PTBXL) -> None:
    rows = pd.read_csv(fixture.folder / DATABASE, dtype=str)
    both = rows[rows["scp_codes"].str.contains("ASMI") & rows["scp_codes"].str.contains("'IMI'")]
    labels = fixture.labels("super").set_index("record_id")
    assert len(both)
    assert (labels.loc[both["ecg_id"], "MI"] == 1).all()
    for task in CLASSES:
        table = fixture.labels(task)
        assert table["record_id"].is_unique
        assert set(np.unique(table.drop(columns="record_id").to_numpy())) <= {0, 1}


def test_no_task_moves_a_record_or_shares_a_patient(fixture: PTBXL) -> None:
    records = fixture.records().set_index("record_id")
    split = fixture.split
    assert set(split.train) | set(split.validation) | set(split.test) == set(range(1, 11))
    for task in CLASSES:
        labels = fixture.labels(task)
        assert list(labels) == ["record_id", *fixture.task(task).classes], "folds come with the records, never with a task"
        held = records.loc[labels["record_id"]]
        parts = held["fold"].map(lambda f: fixture.part(int(f)))
        assert held.assign(part=parts).groupby("patient_id")["part"].nunique().max() == 1
