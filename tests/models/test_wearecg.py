"""WearECG: sizes, the mask, the latent, the objective against its definition, and that it learns what it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from models.encoders.vae1d import SCALE, Latent, VaeDecoder, VaeEncoder, VaeShape
from models.errors import ConfigurationError
from models.methods.wearecg.method import WearEcg, create
from models.methods.wearecg.spec import SPEC
from models.objectives.vae import normal_divergence, vae_loss
from models.types import LEADS, Batch

TINY = VaeShape((8, 16, 32), 4)
KEPT = [LEADS.index(name) for name in ("II", "V1", "V5")]
MISSING = [i for i in range(12) if i not in KEPT]


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def recordings(n: int = 4, n_samples: int = 1000, seed: int = 0) -> Batch:
    """Beats whose missing leads follow from the kept ones, in microvolts."""
    generator = torch.Generator().manual_seed(seed)
    time_T = torch.arange(n_samples) / 100
    rate_B = 1 + torch.rand(n, generator=generator)
    beat_BT = torch.exp(-(((time_T[None] * rate_B[:, None]) % 1 - 0.5) ** 2) / 0.005)
    size_B3 = torch.randn(n, 3, generator=generator)
    mixing_L3 = torch.randn(12, 3, generator=torch.Generator().manual_seed(9))
    mixing_L3[KEPT] = torch.eye(3)
    signal_BLT = (size_B3 @ mixing_L3.T)[:, :, None] * beat_BT[:, None]
    return Batch(500 * signal_BLT, torch.arange(n))


def tiny(**options: object) -> WearEcg:
    torch.manual_seed(0)
    return create(SPEC.configure("tiny", **options))


def test_parameters_are_as_published() -> None:
    assert (parameters(VaeEncoder(VaeShape())), parameters(VaeDecoder(VaeShape()))) == (12_218_448, 22_276_896)
    assert parameters(create(SPEC.presets["paper"])) == 34_495_344
    assert (parameters(VaeEncoder(TINY)), parameters(VaeDecoder(TINY))) == (50_448, 90_576)
    assert create(SPEC.presets["paper_64"]).encoder.blocks[-1].out_channels == 128


@pytest.mark.parametrize("n_samples", [1000, 5000])
def test_the_latent_has_an_eighth_of_the_length_and_the_output_all_of_it(n_samples: int) -> None:
    with torch.no_grad():
        latent = VaeEncoder(TINY)(torch.zeros(2, n_samples, 12))
        assert latent.mean_BZN.shape == latent.log_variance_BZN.shape == (2, 4, n_samples // 8)
        assert VaeDecoder(TINY)(latent.sample()).shape == (2, n_samples, 12)


def test_a_length_that_cannot_be_halved_three_times_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"1001 samples.*multiple of 8"):
        VaeEncoder(TINY)(torch.zeros(1, 1001, 12))


@pytest.mark.parametrize("lead", range(12))
def test_the_output_changes_with_a_kept_lead_and_with_no_other(lead: int) -> None:
    method, batch = tiny().eval(), recordings(2)
    changed = Batch(batch.signal_BLT.clone(), batch.row_B)
    changed.signal_BLT[:, lead] = 1000 * torch.randn(2, 1000)
    with torch.no_grad():
        before_BLT, after_BLT = method.reconstruct(batch), method.reconstruct(changed)
        same = torch.equal(method.encode(batch).pooled_BF, method.encode(changed).pooled_BF)
    assert torch.equal(before_BLT, after_BLT) == same == (lead in MISSING)


def test_what_a_missing_lead_holds_cannot_poison_the_output() -> None:
    batch = recordings(2)
    batch.signal_BLT[:, MISSING] = float("nan")
    assert torch.isfinite(tiny().eval().reconstruct(batch)).all()


def test_training_sees_the_mask_too() -> None:
    method, batch = tiny(), recordings(2)
    zeros = Batch(batch.signal_BLT.clone(), batch.row_B)
    zeros.signal_BLT[:, MISSING] = 0
    divergences = []
    for each in (batch, zeros):
        torch.manual_seed(0)
        divergences.append(method.loss(each).parts["kl"])
    assert torch.equal(*divergences)


def test_the_loss_pulls_on_all_twelve_leads_in_millivolts() -> None:
    method, batch = tiny(), recordings(2)
    signal_BTL = batch.signal_BLT.transpose(1, 2) / 1000
    torch.manual_seed(5)
    losses = method.loss(batch)
    torch.manual_seed(5)
    seen_BTL = signal_BTL * torch.tensor([float(i in KEPT) for i in range(12)])
    latent = method.encoder(seen_BTL)
    z = SCALE * (latent.mean_BZN + torch.exp(latent.log_variance_BZN / 2) * torch.randn_like(latent.mean_BZN))
    expected = ((method.decoder(z) - signal_BTL) ** 2).mean() + 1e-4 * losses.parts["kl"]
    torch.testing.assert_close(losses.total, expected)


def test_without_noise_two_reconstructions_are_equal_and_with_it_they_differ() -> None:
    method, batch = tiny().eval(), recordings(2)
    latent = method.latent(batch.signal_BLT.transpose(1, 2) / 1000)
    assert torch.equal(method.reconstruct(batch), method.reconstruct(batch))
    assert torch.equal(latent.sample(), SCALE * latent.mean_BZN)
    assert not torch.equal(latent.sample(torch.randn(4, 125)), latent.sample(torch.randn(4, 125)))


def test_the_sampled_latent_has_the_variance_that_the_encoder_says() -> None:
    torch.manual_seed(0)
    latent = Latent(torch.randn(1, 4, 3), torch.randn(1, 4, 3))
    drawn = torch.stack([latent.sample(torch.randn(1, 4, 3)) for _ in range(20_000)]) / SCALE
    torch.testing.assert_close(drawn.var(dim=0), latent.log_variance_BZN.exp(), rtol=0.05, atol=0)
    torch.testing.assert_close(drawn.mean(dim=0), latent.mean_BZN, rtol=0, atol=0.08)


def test_log_variances_are_bounded() -> None:
    encoder = VaeEncoder(TINY)
    for bias, bound in ((1e4, 20.0), (-1e4, -30.0)):
        with torch.no_grad():
            encoder.blocks[-1].bias.fill_(bias)
            assert (encoder(torch.zeros(1, 80, 12)).log_variance_BZN == bound).all()


def test_divergence_is_that_of_torch_and_never_negative() -> None:
    torch.manual_seed(0)
    mean_BZN, log_variance_BZN = torch.randn(3, 4, 7), torch.randn(3, 4, 7)
    torch_BZN = kl_divergence(Normal(mean_BZN, (log_variance_BZN / 2).exp()), Normal(torch.zeros(3, 4, 7), torch.ones(3, 4, 7)))
    torch.testing.assert_close(normal_divergence(mean_BZN, log_variance_BZN), torch_BZN.sum(dim=1).mean())
    naive = 0.0
    for b in range(3):
        for n in range(7):
            naive += sum(
                (float(m) ** 2 + np.exp(v) - 1 - v) / 2 for m, v in zip(mean_BZN[b, :, n], log_variance_BZN[b, :, n].tolist(), strict=True)
            )
    assert float(normal_divergence(mean_BZN, log_variance_BZN)) == pytest.approx(naive / 21, rel=1e-5)
    assert (torch_BZN >= 0).all() and normal_divergence(mean_BZN, log_variance_BZN) >= 0
    assert normal_divergence(torch.zeros(2, 4, 5), torch.zeros(2, 4, 5)) == 0


def test_at_weight_zero_the_loss_is_the_squared_error() -> None:
    x_BTL, y_BTL = torch.randn(2, 8, 12), torch.randn(2, 8, 12)
    assert vae_loss(x_BTL, y_BTL, torch.tensor(5.0), 0.0) == torch.nn.functional.mse_loss(x_BTL, y_BTL)
    assert vae_loss(x_BTL, x_BTL, torch.tensor(5.0), 1e-4) == pytest.approx(5e-4)


def test_the_decoder_leaves_its_input_as_it_is() -> None:
    z_BZN = torch.randn(2, 4, 10)
    before = z_BZN.clone()
    VaeDecoder(TINY)(z_BZN)
    assert torch.equal(z_BZN, before)


def test_the_norm_of_attention_is_there_and_used_only_on_demand() -> None:
    outputs = []
    for option in (False, True):
        method = tiny(attention_norm=option)
        assert parameters(method) == 50_448 + 90_576
        with torch.no_grad():
            for name, value in method.named_parameters():
                if name.endswith("norm.weight"):
                    value.fill_(3.0)
        outputs.append(method.eval().reconstruct(recordings(1)))
        norms = [p for name, p in method.named_parameters() if ".norm." in name]
        assert norms and all(p.requires_grad is option for p in norms)
    untouched = tiny().eval().reconstruct(recordings(1))
    assert torch.equal(outputs[0], untouched) and not torch.equal(outputs[1], untouched)


def test_attention_is_softmax_of_scaled_products_place_by_place() -> None:
    torch.manual_seed(0)
    attention = next(block for block in VaeEncoder(TINY).blocks if hasattr(block, "inputs"))
    x_CN = torch.randn(32, 6)
    with torch.no_grad():
        q, k, v = (attention.inputs.weight @ x_CN + attention.inputs.bias[:, None]).chunk(3)
        expected = torch.empty_like(x_CN)
        for n in range(6):
            weight_N = torch.tensor([float(q[:, n] @ k[:, m]) / 32**0.5 for m in range(6)]).exp()
            mixed_C = (v * (weight_N / weight_N.sum())).sum(dim=1)
            expected[:, n] = x_CN[:, n] + attention.out.weight @ mixed_C + attention.out.bias
        torch.testing.assert_close(attention(x_CN[None])[0], expected, rtol=1e-4, atol=1e-5)


def test_evaluation_looks_at_the_missing_leads_alone() -> None:
    method, batch = tiny().eval(), recordings(3)
    with torch.no_grad():
        error_BLT = (method.reconstruct(batch) - batch.signal_BLT) / 1000
        assert float(method.loss(batch).total) == pytest.approx(float(error_BLT[:, MISSING].square().mean()), rel=1e-5)


@pytest.mark.parametrize("kept", [(), LEADS, ("II", "V9")])
def test_kept_leads_that_make_no_sense_are_refused(kept: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="kept leads"):
        create(SPEC.configure("tiny", kept=kept))


def test_widths_that_do_not_fit_their_groups_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiples"):
        create(SPEC.configure("tiny", groups=3))


def test_the_learning_rate_rises_for_a_fifth_of_the_steps() -> None:
    optimizer, schedule = create(SPEC.configure("tiny", lr=5e-5)).optimizers(100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(5e-5) and rates.index(max(rates)) == 19
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_two_hundred_steps_bring_missing_leads_nearer_than_a_flat_line() -> None:
    method, batch = tiny(), recordings(8, n_samples=80)
    optimizer, schedule = method.optimizers(200)
    for _ in range(200):
        optimizer.zero_grad()
        method.loss(batch).total.backward()
        optimizer.step()
        schedule.step()
    flat = float((batch.signal_BLT[:, MISSING] / 1000).square().mean())
    with torch.no_grad():
        assert float(method.eval().loss(batch).total) < 0.7 * flat


def test_limb_leads_of_real_records_follow_from_two(shared_data: Path) -> None:
    from assets.datasets.ptb_xl import PTBXL

    dataset = PTBXL(shared_data / "ptb-xl")
    for record_id in dataset.records()["record_id"].tolist()[:20]:
        record = dataset.read(record_id)
        lead = dict(zip(record.leads, record.signal_LT.astype(np.float64), strict=True))
        residuals = {
            "III": lead["II"] - lead["I"],
            "aVR": -(lead["I"] + lead["II"]) / 2,
            "aVL": lead["I"] - lead["II"] / 2,
            "aVF": lead["II"] - lead["I"] / 2,
        }
        assert max(np.abs(lead[name] - value).max() for name, value in residuals.items()) < 5  # microvolts: rounded to counts


def test_a_record_in_the_lead_order_of_mimic_is_arranged_by_name() -> None:
    from assets.channels import ChannelLayout
    from assets.datasets.ptb_xl import PTBXL
    from assets.record import Record

    signal_LT = np.random.default_rng(0).normal(size=(12, 20)).astype(np.float32)
    order = [0, 1, 2, 3, 5, 4, *range(6, 12)]
    layout = ChannelLayout(PTBXL.channels(), None, False)
    standard = Record(signal_LT, LEADS, 100.0, ("uV",) * 12, "")
    mimic = Record(signal_LT[order], tuple(LEADS[i] for i in order), 100.0, ("uV",) * 12, "")
    assert mimic.leads[4:6] == ("aVF", "aVL")
    assert np.array_equal(layout.select(mimic)[0], layout.select(standard)[0])
