"""Cross-validation: every record judged once by a network that never saw its patient, resumed by folds, summed up over folds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

import models.cross_validation_job
import models.methods.supervised.spec
from assets.cross_validation import TEST, VALIDATION, over_folds, summarise
from models.checkpoint import Provenance, write_bundle
from models.errors import ConfigurationError
from models.head_recipes import FINETUNE, HeadRecipe
from models.jobs import read_job
from models.predictions import read_predictions
from models.progress import Progress
from models.registry import create_method, get_spec
from models.train import run

if TYPE_CHECKING:
    from conftest import Study


@pytest.fixture
def quick(study: Study, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """The supervised baseline with a recipe of two steps."""
    recipe = HeadRecipe(steps=2, batch_size=16, look_every=1)
    spec = dataclasses.replace(get_spec("supervised"), heads=lambda config: {FINETUNE: recipe})
    monkeypatch.setattr(models.methods.supervised.spec, "SPEC", spec)
    get_spec.cache_clear()
    torch.manual_seed(0)
    config = dataclasses.replace(get_spec("supervised").configure("tiny"), n_samples=study.n_samples)
    write_bundle(
        study.folder / "untrained", create_method("supervised", config), Provenance("supervised", "tiny", 0, "bundle", 0, 96, 100.0)
    )
    yield study
    monkeypatch.undo()
    get_spec.cache_clear()


def asked_for(study: Study, **changes: Any) -> Any:
    entries = {
        "method": "supervised",
        "bundle": str(study.folder / "untrained"),
        "splits": ["patients5"],
        "task": "super",
        "labels": str(study.folder / "labels.parquet"),
        **changes,
    }
    return read_job(study.job("cross_validation", "folds", **entries))


def test_every_record_is_judged_once_and_by_a_network_that_did_not_see_its_patient(quick: Study) -> None:
    job = asked_for(quick)
    done = run(job, Progress(0))
    assert done is not None and len(done["tables"]) == 5 and done["shared_patients"] == {"patients5": 0}
    tables = [read_predictions(p) for p in sorted((job.output / "predictions").glob("*.parquet"))]
    judged = np.concatenate([t.folds(TEST).record_id for t in tables])
    assert len(judged) == len(set(judged.tolist())) == done["records"]
    for number, table in enumerate(tables, 1):
        assert table.origin.split == f"patients5/{number}" and "fold" in table.origin.selection
        assert not set(table.folds(VALIDATION).patient_id.tolist()) & set(table.folds(TEST).patient_id.tolist())


def test_a_fold_that_is_finished_is_not_trained_again(quick: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    job, trained, real = asked_for(quick), [], models.cross_validation_job.train_head

    def counting(*arguments: Any) -> Any:
        trained.append(len(trained))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(models.cross_validation_job, "train_head", counting)
    with pytest.raises(KeyboardInterrupt):
        run(job, Progress(0))
    first = {p.name: p.read_bytes() for p in (job.output / "predictions").glob("*.parquet")}
    assert len(first) == 2
    assert run(job, Progress(0)) is not None
    assert len(trained) == 3 + 3
    assert first.items() <= {p.name: p.read_bytes() for p in (job.output / "predictions").glob("*.parquet")}.items()


def test_an_unknown_split_is_named(quick: Study) -> None:
    with pytest.raises(ConfigurationError, match="no split 'sixfold'; choose one of"):
        run(asked_for(quick, splits=["sixfold"]), Progress(0))


def test_metrics_of_splits_are_mean_and_deviation_over_folds(quick: Study, tmp_path: Path) -> None:
    job = asked_for(quick)
    run(job, Progress(0))
    built = summarise(job.output, {})
    folds, metrics = pd.read_parquet(job.output / "folds.parquet"), pd.read_parquet(job.output / "metrics.parquet")
    values = folds[folds["metric"] == "macro_auroc"]["value"].to_numpy()
    row = metrics[metrics["metric"] == "macro_auroc"].iloc[0]
    assert len(values) == row["n_folds"] == len(built.facts["tables"]) == 5
    assert row["value"] == pytest.approx(sum(values) / 5)
    assert row["deviation"] == pytest.approx(math.sqrt(sum((v - sum(values) / 5) ** 2 for v in values) / 4))
    assert "| super | patients5 | macro_auroc |" in (job.output / "cross_validation.md").read_text()


def test_folds_where_a_metric_is_not_defined_are_left_out_and_counted() -> None:
    common = {"dataset": "d", "task": "t", "method": "m", "preset": "p", "protocol": "finetune", "arm": "pretrained", "fraction": math.nan, "seed": 0, "unit": "", "n_records": 4}  # fmt: skip
    rows = [common | {"metric": "macro_auroc", "split": f"loso/{i}", "value": v} for i, v in enumerate((0.5, math.nan, 0.7), 1)]
    row = over_folds(pd.DataFrame(rows)).iloc[0]
    assert (row["n_folds"], row["n_records"]) == (2, 12) and row["value"] == pytest.approx(0.6) and math.isnan(row["fraction"])
