"""Entries beside each other: how they are named, which may be compared, and what is said in words and in LaTeX."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.access import Access
from assets.benchmark import Entry, Question
from assets.benchmark_scores import BenchmarkError, benchmark_rows
from assets.benchmark_table import benchmark_table, entries, published_rows
from assets.benchmark_text import to_markdown
from assets.comparison import compare_entries, contenders
from assets.comparison_text import explained, rows_of, to_latex
from assets.outputs import Built, Output, Workspace
from assets.scoring import ScoringError
from models.predictions import Origin, Predictions, write_predictions

N = 80
CLASSES = ("A_1", "B&C")


def table(entry: Entry, question: Question, skill: float, arm: str = "pretrained", n: int = N, **changes: Any) -> Predictions:
    """Scores of n records, of which the last half is the test fold's."""
    rng = np.random.default_rng(0)
    labels = (rng.random((N, 2)) < 0.4).astype(np.int8)[:n]
    noise = np.random.default_rng([question.seed, int(skill * 10), arm == "pretrained"]).normal(size=(n, 2))
    origin = Origin(
        "ptb_xl", question.task, entry.method, entry.name, question.protocol, arm, question.seed, "0" * 64, fraction=question.fraction
    )
    ids = np.array([f"{i}" for i in range(n)])
    patients = np.array([f"p{i // 2}" for i in range(n)])
    made = Predictions(
        origin, CLASSES, ids, patients, np.where(np.arange(n) < N // 2, 9, 10), (skill * labels + noise).astype(np.float32), labels
    )
    return replace(made, **changes)


def publish(workspace: Workspace, entry: Entry, question: Question, *tables: Predictions, saw: bool | None = False) -> Output:
    def build(folder: Path) -> Built:
        rows = [row for t in tables for row in benchmark_rows(t, (9,), (10,), n_resamples=20)]
        for t in tables:
            write_predictions(folder / "predictions" / f"{t.origin.slug}.parquet", t)
        pd.DataFrame(rows).to_parquet(folder / "metrics.parquet")
        facts = {
            "entry": {"method": entry.method, "name": entry.name, "source": entry.source},
            "label": entry.label,
            "saw_test_patients": saw,
        }
        facts |= {"question": vars(question), "kind": "external" if entry.method == "external" else "ours", "n_labelled_test": N // 2}
        return Built(1, facts)

    return workspace.publish(entry.key(question), build, code_version="1", access=Access.OPEN)


MERL, MINE = Entry("merl", "tiny", {}), Entry("external", "mine", {}, "a paper")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """MERL with three seeds and its twin, somebody's scores, and an entry with other labels' share."""
    made = Workspace(tmp_path)
    for seed in range(3):
        question = Question("ptb_xl", "super", "linear_probe", 1.0, seed)
        publish(made, MERL, question, table(MERL, question, 2.0), table(MERL, question, 0.5, "random_init"))
    asked = Question("ptb_xl", "super", "not_stated", None)
    publish(made, MINE, asked, table(MINE, asked, 1.0), saw=None)
    few = Question("ptb_xl", "super", "linear_probe", 0.1)
    other = Entry("merl", "tiny", {"max_steps": 7})
    publish(made, other, few, table(other, few, 1.0))
    return made


def test_names_and_folders() -> None:
    question = Question("ptb_xl", "super", "linear_probe", 0.01, 3)
    assert str(MERL.key(question)) == "benchmark/ptb_xl/merl.tiny[super-linear_probe-0.01-seed3]"
    assert MINE.label == "mine"
    changed = Entry("merl", "tiny", {"max_steps": 7})
    assert changed.label == "merl:tiny (max_steps=7)"
    assert re.fullmatch(r"merl\.tiny-[0-9a-f]{8}", changed.slug)
    assert replace(question, skip_undefined=True).partition == "super-linear_probe-0.01-seed3-skipped"


def test_a_row_a_seed_and_published_rows_beside_them(workspace: Workspace) -> None:
    shown = benchmark_table(workspace, "ptb_xl", entries(workspace, "ptb_xl"))
    ours = shown[(shown["kind"] == "ours") & (shown["fraction"] == 1.0)]
    assert sorted(ours["seed"]) == [0, 1, 2]
    assert (ours["random_init"] < ours["value"]).all()
    assert list(dict.fromkeys(shown[shown["task"] == "super"]["kind"])) == ["ours", "external", "published"]
    (mine,) = shown[shown["kind"] == "external"].to_dict("records")
    assert (mine["entry"], mine["saw_test_patients"], mine["source"]) == ("mine", None, "a paper")
    text = to_markdown(shown, "ptb_xl")
    assert "| xresnet1d101 | 100% | 0.925(07) |" in text
    assert "| mine | not stated |" in text
    assert len(list(entries(workspace, "ptb_xl"))) == 5


def test_published_numbers_stand_once() -> None:
    rows = published_rows("ptb_xl")
    keys = [(r.model.casefold(), r.task, r.protocol, r.fraction, r.value) for r in rows]
    assert len(keys) == len(set(keys))
    found = {(r.model, r.task, r.protocol): (r.value, r.printed) for r in rows}
    assert found["xresnet1d101", "ptb_xl/all", "supervised_crops"] == (0.925, "0.925(07)")
    assert found["ECG-CPC", "ptb_xl/all", "finetune_crops"][0] == 0.9493
    assert found["ECG-CPC", "ptb_xl/all", "attentive_probe_crops"][0] == 0.9313
    assert found["ECGFounder", "ptb_xl/all", "linear_probe_crops"][0] == 0.9313
    assert found["ECGFounder", "ptb_xl/rhythm", "finetune_crops"][0] == 0.9652
    assert published_rows("wesad") == []


def test_two_entries_over_their_seeds(workspace: Workspace) -> None:
    found = compare_entries(workspace, "ptb_xl", "super", "merl:tiny", "mine", n_resamples=50)
    assert (len(found.first.tables), len(found.second.tables), found.n_records, found.found.n_patients) == (3, 1, 40, 20)
    assert found.found.difference.value == pytest.approx(found.found.first.value - found.found.second.value)
    assert "How mine came about is not stated." in explained(found)
    assert [row[0] for row in rows_of(found)] == ["merl:tiny", "mine", "difference"]
    gain = compare_entries(workspace, "ptb_xl", "super", "merl:tiny", "merl:tiny/random_init", fraction=1.0, n_resamples=50)
    assert gain.found.difference.low > 0
    back = compare_entries(workspace, "ptb_xl", "super", "mine", "merl:tiny", fraction=1.0, n_resamples=50)
    assert back.found.difference.value == pytest.approx(-found.found.difference.value)


def test_latex_is_whole_and_escaped(workspace: Workspace) -> None:
    text = to_latex(compare_entries(workspace, "ptb_xl", "super", "merl:tiny", "mine", fraction=1.0, n_resamples=20), per_class=True)
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", text) == ["table", "tabular", "tabular", "table"]
    assert [text.count(rule) for rule in (r"\toprule", r"\bottomrule")] == [1, 1]
    inside = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()[1:]
    for line in (each for each in inside if "rule" not in each):
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == 2, line
    assert r"A\_1 &" in text
    assert r"B\&C &" in text
    assert not re.search(r"(?<!\\)[%_#$]", text)
    assert text.count("{") == text.count("}")


def test_what_was_judged_otherwise_is_not_compared(workspace: Workspace) -> None:
    def refused(first: str, second: str, **how: Any) -> str:
        with pytest.raises((BenchmarkError, ScoringError)) as error:
            compare_entries(workspace, "ptb_xl", "super", first, second, n_resamples=10, **how)
        return str(error.value)

    assert "has no entry 'melp' on this task; it has merl:tiny" in refused("merl:tiny", "melp")
    assert "can be compared in several ways" in refused("merl", "mine")
    assert "were not judged under the same protocol and share of the labels" in refused("merl:tiny/random_init", "merl:tiny (max_steps=7)")
    asked = Question("ptb_xl", "super", "linear_probe", 1.0)
    fewer, relabelled = Entry("external", "fewer", {}), Entry("external", "relabelled", {})
    publish(workspace, fewer, asked, table(fewer, asked, 1.0, n=N - 2))
    told = table(relabelled, asked, 1.0)
    publish(workspace, relabelled, asked, replace(told, labels_NC=1 - told.labels_NC))
    assert "do not judge the same records: 40 and 38, 38 in common, '78' is in one only" in refused("merl:tiny", "fewer", fraction=1.0)
    assert "disagree on the labels of 40 records" in refused("merl:tiny", "relabelled", fraction=1.0)
    assert compare_entries(workspace, "ptb_xl", "super", "fewer", "fewer", n_resamples=10).found.difference.value == 0
    assert contenders(workspace, "ptb_xl", "all") == []
