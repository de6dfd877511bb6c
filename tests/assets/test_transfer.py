"""Transfer across datasets: the mapping tables, the averaged AUROC, and the whole stage from fixtures with an encoder of a few steps."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.cleaned import make_cleaned
from assets.compute import Compute
from assets.dataset import get_dataset
from assets.encoders import make_encoder
from assets.labels import make_labels
from assets.outputs import Built, Key, Output, Workspace
from assets.prompts import make_prompts
from assets.raw import make_raw
from assets.reports import make_reports
from assets.scoring import GAIN
from assets.settings import Settings
from assets.transfer import find_data, make_transfer, read_tables, restricted, transfers
from assets.transfer_table import score_transfer, to_markdown
from assets.transfer_tasks import COLUMNS, DIRECTIONS, HOMES, PUBLISHED, prompts_of
from assets.verdicts import BLOCKING, Verdict, save
from data_checks.checks import run_check, run_checks
from models.predictions import Origin, Predictions, write_predictions
from models.registry import get_spec

NOWHERE = Path("nowhere")
CONTEXT: Any = SimpleNamespace(log=logging.getLogger("transfer"))
STORES = {"ptb_xl": "native", "cpsc2018": "native_100hz", "sph": "native_100hz"}


class InProcess(Compute):
    """Runs a job at once."""

    def run(self, context: dg.AssetExecutionContext, job_file: Path) -> dict[str, Any]:
        from models.jobs import read_job
        from models.progress import Progress
        from models.train import run

        done = run(read_job(job_file), Progress(0))
        assert done is not None
        return done


def classes_of(task: str) -> set[str]:
    return set(get_dataset(HOMES[task])(NOWHERE).task(task).classes)


# ---- facts


@pytest.mark.parametrize("name", DIRECTIONS)
def test_every_class_of_a_table_is_one_of_its_tasks(name: str) -> None:
    direction = DIRECTIONS[name]
    assert set(direction.covers) <= classes_of(direction.target_task)
    assert {c for sources in direction.covers.values() for c in sources} <= classes_of(direction.source_task)
    assert all(direction.covers.values())


def test_tables_are_the_specified_ones() -> None:
    """Counted by hand in MERL's tables 11 to 13."""
    assert list(DIRECTIONS) == [
        *("super_to_icbeb", "super_to_csn_exact", "super_to_csn_published", "icbeb_to_super", "icbeb_to_csn_exact"),
        *("icbeb_to_csn_published", "csn_exact_to_super", "csn_published_to_super", "csn_exact_to_icbeb", "csn_published_to_icbeb"),
    ]
    judged = {name: len(d.covers) for name, d in DIRECTIONS.items() if "published" not in name}
    assert list(judged.values()) == [6, 16, 3, 11, 5, 9]
    assert "STDD" not in DIRECTIONS["super_to_csn_exact"].covers
    assert not {"HYP", "MI"} & set(DIRECTIONS["icbeb_to_super"].covers)
    assert DIRECTIONS["icbeb_to_csn_exact"].covers["STE"] == ("STE", "STD")
    assert DIRECTIONS["csn_exact_to_icbeb"].covers["STD"] == ("STE", "STTC", "STTU", "STDD")
    for name, direction in DIRECTIONS.items():
        source, target = name.split("_to_")
        back = DIRECTIONS[f"{target}_to_{source}"].covers
        assert {(s, t) for t, sources in direction.covers.items() for s in sources} == {(s, t) for s, ts in back.items() for t in ts}


def test_published_rows_have_the_means_that_their_papers_state() -> None:
    means = {row.model: 100 * sum(row.values) / len(COLUMNS) for row in PUBLISHED}
    assert len(PUBLISHED) == 12
    assert means["MERL"] == pytest.approx(79.42, abs=0.01)
    assert means["MELP"] == pytest.approx(79.58, abs=0.01)
    assert means["ST-MEM"] == pytest.approx(72.63, abs=0.01)


