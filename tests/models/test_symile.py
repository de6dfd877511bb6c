"""Symile's encoders, their missing modalities, and that whole tuples teach what pairs cannot."""

from __future__ import annotations

import dataclasses
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.checkpoint import Provenance, load_encoder, write_bundle
from models.encoders.labs import LabPanel
from models.encoders.resnet2d import create_resnet2d
from models.errors import ConfigurationError, TrainingError
from models.methods.symile.method import Symile
from models.methods.symile.spec import SPEC, SymileConfig
from models.objectives.symile import mip, pairwise_loss, symile_loss
from models.pretraining_loop import validation_loss
from models.registry import create_method
from models.types import Batch, Modality

PULSE: dict[str, Any] = {"channels": ("II", "PLETH"), "ppg_channels": ("PLETH",)}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make(preset: str = "tiny", **overrides: Any) -> Symile:
    torch.manual_seed(0)
    small: dict[str, Any] = {"n_samples": 200, "image_size": 32, "batch_size": 4}
    method = create_method("symile", SPEC.configure(preset, **(small | overrides)))
    assert isinstance(method, Symile)
    method.prepare(["sinus rhythm", "atrial fibrillation"])
    return method


def batch(method: Symile, B: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    config, size = method.config, method.config.image_size
    return Batch(
        100 * torch.randn(B, len(config.channels), config.n_samples, generator=generator),
        torch.arange(B),
        [("sinus rhythm", "atrial fibrillation")[i % 2] + " " * i for i in range(B)],
        image_BHW=torch.randint(0, 256, (B, size, size), generator=generator, dtype=torch.uint8),
        labs_BP=torch.rand(B, config.n_labs, generator=generator),
        labs_observed_BP=torch.rand(B, config.n_labs, generator=generator) > 0.3,
    )


@pytest.mark.parametrize(("name", "channels", "parameters"), [("resnet50", 3, 23_508_032), ("resnet18", 1, 11_170_240)])
def test_trunks_have_the_published_number_of_parameters(name: str, channels: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(create_resnet2d(name, channels)) == parameters


def test_trunks_have_the_usual_names() -> None:
    with torch.device("meta"):
        names = set(create_resnet2d("resnet50").state_dict())
    blocks = [(f"layer{stage}.{place}", place) for stage, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for place in range(n)]
    expected = {"conv1.weight", *(f"bn1.{part}" for part in _NORM)}
    for block, place in blocks:
        expected |= {f"{block}.conv{k}.weight" for k in (1, 2, 3)} | {f"{block}.bn{k}.{part}" for k in (1, 2, 3) for part in _NORM}
        if place == 0:
            expected |= {f"{block}.downsample.0.weight", *(f"{block}.downsample.1.{part}" for part in _NORM)}
    assert names == expected


_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_ecg_as_a_picture_shrinks_as_published() -> None:
    with torch.device("meta"):
        trunk, sizes = create_resnet2d("resnet18", 1), []
        trunk.conv1.register_forward_hook(lambda m, i, o: sizes.append(tuple(o.shape[2:])))
        for number in range(1, 5):
            getattr(trunk, f"layer{number}").register_forward_hook(lambda m, i, o: sizes.append(tuple(o.shape[2:])))
        assert trunk(torch.zeros(2, 1, 5000, 12)).shape == (2, 512)
    assert sizes == [(2500, 6), (1250, 3), (625, 2), (313, 1), (157, 1)]


@pytest.mark.parametrize("preset", ["mimic", "mimic_l2"])
def test_presets_have_the_published_encoders(preset: str) -> None:
    config = SPEC.configure(preset)
    with torch.device("meta"):
        method = create_method("symile", config)
    assert isinstance(method, Symile)
    D = config.width
    for name, trunk, feature_width in (("ecg", 11_170_240, 512), ("image", 23_508_032, 2048), ("labs", 289_024, 1024)):
        # Linear, LayerNorm, and the indicator, which the published networks of Symile-MIMIC do not have.
        assert count(method.encoders[name]) == trunk + feature_width * D + D + 2 * D + 2 * D
    assert count(method) == sum(count(t) for t in method.encoders.values()) + 1


def test_ecg_has_no_unit_and_a_record_is_scaled_as_a_whole() -> None:
    method = make().eval()
    data = batch(method)
    with torch.no_grad():
        microvolts = method.encode(data).embedding_BD
        scaled = method.encode(dataclasses.replace(data, signal_BLT=data.signal_BLT * 1e-3 - 0.2)).embedding_BD
        single = method.encode(data.part(0, 1))
        unit_BLT = data.signal_BLT.clone()
        unit_BLT[:, 3] *= 2
        other = method.encode(dataclasses.replace(data, signal_BLT=unit_BLT)).embedding_BD
    assert microvolts is not None and scaled is not None and other is not None and single.embedding_BD is not None
    torch.testing.assert_close(scaled, microvolts, rtol=0, atol=1e-4)
    torch.testing.assert_close(single.embedding_BD, microvolts[:1], rtol=0, atol=1e-5)
    assert (other - microvolts).abs().max() > 1e-3


def test_pictures_are_normalised_as_those_of_imagenet() -> None:
    method, seen = make().eval(), []
    data = batch(method, 2)
    method.encoders["image"].trunk.register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    with torch.no_grad():
        features = method.encode_image(data)
    assert features.pooled_BF.shape == (2, 256) and features.embedding_BD is not None
    assert data.image_BHW is not None and seen[0].shape == (2, 3, 32, 32)
    for c, (mean, deviation) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        assert seen[0][1, c, 4, 7].item() == pytest.approx((data.image_BHW[1, 4, 7].item() / 255 - mean) / deviation, abs=1e-5)


def test_lab_panel_reads_only_what_was_measured() -> None:
    torch.manual_seed(0)
    panel = LabPanel(50, (256, 1024))
    assert panel.layers[0].in_features == 100 and count(panel) == 100 * 256 + 256 + 256 * 1024 + 1024
    percentile_BP, observed_BP = torch.rand(3, 50), torch.rand(3, 50) > 0.4
    filled_BP = torch.where(observed_BP, percentile_BP, torch.full((3, 50), float("nan")))
    torch.testing.assert_close(panel(filled_BP, observed_BP), panel(percentile_BP, observed_BP), rtol=0, atol=0)
    assert not torch.equal(panel(percentile_BP, observed_BP), panel(percentile_BP, ~observed_BP))


ALL = {"modalities": ("ecg", "image", "labs", "ppg", "text"), **PULSE}


def without(data: Batch, modality: str, gone_B: Tensor, place: float) -> Batch:
    """The batch without a modality in some records, something else in its place."""
    data = dataclasses.replace(data, observed={modality: ~gone_B}, signal_BLT=data.signal_BLT.clone(), texts=list(data.texts or []))
    assert data.image_BHW is not None and data.labs_BP is not None and data.texts is not None
    data.image_BHW, data.labs_BP = data.image_BHW.clone(), data.labs_BP.clone()
    if modality == "image":
        data.image_BHW[gone_B] = int(place)
    if modality == "labs":
        data.labs_BP[gone_B] = place / 255
    if modality in ("ecg", "ppg"):
        data.signal_BLT[gone_B, 0 if modality == "ecg" else 1] = place * torch.randn(data.signal_BLT.shape[2])
    if modality == "text":
        data.texts = [f"nothing {place}" if gone else text for gone, text in zip(gone_B.tolist(), data.texts, strict=True)]
    return data


@pytest.mark.parametrize("modality", ["ecg", "image", "labs", "ppg", "text"])
def test_what_stands_in_place_of_a_missing_modality_changes_nothing(modality: str) -> None:
    gone_B = torch.tensor([False, True, False, False, True, True])
    found = []
    for place in (1.0, 200.0):
        method = make(**ALL).train()
        towers = method.towers(without(batch(method), modality, gone_B, place))
        found.append((towers, method.state_dict()))
    (first, statistics), (second, others) = found
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(statistics[name], others[name]) for name in statistics)
    assert torch.equal(first[f"has_{modality}"], ~gone_B)
    assert torch.equal(first[modality][1], first[modality][4]) and not torch.equal(first[modality][0], first[modality][1])


@pytest.mark.parametrize("objective", ["symile", "pairwise"])
@pytest.mark.parametrize("normalise", ["l2", "none"])
def test_loss_is_finite_without_a_modality_in_the_whole_batch(objective: str, normalise: str) -> None:
    for gone in (("image",), ("ecg",), ("image", "labs"), ("ecg", "image", "labs")):
        method = make(objective=objective, normalise=normalise)
        data = dataclasses.replace(batch(method), observed={m: torch.zeros(6, dtype=torch.bool) for m in gone})
        losses = method.loss(data)
        losses.total.backward()
        assert torch.isfinite(losses.total)
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.encoders.parameters())
        if objective == "pairwise":
            assert losses.parts["skipped_pairs"].item() == {1: 2, 2: 3, 3: 3}[len(gone)]


