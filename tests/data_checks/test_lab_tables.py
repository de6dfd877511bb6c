"""Faults planted in lab results and hospital stays are found, part by part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from assets.cleaned import make_cleaned
from assets.dataset import get_dataset
from assets.outputs import Output, Workspace
from assets.raw import make_raw
from data_checks import lab_tables
from data_checks.checks import run_checks
from data_checks.context import CheckContext
from data_checks.findings import CheckError
from data_checks.lab_tables import check_lab_tables


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, Output]:
    monkeypatch.setenv("EINTHOVEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EINTHOVEN_DATASET_MIMIC_IV", str(tmp_path / "mimic_iv"))
    monkeypatch.setattr(lab_tables, "_PART_ROWS", 200)
    found = get_dataset("mimic_iv")
    found.make_fixture(tmp_path / "mimic_iv")
    workspace = Workspace(tmp_path / "home")
    dataset = found(tmp_path / "mimic_iv")
    assert all(v.passed for v in run_checks(workspace, make_raw(workspace, dataset, print)))
    return workspace, make_cleaned(workspace, dataset, "labs", print)


def edit(output: Output, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = output.path(name)
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def judge(workspace: Workspace, output: Output) -> tuple[str, list[str]]:
    context = CheckContext(workspace, output, "index")
    return check_lab_tables(context), context.findings.problems


def test_untouched_tables_pass_in_parts(labs: tuple[Workspace, Output]) -> None:
    said, problems = judge(*labs)
    assert not problems
    assert said == f"{labs[1].rows} lab results of {labs[1].facts['n_encounters']} hospital stays are as declared"
    assert labs[1].rows > 400, "more than two parts"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("labs.parquet", lambda f: f.assign(patient_id=f["patient_id"].where(f.index != 450, "mimic:stranger")), "the patient is one of"),
        ("labs.parquet", lambda f: f.assign(charted_at=f["charted_at"].where(f.index != 3, "12.3.2180")), "charted_at is an ISO 8601 time"),
        ("labs.parquet", lambda f: f.assign(item_id=f["item_id"].where(f.index != 9, "")), "every result names its item"),
        ("labs.parquet", lambda f: f.iloc[1:], "rows, the tables"),
        ("labs.parquet", lambda f: f.drop(columns="unit"), "every declared column is there"),
        ("encounters.parquet", lambda f: pd.concat([f, f.iloc[:1]]), "no encounter id appears twice"),
        ("encounters.parquet", lambda f: f.assign(admitted_at="yesterday"), "admitted_at is an ISO 8601 time"),
    ],
)
def test_planted_faults(labs: tuple[Workspace, Output], name: str, change: Callable[[pd.DataFrame], pd.DataFrame], said: str) -> None:
    workspace, output = labs
    edit(output, name, change)
    assert any(said in problem for problem in judge(workspace, output)[1])


def test_a_torn_table_is_a_typed_error(labs: tuple[Workspace, Output]) -> None:
    workspace, output = labs
    path = output.path("labs.parquet")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckError, match=r"labs\.parquet cannot be read as a table"):
        judge(workspace, output)