def test_every_judged_class_has_a_prompt_in_our_sets() -> None:
    from assets.text.prompts import prompt_sets

    sets = prompt_sets({})
    for direction in DIRECTIONS.values():
        names = dict(get_dataset(direction.target)(NOWHERE).task(direction.target_task).class_names)
        for name, prompts in sets.items():
            found = prompts_of(name, prompts, direction.target_task, names)
            assert set(direction.covers) <= set(found)
    described = prompts_of("einthoven", sets["einthoven"], "icbeb", {"VPC": "ventricular premature contraction", "XYZ": "something else"})
    assert described["VPC"] == sets["einthoven"]["PVC"]
    assert described["XYZ"] == "something else"
    assert prompts_of("theirs", {"VPC": "v"}, "icbeb", {"VPC": "x", "PAC": "y"}) == {"VPC": "v"}


# ---- numbers


def invented(direction: str, arm: str, seed: int, n: int = 60, protocol: str = "transfer_probe") -> Predictions:
    rng = np.random.default_rng(seed)
    classes = tuple(DIRECTIONS[direction].covers)
    labels_NC = (rng.random((n, len(classes))) < 0.4).astype(np.int8)
    scores_NC = (rng.normal(size=labels_NC.shape) + (arm == "pretrained") * labels_NC).astype(np.float32)
    origin = Origin("synthetic", direction, "merl", "tiny", protocol, arm, 0, "0" * 64, 1.0)
    ids = np.array([f"t{i}" for i in range(n)])
    return Predictions(origin, classes, ids, np.array([f"q{i // 2}" for i in range(n)]), np.full(n, 10), scores_NC, labels_NC)


def pairs_won(scores_N: Any, labels_N: Any) -> float:
    """AUROC by its definition: how often a positive scores above a negative, ties half."""
    won = [1.0 if p > n else 0.5 if p == n else 0.0 for p in scores_N[labels_N == 1] for n in scores_N[labels_N == 0]]
    return sum(won) / len(won)


def test_the_average_is_over_covered_classes_that_are_defined() -> None:
    table = invented("super_to_icbeb", "pretrained", 1)
    table.labels_NC[:, 2] = 0
    rows = score_transfer([table], {"cpsc2018": (10,)}, {table.origin.slug: 0}, n_resamples=20)
    by_hand = [pairs_won(table.scores_NC[:, c], table.labels_NC[:, c]) for c in range(6) if c != 2]
    macro = next(r for r in rows if r["metric"] == "macro_auroc")
    assert macro["value"] == pytest.approx(sum(by_hand) / 5, abs=1e-9)
    assert (macro["n_classes"], macro["n_undefined"]) == (5, 1)
    assert f"not defined on these records: {table.classes[2]}" in macro["note"]
    assert macro["low"] <= macro["value"] <= macro["high"]


def test_the_gain_is_the_difference_to_the_twin_on_the_same_records() -> None:
    ours, twin = invented("icbeb_to_super", "pretrained", 2), invented("icbeb_to_super", "random_init", 3)
    twin = dataclasses.replace(twin, labels_NC=ours.labels_NC)
    rows = score_transfer([ours, twin], {"ptb_xl": (10,)}, {t.origin.slug: 0 for t in (ours, twin)}, n_resamples=20)
    macro = {r["arm"]: r["value"] for r in rows if r["metric"] == "macro_auroc"}
    gain = next(r for r in rows if r["metric"] == GAIN)
    assert gain["value"] == pytest.approx(macro["pretrained"] - macro["random_init"], abs=1e-9)


def test_the_table_has_six_columns_in_the_published_order_and_every_published_row() -> None:
    table = invented("csn_exact_to_super", "pretrained", 4)
    rows = score_transfer([table], {"ptb_xl": (10,)}, {table.origin.slug: 0}, n_resamples=20)
    text = to_markdown(rows, {"super_to_icbeb": "there is no store"})
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert lines[0][3:] == [*(c.replace("_to_", " > ") for c in COLUMNS), "mean"]
    assert {len(line) for line in lines} == {10}
    own = [line for line in lines if line[0].startswith("merl")]
    assert [line[2] for line in own] == ["exact", "published"]
    assert own[0][3:7] == ["-"] * 4 and own[0][7].startswith(f"{100 * rows[0]['value']:.2f} (")
    assert own[1][3:9] == ["-"] * 6
    melp = next(line for line in lines if line[0].startswith("MELP"))
    assert melp[3:] == ["87.75", "74.11", "77.89", "80.32", "74.67", "82.72", "79.58"]
    assert "- not judged, super_to_icbeb: there is no store" in text


