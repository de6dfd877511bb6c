"""The numbered invariants of CSFM's specification, and the parameter counts that it states."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.checkpoint import Provenance, load_encoder, write_bundle
from models.encoders.channel_decoder import ChannelwiseLinear
from models.errors import ConfigurationError
from models.methods.csfm.method import Csfm
from models.methods.csfm.reports import clean_report
from models.methods.csfm.signals import by_channels, crop, standardise
from models.methods.csfm.spec import CHANNELS, SPEC, heads
from models.registry import create_method
from models.types import LEADS, Batch, Modality

TEXTS = ["sinus rhythm normal ecg", "atrial fibrillation with rapid response"]
SETS = (LEADS, ("II",), ("II", "PLETH"), ("PLETH",), ("I", "II", "V1"))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make(seed: int = 0, **overrides: Any) -> Csfm:
    torch.manual_seed(seed)
    method = create_method("csfm", SPEC.configure("tiny", **overrides))
    assert isinstance(method, Csfm)
    method.prepare(TEXTS)
    return method


def present(*sets: tuple[str, ...]) -> Tensor:
    return torch.tensor([[name in chosen for name in CHANNELS] for chosen in sets])


def batch(*sets: tuple[str, ...], T: int = 500, texts: bool = True, seed: int = 0) -> Batch:
    present_BL = present(*sets)
    generator = torch.Generator().manual_seed(seed)
    signal_BLT = 100 * torch.randn(len(sets), len(CHANNELS), T, generator=generator) * present_BL[:, :, None]
    found = Batch(signal_BLT, torch.arange(len(sets)), present_BL=present_BL)
    found.texts = [TEXTS[i % 2] for i in range(len(sets))] if texts else None
    return found


def cls(method: Csfm, data: Batch) -> Tensor:
    with torch.no_grad():
        return method.eval().encode(data).pooled_BF


@pytest.mark.parametrize(
    ("preset", "encoder", "total"),
    [
        ("paper_tiny", 42_511_923, 51.4e6),
        ("paper_base", 108_630_579, 117.5e6),
        ("paper_large", 266_516_531, None),
        ("paper_large_24x16", 333_707_315, 342.6e6),
    ],
)
def test_encoders_have_the_published_number_of_parameters(preset: str, encoder: int, total: float | None) -> None:
    with torch.device("meta"):
        method = create_method("csfm", SPEC.configure(preset))
    assert isinstance(method, Csfm)
    assert count(method.encoder) + count(nn.Linear(method.feature_width, 1)) == encoder
    if total is not None:
        assert count(method) == pytest.approx(total, abs=0.06e6)


def test_the_tiny_network_has_its_number_of_parameters() -> None:
    assert count(make()) == 63_775


def test_the_order_of_channels_does_not_matter_but_their_kind_does() -> None:
    order = torch.randperm(13, generator=torch.Generator().manual_seed(1)).tolist()
    first, second = make(), make(channels=tuple(CHANNELS[i] for i in order))
    second.load_state_dict(first.state_dict())
    data = batch(LEADS, LEADS)
    assert data.present_BL is not None
    permuted = Batch(data.signal_BLT[:, order], data.row_B, present_BL=data.present_BL[:, order])
    torch.testing.assert_close(cls(second, permuted), cls(first, data), rtol=0, atol=1e-5)
    lead, pulse = batch(("II",)), batch(("PLETH",))
    pulse.signal_BLT[:, 12] = lead.signal_BLT[:, 1]
    assert (cls(first, lead) - cls(first, pulse)).abs().max() > 1e-2


def test_absent_channels_and_other_records_change_nothing() -> None:
    method, data = make(), batch(*SETS)
    assert data.present_BL is not None
    whole = cls(method, data)
    noise = dataclasses.replace(data, signal_BLT=torch.where(data.present_BL[:, :, None], data.signal_BLT, 1e3 * torch.randn(5, 13, 500)))
    assert torch.equal(cls(method, noise), whole)
    for i in range(len(SETS)):
        torch.testing.assert_close(cls(method, data.part(i, i + 1)), whole[i : i + 1], rtol=0, atol=1e-5)
    with torch.no_grad():
        tokens = method.encode(data).tokens_BNF
        alone = method.encode(data.part(4, 5)).tokens_BNF
    assert tokens is not None and alone is not None and tokens.shape == (5, 21, 32)
    torch.testing.assert_close(alone, tokens[4:], rtol=0, atol=1e-5)


def test_the_parts_of_a_batch_hold_every_record_once_with_its_channels() -> None:
    torch.manual_seed(0)
    present_BL = torch.rand(40, 13) < torch.rand(40, 1)
    present_BL[:, 3] = True
    seen = {}
    for part in by_channels(present_BL):
        assert max(part.counts) <= 2 * min(part.counts)
        for row, channels, n in zip(part.rows.tolist(), part.channels.tolist(), part.counts, strict=True):
            assert channels[n:] == [-1] * (len(channels) - n)
            seen[row] = channels[:n]
    assert seen == {row: torch.nonzero(present_BL[row]).flatten().tolist() for row in range(40)}


def watched(method: Csfm, data: Batch) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
    """What the encoder returns, what it is given, and the losses of a batch, with masks of one seed."""
    states: list[Tensor] = []
    given: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        given.append(inputs[0].sample_BNP.detach())
        states.append(output.detach())

    handle = method.encoder.register_forward_hook(note)
    torch.manual_seed(3)
    losses = method.loss(data)
    handle.remove()
    return states, given, {"total": losses.total.detach(), **losses.parts}


def test_the_encoder_sees_the_visible_tokens_alone() -> None:
    """Hidden patches are found as those that it was not given; changing them changes the loss and nothing before it."""
    method, data = make().eval(), batch(("II",), texts=False)
    states, given, losses = watched(method, data)
    assert states[0].shape == (1, 1 + 5, 32) and given[0].shape == (1, 5, 25)
    patch_SP = standardise(data.signal_BLT, False)[0, 1].view(20, 25)
    is_visible_S = torch.tensor([bool((given[0][0] - p).abs().amax(dim=1).min() < 1e-6) for p in patch_SP])
    assert is_visible_S.sum() == 5

    def altered(chosen_S: Tensor) -> Batch:
        # Turned around, so that mean and variance of the channel stay.
        turned_SP = torch.where(chosen_S[:, None], patch_SP.flip(1), patch_SP)
        signal_BLT = data.signal_BLT.clone()
        signal_BLT[0, 1] = turned_SP.flatten()
        return dataclasses.replace(data, signal_BLT=signal_BLT)

    plain = watched(method, altered(torch.zeros(20, dtype=torch.bool)))
    after_hidden, after_visible = watched(method, altered(~is_visible_S)), watched(method, altered(is_visible_S))
    torch.testing.assert_close(after_hidden[0][0], plain[0][0], rtol=0, atol=1e-5)
    assert (after_hidden[2]["signal"] - losses["signal"]).abs() > 1e-5
    assert (after_visible[0][0] - plain[0][0]).abs().max() > 1e-3


def test_the_loss_is_that_of_hidden_tokens_alone() -> None:
    """With a head of zeros the signal loss is the mean square of hidden patches, and of text the log of the vocabulary's size."""
    method, data = make().eval(), batch(*SETS)
    with torch.no_grad():
        for parameter in (*method.decoder.signal_head.parameters(), *method.decoder.word_head.parameters()):
            parameter.zero_()
    _, given, losses = watched(method, data)
    visible = sum(float(g.square().sum()) for g in given)
    everything = float(standardise(data.signal_BLT, False).square().sum())
    tokens = 20 * sum(map(len, SETS))
    assert losses["signal"].item() == pytest.approx((everything - visible) / (25 * 0.75 * tokens), rel=1e-4)
    assert losses["signal"].item() == pytest.approx(1, abs=0.05)
    assert losses["text"].item() == pytest.approx(torch.tensor(512.0).log().item(), rel=1e-5)


