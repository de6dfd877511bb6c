"""ECG-JEPA and its variant by Kim: the network, its training, its normalisation, and what its heads read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.encoders.jepa_transformer import JepaEncoder, grid_table, line_table
from models.errors import ConfigurationError
from models.method import Method
from models.methods.ecg_jepa.databases import ALL_TEN, SCALES, WEIGHTS
from models.methods.ecg_jepa.method import EcgJepa
from models.methods.ecg_jepa.spec import SPEC
from models.objectives.jepa import sample_masks
from models.registry import create_method
from models.signal_scale import SignalScale
from models.types import LEADS, Batch, Modality


def build(preset: str = "tiny", **options: Any) -> EcgJepa:
    torch.manual_seed(0)
    if preset == "tiny_kim":
        options = {"n_samples": 500} | options
    method = create_method("ecg_jepa", SPEC.configure(preset, **options))
    assert isinstance(method, EcgJepa)
    return method


def records(method: Method, batch: int = 4, seed: int = 0, n_samples: int | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    T = n_samples or method.config.n_samples
    return Batch(300 * torch.randn(batch, len(method.config.channels), T, generator=generator), torch.arange(batch))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def train(method: EcgJepa, steps: int, batch: Batch | None = None) -> list[float]:
    optimizer, schedule = method.optimizers(steps)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        total = method.loss(records(method, seed=step) if batch is None else batch).total
        total.backward()
        optimizer.step()
        schedule.step()
        method.after_step(step, steps)
        losses.append(total.item())
    return losses


# The network


@pytest.mark.parametrize(
    ("preset", "encoder", "predictor"),
    [
        ("tiny", 34_368, 7_264),
        ("vit_xs", 3_600_000, 923_328),
        ("vit_s", 14_277_888, 3_689_856),
        ("vit_b", 85_185_024, 21_833_472),
        ("vit_s_100hz", 14_185_728, 3_689_856),
        ("kim", 85_067_520, 11_232_000),
    ],
)
def test_the_published_numbers_of_parameters(preset: str, encoder: int, predictor: int) -> None:
    with torch.device("meta"):
        method = build(preset)
    assert (count(method.encoder), count(method.predictor), count(method.target)) == (encoder, predictor, encoder)


def test_the_tiny_network_at_500_hz_has_the_specified_size() -> None:
    method = build(n_samples=1250, min_block=3, width=64, heads=4, predictor_width=32)
    assert (count(method.encoder), count(method.predictor)) == (117_888, 28_864)
    assert method.encoder.shape.columns == 50


def test_golden_positions() -> None:
    table_ND = line_table(4, 3)
    torch.testing.assert_close(table_ND[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(table_ND[1], torch.tensor([0.841471, 0.540302, 0.01, 0.99995]), atol=1e-6, rtol=0)
    torch.testing.assert_close(table_ND[2], torch.tensor([0.909297, -0.416147, 0.019999, 0.9998]), atol=1e-6, rtol=0)


def test_positions_of_a_grid_hold_time_and_lead() -> None:
    table_GND = grid_table(8, 3, 5)
    for lead in range(3):
        for time in range(5):
            expected = [f(place / 10_000 ** (i / 2)) for place in (time, lead) for f in (math.sin, math.cos) for i in range(2)]
            torch.testing.assert_close(table_GND[lead, time], torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("preset", ["tiny", "tiny_kim"])
def test_the_student_does_not_see_hidden_samples(preset: str) -> None:
    method = build(preset).eval()
    config, data = method.config, records(build(preset))
    columns = config.n_samples // config.patch
    keep_BK, hide_BH = sample_masks(config.mask, 4, columns, config.mask_low, config.mask_high, config.min_block)
    hidden_BN = torch.zeros(4, columns, dtype=torch.bool).scatter(1, hide_BH, True)
    noisy_BLT = torch.where(hidden_BN.repeat_interleave(config.patch, 1)[:, None], torch.randn_like(data.signal_BLT), data.signal_BLT)
    with torch.no_grad():
        torch.testing.assert_close(method.encoder(noisy_BLT, keep_BK), method.encoder(data.signal_BLT, keep_BK))
        first, second = (method.encode(Batch(x, data.row_B)).tokens_BNF for x in (noisy_BLT, data.signal_BLT))
    assert first is not None and second is not None
    assert not torch.allclose(first, second, atol=1e-2)


def test_reading_all_columns_equals_reading_without_a_mask() -> None:
    for preset in ("tiny", "tiny_kim"):
        method = build(preset).eval()
        signal_BLT = records(method).signal_BLT / 300
        every_BK = torch.arange(method.encoder.shape.columns).expand(4, -1)
        with torch.no_grad():
            torch.testing.assert_close(method.encoder(signal_BLT, every_BK), method.encoder(signal_BLT))


def test_equal_mask_tokens_become_different_predictions() -> None:
    method = build().eval()
    with torch.no_grad():
        kept_BGKD = method.encoder(records(method).signal_BLT / 300, torch.arange(4).expand(4, -1))[:, None, 1:]
        near, far = (method.predictor(kept_BGKD, torch.arange(4).expand(4, -1), torch.full((4, 1), place)) for place in (5, 30))
        both = method.predictor(kept_BGKD, torch.arange(4).expand(4, -1), torch.tensor([[5, 30]]).expand(4, -1))
    assert not torch.allclose(near, far, atol=1e-3)
    assert not torch.allclose(both[:, :, 0], both[:, :, 1], atol=1e-3)


def test_weights_start_as_published() -> None:
    method = build(width=128, heads=4, depth=3, predictor_width=64, predictor_depth=2)
    residual = 0.02 / math.sqrt(2 * 3)
    for part in (method.encoder, method.predictor):
        for name, value in part.named_parameters():
            if value.ndim == 1:
                assert torch.equal(value, torch.ones_like(value)), name
            elif value.numel() > 2000:
                expected = residual if name.endswith(("attn.proj.weight", "mlp.fc2.weight")) else 0.02
                assert value.std().item() == pytest.approx(expected, rel=0.05), name
    with torch.device("meta"):
        assert not any(name.endswith("bias") for name, _ in build().named_parameters())


def test_blocks_of_kim_start_by_their_number() -> None:
    method = build("tiny_kim", depth=4, width=64, predictor_width=64)
    for number, block in enumerate(method.encoder.layers, 1):
        assert block.mlp.fc2.weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * number), rel=0.05)
        assert block.attn.qkv.bias is None and block.attn.proj.bias is not None


def test_a_token_of_kim_sees_its_lead_and_its_time_alone() -> None:
    method = build("tiny_kim", depth=1, drop_path=0.0).eval()
    shape = method.encoder.shape
    signal_BLT = (records(method, 1).signal_BLT / 300).requires_grad_()
    tokens_GNF = method.encoder(signal_BLT)[0].view(shape.rows, shape.columns, -1)
    (gradient,) = torch.autograd.grad(tokens_GNF[2, 3].square().sum(), signal_BLT)
    seen_GN = gradient[0].view(shape.rows, shape.columns, -1).abs().sum(dim=2) > 0
    expected_GN = torch.zeros_like(seen_GN)
    expected_GN[2], expected_GN[:, 3] = True, True
    assert torch.equal(seen_GN, expected_GN)


def test_leads_of_kim_are_predicted_apart() -> None:
    method = build("tiny_kim").eval()
    keep_BK, hide_BH = torch.arange(4).expand(2, -1), torch.arange(4, 10).expand(2, -1)
    kept_BGKD = torch.randn(2, 8, 4, method.config.width, requires_grad=True)
    (gradient,) = torch.autograd.grad(method.predictor(kept_BGKD, keep_BK, hide_BH)[0, 5].square().sum(), kept_BGKD)
    assert gradient[0, 5].abs().sum() > 0
    assert gradient.abs().sum() == gradient[0, 5].abs().sum()


# Training


@pytest.mark.parametrize("preset", ["tiny", "tiny_kim"])
def test_the_teacher_learns_by_following_alone(preset: str) -> None:
    method = build(preset)
    for a, b in zip(method.encoder.parameters(), method.target.parameters(), strict=True):
        assert torch.equal(a, b) and a.data_ptr() != b.data_ptr(), "the teacher starts as the student"
    method.loss(records(method)).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in method.target.parameters())
    learning = [(n, p) for part in (method.encoder, method.predictor) for n, p in part.named_parameters()]
    assert [n for n, p in learning if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("momentum", [1.0, 0.0, 0.9])
def test_the_teacher_moves_by_the_convex_combination(momentum: float) -> None:
    method = build(momentum=momentum, final_momentum=momentum)
    with torch.no_grad():
        for value in method.encoder.parameters():
            value.add_(torch.randn_like(value))
    before = [p.clone() for p in method.target.parameters()]
    method.after_step(0, 10)
    for old, student, new in zip(before, method.encoder.parameters(), method.target.parameters(), strict=True):
        if momentum in (0.0, 1.0):
            assert torch.equal(new, old if momentum else student)
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * student)


def test_momentum_rises_in_a_line() -> None:
    method = build(momentum=0.0, final_momentum=1.0)
    with torch.no_grad():
        for value in (*method.encoder.parameters(), *method.target.parameters()):
            value.fill_(1.0 if value.requires_grad else 0.0)
    method.after_step(6, 8)
    torch.testing.assert_close(method.target.embed.weight, torch.full_like(method.target.embed.weight, 0.25))


def test_a_forward_pass_in_evaluation_changes_nothing() -> None:
    method = build().eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with torch.no_grad():
        method.loss(records(method))
        method.encode(records(method))
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())


def test_the_loss_is_that_of_its_parts() -> None:
    method = build(min_block=3).eval()
    data, config = records(method), method.config
    torch.manual_seed(5)
    losses = method.loss(data)
    torch.manual_seed(5)
    keep_BK, hide_BH = sample_masks("blocks", 4, 40, config.mask_low, config.mask_high, 3)
    signal_BLT = (data.signal_BLT / 1000).clamp(-5, 5)
    with torch.no_grad():
        target, kept = method.target(signal_BLT)[:, 1:], method.encoder(signal_BLT, keep_BK)[:, 1:]
        predicted = method.predictor(kept[:, None], keep_BK, hide_BH)[:, 0]
    naive = np.mean([(predicted[b, h] - target[b, hide_BH[b, h]]).abs().numpy() for b in range(4) for h in range(hide_BH.shape[1])])
    assert losses.total.item() == pytest.approx(float(naive), rel=1e-5)
    assert losses.parts["target_std"] > 0.1


def test_targets_of_kim_are_normalised_over_features() -> None:
    method = build("tiny_kim").eval()
    signal_BLT = records(method).signal_BLT
    torch.manual_seed(1)
    found = method.loss(Batch(signal_BLT, torch.arange(4))).total
    with torch.no_grad():
        method.target.norm.weight.mul_(7)
        method.target.norm.bias.add_(0.5)
    torch.manual_seed(1)
    assert method.loss(Batch(signal_BLT, torch.arange(4))).total.item() == pytest.approx(found.item(), rel=1e-3)


def test_weights_decay_and_learned_tokens_norms_and_biases_do_not() -> None:
    for preset in ("tiny", "tiny_kim"):
        method = build(preset)
        optimizer, schedule = method.optimizers(10)
        decayed, free = optimizer.param_groups
        names = {id(p): n for n, p in method.named_parameters()}
        modules = dict(method.named_modules())
        for group, expected in ((decayed, True), (free, False)):
            for value in group["params"]:
                owner, _, leaf = names[id(value)].rpartition(".")
                assert (isinstance(modules[owner], nn.Linear) and leaf == "weight") == expected, names[id(value)]
        assert len(decayed["params"]) + len(free["params"]) == sum(p.requires_grad for p in method.parameters())
        for _ in range(9):
            optimizer.step()
            schedule.step()
        assert decayed["weight_decay"] == pytest.approx(method.config.final_weight_decay) and free["weight_decay"] == 0


def test_sixty_steps_bring_the_loss_down_by_a_quarter() -> None:
    method = build(lr=1e-3, final_lr=1e-3)
    beats_T = torch.sin(torch.arange(1000) / 1000 * 2 * math.pi * 12) ** 21
    generator = torch.Generator().manual_seed(0)
    shift = torch.randint(1000, (8,), generator=generator).tolist()
    signal_BLT = torch.stack([torch.outer(torch.randn(12, generator=generator), beats_T.roll(s)) for s in shift])
    losses = train(method, 60, Batch(700 * signal_BLT + 20 * torch.randn(8, 12, 1000, generator=generator), torch.arange(8)))
    assert losses[0] == pytest.approx(0.82, abs=0.08)
    assert np.mean(losses[-3:]) < 0.75 * losses[0]


def test_students_of_kim_leave_out_branches_and_teachers_do_not() -> None:
    method = build("tiny_kim", drop_path=0.9).train()
    signal_BLT = records(method).signal_BLT / 1000
    with torch.no_grad():
        assert not torch.equal(method.encoder(signal_BLT), method.encoder(signal_BLT))
        assert torch.equal(method.target(signal_BLT), method.target(signal_BLT))
        expected = JepaEncoder.forward(method.encoder.eval(), signal_BLT)
    torch.testing.assert_close(method.target(signal_BLT), expected)


# Normalisation


def scale_of(*names: str, mean: float = 10.0, std: float = 200.0) -> SignalScale:
    shape = len(names), 12
    return SignalScale(mean + np.arange(shape[0])[:, None] + np.zeros(shape), np.full(shape, std), names)


def test_published_constants_are_taken_where_there_are_some() -> None:
    method = build(normalisation="published")
    method.set_scale(scale_of("ptb_xl"))
    assert method.std_SL[0, LEADS.index("V2")].item() == pytest.approx(338)
    assert method.mean_SL[0, LEADS.index("aVR")].item() == pytest.approx(2)
    method.set_scale(scale_of("elsewhere"))
    assert method.std_SL[0].tolist() == [200.0] * 12
    other = build(normalisation="measured")
    other.set_scale(scale_of("ptb_xl"))
    assert other.std_SL[0].tolist() == [200.0] * 12


def test_leads_of_mimic_are_brought_into_our_order() -> None:
    """Its table is printed in the order of its files, I II III aVR aVF aVL: lead number 4 there is our number 5."""
    printed = [0.155, 0.158, 0.166, 0.133, 0.143, 0.141, 0.207, 0.282, 0.284, 0.253, 0.222, 0.197]
    found = [SCALES["mimic_iv_ecg"][lead][1] for lead in LEADS]
    assert found == [*printed[:4], printed[5], printed[4], *printed[6:]]
    assert [SCALES["mimic_iv_ecg"][lead][0] for lead in LEADS[3:7]] == [-0.019, 0.014, 0.004, -0.018]


def test_the_ten_databases_are_whole() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1, abs=1e-9)
    assert SPEC.configure("vit_s_all").mixture_weights() == WEIGHTS
    assert set(SCALES) == set(WEIGHTS) and all(set(leads) == set(LEADS) for leads in SCALES.values())
    assert not SPEC.configure("vit_s").mixture


def test_every_record_has_the_scale_of_its_dataset() -> None:
    method = build(mixture=("a 0.5", "b 0.5"), normalisation="measured")
    scale = SignalScale(np.outer([0.0, 100.0, 50.0], np.ones(12)), np.outer([100.0, 200.0, 400.0], np.ones(12)), ("a", "b", "own"))
    method.set_scale(scale)
    signal_BLT = torch.linspace(-300, 500, 100).expand(3, 12, 100)
    found = method.normalise(Batch(signal_BLT, torch.arange(3), source_B=torch.tensor([1, 0, 1])))
    torch.testing.assert_close(found[0], (signal_BLT[0] - 100) / 200)
    torch.testing.assert_close(found[1], signal_BLT[1] / 100)
    alone = method.normalise(Batch(signal_BLT, torch.arange(3)))
    torch.testing.assert_close(alone, (signal_BLT - 50) / 400)
    with pytest.raises(ConfigurationError, match=r"\(2, 12\).*\(3, 12\)"):
        method.set_scale(scale_of("a", "b"))


def test_signals_are_clipped_and_absent_or_flat_leads_are_zero() -> None:
    method = build(normalisation="measured")
    method.set_scale(scale_of("x", mean=100.0, std=10.0))
    signal_BLT = 100 + 10 * torch.randn(2, 12, 1000)
    signal_BLT[:, 0, 5], signal_BLT[:, 1, 5] = 1e5, -1e5
    signal_BLT[:, 3] = 777.0
    present_BL = torch.ones(2, 12, dtype=torch.bool)
    present_BL[1, 7] = False
    signal_BLT[1, 7] = 0
    found = method.normalise(Batch(signal_BLT, torch.arange(2), present_BL=present_BL))
    assert found.dtype == torch.float32
    assert found[:, 0, 5].tolist() == [5, 5] and found[:, 1, 5].tolist() == [-5, -5]
    assert not found[:, 3].any() and not found[1, 7].any() and found[0, 7].any()


def test_kim_reads_millivolts() -> None:
    method = build("tiny_kim")
    method.set_scale(SignalScale(np.ones((1, 8)), np.ones((1, 8)), ("ptb_xl",)))
    signal_BLT = 9000 * torch.randn(2, 8, 500)
    torch.testing.assert_close(method.normalise(Batch(signal_BLT, torch.arange(2))), signal_BLT / 1000)


# What is read afterwards


def test_features_are_the_mean_of_patches_and_the_register() -> None:
    method = build().eval()
    with torch.no_grad():
        features = method.encode(records(method))
    assert features.tokens_BNF is not None and features.tokens_BNF.shape == (4, 41, 32)
    torch.testing.assert_close(features.pooled_BF, features.tokens_BNF[:, 1:].mean(dim=1))
    assert torch.equal(method.finetune_features(features), features.tokens_BNF[:, 0])
    kim = build("tiny_kim").eval()
    with torch.no_grad():
        features = kim.encode(records(kim))
    assert features.tokens_BNF is not None and features.tokens_BNF.shape == (4, 80, 32)
    torch.testing.assert_close(kim.finetune_features(features), features.tokens_BNF.mean(dim=1))


def test_features_come_from_the_teacher() -> None:
    method = build().eval()
    data = records(method)
    with torch.no_grad():
        before = method.encode(data).pooled_BF
        for value in method.encoder.parameters():
            value.zero_()
        assert torch.equal(method.encode(data).pooled_BF, before)
        for value in method.target.parameters():
            value.zero_()
        assert not torch.equal(method.encode(data).pooled_BF, before)


def test_a_quarter_of_a_record_has_the_first_positions() -> None:
    method = build(n_samples=5000, min_block=10)
    seen: list[Tensor] = []
    method.target.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        features = method.eval().encode(records(method, n_samples=1250))
        embedded = method.target.embed(method.target.cut(method.normalise(records(method, n_samples=1250))))[:, 0]
    assert features.tokens_BNF is not None and features.tokens_BNF.shape[1] == 51
    torch.testing.assert_close(seen[0][:, 1:] - embedded, line_table(32, 200)[:50].expand(4, -1, -1), atol=1e-6, rtol=0)


def test_a_lead_that_kim_lacks_is_as_if_the_network_had_fewer() -> None:
    method = build("tiny_kim").eval()
    data = records(method, 2)
    there = [0, 1, 4]
    present_BL = torch.zeros(2, 8, dtype=torch.bool)
    present_BL[0, there], present_BL[1] = True, True
    with torch.no_grad():
        features = method.encode(replace(data, present_BL=present_BL))
        whole = method.encode(data)
        fewer = build("tiny_kim", channels=("I", "II", "V3")).eval()
        fewer.load_state_dict({k: v for k, v in method.state_dict().items() if not k.endswith("_SL")}, strict=False)
        fewer.target.table_GND = method.target.table_GND[there]
        sliced = fewer.encode(Batch(data.signal_BLT[:1, there], data.row_B[:1]))
    torch.testing.assert_close(features.pooled_BF[:1], sliced.pooled_BF, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.pooled_BF[1], whole.pooled_BF[1], atol=1e-5, rtol=1e-4)
    assert features.tokens_present_BN is not None and features.tokens_present_BN.sum(dim=1).tolist() == [30, 80]


def test_dropout_is_that_of_the_teacher_in_training() -> None:
    method = build()
    data = records(method)
    with torch.no_grad():
        expected = method.train().encode(data).pooled_BF
        assert torch.equal(method.encode(data).pooled_BF, expected), "pretraining has none"
        method.set_dropout(0.3)
        assert not torch.allclose(method.train().encode(data).pooled_BF, expected)
        assert torch.equal(method.eval().encode(data).pooled_BF, expected)


def test_only_the_teacher_is_fine_tuned() -> None:
    method = build()
    learning = method.finetune_parameters(Modality.ECG)
    assert (
        {id(p) for p in learning} == {id(p) for p in method.target.parameters()} == {id(p) for p in method.parameters() if p.requires_grad}
    )
    method.finetune_features(method.encode(records(method))).sum().backward()
    assert all(p.grad is not None for n, p in method.target.named_parameters())
    with pytest.raises(ConfigurationError, match="image"):
        method.finetune_parameters(Modality.IMAGE)


@pytest.mark.parametrize("n_samples", [10, 990, 2000])
def test_records_of_a_wrong_length_are_refused(n_samples: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"records of {n_samples} samples.*multiples of 25 samples up to 1000"):
        build().encode(records(build(), n_samples=n_samples))


def test_records_with_missing_leads_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"reads 12 leads .*the records have 3"):
        build().encode(Batch(torch.randn(2, 3, 1000), torch.arange(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 30}, "records of 1000 samples cannot be cut into patches of 30"),
        ({"patch": 2000}, "patches of 2000"),
        ({"width": 30, "heads": 4}, "width=30 .*heads=4"),
        ({"predictor_width": 18, "predictor_heads": 2}, "predictor_width=18 is no multiple of 4"),
        ({"mask_low": 0.5, "mask_high": 0.3}, "mask_low=0.5 and mask_high=0.3"),
        ({"min_block": 35}, "min_block=35 .*of 40 patches as few as 30"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build(**options)


# The specification


def test_heads_of_published_presets_are_the_published_ones() -> None:
    for preset, crop in (("vit_s", 1250), ("vit_s_100hz", 250)):
        recipes = SPEC.head_recipes(SPEC.configure(preset))
        probe, after, direct = (recipes[p] for p in ("attentive_probe", "finetune_after_probe", "finetune"))
        assert all(
            (r.crop, r.stride, r.batch_size, r.look_every, r.aggregate) == (crop, crop // 2, 128, 100, "mean")
            for r in (probe, after, direct)
        )
        assert (probe.frozen, probe.steps, probe.lr, probe.schedule, probe.weight_decay, probe.clip, probe.patience) == (
            True, 5000, 1e-3, "constant", 0.1, 1.0, 5000,
        )  # fmt: skip
        assert (after.start, after.steps, after.lr, after.final_lr, after.warmup, after.weight_decay, after.dropout, after.patience) == (
            "attentive_probe", 5000, pytest.approx(1e-4), pytest.approx(1e-6), 200, 0.0, 0.1, 2000,
        )  # fmt: skip
        assert (direct.steps, direct.lr, direct.final_lr, direct.first_lr, direct.weight_decay, direct.betas, direct.dropout, direct.clip) == (
            10_000, 1e-3, pytest.approx(1e-5), pytest.approx(1e-6), 0.01, (0.9, 0.99), 0.05, None,
        )  # fmt: skip
        assert (probe.readout, after.readout, direct.readout, direct.bias) == ("attentive", "attentive", "features", False)
    assert len(range(0, 5000 - 1250 + 1, 625)) == 7


def test_the_mixture_stands_in_presets_of_its_own() -> None:
    with_mixture = {name for name, config in SPEC.presets.items() if config.mixture}
    assert with_mixture == {"vit_xs_all", "vit_s_all", "vit_b_all"} and len(ALL_TEN) == 10


def test_published_rows_keep_attentive_and_linear_probes_apart() -> None:
    rows = {(p.model, p.task, p.protocol): p for p in SPEC.published}
    assert rows["ECG-JEPA ViT-S on all", "ptb_xl/all", "finetune_after_probe"].value == 0.945
    assert rows["ECG-JEPA ViT-S on MIMIC-IV-ECG", "ptb_xl/all", "attentive_probe"].printed == "0.940(02)"
    assert rows["xresnet1d50, SimCLR", "ptb_xl/all", "linear_probe"].value == 0.883
    assert ("S4, CPC on CinC2021", "ptb_xl/all", "linear_probe") not in rows
    assert "ST-MEM paper" in rows["ViT-B, ST-MEM", "ptb_xl/super_single", "finetune"].source
    assert not any(p.model.startswith("ECG-JEPA") and p.protocol == "linear_probe" for p in SPEC.published)