def test_empty_contents_count_as_missing() -> None:
    method = make(**ALL).eval()
    data = batch(method)
    assert data.texts is not None and data.labs_observed_BP is not None
    data.texts[1], data.labs_observed_BP[2], data.signal_BLT[3, 1], data.signal_BLT[4, 0] = "  ", False, 0.0, 7.0
    with torch.no_grad():
        towers = method.towers(data)
    missing = {m: (~towers[f"has_{m}"]).nonzero()[:, 0].tolist() for m in method.config.modalities}
    assert missing == {"ecg": [4], "image": [], "labs": [2], "ppg": [3], "text": [1]}


def test_indicator_is_learned_for_both_cases() -> None:
    method = make()
    data = dataclasses.replace(batch(method), observed={"image": torch.tensor([True, True, False, True, False, True])})
    method.loss(data).total.backward()
    gradient = method.encoders["image"].indicator.weight.grad
    assert gradient is not None and (gradient.abs().sum(dim=1) > 0).all()
    assert method.scale.log_scale.grad is not None and method.scale.log_scale.grad != 0


@pytest.mark.parametrize("normalise", ["l2", "none"])
@pytest.mark.parametrize("negatives", ["n", "n_squared"])
def test_loss_is_the_objective_of_the_towers(normalise: str, negatives: Any) -> None:
    method = make(normalise=normalise, negatives=negatives).eval()
    data = batch(method)
    with torch.no_grad():
        towers = method.towers(data)
        embedded = method.embed(data)
        torch.manual_seed(3)
        losses = method.loss(data)
        torch.manual_seed(3)
        expected = symile_loss([towers[m] for m in ("ecg", "image", "labs")], method.scale(), negatives)
    assert torch.equal(losses.total, expected)
    candidates = 6 if negatives == "n" else 36
    assert losses.parts["information_bound"].item() == pytest.approx(math.log(candidates) - expected.item(), abs=1e-5)
    lengths = embedded["ecg"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((6,), 1.0 if normalise == "l2" else math.sqrt(32)), rtol=1e-3, atol=0)