@pytest.mark.parametrize("texts", [None, ["", "", "TRACING #1", "", ""]])
def test_without_texts_their_loss_is_zero_and_every_gradient_finite(texts: list[str] | None) -> None:
    method = make()
    losses = method.loss(dataclasses.replace(batch(*SETS), texts=texts))
    losses.total.backward()
    assert losses.parts["text"].item() == 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())


def test_each_channel_has_an_output_map_of_its_own() -> None:
    method = make()
    method.loss(batch(("II", "PLETH"), ("II",))).total.backward()
    grad_LDP = method.decoder.signal_head.weight_LDP.grad
    assert grad_LDP is not None
    assert [i for i in range(13) if grad_LDP[i].abs().sum() > 0] == [1, 12]


def test_channelwise_linear_is_as_many_linear_maps() -> None:
    torch.manual_seed(0)
    layer, x, channel = ChannelwiseLinear(13, 6, 4), torch.randn(2, 9, 6), torch.randint(13, (2, 9))
    nn.init.normal_(layer.bias_LP)
    for b in range(2):
        for m in range(9):
            c = int(channel[b, m])
            torch.testing.assert_close(layer(x, channel)[b, m], x[b, m] @ layer.weight_LDP[c] + layer.bias_LP[c])


def test_learning_rates_fall_by_layer_as_published_and_tables_do_not_decay() -> None:
    method = make(depth=6)
    layers = {name: method.layer_of(name) for name, _ in method.encoder.named_parameters(prefix="encoder")}
    scales = sorted({round(0.75 ** (7 - layer), 4) for layer in layers.values()})
    assert scales == [0.1335, 0.178, 0.2373, 0.3164, 0.4219, 0.5625, 0.75, 1.0]
    assert layers["encoder.cls"] == layers["encoder.time_table"] == layers["encoder.patch_embedding.1.weight"] == 0
    assert layers["encoder.blocks.0.fc1.weight"] == 1 and layers["encoder.norm.weight"] == 7
    free = {name for name, value in method.named_parameters() if not method.decays(name, value)}
    tables = {f"{part}.{name}" for part in ("encoder", "decoder") for name in ("channel_table", "time_table", "text_table")}
    assert tables | {"encoder.cls", "encoder.text_type", "encoder.norm.weight"} <= free
    assert all(value.ndim == 1 or name in tables for name, value in method.named_parameters() if name in free)
    optimizer, _ = method.optimizers(10)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] > 0 for p in group["params"]}
    assert decayed == {id(value) for name, value in method.named_parameters() if name not in free}


