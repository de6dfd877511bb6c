"""Scores of the Challenges against their worked example, a plain loop, goldens of the official scorers, and their invariants."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import ConfigurationError
from models.metrics.challenge import (
    THRESHOLDS,
    ChallengeScores,
    bounds,
    challenge_metric,
    challenge_scores,
    choose_threshold,
    earned,
    outputs_above,
    sinus_column,
)
from models.metrics.challenge_classes import challenge_classes, reward_matrix
from models.metrics.challenge_files import ChallengeFileError, read_files, score_files
from models.metrics.classification import MetricError

YEARS = (2020, 2021)
NSR, CRBBB, RBBB, AF, UNSCORED = "426783006", "713427006", "59118001", "164889003", "55827005"
MACROS = ("auroc", "auprc", "f_measure", "f_beta", "g_beta", "accuracy", "challenge_metric")

W = np.array([[1, 0.5, 0.2], [0.5, 1, 0.3], [0.2, 0.3, 1]])
Y = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
O = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0]])  # noqa: E741


def case(year: int, n: int = 200, seed: int = 0, merged: bool = True) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Labels, outputs and scores with ties; the first class never occurs, the last always, and some recordings have no label."""
    rng = np.random.default_rng(seed)
    n_classes = len(challenge_classes(year, merged))
    labels = rng.random((n, n_classes)) < 0.08
    labels[:, 0], labels[:, -1] = False, True
    labels[:5] = False
    labels[5:, -1] = True
    scores = np.round(np.clip(rng.random((n, n_classes)) * 0.7 + 0.3 * labels, 0, 1), 2)
    return labels, scores > 0.6, scores


def naive(labels: NDArray[Any], outputs: NDArray[Any], scores: NDArray[Any], rewards: NDArray[Any], sinus: int) -> dict[str, Any]:
    """All numbers by loops over recordings, classes and thresholds."""
    n, n_classes = labels.shape

    def total(answers: NDArray[Any]) -> float:
        matrix = np.zeros((n_classes, n_classes))
        for i in range(n):
            either = max(1, sum(bool(labels[i, j] or answers[i, j]) for j in range(n_classes)))
            for j in range(n_classes):
                for k in range(n_classes):
                    if labels[i, j] and answers[i, k]:
                        matrix[j, k] += 1 / either
        return float((matrix * rewards).sum())

    inactive = np.zeros_like(labels)
    inactive[:, sinus] = 1
    low, high = total(inactive), total(labels)
    found: dict[str, Any] = {"challenge_metric": 0.0 if low == high else (total(outputs) - low) / (high - low)}
    found["accuracy"] = sum(all(labels[i] == outputs[i]) for i in range(n)) / n
    for name in ("auroc_C", "auprc_C", "f_measure_C", "f_beta_C", "g_beta_C"):
        found[name] = np.full(n_classes, math.nan)
    for c in range(n_classes):
        plain, weighted = np.zeros((2, 2)), np.zeros((2, 2))
        for i in range(n):
            plain[int(labels[i, c]), int(outputs[i, c])] += 1
            weighted[int(labels[i, c]), int(outputs[i, c])] += 1 / max(1, labels[i].sum())
        if plain.sum() > plain[0, 0]:
            found["f_measure_C"][c] = 2 * plain[1, 1] / (2 * plain[1, 1] + plain[0, 1] + plain[1, 0])
            tp, fp, fn = weighted[1, 1], weighted[0, 1], weighted[1, 0]
            found["f_beta_C"][c] = 5 * tp / (5 * tp + fp + 4 * fn)
            found["g_beta_C"][c] = tp / (tp + fp + 2 * fn)
        positive, negative = scores[labels[:, c] == 1, c], scores[labels[:, c] == 0, c]
        if len(positive) and len(negative):
            found["auroc_C"][c] = np.mean([(p > q) + 0.5 * (p == q) for p in positive for q in negative])
        if len(positive):
            area, recall = 0.0, 0.0
            for threshold in sorted(set(scores[:, c].tolist()), reverse=True):
                hits = (positive >= threshold).sum()
                area += (hits / len(positive) - recall) * hits / (scores[:, c] >= threshold).sum()
                recall = hits / len(positive)
            found["auprc_C"][c] = area
    return found


