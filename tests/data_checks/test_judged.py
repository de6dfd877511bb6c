"""The check of an evaluation finds every fault in rank tables, generated reports and explanations, and passes clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.outputs import Built, Key, Output
from assets.rank_scoring import compare_rank_arms, score_ranks
from assets.report_scoring import score_reports
from models.predictions import Origin
from models.rank_tables import RankRow, Ranks, write_ranks
from models.report_tables import Generated, write_generated

SENTENCES = ["sinus rhythm normal ecg", "atrial fibrillation", "left bundle branch block now", "sinus bradycardia in this ecg"]


def origin(arm: str, task: str, protocol: str) -> Origin:
    return Origin("tiny", task, "merl", "tiny", protocol, arm, 0, "0" * 64)


def rank_table(arm: str) -> Ranks:
    """Four queries of each of the folds 9 and 10, by both pools."""
    rng = np.random.default_rng(len(arm))
    rows = [
        RankRow("ecg->image", pool, f"r{i}", f"p{i // 2}", 9 + (i >= 36), float(rng.integers(1, 4)), 4, 1, "r36")
        for pool in ("split", "candidates")
        for i in range(32, 40)
    ]
    return Ranks(origin(arm, "retrieval", "retrieval"), rows)


def report_table(arm: str) -> Generated:
    ids = [f"r{i}" for i in range(36, 40)]
    written = SENTENCES if arm == "pretrained" else SENTENCES[::-1]
    return Generated(
        origin(arm, "reports", "generation"), ids, [f"p{int(i[1:]) // 2}" for i in ids], SENTENCES, [w + " again" for w in written]
    )


def evaluate(
    world: Any,
    ranks: Callable[[Ranks], Ranks | None] = lambda t: t,
    reports: Callable[[Generated], Generated | None] = lambda t: t,
    metrics: Callable[[pd.DataFrame], pd.DataFrame] = lambda m: m,
    spoil: Callable[[Path], Any] = lambda f: None,
) -> Output:
    """An evaluation without heads; `ranks` and `reports` change tables after their metrics were taken, `metrics` the numbers."""

    def build(folder: Path) -> Built:
        tables, texts = ([make(arm) for arm in ("pretrained", "random_init")] for make in (rank_table, report_table))
        rows = [row for t in tables for row in score_ranks(t, (10,), n_resamples=30)]
        rows += compare_rank_arms(tables, (10,), n_resamples=30) + score_reports(texts, n_resamples=30)
        for table in tables:
            if (changed := ranks(table)) is not None:
                write_ranks(folder / "ranks" / f"{table.origin.slug}.parquet", changed)
        for text in texts:
            if (other := reports(text)) is not None:
                write_generated(folder / "generated" / f"{text.origin.slug}.parquet", other)
        about = {"sample_id": ["r36"], "image_map": ["0-image_map.npy"], "ecg_map": ["0-ecg_map.npy"]}
        pd.DataFrame(about).to_parquet(folder / "explanations.parquet")
        (folder / "explanations").mkdir()
        np.save(folder / "explanations" / "0-image_map.npy", np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4))
        np.save(folder / "explanations" / "0-ecg_map.npy", np.linspace(0, 1, 9, dtype=np.float32))
        metrics(pd.DataFrame(rows)).to_parquet(folder / "metrics.parquet", index=False)
        spoil(folder)
        return Built(len(rows), {"tables": 4, "reports": 2})

    world.raw()
    output: Output = world.publish(Key(("evaluation", "merl"), "tiny"), build)
    return output


def change_row(number: int, **values: Any) -> Callable[[Ranks], Ranks]:
    """A change of one row of the pretrained table."""

    def apply(table: Ranks) -> Ranks:
        if table.origin.arm != "pretrained":
            return table
        rows = list(table.rows)
        rows[number] = replace(rows[number], **values)
        return replace(table, rows=rows)

    return apply


def change_report(**columns: Any) -> Callable[[Generated], Generated]:
    return lambda table: replace(table, **columns) if table.origin.arm == "pretrained" else table


def test_clean_tables_pass(world: Any) -> None:
    verdict = world.judge(evaluate(world), "metrics")
    assert verdict.passed, verdict.message
    assert "of 4 tables" in verdict.message


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"ranks": change_row(0, rank=5.0)}, "ranks that are not between 1 and the number of candidates: ecg->image split r32"),
        ({"ranks": change_row(0, rank=0.5)}, "ranks that are not between 1"),
        ({"ranks": change_row(0, n_true=9)}, "a number of true items that cannot be"),
        ({"ranks": change_row(4, fold=1)}, "neither validation nor test"),
        ({"ranks": change_row(4, patient_id="p1")}, "patients whom the dataset does not have, or in another fold"),
        ({"ranks": change_row(1, query_id="r32")}, "a query has two rows"),
        ({"ranks": change_row(1, best_id="")}, "without a best item"),
        ({"ranks": change_row(1, pool="all")}, "pools other than"),
        ({"ranks": change_row(5, n_candidates=3)}, "the encoder and its random twin were not asked the same"),
        ({"ranks": change_row(5, rank=4.0)}, 'the stored one": retrieval retrieval pretrained ecg->image'),
        ({"ranks": lambda t: None if t.origin.arm == "random_init" else t}, "retrieval: arms pretrained instead of"),
        ({"ranks": lambda t: replace(t, origin=replace(t.origin, method="other"))}, "of method 'other'"),
        ({"spoil": lambda f: (f / "ranks" / "retrieval-retrieval-pretrained.parquet").write_bytes(b"PAR1torn")}, "is not a rank table"),
        ({"reports": change_report(generated=["sinus rhythm"] * 4)}, 'the stored one": reports generation pretrained'),
        ({"reports": change_report(record_id=["r36", "r36", "r38", "r39"])}, "a record appears twice: r36"),
        ({"reports": change_report(record_id=["r36", "r37", "r38", "nobody"])}, "unknown records: nobody"),
        ({"reports": change_report(record_id=["r00", "r37", "r38", "r39"])}, "records outside the test folds: r00"),
        ({"reports": change_report(reference=[*SENTENCES[:3], " "])}, "without a report to compare with: r39"),
        ({"reports": lambda t: None if t.origin.arm == "random_init" else t}, "reports: arms pretrained instead of"),
        ({"metrics": lambda m: m[m["metric"] != "recall@5"]}, "retrieval retrieval pretrained lacks ecg->image recall@5"),
        ({"metrics": lambda m: m.assign(value=m["value"].where(m["metric"] != "median_rank", 0.5))}, "a rank from 1 on"),
        ({"metrics": lambda m: m.assign(value=m["value"] + 1e-5 * (m["metric"] == "accuracy"))}, "ecg->image accuracy"),
        ({"metrics": lambda m: m.assign(value=m["value"] + 1e-5 * (m["metric"] == "recall@1_gain_over_random_init"))}, "recall@1_gain"),
        ({"metrics": lambda m: m.assign(value=m["value"] + 1e-5 * (m["metric"] == "bleu_4"))}, "bleu_4"),
        ({"metrics": lambda m: m.assign(direction=m["direction"].replace("ecg->image", "image->ecg"))}, "recall@1"),
        ({"metrics": lambda m: m.drop(columns="chance")}, "chance (declared number, found absent)"),
        ({"spoil": lambda f: (f / "explanations" / "0-ecg_map.npy").unlink()}, "0-ecg_map.npy cannot be read"),
        ({"spoil": lambda f: np.save(f / "explanations" / "0-image_map.npy", np.full((2, 2), 2.0))}, "no map of values between 0 and 1"),
    ],
)
def test_faults_are_named(world: Any, faults: dict[str, Any], said: str) -> None:
    verdict = world.judge(evaluate(world, **faults), "metrics")
    assert not verdict.passed and said in verdict.message, verdict.message
