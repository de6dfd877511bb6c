"""The zero-shot job: prompts to tables, for an encoder and its random twin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.checkpoint import load_encoder
from models.embeddings import encode_rows
from models.errors import ConfigurationError
from models.jobs import read_job
from models.predictions import read_predictions
from models.progress import Progress
from models.store import open_store
from models.train import main, run
from models.zero_shot import class_weights, largest

if TYPE_CHECKING:
    from conftest import Study


def test_scores_are_cosines_and_classes_without_a_prompt_are_named(trained: Study) -> None:
    assert main([str(trained.job("zero_shot", "zero"))]) == 0
    tables = {p.stem: read_predictions(p) for p in (trained.folder / "zero" / "predictions").glob("*.parquet")}
    assert set(tables) == {"super-zero_shot-pretrained-short", "super-zero_shot-random_init-short"}
    table = tables["super-zero_shot-pretrained-short"]
    assert table.classes == ("HYP", "NORM")
    assert table.origin.selection.endswith("left out: STTC")
    assert set(table.fold.tolist()) == {9, 10}
    method, store = load_encoder(trained.folder / "pretrain" / "bundle"), open_store(trained.folder / "store")
    row = store.record_ids().index(str(table.record_id[5]))
    embedding_D = encode_rows(method, store, np.array([row]), torch.device("cpu"), lambda f: f.embedding_BD)[0]  # type: ignore[arg-type, return-value]
    for column, prompt in enumerate(("left ventricular hypertrophy", "normal ecg")):
        weight_D = class_weights(method, [prompt], torch.device("cpu"))[0]
        expected = float(embedding_D @ weight_D / np.linalg.norm(embedding_D) / np.linalg.norm(weight_D))
        assert table.scores_NC[5, column] == pytest.approx(expected, abs=1e-5)


def test_of_several_prompts_the_best_fitting_counts(trained: Study) -> None:
    sentences = ["normal ecg", "sinus rhythm", "no finding"]
    sets = {
        "one": {"HYP": "ventricular hypertrophy", "NORM": "normal ecg"},
        "many": {"HYP": ["ventricular hypertrophy"], "NORM": sentences},
    }
    sets |= {f"only {s}": {"HYP": "ventricular hypertrophy", "NORM": s} for s in sentences}
    for name, prompts in sets.items():
        (trained.folder / f"{name}.json").write_text(json.dumps(prompts))
    job = trained.job("zero_shot", "several", prompts={name: str(trained.folder / f"{name}.json") for name in sets})
    assert main([str(job)]) == 0
    folder = trained.folder / "several" / "predictions"
    tables = {name: read_predictions(folder / f"super-zero_shot-pretrained-{name}.parquet") for name in sets}
    single = np.stack([tables[f"only {s}"].scores_NC[:, 1] for s in sentences])
    np.testing.assert_allclose(tables["many"].scores_NC[:, 1], single.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(tables["many"].scores_NC[:, 0], tables["one"].scores_NC[:, 0], atol=1e-6)
    assert "the best of up to 3 prompts a class" in tables["many"].origin.selection
    assert "one prompt a class" in tables["one"].origin.selection


def test_the_largest_of_each_group_is_what_a_loop_finds() -> None:
    cosine_NP = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    expected = [[max(row[0:1]), max(row[1:4]), max(row[4:6])] for row in cosine_NP.tolist()]
    np.testing.assert_array_equal(largest(cosine_NP, [1, 3, 2]), np.array(expected, np.float32))
    np.testing.assert_array_equal(largest(cosine_NP, [1] * 6), cosine_NP)


def test_order_of_classes_does_not_matter(trained: Study) -> None:
    method = load_encoder(trained.folder / "pretrain" / "bundle")
    prompts = ["left ventricular hypertrophy", "normal ecg", "st segment changes"]
    forward = class_weights(method, prompts, torch.device("cpu"))
    np.testing.assert_allclose(class_weights(method, prompts[::-1], torch.device("cpu"))[::-1], forward, atol=1e-6)


def test_a_set_without_any_prompt_for_a_task_gives_no_table(trained: Study) -> None:
    (trained.folder / "elsewhere.json").write_text(json.dumps({"AFIB": "atrial fibrillation"}))
    assert main([str(trained.job("zero_shot", "foreign", prompts={"f": str(trained.folder / "elsewhere.json")}))]) == 0
    assert json.loads((trained.folder / "foreign" / "result.json").read_text())["tables"] == []


def test_a_method_without_text_is_refused(trained: Study) -> None:
    job = trained.job("pretrain", "deaf", method="supervised", options={"max_steps": 0}, reports=None)
    assert main([str(job)]) == 0
    arms = {"bundle": str(trained.folder / "deaf" / "bundle"), "random_init": str(trained.folder / "deaf" / "random_init")}
    with pytest.raises(ConfigurationError, match="cannot be evaluated zero-shot"):
        run(read_job(trained.job("zero_shot", "impossible", method="supervised", **arms)), Progress(0))


def test_a_prompt_file_that_is_none_is_refused(trained: Study) -> None:
    (trained.folder / "a_list.json").write_text("[1, 2]")
    with pytest.raises(ConfigurationError, match="is not a prompt set"):
        run(read_job(trained.job("zero_shot", "bad", prompts={"x": str(trained.folder / "a_list.json")})), Progress(0))
