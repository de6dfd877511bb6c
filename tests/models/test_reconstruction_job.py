"""Reconstruction from job file to tables: who is compared, what the classifier is shown, what the distance says of its embedding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from models.downstream import Founder, Prepared
from models.encoders.net1d import TINY, Net1d
from models.errors import CheckpointError, ConfigurationError, TrainingError
from models.founder_signals import prepare
from models.jobs import read_job
from models.predictions import read_predictions
from models.progress import Progress
from models.reconstruction_tables import ARMS, DOWNSTREAM, RECONSTRUCTED, RETRAINED, read_reconstructions
from models.store import open_store
from models.train import main, run
from models.types import LEADS
from tests.models.conftest import Study, make_study

OPTIONS = {"widths": (4, 8, 8), "groups": 2, "max_steps": 6, "patience": 2}


@pytest.fixture(scope="module")
def reconstructed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study with an encoder of a few steps and its reconstruction job done in `reconstruct`."""
    study = make_study(tmp_path_factory.mktemp("reconstructed"))
    assert main([str(study.job("pretrain", "pretrain", method="wearecg", options=OPTIONS))]) == 0
    assert main([str(asked(study, "reconstruct"))]) == 0
    return study


def asked(study: Study, name: str, **changes: Any) -> Path:
    entries = {"labels": str(study.folder / "labels.parquet"), "task": "super", "epochs": 2, "batch_size": 16, "lr": 1e-2, "limit": 5}
    return study.job("reconstruction", name, **({"method": "wearecg"} | entries | changes))


def test_every_arm_has_a_table_of_validation_and_test_records(reconstructed: Study) -> None:
    tables = {
        arm: read_reconstructions(reconstructed.folder / f"reconstruct/reconstructions/leads-reconstruction-{arm}.parquet") for arm in ARMS
    }
    store = open_store(reconstructed.folder / "store")
    rows_N = store.rows_of_folds([9, 10])
    for arm, table in tables.items():
        assert table.record_id == [store.record_ids()[row] for row in rows_N] and table.origin.arm == arm
        assert table.missing == tuple(lead for lead in LEADS if lead not in ("II", "V1", "V5"))
    true_NMT = store.signals(rows_N)[:, [LEADS.index(lead) for lead in tables["zero"].missing]] / 1000
    np.testing.assert_allclose(tables["zero"].errors.mse_NM, np.square(true_NMT).mean(axis=2), rtol=1e-5)
    assert np.isnan(tables["zero"].errors.pearson_NM).all() and not tables["zero"].errors.residual_NI.any()


def test_the_distance_says_which_embedding_and_how_many(reconstructed: Study) -> None:
    tables = [read_reconstructions(p) for p in sorted((reconstructed.folder / "reconstruct/reconstructions").glob("*.parquet"))]
    distances = [t.distance for t in tables]
    assert all(d is not None and d.n == 12 and d.features == 16 and d.signals == "prepared" and d.value >= 0 for d in distances)
    assert {d.embedding for d in distances if d} == {"Net1D (tiny) with random weights, fine-tuned on real leads of small/super"}
    assert len({d.sha256 for d in distances if d}) == 1


def test_the_classifier_is_shown_what_each_protocol_says(reconstructed: Study) -> None:
    folder = reconstructed.folder / "reconstruct" / "predictions"
    tables = {(t.origin.protocol, t.origin.arm): t for t in (read_predictions(p) for p in sorted(folder.glob("*.parquet")))}
    assert set(tables) == {*((p, "pretrained") for p in DOWNSTREAM), (RECONSTRUCTED, "random_init")}
    first = next(iter(tables.values()))
    for table in tables.values():
        assert np.array_equal(table.record_id, first.record_id) and np.array_equal(table.labels_NC, first.labels_NC)
    scores = {key: table.scores_NC.tobytes() for key, table in tables.items()}
    assert len(set(scores.values())) == len(scores)
    assert "reconstructed leads in training" in tables[RETRAINED, "pretrained"].origin.selection


