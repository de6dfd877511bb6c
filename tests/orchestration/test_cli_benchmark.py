"""`einthoven benchmark` and `compare`: the commands of the page, and what is said of what cannot be judged."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from assets.benchmark import Question
from assets.dataset import get_dataset
from assets.labels import make_labels
from assets.materialize import asset_key
from assets.outputs import Key, Output, Workspace
from assets.raw import make_raw
from assets.settings import load
from assets.verdicts import BLOCKING, Verdict, save
from models.errors import EinthovenError
from models.external.truth import Truth, read_truth
from models.predictions import read_predictions
from models.registry import get_spec
from orchestration.benchmark import Benchmark, fingerprint_of
from orchestration.cli import app
from orchestration.instance import get_instance

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmark.md"
COMMANDS = [line.strip() for line in PAGE.read_text().splitlines() if re.match(r" {4}einthoven (benchmark|compare) ", line)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the fixture of PTB-XL scanned and labelled, and somebody's features and scores beside it."""
    home = tmp_path_factory.mktemp("benchmark")
    folder = home / "source" / "ptb_xl"
    folder.mkdir(parents=True)
    dataset, workspace = get_dataset("ptb_xl"), Workspace(home)
    dataset.make_fixture(folder)
    checked(workspace, make_raw(workspace, dataset(folder), lambda _: None))
    for task in ("super", "all"):
        checked(workspace, make_labels(workspace, dataset(folder), task))
    told = truth(home)
    features = 3 * told.labels_NC + np.random.default_rng(0).normal(size=told.labels_NC.shape)
    np.save(home / "x.npy", features)
    (home / "ids.txt").write_text("\n".join(told.record_id.tolist()))
    judged = np.isin(told.fold, (9, 10))
    scores = pd.DataFrame(features[judged], columns=list(told.classes)).assign(record_id=told.record_id[judged])
    scores.to_parquet(home / "p.parquet", index=False)
    return home


def checked(workspace: Workspace, output: Output) -> None:
    for check in BLOCKING[output.key.stage]:
        save(workspace, output, Verdict(check, True, ""))


def truth(home: Path, task: str = "super") -> Truth:
    workspace = Workspace(home)
    raw, labels = workspace.require(Key(("raw", "ptb_xl"))), workspace.require(Key(("labels", "ptb_xl"), task))
    return read_truth(raw.path("records.parquet"), labels.path("labels.parquet"))


@pytest.fixture
def home(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EINTHOVEN_HOME", str(labelled))
    monkeypatch.setenv("DAGSTER_HOME", str(labelled / "dagster"))
    monkeypatch.setenv("EINTHOVEN_THREADS", "1")
    monkeypatch.chdir(labelled)
    return labelled


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refusal(*arguments: str) -> str:
    result = cli(*arguments)
    assert isinstance(result.exception, EinthovenError), (result.output, result.exception)
    return str(result.exception)


def test_the_commands_of_the_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Benchmark, "method", lambda _, *arguments: asked.append(arguments))
    monkeypatch.setattr(Benchmark, "encoder", lambda _, *arguments: asked.append(arguments))
    said = []
    for command in COMMANDS:
        done = cli(*shlex.split(command)[1:])
        assert done.exception is None, (command, done.exception)
        said.append(done.output)
    options = {"max_steps": 100}
    assert asked == [
        *(("merl", "tiny", {}, Question("ptb_xl", "super", "linear_probe", 1.0, seed)) for seed in (0, 1)),
        ("merl", "tiny", options, Question("ptb_xl", "all", "finetune", 0.1)),
        ("my_package.model:Encoder", "mine", "", "native", {}, Question("ptb_xl", "super", "linear_probe")),
    ]
    assert {get_spec(name).configure(preset, **given).max_steps for name, preset, given, _ in asked[2:3]} == {100}
    table, comparison, latex = said[-3:]
    assert re.search(r"\| my_scores \| not stated \|.*\| not stated \|", table)
    assert re.search(r"\| my_features \| linear probe \| 100% \| 0 \| 0\.\d{3} \[0\.\d{3}, \d\.\d{3}\] \|", table)
    assert "supervised_crops" in table
    assert re.search(r"difference +[-+]0\.\d{4} \[", comparison)
    assert r"\toprule" in latex
    assert latex.count("\n") > 12


