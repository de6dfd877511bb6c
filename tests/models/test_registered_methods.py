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
from models.errors import ConfigurationError
from models.head_recipes import HeadRecipe
from models.method import ContrastiveMethod, Method
from models.readouts import Classifier
from models.registry import create_method, get_spec, list_methods
from models.types import Batch, Losses, Modality

METHODS = list_methods()
CASES = [(name, preset) for name in METHODS for preset in get_spec(name).presets if preset.startswith("tiny")]
ROWS = 8
TEXTS = [f"report {i} of a record" for i in range(ROWS)]
TIED = (Modality.IMAGE, Modality.LABS)


def build(name: str, seed: int = 0, preset: str = "tiny", **options: Any) -> Method:
    torch.manual_seed(seed)
    method = create_method(name, get_spec(name).configure(preset, **options))
    method.prepare(TEXTS)
    return method


def batch(name: str, method: Method) -> Batch:
    """Records with everything that the method's configuration reads, each of another patient but for the last two.

    Of what a pairing ties to recordings some rows are missing.
    """
    config, reads = method.config, get_spec(name).reads(method.config)
    generator = torch.Generator().manual_seed(0)
    n_channels = len(config.channels)
    signal_BLT = 100 * torch.randn(ROWS, n_channels, config.n_samples, generator=generator)
    signal_BLT *= torch.linspace(0.2, 3, ROWS)[:, None, None] ** torch.arange(n_channels)[None, :, None]
    found = Batch(signal_BLT, torch.arange(ROWS), group_B=torch.tensor([0, 1, 2, 3, 4, 5, 6, 6]))
    if Modality.TEXT in reads:
        found.texts = list(TEXTS)
    rows = {m: torch.arange(ROWS) != place for place, m in enumerate((Modality.IMAGE, Modality.LABS), 3) if m in reads}
    if Modality.IMAGE in reads:
        # Pictures of different brightness and texture.
        noise_BHW = torch.rand(ROWS, config.image_size, config.image_size, generator=generator)
        pixels_BHW = 250 * noise_BHW ** torch.linspace(0.3, 3, ROWS)[:, None, None]
        found.image_BHW = torch.where(rows[Modality.IMAGE][:, None, None], pixels_BHW.to(torch.uint8), 0)
        if Modality.TEXT in reads:
            found.image_texts = [f"picture {i}" if seen else "" for i, seen in enumerate(rows[Modality.IMAGE].tolist())]
    if Modality.LABS in reads:
        n_labs = getattr(config, "n_labs", 50)
        measured_BP = torch.rand(ROWS, n_labs, generator=generator) < 0.7
        found.labs_observed_BP = measured_BP & rows[Modality.LABS][:, None]
        found.labs_BP = torch.where(found.labs_observed_BP, torch.rand(ROWS, n_labs, generator=generator), 0.5)
    found.observed = rows
    return found


