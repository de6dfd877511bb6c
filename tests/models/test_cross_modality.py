"""Signals exchanged between networks: statistics of a fold, weights that stay, units that are not made again, and the leak of random splits."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import models.cross_modality_job as job_module
from models.checkpoint import Provenance, write_bundle
from models.cross_modality import (
    Moments,
    Windows,
    majority,
    show,
    statistics_of,
    time_only,
    train_on,
    use,
    variance_rows,
    windows_of,
)
from models.cross_modality_job import cross_modalities
from models.data import batch_of, labelled_records
from models.errors import ConfigurationError, StoreError
from models.head_recipes import HeadRecipe
from models.jobs import CrossModalityJob
from models.methods.wesad.spec import SPEC
from models.progress import Progress
from models.registry import create_method
from models.splits_named import named_split
from models.store import open_store

SIGNALS = ("ECG", "EDA", "TEMP")
CLASSES = ("amusement", "baseline", "stress")
CPU = torch.device("cpu")
CONFIG = dataclasses.replace(
    SPEC.configure("tiny"), n_samples=100, width=16, depth=1, hidden=16, matrix_signals=SIGNALS, matrix_head_only=False, finetune_epochs=8,
)  # fmt: skip
RECIPE = SPEC.head_recipes(CONFIG)["finetune"]


def make_store(folder: Path, signal_NLT: np.ndarray, patient_N: list[str], class_N: np.ndarray, scales: tuple[float, ...]) -> Path:
    """Windows in order of people and classes, one record a person and class; labels beside the store."""
    n, _, n_samples = signal_NLT.shape
    ids = [f"{p}-{CLASSES[c]}" for p, c in zip(patient_N, class_N, strict=True)]
    turn_N = pd.Series(ids).groupby(ids).cumcount().to_numpy()
    start_N = 100.0 * class_N + 10.0 * turn_N
    (folder / "store").mkdir(parents=True)
    np.save(folder / "store" / "shard-00000.npy", np.rint(signal_NLT / np.array(scales)[:, None]).astype(np.int16))
    index = pa.table({
        "dataset": ["small"] * n, "record_id": ids, "patient_id": patient_N, "start": start_N, "row": np.arange(n),
        "shard": np.zeros(n, np.int32), "fold": np.ones(n, np.int32), "n_samples": np.full(n, n_samples, np.int32),
    })  # fmt: skip
    with pa.OSFile(str(folder / "store" / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, index.schema) as writer:
        writer.write_table(index)
    channels = [{"name": s, "kind": s, "unit": "", "scale": scale, "fs_hz": 10.0} for s, scale in zip(SIGNALS, scales, strict=True)]
    files = [{"path": p.name, "bytes": p.stat().st_size, "sha256": ""} for p in sorted((folder / "store").iterdir())]
    shards = [{"file": "shard-00000.npy", "rows": n, "channels": list(SIGNALS), "n_samples": n_samples}]
    facts = {
        "kind": "store",
        "format_version": 2,
        "dataset": "small",
        "window_s": 10.0,
        "index": "index.arrow",
        "channels": channels,
        "shards": shards,
    }
    (folder / "store" / "manifest.json").write_text(json.dumps({"format_version": 1, "facts": facts, "files": files}))
    labels = {"record_id": ids, "start": start_N, **{c: (class_N == i).astype(np.int8) for i, c in enumerate(CLASSES)}}
    pq.write_table(pa.table(labels), folder / "labels.parquet")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people, six windows a class; each signal has its own unit, the class in its rate or level and the person in its level."""
    rng, time_T = np.random.default_rng(0), np.arange(100) / 10
    patient_N = [f"p{i}" for i in range(5) for _ in range(18)]
    class_N = np.tile(np.repeat(np.arange(3), 6), 5)
    body_N = np.repeat(rng.uniform(-0.3, 0.3, 5), 18)
    rate = np.sin(2 * np.pi * (0.4 + 0.8 * class_N)[:, None] * time_T + rng.uniform(0, 6, (90, 1)))
    level = (class_N + body_N)[:, None] + 0.1 * rng.standard_normal((90, 100))
    signal_NLT = np.stack([500 * rate, 5 + level, 33 - level], axis=1)
    return make_store(tmp_path_factory.mktemp("small"), signal_NLT, patient_N, class_N, (0.5, 0.001, 0.002))