def test_an_answer_holds_what_its_numbers_are_computed_from(home: Path) -> None:
    for _ in range(2):
        assert (
            cli("benchmark", "ptb_xl", "--embeddings", "x.npy", "--ids", "ids.txt", "--name", "again", "--task", "super").exception is None
        )
    folder = home / "benchmark" / "ptb_xl" / "external.again" / "super-linear_probe-1-seed0"
    assert len([p for p in folder.iterdir() if p.is_dir()]) == 1, "the same question is answered once"
    output = Workspace(home).require(Key(("benchmark", "ptb_xl", "external.again"), folder.name))
    (path,) = (output.folder / "predictions").iterdir()
    table, told = read_predictions(path), truth(home)
    judged = np.isin(told.fold, (9, 10))
    assert table.record_id.tolist() == told.record_id[judged].tolist()
    assert (table.labels_NC == told.labels_NC[judged]).all()
    assert (table.classes, table.origin.task, table.origin.preset) == (told.classes, "super", "again")
    assert output.facts["n_labelled_test"] == int((told.fold == 10).sum())
    metrics = pd.read_parquet(output.path("metrics.parquet")).set_index("metric")
    assert metrics.loc["macro_auroc", "value"] > 0.7
    assert {"labels/ptb_xl[super]", "raw/ptb_xl"} == set(output.manifest["upstream"])
    assert (output.folder / "heads").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["record_id"] != t["record_id"].iloc[-1]], r"lacks 1 of the \d+ labelled records of the test folds"),
        (lambda t: t.iloc[1:], r"lacks 1 of the \d+ labelled records of the validation folds"),
        (lambda t: pd.concat([t, t.iloc[:1].assign(record_id="1")]), "scores 1 records that task 'super' does not judge: 1;"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "names 1 records twice"),
        (lambda t: t.assign(MI=np.nan), r"scores of \d+ records are not finite"),
        (lambda t: t.drop(columns="MI"), "lacks the classes MI"),
    ],
)
def test_scores_must_be_about_exactly_what_is_judged(home: Path, tmp_path: Path, change: Any, message: str) -> None:
    change(pd.read_parquet(home / "p.parquet")).to_parquet(tmp_path / "bad.parquet", index=False)
    said = refusal("benchmark", "ptb_xl", "--predictions", str(tmp_path / "bad.parquet"), "--name", "bad", "--task", "super")
    assert re.search(message, said), said
    assert not list((home / "benchmark" / "ptb_xl" / "external.bad").glob("*/CURRENT"))


def test_test_records_alone_will_do_but_give_no_f(home: Path, tmp_path: Path) -> None:
    told, scores = truth(home), pd.read_parquet(home / "p.parquet")
    test = set(told.record_id[told.fold == 10].tolist())
    scores[scores["record_id"].isin(test)].to_parquet(tmp_path / "test.parquet", index=False)
    done = cli(
        "benchmark", "ptb_xl", "--predictions", str(tmp_path / "test.parquet"), "--name", "test_only", "--task", "super", "--markdown"
    )
    assert done.exception is None, done.exception
    (row,) = [line for line in done.output.splitlines() if line.startswith("| test_only |")]
    cells = [c.strip() for c in row.strip("|").split("|")]
    assert cells[7] == ""
    assert float(cells[6]) > 0.3


