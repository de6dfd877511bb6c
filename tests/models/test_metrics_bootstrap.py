"""Patient bootstrap against a loop that repeats rows, its conditioning, and what it promises about reproducibility."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from models.metrics.bootstrap import (
    MAX_DRAWS_PER_RESAMPLE,
    SCARCE_PATIENTS,
    paired_bootstrap,
    patient_bootstrap,
    printed_form,
    resample_patients,
)
from models.metrics.classification import MetricError, macro_auroc


def sample(positives: list[int], n: int = 120, patients: int = 70, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels with the given number of positive records a class, and patient ids."""
    rng = np.random.default_rng(seed)
    labels = np.stack([np.isin(np.arange(n), rng.choice(n, p, replace=False)) for p in positives], axis=1).astype(np.int8)
    scores = (rng.normal(size=labels.shape) + labels).astype(np.float32)
    return scores, labels, np.array([f"p{i}" for i in rng.integers(0, patients, n)])


@pytest.mark.parametrize(
    ("metric", "peer"), [("macro_auroc", roc_auc_score), ("macro_auprc", average_precision_score), ("macro_f1", f1_score)]
)
def test_equals_a_loop_that_repeats_rows(metric: str, peer: object) -> None:
    scores, labels, patients = sample([30, 50, 9])
    judged = (scores > 0.5).astype(np.int8) if metric == "macro_f1" else scores
    interval = patient_bootstrap(judged, labels, patients, n=40, seed=3, metric=metric)  # type: ignore[arg-type]
    drawn = resample_patients(labels, patients, 40, 3)
    values = []
    for counts in drawn.counts_RK:
        rows = np.repeat(np.arange(len(labels)), counts[drawn.patient_N])
        values.append(peer(labels[rows], judged[rows], average="macro"))  # type: ignore[operator]
    low, high = np.percentile(values, [2.5, 97.5])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)
    assert interval.value == pytest.approx(peer(labels, judged, average="macro"), abs=1e-12)  # type: ignore[operator]
    assert (interval.n_resamples, interval.n_classes, interval.n_patients) == (40, 3, len(set(patients)))


def test_patients_bring_all_their_records() -> None:
    _, labels, patients = sample([30, 50])
    drawn = resample_patients(labels, patients, 20, 0)
    assert (drawn.counts_RK.sum(axis=1) == len(set(patients))).all()
    weights = drawn.counts_RK[:, drawn.patient_N]
    for patient in set(patients):
        assert (weights[:, patients == patient] == weights[:, patients == patient][:, :1]).all()


def test_interval_over_records_would_be_narrower_where_patients_repeat() -> None:
    scores, labels, patients = sample([30, 50], n=60, patients=10**6)
    repeat = np.repeat(np.arange(60), 5)
    by_patient = patient_bootstrap(scores[repeat], labels[repeat], patients[repeat], n=400)
    by_record = patient_bootstrap(scores[repeat], labels[repeat], np.arange(300), n=400)
    alone = patient_bootstrap(scores, labels, patients, n=400)
    assert by_patient.high - by_patient.low == pytest.approx(alone.high - alone.low, rel=1e-9)
    assert by_record.high - by_record.low < 0.7 * (by_patient.high - by_patient.low)


def test_seed_decides_everything() -> None:
    scores, labels, patients = sample([30, 2])
    first = patient_bootstrap(scores, labels, patients, n=50, seed=1)
    assert first == patient_bootstrap(scores, labels, patients, n=50, seed=1)
    assert first != patient_bootstrap(scores, labels, patients, n=50, seed=2)
    assert first.low <= first.value <= first.high


def test_percentiles_are_those_asked_for() -> None:
    scores, labels, patients = sample([30, 50])
    wide = patient_bootstrap(scores, labels, patients, n=200)
    narrow = patient_bootstrap(scores, labels, patients, n=200, percentiles=(5, 95))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("rare", [1, 2, 118])
def test_every_resample_has_both_labels_of_every_class(rare: int) -> None:
    _, labels, patients = sample([30, rare])
    drawn = resample_patients(labels, patients, 200, 0)
    weights = drawn.counts_RK[:, drawn.patient_N]
    assert ((weights @ (labels == 1)) > 0).all()
    assert ((weights @ (labels == 0)) > 0).all()
    assert drawn.conditioning == "redraw"
    assert drawn.n_redrawn > 0


def test_redrawing_rate_is_what_probability_says() -> None:
    labels = np.zeros((50, 1), np.int8)
    labels[0] = 1
    drawn = resample_patients(labels, np.arange(50), 2000, 0)
    missed = (1 - 1 / 50) ** 50
    assert drawn.n_redrawn / (drawn.n_redrawn + 2000) == pytest.approx(missed, abs=0.03)


