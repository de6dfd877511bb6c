"""Mixtures: draws by weight as a function of seed and step, members' own folds, and nobody whom others are judged on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.config import TrainingConfig
from models.errors import ConfigurationError, TrainingError
from models.inputs import open_signals
from models.jobs import MixtureMember, PretrainJob, read_job
from models.mixture import Mixture, MixtureOrder, OpenMixture, open_mixture
from models.store import open_store
from models.train import main
from tests.models.conftest import write_store

if TYPE_CHECKING:
    from conftest import Study

T = 160
NAMES = ("judged 0.5", "other/a 0.3", "third 0.2")


def make_store(folder: Path, patients: list[str], folds: list[int], sites: list[str] | None = None, seed: int = 0) -> Path:
    """A store whose first sample of lead I is the number of the row."""
    rng = np.random.default_rng(seed)
    n = len(patients)
    signal_NLT = rng.integers(-500, 500, (n, 12, T)).astype(np.int16)
    signal_NLT[:, 0, 0] = np.arange(n)
    write_store(folder, signal_NLT, [f"{folder.name}{i}" for i in range(n)], np.array(folds))
    index = pa.ipc.open_file(folder / "index.arrow").read_all()
    index = index.set_column(index.column_names.index("patient_id"), "patient_id", pa.array(patients))
    if sites is not None:
        index = index.append_column("site", pa.array(sites))
    with pa.OSFile(str(folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, index.schema) as writer:
        writer.write_table(index)
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in manifest["files"]:
        file["bytes"] = (folder / file["path"]).stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@dataclass(frozen=True)
class Three:
    """Three datasets. Of `other`, site "a", patient j8 is a test patient of `judged`, j9 one of its validation patients."""

    job: PretrainJob
    config: TrainingConfig

    def open(self, **changes: Any) -> OpenMixture:
        config = replace(self.config, **changes)
        return open_mixture(self.job, config, open_signals(self.job.store or Path(), config))


def member(store: Path, **changes: Any) -> MixtureMember:
    return replace(MixtureMember(store=store, train_folds=[1, 2], validation_folds=[9], test_folds=[10]), **changes)


@pytest.fixture
def three(tmp_path: Path) -> Three:
    judged = make_store(tmp_path / "judged", [f"j{i}" for i in range(10)], [1, 1, 1, 2, 2, 2, 2, 2, 10, 9])
    other = make_store(tmp_path / "other", ["o0", "j8", "o2", "j9", "o4", "o5"], [1, 1, 2, 2, 1, 9], list("aaaaba"), seed=1)
    third = make_store(tmp_path / "third", ["t0", "t1", "j0", "t3"], [3, 3, 3, 1], seed=2)
    config = TrainingConfig(n_samples=T, mixture=NAMES, max_steps=1)
    job = PretrainJob(
        method="supervised", preset="tiny", seed=0, output=tmp_path, dataset="judged", store=judged, config={},
        train_folds=[1, 2], validation_folds=[9], test_folds=[10],
        mixture={"judged": member(judged), "other/a": member(other, site="a"), "third": member(third, train_folds=[3])},
    )  # fmt: skip
    return Three(job, config)


def test_each_member_brings_its_own_folds_without_patients_that_others_are_judged_on(
    three: Three, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        train = three.open().train()
    held = {name: records.patient_ids() for name, records in train.members.items()}
    assert held == {"judged": [f"j{i}" for i in range(8)], "other/a": ["o0", "o2"], "third": ["t0", "t1", "j0"]}
    assert "2 records left out of train" in caplog.text
    validation = three.open().validation()
    assert validation is not None
    assert {name: records.patient_ids() for name, records in validation.members.items()} == {
        "judged": ["j9"], "other/a": ["o5"], "third": [],
    }  # fmt: skip
    np.testing.assert_allclose(validation.weights, [0.5 / 0.8, 0.3 / 0.8, 0])


def test_members_without_validation_records_keep_the_numbers_of_the_others(three: Three) -> None:
    job = three.job
    changed = replace(three, job=replace(job, mixture={**job.mixture, "judged": replace(job.mixture["judged"], validation_folds=[7])}))
    validation = changed.open().validation()
    assert validation is not None and validation.weights.tolist() == [0, 1, 0]
    order = MixtureOrder(8, 0, validation.starts, validation.weights)
    batch = validation.batch(order.positions(0))
    assert batch.source_B is not None and batch.source_B.tolist() == [1] * 8, "the number that the member has in training"
    assert validation.on(torch.device("cpu")).members.keys() == validation.members.keys()


def test_the_judged_dataset_need_not_be_a_member(three: Three) -> None:
    train = three.open(mixture=("other/a 1",)).train()
    assert train.members["other/a"].patient_ids() == ["o0", "o2"]


def test_test_patients_of_any_member_are_left_out_of_all(three: Three) -> None:
    members = three.job.mixture | {"third": member(three.job.mixture["third"].store, train_folds=[1], test_folds=[3])}
    train = replace(three, job=replace(three.job, mixture=members)).open().train()
    assert train.members["judged"].patient_ids() == [f"j{i}" for i in range(1, 8)]


def test_draws_follow_the_weights_then_every_record_alike(three: Three) -> None:
    train = three.open().train()
    order = MixtureOrder(500, 7, train.starts, train.weights)
    positions = np.concatenate([order.positions(step) for step in range(40)])
    n = len(positions)
    for source, weight in enumerate(train.weights):
        share = (train.sources(positions) == source).mean()
        assert abs(share - weight) < 4 * np.sqrt(weight * (1 - weight) / n)
    counts = Counter(positions.tolist())
    for first, last, weight in zip(train.starts, train.starts[1:], train.weights, strict=False):
        expected = n * weight / (last - first)
        assert all(abs(counts[p] - expected) < 5 * np.sqrt(expected) for p in range(first, last))


def test_draws_are_a_function_of_seed_and_step_and_are_shared_out(three: Three) -> None:
    train = three.open().train()
    order = MixtureOrder(12, 7, train.starts, train.weights)
    again = MixtureOrder(12, 7, train.starts, train.weights)
    later, first = order.positions(5), order.positions(0)
    np.testing.assert_array_equal(later, again.positions(5))
    assert not np.array_equal(later, first) and not np.array_equal(later, replace(order, seed=8).positions(5))
    np.testing.assert_array_equal(np.concatenate([order.share(5, rank, 3) for rank in range(3)]), later)
    with pytest.raises(ConfigurationError, match="a batch of 12 cannot be divided among 5 devices"):
        order.share(0, 0, 5)


def test_a_batch_says_where_its_records_come_from(three: Three) -> None:
    train = three.open().train()
    positions = np.array([12, 0, 8, 9, 3, 12])
    batch = train.batch(positions)
    assert batch.source_B is not None and batch.group_B is not None
    assert batch.source_B.tolist() == [2, 0, 1, 1, 0, 2]
    assert batch.signal_BLT[:, 0, 0].tolist() == [2, 0, 0, 2, 3, 2]  # rows of their stores
    assert train.names(batch.row_B.tolist()) == [
        "third third2",
        "judged judged0",
        "other/a other0",
        "other/a other2",
        "judged judged3",
        "third third2",
    ]
    assert batch.group_B[0] == batch.group_B[1] != batch.group_B[2]  # j0 is in two datasets
    assert (batch.texts, batch.present_BL) == (None, None)


def test_every_member_has_a_scale_of_its_own(three: Three) -> None:
    train = three.open().train()
    scale = train.scale()
    assert scale.names == ("judged", "other/a", "third")
    signal_BLT = open_store(three.job.mixture["third"].store).signals(np.arange(3)).astype(np.float64)
    np.testing.assert_allclose(scale.mean_SL[2], signal_BLT.mean(axis=(0, 2)))
    np.testing.assert_allclose(scale.std_SL[2], signal_BLT.std(axis=(0, 2)))


def test_members_without_reports_have_empty_texts(three: Three, tmp_path: Path) -> None:
    stores = three.open().stores
    pq.write_table(pa.table({"record_id": ["other0"], "text": ["sinus rhythm"]}), tmp_path / "reports.parquet")
    job = replace(
        three.job,
        method="merl",
        mixture=three.job.mixture | {"other/a": member(three.job.mixture["other/a"].store, site="a", reports=tmp_path / "reports.parquet")},
    )
    train = open_mixture(job, three.config, stores["judged"]).train()
    batch = train.batch(np.array([8, 0, 9]))
    assert batch.texts == ["sinus rhythm", "", ""]
    assert batch.has("text").tolist() == [True, False, False]  # type: ignore[arg-type]
    assert train.vocabulary() == ["sinus rhythm"] and train.skipped == 1


def test_channels_that_a_member_lacks_are_absent(three: Three) -> None:
    train = three.open().train()
    lacking = replace(
        train.members["third"],
        store=train.members["third"].store.select(("V1", *("II",) * 11)).select(("PLETH", "V1", *("II",) * 10), fill=True),
    )
    mixed = Mixture(train.members | {"third": lacking}, train.weights)
    present_BL = mixed.batch(np.array([10, 0])).present_BL
    assert present_BL is not None and present_BL.tolist() == [[False] + [True] * 11, [True] * 12]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": ("judged 0.5", "third 0.4")}, "weights of the mixture sum to 0.9, not to 1; change judged 0.5, third 0.4"),
        ({"mixture": ("judged",)}, "mixture entry 'judged' is no name and weight"),
        ({"mixture": ("judged x",)}, "mixture entry 'judged x' is no name and weight"),
        ({"mixture": ("judged 1.5", "third -0.5")}, "mixture entry 'judged 1.5' is no name and weight"),
        ({"mixture": ("judged nan",)}, "mixture entry 'judged nan' is no name and weight"),
        ({"mixture": ("third 0.5", "third 0.5")}, "names 'third' twice"),
        ({"mixture": ("judged 0.5", "unknown 0.5")}, "names unknown, of which the job says nothing; it knows judged, other/a, third"),
        ({"distinct_patients": True}, "set distinct_patients to false"),
    ],
)  # fmt: skip
def test_a_mixture_that_makes_no_sense_is_refused(three: Three, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        three.open(**changes)


def test_weights_may_miss_one_by_rounding(three: Three) -> None:
    published = (0.70, 0.10, 0.05, 0.009375, 0.025, 0.0125, 0.0375, 0.028125, 0.01875, 0.01875)
    config = replace(three.config, mixture=tuple(f"d{i} {weight}" for i, weight in enumerate(published)))
    assert list(config.mixture_weights().values()) == list(published)


def test_a_site_that_is_not_there_and_a_member_without_records_are_named(three: Three) -> None:
    store = three.job.mixture["other/a"].store
    for changed, error, message in (
        (member(store, site="z"), ConfigurationError, "has no site 'z'; it has a, b"),
        (member(store, site="a", train_folds=[7]), TrainingError, r"'other/a' of the mixture has no record to train on in folds \[7\]"),
    ):
        there = replace(three, job=replace(three.job, mixture=three.job.mixture | {"other/a": changed}))
        with pytest.raises(error, match=message):
            there.open().train()


def test_a_job_trains_on_a_mixture_and_goes_on_as_if_nothing_had_happened(study: Study, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", [f"o{i}" for i in range(12)], [1] * 12, ["a"] * 12)
    folds = {"train_folds": [1, 2], "validation_folds": [9], "test_folds": [10]}
    entry = {"small": folds | {"store": str(study.folder / "store"), "reports": str(study.folder / "reports.parquet")}}
    entry["other/a"] = folds | {"store": str(other), "site": "a"}
    options = {"mixture": ("small 0.75", "other/a 0.25"), "max_steps": 6}
    whole = study.job("pretrain", "whole", options=options, mixture=entry)
    assert read_job(whole).mixture["other/a"].site == "a"  # type: ignore[attr-defined]
    assert main([str(whole)]) == 0
    result = json.loads((study.folder / "whole" / "result.json").read_text())
    assert result["records"] == 24 + 12 and "validation_loss" in result["final"]
    for _ in range(2):
        assert main([str(study.job("pretrain", "cut", options=options, mixture=entry, time_limit_s=0.0))]) == 143
    assert main([str(study.job("pretrain", "cut", options=options, mixture=entry))]) == 0
    weights = [(study.folder / name / "bundle" / "weights.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_member_entry_that_lacks_something_is_refused(study: Study) -> None:
    job = study.job("pretrain", "bad", mixture={"small": {"store": "x", "train_folds": [1]}})
    with pytest.raises(ConfigurationError, match="validation_folds"):
        read_job(job)


def test_members_on_a_device_give_the_same_batches(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the two members that are drawn most often for their size: the third one stays on disk."""
    train = three.open().train()
    window = 12 * T * 2
    monkeypatch.setattr("models.mixture.budget_of", lambda device: window * (2 + 3))
    held = train.on(torch.device("cpu"))
    assert [name for name, records in held.members.items() if records.resident is not None] == ["other/a", "third"]
    assert list(held.members) == list(train.members)
    positions = MixtureOrder(32, 0, train.starts, train.weights).positions(3)
    assert torch.equal(held.batch(positions).signal_BLT, train.batch(positions).signal_BLT)