def test_finetuning_follows_the_public_code() -> None:
    recipe = heads(SPEC.configure("paper_tiny"))["finetune"]
    assert (recipe.lr, recipe.weight_decay, recipe.layer_decay, recipe.batch_size) == (1e-4, 0.05, 0.75, 16)
    assert (recipe.schedule, recipe.warmup, recipe.final_lr, recipe.loss) == ("linear", recipe.steps // 10, 0.0, "asymmetric")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Sinus rhythm. Compared to previous tracing of 2001 no change.", "Sinus rhythm"),
        ("Sinus rhythm\nLeft axis deviation. TRACING #2", "Sinus rhythm, Left axis deviation"),
        ("Sinus bradycardia. Since the previous tracing the rate is slower. Normal ECG.", "Sinus bradycardia, Normal ECG"),
        ("TRACING #1", ""),
        (
            "Atrial fibrillation, rate 120. Compared to the ECG of May, the rate is faster.",
            "Atrial fibrillation, rate 120, the rate is faster",
        ),
    ],
)
def test_reports_are_cleaned_as_in_the_public_code(raw: str, clean: str) -> None:
    assert clean_report(raw) == clean
    assert clean_report(clean) == clean


def test_signals_are_standardised_and_constant_channels_are_zeros() -> None:
    x_BLT = 100 * torch.randn(2, 3, 500) + 3e5
    x_BLT[1, 2] = 12345.678
    z_BLT = standardise(x_BLT, False)
    torch.testing.assert_close(z_BLT[0].std(dim=1, correction=0), torch.ones(3), rtol=1e-3, atol=0)
    assert (z_BLT[1, 2] == 0).all()


def test_padding_can_be_left_out_of_mean_and_variance() -> None:
    x_BLT = torch.randn(1, 2, 500) + 5
    x_BLT[..., 400:] = 0
    counted, left_out = standardise(x_BLT, False), standardise(x_BLT, True)
    assert (counted[0, :, 400:] == counted[0, :, 400:401]).all() and counted[0, 0, 450] != 0
    assert (left_out[..., 400:] == 0).all()
    torch.testing.assert_close(left_out[..., :400], standardise(x_BLT[..., :400], False))


def test_crops_are_anywhere_in_training_and_in_the_middle_else() -> None:
    x_BLT = torch.arange(1000.0).expand(64, 2, 1000)
    torch.manual_seed(0)
    starts = crop(x_BLT, 500, random=True)[:, 0, 0]
    assert starts.min() < 60 and starts.max() > 440 and len(starts.unique()) > 40
    assert torch.equal(crop(x_BLT, 500, random=False), x_BLT[..., 250:750])
    assert crop(x_BLT[..., :400], 500, random=True).shape[2] == 400


def test_short_records_use_the_first_rows_of_the_table_of_times() -> None:
    method, data = make(), batch(LEADS, T=250)
    assert torch.isfinite(cls(method, data)).all()
    with torch.no_grad():
        method.encoder.time_table[10:] = 1e3
    first = cls(method, data)
    with torch.no_grad():
        method.encoder.time_table[:10] += torch.randn(10, 32)
    assert (cls(method, data) - first).abs().max() > 1e-3
    with pytest.raises(ConfigurationError, match="patches of 25"):
        method.encode(batch(LEADS, T=255))


def test_what_cannot_be_read_is_named() -> None:
    method = make()
    with pytest.raises(ConfigurationError, match="built for the 13 channels"):
        method.encode(Batch(torch.randn(2, 12, 500), torch.arange(2)))
    with pytest.raises(ConfigurationError, match="rows 1 have none of the channels"):
        method.encode(batch(("II",), ()))
    with pytest.raises(ConfigurationError, match="no place for the channel RESP"):
        make(channels=("II", "RESP"))
    with pytest.raises(ConfigurationError, match="multiple of the patch"):
        make(crop=510)