@pytest.fixture(scope="module")
def windows(study: Path) -> Windows:
    return windows_of(labelled_records(open_store(study / "store"), study / "labels.parquet", "single_label"), SIGNALS)


def job(study: Path, output: Path, **options: Any) -> CrossModalityJob:
    config = dataclasses.replace(CONFIG, **options)
    write_bundle(output / "bundle", create_method("wesad", config), Provenance("wesad", "tiny", 0, "pretrained", 0, 1, 10.0))
    return CrossModalityJob(
        method="wesad", preset="tiny", seed=0, output=output, dataset="small", accelerator="cpu", store=study / "store",
        bundle=output / "bundle", labels=study / "labels.parquet", task="affect3",
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    cross_modalities(job(study, output), Progress(0))
    return output


def state_hash(network: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in network.state_dict().values())).hexdigest()


def test_training_windows_have_mean_zero_and_deviation_one(windows: Windows) -> None:
    folds = named_split("loso", windows.rows, 0)
    for name, data in windows.signals.items():
        found = [statistics_of(windows.moments[name], f.train_N, windows.rows.patient_N, "train_zscore") for f in folds]
        encoder = create_method("wesad", CONFIG)
        use(encoder, data, found[0])
        scaled = encoder.scaled(batch_of(data.store, data.rows_N[folds[0].train_N])).double()  # type: ignore[operator]
        assert abs(scaled.mean().item()) < 1e-5
        assert abs(scaled.std(correction=0).item() - 1) < 1e-5
        assert len({round(float(s.mean_N[0]), 9) for s in found}) > 1, "each fold has its own"


def test_the_test_subject_changes_no_statistics(windows: Windows) -> None:
    fold = named_split("loso", windows.rows, 0)[0]
    moments = windows.moments["EDA"]
    altered = Moments(moments.mean_N.copy(), moments.variance_N.copy())
    altered.mean_N[fold.test_N] += 1000
    altered.variance_N[fold.validation_N] *= 1000
    before, after = (statistics_of(m, fold.train_N, windows.rows.patient_N, "train_zscore") for m in (moments, altered))
    assert np.array_equal(before.mean_N, after.mean_N) and np.array_equal(before.deviation_N, after.deviation_N)
    subject = statistics_of(altered, fold.train_N, windows.rows.patient_N, "per_subject")
    assert subject.mean_N[fold.test_N[0]] > 900, "by subject those of the test are used, which the name says"


def test_statistics_are_those_of_all_samples(windows: Windows) -> None:
    data, train_N = windows.signals["TEMP"], np.arange(40)
    samples = data.store.signals(data.rows_N[train_N]).astype(np.float64)  # type: ignore[union-attr]
    found = statistics_of(windows.moments["TEMP"], train_N, windows.rows.patient_N, "train_zscore")
    assert (found.mean_N[0], found.deviation_N[0]) == pytest.approx((samples.mean(), samples.std()), rel=1e-9)
    by_window = statistics_of(windows.moments["TEMP"], train_N, windows.rows.patient_N, "per_window")
    assert by_window.deviation_N[3] == pytest.approx(samples[3].std(), rel=1e-6)


def test_showing_other_signals_changes_no_weight(windows: Windows) -> None:
    fold = named_split("loso", windows.rows, 0)[0]
    statistics = {n: statistics_of(m, fold.train_N, windows.rows.patient_N, "train_zscore") for n, m in windows.moments.items()}
    network = train_on("wesad", CONFIG, RECIPE, windows, fold, "EDA", statistics["EDA"], 0, CPU)
    before = state_hash(network)
    shown = {name: show(network, windows.signals[name], statistics[name], CPU) for name in SIGNALS}
    assert state_hash(network) == before
    again = show(network, windows.signals["EDA"], statistics["EDA"], CPU)
    assert np.array_equal(shown["EDA"].logits_NC, again.logits_NC)
    assert not np.allclose(shown["ECG"].logits_NC, again.logits_NC)
    plain = network.head(torch.from_numpy(again.embedding_NF)).detach().numpy()
    np.testing.assert_allclose(plain, again.logits_NC, rtol=1e-5, atol=1e-5)


