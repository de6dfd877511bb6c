"""The check of an evaluation finds every fault in tables of reconstructed leads and in their metrics, and passes clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.outputs import Built, Key, Output
from assets.reconstruction_scoring import score_reconstructions
from models.predictions import Origin
from models.reconstruction import IDENTITIES, Errors
from models.reconstruction_tables import ARMS, Distance, Reconstructions, write_reconstructions
from models.types import LEADS

MISSING = tuple(lead for lead in LEADS if lead not in ("II", "V1", "V5"))
Change = Callable[[Reconstructions], Reconstructions | None]


def lead_table(arm: str) -> Reconstructions:
    """The records of the folds 9 and 10."""
    mae_NM = np.random.default_rng(len(arm)).random((8, 9)) + 0.1
    pearson_NM = np.full_like(mae_NM, np.nan) if arm == "zero" else 0.5 - mae_NM / 2
    errors = Errors(2 * mae_NM**2, mae_NM, pearson_NM, mae_NM[:, :4])
    ids, patients = [f"r{i}" for i in range(32, 40)], [f"p{i // 2:02d}" for i in range(32, 40)]
    origin = Origin("tiny", "leads", "merl", "tiny", "reconstruction", arm, 0, "0" * 64)
    distance = Distance(1.0, 4, 16, "Net1D", "f" * 64, "prepared")
    return Reconstructions(origin, MISSING, tuple(name for name, _ in IDENTITIES), ids, patients, np.repeat([9, 10], 4), errors, distance)


def evaluate(world: Any, change: Change = lambda t: t, metrics: Callable[[pd.DataFrame], pd.DataFrame] = lambda m: m) -> Output:
    """An evaluation of reconstructions alone; `change` is of the encoder's table after its metrics were taken, `metrics` of the numbers."""

    def build(folder: Path) -> Built:
        tables = [lead_table(arm) for arm in ARMS]
        for table in tables:
            changed = change(table) if table.origin.arm == "pretrained" else table
            if changed is not None:
                write_reconstructions(folder / "reconstructions" / f"{table.origin.slug}.parquet", changed)
        metrics(pd.DataFrame(score_reconstructions(tables, (10,), n_resamples=30))).to_parquet(folder / "metrics.parquet", index=False)
        return Built(1, {"tables": 4, "reports": 0, "questions": 0})

    world.raw()
    output: Output = world.publish(Key(("evaluation", "merl"), "tiny"), build)
    return output


def column(name: str, row: int, value: Any) -> Change:
    """A change of one cell of a column of the table."""

    def apply(table: Reconstructions) -> Reconstructions:
        held = getattr(table, name).copy()
        held[row] = value
        return replace(table, **{name: held})

    return apply


def error(name: str, value: float) -> Change:
    """A change of one error of a test record."""

    def apply(table: Reconstructions) -> Reconstructions:
        held = getattr(table.errors, name).copy()
        held[5, 2] = value
        return replace(table, errors=replace(table.errors, **{name: held}))

    return apply


def raised(metric: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda m: m.assign(value=m["value"] + 1e-5 * (m["metric"] == metric))


def test_clean_reconstructions_pass(world: Any) -> None:
    verdict = world.judge(evaluate(world), "metrics")
    assert verdict.passed, verdict.message
    assert "of 4 tables" in verdict.message


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"change": column("record_id", 0, "nobody")}, "unknown records: nobody"),
        ({"change": column("patient_id", 0, "p01")}, "records in another fold, or of another patient, than their own: r32"),
        ({"change": column("fold_N", 0, 10)}, "records in another fold, or of another patient, than their own: r32"),
        ({"change": column("record_id", 0, "r33")}, "a record appears twice: r33"),
        ({"change": error("mse_NM", -1.0)}, "errors that cannot be: r37"),
        ({"change": error("mse_NM", float("nan"))}, "errors that cannot be: r37"),
        ({"change": error("mae_NM", 50.0)}, "errors that cannot be: r37"),
        ({"change": error("pearson_NM", 1.5)}, "errors that cannot be: r37"),
        ({"change": error("mse_NM", 9.0)}, "the stored one"),
        ({"change": lambda t: None}, "arms linear_regression, random_init, zero instead of"),
        ({"change": lambda t: t.folds([10])}, "not about the same records and leads"),
        ({"change": lambda t: replace(t, origin=replace(t.origin, method="other"))}, "of method 'other'"),
        ({"change": lambda t: replace(t, distance=replace(t.distance, sha256=""))}, "lacks a value, or the embedding"),
        ({"metrics": raised("mse")}, "reconstruction pretrained mse"),
        ({"metrics": raised("pearson:V3")}, "pearson:V3"),
        ({"metrics": raised("fid")}, "fid"),
        ({"metrics": raised("mse_gain_over_random_init")}, "mse_gain_over_random_init"),
        ({"metrics": raised("mae_gain_over_linear_regression")}, "mae_gain_over_linear_regression"),
        ({"metrics": lambda m: m[m["metric"] != "mae:V6"]}, "lacks mae:V6"),
    ],
)
def test_faults_are_named(world: Any, faults: dict[str, Any], said: str) -> None:
    verdict = world.judge(evaluate(world, **faults), "metrics")
    assert not verdict.passed and said in verdict.message, verdict.message
