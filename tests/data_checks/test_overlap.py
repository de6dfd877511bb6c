"""Recordings that two datasets share are found at another rate, gain and baseline, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.datasets.synthetic import Synthetic
from assets.outputs import Key, Output, Workspace
from assets.record import Record
from assets.signals.resample import resample
from assets.store import build_store
from data_checks import cleaned, overlap
from data_checks.context import CheckContext
from models.registry import get_recipe

COPIED = {"x1": "00003", "x2": "00007", "x3": "00009"}


class Copies(Synthetic):
    """Three recordings of the synthetic dataset and five others, under other names and patients, at 500 Hz."""

    name = "copies"
    fs_hz = 500.0

    def records(self) -> pd.DataFrame:
        table = super().records().iloc[:8].copy()
        names = [*COPIED, *(f"y{i}" for i in range(5))]
        return table.assign(record_id=names, patient_id=[f"copies:{n}" for n in names], fold=[1, 10, 9, 2, 3, 4, 5, 6])

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        rng = np.random.default_rng(len(record_id) + ord(record_id[-1]))
        original = super().read(COPIED.get(record_id, "00001"))
        signal_LT = original.signal_LT if record_id in COPIED else np.roll(original.signal_LT, 17 * int(record_id[1:]) + 29, axis=1)
        signal_LT = 0.8 * resample(signal_LT, 100, 500) + 200 + rng.normal(0, 8, (12, 5000))
        return Record(signal_LT.astype(np.float32), original.leads, 500.0, original.units, "0" * 32)


def store(workspace: Workspace, dataset: Synthetic) -> Output:
    return workspace.publish(
        Key(("cleaned", dataset.name), "native"),
        lambda f: build_store(f, dataset, get_recipe("native")),
        code_version="1",
        access=dataset.access,
    )


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, Output, Output]:
    Synthetic.make_fixture(tmp_path / "source")
    known: dict[str, Any] = {"synthetic": Synthetic, "copies": Copies}
    for module in (overlap, cleaned):
        for name, value in (("list_datasets", lambda: sorted(known)), ("get_dataset", known.__getitem__)):
            monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.setattr("data_checks.context.get_dataset", known.__getitem__)
    workspace = Workspace(tmp_path / "home")
    return workspace, store(workspace, Synthetic(tmp_path / "source")), store(workspace, Copies(tmp_path / "source"))


def test_copies_are_found_and_nothing_else(stores: tuple[Workspace, Output, Output]) -> None:
    workspace, original, copies = stores
    for _ in range(2):  # the second time from the kept sketches
        pairs = overlap.shared_recordings(workspace, copies)["synthetic"]
        assert dict(zip(pairs["record_id"], pairs["record_id_there"], strict=True)) == COPIED
    assert pairs["part"].tolist() == ["train", "test", "validation"]
    assert set(overlap.shared_recordings(workspace, original)["copies"]["record_id_there"]) == set(COPIED)


def test_the_check_says_what_is_shared(stores: tuple[Workspace, Output, Output]) -> None:
    workspace, _, copies = stores
    context = CheckContext(workspace, copies, "duplicates")
    cleaned.check_duplicates(context)
    said = " ".join(context.findings.notes)
    assert "3 recordings are in synthetic too, 3 of them under another patient; warning: " in said
    assert not context.findings.problems