def same(one: ChallengeScores, other: ChallengeScores) -> bool:
    """Whether two results hold the same numbers to rounding."""
    names = [f.name for f in fields(one) if f.name not in ("year", "classes")]
    return all(np.allclose(getattr(one, n), getattr(other, n), rtol=0, atol=1e-12, equal_nan=True) for n in [*names, *MACROS])


def confusion(labels: NDArray[Any], outputs: NDArray[Any]) -> NDArray[Any]:
    """The modified confusion matrix A, a cell at a time: what is earned where that cell alone has a reward."""
    n_classes = labels.shape[1]
    cells = np.eye(n_classes**2).reshape(-1, n_classes, n_classes)
    return np.array([earned(labels, outputs, cell).sum() for cell in cells]).reshape(n_classes, n_classes)


def test_worked_example() -> None:
    assert np.allclose(confusion(Y, O), [[0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0.5]])
    right, inactive = bounds(Y, W, 2)
    assert (earned(Y, O, W).sum(), right.sum(), inactive.sum()) == pytest.approx((1.4, 2.5, 7 / 6))
    assert challenge_metric(Y, O, W, 2) == pytest.approx(0.175)
    found = naive(Y, O, np.array([[0.9, 0.4, 0.1], [0.2, 0.6, 0.8], [0.9, 0.4, 0.3]]), W, 2)
    assert found["challenge_metric"] == pytest.approx(0.175)
    assert [found[k].tolist() for k in ("f_measure_C", "auroc_C", "auprc_C")] == [
        pytest.approx(v) for v in ([2 / 3, 0, 1], [0.75, 0.25, 1], [0.5, 1 / 3, 1])
    ]


def test_worked_example_among_the_classes_of_the_challenge() -> None:
    classes = [c.name for c in challenge_classes(2021)]
    columns = [classes.index(name) for name in ("AF", "AFL", "NSR")]
    labels, outputs, scores = (np.zeros((3, 26)) for _ in range(3))
    labels[:, columns], outputs[:, columns] = Y, O
    scores[:, columns] = [[0.9, 0.4, 0.1], [0.2, 0.6, 0.8], [0.9, 0.4, 0.3]]
    found = challenge_scores(2021, labels, outputs, scores)
    assert found.f_measure_C[columns] == pytest.approx([2 / 3, 0, 1]) and found.f_measure == pytest.approx(5 / 9)
    assert found.auroc_C[columns] == pytest.approx([0.75, 0.25, 1]) and found.auprc_C[columns] == pytest.approx([0.5, 1 / 3, 1])
    assert (found.auroc, found.accuracy, found.support_C.sum()) == (pytest.approx(2 / 3), 0, 3)
    assert np.isnan(found.f_measure_C).sum() == 23


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("merged", [True, False])
def test_all_numbers_are_those_of_a_plain_loop(year: int, merged: bool) -> None:
    labels, outputs, scores = case(year, 60, merged=merged)
    classes = challenge_classes(year, merged)
    found = challenge_scores(year, labels, outputs, scores, merge_equivalents=merged)
    expected = naive(labels, outputs, scores, reward_matrix(classes), sinus_column(classes))
    for name, value in expected.items():
        if year == 2021 and "beta" in name:
            assert np.isnan(getattr(found, name)).all()
        else:
            assert np.allclose(getattr(found, name), value, rtol=0, atol=1e-12, equal_nan=True), name
    assert math.isnan(found.auroc_C[0]) and math.isnan(found.auprc_C[0])
    assert found.auprc == pytest.approx(np.nanmean(expected["auprc_C"]))