def test_the_matrix_is_square_and_its_diagonal_the_plain_evaluation(done: Path, windows: Windows) -> None:
    table = pd.read_parquet(done / "predictions.parquet")
    networks = table[~table["source"].isin(["majority", "time_only"])]
    loso = networks[networks["split"] == "loso"]
    assert set(zip(loso["source"], loso["target"], strict=True)) == {(s, t) for s in SIGNALS for t in SIGNALS}
    assert loso.groupby(["source", "target"])["record_id"].agg(["nunique", "size"]).to_numpy().tolist() == [[90, 90]] * 9
    fold = named_split("loso", windows.rows, 0)[1]
    statistics = statistics_of(windows.moments["TEMP"], fold.train_N, windows.rows.patient_N, "train_zscore")
    network = train_on("wesad", CONFIG, RECIPE, windows, fold, "TEMP", statistics, 0, CPU)
    expected = show(network, windows.signals["TEMP"], statistics, CPU).logits_NC[fold.test_N]
    stored = loso[(loso["fold"] == 2) & (loso["source"] == "TEMP") & (loso["target"] == "TEMP")]
    np.testing.assert_allclose(stored[[f"logit:{c}" for c in CLASSES]].to_numpy(), expected, rtol=1e-4, atol=1e-5)


def test_networks_of_their_own_signal_learn_it(done: Path) -> None:
    table = pd.read_parquet(done / "predictions.parquet")
    called = np.array(CLASSES)[table[[f"logit:{c}" for c in CLASSES]].to_numpy().argmax(axis=1)]
    own = (table["source"] == table["target"]) & (table["split"] == "loso") & table["source"].isin(["EDA", "TEMP"])
    assert (called == table["class"])[own].mean() > 0.6
    flat = table["source"] == "majority"
    assert (called == table["class"])[flat].mean() == pytest.approx(1 / 3)


def test_the_report_says_who_shares_subjects(done: Path) -> None:
    facts = json.loads((done / "facts.json").read_text())
    assert facts["shared_subjects"] == {"loso": 0, "random_window": 5}
    assert (facts["windows"], facts["subjects"], facts["window_s"], facts["normalisation"]) == (90, 5, 10.0, "train_zscore")


