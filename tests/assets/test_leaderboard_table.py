"""The leaderboard's rows: what stands beside what, and what never does."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from assets.leaderboard_table import COLUMNS, LeaderboardError, build_leaderboard
from assets.leaderboard_text import to_markdown
from assets.scoring import GAIN
from models.spec import GateRule, MethodSpec, Paper, Published
from models.types import Modality


def spec(name: str, title: str, *, published: tuple[Published, ...] = (), baseline: bool = False) -> MethodSpec:
    return MethodSpec(
        name=name,
        title=title,
        version="1",
        paper=Paper("t", "v", "u"),
        modalities=(Modality.ECG,),
        config=object,
        presets={},
        protocols=("linear_probe",),
        tasks=("super",),
        gate=GateRule("super", "linear_probe"),
        published=published,
        baseline=baseline,
    )


PUBLISHED = (
    Published("MERL ResNet18", "ptb_xl/super", "linear_probe", 0.8239, "MELP, Table 2", fraction=0.01),
    Published("MERL ResNet18", "ptb_xl/super", "linear_probe", 0.8867, "MELP, Table 2", fraction=1.0),
    Published("MERL ResNet18", "ptb_xl/super", "linear_probe_crops", 0.887, "another benchmark", fraction=1.0),
    Published("MERL ResNet18 + CKEPE", "ptb_xl/super", "zero_shot", 0.742, "MELP, Table 3"),
    Published("SimCLR", "ptb_xl/super", "linear_probe", 0.7353, "MELP, Table 2", fraction=1.0),
    Published("SimCLR", "sph/csn_published", "linear_probe", 0.7343, "MELP, Table 2", fraction=1.0),
)
SPECS = [spec("merl", "MERL", published=PUBLISHED), spec("supervised", "Supervised from scratch", baseline=True)]


def row(value: float, method: str = "merl", protocol: str = "linear_probe", fraction: float = 1.0, **changes: object) -> dict[str, object]:
    return {
        "dataset": "ptb_xl",
        "task": "super",
        "method": method,
        "preset": "tiny",
        "protocol": protocol,
        "arm": "pretrained",
        "fraction": fraction,
        "prompts": "",
        "seed": 0,
        "metric": "macro_auroc",
        "value": value,
        "low": value - 0.01,
        "high": value + 0.01,
        "n_records": 471,
        "n_patients": 440,
        "n_classes": 5,
        "n_undefined": 0,
        "interval": "95% patient bootstrap, 1000 resamples",
        "note": "",
        "data_version": f"version of {method}",
    } | changes


METRICS = [
    row(0.80),
    row(0.70, arm="random_init"),
    row(0.10, metric=GAIN),
    row(0.60, metric="macro_auprc"),
    row(0.72, fraction=0.01),
    row(0.65, protocol="zero_shot", fraction=math.nan, prompts="einthoven"),
    row(0.55, protocol="zero_shot", fraction=math.nan, prompts="plain"),
    row(0.50, protocol="zero_shot", fraction=math.nan, prompts="plain", arm="random_init"),
    row(0.9, metric="auroc:NORM"),
    row(0.85, "supervised", "finetune"),
    row(0.60, "supervised", "finetune", 0.01),
]


def build(rows: list[dict[str, object]]) -> pd.DataFrame:
    return build_leaderboard(pd.DataFrame(rows), SPECS)


def find(table: pd.DataFrame, protocol: str, fraction: float | None = None, prompts: str = "", method: str = "merl") -> pd.Series:
    same = table["fraction"].isna() if fraction is None else table["fraction"] == fraction
    found = table[
        (table["kind"] == "ours") & (table["method"] == method) & (table["protocol"] == protocol) & same & (table["prompts"] == prompts)
    ]
    assert len(found) == 1
    return found.iloc[0]


def test_a_row_stands_beside_its_twin_gain_baseline_and_published_number() -> None:
    table = build(METRICS)
    assert list(table.columns) == COLUMNS
    found = find(table, "linear_probe", 1.0)
    assert (found["value"], found["random_init"], found["gain"], found["macro_auprc"]) == (0.80, 0.70, 0.10, 0.60)
    assert (found["gain_low"], found["gain_high"]) == pytest.approx((0.09, 0.11))
    assert (found["supervised"], found["supervised_method"], found["supervised_fraction"]) == (0.85, "supervised", 1.0)
    assert (found["published"], found["published_source"], found["published_protocol"]) == (0.8867, "MELP, Table 2", "linear_probe")
    assert (found["data_version"], found["n_records"], found["n_patients"]) == ("version of merl", 471, 440)


def test_fractions_and_prompt_sets_are_not_mixed() -> None:
    table = build(METRICS)
    small = find(table, "linear_probe", 0.01)
    assert (small["published"], small["supervised"], small["supervised_fraction"]) == (0.8239, 0.60, 0.01)
    assert math.isnan(small["random_init"]) and math.isnan(small["gain"])
    prompted, plain = find(table, "zero_shot", prompts="einthoven"), find(table, "zero_shot", prompts="plain")
    assert math.isnan(prompted["random_init"])
    assert plain["random_init"] == 0.50
    assert prompted["published"] == plain["published"] == 0.742
    assert (prompted["supervised"], prompted["supervised_fraction"]) == (0.85, 1.0)


def test_a_baseline_on_other_records_is_not_shown_and_none_beside_itself() -> None:
    rows = [row(0.8), row(0.85, "supervised", "finetune", n_records=470)]
    assert math.isnan(find(build(rows), "linear_probe", 1.0)["supervised"])
    assert math.isnan(find(build(METRICS), "finetune", 1.0, method="supervised")["supervised"])


def test_only_published_numbers_on_our_tasks_are_context() -> None:
    table = build(METRICS)
    others = table[table["kind"] == "published"]
    assert sorted(zip(others["method"], others["task"], others["protocol"], others["published"], strict=True)) == [
        ("MERL ResNet18", "super", "linear_probe_crops", 0.887),
        ("SimCLR", "super", "linear_probe", 0.7353),
    ]
    assert others["value"].isna().all()
    synthetic = build([row(0.8, dataset="synthetic")])
    assert (synthetic["kind"] == "ours").all()
    assert synthetic["published"].isna().all()


def test_order_is_by_task_protocol_fraction_and_then_best_first() -> None:
    table = build([*METRICS, row(0.9, task="rhythm", seed=1), row(0.95, task="rhythm")])
    ours = table[table["kind"] == "ours"]
    assert list(zip(ours["task"], ours["protocol"], ours["value"], strict=True)) == [
        ("rhythm", "linear_probe", 0.95),
        ("rhythm", "linear_probe", 0.9),
        ("super", "zero_shot", 0.65),
        ("super", "zero_shot", 0.55),
        ("super", "linear_probe", 0.72),
        ("super", "linear_probe", 0.80),
        ("super", "finetune", 0.60),
        ("super", "finetune", 0.85),
    ]
    assert build(list(reversed(METRICS))).equals(build(METRICS))


def test_whether_test_patients_were_seen_is_told_or_not_recorded() -> None:
    assert pd.isna(find(build([row(0.8)]), "linear_probe", 1.0)["saw_test_patients"])
    seen = find(build([row(0.8, saw_test_patients=True)]), "linear_probe", 1.0)
    assert seen["saw_test_patients"]
    assert "| not recorded |" in to_markdown(build([row(0.8)]))
    assert "| yes |" in to_markdown(build([row(0.8, saw_test_patients=True)]))


def asked(metric: str, value: float, arm: str = "pretrained", **changes: object) -> dict[str, object]:
    about = {"task": "retrieval", "protocol": "retrieval", "direction": "text->ecg", "fraction": math.nan, "chance": 0.02, "arm": arm}
    return row(value, metric=metric, note="among 52 candidates; 3 records lack a part and did not ask", **(about | changes))


ASKED = [
    asked("recall@1", 0.2),
    asked("recall@1", 0.03, "random_init"),
    asked("recall@1_gain_over_random_init", 0.17),
    asked("recall@5", 0.4),
    asked("recall@1", 0.3, direction="ecg->text"),
    asked("median_rank", 7.0),
    asked("bleu_1", 0.25, task="reports", protocol="generation", direction=""),
]


def test_retrieval_and_reports_stand_in_rows_of_their_own() -> None:
    mine = (Published("MERL", "ptb_xl/reports", "generation", 0.13, "a paper", metric="bleu_1"), *PUBLISHED)
    mine += (Published("PULSE", "ptb_xl/reports", "generation", 0.05, "a paper", metric="bleu_1"),)
    frame = pd.DataFrame([*METRICS, *ASKED])
    table = build_leaderboard(frame, [spec("merl", "MERL", published=mine), SPECS[1]])
    ours = table[(table["kind"] == "ours") & (table["metric"] != "macro_auroc")]
    assert list(zip(ours["task"], ours["direction"], ours["metric"], strict=True)) == [
        ("reports", "", "bleu_1"),
        ("retrieval", "ecg->text", "recall@1"),
        ("retrieval", "text->ecg", "recall@1"),
        ("retrieval", "text->ecg", "recall@5"),
    ]
    first = ours[(ours["metric"] == "recall@1") & (ours["direction"] == "text->ecg")].iloc[0]
    assert (first["value"], first["random_init"], first["gain"], first["chance"]) == (0.2, 0.03, 0.17, 0.02)
    assert math.isnan(first["supervised"]) and math.isnan(first["macro_auprc"])
    assert ours.iloc[0]["published"] == 0.13
    assert "PULSE" in set(table[table["kind"] == "published"]["method"])
    before = build(METRICS)
    pd.testing.assert_frame_equal(table[table["task"] == "super"].reset_index(drop=True), before, check_dtype=False)
    text = to_markdown(table)
    assert (
        "| MERL | tiny | retrieval | all | text->ecg | recall@1 | 0.200 (0.190 to 0.210) | 0.020 | 0.030 (0.020 to 0.040) | +0.170" in text
    )
    assert "| 471 of 440 patients, among 52 candidates |" in text
    assert "| PULSE | generation | bleu_1 | 0.050 | a paper |" in text
    assert "nan" not in text.casefold()


def test_evaluations_from_before_there_was_retrieval_keep_their_place() -> None:
    old, new = pd.DataFrame(METRICS), pd.DataFrame(ASKED)
    table = build_leaderboard(pd.concat([old, new], ignore_index=True), SPECS)
    assert find(table, "linear_probe", 1.0)["gain"] == 0.10
    assert (table[table["metric"] == "macro_auroc"]["direction"] == "").all()


def test_sets_of_channels_stand_in_rows_of_their_own() -> None:
    """With twins of their own, without published numbers and baselines of all channels; old metrics know no sets."""
    shown = [row(0.7, channels="II"), row(0.5, arm="random_init", channels="II"), row(0.2, metric=GAIN, channels="II")]
    table = build_leaderboard(pd.concat([pd.DataFrame(METRICS), pd.DataFrame(shown)], ignore_index=True), SPECS)
    ours = table[
        (table["method"] == "merl") & (table["protocol"] == "linear_probe") & (table["fraction"] == 1.0) & (table["kind"] == "ours")
    ]
    assert list(zip(ours["channels"], ours["value"], ours["random_init"], ours["gain"], strict=True)) == [
        ("", 0.8, 0.7, 0.1),
        ("II", 0.7, 0.5, 0.2),
    ]
    assert ours["published"].notna().tolist() == [True, False]
    assert ours["supervised"].notna().tolist() == [True, False]
    assert "| linear_probe | 100% |  | II | 0.700" in to_markdown(table)


def test_markdown_names_values_intervals_and_sources() -> None:
    text = to_markdown(build(METRICS))
    assert "## ptb_xl / super" in text
    assert "471 test records of 440 patients, 5 classes" in text
    assert "| 0.800 (0.790 to 0.810) | 0.700 (0.690 to 0.710) | +0.100 (+0.090 to +0.110) | 0.850 (0.840 to 0.860) |" in text
    assert "0.887 (MERL ResNet18; MELP, Table 2)" in text
    assert "0.850 (0.840 to 0.860), 100% of labels" in text
    assert "| SimCLR | linear_probe | 100% | 0.735 | MELP, Table 2 |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {14, 6}
    assert "nan" not in text.casefold()


def test_table_survives_parquet(tmp_path: Path) -> None:
    table = build(METRICS)
    table.to_parquet(tmp_path / "leaderboard.parquet", index=False)
    assert to_markdown(pd.read_parquet(tmp_path / "leaderboard.parquet")) == to_markdown(table)


def test_no_rows_make_an_empty_table() -> None:
    empty = build_leaderboard(pd.DataFrame(METRICS).iloc[:0], SPECS)
    assert list(empty.columns) == COLUMNS
    assert "Nothing has been evaluated yet" in to_markdown(empty)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{k: v for k, v in row(0.8).items() if k != "data_version"}], "lack the columns data_version"),
        ([row(0.8, "unheard_of")], "metrics of unheard_of"),
        ([row(0.8), row(0.81)], "two rows for linear_probe, macro_auroc"),
    ],
)
def test_faulty_metrics_are_refused(rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(LeaderboardError, match=message):
        build(rows)
