"""`einthoven new` writes a method and a dataset that work, in a user's own package, found by entry point."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assets.settings import PROJECT
from models.errors import ConfigurationError
from orchestration.skeleton import write_dataset, write_method


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package as pip would have installed it: modules beside their metadata."""
    folder = tmp_path / "site" / "cardiolab"
    write_method("denoiser", folder)
    write_dataset("clinic", folder)
    notes = [(folder / f"{name}.entry_point.toml").read_text() for name in ("denoiser", "clinic")]
    assert 'denoiser = "cardiolab.denoiser"' in notes[0]
    assert 'clinic = "cardiolab.clinic"' in notes[1]
    info = tmp_path / "site" / "cardiolab-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cardiolab\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[einthoven.methods]\ndenoiser = cardiolab.denoiser\n[einthoven.datasets]\nclinic = cardiolab.clinic\n"
    )
    return tmp_path / "site"


def run(package: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(package)}, capture_output=True, text=True, check=False
    )


def test_a_method_of_ones_own_passes_the_registry_driven_tests(package: Path) -> None:
    done = run(package, "-m", "pytest", "tests/models/test_registered_methods.py", "-k", "denoiser", "-p", "no:xdist", "--no-header")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "no tests ran" not in done.stdout


def test_a_dataset_of_ones_own_passes_the_registry_driven_tests(package: Path) -> None:
    done = run(package, "-m", "pytest", "tests/assets/test_registered_datasets.py", "-k", "clinic", "-p", "no:xdist", "--no-header")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_they_are_in_the_graph_and_nothing_else_was_edited(package: Path) -> None:
    code = (
        "from orchestration.definitions import defs\n"
        "g = defs.resolve_asset_graph()\n"
        "keys = sorted(k.to_user_string() for k in g.get_all_asset_keys())\n"
        "print([k for k in keys if 'denoiser' in k or 'clinic' in k])\n"
        "import dagster as dg\n"
        "print(g.get(dg.AssetKey(['encoder', 'denoiser'])).partitions_def.get_partition_keys())\n"
    )
    done = run(package, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "'cleaned/clinic'" in done.stdout
    assert "'head/denoiser/super'" in done.stdout
    assert "'registry/denoiser'" in done.stdout
    assert {"clinic", "ptb_xl", "synthetic"} < set(ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", ["Bad-Name", "class", "1st", "Upper"])
def test_a_name_that_cannot_be_a_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a module name"):
        write_method(name, tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_dataset("clinic", tmp_path)
    with pytest.raises(ConfigurationError, match="exists already"):
        write_dataset("clinic", tmp_path)
    with pytest.raises(ConfigurationError, match="exists already"):
        write_method("merl")