def test_pairwise_baseline_has_the_same_encoders() -> None:
    method, other = make("tiny_pairwise").eval(), make().eval()
    data = batch(method)
    with torch.no_grad():
        towers = method.towers(data)
        expected, _ = pairwise_loss([towers[m] for m in ("ecg", "image", "labs")], method.scale())
        assert torch.equal(method.loss(data).total, expected)
        assert torch.equal(towers["image"], other.towers(data)["image"])


def test_batches_in_parts_give_the_same_loss() -> None:
    method = make().eval()
    data = batch(method)
    whole, method.config = method.config, dataclasses.replace(method.config, accumulate=3)
    with torch.no_grad():
        torch.manual_seed(0)
        parts = method.loss(data).total
        method.config = whole
        torch.manual_seed(0)
        torch.testing.assert_close(parts, method.loss(data).total, rtol=0, atol=1e-5)


def test_similarity_is_the_scaled_product_and_needs_no_whole_query() -> None:
    method = make().eval()
    with torch.no_grad():
        e = method.embed(batch(method))
        s = method.scale().item()
        whole_QC = method.similarity({"ecg": e["ecg"], "labs": e["labs"]}, e["image"], "image")
        part_QC = method.similarity({"ecg": e["ecg"]}, e["image"], "image")
        pairwise_QC = make("tiny_pairwise").similarity({"ecg": e["ecg"], "labs": e["labs"]}, e["image"], "image")
        for q in range(6):
            for c in range(6):
                assert whole_QC[q, c].item() == pytest.approx(s * mip([e["ecg"][q], e["labs"][q], e["image"][c]]).item(), abs=1e-4)
                ones = torch.ones_like(e["labs"][q])
                assert part_QC[q, c].item() == pytest.approx(s * mip([e["ecg"][q], ones, e["image"][c]]).item(), abs=1e-4)
                dots = ((e["ecg"][q] + e["labs"][q]) @ e["image"][c]).item()
                assert pairwise_QC[q, c].item() == pytest.approx(dots / 0.07, abs=1e-4)


@pytest.mark.parametrize("modalities", [("ecg", "labs"), ("text", "ecg"), ("image", "ecg", "labs", "text"), ALL["modalities"]])
def test_any_two_or_more_modalities_train_together(modalities: tuple[str, ...]) -> None:
    method = make(modalities=modalities, **(PULSE if "ppg" in modalities else {}))
    data = batch(method)
    losses = method.loss(data)
    losses.total.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert set(method.embed(data)) == set(modalities)


