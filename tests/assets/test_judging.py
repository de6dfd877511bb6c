"""Which jobs an evaluation has run, and with what, for encoders that read this or that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assets.dataset import get_dataset
from assets.judging import PROMPTS, QUESTIONS, Judged
from assets.outputs import Key, Output
from assets.training import inputs_for, task_homes
from models.registry import get_spec


def output(key: Key, folder: Path, **facts: Any) -> Output:
    place = folder / key.stage / str(len(str(key)))
    place.mkdir(parents=True, exist_ok=True)
    for name in ("labels.parquet", "reports.parquet", "image_reports.parquet", "einthoven.json", "bundle", "random_init"):
        (place / name).touch()
    return Output(key, place, {"facts": facts, "access": "open", "data_version": "v"}, reused=True)


def judged(method: str, folder: Path, dataset: str = "synthetic", **overrides: Any) -> tuple[Judged, dict[str, Output]]:
    spec, source = get_spec(method), get_dataset(dataset)
    config = spec.configure("tiny", **overrides)
    encoder = output(Key(("encoder", method), dataset), folder, preset="tiny", seed=3)
    found = Judged(spec, source, encoder, task_homes(spec, source), inputs_for(spec, config, dataset))
    upstream = {str(k): output(k, folder) for k in found.reads()}
    for task in found.homes:
        key = Key(("labels", dataset), task)
        vocabulary = "chexpert" if task == "chest" else "scp"
        upstream[str(key)] = output(key, folder, vocabulary=vocabulary)
        head = Key(("head", method, task), dataset)
        upstream[str(head)] = output(head, folder / task)
    upstream[str(PROMPTS)] = output(PROMPTS, folder, sets={"einthoven": 3})
    return found, upstream


def fuse(upstream: dict[str, Output], method: str, *fractions: str) -> None:
    heads = upstream[str(Key(("head", method, "chest"), "synthetic"))].folder / "heads"
    heads.mkdir()
    for fraction in fractions:
        (heads / f"chest-fused-pretrained-{fraction}.safetensors").touch()


def test_merl_is_asked_in_words_about_recordings_alone(tmp_path: Path) -> None:
    what, upstream = judged("merl", tmp_path)
    jobs = what.jobs(upstream, tmp_path / "run")
    assert set(jobs) == {"zero_shot_ecg"}
    job = jobs["zero_shot_ecg"]
    assert "chest" not in job["labels"] and "super" in job["labels"]
    assert (job["dataset"], job["seed"], job["output"]) == ("synthetic", 3, str(tmp_path / "run" / "zero_shot_ecg"))
    assert not any(k.stage == "pairing" for k in what.reads())


def test_more_is_asked_about_images_too_and_explained_by_the_head_with_most_labels(tmp_path: Path) -> None:
    what, upstream = judged("more", tmp_path)
    fuse(upstream, "more", "0.01", "1", "0.1")
    jobs = what.jobs(upstream, tmp_path / "run")
    assert set(jobs) == {"zero_shot_ecg", "zero_shot_image", "retrieval", "explain"}
    assert set(jobs["zero_shot_image"]["labels"]) == {"chest"}
    assert jobs["zero_shot_image"]["modality"] == "image"
    assert jobs["zero_shot_image"]["store"] == jobs["retrieval"]["images"]
    assert set(jobs["retrieval"]["directions"]) == {"text->ecg", "text->image", "ecg->text", "image->text", "ecg->image", "image->ecg"}
    assert Path(jobs["explain"]["head"]).name == "chest-fused-pretrained-1.safetensors"
    assert jobs["retrieval"]["pairing"] == jobs["explain"]["pairing"]


def test_without_images_more_is_not_asked_about_them(tmp_path: Path) -> None:
    what, upstream = judged("more", tmp_path, pairing="none")
    jobs = what.jobs(upstream, tmp_path / "run")
    assert set(jobs) == {"zero_shot_ecg", "retrieval"}
    assert set(jobs["retrieval"]["directions"]) == {"text->ecg", "ecg->text"}
    assert jobs["retrieval"]["pairing"] is None


def test_no_fused_head_no_explanation(tmp_path: Path) -> None:
    what, upstream = judged("more", tmp_path)
    assert "explain" not in what.jobs(upstream, tmp_path / "run")


def test_melp_writes_reports_and_seeks_patients(tmp_path: Path) -> None:
    what, upstream = judged("melp", tmp_path)
    jobs = what.jobs(upstream, tmp_path / "run")
    assert {"zero_shot_ecg", "generation", "identification"} <= set(jobs)
    assert jobs["generation"]["limit"] == 500
    assert jobs["generation"]["store"] == jobs["identification"]["store"]


def test_symile_asks_only_what_its_modalities_can_answer(tmp_path: Path) -> None:
    what, upstream = judged("symile", tmp_path)
    jobs = what.jobs(upstream, tmp_path / "run")
    assert "ecg+labs->image" in jobs["retrieval"]["directions"]
    assert not any("ppg" in d or "text" in d for d in jobs["retrieval"]["directions"])


def test_who_answers_questions_is_asked_those_of_the_dataset_and_not_more_than_so_many(tmp_path: Path) -> None:
    what, upstream = judged("merl", tmp_path)
    asks = replace(what, spec=replace(what.spec, protocols=("question_answering",)))
    key = Key(("questions", "synthetic"))
    assert asks.reads() == [asks.inputs.signals, key]
    assert key not in what.reads()
    upstream[str(key)] = output(key, tmp_path)
    (upstream[str(key)].folder / "questions.parquet").touch()
    (job,) = asks.jobs(upstream, tmp_path / "run").values()
    assert job["kind"] == "question_answering" and job["questions"].endswith("questions.parquet")
    assert job["limits"] == dict(QUESTIONS) and set(job["limits"]) == {"train", "validation", "test"}
    elsewhere = replace(asks, dataset=get_dataset("sph"))
    assert elsewhere.reads() == [] and elsewhere.jobs(upstream, tmp_path / "run") == {}


@pytest.mark.parametrize("method", ["supervised"])
def test_a_baseline_has_no_jobs_of_its_own(tmp_path: Path, method: str) -> None:
    what, upstream = judged(method, tmp_path)
    assert what.jobs(upstream, tmp_path / "run") == {}
