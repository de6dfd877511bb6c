"""Heads trained by gradient descent: attentive probes, fine-tuning with and without crops, and after a probe."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import models.methods.supervised.spec
from models.checkpoint import Provenance, load_encoder, write_bundle
from models.data import batch_of, labelled_records
from models.errors import ConfigurationError, TrainingError
from models.finetune import Parts, build_classifier, train_head
from models.head_objectives import objective_of
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, HeadRecipe
from models.heads import macro_auroc
from models.jobs import read_job
from models.predictions import Predictions, read_predictions
from models.progress import Progress
from models.registry import create_method, get_spec
from models.store import open_store
from models.train import run
from models.types import LEADS, Batch, Features
from tests.models.echo import Echo, EchoConfig

if TYPE_CHECKING:
    from conftest import Study

CPU = torch.device("cpu")
PROBE = HeadRecipe(
    frozen=True, readout="attentive", heads=2, steps=24, batch_size=16, lr=3e-3, schedule="constant", weight_decay=0.1, look_every=8,
    patience=None, crop=80, stride=40,
)  # fmt: skip
AFTER = dataclasses.replace(PROBE, frozen=False, start=ATTENTIVE, lr=3e-4, weight_decay=0.0)
WHOLE = HeadRecipe(steps=20, batch_size=16, look_every=10, crop=80, stride=40, aggregate="maximum", twin="trained", bias=False)


@pytest.fixture
def cropped(study: Study, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """The supervised baseline with recipes of its own, and two untrained encoders of it."""
    spec = dataclasses.replace(get_spec("supervised"), heads=lambda config: {ATTENTIVE: PROBE, FINETUNE_AFTER: AFTER, FINETUNE: WHOLE})
    monkeypatch.setattr(models.methods.supervised.spec, "SPEC", spec)
    get_spec.cache_clear()
    write_untrained(study)
    yield study
    monkeypatch.undo()
    get_spec.cache_clear()


def write_untrained(study: Study, **options: Any) -> None:
    """Two untrained encoders of the baseline."""
    config = dataclasses.replace(get_spec("supervised").configure("tiny"), n_samples=study.n_samples, **options)
    for seed, arm in ((1, "bundle"), (0, "random_init")):
        torch.manual_seed(seed)
        origin = Provenance("supervised", "tiny", 0, arm, 0, 96, 100.0)
        write_bundle(study.folder / "untrained" / arm, create_method("supervised", config), origin)


def job(study: Study, name: str, **changes: Any) -> dict[str, Predictions]:
    """Run a head job and read its tables."""
    bundles = {a: str(study.folder / "untrained" / a) for a in ("bundle", "random_init")}
    asked = read_job(study.job("head", name, method="supervised", **(bundles | changes)))
    assert run(asked, Progress(0)) is not None
    return {p.stem: read_predictions(p) for p in (asked.output / "predictions").glob("*.parquet")}


def test_attentive_probes_leave_the_encoder_alone_and_have_both_arms(cropped: Study) -> None:
    before = {p: p.read_bytes() for p in (cropped.folder / "untrained").rglob("*.safetensors")}
    found = job(cropped, "probes", protocols=[ATTENTIVE], fractions=[0.5])
    assert set(found) == {f"super-attentive_probe-{arm}-0.5" for arm in ("pretrained", "random_init")}
    assert before == {p: p.read_bytes() for p in (cropped.folder / "untrained").rglob("*.safetensors")}
    table = found["super-attentive_probe-pretrained-0.5"]
    assert set(table.fold.tolist()) == {9, 10}
    for words in ("frozen encoder", "crops of 80 samples", "mean of their scores", "not a linear probe", "from random weights"):
        assert words in table.origin.selection
    history = [json.loads(line) for line in (cropped.folder / "probes" / "history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in history if r["table"] == "super-attentive_probe-pretrained-0.5"] == [8, 16, 24]


class Teller(Echo):
    """Tokens that say how large each lead is in windows of 20 samples."""

    def encode(self, batch: Batch) -> Features:
        window_BLNT = batch.signal_BLT.unfold(2, 20, 20)
        return Features(batch.signal_BLT.std(dim=2), tokens_BNF=window_BLNT.std(dim=3).transpose(1, 2) / 100 * self.gain)


@pytest.mark.parametrize("aggregate", ["mean", "maximum"])
def test_an_attentive_probe_learns_what_tokens_tell(study: Study, labelled: tuple[Any, Parts], aggregate: Any) -> None:
    data, parts = labelled
    recipe = dataclasses.replace(PROBE, lr=1e-2, steps=100, aggregate=aggregate)
    done = train_head(Teller(EchoConfig()), recipe, data, parts, 0, CPU)
    assert macro_auroc(done.scores_NC, data.labels_NC[parts.judged_N]) > 0.8
    assert train_head(Teller(EchoConfig()), recipe, data, parts, 1, CPU).scores_NC[0, 0] != done.scores_NC[0, 0]


def test_the_stored_scores_are_the_mean_over_the_crops_of_each_record(cropped: Study) -> None:
    """A loop over records, crop by crop, with the network that the job stored."""
    from safetensors.torch import load_file

    table = job(cropped, "twin", protocols=[ATTENTIVE])["super-attentive_probe-pretrained-1"]
    head = load_file(cropped.folder / "twin" / "heads" / "super-attentive_probe-pretrained-1.safetensors")
    assert all(name.startswith("head.") for name in head)
    store = open_store(cropped.folder / "store")
    data = labelled_records(store, cropped.folder / "labels.parquet")
    part = np.arange(1)
    network = build_classifier(load_encoder(cropped.folder / "untrained" / "bundle"), PROBE, data, Parts(part, part, part), 5, CPU).eval()
    network.load_state_dict(network.state_dict() | head)
    row_of = {record: row for row, record in enumerate(store.index["record_id"].to_pylist())}
    for record, scores_C in zip(table.record_id.tolist()[:5], table.scores_NC, strict=False):
        whole = batch_of(store, np.array([row_of[record]]))
        logits = [network(dataclasses.replace(whole, signal_BLT=whole.signal_BLT[..., s : s + 80]))[0] for s in (0, 40, 80)]
        np.testing.assert_allclose(torch.stack(logits).mean(dim=0).detach().numpy(), scores_C, rtol=1e-4, atol=1e-5)


def test_fine_tuning_after_a_probe_goes_on_with_its_head(cropped: Study) -> None:
    data = labelled_records(open_store(cropped.folder / "store"), cropped.folder / "labels.parquet")
    parts = Parts(data.of_folds(range(1, 9)), data.of_folds([9]), data.of_folds([9, 10]))
    probe = train_head(load_encoder(cropped.folder / "untrained" / "bundle"), PROBE, data, parts, 0, CPU)
    still = dataclasses.replace(AFTER, steps=1, lr=1e-30, keep="last", patience=None)
    after = train_head(load_encoder(cropped.folder / "untrained" / "bundle").eval(), still, data, parts, 0, CPU, probe.state)
    assert all(torch.equal(after.state[name], value) for name, value in probe.state.items())
    tables = job(cropped, "after", protocols=[FINETUNE_AFTER])
    assert set(tables) == {"super-finetune_after_probe-pretrained-1"}
    assert "from the attentive probe" in tables["super-finetune_after_probe-pretrained-1"].origin.selection
    both = job(cropped, "both", protocols=[ATTENTIVE, FINETUNE_AFTER])
    assert len(both) == 3
    np.testing.assert_array_equal(
        both["super-finetune_after_probe-pretrained-1"].scores_NC, tables["super-finetune_after_probe-pretrained-1"].scores_NC
    )
    np.testing.assert_allclose(both["super-attentive_probe-pretrained-1"].scores_NC, probe.scores_NC, atol=1e-5)


def test_fine_tuning_with_crops_has_a_twin_where_the_recipe_asks_for_one(cropped: Study) -> None:
    found = job(cropped, "fine", protocols=[FINETUNE])
    assert set(found) == {f"super-finetune-{arm}-1" for arm in ("pretrained", "random_init")}
    again = job(cropped, "again", protocols=[FINETUNE])
    for name, table in found.items():
        np.testing.assert_array_equal(table.scores_NC, again[name].scores_NC)
        assert "maximum of their scores" in table.origin.selection


def test_methods_without_recipes_have_the_houses(study: Study) -> None:
    write_untrained(study, finetune_steps=3)
    found = job(study, "house", protocols=[ATTENTIVE, FINETUNE_AFTER, FINETUNE])
    assert set(found) == {
        "super-attentive_probe-pretrained-1", "super-attentive_probe-random_init-1", "super-finetune_after_probe-pretrained-1",
        "super-finetune-pretrained-1",
    }  # fmt: skip
    assert all("at most 3 steps" in t.origin.selection and "crops" not in t.origin.selection for t in found.values())


@pytest.fixture
def labelled(study: Study) -> tuple[Any, Parts]:
    data = labelled_records(open_store(study.folder / "store"), study.folder / "labels.parquet")
    return data, Parts(data.of_folds(range(1, 9)), data.of_folds([9]), data.of_folds([9, 10]))


def encoder(study: Study) -> Any:
    torch.manual_seed(0)
    return create_method("supervised", dataclasses.replace(get_spec("supervised").configure("tiny"), n_samples=study.n_samples))


def test_the_best_look_is_kept_or_the_last(study: Study, labelled: tuple[Any, Parts]) -> None:
    data, parts = labelled
    recipe = dataclasses.replace(WHOLE, look_every=5, patience=None)
    best = train_head(encoder(study), recipe, data, parts, 0, CPU)
    assert [r.epoch for r in best.history] == list(range(5, 21, 5))
    values = {r.epoch: r.validation for r in best.history}
    assert values[best.chosen] == max(values.values())
    judged = data.of_folds([9])
    at = np.searchsorted(parts.judged_N, judged)
    assert macro_auroc(best.scores_NC[at], data.labels_NC[judged]) == pytest.approx(max(values.values()))
    assert train_head(encoder(study), dataclasses.replace(recipe, keep="last"), data, parts, 0, CPU).chosen == 20


class Thirds(Echo):
    """Each third of a recording is read by itself."""

    def encode(self, batch: Batch) -> Features:
        parts_BNF = self.gain / 1000 * batch.signal_BLT[:, 0, :99].reshape(len(batch), 3, 33)
        return Features(parts_BNF.mean(dim=1), tokens_BNF=parts_BNF)

    def finetune_features(self, features: Features) -> torch.Tensor:
        assert features.tokens_BNF is not None
        return features.tokens_BNF.flatten(0, 1)


def test_several_rows_a_recording_are_learned_from_apart_and_scored_together(study: Study, labelled: tuple[Any, Parts]) -> None:
    data, parts = labelled
    data = dataclasses.replace(data, kind="single_label", labels_NC=np.eye(len(data.classes), dtype=np.int8)[data.rows_N % 2])
    method = Thirds(EchoConfig())
    recipe = HeadRecipe(steps=3, batch_size=8, look_every=3, patience=None, lr=1e-4, clip=None, aggregate="mean_probability")
    done = train_head(method, recipe, data, parts, 0, CPU)
    network = build_classifier(method, recipe, data, parts, 0, CPU)
    network.load_state_dict(network.state_dict() | done.state)
    with torch.inference_mode():
        logits_MC = network(batch_of(data.store, data.rows_N[parts.judged_N]))
    probability_NC = logits_MC.softmax(dim=1).reshape(-1, 3, len(data.classes)).mean(dim=1)
    np.testing.assert_allclose(done.scores_NC, probability_NC.log(), rtol=1e-4, atol=1e-5)


def test_patience_is_counted_in_steps_since_the_best_look(study: Study, labelled: tuple[Any, Parts]) -> None:
    """With a rate of nothing the first look is never beaten."""
    data, parts = labelled
    recipe = dataclasses.replace(PROBE, lr=1e-30, look_every=5, patience=15)
    done = train_head(encoder(study), recipe, data, parts, 0, CPU)
    assert (done.chosen, done.history[-1].epoch) == (5, 20)


def test_a_loss_that_is_not_finite_names_its_records(study: Study, labelled: tuple[Any, Parts]) -> None:
    data, parts = labelled
    broken = encoder(study)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss of the head is nan on records r0\d+"):
        train_head(broken, WHOLE, data, parts, 0, CPU)


def test_records_shorter_than_a_crop_are_refused(study: Study, labelled: tuple[Any, Parts]) -> None:
    data, parts = labelled
    with pytest.raises(TrainingError, match="160 samples, fewer than the 250 of a crop"):
        train_head(encoder(study), dataclasses.replace(WHOLE, crop=250, stride=125), data, parts, 0, CPU)


def test_dropout_of_an_encoder_that_has_none_is_refused(study: Study, labelled: tuple[Any, Parts]) -> None:
    data, parts = labelled
    with pytest.raises(ConfigurationError, match="no dropout that fine-tuning could set"):
        train_head(encoder(study), dataclasses.replace(WHOLE, dropout=0.1), data, parts, 0, CPU)


@pytest.mark.parametrize(("kind", "loss"), [("multilabel", "bce"), ("multilabel", "asymmetric"), ("single_label", "bce")])
def test_losses_equal_sums_over_records(kind: str, loss: Any) -> None:
    rng = np.random.default_rng(0)
    labels_NC = np.eye(3, dtype=np.int8)[rng.integers(0, 3, 8)]
    outputs_NC = rng.normal(size=(8, 3)).astype(np.float32)
    objective = objective_of(kind, HeadRecipe(loss=loss), labels_NC, "abc")
    total = 0.0
    for z_C, y_C in zip(outputs_NC.astype(float), labels_NC, strict=True):
        p_C = 1 / (1 + np.exp(-z_C))
        if kind == "single_label":
            total -= float(z_C[y_C == 1][0] - np.log(np.exp(z_C).sum())) / 8
        elif loss == "bce":
            total -= float(np.where(y_C, np.log(p_C), np.log(1 - p_C)).sum()) / 24
        else:
            q_C = np.minimum(1 - p_C + 0.05, 1)
            total -= float(np.where(y_C, (1 - p_C) * np.log(p_C), (1 - q_C) ** 4 * np.log(q_C)).sum())
    target_NC = torch.from_numpy(objective.targets(labels_NC))
    assert float(objective.loss(torch.from_numpy(outputs_NC), target_NC)) == pytest.approx(total, rel=1e-4)


def test_one_class_is_judged_by_its_softmax() -> None:
    """The second class has the larger logit in the record that is not of it, and the larger share in the one that is."""
    labels_NC, logits_NC = np.eye(2, dtype=np.int8), np.array([[9, 5], [0, 4]], np.float32)
    assert objective_of("single_label", HeadRecipe(), labels_NC, "ab").value(logits_NC, labels_NC) == 1.0
    assert objective_of("multilabel", HeadRecipe(), labels_NC, "ab").value(logits_NC, labels_NC) == 0.5
    with pytest.raises(ConfigurationError, match="no kind of task 'ordinal'"):
        objective_of("ordinal", HeadRecipe(), labels_NC, "ab")


def test_a_set_of_channels_is_shown_alone_to_a_probe_of_its_own(study: Study) -> None:
    """Against a loop that zeroes the other leads of one record after the other; a set that the store lacks is left out."""
    from safetensors.numpy import load_file

    write_untrained(study)
    found = job(study, "sets", protocols=["linear_probe"], channel_sets=[["V1"], ["II", "V6"], ["II", "PLETH"], list(LEADS)])
    assert {t.origin.channels for t in found.values()} == {None, "V1", "II+V6"}
    assert len(found) == 6
    store, method = open_store(study.folder / "store"), load_encoder(study.folder / "untrained" / "bundle")
    row_of = {record: row for row, record in enumerate(store.record_ids())}
    for channels in ("V1", "II+V6"):
        table = found[f"super-linear_probe-pretrained-1-{channels}"]
        probe = load_file(study.folder / "sets" / "heads" / f"super-linear_probe-pretrained-1-{channels}.safetensors")
        hidden = [LEADS.index(lead) for lead in LEADS if lead not in channels.split("+")]
        for record, scores_C in zip(table.record_id.tolist()[:4], table.scores_NC, strict=False):
            batch = batch_of(store, np.array([row_of[record]]))
            batch.signal_BLT[:, hidden] = 0
            with torch.no_grad():
                feature_F = method.encode(batch).pooled_BF[0].numpy()
            expected_C = probe["weight"] @ ((feature_F - probe["mean"]) / probe["spread"]) + probe["bias"]
            np.testing.assert_allclose(scores_C, expected_C, rtol=1e-3, atol=1e-3)
    shown = open_store(study.folder / "store").select(["V1"]).select(LEADS, fill=True)
    present_BL = batch_of(shown, np.array([0])).present_BL
    assert present_BL is not None and present_BL[0].tolist() == [lead == "V1" for lead in LEADS]


def test_another_task_leaves_the_fold_of_a_record(study: Study) -> None:
    write_untrained(study, finetune_steps=1)
    whole = pq.read_table(study.folder / "labels.parquet")
    other = whole.slice(5).select(["record_id", "NORM"])
    pq.write_table(other, study.folder / "other.parquet")
    tables = [
        job(study, task, task=task, labels=str(study.folder / f"{labels}.parquet"), protocols=[FINETUNE])[f"{task}-finetune-pretrained-1"]
        for task, labels in (("super", "labels"), ("other", "other"))
    ]
    store = open_store(study.folder / "store")
    fold_of = dict(zip(store.record_ids(), store.index["fold"].to_pylist(), strict=True))
    for table in tables:
        assert table.fold.tolist() == [fold_of[record] for record in table.record_id.tolist()]
    assert set(tables[1].record_id.tolist()) <= set(tables[0].record_id.tolist())


def test_single_label_tasks_are_trained_by_cross_entropy(cropped: Study) -> None:
    found = job(cropped, "one", protocols=["linear_probe", ATTENTIVE, FINETUNE], task_kind="single_label")
    assert {t.origin.kind for t in found.values()} == {"single_label"}
    several = pa.table({"record_id": ["r0000", "r0001"], "A": pa.array([1, 1], pa.int8()), "B": pa.array([0, 1], pa.int8())})
    path: Path = cropped.folder / "several.parquet"
    pq.write_table(several, path)
    with pytest.raises(TrainingError, match="exactly one must hold"):
        job(cropped, "wrong", labels=str(path), task_kind="single_label")