def test_a_class_that_all_recordings_have_has_average_precision_one_and_no_auroc() -> None:
    labels, outputs, scores = case(2021)
    found = challenge_scores(2021, labels[5:], outputs[5:], scores[5:])
    assert found.auprc_C[-1] == 1 and math.isnan(found.auroc_C[-1])


@pytest.mark.parametrize("year", YEARS)
def test_what_is_right_scores_one_and_sinus_rhythm_zero(year: int) -> None:
    labels, _, scores = case(year)
    right = challenge_scores(year, labels, labels, scores)
    assert (right.challenge_metric, right.f_measure, right.accuracy) == (1, 1, 1)
    sinus = np.zeros_like(labels)
    sinus[:, sinus_column(challenge_classes(year))] = True
    assert challenge_scores(year, labels, sinus, scores).challenge_metric == 0
    assert challenge_scores(year, labels, np.zeros_like(labels), scores).challenge_metric < 0


@pytest.mark.parametrize("year", YEARS)
def test_labels_of_sinus_rhythm_alone_score_zero(year: int) -> None:
    labels, outputs, scores = case(year)
    sinus = np.zeros_like(labels)
    sinus[:, sinus_column(challenge_classes(year))] = True
    for answers in (sinus, outputs):
        assert challenge_scores(year, sinus, answers, scores).challenge_metric == 0


@pytest.mark.parametrize("year", YEARS)
def test_order_of_recordings_changes_nothing(year: int) -> None:
    arrays = case(year)
    order = np.random.default_rng(1).permutation(len(arrays[0]))
    first, second = challenge_scores(year, *arrays), challenge_scores(year, *(a[order] for a in arrays))
    assert same(first, second)


def test_order_of_classes_together_with_their_rewards_changes_nothing() -> None:
    labels, outputs, _ = case(2021)
    rewards, sinus = reward_matrix(challenge_classes(2021)), sinus_column(challenge_classes(2021))
    order = np.random.default_rng(1).permutation(26)
    moved = challenge_metric(labels[:, order], outputs[:, order], rewards[np.ix_(order, order)], int(np.argsort(order)[sinus]))
    assert moved == pytest.approx(challenge_metric(labels, outputs, rewards, sinus), abs=1e-12)


def test_a_recording_without_labels_earns_nothing_but_counts_elsewhere() -> None:
    labels, outputs, scores = case(2021)
    more = outputs.copy()
    more[:5] = True
    rewards = reward_matrix(challenge_classes(2021))
    assert (earned(labels, more, rewards)[:5] == 0).all() and (earned(labels, outputs, rewards)[:5] == 0).all()
    quiet, loud = outputs.copy(), challenge_scores(2021, labels, more, scores)
    quiet[:5] = False
    found = challenge_scores(2021, labels, quiet, scores)
    assert found.challenge_metric == pytest.approx(loud.challenge_metric, abs=1e-12)
    assert found.accuracy > loud.accuracy and found.f_measure > loud.f_measure
    scores[:5] = 1
    assert challenge_scores(2021, labels, quiet, scores).auroc < found.auroc


def test_areas_follow_the_order_of_scores_alone() -> None:
    labels, outputs, scores = case(2020)
    found = challenge_scores(2020, labels, outputs, scores)
    assert same(found, challenge_scores(2020, labels, outputs, np.exp(3 * scores) - 7))
    flat = challenge_scores(2020, labels, outputs, np.full_like(scores, 0.2)).auroc_C
    assert (flat[~np.isnan(flat)] == 0.5).all() and (~np.isnan(flat)).sum() == 23
    backwards = challenge_scores(2020, labels, outputs, -scores).auroc_C
    assert np.allclose(1 - found.auroc_C, backwards, rtol=0, atol=1e-12, equal_nan=True)