def test_a_finished_unit_is_not_trained_again(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    whole = job_module.train_on

    def counted(*arguments: Any) -> Any:
        trained.append(arguments[5])
        if len(trained) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(job_module, "train_on", counted)
    asked = job(study, tmp_path, matrix_splits=("random_window",), finetune_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        cross_modalities(asked, Progress(0))
    cross_modalities(asked, Progress(0))
    assert trained == ["ECG", "EDA", "TEMP", "TEMP"]
    assert cross_modalities(asked, Progress(0))["units"] == 4 and len(trained) == 4


def test_the_map_has_a_row_a_window_and_comes_out_the_same(study: Path, done: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(done / "projection.parquet")
    assert table.groupby(["source", "target"]).size().to_numpy().tolist() == [90] * 9
    assert set(table["method"]) <= {"umap", "pca"} and np.isfinite(table[["x", "y"]].to_numpy()).all()
    cross_modalities(job(study, tmp_path, matrix_splits=("loso",)), Progress(0))
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "projection.parquet"))


def test_variance_within_and_between_windows(windows: Windows) -> None:
    everyone = np.arange(len(windows))
    statistics = {n: statistics_of(m, everyone, windows.rows.patient_N, "train_zscore") for n, m in windows.moments.items()}
    rows = pd.DataFrame(variance_rows(windows, statistics)).set_index(["signal", "class", "name"])["value"]
    assert set(rows.index.get_level_values("class")) == {"", *CLASSES}
    for name in SIGNALS:
        assert rows[name, "", "within"] + rows[name, "", "between"] == pytest.approx(1)
    assert rows["EDA", "", "between_share"] > 0.9 and rows["ECG", "", "between_share"] < 0.1
    assert rows["EDA", "stress", "between"] < rows["EDA", "", "between"]


def test_random_windows_leak_subjects_and_leaving_one_out_does_not(tmp_path: Path) -> None:
    """Six people of one class each, whose level is their own and no class's: of the two of a class neither lies beside the other."""
    rng = np.random.default_rng(3)
    patient_N = [f"p{i}" for i in range(6) for _ in range(15)]
    class_N = np.repeat(np.arange(6) % 3, 15)
    level_N = np.repeat(np.arange(6) - 2.5, 15)
    signal_NLT = np.repeat((level_N[:, None] + 0.02 * rng.standard_normal((90, 100)))[:, None], 3, axis=1)
    folder = make_store(tmp_path / "leak", signal_NLT, patient_N, class_N, (0.001, 0.001, 0.001))
    held = windows_of(labelled_records(open_store(folder / "store"), folder / "labels.parquet", "single_label"), ("EDA",))
    recipe = HeadRecipe(
        steps=240, batch_size=32, lr=5e-3, look_every=80, patience=None, select="macro_f1", weight_decay=0.0, schedule="constant"
    )
    config = dataclasses.replace(CONFIG, dropout=0.0)

    def accuracy(split: str) -> float:
        right = []
        for fold in named_split(split, held.rows, 0)[:3]:
            statistics = statistics_of(held.moments["EDA"], fold.train_N, held.rows.patient_N, "train_zscore")
            logits_NC = show(
                train_on("wesad", config, recipe, held, fold, "EDA", statistics, 0, CPU), held.signals["EDA"], statistics, CPU
            ).logits_NC
            right += (logits_NC.argmax(axis=1) == held.class_N)[fold.test_N].tolist()
        return float(np.mean(right))

    assert accuracy("random_window") > 0.95
    assert accuracy("loso") < 0.5


def test_those_who_see_no_signal() -> None:
    class_N, train_N = np.array([0, 0, 1, 2, 0, 1, 2, 2, 2]), np.arange(9)
    assert (majority(class_N, np.arange(5), 3).argmax(axis=1) == 0).all()
    position_N = np.array([0.0, 0.1, 0.5, 0.9, 0.05, 0.55, 1.0, 0.95, 0.85])
    log_probability_NC = time_only(np.tile(position_N, 20), np.tile(class_N, 20), np.arange(180), 3)
    np.testing.assert_allclose(np.exp(log_probability_NC).sum(axis=1), 1, rtol=1e-5)
    assert (log_probability_NC.argmax(axis=1)[train_N] == class_N)[[0, 3, 6]].all()
    missing = time_only(position_N, class_N, np.array([0, 1, 2]), 3)
    assert (missing[:, 2] == -30).all(), "a class that training does not have is never the likeliest"


def test_where_a_window_lies_in_its_session(windows: Windows) -> None:
    assert (windows.position_N.min(), windows.position_N.max()) == (0.0, 1.0)
    mine = windows.rows.patient_N == "p3"
    assert np.array_equal(np.argsort(windows.position_N[mine]), np.argsort(windows.rows.start_N[mine]))


def test_what_cannot_be_exchanged_is_refused(study: Path) -> None:
    data = labelled_records(open_store(study / "store"), study / "labels.parquet", "multilabel")
    with pytest.raises(ConfigurationError, match="exactly one class"):
        windows_of(data, SIGNALS)
    single = dataclasses.replace(data, kind="single_label")
    with pytest.raises(StoreError, match="EMG"):
        windows_of(single, ("EMG",))
    with pytest.raises(ConfigurationError, match="cannot be shown another signal"):
        use(
            torch.nn.Identity(),
            single,
            statistics_of(Moments(np.zeros(90), np.ones(90)), np.arange(9), np.array(["p"] * 90), "train_zscore"),
        )  # type: ignore[arg-type]
