"""What every method must do, the platform's own and those of installed packages alike."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint import Provenance, load_encoder, write_bundle
from models.config import TrainingConfig
from models.finetune import Classifier
from models.method import Method
from models.registry import create_method, get_spec, list_methods
from models.types import Batch, Modality

METHODS = list_methods()


def build(name: str, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    method = create_method(name, get_spec(name).configure("tiny"))
    method.prepare([f"report {i} of a record" for i in range(8)])
    return method


def batch(name: str, method: Method) -> Batch:
    generator = torch.Generator().manual_seed(0)
    signal_BLT = 100 * torch.randn(8, 12, method.config.n_samples, generator=generator)
    signal_BLT *= torch.linspace(0.2, 3, 8)[:, None, None] ** torch.arange(12)[None, :, None]
    texts = [f"report {i} of a record" for i in range(8)] if Modality.TEXT in get_spec(name).modalities else None
    return Batch(signal_BLT, torch.arange(8), texts)


def pretrains(name: str) -> bool:
    return get_spec(name).configure("tiny").max_steps != 0


@pytest.mark.parametrize("name", METHODS)
def test_the_specification_is_light_and_whole(name: str) -> None:
    spec = get_spec(name)
    assert issubclass(spec.config, TrainingConfig)
    assert "tiny" in spec.presets and all(isinstance(p, spec.config) for p in spec.presets.values())
    assert spec.gate.protocol in spec.protocols and spec.gate.task in spec.tasks
    assert all(0 < p.value <= 1 and p.source for p in spec.published)
    assert len({(p.model, p.task, p.protocol, p.fraction, p.metric) for p in spec.published}) == len(spec.published)
    code = f"import sys; from models.registry import get_spec; get_spec({name!r}); sys.exit(bool({{'torch', 'lightning', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.parametrize("name", METHODS)
def test_every_option_is_documented(name: str) -> None:
    config = get_spec(name).config
    text = "".join(c.__doc__ or "" for c in config.__mro__)
    assert [f.name for f in dataclasses.fields(config) if f"{f.name}:" not in text] == []


@pytest.mark.parametrize("name", METHODS)
def test_features_have_the_promised_shape_and_need_no_text(name: str) -> None:
    method = build(name).eval()
    signals = batch(name, method)
    with torch.no_grad():
        features = method.encode(Batch(signals.signal_BLT, signals.row_B))
        single = method.encode(Batch(signals.signal_BLT[:1], signals.row_B[:1]))
    assert features.pooled_BF.shape == (8, method.feature_width)
    torch.testing.assert_close(single.pooled_BF, features.pooled_BF[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in METHODS if pretrains(n)])
def test_pretraining_overfits_one_batch(name: str) -> None:
    method = build(name)
    data = batch(name, method)
    optimizer, _ = method.optimizers(30)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        total = method.loss(data).total
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.parametrize("name", METHODS)
def test_finetuning_overfits_one_batch(name: str) -> None:
    torch.manual_seed(0)
    network = Classifier(build(name), 2)
    data, target_BC = batch(name, network.encoder), torch.eye(2).repeat(4, 1)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(data), target_BC)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_a_bundle_gives_equal_features(name: str, tmp_path: Path) -> None:
    method = build(name)
    with torch.no_grad():
        method.encode(batch(name, method))  # moves batch-norm statistics off their start
    origin = Provenance(method=name, preset="tiny", seed=0, arm="pretrained", steps=1, records=8, fs_hz=100.0)
    write_bundle(tmp_path / "bundle", method, origin)
    again = load_encoder(tmp_path / "bundle")
    data = batch(name, method)
    with torch.no_grad():
        expected, found = method.eval().encode(data), again.encode(data)
    assert torch.equal(expected.pooled_BF, found.pooled_BF)
    assert again.config == method.config and again.extra_state() == method.extra_state()


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_decides_everything(name: str) -> None:
    def trained(seed: int) -> dict[str, Any]:
        method = build(name, seed)
        data = batch(name, method)
        if pretrains(name):
            optimizer, _ = method.optimizers(3)
            for _ in range(3):
                optimizer.zero_grad()
                method.loss(data).total.backward()
                optimizer.step()
        return dict(method.state_dict())

    first, second, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