def test_cells_of_the_modified_confusion_matrix_add_up() -> None:
    labels, outputs, _ = case(2020, 40)
    either = np.maximum((labels | outputs).sum(axis=1), 1)
    expected = (labels.sum(axis=1) * outputs.sum(axis=1) / either).sum()
    assert confusion(labels, outputs).sum() == pytest.approx(expected, abs=1e-12)


def test_rewards_that_are_not_stated_earn_nothing() -> None:
    gap, zero = W.copy(), W.copy()
    gap[0, 1], zero[0, 1] = math.nan, 0
    assert challenge_metric(Y, O, gap, 2) == challenge_metric(Y, O, zero, 2) != challenge_metric(Y, O, W, 2)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32])
def test_type_of_labels_and_outputs_changes_nothing(dtype: Any) -> None:
    labels, outputs, scores = case(2020)
    assert same(
        challenge_scores(2020, labels, outputs, scores), challenge_scores(2020, labels.astype(dtype), outputs.astype(dtype), scores)
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda y, o, s: (y[:, 1:], o, s), "labels are .*26 classes"),
        (lambda y, o, s: (y, o[0], s), "binary outputs are"),
        (lambda y, o, s: (y[:0], o[:0], s[:0]), "at least one recording"),
        (lambda y, o, s: (y, o[1:], s), "199 binary outputs"),
        (lambda y, o, s: (y, o * 0.5, s), "binary outputs: recording number .* is 0.5"),
        (lambda y, o, s: (y * math.nan, o, s), "labels: recording number 0.* is nan"),
        (lambda y, o, s: (y, o, s * math.nan), "scores must be finite"),
        (lambda y, o, s: (y, o, s[:, 1:]), "scores are"),
    ],
)
def test_arrays_that_do_not_fit_are_typed_errors(change: Any, match: str) -> None:
    with pytest.raises(MetricError, match=match):
        challenge_scores(2021, *change(*case(2021)))


def test_another_year_is_a_typed_error(tmp_path: Path) -> None:
    for call in (lambda: challenge_scores(2019, *case(2021)), lambda: score_files(2019, tmp_path, tmp_path)):
        with pytest.raises(ConfigurationError, match="2019"):
            call()


@pytest.mark.parametrize("year", YEARS)
def test_the_threshold_is_the_best_of_all_fifty(year: int) -> None:
    labels, _, scores = case(year, 80)
    scores = scores.astype(np.float32)
    metrics = [challenge_scores(year, labels, outputs_above(scores, t), scores).challenge_metric for t in THRESHOLDS]
    threshold, metric = choose_threshold(year, labels, scores)
    assert (len(THRESHOLDS), THRESHOLDS[0], THRESHOLDS[-1]) == (50, 0.0, 0.98)
    assert metric == pytest.approx(max(metrics), abs=1e-12)
    assert threshold == THRESHOLDS[int(np.argmax(metrics))] and 0 < threshold < 0.98
    assert len({round(m, 6) for m in metrics}) > 20


def test_the_lowest_of_equal_thresholds_is_chosen() -> None:
    labels = case(2021, 30)[0]
    assert choose_threshold(2021, labels, np.where(labels, 0.5, 0.1)) == (0.1, 1.0)


def test_seventy_thousand_recordings_take_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((70_000, 26)) < 0.08
    scores = rng.random((70_000, 26))
    tries = []
    for _ in range(3):
        start = time.process_time()
        challenge_scores(2021, labels, scores > 0.9, scores)
        tries.append(time.process_time() - start)
    assert min(tries) < 1


# Files


def write(folder: Path, record: str, codes: list[str], columns: dict[str, tuple[str, str]] | None) -> None:
    """A header and a file of outputs: by column its yes or no and its score, as text."""
    for name in ("labels", "outputs"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "labels" / f"{record}.hea").write_text(f"{record} 12 500 5000\n#Age: 50\n#Dx: {','.join(codes)}\n#Rx: Unknown\n")
    if columns is not None:
        rows = [list(columns), *([v[i] for v in columns.values()] for i in (0, 1))]
        (folder / "outputs" / f"{record}.csv").write_text("\n".join([f"#{record}", *map(",".join, rows), ""]))


