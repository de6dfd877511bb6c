"""Labels and predictions that are numbers, about windows: clean ones pass, planted faults are found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.dataset import get_dataset
from assets.labels import make_labels
from assets.outputs import Built, Key, Output, Workspace
from assets.raw import make_raw
from assets.scoring import compare_arms, score_table
from data_checks.checks import run_check, run_checks
from models.predictions import Origin, Predictions, write_predictions

TASK = "heart_rate"


class Bedside:
    """Raw data and labels of imitated BIDMC, and heads and evaluations about them, whole or with a planted fault."""

    def __init__(self, folder: Path) -> None:
        self.workspace, self.dataset, self.published = Workspace(folder / "home"), get_dataset("bidmc"), 0
        self.dataset.make_fixture(folder / "bidmc")
        self.raw = make_raw(self.workspace, self.dataset(folder / "bidmc"), print)
        run_checks(self.workspace, self.raw)
        self.true = make_labels(self.workspace, self.dataset(folder / "bidmc"), TASK)

    def publish(self, key: Key, build: Callable[[Path], Built], *upstream: Output) -> Output:
        self.published += 1
        return self.workspace.publish(
            key, build, code_version=str(self.published), access=self.dataset.access,
            upstream={str(o.key): o.data_version for o in upstream},
        )  # fmt: skip

    def labels(self, edit: Callable[[pd.DataFrame], pd.DataFrame], **facts: Any) -> Output:
        def build(folder: Path) -> Built:
            frame = edit(pd.read_parquet(self.true.path("labels.parquet")))
            frame.to_parquet(folder / "labels.parquet", index=False)
            return Built(len(frame), self.true.facts | facts)

        return self.publish(self.true.key, build, self.raw)

    def table(self, arm: str = "pretrained", **changes: Any) -> Predictions:
        labels = pd.read_parquet(self.true.path("labels.parquet"))
        records = pd.read_parquet(self.raw.path("records.parquet")).set_index("record_id").loc[labels["record_id"]]
        judged = (records["fold"] >= 9).to_numpy()
        names = [f"{r}@{s:g}" for r, s in zip(labels["record_id"], labels["start"], strict=True)]
        true_N1 = labels[[TASK]].to_numpy("float32")[judged]
        scores_N1 = true_N1 + np.random.default_rng(arm == "pretrained").normal(0, 3, true_N1.shape).astype(np.float32)
        origin = Origin(
            "bidmc", TASK, "symile", "tiny_ppg", "linear_probe", arm, 0, "0" * 64, 1.0, kind="regression", unit="beats/min", reference=80.0
        )
        people, folds = records["patient_id"].to_numpy(np.str_)[judged], records["fold"].to_numpy(np.int64)[judged]
        table = Predictions(origin, (TASK,), np.array(names)[judged], people, folds, scores_N1, true_N1)
        return replace(table, **changes)

    def head(self, *tables: Predictions) -> Output:
        def build(folder: Path) -> Built:
            for t in tables:
                write_predictions(folder / "predictions" / f"{t.origin.slug}.parquet", t)
            return Built(len(tables), {"task": TASK, "tables": [f"{t.origin.slug}.parquet" for t in tables]})

        return self.publish(Key(("head", "symile", TASK), "bidmc"), build, self.true)

    def evaluation(self, edit: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame) -> Output:
        def build(folder: Path) -> Built:
            tables = [self.table(), self.table("random_init")]
            split = self.dataset.split
            rows = [r for t in tables for r in score_table(t, split.validation, split.test, n_resamples=20)]
            rows += compare_arms(tables, split.test, n_resamples=20)
            for t in tables:
                write_predictions(folder / "predictions" / f"{t.origin.slug}.parquet", t)
            edit(pd.DataFrame(rows)).to_parquet(folder / "metrics.parquet", index=False)
            return Built(len(rows), {"tables": len(tables)})

        return self.publish(Key(("evaluation", "symile"), "bidmc"), build, self.true)

    def said(self, output: Output, check: str) -> tuple[bool, str]:
        verdict = run_check(self.workspace, output, check)
        return verdict.passed, verdict.message


@pytest.fixture(scope="module")
def bedside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bedside]:
    folder = tmp_path_factory.mktemp("bedside")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EINTHOVEN_HOME", str(folder / "home"))
        patch.setenv("EINTHOVEN_DATASET_BIDMC", str(folder / "bidmc"))
        yield Bedside(folder)


def put(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A table whose third row has another value in a column, or all rows where it is a function."""
    return lambda f: f.assign(**{column: value(f[column]) if callable(value) else f[column].where(f.index != 2, value)})


def test_clean_labels_predictions_and_metrics_pass(bedside: Bedside) -> None:
    assert bedside.said(bedside.true, "labels") == (True, "42 windows have numbers in beats/min")
    passed, message = bedside.said(bedside.head(bedside.table(), bedside.table("random_init")), "predictions")
    assert passed, message
    passed, message = bedside.said(bedside.evaluation(), "metrics")
    assert passed, message


@pytest.mark.parametrize(
    ("edit", "facts", "complaint"),
    [
        (put(TASK, float("nan")), {}, "heart_rate is a finite number"),
        (put(TASK, lambda c: c * 0 + 61), {}, "heart_rate is not the same number for all records"),
        (put("start", 3.0), {}, "windows of a recording begin multiples of 10 s after each other"),
        (put("start", lambda c: c * 0), {}, "record and start time tell windows apart"),
        (put("record_id", "bidmc_99"), {}, "the record is one of the raw stage's"),
        (lambda f: f.drop(columns="start"), {}, "every declared column is there once"),
        (lambda f: f, {"unit": "Hz"}, "the manifest says unit 'Hz'"),
    ],
)
def test_faults_of_labels_are_found(bedside: Bedside, edit: Any, facts: dict[str, Any], complaint: str) -> None:
    passed, message = bedside.said(bedside.labels(edit, **facts), "labels")
    assert not passed and complaint in message, message


def test_faults_of_predictions_are_found(bedside: Bedside) -> None:
    table, twin = bedside.table(), bedside.table("random_init")
    elsewhere = np.array(["bidmc_77@0", *table.record_id[1:]])
    for changes, complaint in (
        ({"labels_NC": table.labels_NC + np.float32(1)}, "labels that differ from the label table"),
        ({"record_id": elsewhere}, "unknown records"),
        ({"record_id": np.array([f"{table.record_id[0].split('@')[0]}@70", *table.record_id[1:]])}, "records without a label of the task"),
        ({"patient_id": np.array(["mimic3:1", *table.patient_id[1:]])}, "records with another patient than their own"),
        ({"origin": replace(table.origin, reference=None)}, "does not say what the mean of the training records is"),
    ):
        passed, message = bedside.said(bedside.head(replace(table, **changes), twin), "predictions")
        assert not passed and complaint in message, message


def test_faults_of_metrics_are_found(bedside: Bedside) -> None:
    def worse(metric: str, value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
        return lambda f: f.assign(value=f["value"].where(f["metric"] != metric, value))

    for edit, complaint in (
        (worse("mae", 0.1), "the metric recomputed from the table is the stored one"),
        (worse("mae", -1.0), "an error of numbers from 0 on"),
        (worse("r2", 1.5), "lies between 0 and 1"),
        (worse("mae_gain_over_random_init", 9.0), "the metric recomputed from the table is the stored one"),
        (lambda f: f[f["metric"] != "pearson"], "lacks pearson"),
    ):
        passed, message = bedside.said(bedside.evaluation(edit), "metrics")
        assert not passed and complaint in message, message
