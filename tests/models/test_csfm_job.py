"""CSFM through the jobs: with and without reports, on a store that lacks a channel of the network, to a probe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from models.checkpoint import load_encoder
from models.methods.csfm.method import Csfm
from models.train import main

if TYPE_CHECKING:
    from conftest import Study

OPTIONS = {"crop": 150, "max_steps": 4}


@pytest.mark.parametrize("reports", [True, False])
def test_an_encoder_is_trained_on_what_a_store_has(study: Study, reports: bool) -> None:
    changes: dict[str, Any] = {} if reports else {"reports": None}
    assert main([str(study.job("pretrain", "pretrain", method="csfm", options=OPTIONS, **changes))]) == 0
    result = json.loads((study.folder / "pretrain" / "result.json").read_text())
    assert (result["records"], result["skipped"], result["steps"]) == (96, 0, 4)
    assert (result["final"]["text"] > 0) == reports
    encoder, twin = (load_encoder(study.folder / "pretrain" / name) for name in ("bundle", "random_init"))
    assert isinstance(encoder, Csfm) and isinstance(twin, Csfm)
    assert encoder.seen_L.tolist() == [64] * 12 + [0] and not twin.seen_L.any()
    assert main([str(study.job("head", "head", method="csfm", channel_sets=[["II"], ["PLETH"]]))]) == 0
    tables = json.loads((study.folder / "head" / "result.json").read_text())["tables"]
    assert len(tables) == 4, "trained and untrained, on all twelve leads and on lead II; the store has no pulse wave"


def test_records_without_a_report_stay(study: Study) -> None:
    path = study.folder / "reports.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 60), path)
    assert main([str(study.job("pretrain", "pretrain", method="csfm", options=OPTIONS))]) == 0
    assert json.loads((study.folder / "pretrain" / "result.json").read_text())["records"] == 96
