"""The numbered invariants of MERL's specification, and the parameter counts that it states."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.encoders.backbone import create_backbone
from models.encoders.text import OfflineBert
from models.errors import ConfigurationError, TrainingError
from models.layers import AttentionPool, scale_to_unit
from models.methods.merl.method import Merl, clean_report
from models.methods.merl.spec import SPEC, MerlConfig
from models.registry import create_method
from models.types import LEADS, Batch


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make(**overrides: object) -> Merl:
    torch.manual_seed(0)
    method = create_method("merl", SPEC.configure("tiny", **overrides))
    assert isinstance(method, Merl)
    return method


def batch(B: int = 4, T: int = 1000, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(100 * torch.randn(B, 12, T, generator=generator), torch.arange(B), [f"sinus rhythm, report number {i}" for i in range(B)])


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 3_848_832), ("vit_tiny", 5_473_152)])
def test_backbone_has_the_published_number_of_parameters(name: str, parameters: int) -> None:
    assert count(create_backbone(name, 5000)) == parameters


@pytest.mark.parametrize(
    ("preset", "overrides", "parameters"),
    [
        ("repository", {}, 4_783_488),
        ("repository", {"backbone": "vit_tiny"}, 5_950_336),
        ("tiny", {}, 79_024),
        ("tiny_vit", {}, 80_160),
    ],
)
def test_whole_network_has_the_published_number_of_parameters(preset: str, overrides: dict[str, str], parameters: int) -> None:
    assert count(create_method("merl", SPEC.configure(preset, **overrides))) == parameters


@pytest.mark.parametrize("length", [1000, 999, 2500, 5000, 1001, 33, 17])
def test_encoder_length_is_a_sixteenth_rounded_up(length: int) -> None:
    backbone = create_backbone("resnet_mini", length)
    tokens_BNF, pooled_BF = backbone(torch.zeros(1, 12, length))
    assert tokens_BNF.shape == (1, math.ceil(length / 16), 64)
    assert pooled_BF.shape == (1, 64)


def test_bottleneck_backbone_is_four_times_as_wide() -> None:
    backbone = create_backbone("resnet50", 160)
    tokens_BNF, _ = backbone(torch.zeros(1, 12, 160))
    assert backbone.width == tokens_BNF.shape[2] == 2048


def test_attention_pool_refuses_another_length_and_adds_the_first_position_twice() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(5, 8, 2)
    with pytest.raises(ConfigurationError, match="built for 5 tokens, got 6"):
        pool(torch.zeros(1, 6, 8))
    x_BNK = torch.randn(2, 5, 8)
    query = pool.cls + 2 * pool.positions[:, :1]
    sequence = torch.cat([query.expand(2, -1, -1), x_BNK + pool.positions[:, 1:]], dim=1)
    expected, _ = pool.attention(sequence, sequence, sequence)
    torch.testing.assert_close(pool(x_BNK), pool.out(expected[:, 0]))


def test_patch_encoder_refuses_another_length() -> None:
    with pytest.raises(ConfigurationError, match="patches of 50"):
        create_backbone("vit_mini", 1010)
    with pytest.raises(ConfigurationError, match="built for 1000 samples, got 500"):
        create_backbone("vit_mini", 1000)(torch.zeros(1, 12, 500))


def test_equal_embeddings_give_four_log_b() -> None:
    method = make(dropout=0.0)
    repeated = batch(8)
    repeated.signal_BLT = repeated.signal_BLT[:1].expand(8, -1, -1)
    repeated.texts = ["sinus rhythm"] * 8
    losses = method.eval().loss(repeated)
    assert losses.total.item() == pytest.approx(4 * math.log(8), abs=1e-4)
    assert losses.parts["cma"].item() == pytest.approx(2 * math.log(8), abs=1e-4)


def test_views_are_two_maps_of_one_latent_and_still_without_dropout() -> None:
    method = make(dropout=0.0)
    with torch.no_grad():
        method.view2.weight.copy_(method.view1.weight)
        losses = method.loss(batch(8))
        latent_BK, _ = method.head(*method.backbone(scale_to_unit(batch(8).signal_BLT)))
        z_BD = torch.nn.functional.normalize(method.view1(latent_BK), dim=1)
        expected = torch.nn.functional.cross_entropy(z_BD @ z_BD.T / 0.07, torch.arange(8)) * 2
    assert losses.parts["uma"].item() == pytest.approx(expected.item(), rel=1e-5)
    method.eval()
    torch.testing.assert_close(method.loss(batch(8)).total, method.loss(batch(8)).total, rtol=0, atol=0)


def test_gradient_reaches_everything_but_the_language_model() -> None:
    method = make()
    method.prepare(["sinus rhythm, report number 0"])
    method.loss(batch()).total.backward()
    for name, parameter in method.named_parameters():
        if name.startswith("text."):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_trainable_text_layers_are_counted_from_the_top() -> None:
    method = make(text_trainable_layers=1)
    method.loss(batch()).total.backward()
    assert isinstance(method.text, OfflineBert)
    learns = {name for name, p in method.text.named_parameters() if p.grad is not None}
    assert learns and all(name.startswith(("layers.1.", "pooler.")) for name in learns)
    with pytest.raises(ConfigurationError, match="has 2 layers"):
        make(text_trainable_layers=3)


def test_scaling_is_per_record_and_ignores_gain_and_offset() -> None:
    x_BLT = batch().signal_BLT
    unit = scale_to_unit(x_BLT)
    assert unit.amin(dim=(1, 2)).tolist() == [0.0] * 4
    torch.testing.assert_close(unit.amax(dim=(1, 2)), torch.ones(4))
    torch.testing.assert_close(scale_to_unit(2.5 * x_BLT + 300), unit, rtol=0, atol=1e-5)
    assert torch.isfinite(scale_to_unit(torch.zeros(1, 12, 10))).all()


def test_merl_order_is_the_platform_order_with_two_leads_swapped() -> None:
    merl_order = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
    by_name = np.array([LEADS.index(lead) for lead in merl_order])
    swap = np.arange(12)
    swap[[4, 5]] = swap[[5, 4]]
    assert (by_name == swap).all()
    assert (swap[swap] == np.arange(12)).all()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Sinus rhythm. Normal ECG", "sinus rhythm. normal ecg."),
        ("*** Sinus rhythm, normal EKG ***", "sinus rhythm, normal ecg."),
        ("Sinus\nrhythm ---", "sinus rhythm."),
    ],
)
def test_report_cleaning_vectors(raw: str, clean: str) -> None:
    assert clean_report(raw) == clean


def test_prompt_case_does_not_matter_and_one_record_keeps_two_dimensions() -> None:
    method = make().eval()
    method.prepare(["sinus rhythm and atrial fibrillation"])
    with torch.no_grad():
        torch.testing.assert_close(method.embed_text(["Atrial Fibrillation"]), method.embed_text(["atrial fibrillation"]), rtol=0, atol=0)
        assert method.encode(batch(1)).embedding_BD is not None
        assert method.encode(batch(1)).pooled_BF.shape == (1, 64)


def test_loss_without_reports_is_refused() -> None:
    silent = batch()
    silent.texts = None
    with pytest.raises(TrainingError, match="reports table"):
        make().loss(silent)


def zero_shot_auroc(method: Merl, signal_BLT: Tensor, label_B: Tensor) -> float:
    from models.metrics.classification import auroc_per_class

    method.eval()
    with torch.no_grad():
        embedding_BD = method.encode(Batch(signal_BLT, torch.arange(len(signal_BLT)))).embedding_BD
        assert embedding_BD is not None
        scores_BC = torch.nn.functional.normalize(embedding_BD, dim=1) @ method.embed_text(["amplitude low", "amplitude high"]).T
    labels_BC = torch.stack([1 - label_B, label_B], dim=1)
    return float(auroc_per_class(scores_BC.numpy(), labels_BC.numpy()).mean())


def test_zero_shot_learns_what_reports_name_and_knows_nothing_before() -> None:
    """Lead V1 is scaled by the class, which the report names."""
    before, after = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        method = Merl(MerlConfig(n_samples=160, dropout=0.0))
        method.prepare(["amplitude low", "amplitude high"])
        generator = torch.Generator().manual_seed(seed)
        signal_BLT, label_B = 100 * torch.randn(256, 12, 160, generator=generator), torch.randint(0, 2, (256,), generator=generator)
        signal_BLT[:, 6] *= 1 + 4 * label_B[:, None]
        before.append(zero_shot_auroc(method, signal_BLT[192:], label_B[192:]))
        optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
        method.train()
        for step in range(100):
            rows = torch.arange(step * 16, step * 16 + 16) % 192
            texts = [("amplitude high" if label else "amplitude low") for label in label_B[rows].tolist()]
            optimizer.zero_grad()
            method.loss(Batch(signal_BLT[rows], rows, texts)).total.backward()
            optimizer.step()
        after.append(zero_shot_auroc(method, signal_BLT[192:], label_B[192:]))
    assert min(after) > 0.9
    assert np.mean(before) == pytest.approx(0.5, abs=0.25)


def test_published_table_is_read_as_printed(shared_data: Path) -> None:
    """Every row against the machine-readable copy of the same tables."""
    tasks = {
        "ptbxl_super_class": "ptb_xl/super",
        "ptbxl_sub_class": "ptb_xl/sub",
        "ptbxl_form": "ptb_xl/form",
        "ptbxl_rhythm": "ptb_xl/rhythm",
    }
    tasks |= {"icbeb": "cpsc2018/icbeb", "chapman": "sph/csn_published"}
    ours = {(p.model.replace(" + CKEPE", ""), p.task, p.protocol, p.fraction): p.value for p in SPEC.published}
    compared = 0
    with (shared_data / "merl_splits" / "published_results.csv").open() as stream:
        for row in csv.DictReader(stream):
            if row["source"] not in ("MELP paper (ICML 2025) Table 2", "MELP paper (ICML 2025) Table 3") or row["task"] not in tasks:
                continue
            fraction = {"1%": 0.01, "10%": 0.1, "100%": 1.0}.get(row["train_fraction"])
            model = row["method"].replace("MERL-ResNet18", "MERL ResNet18")
            assert ours[model, tasks[row["task"]], row["protocol"], fraction] == pytest.approx(float(row["value_percent"]) / 100), row
            compared += 1
    assert compared == 15 * 18 + 2 * 6