def read(folder: Path, year: int) -> tuple[dict[str, bool], dict[str, float], dict[str, bool]]:
    """Outputs, scores and labels of the first recording by class."""
    files = read_files(year, folder / "labels", folder / "outputs")
    names = [c.name for c in challenge_classes(year)]
    first = (files.binary_NC[0], files.scores_NC[0], files.labels_NC[0])
    binary, scores, labels = (dict(zip(names, values.tolist(), strict=True)) for values in first)
    return binary, scores, labels


@pytest.mark.parametrize("year", YEARS)
def test_unscored_codes_and_their_columns_change_nothing(tmp_path: Path, year: int) -> None:
    for folder, extra in ((tmp_path / "a", False), (tmp_path / "b", True)):
        folder.mkdir()
        columns = {AF: ("1", "0.8"), NSR: ("0", "0.1")}
        columns = {UNSCORED: ("1", "0.99"), **columns, "nonsense": ("1", "1")} if extra else columns
        write(folder, "r1", [AF, *([UNSCORED] if extra else [])], columns)
        write(folder, "r2", [UNSCORED] if extra else [""], columns)
    first, second = (score_files(year, tmp_path / f / "labels", tmp_path / f / "outputs") for f in "ab")
    assert same(first, second) and first.n_records == 2 and first.accuracy == 0.5


@pytest.mark.parametrize("year", YEARS)
def test_equivalent_labels_are_one_class(tmp_path: Path, year: int) -> None:
    for folder, code in ((tmp_path / "a", RBBB), (tmp_path / "b", CRBBB)):
        folder.mkdir()
        write(folder, "r1", [code, AF], {CRBBB: ("1", "0.7"), AF: ("0", "0.4")})
        write(folder, "r2", [NSR], {CRBBB: ("0", "0.2")})
    first, second = (score_files(year, tmp_path / f / "labels", tmp_path / f / "outputs") for f in "ab")
    assert same(first, second) and first.auroc_C[[c.name for c in first.classes].index("CRBBB")] == 1


@pytest.mark.parametrize("year", YEARS)
def test_equivalent_columns_are_one_with_their_mean(tmp_path: Path, year: int) -> None:
    write(tmp_path, "r1", [AF], {CRBBB: ("0", "0.2"), AF: ("1", "0.9"), RBBB: ("1", "0.6")})
    binary, scores, _ = read(tmp_path, year)
    assert binary["CRBBB"] and scores["CRBBB"] == pytest.approx(0.4) and scores["AF"] == 0.9 and scores["NSR"] == 0


@pytest.mark.parametrize(("year", "score"), [(2020, 0.8), (2021, 0.4)])
def test_the_years_differ_in_scores_that_are_not_numbers(tmp_path: Path, year: int, score: float) -> None:
    write(tmp_path, "r1", [AF], {CRBBB: ("0", "0.8"), RBBB: ("0", "NaN"), AF: ("0", "nan"), NSR: ("0", "high")})
    _, scores, _ = read(tmp_path, year)
    assert (scores["CRBBB"], scores["AF"], scores["NSR"]) == (score, 0, 0)


@pytest.mark.parametrize("year", YEARS)
def test_what_is_read_as_yes(tmp_path: Path, year: int) -> None:
    for text, yes in (
        ("1", True),
        ("True", True),
        ("t", True),
        ("T", True),
        ("true", True),
        ("1.0", year == 2021),
        ("2", False),
        ("yes", False),
    ):
        write(tmp_path, "r1", [AF], {AF: (text, "0")})
        assert read(tmp_path, year)[0]["AF"] is yes, text