def test_ecg_and_pulse_wave_are_channels_of_one_store() -> None:
    method = make("tiny_ppg").eval()
    data = batch(method)
    with torch.no_grad():
        before = method.embed(data)
        data.signal_BLT[:, 1] = data.signal_BLT[:, 1].flip(0)
        after = method.embed(data)
    assert torch.equal(before["ecg"], after["ecg"])
    torch.testing.assert_close(before["ppg"], after["ppg"].flip(0), rtol=0, atol=1e-5)
    assert SPEC.reads(method.config) == SPEC.alternatives[0] == (Modality.ECG, Modality.PPG, Modality.TEXT)


def test_a_bundle_keeps_the_vocabulary(tmp_path: Path) -> None:
    method = make("tiny_ppg").eval()
    origin = Provenance(method="symile", preset="tiny_ppg", seed=0, arm="pretrained", steps=1, records=8, fs_hz=125.0)
    write_bundle(tmp_path / "bundle", method, origin)
    again = load_encoder(tmp_path / "bundle")
    data = batch(method)
    assert again.config == method.config
    with torch.no_grad():
        assert torch.equal(again.embed(data)["text"], method.embed(data)["text"])


@pytest.mark.parametrize("preset", ["tiny", "mimic_shape"])
def test_scale_starts_where_logits_spread_as_for_two_modalities(preset: str) -> None:
    shape = {"normalise": "none", "negatives": "n_squared"} if preset == "mimic_shape" else {}
    method = make(width=256, **shape)
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(2000, 256, generator=generator) for _ in range(3)]
    if not shape:
        vectors = [nn.functional.normalize(v, dim=1) for v in vectors]
    spread = (method.scale() * mip(vectors)).std().item()
    assert spread == pytest.approx(1 / 0.07 / math.sqrt(256), rel=0.1)


