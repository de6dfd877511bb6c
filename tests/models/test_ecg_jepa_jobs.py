"""ECG-JEPA trained by jobs: a run that was stopped is the run that was not, and the teacher moves once a step."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.checkpoint import load_encoder
from models.methods.ecg_jepa.method import EcgJepa
from models.schedules import StepSchedule
from models.train import main

if TYPE_CHECKING:
    from conftest import Study

STEPS = 8


def job(study: Study, name: str, accumulate: int, **changes: Any) -> Path:
    options = {"patch": 5, "max_steps": STEPS, "accumulate": accumulate, "warmup": 0.25, "log_every": 1, "checkpoint_every": 3}
    return study.job("pretrain", name, method="ecg_jepa", options=options, reports=None, **changes)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_has_the_schedules_and_weights_of_an_unbroken_one(
    study: Study, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    move, step = EcgJepa.after_step, StepSchedule.step

    def after_step(self: EcgJepa, number: int, total: int) -> None:
        move(self, number, total)
        seen.append((number, total))

    def schedule_step(self: StepSchedule, epoch: int | None = None) -> None:
        step(self, epoch)
        values.append([(g["lr"], g["weight_decay"]) for g in self.optimizer.param_groups])

    monkeypatch.setattr(EcgJepa, "after_step", after_step)
    values: list[Any] = []
    monkeypatch.setattr(StepSchedule, "step", schedule_step)
    assert main([str(job(study, "calm", accumulate))]) == 0
    calm_moves, calm_values = seen[:], values[:]
    assert calm_moves == [(number, STEPS) for number in range(STEPS)], "once a step, whatever the number of parts"
    assert calm_values[0][0] == pytest.approx((1e-6, 0.01)) and len(calm_values) == STEPS + 1

    seen.clear()
    values.clear()
    for _ in range(3):  # each start ends after one step
        assert main([str(job(study, "hit", accumulate, time_limit_s=0.0))]) == 143
    assert main([str(job(study, "hit", accumulate))]) == 0
    assert seen == calm_moves
    moved = [v for i, v in enumerate(values) if i in (1, 3, 5) or i > 6]  # what stands between is where each schedule was made
    assert moved == calm_values[1:]
    for arm in ("bundle", "random_init"):
        weights = [(study.folder / name / arm / "weights.safetensors").read_bytes() for name in ("calm", "hit")]
        assert hashlib.sha256(weights[0]).digest() == hashlib.sha256(weights[1]).digest()
    assert rows(study.folder / "calm") == rows(study.folder / "hit")


def rows(folder: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["lr"], line["loss"], line["target_std"]) for line in lines]


def test_scale_and_teacher_travel_in_the_bundle(study: Study) -> None:
    assert main([str(job(study, "run", 1))]) == 0
    before, after = (load_encoder(study.folder / "run" / arm) for arm in ("random_init", "bundle"))
    assert isinstance(before, EcgJepa) and isinstance(after, EcgJepa)
    assert torch.equal(before.std_SL, after.std_SL) and before.std_SL[0, 0].item() == pytest.approx(100, rel=0.05)
    assert before.std_SL[0, 6].item() == pytest.approx(342, rel=0.05), "lead V1 is one, three or five times as large"
    assert all(torch.equal(a, b) for a, b in zip(before.encoder.parameters(), before.target.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(after.encoder.parameters(), after.target.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before.target.parameters(), after.target.parameters(), strict=True))