def test_undefined_classes_are_refused_before_anything_is_trained(home: Path) -> None:
    np.save("x71.npy", np.zeros((200, 3)))
    Path("ids200.txt").write_text("\n".join(str(i) for i in range(1, 201)))
    brought = ("benchmark", "ptb_xl", "--embeddings", "x71.npy", "--ids", "ids200.txt", "--name", "zeros", "--task", "all")
    said = refusal(*brought)
    assert "of 71 classes have no positive or no negative among the 20 test records" in said
    assert "--skip-undefined" in said
    done = cli(*brought, "--skip-undefined")
    assert done.exception is None, done.exception
    assert "exploratory: " in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonesuch"], "there is no dataset 'nonesuch'"),
        (["ptb_xl", "-m", "merl", "--predictions", "p.parquet"], "give one of .* not --method and --predictions"),
        (["ptb_xl", "-m", "merl"], "--method needs --task and --protocol"),
        (["ptb_xl", "--predictions", "p.parquet", "-t", "super"], "--predictions needs --name"),
        (["ptb_xl", "--ids", "ids.txt"], "--ids belongs to --embeddings"),
        (["ptb_xl", "-m", "merl", "-t", "super", "-p", "linear_probe", "--name", "x"], "--name is for entries of your own"),
        (["ptb_xl", "-m", "merl", "-t", "nonesuch", "-p", "linear_probe"], "ptb_xl has no task 'nonesuch'; it has all, diag"),
        (["ptb_xl", "-m", "merl", "-t", "super", "-p", "guess"], "there is no protocol 'guess'"),
        (["ptb_xl", "-m", "nonesuch", "-t", "super", "-p", "finetune"], "there is no method 'nonesuch'"),
        (["ptb_xl", "-m", "merl", "-t", "super", "-p", "finetune", "--fraction", "0"], "a fraction of 0 of the labels cannot be used"),
        (["ptb_xl", "-m", "merl", "-t", "super", "-p", "finetune", "--preset", "huge"], "has no preset 'huge'"),
        (["ptb_xl", "-m", "merl", "-t", "super", "-p", "finetune", "-o", "n_samples=7"], "stores 1000 samples .* n_samples=7"),
        (["synthetic", "-m", "merl", "-t", "chest", "-p", "finetune"], "is about images"),
        (["ptb_xl", "--encoder", "torch", "--name", "x", "-t", "super", "-p", "finetune"], "must look like package.module:Class"),
        (["ptb_xl", "--encoder", "nonesuch_x:C", "--name", "x", "-t", "super", "-p", "finetune"], "there is no package 'nonesuch_x'"),
        (["ptb_xl", "--encoder", "torch.nn:Flatten", "--name", "x", "-t", "super", "-p", "finetune", "--recipe", "no"], "there is no recipe 'no'"),
        (["ptb_xl", "--embeddings", "x.npy", "--name", "x", "-t", "super"], "name the records by --ids"),
        (["ptb_xl", "--embeddings", "x.npy", "--name", "x", "-t", "super", "-p", "finetune"], "by linear_probe alone, not by finetune"),
        (["ptb_xl", "--predictions", "none.parquet", "--name", "x", "-t", "super"], "none.parquet is not there"),
        (["ptb_xl", "--predictions", "p.parquet", "--name", "../x", "-t", "super"], "must be letters, digits"),
        (["ptb_xl", "--predictions", "p.parquet", "--name", "merl", "-t", "super"], "is a method of the platform"),
        (["ptb_xl", "--predictions", "p.parquet", "--name", "x", "-t", "super", "-o", "a=1"], "--option has nothing to change"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_says_why(home: Path, arguments: list[str], message: str) -> None:
    said = refusal("benchmark", *arguments)
    assert re.search(message, said), said


def test_entries_that_are_not_there_are_named(home: Path) -> None:
    assert "the benchmark has no entry 'a' on this task" in refusal("compare", "a", "b", "--task", "form")
    assert "there is no dataset 'nonesuch'" in refusal("compare", "a", "b", "--task", "form", "--dataset", "nonesuch")
    assert "nothing has been judged on wesad yet" in refusal("benchmark", "wesad")
    assert not (home / "benchmark" / "wesad").exists()
    assert "nothing has been judged on ptb_xl/nonesuch yet" in cli("benchmark", "ptb_xl", "--task", "nonesuch").output


def test_the_table_is_made_once_and_says_where_its_picture_lies(home: Path) -> None:
    for _ in range(2):
        said = cli("benchmark", "ptb_xl", "--task", "rhythm").output
    output = Workspace(home).require(Key(("benchmark", "ptb_xl")))
    assert f"Picture: {output.path('figures/benchmark.png')}" in said
    brought = ("--embeddings", "x.npy", "--ids", "ids.txt", "--name", "shown_in_dagster", "--task", "super")
    assert cli("benchmark", "ptb_xl", *brought).exception is None
    changed = Workspace(home).require(output.key)
    assert "shown_in_dagster" in changed.path("benchmark.md").read_text()
    with get_instance(load()) as instance:
        event = instance.get_latest_materialization_event(asset_key("benchmark", "ptb_xl"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    assert shown["data_version"].value == changed.data_version
    assert str(shown["benchmark"].value).startswith("![benchmark](data:image/png;base64,")
    assert "shown_in_dagster" in str(shown["table"].value)


def test_other_code_is_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_for_fingerprint"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported outside of the job')")
    monkeypatch.syspath_prepend(tmp_path)
    before = fingerprint_of("package_for_fingerprint.model:Class")
    assert fingerprint_of("package_for_fingerprint.model:Class") == before
    (package / "model.py").write_text("class Class: ...")
    assert fingerprint_of("package_for_fingerprint.model:Class") != before