def without(data: Batch, modality: Modality) -> Batch:
    """The same records, none of which has a modality."""
    changes: dict[str, Any] = {"observed": {**(data.observed or {}), modality: torch.zeros(len(data), dtype=torch.bool)}}
    if modality == Modality.IMAGE and data.image_BHW is not None:
        changes |= {"image_BHW": torch.zeros_like(data.image_BHW), "image_texts": data.image_texts and [""] * len(data)}
    if modality == Modality.LABS and data.labs_observed_BP is not None:
        changes |= {"labs_observed_BP": torch.zeros_like(data.labs_observed_BP)}
    return dataclasses.replace(data, **changes)


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


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_features_have_the_promised_shape_and_need_no_text(name: str, preset: str) -> None:
    method = build(name, preset=preset).eval()
    signals = batch(name, method)
    with torch.no_grad():
        features = method.encode(Batch(signals.signal_BLT, signals.row_B))
        single = method.encode(Batch(signals.signal_BLT[:1], signals.row_B[:1]))
    assert features.pooled_BF.shape == (ROWS, method.feature_width)
    torch.testing.assert_close(single.pooled_BF, features.pooled_BF[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_images_are_encoded_or_it_is_said_that_they_are_not(name: str, preset: str) -> None:
    method = build(name, preset=preset).eval()
    data = batch(name, method)
    if data.image_BHW is None:
        with pytest.raises(ConfigurationError):
            method.encode_image(data)
        return
    pictures = Batch(torch.zeros(ROWS, 0, 0), data.row_B, image_BHW=data.image_BHW)
    with torch.no_grad():
        features, single = method.encode_image(pictures), method.encode_image(pictures.part(1, 2))
    assert len(features.pooled_BF) == ROWS and features.embedding_BD is not None
    torch.testing.assert_close(single.pooled_BF, features.pooled_BF[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_embeddings_are_finite_and_of_one_width(name: str, preset: str) -> None:
    method = build(name, preset=preset).eval()
    with torch.no_grad():
        found = method.embed(batch(name, method))
        scores = {
            target: method.similarity({m: v for m, v in found.items() if m != target}, found[target], target)
            for target in found
            if len(found) > 1
        }
    assert len({v.shape for v in found.values()}) <= 1 and all(torch.isfinite(v).all() and len(v) == ROWS for v in found.values())
    assert all(s.shape == (ROWS, ROWS) and torch.isfinite(s).all() for s in scores.values())


# What reconstructs signals through a bottleneck cannot learn the noise that these tests have for records; its own tests have beats.
@pytest.mark.parametrize("name", [n for n in METHODS if pretrains(n) and "reconstruction" not in get_spec(n).protocols])
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
    encoder = build(name)
    everything, target_BC = batch(name, encoder), torch.eye(2).repeat(4, 1)
    data = Batch(everything.signal_BLT, everything.row_B)
    learning = encoder.finetune_parameters(Modality.ECG)
    read = encoder.finetune_features(encoder.encode(data))
    network = Classifier(encoder, HeadRecipe(), 2, read.shape[1])
    target_BC = target_BC.repeat_interleave(len(read) // ROWS, dim=0)  # several rows a recording have its label
    optimizer = torch.optim.AdamW([*learning, *network.head.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(data), target_BC)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_a_bundle_gives_equal_features(name: str, preset: str, tmp_path: Path) -> None:
    method = build(name, preset=preset)
    with torch.no_grad():
        method.encode(batch(name, method))  # moves batch-norm statistics off their start
    origin = Provenance(method=name, preset=preset, seed=0, arm="pretrained", steps=1, records=ROWS, fs_hz=100.0)
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


# Methods that compare the records of a batch


def _contrastive(case: tuple[str, str]) -> bool:
    return isinstance(build(case[0], preset=case[1]), ContrastiveMethod)


CONTRASTIVE = [case for case in CASES if _contrastive(case)]


def compared(method: ContrastiveMethod, towers: dict[str, torch.Tensor], seed: int = 0) -> Losses:
    torch.manual_seed(seed)
    return method.contrast(towers)


def contrastive(name: str, preset: str, **options: Any) -> tuple[ContrastiveMethod, Batch]:
    """A network in evaluation mode, its batch norms with statistics of the batch."""
    method = build(name, preset=preset, **options)
    assert isinstance(method, ContrastiveMethod)
    data = batch(name, method)
    with torch.no_grad():
        method.towers(data)
    return method.eval(), data


@pytest.mark.parametrize(("name", "preset"), CONTRASTIVE)
def test_rows_of_towers_depend_on_their_record_alone(name: str, preset: str) -> None:
    method, data = contrastive(name, preset)
    with torch.no_grad():
        whole, part = method.towers(data), method.towers(data.part(2, 5))
    assert whole.keys() == part.keys()
    for key, value in whole.items():
        assert len(value) == ROWS
        torch.testing.assert_close(part[key], value[2:5], rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize(("name", "preset"), CONTRASTIVE)
def test_the_order_of_a_batch_does_not_matter(name: str, preset: str) -> None:
    """Unless negatives are drawn: then every draw is a loss of its own, and only its mean could be compared."""
    method, data = contrastive(name, preset)
    order = torch.tensor([3, 7, 0, 6, 2, 5, 1, 4])
    with torch.no_grad():
        towers = method.towers(data)
        losses = [compared(method, towers, seed).total for seed in (0, 1)]
        shuffled = compared(method, {k: v[order] for k, v in towers.items()}).total
    assert torch.equal(losses[0], compared(method, towers).total)
    if torch.equal(losses[0], losses[1]):
        torch.testing.assert_close(shuffled, losses[0], rtol=1e-5, atol=1e-5)
    else:
        assert torch.isfinite(shuffled)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "preset"), CONTRASTIVE)
def test_a_modality_may_be_missing_from_a_whole_batch(name: str, preset: str, mode: str) -> None:
    method, data = contrastive(name, preset)
    spec = get_spec(name)
    reads = spec.reads(method.config)
    batches = [without(data, m) for m in TIED if m in reads]
    if Modality.IMAGE in spec.optional:
        batches.append(dataclasses.replace(data, image_BHW=None, image_texts=None, observed=None))
    for lacking in batches:
        method.zero_grad()
        losses = method.train(mode == "train").loss(lacking)
        losses.total.backward()
        assert all(torch.isfinite(v) for v in [losses.total, *losses.parts.values()])
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "preset"), CONTRASTIVE)
def test_parts_of_a_batch_give_the_gradients_of_the_whole(name: str, preset: str) -> None:
    found = {}
    for accumulate in (1, 2):
        method, data = contrastive(name, preset, accumulate=accumulate)
        torch.manual_seed(0)
        total = method.loss(data).total
        total.backward()
        found[accumulate] = {"loss": total.detach(), **{n: p.grad for n, p in method.named_parameters() if p.grad is not None}}
        method.zero_grad()
        training = method.train().loss(data).total
        training.backward()
        assert torch.isfinite(training) and all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    assert found[1].keys() == found[2].keys()
    largest = max(float(v.abs().max()) for v in found[1].values())
    for key, value in found[1].items():
        torch.testing.assert_close(found[2][key], value, rtol=1e-3, atol=1e-5 * largest, msg=lambda m, key=key: f"{key}: {m}")


# Stages before the encoder

STAGED = [name for name in METHODS if get_spec(name).first_stage is not None]


@pytest.mark.parametrize("name", STAGED)
def test_the_stage_before_trains_travels_and_is_taken_over(name: str, tmp_path: Path) -> None:
    spec = get_spec(name)
    assert spec.first_stage is not None
    config = spec.first_stage.configure(spec.configure("tiny"))
    assert isinstance(config, spec.config) and config.total_steps(1000) > 0
    torch.manual_seed(1)
    stage = create_method(name, config, spec.first_stage.name)
    stage.prepare(TEXTS)
    data = batch(name, stage)
    if not {Modality.ECG, Modality.PPG} & set(spec.first_stage.modalities):
        data = Batch(torch.zeros(ROWS, 0, 0), data.row_B, data.texts)
    optimizer, _ = stage.optimizers(40)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        total = stage.loss(data).total
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    origin = Provenance(
        method=name, preset="tiny", seed=1, arm="pretrained", steps=40, records=ROWS, fs_hz=0.0, stage=spec.first_stage.name
    )
    write_bundle(tmp_path / "stage", stage, origin)
    again = load_encoder(tmp_path / "stage")
    assert type(again) is type(stage) and again.config == config and again.extra_state() == stage.extra_state()
    assert all(torch.equal(again.state_dict()[k], v) for k, v in stage.state_dict().items())
    method = build(name)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.start_from(again)
    assert any(not torch.equal(before[k], v) for k, v in method.state_dict().items()), "something is taken over"
    assert torch.isfinite(method.loss(batch(name, method)).total)


@pytest.mark.parametrize("name", METHODS)
def test_only_its_own_stage_is_accepted(name: str) -> None:
    with pytest.raises(ConfigurationError):
        build(name).start_from(build(name))
