"""`einthoven challenge-score`: its table, its file, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.errors import ConfigurationError
from models.metrics.challenge_files import ChallengeFileError
from orchestration.cli import app

RECORDS = {
    "r1": ("164889003", "1,0,0", "0.9,0.2,0.1"),
    "r2": ("426783006,59118001", "0,0,1", "0.3,0.7,0.8"),
    "r3": ("55827005", "1,0,0", "0.4,0.1,0.1"),
}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("labels", "outputs"):
        (tmp_path / name).mkdir()
    for record, (codes, binary, scores) in RECORDS.items():
        (tmp_path / "labels" / f"{record}.hea").write_text(f"{record} 12 500 5000\n#Dx: {codes}\n")
        (tmp_path / "outputs" / f"{record}.csv").write_text(f"#{record}\n164889003,713427006,426783006\n{binary}\n{scores}\n")
    return tmp_path


def said(folder: Path, *more: str, year: int = 2021) -> str:
    result = CliRunner().invoke(app, ["challenge-score", str(year), str(folder / "labels"), str(folder / "outputs"), *more])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_table_names_every_number_and_class(folders: Path) -> None:
    lines = [line.split() for line in said(folders).splitlines()]
    assert ["Challenge", "2021", "3", "recordings"] in lines and ["AUROC", "1.000"] in lines
    # r1 earns 1, r2 (NSR found, RBBB missed) (1 + 0.35) / 2; right are 1 + 1.35, and always sinus rhythm (0.25 / 2) + (1.35 / 2).
    assert ["Challenge", "metric", f"{(1.675 - 0.8) / (2.35 - 0.8):.3f}"] in lines
    assert ["Accuracy", "0.333"] in lines and ["F-measure", "0.556"] in lines
    assert ["AF", "164889003", "1.000", "1.000", "0.667", "1"] in lines
    assert ["QAb", "164917005", "0"] in lines and len(lines) == 1 + 5 + 1 + 26
    assert not any("beta" in line[0] for line in lines)


def test_2020_has_its_measures_with_a_beta(folders: Path) -> None:
    text = said(folders, year=2020)
    assert "Fbeta-measure" in text and "Gbeta-measure" in text and "24" not in text
    (folders / "outputs" / "r1.csv").write_text("164889003\n1\n")
    assert "outputs of 1 of 3 recordings" in said(folders, year=2020)


def test_the_file_holds_the_same_numbers(folders: Path) -> None:
    said(folders, "--csv", str(folders / "scores.csv"))
    with (folders / "scores.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["AUROC", "AUPRC", "Accuracy", "F-measure", "Challenge metric"]
    assert [float(v) for v in rows[1]] == pytest.approx([1, 1, 1 / 3, 5 / 9, 0.875 / 1.55])
    assert rows[3] == ["class", "codes", "AUROC", "AUPRC", "F-measure", "support"] and len(rows) == 4 + 26
    assert ["CRBBB", "713427006|59118001", "1.000000000", "1.000000000", "0.000000000", "1"] in rows
    with pytest.raises(ConfigurationError, match="cannot be written"):
        said(folders, "--csv", str(folders / "nowhere" / "scores.csv"))


def test_equivalent_diagnoses_can_be_kept_apart(folders: Path) -> None:
    text = said(folders, "--separate")
    assert "equivalent diagnoses apart" in text
    assert ["RBBB", "59118001", "0.500", "0.333", "0.000", "1"] in [line.split() for line in text.splitlines()]


def test_what_cannot_be_judged_is_a_typed_error(folders: Path) -> None:
    with pytest.raises(ConfigurationError, match="2019"):
        said(folders, year=2019)
    (folders / "outputs" / "r2.csv").unlink()
    with pytest.raises(ChallengeFileError, match=r"r2\.hea has no outputs"):
        said(folders)
