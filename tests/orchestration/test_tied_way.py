"""From a pairing to prediction tables, with the methods that tie ECG, X-ray, lab panel and report together, a few steps each.

Jobs run in this process; checks of what they make are the real ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets import verdicts
from assets.bundles import verify_bundle
from assets.cleaned import make_cleaned
from assets.compute import Compute
from assets.dataset import get_dataset
from assets.datasets.synthetic import generate
from assets.encoders import make_encoder
from assets.forms import overridden
from assets.heads import make_head
from assets.labels import make_labels
from assets.outputs import Key, Output, OutputError, Workspace
from assets.pairing import make_pairing
from assets.pairing_rules import RULES
from assets.raw import make_raw
from assets.reports import make_reports
from assets.settings import load
from assets.verdicts import BLOCKING, Verdict
from data_checks.checks import run_checks
from models.lab_scale import read_bundle_scale
from models.predictions import read_predictions
from models.registry import get_spec

SHORT = {"max_steps": 2, "batch_size": 8, "validate_every": 0, "checkpoint_every": 100, "log_every": 1}
DATASET = "synthetic"


class HereCompute(Compute):
    """Runs a job in this process."""

    def run(self, context: dg.AssetExecutionContext, job_file: Path) -> dict[str, Any]:
        from models.jobs import read_job
        from models.progress import Progress
        from models.train import run

        result = run(read_job(job_file), Progress(0))
        assert result is not None
        kept = Path(os.environ["EINTHOVEN_HOME"]) / "asked" / f"{len(list_asked()):03d}.json"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(job_file.read_bytes())
        return result


def list_asked() -> list[dict[str, Any]]:
    """All jobs so far."""
    return [json.loads(p.read_text()) for p in sorted((Path(os.environ["EINTHOVEN_HOME"]) / "asked").glob("*.json"))]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Simulated visits through every stage before training."""
    home = tmp_path_factory.mktemp("tied")
    os.environ["EINTHOVEN_HOME"] = str(home)
    workspace = Workspace(home)

    def trusted(output: Output) -> None:
        for check in BLOCKING[output.key.stage]:
            verdicts.save(workspace, output, Verdict(check, True, ""))

    generate(home / "source" / DATASET, n_records=60)
    dataset = get_dataset(DATASET)(home / "source" / DATASET)
    trusted(make_raw(workspace, dataset, print))
    for recipe in ("native", "grey_64", "more_32", "labs"):
        trusted(make_cleaned(workspace, dataset, recipe, print))
    for form in ("original", "english"):
        trusted(make_reports(workspace, dataset, form))  # type: ignore[arg-type]
    for task in ("rhythm", "chest"):
        trusted(make_labels(workspace, dataset, task))
    trusted(make_pairing(workspace, RULES[DATASET]))
    yield workspace
    del os.environ["EINTHOVEN_HOME"]


def train(method: str, *, first: bool = False, seed: int = 0, **options: Any) -> Output:
    spec = get_spec(method)
    stage = spec.first_stage if first else None
    config = overridden(spec, "tiny", SHORT | options)
    return make_encoder(dg.build_asset_context(), load(), HereCompute(), spec, DATASET, "tiny", seed, config, stage)


def checked(workspace: Workspace, output: Output) -> Output:
    for verdict in run_checks(workspace, output):
        assert verdict.passed, verdict.message
    return output


def head(workspace: Workspace, method: str, task: str) -> Output:
    return checked(workspace, make_head(dg.build_asset_context(), load(), HereCompute(), get_spec(method), task, DATASET))


def tables(output: Output) -> dict[str, Any]:
    return {p.stem: read_predictions(p) for p in (output.folder / "predictions").glob("*.parquet")}


def test_a_method_with_lab_panels_takes_their_scale_along(workspace: Workspace) -> None:
    output = checked(workspace, train("symile"))
    pairing = workspace.require(Key(("pairing", DATASET)))
    assert (output.facts["pairing"], output.facts["modalities"]) == (DATASET, ["ecg", "image", "labs"])
    assert output.facts["percentiles_sha256"] == pairing.facts["percentiles_sha256"]
    panels = pd.read_parquet(pairing.path("panels.parquet"))
    for name in ("bundle", "random_init"):
        verify_bundle(output.path(name))
        scale = read_bundle_scale(output.path(name))
        percentiles_NP = scale.apply(np.stack(panels["values"].to_numpy()).astype(float))
        np.testing.assert_array_equal(percentiles_NP, np.stack(panels["percentiles"].to_numpy()))
    job = list_asked()[-1]
    assert (job["stage"], job["first_stage"], job["reports"]) == ("encoder", None, None)
    assert Path(job["images"]).match("cleaned/synthetic/grey_64/*")

    found = tables(head(workspace, "symile", "chest"))
    assert {t.origin.protocol for t in found.values()} == {"linear_probe"}
    assert set(tables(head(workspace, "symile", "rhythm"))) == {t.replace("chest", "rhythm") for t in found}
    assert head(workspace, "symile", "chexpert").facts["tables"] == []  # a task of other datasets


def test_a_head_over_picture_and_ecg_is_judged_with_and_without_the_ecg(workspace: Workspace) -> None:
    output = checked(workspace, train("more"))
    assert output.facts["pairing"] == DATASET
    job = list_asked()[-1]
    assert Path(job["image_reports"]).name == "image_reports.parquet"
    assert Path(job["reports"]).parent == Path(job["image_reports"]).parent

    done = head(workspace, "more", "chest")
    found = tables(done)
    asked = {f"chest-{p}-{arm}-1" for p in ("linear_probe", "fused", "fused_image_only") for arm in ("pretrained", "random_init")}
    assert set(found) == asked | {"chest-finetune-pretrained-1"}
    both, alone = found["chest-fused-pretrained-1"], found["chest-fused_image_only-pretrained-1"]
    np.testing.assert_array_equal(both.record_id, alone.record_id)
    assert not np.array_equal(both.scores_NC, alone.scores_NC)
    assert (done.folder / "heads" / "chest-fused-pretrained-1.safetensors").is_file()
    assert "judged images have an ECG" in both.origin.selection


def test_an_encoder_without_pictures_has_no_heads_for_them(workspace: Workspace) -> None:
    output = checked(workspace, train("more", pairing="none"))
    assert (output.facts["pairing"], output.facts["modalities"]) == (None, ["ecg", "text"])
    assert head(workspace, "more", "chest").facts["tables"] == []
    assert head(workspace, "more", "rhythm").facts["tables"]


def test_the_stage_before_is_made_once_for_all_encoders_that_agree_with_it(workspace: Workspace) -> None:
    with pytest.raises(OutputError, match=r"language_model/melp\[synthetic\]"):
        train("melp")
    first = checked(workspace, train("melp", first=True, mlm_steps=2))
    assert first.facts["modalities"] == ["text"]
    stored = json.loads((first.path("bundle") / "config.json").read_text())
    assert stored["provenance"]["stage"] == "language_model"
    assert "Input: text" in (first.path("bundle") / "card.md").read_text()

    encoder = checked(workspace, train("melp", mlm_steps=2))
    assert encoder.manifest["upstream"]["language_model/melp[synthetic]"] == first.data_version
    assert list_asked()[-1]["first_stage"] == str(first.path("bundle"))

    before = len(list_asked())
    assert train("melp", first=True, mlm_steps=2, lr=0.5, max_steps=1).data_version == first.data_version
    assert len(list_asked()) == before, "an option of the encoder alone trained the language model again"

    with pytest.raises(OutputError, match=r"was trained with other options than this encoder asks for \(text_width\)"):
        train("melp", mlm_steps=2, text_width=64)
