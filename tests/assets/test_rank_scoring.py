"""Metrics of rank tables and of generated reports against loops and against the packages they come from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assets.rank_scoring import RESAMPLED, compare_rank_arms, score_ranks
from assets.report_scoring import REPORT_METRICS, count_reports, others, score_reports
from assets.scoring import ScoringError, score_table, single_labels
from models.predictions import Origin, Predictions
from models.rank_tables import RankRow, Ranks
from models.report_tables import Generated

WORDS = ["sinus", "rhythm", "normal", "ecg", "left", "axis", "deviation", "st", "depression", "in", "v4", "v5", "t", "wave", "inverted"]


def origin(arm: str = "pretrained", protocol: str = "retrieval", task: str = "retrieval") -> Origin:
    return Origin("small", task, "echo", "tiny", protocol, arm, 0, "0" * 64)


def rank_table(arm: str = "pretrained", seed: int = 0) -> Ranks:
    """30 test and 4 validation queries of 17 patients, by the whole part and by lists of 10."""
    rng = np.random.default_rng(seed)
    rows = []
    for pool, size in (("split", 30), ("candidates", 10)):
        for i in range(34):
            rank = float(rng.integers(1, size + 1)) + (0.5 if pool == "split" and i % 5 == 0 and i else 0.0)
            fold = 10 if i < 30 else 9
            rows.append(RankRow("ecg->image", pool, f"q{i}", f"p{i // 2}", fold, min(rank, size), size, 1 + i % 2 * (pool == "split"), "x"))
    return Ranks(origin(arm), rows, {"ecg->image": 3})


def by_metric(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in rows}


def test_recalls_and_ranks_are_those_of_the_test_queries() -> None:
    table = rank_table()
    found = by_metric(score_ranks(table, (10,), n_resamples=50))
    ranks = [r.rank for r in table.rows if r.fold == 10 and r.pool == "split"]
    for k in (1, 5, 10):
        row = found[f"recall@{k}"]
        assert row["value"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
        assert row["low"] <= row["value"] <= row["high"]
        assert (row["n_records"], row["n_patients"], row["direction"], row["dataset"]) == (30, 15, "ecg->image", "small")
    # with two true items among 30, half of the queries find one in the first k more easily
    one = [1 / 30 if i % 2 == 0 else 2 / 30 for i in range(30)]
    assert found["recall@1"]["chance"] == pytest.approx(np.mean(one))
    assert found["median_rank"]["value"] == np.median(ranks)
    assert found["mean_rank"]["value"] == pytest.approx(np.mean(ranks))
    assert "3 records lack a part" in found["recall@1"]["note"]


def test_accuracy_among_lists_comes_with_resamples_of_the_queries() -> None:
    table = rank_table()
    found = by_metric(score_ranks(table, (10,), n_resamples=50))
    hits = [r.rank == 1 for r in table.rows if r.fold == 10 and r.pool == "candidates"]
    assert found["accuracy"]["value"] == pytest.approx(np.mean(hits))
    assert found["accuracy"]["chance"] == pytest.approx(0.1)
    assert found[RESAMPLED[0]]["value"] == pytest.approx(np.mean(hits), abs=0.15)
    assert 0 < found[RESAMPLED[1]]["value"] < 0.2
    assert found[RESAMPLED[0]]["chance"] == pytest.approx(0.1)


def test_gain_is_paired_and_of_the_same_queries() -> None:
    ours, twin = rank_table(), rank_table("random_init", seed=1)
    gains = by_metric(compare_rank_arms([ours, twin], (10,), n_resamples=50))
    for name, pool, k in (("recall@5", "split", 5), ("accuracy", "candidates", 1)):
        a, b = ([r.rank <= k for r in t.rows if r.fold == 10 and r.pool == pool] for t in (ours, twin))
        row = gains[f"{name}_gain_over_random_init"]
        assert row["value"] == pytest.approx(np.mean(a) - np.mean(b))
        assert row["low"] <= row["value"] <= row["high"]
    with pytest.raises(ScoringError, match="not asked the same"):
        compare_rank_arms([ours, replace(twin, rows=twin.rows[1:])], (10,), n_resamples=50)
    with pytest.raises(ScoringError, match="no query in the test folds 3"):
        score_ranks(ours, (3,))


def reports(arm: str = "pretrained", seed: int = 0, n: int = 12) -> Generated:
    rng = np.random.default_rng(seed)
    references = [" ".join(np.random.default_rng([7, i]).choice(WORDS, 9)) for i in range(n)]
    written = [
        " ".join(w if rng.random() < 0.8 else str(rng.choice(WORDS)) for w in text.split()[: rng.integers(6, 10)]) for text in references
    ]
    return Generated(
        origin(arm, "generation", "reports"), [f"r{i}" for i in range(n)], [f"p{i // 2}" for i in range(n)], references, written
    )


def test_metrics_of_reports_are_those_of_the_packages() -> None:
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

    table = reports()
    found = by_metric(score_reports([table], n_resamples=30))
    for name, order in (("bleu_1", 1), ("bleu_4", 4)):
        whole = BLEU(lowercase=True, smooth_method="none", max_ngram_order=order).corpus_score(table.generated, [table.reference])
        assert found[name]["value"] == pytest.approx(whole.score / 100)
    pairs = list(zip(table.reference, table.generated, strict=True))
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    assert found["rouge_l"]["value"] == pytest.approx(np.mean([rouge.score(a, b)["rougeL"].fmeasure for a, b in pairs]))

    class Nothing:
        def synsets(self, word: str) -> list[str]:
            return []

    meteor = [single_meteor_score(a.split(), b.split(), stemmer=PorterStemmer(), wordnet=Nothing()) for a, b in pairs]
    assert found["meteor"]["value"] == pytest.approx(np.mean(meteor))
    for name in REPORT_METRICS:
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
        assert found[name]["chance"] < found[name]["value"]
    assert found["distinct_reports"]["value"] == 1.0


def test_resamples_weigh_records_as_often_as_they_are_drawn() -> None:
    table = reports()
    counts = count_reports(table.generated, table.reference)
    weights_N = np.random.default_rng(0).integers(0, 3, len(table.record_id))
    repeated = np.repeat(np.arange(len(weights_N)), weights_N)
    again = count_reports([table.generated[i] for i in repeated], [table.reference[i] for i in repeated])
    ones = np.ones((1, len(repeated)))
    for name, value_R in counts.metrics(weights_N[None]).items():
        assert value_R[0] == pytest.approx(again.metrics(ones)[name][0]), name


def test_empty_and_hopeless_reports_score_nothing_but_are_counted() -> None:
    table = replace(reports(), generated=[""] * 12)
    found = by_metric(score_reports([table], n_resamples=10))
    assert [found[name]["value"] for name in REPORT_METRICS] == [0, 0, 0, 0]
    assert found["distinct_reports"]["value"] == pytest.approx(1 / 12)
    assert not any(math.isnan(found[name][c]) for name in REPORT_METRICS for c in ("value", "low", "high", "chance"))


def test_gain_of_reports_is_the_difference_to_the_twin() -> None:
    ours, twin = reports(), reports("random_init", seed=3)
    rows = score_reports([ours, twin], n_resamples=30)
    value = {(row["arm"], row["metric"]): row["value"] for row in rows}
    for name in REPORT_METRICS:
        gain = value["pretrained", f"{name}_gain_over_random_init"]
        assert gain == pytest.approx(value["pretrained", name] - value["random_init", name])
    with pytest.raises(ScoringError, match="not about the same records"):
        score_reports([ours, replace(twin, record_id=twin.record_id[::-1])], n_resamples=5)


def test_chance_takes_references_of_other_patients() -> None:
    table = reports()
    for i, reference in enumerate(others(table)):
        assert reference != table.reference[i]
        assert table.patient_id[table.reference.index(reference)] != table.patient_id[i]
    alone = replace(table, patient_id=["p"] * 12)
    assert math.isnan(by_metric(score_reports([alone], n_resamples=5))["bleu_1"]["chance"])


def test_the_single_label_of_a_record_is_the_first_in_mores_order() -> None:
    classes = ("CD", "HYP", "MI", "NORM", "STTC")
    labels_NC = np.array([[1, 0, 0, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 1]] * 4, np.int8)
    rng = np.random.default_rng(0)
    ids = np.array([f"r{i}" for i in range(20)])
    about = Origin("ptb_xl", "super", "more", "tiny", "zero_shot", "pretrained", 0, "0" * 64, prompts="plain")
    table = Predictions(about, classes, ids, ids, np.array([9, 10] * 10), rng.random((20, 5)).astype(np.float32), labels_NC)
    single = single_labels(table)
    first = [single.classes[int(row.argmax())] for row in single.labels_NC]
    assert first == ["NORM", "MI", "CD", "STTC"] * 4
    assert (single.labels_NC.sum(axis=1) == 1).all() and "r2" not in single.record_id
    metrics = [row["metric"] for row in score_table(table, (9,), (10,), n_resamples=10)]
    assert "single_label_macro_auroc" in metrics
    trained = replace(table, origin=replace(about, protocol="linear_probe", prompts=None, fraction=1.0))
    assert "single_label_macro_auroc" not in [row["metric"] for row in score_table(trained, (9,), (10,), n_resamples=10)]
