"""The picture of a benchmark: which rows it has, in which order, and what it draws of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assets.access import Access
from assets.benchmark import Entry, Question
from assets.benchmark_asset import make_benchmark
from assets.benchmark_table import COLUMNS, benchmark_table
from assets.benchmark_text import to_markdown
from assets.dataset import get_dataset
from assets.outputs import Built, Key, Output, OutputError, Workspace
from assets.plots_benchmark import benchmark_figure


def row(entry: str, value: float, kind: str = "ours", **changes: Any) -> dict[str, Any]:
    made = dict.fromkeys(COLUMNS, None) | {"kind": kind, "task": "super", "protocol": "linear_probe", "fraction": 1.0, "entry": entry}
    made |= {"prompts": "", "seed": 0, "value": value, "low": value - 0.02, "high": value + 0.01, "printed": "", "saw_test_patients": False}
    return made | changes


def published(entry: str, value: float, printed: str = "", **changes: Any) -> dict[str, Any]:
    return row(entry, value, "published", low=np.nan, high=np.nan, seed=np.nan, printed=printed, **changes)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draws rows; gives texts from top to bottom (of one panel), and points with their marker, face, and ends of lines."""
    from matplotlib.axes import Axes

    texts: list[tuple[float, float, str]] = []
    lines: list[tuple[Any, Any, Any]] = []
    text, plot = Axes.text, Axes.plot

    def spy_text(ax: Axes, x: float, y: float, s: str, *rest: Any, **style: Any) -> Any:
        texts.append((y, x, s))
        return text(ax, x, y, s, *rest, **style)

    def spy_plot(ax: Axes, *given: Any, **style: Any) -> Any:
        lines.append((given[0], given[2] if len(given) > 2 else "-", style.get("markerfacecolor")))
        return plot(ax, *given, **style)

    monkeypatch.setattr(Axes, "text", spy_text)
    monkeypatch.setattr(Axes, "plot", spy_plot)

    def draw(*rows: dict[str, Any]) -> tuple[list[str], list[tuple[Any, Any, Any]]]:
        benchmark_figure(tmp_path / "x.png", pd.DataFrame(rows, columns=list(COLUMNS)), "PTB-XL")
        return [s for _, _, s in sorted(texts)], lines

    return draw


def test_rows_of_a_protocol_fall_in_value_and_protocols_stay_apart(drawn: Any) -> None:
    texts, _ = drawn(
        row("low", 0.8), row("high", 0.9), row("theirs", 0.87, "external", saw_test_patients=None), published("paper", 0.85, "0.850(12)"),
        row("leaky", 0.95, protocol="finetune", saw_test_patients=True), published("crops", 0.99, protocol="finetune_crops"),
    )  # fmt: skip
    assert texts == [
        "finetune, 100% of the labels", "leaky, saw test patients", "0.950 [0.930, 0.960]",
        "linear probe, 100% of the labels", "high", "0.900 [0.880, 0.910]", "theirs", "0.870 [0.850, 0.880]", "paper", "0.850(12)",
        "low", "0.800 [0.780, 0.810]", "finetune crops, 100% of the labels", "crops", "0.99",
    ]  # fmt: skip


def test_twins_are_hollow_and_published_intervals_are_those_printed(drawn: Any) -> None:
    _, lines = drawn(row("ours", 0.9, random_init=0.7), published("paper", 0.85, "0.850(12)"), published("bare", 0.84))
    assert (0.7, "o", "white") in lines
    assert ([pytest.approx(0.838), pytest.approx(0.862)], "-", None) in lines
    assert ([0.84, 0.84], "-", None) in lines
    assert sum(face == "white" for *_, face in lines) == 1


def test_seeds_are_named_where_there_are_several(drawn: Any) -> None:
    texts, _ = drawn(row("a", 0.9), row("a", 0.8, seed=1), row("b", 0.7, prompts="plain"))
    assert {"a, seed 0", "a, seed 1", "b [plain]"} <= set(texts)