def test_a_channel_that_training_never_saw_is_refused_by_name(tmp_path: Path) -> None:
    method = make()
    assert torch.isfinite(cls(method, batch(("PLETH",)))).all(), "an untrained network has no preference"
    method.train().loss(batch(LEADS, ("II",)))
    assert method.seen_L.tolist() == [1, 2] + [1] * 10 + [0]
    write_bundle(
        tmp_path / "bundle", method, Provenance(method="csfm", preset="tiny", seed=0, arm="pretrained", steps=1, records=2, fs_hz=100)
    )
    again = load_encoder(tmp_path / "bundle")
    assert isinstance(again, Csfm)
    for encoder in (method, again):
        with pytest.raises(ConfigurationError, match=r"row 1 .* never trained on: PLETH; it knows I, II"):
            encoder.encode(batch(("II",), ("II", "PLETH")))
        cls(encoder, batch(("II",)))


def test_nan_is_not_hidden() -> None:
    """The training loop refuses such a loss and names the records."""
    data = batch(LEADS, ("II",))
    data.signal_BLT[1, 1, 3] = torch.nan
    assert torch.isnan(make().loss(data).total)


def test_questions_are_read_with_the_recording() -> None:
    method, data = make().eval(), batch(*SETS)
    with torch.no_grad():
        first = method.answer_features(data)
        other = method.answer_features(dataclasses.replace(data, texts=[TEXTS[0]] * 5))
    assert first.shape == (5, 32)
    torch.testing.assert_close(first[0], other[0], rtol=0, atol=1e-5)
    assert (first[1] - other[1]).abs().max() > 1e-3 and (first - cls(method, data)).abs().amax(dim=1).min() > 1e-3
    with pytest.raises(ConfigurationError, match="has none"):
        method.answer_features(batch(LEADS, texts=False))


def test_states_of_four_depths_have_a_place_for_every_channel() -> None:
    method, data = make(depth=4).eval(), batch(*SETS)
    with torch.no_grad():
        states = method.depth_features(data)
    assert [s.shape for s in states] == [(5, 13, 20, 32)] * 4
    assert torch.equal(states[3].abs().sum(dim=(2, 3)) > 0, present(*SETS))
    with torch.no_grad():
        alone = method.depth_features(data.part(4, 5))
    torch.testing.assert_close(alone[3], states[3][4:], rtol=0, atol=1e-5)


def test_an_encoder_goes_over_to_a_classifier_with_only_the_head_missing() -> None:
    trained = make()
    classifier = nn.ModuleDict({"encoder": make(seed=1).encoder, "head": nn.Linear(32, 2)})
    weights = {k: v for k, v in trained.state_dict().items() if k.startswith("encoder.")}
    missing, unexpected = classifier.load_state_dict(weights, strict=False)
    assert set(missing) == {"head.weight", "head.bias"} and unexpected == []
    assert len(trained.finetune_parameters(Modality.ECG)) == len(list(trained.encoder.parameters()))


def beats(count: int, seed: int) -> Batch:
    """Two rhythms that the report names: beats of one shape, each channel with an amplitude of its own."""
    generator = torch.Generator().manual_seed(seed)
    fast_B = torch.arange(count) % 2 == 0
    phase_BT = torch.rand(count, 1, generator=generator) + torch.arange(500) / 100 * torch.where(fast_B, 2.0, 1.0)[:, None]
    beat_BT = torch.exp(-(((phase_BT % 1) - 0.5) ** 2) / 0.005)
    amplitude_L = torch.linspace(0.5, 1.5, 13) * torch.tensor([1, -1] * 6 + [1])
    present_BL = present(*[SETS[i % 5] for i in range(count)])
    signal_BLT = 1000 * beat_BT[:, None] * amplitude_L[:, None] + 20 * torch.randn(count, 13, 500, generator=generator)
    return Batch(signal_BLT * present_BL[:, :, None], torch.arange(count), [TEXTS[int(f)] for f in fast_B], present_BL=present_BL)


def test_a_short_training_halves_the_loss_and_leaves_an_encoder_of_signals() -> None:
    method = make()
    optimizer, schedule = method.optimizers(120)
    losses = []
    for step in range(120):
        torch.manual_seed(step)
        optimizer.zero_grad()
        total = method.loss(beats(8, step)).total
        total.backward()
        optimizer.step()
        schedule.step()
        losses.append(total.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    data = beats(10, 1000)
    assert torch.isfinite(cls(method, dataclasses.replace(data, texts=None))).all()
    assert torch.isfinite(method.loss(dataclasses.replace(data, texts=None)).total)