def test_examples_are_the_reconstructions_of_test_records(reconstructed: Study) -> None:
    from models.checkpoint import load_encoder
    from models.data import batch_of

    folder = reconstructed.folder / "reconstruct" / "reconstructed"
    ids = pq.read_table(folder / "records.parquet")["record_id"].to_pylist()
    store = open_store(reconstructed.folder / "store")
    rows_N = np.array([store.record_ids().index(i) for i in ids])
    assert len(ids) == len(set(ids)) == 5 and np.isin(rows_N, store.rows_of_folds([10])).all()
    method = load_encoder(reconstructed.folder / "pretrain" / "bundle")
    expected_NLT = method.reconstruct(batch_of(store, rows_N)).detach().numpy()
    np.testing.assert_allclose(np.load(folder / "signals.npy"), expected_NLT, atol=0.51)


def test_the_job_leaves_no_prepared_signals_and_runs_once(reconstructed: Study) -> None:
    result = json.loads((reconstructed.folder / "reconstruct" / "result.json").read_text())
    assert result["kind"] == "reconstruction" and result["records"] == 12 and len(result["tables"]) == 10
    assert not (reconstructed.folder / "reconstruct" / "prepared").exists()


def test_without_labels_and_raw_the_random_network_measures_raw_signals(reconstructed: Study) -> None:
    job = asked(reconstructed, "raw", labels=None, fid_input="raw")
    run(read_job(job), Progress(0))
    table = read_reconstructions(reconstructed.folder / "raw/reconstructions/leads-reconstruction-pretrained.parquet")
    assert table.distance is not None and (table.distance.signals, table.distance.embedding) == ("raw", "Net1D (tiny) with random weights")
    assert not (reconstructed.folder / "raw" / "predictions").exists()


def test_local_weights_are_taken_and_named(reconstructed: Study) -> None:
    torch.manual_seed(3)
    network = Net1d(TINY, 150)
    save_file(network.state_dict(), reconstructed.folder / "founder.safetensors")
    founder = Founder("tiny", 12, reconstructed.folder / "founder.safetensors")
    signal_BLT = torch.randn(2, 12, 160)
    assert torch.equal(founder.network.features(signal_BLT), network.features(signal_BLT))
    assert founder.title == "Net1D (tiny) of founder.safetensors"
    torch.manual_seed(4)
    assert founder.sha256 == Founder("tiny", 12, reconstructed.folder / "founder.safetensors").sha256 != Founder("tiny", 12, None).sha256


def test_weights_of_another_network_are_refused(reconstructed: Study) -> None:
    save_file({"first_conv.conv.weight": torch.zeros(3)}, reconstructed.folder / "other.safetensors")
    with pytest.raises(CheckpointError, match="convert the published checkpoint"):
        Founder("tiny", 12, reconstructed.folder / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors"):
        Founder("tiny", 12, reconstructed.folder / "nothing.safetensors")


def test_prepared_signals_are_those_of_the_source_once_each(reconstructed: Study, tmp_path: Path) -> None:
    store, read = open_store(reconstructed.folder / "store"), []

    def source(rows: np.ndarray) -> np.ndarray:
        read.extend(rows.tolist())
        return store.signals(rows)

    prepared = Prepared(store, tmp_path / "prepared", {"real": source})
    rows_N = np.array([70, 3, 3])
    np.testing.assert_allclose(prepared.store("real", rows_N).signals(rows_N), prepare(store.signals(rows_N), 100.0), atol=0.0011)
    prepared.store("real", np.array([3, 4]))
    assert sorted(read) == [3, 4, 70]


@pytest.mark.parametrize(
    ("changes", "fault", "named"),
    [
        ({"classifier": "huge"}, ConfigurationError, "huge"),
        ({"fid_input": "cooked"}, ConfigurationError, "cooked"),
        ({"train_folds": [77]}, TrainingError, "no training record"),
        ({"test_folds": [77]}, TrainingError, "lacks records"),
    ],
)
def test_what_cannot_be_done_is_refused(reconstructed: Study, changes: dict[str, Any], fault: type[Exception], named: str) -> None:
    shutil.rmtree(reconstructed.folder / "refused", ignore_errors=True)
    with pytest.raises(fault, match=named):
        run(read_job(asked(reconstructed, "refused", **changes)), Progress(0))


def test_a_method_that_keeps_no_leads_is_refused(trained: Study) -> None:
    with pytest.raises(ConfigurationError, match="keeps no leads"):
        run(read_job(asked(trained, "refused", method="merl")), Progress(0))
