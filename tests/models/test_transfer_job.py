"""The transfer job: probes of one dataset judged on another's matched classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import ConfigurationError, StoreError, TrainingError
from models.jobs import read_job
from models.predictions import read_predictions
from models.progress import Progress
from models.train import main, run
from models.transfer_job import matched_scores

if TYPE_CHECKING:
    from conftest import Study

COVERS = {"NORMAL": ["NORM"], "ABNORMAL": ["HYP", "STTC"]}
FOLDS = {"train": [1, 2, 3, 4, 5, 6, 7, 8], "validation": [9], "test": [10]}


def job(study: Study, name: str, **changes: Any) -> Path:
    """A direction from the study's task to a target of two classes on other signals of the same kind."""
    target = study.folder / "other"
    if not target.exists():
        shutil.copytree(study.folder / "store", target)
        table = pq.read_table(study.folder / "labels.parquet")
        normal = table["NORM"].to_numpy()
        ids = table["record_id"].to_pylist()
        pq.write_table(pa.table({"record_id": ids, "ABNORMAL": 1 - normal, "NORMAL": normal}), study.folder / "other_labels.parquet")
    values = {
        "kind": "transfer", "method": "merl", "preset": "tiny", "dataset": "small", "seed": 0, "accelerator": "cpu",
        "output": str(study.folder / name),
        "bundle": str(study.folder / "pretrain" / "bundle"), "random_init": str(study.folder / "pretrain" / "random_init"),
        "stores": {"small": str(study.folder / "store"), "other": str(target)},
        "labels": {"small/super": str(study.folder / "labels.parquet"), "other/two": str(study.folder / "other_labels.parquet")},
        "folds": {"small": FOLDS, "other": FOLDS},
        "directions": {"super_to_two": {"source": "small/super", "target": "other/two", "covers": COVERS}},
        "embeddings": str(study.folder / "embeddings"),
    }  # fmt: skip
    path = study.folder / f"{name}.json"
    path.write_text(json.dumps(values | changes))
    return path


def test_a_class_gets_the_largest_score_of_its_sources() -> None:
    rng = np.random.default_rng(0)
    scores_NC = rng.normal(size=(7, 3)).astype(np.float32)
    found_NC = matched_scores(scores_NC, ("HYP", "NORM", "STTC"), COVERS, "here")
    for n in range(7):
        assert found_NC[n, 0] == scores_NC[n, 1]
        assert found_NC[n, 1] == max(scores_NC[n, 0], scores_NC[n, 2])


def test_test_records_alone_are_judged_by_a_probe_that_never_saw_them(trained: Study) -> None:
    assert main([str(job(trained, "transfer"))]) == 0
    tables = {p.stem: read_predictions(p) for p in (trained.folder / "transfer" / "predictions").glob("*.parquet")}
    assert set(tables) == {"super_to_two-transfer_probe-pretrained-1", "super_to_two-transfer_probe-random_init-1"}
    for table in tables.values():
        assert table.classes == ("NORMAL", "ABNORMAL")
        assert set(table.fold.tolist()) == {10}
        assert (table.labels_NC.sum(axis=1) == 1).all()
        assert (table.origin.dataset, table.origin.protocol, table.origin.fraction) == ("small", "transfer_probe", 1.0)
    assert not np.array_equal(*(t.scores_NC for t in tables.values()))


def test_the_target_labels_choose_nothing(trained: Study) -> None:
    """With the target's labels turned round, scores stay as they are."""
    assert main([str(job(trained, "as_is"))]) == 0
    table = pq.read_table(trained.folder / "other_labels.parquet")
    turned = pa.table({"record_id": table["record_id"], "ABNORMAL": table["NORMAL"], "NORMAL": table["ABNORMAL"]})
    pq.write_table(turned, trained.folder / "turned.parquet")
    labels = {"small/super": str(trained.folder / "labels.parquet"), "other/two": str(trained.folder / "turned.parquet")}
    assert main([str(job(trained, "turned", labels=labels))]) == 0
    name = "super_to_two-transfer_probe-pretrained-1.parquet"
    first, second = (read_predictions(trained.folder / n / "predictions" / name) for n in ("as_is", "turned"))
    np.testing.assert_array_equal(first.scores_NC, second.scores_NC)
    np.testing.assert_array_equal(first.labels_NC, second.labels_NC[:, ::-1])


@pytest.mark.parametrize(
    ("covers", "message"),
    [
        ({"NORMAL": ["NORM"], "PACED": ["HYP"]}, r"other/two has no class PACED, which super_to_two judges; it has ABNORMAL, NORMAL"),
        ({"NORMAL": ["NORM", "PACE"]}, r"small/super has no class PACE; it has HYP, NORM, STTC"),
    ],
)
def test_a_class_that_a_side_lacks_is_named(trained: Study, covers: dict[str, list[str]], message: str) -> None:
    directions = {"super_to_two": {"source": "small/super", "target": "other/two", "covers": covers}}
    with pytest.raises(TrainingError, match=message):
        run(read_job(job(trained, f"lacks{len(covers)}", directions=directions)), Progress(0))


def test_a_dataset_or_task_that_is_not_given_is_named(trained: Study) -> None:
    folder = trained.folder
    with pytest.raises(ConfigurationError, match=r"no store of dataset 'other' is given; it has small"):
        run(read_job(job(trained, "storeless", stores={"small": str(folder / "store")})), Progress(0))
    with pytest.raises(ConfigurationError, match=r"no labels of 'other/two' are given; it has small/super"):
        run(read_job(job(trained, "unlabelled", labels={"small/super": str(folder / "labels.parquet")})), Progress(0))


def test_a_part_without_records_is_named(trained: Study) -> None:
    folds = {"small": FOLDS, "other": FOLDS | {"test": [77]}}
    with pytest.raises(TrainingError, match=r"other/two has no record in the test folds \[77\]"):
        run(read_job(job(trained, "nobody", folds=folds)), Progress(0))


def test_a_store_of_another_length_is_refused(trained: Study) -> None:
    long = trained.folder / "long"
    shutil.copytree(trained.folder / "store", long)
    shard = np.load(long / "shard-00000.npy")
    np.save(long / "shard-00000.npy", np.concatenate([shard, shard], axis=2))
    manifest = json.loads((long / "manifest.json").read_text())
    manifest["facts"]["shards"][0]["n_samples"] = 320
    for entry in manifest["files"]:
        entry["bytes"] = (long / entry["path"]).stat().st_size
    (long / "manifest.json").write_text(json.dumps(manifest))
    stores = {"small": str(trained.folder / "store"), "other": str(long)}
    with pytest.raises(StoreError, match=r"windows of 320 samples at 100 Hz, the encoder reads 160 at 100 Hz"):
        run(read_job(job(trained, "long_job", stores=stores)), Progress(0))