def test_columns_of_several_codes_are_of_2021(tmp_path: Path) -> None:
    write(tmp_path, "r1", [AF], {f"{RBBB}|{UNSCORED}": ("1", "0.5"), CRBBB: ("0", "0.1")})
    assert read(tmp_path, 2021)[1]["CRBBB"] == pytest.approx(0.3) and read(tmp_path, 2021)[0]["CRBBB"]
    assert read(tmp_path, 2020)[1]["CRBBB"] == 0.1 and not read(tmp_path, 2020)[0]["CRBBB"]


def test_infinite_scores_of_2020_keep_their_order_and_those_of_2021_are_nothing(tmp_path: Path) -> None:
    write(tmp_path, "r1", [AF], {AF: ("0", "inf"), NSR: ("0", "-inf")})
    first, second = read(tmp_path, 2020)[1], read(tmp_path, 2021)[1]
    assert first["AF"] > 1e300 and first["NSR"] < -1e300 and (second["AF"], second["NSR"]) == (0, 0)


def test_outputs_of_2020_without_form_are_all_negative_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "r1", [AF], {AF: ("1", "0.8")})
    for text in (f"{AF}\n1\n", f"{AF},{NSR}\n1,0\n0.5\n", ""):
        (tmp_path / "outputs" / "r1.csv").write_text(text)
        with pytest.warns(UserWarning, match=r"1 of 1 .*r1\.csv"):
            found = score_files(2020, tmp_path / "labels", tmp_path / "outputs")
        assert found.accuracy == 0 and found.challenge_metric < 0
    (tmp_path / "outputs" / "r1.csv").write_text(f"# by us\n\n{AF}\n# yes?\n1\n0.8\n")
    assert read(tmp_path, 2020)[0]["AF"]


def test_outputs_of_2021_are_read_by_their_lines(tmp_path: Path) -> None:
    write(tmp_path, "r1", [AF], {AF: ("1", "0.8")})
    (tmp_path / "outputs" / "r1.csv").write_text(f"anything\n{AF}, {NSR}\n1, 0\n0.8, 0.3\nfurther\n")
    assert read(tmp_path, 2021)[1]["NSR"] == 0.3
    for text, match in ((f"#r1\n{AF}\n1\n", "lines"), (f"#r1\n{AF},{NSR}\n1\n0.8,0.3\n", "names 2 columns but has 1 outputs and 2 scores")):
        (tmp_path / "outputs" / "r1.csv").write_text(text)
        with pytest.raises(ChallengeFileError, match=match):
            read(tmp_path, 2021)


@pytest.mark.parametrize("year", YEARS)
def test_files_that_are_missing_or_say_nothing_are_refused_by_name(tmp_path: Path, year: int) -> None:
    write(tmp_path, "r1", [AF], {AF: ("1", "0.8")})
    write(tmp_path, "r2", [AF], None)
    with pytest.raises(ChallengeFileError, match=r"r2\.hea has no outputs .*r2\.csv"):
        read(tmp_path, year)
    write(tmp_path, "r2", [AF], {AF: ("1", "0.8")})
    (tmp_path / "labels" / "r2.hea").write_text("r2 12 500 5000\n#Age: 50\n")
    with pytest.raises(ChallengeFileError, match=r"r2\.hea has no line '#Dx: '"):
        read(tmp_path, year)
    with pytest.raises(ChallengeFileError, match=r"holds no \.hea"):
        read_files(year, tmp_path / "outputs", tmp_path / "outputs")
    with pytest.raises(ChallengeFileError, match="cannot be listed"):
        read_files(year, tmp_path / "nowhere", tmp_path / "outputs")


