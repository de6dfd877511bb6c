"""Linear probes against torch's own layers, and the protocol around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from models.checkpoint import load_encoder
from models.embeddings import pooled_features
from models.errors import ConfigurationError, TrainingError
from models.heads import ProbeRecipe, _Layer, choose_label_ids, macro_auroc, train_probes
from models.jobs import read_job
from models.predictions import read_predictions
from models.progress import Progress
from models.store import open_store
from models.train import main, run

if TYPE_CHECKING:
    from conftest import Study


def test_a_step_equals_torch() -> None:
    """The gradient written out and Adam by hand against autograd, Adam and the milestone schedule."""
    rng = np.random.default_rng(0)
    layer = _Layer(2, 7, 3, seed=5)
    twins = [nn.Linear(7, 3) for _ in range(2)]
    for arm, twin in enumerate(twins):
        with torch.no_grad():
            twin.weight.copy_(torch.from_numpy(layer.weight_AXC[arm, :-1].T))
            twin.bias.copy_(torch.from_numpy(layer.weight_AXC[arm, -1]))
    optimizers = [torch.optim.Adam(t.parameters(), lr=1e-2, weight_decay=1e-4) for t in twins]
    schedules = [torch.optim.lr_scheduler.MultiStepLR(o, [30], 0.1) for o in optimizers]
    for step in range(60):
        x_ABF = rng.normal(size=(2, 5, 7)).astype(np.float32)
        y_BC = rng.integers(0, 2, (5, 3)).astype(np.float32)
        losses = layer.step(x_ABF, y_BC, 1e-2 * (0.1 if step >= 30 else 1), 1e-4)
        for arm, twin in enumerate(twins):
            loss = nn.functional.binary_cross_entropy_with_logits(twin(torch.from_numpy(x_ABF[arm])), torch.from_numpy(y_BC))
            assert losses[arm] == pytest.approx(loss.item(), rel=1e-4)
            optimizers[arm].zero_grad()
            loss.backward()
            optimizers[arm].step()
            schedules[arm].step()
    for arm, twin in enumerate(twins):
        np.testing.assert_allclose(layer.weight_AXC[arm, :-1].T, twin.weight.detach().numpy(), atol=2e-5)
        np.testing.assert_allclose(layer.weight_AXC[arm, -1], twin.bias.detach().numpy(), atol=2e-5)


def features(n: int = 200) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], np.ndarray[tuple[int, ...], np.dtype[np.int8]]]:
    rng = np.random.default_rng(1)
    labels_NC = rng.integers(0, 2, (n, 2)).astype(np.int8)
    told_NF = 50 + 0.01 * (labels_NC @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(n, 6)))
    return np.stack([told_NF, rng.normal(size=(n, 6))]).astype(np.float32), labels_NC


def test_probes_learn_from_features_that_tell_and_not_from_noise() -> None:
    """Features of tiny spread around a large mean: standardising is what makes this learnable."""
    features_ANF, labels_NC = features()
    trained = train_probes(features_ANF, labels_NC, np.arange(120), np.arange(120, 160), seed=0, recipe=ProbeRecipe(epochs=30, lr=1e-2))
    values = [macro_auroc(p.scores(x_NF[160:]), labels_NC[160:]) for (p, _), x_NF in zip(trained, features_ANF, strict=True)]
    assert values[0] > 0.95
    assert values[1] < 0.7


def test_the_epoch_is_the_best_on_validation_and_its_weights_are_kept() -> None:
    features_ANF, labels_NC = features()
    for arm, (probe, reports) in enumerate(
        train_probes(features_ANF, labels_NC, np.arange(120), np.arange(120, 160), 0, ProbeRecipe(epochs=12))
    ):
        best = max(r.validation for r in reports)
        assert next(r.epoch for r in reports if r.validation == best) == probe.epoch
        assert macro_auroc(probe.scores(features_ANF[arm, 120:160]), labels_NC[120:160]) == pytest.approx(best, abs=1e-3)


def test_without_a_defined_class_the_last_epoch_is_taken() -> None:
    features_ANF, labels_NC = features(40)
    labels_NC[:] = 0
    (probe, reports), _ = train_probes(features_ANF, labels_NC, np.arange(20), np.arange(20, 40), 0, ProbeRecipe(epochs=3))
    assert probe.epoch == 3 and all(np.isnan(r.validation) for r in reports)


@pytest.mark.parametrize(("n", "one_percent", "ten_percent"), [(17_084, 170, 1708), (7_197, 71, 719), (16_832, 168, 1683)])
def test_label_fractions_have_the_published_sizes(n: int, one_percent: int, ten_percent: int) -> None:
    ids = [str(i) for i in range(n)]
    assert (len(choose_label_ids(ids, 0.01)), len(choose_label_ids(ids, 0.1)), len(choose_label_ids(ids, 1.0))) == (
        one_percent,
        ten_percent,
        n,
    )
    from sklearn.model_selection import train_test_split

    assert choose_label_ids(ids, 0.1) == train_test_split(ids, train_size=0.1, random_state=42)[0]
    assert choose_label_ids(ids[:20], 0.01) != []


def test_published_label_draws(shared_data: Path) -> None:
    """Classes without a positive at 1 %, as the specification measured them on MERL's own split files."""
    import pandas as pd

    for task, absent in (
        ("sub_class", {"PMI"}),
        ("form", {"HVOLT", "TAB", "PRC(S)", "STE"}),
        ("rhythm", {"TRIGU", "SVTAC", "PSVT", "AFLT"}),
    ):
        table = pd.read_csv(shared_data / "merl_splits" / f"ptbxl_{task}_train.csv.gz")
        classes = [c for c in table.columns if set(table[c].dropna().unique()) <= {0, 1} and c.upper() == c]
        chosen = set(choose_label_ids([str(i) for i in range(len(table))], 0.01))
        drawn = table[[str(i) in chosen for i in range(len(table))]]
        assert {c for c in classes if drawn[c].sum() == 0} == absent, task