def test_scale_is_not_decayed_and_clamped_on_request_only() -> None:
    method = make(maximum_scale=90.0, lr=1.0)
    optimizer, schedule = method.optimizers(10)
    assert schedule is None and [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0]
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(method.parameters()))
    for bounded in (method, make(lr=1.0)):
        optimizer, _ = bounded.optimizers(10)
        bounded.scale.log_scale.grad = torch.tensor(-1.0)
        optimizer.step()
        assert (bounded.scale().item() <= 90.001) == (bounded is method)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"negatives": "all"}, "no negatives 'all'"),
        ({"objective": "clip"}, "no objective 'clip'"),
        ({"normalise": "l1"}, "no normalise 'l1'"),
        ({"modalities": ("ecg",)}, "two or more"),
        ({"modalities": ("ecg", "ecg")}, "two or more"),
        ({"modalities": ("image", "labs")}, "with ecg among them"),
        ({"modalities": ("ecg", "wearable")}, "no encoder for 'wearable'"),
        ({"modalities": ("ecg", "ppg")}, "ppg_channels names"),
        ({"modalities": ("ecg", "labs"), **PULSE}, "ppg_channels names"),
        ({"modalities": ("ecg", "ppg"), "ppg_channels": ("PLETH",)}, "must be some of channels"),
        ({"modalities": ("ecg", "ppg"), "channels": ("PLETH",), "ppg_channels": ("PLETH",)}, "leave one to the ECG"),
        ({"modalities": ("ecg", "ppg"), **PULSE, "ppg_backbone": "vit_mini"}, "residual network"),
        ({"image_backbone": "resnet101"}, "no residual network 'resnet101'"),
        ({"scale": 0.0}, "scale must be above 0"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        make(**options)


def test_unfit_batches_are_refused() -> None:
    method = make()
    data = batch(method)
    with pytest.raises(ConfigurationError, match=r"have 50 items.*n_labs=12; set n_labs=50"):
        make(n_labs=12).loss(data)
    with pytest.raises(TrainingError, match="reads image, but the batch has none"):
        method.loss(dataclasses.replace(data, image_BHW=None))
    with pytest.raises(ConfigurationError, match="no image tower"):
        make("tiny_ppg").encode_image(data)
    with pytest.raises(ConfigurationError, match="at least one modality"):
        method.similarity({}, torch.zeros(2, 32), "image")
    assert set(method.embed(dataclasses.replace(data, image_BHW=None))) == {"ecg", "labs"}


def test_validation_always_draws_the_same_permutations() -> None:
    method = make()
    data = batch(method, 12)

    class Data:
        patients = np.arange(12)

        def __len__(self) -> int:
            return 12

        def batch(self, positions: np.ndarray) -> Batch:
            return dataclasses.replace(
                data,
                **{name: getattr(data, name)[positions] for name in ("signal_BLT", "row_B", "image_BHW", "labs_BP", "labs_observed_BP")},
                texts=None,
            )

    strategy = SimpleNamespace(root_device=torch.device("cpu"), batch_to_device=lambda b: b, reduce=lambda v, reduce_op: v)
    trainer: Any = SimpleNamespace(
        strategy=strategy, precision_plugin=SimpleNamespace(forward_context=nullcontext), world_size=1, global_rank=0
    )
    loop: Any = SimpleNamespace(method=method, validation=Data(), config=method.config, batch_size=4, job=SimpleNamespace(seed=5))
    first = validation_loss(loop, trainer)
    state = torch.random.get_rng_state()
    torch.randn(3)
    assert validation_loss(loop, trainer) == first
    torch.random.set_rng_state(state)
    assert validation_loss(loop, trainer) == first and torch.equal(torch.random.get_rng_state(), state)


CLASSES = 8


def xor_triples(n: int, seed: int) -> tuple[Batch, Tensor]:
    """ECG and panel of random classes of three bits each; the picture shows their XOR, so neither alone says anything about it."""
    generator = torch.Generator().manual_seed(seed)
    ecg_N, panel_N = (torch.randint(0, CLASSES, (n,), generator=generator) for _ in range(2))

    def bits(class_N: Tensor) -> list[Tensor]:
        return [((class_N >> k) & 1).float() for k in range(3)]

    t_T, place_H = torch.arange(100) / 100, torch.arange(32) // 2 % 2
    signal_NLT = 0.05 * torch.randn(n, 12, 100, generator=generator)
    labs_NP = 0.1 * torch.rand(n, 50, generator=generator)
    for k, (in_ecg, in_panel) in enumerate(zip(bits(ecg_N), bits(panel_N), strict=True)):
        signal_NLT[:, 4 * k : 4 * k + 4] += (0.1 + in_ecg)[:, None, None] * torch.sin(2 * torch.pi * 5 * 3**k * t_T)
        labs_NP[:, 16 * k : 16 * k + 16] += 0.9 * in_panel[:, None]
    bright, rows, columns = (bit[:, None, None] for bit in bits(ecg_N ^ panel_N))
    image_NHW = 30 + 5 * torch.randn(n, 32, 32, generator=generator)
    image_NHW += 80 * bright + 70 * rows * place_H[:, None] + 70 * columns * place_H
    observed_NP = torch.rand(n, 50, generator=generator) > 0.1
    data = Batch(1000 * signal_NLT, torch.arange(n), None, None, image_NHW.clamp(0, 255).to(torch.uint8), None, labs_NP, observed_NP)
    return data, ecg_N ^ panel_N


def rows_of(data: Batch, rows_R: Tensor) -> Batch:
    found = {f.name: getattr(data, f.name)[rows_R] for f in dataclasses.fields(data) if isinstance(getattr(data, f.name), Tensor)}
    return dataclasses.replace(data, **found)


@pytest.mark.parametrize(("preset", "steps", "low", "high"), [("tiny", 200, 0.9, 1.0), ("tiny_pairwise", 120, 0.0, 0.3)])
def test_tuples_teach_what_pairs_cannot(preset: str, steps: int, low: float, high: float) -> None:
    """Which of eight pictures, one a class, belongs to ECG and panel."""
    method = make(preset, n_samples=100)
    data, _ = xor_triples(2000, seed=1)
    test, class_N = xor_triples(300, seed=2)
    optimizer, _ = method.optimizers(steps)
    for _ in range(steps):
        optimizer.zero_grad()
        method.loss(rows_of(data, torch.randint(0, 2000, (32,)))).total.backward()
        optimizer.step()
    method.eval()
    with torch.no_grad():
        found = method.embed(test)
        candidate_CD = torch.stack([found["image"][class_N == k][0] for k in range(CLASSES)])
        scores_QC = method.similarity({"ecg": found["ecg"], "labs": found["labs"]}, candidate_CD, "image")
    assert low < (scores_QC.argmax(dim=1) == class_N).float().mean() <= high


def test_the_specification_names_what_the_paper_has() -> None:
    config: SymileConfig = SPEC.configure("mimic")
    assert (config.width, config.normalise, config.negatives, config.batch_size, config.epochs) == (8192, "none", "n_squared", 64, 80)
    other = SPEC.configure("mimic_l2")
    assert (other.width, other.normalise, other.negatives, other.batch_size, other.lr) == (512, "l2", "n", 256, 1e-4)
    assert SPEC.reads(config) == (Modality.ECG, Modality.IMAGE, Modality.LABS)
    assert not SPEC.published