def test_of_many_published_rows_the_best_stand_and_the_heading_says_so(drawn: Any) -> None:
    many = [published(f"p{i}", 0.8 + i / 100) for i in range(6)]
    few_labels = [published("one percent", 0.6, fraction=0.01)]
    texts, _ = drawn(*many, *few_labels)
    assert texts[0] == "linear probe, 100% of the labels (4 best of 6 published)"
    assert texts[1::2] == ["p5", "p4", "p3", "p2"]
    assert not {"p1", "p0", "one percent"} & set(texts)


def test_published_rows_of_few_labels_stand_beside_entries_of_as_many(drawn: Any) -> None:
    texts, _ = drawn(row("ours", 0.7, fraction=0.01), published("paper", 0.6, fraction=0.01))
    assert "paper" in texts


def test_the_picture_is_1400_pixels_wide_whatever_its_rows(tmp_path: Path) -> None:
    for n in (1, 30):
        benchmark_figure(tmp_path / "x.png", pd.DataFrame([row(f"a{i}", 0.8) for i in range(n)], columns=list(COLUMNS)), "PTB-XL")
        with Image.open(tmp_path / "x.png") as image:
            assert image.width == 1400


def judge(workspace: Workspace, name: str, value: float, access: Access = Access.OPEN) -> Output:
    """An entry with made-up numbers."""
    entry, question = Entry("external", name, {}), Question("ptb_xl", "super", "linear_probe")

    def build(folder: Path) -> Built:
        numbers = {
            "low": value - 0.01,
            "high": value + 0.01,
            "prompts": "",
            "n_records": 9,
            "n_patients": 9,
            "n_classes": 5,
            "n_undefined": 0,
        }
        metrics = ("macro_auroc", "macro_auprc", "macro_auroc_90_by_record", "sample_f_at_validation_f_max")
        rows = [{"metric": m, "arm": "pretrained", "value": value, "printed": "0.9(1)", **numbers} for m in metrics]
        pd.DataFrame(rows).to_parquet(folder / "metrics.parquet")
        facts = {"entry": {"source": ""}, "label": name, "question": vars(question), "kind": "external"}
        return Built(1, facts | {"n_labelled_test": 9, "saw_test_patients": None})

    return workspace.publish(entry.key(question), build, code_version="1", access=access)


def test_the_table_holds_every_entry_is_made_once_and_follows_them(tmp_path: Path) -> None:
    workspace, dataset = Workspace(tmp_path), get_dataset("ptb_xl")
    first = make_benchmark(workspace, dataset)
    assert make_benchmark(workspace, dataset).reused
    judged = judge(workspace, "mine", 0.9)
    second = make_benchmark(workspace, dataset)
    assert (second.reused, second.rows) == (False, first.rows + 1)
    assert second.manifest["upstream"] == {str(judged.key): judged.data_version}
    assert workspace.current(judged.key) is not None, "an entry's folder lies beside the table's"
    text = second.path("benchmark.md").read_text()
    assert "| mine | linear probe |" in text
    assert text == to_markdown(pd.read_parquet(second.path("benchmark.parquet")), "ptb_xl")
    assert text == to_markdown(benchmark_table(workspace, "ptb_xl", [judged]), "ptb_xl")


def test_the_table_is_as_restricted_as_its_entries(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    judge(workspace, "mine", 0.9, Access.CREDENTIALED)
    assert make_benchmark(workspace, get_dataset("ptb_xl")).access is Access.CREDENTIALED


def test_other_labels_are_said_in_a_table_made_anew(tmp_path: Path) -> None:
    workspace, dataset = Workspace(tmp_path), get_dataset("ptb_xl")
    judge(workspace, "mine", 0.9)
    assert "earlier version" not in make_benchmark(workspace, dataset).path("benchmark.md").read_text()
    workspace.publish(Key(("labels", "ptb_xl"), "super"), lambda _: Built(1), code_version="1", access=Access.OPEN)
    assert "judged on an earlier version of the labels" in make_benchmark(workspace, dataset).path("benchmark.md").read_text()


def test_without_entries_and_published_numbers_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nothing has been judged on wesad yet"):
        make_benchmark(Workspace(tmp_path), get_dataset("wesad"))
    assert not list(tmp_path.iterdir())
