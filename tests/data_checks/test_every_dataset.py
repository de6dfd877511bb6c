"""Every registered dataset goes from its imitation through the data stages, and all blocking checks pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.cleaned import make_cleaned, recipes_for
from assets.dataset import get_dataset, list_datasets
from assets.labels import make_labels
from assets.outputs import Output, Workspace
from assets.questions import make_questions
from assets.raw import make_raw
from assets.reports import make_reports
from data_checks.checks import run_checks
from models.registry import get_recipe


@pytest.mark.parametrize("name", list_datasets())
def test_all_stages_of_a_dataset_pass_their_checks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = get_dataset(name)
    workspace = Workspace(tmp_path / "home")
    monkeypatch.setenv("EINTHOVEN_HOME", str(tmp_path / "home"))

    def checked(output: Output) -> Output:
        for verdict in run_checks(workspace, output):
            assert verdict.passed, f"{output.key}: {verdict.check}: {verdict.message}"
        return output

    for each in (*found.companions, name):
        get_dataset(each).make_fixture(tmp_path / each)
        monkeypatch.setenv(f"EINTHOVEN_DATASET_{each.upper()}", str(tmp_path / each))
        checked(make_raw(workspace, get_dataset(each)(tmp_path / each), print))
    dataset = found(tmp_path / name, {each: tmp_path / each for each in found.companions})
    for recipe in {get_recipe(r).modality: r for r in reversed(recipes_for(found))}.values():
        checked(make_cleaned(workspace, dataset, recipe, print))
    for task in dataset.task_names:
        checked(make_labels(workspace, dataset, task))
    if dataset.has_reports:
        for form in ("original", "english"):
            checked(make_reports(workspace, dataset, form))
    if dataset.has_questions:
        checked(make_questions(workspace, dataset))


def test_labels_joined_from_a_companion_have_its_access_class_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "home")
    for name in ("mimic_iv_ecg", "mimic_iv"):
        monkeypatch.setenv(f"EINTHOVEN_DATASET_{name.upper()}", str(tmp_path / name))
        get_dataset(name).make_fixture(tmp_path / name)
        run_checks(workspace, make_raw(workspace, get_dataset(name)(tmp_path / name), print))
    found = get_dataset("mimic_iv_ecg")
    output = make_labels(workspace, found(tmp_path / "mimic_iv_ecg", {"mimic_iv": tmp_path / "mimic_iv"}), "mortality")
    assert (found.access, output.access) == ("open", "credentialed")
    assert set(output.manifest["upstream"]) == {"raw/mimic_iv_ecg", "raw/mimic_iv"}