def test_head_job_writes_a_table_for_both_arms(trained: Study) -> None:
    job = trained.job("head", "head", fractions=[0.1, 1.0])
    assert main([str(job)]) == 0
    folder = trained.folder / "head"
    tables = {p.stem: read_predictions(p) for p in (folder / "predictions").glob("*.parquet")}
    assert set(tables) == {f"super-linear_probe-{arm}-{f}" for arm in ("pretrained", "random_init") for f in ("0.1", "1")}
    table = tables["super-linear_probe-pretrained-1"]
    assert set(table.fold.tolist()) == {9, 10}
    assert table.classes == ("HYP", "NORM", "STTC")
    assert "standardised" in table.origin.selection
    assert (folder / "heads" / "super-linear_probe-pretrained-1.safetensors").exists()
    chosen = json.loads((folder / "label_ids.json").read_text())
    assert (len(chosen["0.1"]), len(chosen["1"])) == (9, 96)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert sum(r["chosen"] for r in history) == len(tables)


def test_frozen_probing_changes_neither_weights_nor_statistics(trained: Study, tmp_path: Path) -> None:
    method = load_encoder(trained.folder / "pretrain" / "bundle")
    before = {k: v.clone() for k, v in method.state_dict().items()}
    store, bundle = open_store(trained.folder / "store"), trained.folder / "pretrain" / "bundle"
    first_NF = pooled_features(method.train(), bundle, store, tmp_path, torch.device("cpu"))
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())
    cached = next(tmp_path.glob("*.npy"))
    assert (pooled_features(method, bundle, store, tmp_path, torch.device("cpu")) == first_NF).all()
    cached.write_bytes(cached.read_bytes()[:200])
    assert (pooled_features(method, bundle, store, tmp_path, torch.device("cpu")) == first_NF).all()


def test_labels_are_matched_by_name_and_record(trained: Study) -> None:
    table = pq.read_table(trained.folder / "labels.parquet")
    order = np.random.default_rng(3).permutation(len(table))
    pq.write_table(table.select(["STTC", "record_id", "HYP", "NORM"]).take(pa.array(order)), trained.folder / "shuffled.parquet")
    for name, labels in (("straight", "labels"), ("shuffled", "shuffled")):
        assert main([str(trained.job("head", name, labels=str(trained.folder / f"{labels}.parquet")))]) == 0
    for path in (trained.folder / "straight" / "predictions").glob("*.parquet"):
        straight, shuffled = read_predictions(path), read_predictions(trained.folder / "shuffled" / "predictions" / path.name)
        assert straight.classes == shuffled.classes
        np.testing.assert_array_equal(straight.scores_NC, shuffled.scores_NC)
        np.testing.assert_array_equal(straight.labels_NC, shuffled.labels_NC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocols": ["wish"]}, "wish"),
        ({"fractions": [0.0]}, "not in"),
        ({"test_folds": [77]}, "no record in the test folds"),
    ],
)
def test_head_jobs_that_cannot_work_say_why(trained: Study, changes: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigurationError, TrainingError), match=message):
        run(read_job(trained.job("head", "wrong", **changes)), Progress(0))


@pytest.mark.parametrize(
    ("column", "message"), [("twice", "names 1 records twice"), ("two", "other than 0 and 1"), ("stranger", "share no record")]
)
def test_label_tables_that_do_not_fit_say_why(trained: Study, column: str, message: str) -> None:
    ids, values = ["r0000", "r0001"], [0, 1]
    table = {"twice": (["r0000", "r0000"], values), "two": (ids, [0, 2]), "stranger": (["a", "b"], values)}[column]
    path = trained.folder / f"{column}.parquet"
    pq.write_table(pa.table({"record_id": table[0], "NORM": pa.array(table[1], pa.int8())}), path)
    with pytest.raises(TrainingError, match=message):
        run(read_job(trained.job("head", "wrong", labels=str(path))), Progress(0))


def test_finetuning_trains_the_whole_network_from_its_untrained_bundle(trained: Study) -> None:
    job = trained.job("pretrain", "scratch", method="supervised", options={"max_steps": 0, "finetune_steps": 60}, reports=None)
    assert main([str(job)]) == 0
    arms = {"bundle": str(trained.folder / "scratch" / "bundle"), "random_init": str(trained.folder / "scratch" / "random_init")}
    for name in ("fine", "again"):
        assert main([str(trained.job("head", name, method="supervised", protocols=["finetune"], **arms))]) == 0
    paths = [trained.folder / name / "predictions" / "super-finetune-pretrained-1.parquet" for name in ("fine", "again")]
    table = read_predictions(paths[0])
    assert table.origin.selection.endswith("from random weights")
    assert macro_auroc(table.folds((10,)).scores_NC, table.folds((10,)).labels_NC) > 0.8
    np.testing.assert_array_equal(table.scores_NC, read_predictions(paths[1]).scores_NC)
    history = [json.loads(line) for line in (trained.folder / "fine" / "history.jsonl").read_text().splitlines()]
    assert sum(r["chosen"] for r in history) == 1 and history[0]["epoch"] == 3
