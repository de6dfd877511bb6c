"""MELP's two stages as jobs, one after the other, and the zero-shot job behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import load_encoder, read_config
from models.errors import ConfigurationError
from models.jobs import read_job
from models.methods.melp.language_model import LanguageModel
from models.methods.melp.method import Melp
from models.progress import Progress
from models.train import main, run
from models.types import Batch

if TYPE_CHECKING:
    from conftest import Study

SMALL = {"max_steps": 12, "mlm_steps": 12, "mlm_batch_size": 16}


def with_folds(study: Study) -> Study:
    """The reports table as the data stages write it, with patients and folds."""
    table = pq.read_table(study.folder / "reports.parquet").select(["record_id", "text"])
    numbers = [int(record[1:]) for record in table["record_id"].to_pylist()]
    table = table.append_column("patient_id", pa.array([f"p{i // 2}" for i in numbers]))
    table = table.append_column("fold", pa.array([1 + i // 3 % 10 for i in numbers], pa.int32()))
    pq.write_table(table, study.folder / "reports.parquet")
    return study


def language_job(study: Study, **options: Any) -> Path:
    return study.job("pretrain", "language", method="melp", stage="language_model", store=None, options=SMALL | options)


def encoder_job(study: Study, **options: Any) -> Path:
    return study.job("pretrain", "pretrain", method="melp", first_stage=str(study.folder / "language" / "bundle"), options=SMALL | options)


def test_the_stages_run_one_after_the_other(study: Study) -> None:
    with_folds(study)
    assert main([str(language_job(study))]) == 0
    result = json.loads((study.folder / "language" / "result.json").read_text())
    assert result["steps"] == 12 and result["records"] == 96
    assert {"loss", "masked_language", "validation_loss"} <= set(result["final"])
    language = load_encoder(study.folder / "language" / "bundle")
    assert isinstance(language, LanguageModel)
    assert read_config(study.folder / "language" / "bundle")["provenance"]["stage"] == "language_model"

    assert main([str(encoder_job(study))]) == 0
    result = json.loads((study.folder / "pretrain" / "result.json").read_text())
    assert {"loss", "rhythm", "token", "beat", "validation_loss"} <= set(result["final"])
    start, end = load_encoder(study.folder / "pretrain" / "random_init"), load_encoder(study.folder / "pretrain" / "bundle")
    assert isinstance(start, Melp) and isinstance(end, Melp)
    assert start.extra_state() == end.extra_state() == language.extra_state()
    for (name, p), q in zip(start.text.named_parameters(), language.text.parameters(), strict=True):
        assert torch.equal(p, q), name
    batch = Batch(torch.randn(2, 12, study.n_samples), torch.arange(2))
    assert all(isinstance(text, str) for text in end.generate(batch))

    assert main([str(study.job("zero_shot", "zero_shot"))]) == 0
    assert json.loads((study.folder / "zero_shot" / "result.json").read_text())["tables"]


def test_the_encoder_trains_without_the_stage_before(study: Study) -> None:
    job = study.job("pretrain", "alone", method="melp", options=SMALL | {"accumulate": 2})
    assert main([str(job)]) == 0
    assert load_encoder(study.folder / "alone" / "bundle").extra_state()["text"]["vocabulary"]


def test_stages_of_other_shapes_and_names_are_refused(study: Study) -> None:
    with_folds(study)
    assert main([str(language_job(study, text_width=16, mlm_steps=2))]) == 0
    with pytest.raises(ConfigurationError, match="has another shape"):
        run(read_job(encoder_job(study)), Progress(0))
    with pytest.raises(ConfigurationError, match="has no stage 'dance'"):
        run(read_job(study.job("pretrain", "wrong", method="melp", stage="dance")), Progress(0))
