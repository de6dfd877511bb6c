"""The check of the cross-modality matrix passes what the stage writes, and finds each planted fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.access import Access
from assets.cross_modality import summarise
from assets.outputs import Built, Key, Workspace
from data_checks.checks import run_checks
from tests.assets.test_cross_modality import CLASSES, FACTS, write_tables

KEY = Key(("cross_modality", "wesad"), "synthetic_wearable")
DATASET = "synthetic_wearable"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a matrix and the labels that it was made from."""
    root = tmp_path_factory.mktemp("made")
    workspace, tables = Workspace(root / "home"), write_tables(root / "tables")

    def labels(folder: Path) -> Built:
        windows = pd.read_parquet(tables / "predictions.parquet").drop_duplicates("record_id")
        named = windows["record_id"].str.rpartition("@")
        held = {c: (windows["class"] == c).astype("int8") for c in CLASSES}
        pd.DataFrame({"record_id": named[0], "start": named[2].astype(float), **held}).to_parquet(folder / "labels.parquet", index=False)
        return Built(rows=len(windows), facts={})

    def matrix(folder: Path) -> Built:
        write_tables(folder)
        return summarise(folder, FACTS | {"dataset": DATASET}, "Networks")

    workspace.publish(Key(("labels", DATASET), "affect3"), labels, code_version="1", access=Access.OPEN)
    workspace.publish(KEY, matrix, code_version="1", access=Access.OPEN)
    return root / "home"


def verdict(made: Path, root: Path, spoil: Callable[[Path], None] = lambda folder: None) -> tuple[bool, str]:
    """What the check says of a copy of the matrix that was spoilt."""
    shutil.copytree(made, root / "home", symlinks=True)
    workspace = Workspace(root / "home")
    output = workspace.require(KEY)
    spoil(output.folder)
    (found,) = run_checks(workspace, output)
    return found.passed, found.message


def change(name: str, alter: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        alter(pd.read_parquet(folder / f"{name}.parquet")).to_parquet(folder / f"{name}.parquet", index=False)

    return spoil


def put(column: str, value: object, row: int = 0) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def alter(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[row, column] = value  # type: ignore[call-overload]
        return frame

    return alter


def test_what_the_stage_writes_passes(made: Path, tmp_path: Path) -> None:
    passed, message = verdict(made, tmp_path)
    assert passed, message
    assert "3 x 3 signals" in message


@pytest.mark.parametrize(("spoil", "said"), [
    (change("matrix", put("value", 0.999)), "its table gives"),
    (change("matrix", lambda f: f[~((f["source"] == "ECG") & (f["target"] == "EDA"))]), "lacks 1 cells, for example ECG shown EDA"),
    (change("predictions", put("class", "stress")), "whose class is not their window's"),
    (change("predictions", put("logit:stress", np.nan)), "no number"),
    (change("predictions", lambda f: pd.concat([f, f.iloc[:1]])), "judged twice"),
    (change("predictions", put("fold", 3)), "several folds"),
])  # fmt: skip
def test_a_planted_fault_is_found(made: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    passed, message = verdict(made, tmp_path, spoil)
    assert not passed and said in message