def test_a_zero_shot_table_is_cut_to_the_covered_classes() -> None:
    scored = invented("csn_exact_to_icbeb", "pretrained", 5)
    scored = dataclasses.replace(
        scored, origin=dataclasses.replace(scored.origin, task="icbeb", dataset="cpsc2018", fraction=None, prompts="plain")
    )
    table = restricted(scored, DIRECTIONS["super_to_icbeb"], "synthetic")
    assert table is not None
    assert table.classes == ("NORM", "1AVB", "CRBBB", "CLBBB", "STE", "STD")
    np.testing.assert_array_equal(table.scores_NC[:, 3], scored.scores_NC[:, scored.classes.index("CLBBB")])
    np.testing.assert_array_equal(table.labels_NC[:, 3], scored.labels_NC[:, scored.classes.index("CLBBB")])
    assert table.origin.slug == "super_to_icbeb-transfer_zero_shot-pretrained-plain"
    alone = dataclasses.replace(scored, classes=tuple(f"x{c}" for c in scored.classes))
    assert restricted(alone, DIRECTIONS["super_to_icbeb"], "synthetic") is None


# ---- the stage


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the three datasets' fixtures at 100 Hz and MERL tiny, trained on PTB-XL's for a few steps."""
    root = tmp_path_factory.mktemp("transfer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EINTHOVEN_HOME", str(root / "home"))
        patch.setattr("assets.transfer.N_RESAMPLES", 20)
        workspace = Workspace(root / "home")
        for name, recipe in STORES.items():
            dataset = get_dataset(name)
            dataset.make_fixture(root / "home" / "source" / name)
            source = dataset(root / "home" / "source" / name)
            trusted(workspace, make_raw(workspace, source, print))
            trusted(workspace, make_cleaned(workspace, source, recipe, print))
            for task in (t for t, home in HOMES.items() if home == name):
                trusted(workspace, make_labels(workspace, source, task))
            if name == "ptb_xl":
                trusted(workspace, make_reports(workspace, source, "english"))
        trusted(workspace, make_prompts(workspace, {}))
        options = get_spec("merl").configure("tiny", max_steps=4, batch_size=16, validate_every=4, checkpoint_every=4, log_every=4)
        trusted(workspace, make_encoder(CONTEXT, Settings(root / "home"), InProcess(), get_spec("merl"), "ptb_xl", "tiny", 0, options))
        trusted(workspace, transferred(root / "home"))
    return root / "home"


def trusted(workspace: Workspace, output: Output) -> None:
    """Give an output the verdicts that its checks, which have tests of their own, would."""
    for check in BLOCKING[output.key.stage]:
        save(workspace, output, Verdict(check, True, "as declared"))


def passed(workspace: Workspace, output: Output) -> None:
    verdicts = run_checks(workspace, output)
    assert all(v.passed for v in verdicts), [v.message for v in verdicts]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.transfer.N_RESAMPLES", 20)


def transferred(home: Path, method: str = "merl", dataset: str = "ptb_xl") -> Output:
    return make_transfer(CONTEXT, Settings(home), InProcess(), get_spec(method), dataset)


@pytest.fixture
def whole(built: Path, home: Path) -> Path:
    """A copy of the workspace that a test may damage."""
    shutil.rmtree(home)
    shutil.copytree(built, home)
    return home


def test_every_direction_is_judged_in_both_arms_both_ways(built: Path) -> None:
    output = Workspace(built).require(Key(("transfer", "merl"), "ptb_xl"))
    assert output.facts["skipped"] == {}
    assert output.facts["saw_test_patients"] == 0
    tables = read_tables(output.folder)
    ways = {(t.origin.protocol, t.origin.prompts) for t in tables}
    assert ways == {("transfer_probe", None), ("transfer_zero_shot", "einthoven"), ("transfer_zero_shot", "plain")}
    assert len(tables) == len(DIRECTIONS) * 2 * 3
    frame = pd.read_parquet(output.path("metrics.parquet"))
    assert set(frame["dataset"]) == {"ptb_xl"} and set(frame["saw_test_patients"]) == {0}
    defined = frame[(frame["metric"] == "macro_auroc") & frame["value"].notna()]
    assert len(defined) > 40
    into_super = frame[(frame["task"] == "icbeb_to_super") & (frame["metric"] == "macro_auroc")]
    assert into_super["note"].str.contains("pretrained on the target's training folds").all()
    assert "| MELP (published) |" in output.path("transfer.md").read_text()


def test_zero_shot_scores_do_not_depend_on_the_source(built: Path) -> None:
    output = Workspace(built).require(Key(("transfer", "merl"), "ptb_xl"))
    tables = {t.origin.slug: t for t in read_tables(output.folder)}
    one, other = (tables[f"{s}_to_icbeb-transfer_zero_shot-pretrained-plain"] for s in ("super", "csn_exact"))
    for label in set(one.classes) & set(other.classes):
        np.testing.assert_array_equal(one.scores_NC[:, one.classes.index(label)], other.scores_NC[:, other.classes.index(label)])


def test_the_same_question_is_answered_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EINTHOVEN_HOME", str(built))
    assert transferred(built).reused


def test_what_is_not_there_is_skipped_with_its_reason(whole: Path) -> None:
    shutil.rmtree(whole / "cleaned" / "cpsc2018")
    shutil.rmtree(whole / "labels" / "sph" / "csn_published")
    output = transferred(whole)
    skipped = output.facts["skipped"]
    assert set(DIRECTIONS) - set(skipped) == {"super_to_csn_exact", "csn_exact_to_super"}
    assert skipped["super_to_icbeb"] == "cleaned/cpsc2018[native_100hz] has not been made yet; materialise it first"
    assert "labels/sph[csn_published] has not been made yet" in skipped["super_to_csn_published"]
    assert "not judged, super_to_icbeb: cleaned/cpsc2018" in output.path("transfer.md").read_text()
    passed(Workspace(whole), output)


def test_what_failed_its_check_is_skipped_with_what_the_check_said(whole: Path) -> None:
    workspace = Workspace(whole)
    save(workspace, workspace.require(Key(("labels", "cpsc2018"), "icbeb")), Verdict("labels", False, "two labels are 7"))
    skipped = transferred(whole).facts["skipped"]
    assert "two labels are 7" in skipped["icbeb_to_super"] and "super_to_csn_exact" not in skipped


def test_without_any_target_there_is_an_output_that_says_so(whole: Path) -> None:
    for name in STORES:
        shutil.rmtree(whole / "labels" / name)
    output = transferred(whole)
    assert output.rows == 0 and set(output.facts["skipped"]) == set(DIRECTIONS)
    passed(Workspace(whole), output)


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ({"n_samples": 2500}, "holds windows of 1000 samples, the encoder reads 2500"),
        ({"fs_hz": 250.0}, "no recipe prepares cpsc2018 as native does at 250 Hz"),
        ({"leads": ["I", "PLETH"]}, "has no channel PLETH, which the encoder reads"),
    ],
)
def test_a_store_that_does_not_fit_is_named(whole: Path, reads: dict[str, Any], message: str) -> None:
    workspace = Workspace(whole)
    encoder = workspace.require(Key(("encoder", "merl"), "ptb_xl"))
    path = encoder.path("bundle/config.json")
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"input": config["input"] | reads}))
    _, skipped = find_data(workspace, encoder)
    assert set(skipped) == set(DIRECTIONS)
    assert message in skipped["icbeb_to_csn_exact"]


def test_methods_without_ecg_or_frozen_protocols_have_no_transfer() -> None:
    spec = get_spec("merl")
    assert transfers(spec)
    assert not transfers(dataclasses.replace(spec, protocols=("finetune",)))
    assert not transfers(dataclasses.replace(spec, modalities=("image", "text")))  # type: ignore[arg-type]


# ---- the check


Spoil = Callable[[Path], None]


def judged(home: Path, spoil: Spoil) -> Verdict:
    """The verdict about the probe tables of one direction, with something changed."""
    workspace = Workspace(home)
    output = workspace.require(Key(("transfer", "merl"), "ptb_xl"))
    names = [f"super_to_icbeb-transfer_probe-{arm}-1.parquet" for arm in ("pretrained", "random_init")]
    skipped = {name: "left out here" for name in DIRECTIONS if name != "super_to_icbeb"}

    def build(folder: Path) -> Built:
        (folder / "predictions").mkdir()
        for name in names:
            shutil.copy(output.path(f"predictions/{name}"), folder / "predictions")
        frame = pd.read_parquet(output.path("metrics.parquet"))
        kept = frame[(frame["task"] == "super_to_icbeb") & (frame["protocol"] == "transfer_probe")]
        kept.reset_index(drop=True).to_parquet(folder / "metrics.parquet", index=False)
        spoil(folder)
        return Built(len(kept), {"tables": names, "skipped": skipped, "saw_test_patients": 0})

    upstream = output.manifest["upstream"]
    again = workspace.publish(output.key, build, code_version="spoiled", access=output.access, upstream=upstream)
    return run_check(workspace, again, "transfer")


def table_of(folder: Path) -> tuple[Path, Predictions]:
    from models.predictions import read_predictions

    path = folder / "predictions" / "super_to_icbeb-transfer_probe-pretrained-1.parquet"
    return path, read_predictions(path)


def swap(**fields: Callable[[Predictions], Any]) -> Spoil:
    def apply(folder: Path) -> None:
        path, table = table_of(folder)
        write_predictions(path, dataclasses.replace(table, **{name: make(table) for name, make in fields.items()}))

    return apply


def drop(folder: Path) -> None:
    table_of(folder)[0].unlink()


def edit(**cells: Any) -> Spoil:
    def apply(folder: Path) -> None:
        frame = pd.read_parquet(folder / "metrics.parquet")
        for column, value in cells.items():
            frame.loc[0, column] = value
        frame.to_parquet(folder / "metrics.parquet", index=False)

    return apply


def test_a_direction_alone_passes(whole: Path) -> None:
    assert judged(whole, lambda folder: None).passed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (swap(fold=lambda t: np.full(len(t.fold), 3)), "records with another fold than their own"),
        (swap(patient_id=lambda t: np.roll(t.patient_id, 1)), "records with another patient than their own"),
        (swap(labels_NC=lambda t: 1 - t.labels_NC), "labels that differ from the label table"),
        (swap(record_id=lambda t: np.array(["A9999", *t.record_id[1:]])), "records that cpsc2018 does not have"),
        (swap(classes=lambda t: ("PAC", *t.classes[1:])), "judges PAC; super_to_icbeb covers NORM"),
        (swap(origin=lambda t: dataclasses.replace(t.origin, task="super_to_mars")), "which is no direction"),
        (swap(scores_NC=lambda t: -t.scores_NC), "recomputed from the table is the stored one"),
        (drop, "arms random_init instead of pretrained and random_init"),
        (edit(value=1.5), "a metric lies between 0 and 1"),
        (edit(saw_test_patients=3), "metrics that misstate how many test patients were trained on"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_named(whole: Path, spoil: Spoil, message: str) -> None:
    verdict = judged(whole, spoil)
    assert not verdict.passed
    assert message in verdict.message + json.dumps(verdict.details)


def test_a_test_patient_that_was_trained_on_stops_it(whole: Path) -> None:
    """A recording of the target's test fold is a patient of the encoder's training folds under the same name."""
    workspace = Workspace(whole)
    raw = workspace.require(Key(("raw", "ptb_xl")))
    target = workspace.require(Key(("raw", "cpsc2018")))
    others = pd.read_parquet(target.path("records.parquet"))
    guilty = others[others["fold"] == 10]["patient_id"].iloc[0]
    path = raw.path("records.parquet")
    records = pd.read_parquet(path)
    records.loc[records["fold"] == 1, "patient_id"] = guilty
    records.to_parquet(path, index=False)
    verdict = judged(whole, lambda folder: None)
    assert not verdict.passed
    assert "test patients that were trained on" in verdict.message and "(1 patients)" in verdict.message
    shutil.rmtree(whole / "transfer")
    assert transferred(whole).facts["saw_test_patients"] == 1