def test_hopeless_redraws_become_stratified_and_say_so() -> None:
    scores, labels, patients = sample([1] * 25)
    interval = patient_bootstrap(scores, labels, patients, n=100)
    assert interval.conditioning == "stratified"
    assert interval.n_redrawn <= 2 * MAX_DRAWS_PER_RESAMPLE * 500
    assert interval.low <= interval.value <= interval.high
    drawn = resample_patients(labels, patients, 100, 0)
    assert ((drawn.counts_RK[:, drawn.patient_N] @ labels) > 0).all()
    assert interval == patient_bootstrap(scores, labels, patients, n=100)


def test_strata_keep_the_size_of_scarce_groups() -> None:
    _, labels, _ = sample([1] * 25 + [SCARCE_PATIENTS])
    drawn = resample_patients(labels, np.arange(len(labels)), 100, 0)
    assert drawn.conditioning == "stratified"
    assert (drawn.counts_RK.sum(axis=1) == len(labels)).all()
    alone = (labels[:, :25].sum(axis=1) == 1) & (labels[:, 25] == 0)
    for c in range(25):
        members = (labels[:, c] == 1) & alone
        if members.sum() == 1:
            assert (drawn.counts_RK[:, members] == 1).all()


def test_impossible_conditioning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # The third class has both its patients in the strata of the first two, so a quarter of the draws miss it.
    labels = np.zeros((20, 3), np.int8)
    labels[[0, 1], 0], labels[[2, 3], 1], labels[[0, 2], 2] = 1, 1, 1
    assert resample_patients(labels, np.arange(20), 500, 0).conditioning == "redraw"
    monkeypatch.setattr("models.metrics.bootstrap.MAX_DRAWS_PER_RESAMPLE", 1)
    with pytest.raises(MetricError, match="judge fewer classes or more patients"):
        resample_patients(labels, np.arange(20), 500, 0)


def test_undefined_classes_are_left_out_and_counted() -> None:
    scores, labels, patients = sample([30, 50, 20])
    labels[:, 1] = 0
    interval = patient_bootstrap(scores, labels, patients, n=50)
    assert (interval.n_classes, interval.n_undefined) == (2, 1)
    assert interval == replace(patient_bootstrap(scores[:, [0, 2]], labels[:, [0, 2]], patients, n=50), n_undefined=1)
    assert interval.value == macro_auroc(scores, labels, undefined="skip").value
    nothing = patient_bootstrap(scores, np.zeros_like(labels), patients, n=50)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    assert (nothing.n_classes, nothing.n_undefined) == (0, 3)


def test_paired_difference() -> None:
    scores, labels, patients = sample([30, 50])
    worse = scores + np.random.default_rng(5).normal(size=scores.shape)
    gain = paired_bootstrap(scores, worse, labels, patients, n=300)
    assert gain.value == pytest.approx(macro_auroc(scores, labels).value - macro_auroc(worse, labels).value)
    loss = paired_bootstrap(worse, scores, labels, patients, n=300)
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low))
    nothing = paired_bootstrap(scores, np.exp(scores), labels, patients, n=50)
    assert nothing.value == nothing.low == nothing.high == 0.0


def test_pairing_is_tighter_than_two_separate_intervals() -> None:
    scores, labels, patients = sample([30, 50])
    close = scores + 0.1 * np.random.default_rng(5).normal(size=scores.shape)
    paired = paired_bootstrap(scores, close, labels, patients, n=300)
    single = patient_bootstrap(scores, labels, patients, n=300)
    assert paired.high - paired.low < 0.5 * (single.high - single.low)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.925436, 0.918523, 0.931485), "0.925(06)"),
        ((0.9254, 0.9244, 0.9363), "0.925(10)"),
        ((0.5, 0.3, 0.6), "0.500(200)"),
        ((float("nan"), 0.1, 0.2), "undefined"),
    ],
)
def test_printed_form_truncates(values: tuple[float, float, float], text: str) -> None:
    assert printed_form(*values) == text


def test_unfit_input_is_refused() -> None:
    scores, labels, patients = sample([30, 50])
    with pytest.raises(MetricError, match="119 patient ids for 120 records"):
        patient_bootstrap(scores, labels, patients[:-1])
    with pytest.raises(MetricError, match="ask for at least one"):
        patient_bootstrap(scores, labels, patients, n=0)
    with pytest.raises(MetricError, match="must be finite"):
        paired_bootstrap(scores, np.full_like(scores, np.nan), labels, patients)