def test_diagnoses_are_read_as_every_release_writes_them(tmp_path: Path) -> None:
    write(tmp_path, "r1", [AF], {AF: ("1", "0.8")})
    for line, labelled in (("#Dx: 164889003", True), ("# Dx: 164889003, 59118001", True), ("#Dx: ", False), ("#Dx:", False)):
        (tmp_path / "labels" / "r1.hea").write_text(f"r1 12 500 5000\n{line}\n")
        assert read(tmp_path, 2021)[2]["AF"] is labelled
    with pytest.raises(ChallengeFileError, match="no line"):  # as the scorer of 2020, which stopped here
        read(tmp_path, 2020)


def test_singles_keep_the_twins_apart(tmp_path: Path) -> None:
    write(tmp_path, "r1", [RBBB], {CRBBB: ("1", "0.8")})
    write(tmp_path, "r2", [AF], {AF: ("1", "0.8")})
    folders = (tmp_path / "labels", tmp_path / "outputs")
    merged, apart = score_files(2021, *folders), score_files(2021, *folders, merge_equivalents=False)
    assert (merged.accuracy, merged.f_measure, merged.challenge_metric) == (1, 1, 1)
    # Of one recording the union has two classes, and each answer of the pair earns 1: the wrong twin earns half.
    assert (apart.accuracy, len(apart.classes)) == (0.5, 30) and 0 < apart.challenge_metric < 1 and apart.f_measure < 1


GOLDEN = {
    2020: (0.651770711164, 0.383866951879, 0.177119177119, 0.236465551898, 0.07872526401, 0.0, 0.463982168424),
    2021: (0.682866739734, 0.421192372834, 0.198584933299, math.nan, math.nan, 0.0, 0.549430349415),
}
"""Of the official scorers on `golden_files`: the macro numbers in the order of `MACROS`."""


def golden_files(folder: Path) -> None:
    """Forty recordings with partial, repeated and foreign columns and with scores that are no numbers, from simple arithmetic."""
    codes = [c for k in challenge_classes(2021, merged=False) for c in k.codes] + [UNSCORED]
    for i in range(40):
        labels = list(dict.fromkeys(codes[(i * step) % 31] for step in (1, 7, 11)[: i % 4]))
        columns = {}
        for j in range(5, 31):
            code = codes[(i * 13 + j * 3) % 31]
            score = "nan" if (i * j) % 17 == 3 else f"{((i * 37 + j * 101) % 97) / 100 + (0.4 if code in labels else 0):.2f}"
            columns[code] = (("1", "T", "1.0")[(i + j) % 3] if (i * j) % 5 == 0 or code in labels else ("0", "False", "nan")[j % 3], score)
        write(folder, f"r{i:02d}", labels or [""], columns)


@pytest.mark.parametrize("year", YEARS)
def test_numbers_of_the_official_scorers(tmp_path: Path, year: int) -> None:
    golden_files(tmp_path)
    found = score_files(year, tmp_path / "labels", tmp_path / "outputs")
    assert [getattr(found, name) for name in MACROS] == pytest.approx(GOLDEN[year], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("year", YEARS)
def test_labels_of_real_headers_score_themselves(shared_data: Path, tmp_path: Path, year: int) -> None:
    headers = sorted((shared_data / "cinc2021" / "training").rglob("*.hea"))
    (tmp_path / "labels").mkdir()
    (tmp_path / "outputs").mkdir()
    for header in headers:
        text = header.read_text()
        (tmp_path / "labels" / header.name).write_text(text)
        codes = next(line.split(": ")[1].strip() for line in text.splitlines() if line.startswith(("#Dx", "# Dx")))
        yes = ",".join("1" for _ in codes.split(","))
        (tmp_path / "outputs" / f"{header.stem}.csv").write_text(f"#{header.stem}\n{codes}\n{yes}\n{yes}\n")
    found = score_files(year, tmp_path / "labels", tmp_path / "outputs")
    assert found.n_records == len(headers) > 100 and (found.accuracy, found.f_measure, found.challenge_metric) == (1, 1, 1)
    assert found.auroc == found.auprc == 1 and np.isnan(found.auroc_C).sum() == (found.support_C == 0).sum()
