"""Stacked scalograms: wavelets against sines and another bank, pictures lead by lead and second by second, networks and their method."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from models.errors import ConfigurationError
from models.head_recipes import FINETUNE
from models.methods.scalogram.method import Scalogram, create
from models.methods.scalogram.spec import SPEC
from models.registry import create_method
from models.scalogram import Quantile, ScalogramShape, lead_blocks, scaled, scaled_each, stacked_scalograms, without_padding
from models.signal_scale import spread
from models.types import Batch
from models.wavelet import CENTRE, geometric_frequencies, morlet_modulus, morlet_parts, transform_points

FULL = ScalogramShape(500.0, 5000, 500, 12, 64, 100.0, 4.0, 18, 224, 224)
TINY = ScalogramShape(100.0, 1000, 100, 12, 16, 40.0, 4.0, 4, 48, 48)


def beats(shape: ScalogramShape, n: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 300 * torch.randn(n, shape.n_leads, shape.n_samples, generator=generator)


# ---- wavelets


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5])
def test_a_sine_has_its_amplitude_at_its_frequency_and_the_row_of_its_frequency_is_largest(phase: float) -> None:
    time_T = torch.arange(500) / 500.0
    for k, f in enumerate(FULL.frequencies_hz):
        if f < 8:
            continue
        modulus_KT = morlet_modulus(1.7 * torch.sin(2 * torch.pi * f * time_T + phase)[None], 500.0, FULL.frequencies_hz)[0]
        middle_K = modulus_KT[:, 250]
        assert middle_K[k] == pytest.approx(1.7, rel=5e-3) and int(middle_K.argmax()) == k


def test_the_bank_is_that_of_a_plain_transform_in_double_precision() -> None:
    """One signal and one frequency at a time, with complex numbers."""
    signal_BT = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
    frequencies_hz = geometric_frequencies(5, 100.0, 4.0)
    found_BKT = morlet_modulus(signal_BT, 500.0, frequencies_hz)
    points = transform_points(500)
    assert points == 1024
    for b, x_T in enumerate(signal_BT.numpy().astype(np.float64)):
        before = (points - 500) // 2
        spectrum_N = np.fft.fft(np.pad(x_T, (before, points - 500 - before), mode="reflect"))
        w_N = 2 * np.pi * np.fft.fftfreq(points, 1 / 500.0)
        for k, f in enumerate(frequencies_hz):
            bank_N = np.where(w_N > 0, 2 * np.exp(-((CENTRE / (2 * np.pi * f) * w_N - CENTRE) ** 2) / 2), 0)
            expected_T = np.abs(np.fft.ifft(spectrum_N * bank_N))[before : before + 500]
            np.testing.assert_allclose(found_BKT[b, k].numpy(), expected_T, atol=1e-5)


def test_coefficients_are_linear_and_a_constant_has_none() -> None:
    a_BT, b_BT = (torch.randn(1, 100, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    parts = [morlet_parts(x, 100.0, TINY.frequencies_hz) for x in (a_BT, b_BT, 2 * a_BT - 3 * b_BT)]
    for of_a, of_b, of_sum in zip(*parts, strict=True):
        torch.testing.assert_close(of_sum, 2 * of_a - 3 * of_b, rtol=1e-4, atol=1e-4)
    assert lead_blocks(torch.full((1, 12, 1000), 5.0), TINY).abs().max() == 0


def test_gradients_through_the_modulus_are_finite_where_a_signal_is_nothing() -> None:
    signal_BT = torch.zeros(1, 100, requires_grad=True)
    morlet_modulus(signal_BT, 100.0, TINY.frequencies_hz).sum().backward()
    assert signal_BT.grad is not None and torch.isfinite(signal_BT.grad).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: geometric_frequencies(1, 40.0, 4.0), "two or more"),
        (lambda: morlet_modulus(torch.zeros(1, 100), 100.0, (60.0, 4.0)), "lower the frequencies"),
        (lambda: morlet_modulus(torch.zeros(1, 3), 100.0, (40.0, 4.0)), "too short"),
        (lambda: stacked_scalograms(torch.zeros(1, 11, 1000), TINY), "11 leads"),
        (lambda: stacked_scalograms(torch.zeros(1, 12, 950), TINY), "950 samples"),
        (lambda: dataclasses.replace(TINY, height=40), "raise height to 48"),
        (lambda: dataclasses.replace(TINY, window=300), "cannot be cut into windows"),
        (lambda: stacked_scalograms(torch.zeros(1, 12, 500), dataclasses.replace(TINY, scope="record")), "transforms recordings"),
    ],
)
def test_what_does_not_fit_is_named(wrong: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        wrong()  # type: ignore[operator]


# ---- pictures


@pytest.mark.parametrize("shape", [TINY, FULL])
def test_pictures_have_their_size_lie_between_0_and_1_and_do_not_depend_on_their_companions(shape: ScalogramShape) -> None:
    signal_BLT = beats(shape)
    picture_BSHW = scaled(stacked_scalograms(signal_BLT, shape), 3.0)
    assert picture_BSHW.shape == (2, 10, shape.height, shape.width) and picture_BSHW.min() >= 0 and picture_BSHW.max() <= 1
    again_BSHW = scaled(stacked_scalograms(signal_BLT.flip(0), shape), 3.0).flip(0)
    torch.testing.assert_close(picture_BSHW, again_BSHW, rtol=0, atol=1e-6)
    double_BSHW = scaled(stacked_scalograms(signal_BLT.double(), shape), 3.0)
    torch.testing.assert_close(picture_BSHW.double(), double_BSHW, rtol=0, atol=1e-4)


def test_a_lead_fills_its_own_rows_and_padding_stays_zero() -> None:
    signal_BLT = beats(FULL, 1)
    before_BSHW = stacked_scalograms(signal_BLT, FULL)
    changed_BLT = signal_BLT.clone()
    changed_BLT[:, 7] *= 3
    rows = (stacked_scalograms(changed_BLT, FULL) != before_BSHW).any(dim=(0, 1, 3)).nonzero().flatten().tolist()
    assert rows == list(range(4 + 18 * 7, 4 + 18 * 8))
    assert (before_BSHW[:, :, :4] == 0).all() and (before_BSHW[:, :, 220:] == 0).all()
    swapped_BSHW = stacked_scalograms(signal_BLT[:, [1, 0, *range(2, 12)]], FULL)
    torch.testing.assert_close(swapped_BSHW[:, :, 4:22], before_BSHW[:, :, 22:40])


def test_a_second_changes_its_own_picture_alone_unless_recordings_are_transformed_at_once() -> None:
    signal_BLT = beats(TINY, 1)
    changed_BLT = signal_BLT.clone()
    changed_BLT[:, :, 300:400] *= 2
    for scope, expected in (("window", [3]), ("record", [2, 3, 4])):
        shape = dataclasses.replace(TINY, scope=scope)
        apart_S = (stacked_scalograms(changed_BLT, shape) - stacked_scalograms(signal_BLT, shape)).abs().amax(dim=(0, 2, 3))
        seconds = (apart_S > 1e-3).nonzero().flatten().tolist()
        assert seconds == expected if scope == "window" else set(expected) <= set(seconds)


def test_each_picture_may_reach_from_0_to_1_and_a_flat_one_stays_zero() -> None:
    signal_BLT = beats(TINY)
    signal_BLT[1] = 40.0
    picture_BSHW = scaled_each(stacked_scalograms(signal_BLT, TINY), TINY)
    assert (picture_BSHW[0].amax(dim=(1, 2)) == 1).all() and (picture_BSHW[0].amin(dim=(1, 2)) == 0).all()
    assert (picture_BSHW[1] == 0).all()


def test_the_quantile_of_many_numbers_is_right_to_a_bin() -> None:
    values_N = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 5
    quantile = Quantile(0.999)
    for part in values_N.split(7_000):
        quantile.add(part)
    assert quantile.value() == pytest.approx(float(np.quantile(values_N.numpy(), 0.999)), abs=8 / (1 << 15) + 1e-4)
    assert Quantile(0.5).value() == 0


# ---- networks and method


def make(preset: str = "tiny", **options: object) -> Scalogram:
    torch.manual_seed(0)
    method = create_method("scalogram", SPEC.configure(preset, **options))
    assert isinstance(method, Scalogram)
    return method


@pytest.mark.parametrize(("preset", "expected"), [("cnn1d", 270_788), ("cnn_lstm", 435_524), ("tiny_cnn1d", 8_108), ("tiny_lstm", 10_780)])
def test_parameter_counts_with_their_four_outputs(preset: str, expected: int) -> None:
    method = make(preset)
    assert sum(p.numel() for p in method.parameters()) + 4 * (method.feature_width + 1) == expected


@pytest.mark.parametrize(
    ("preset", "parameters", "width"),
    # Those of the public networks with a thousand classes, less their classifiers.
    [
        ("resnet50", 25_557_032 - 2_049_000, 2048),
        ("densenet121", 7_978_856 - 1_025_000, 1024),
        ("efficientnet_b0", 5_288_548 - 1_281_000, 1280),
        ("mobilenet_v3_large", 2_971_952, 960),
    ],
)
def test_networks_for_pictures_have_the_public_sizes(preset: str, parameters: int, width: int) -> None:
    with torch.device("meta"):
        network = make(preset, picture_weights=None).network
    assert sum(p.numel() for p in network.parameters()) == parameters and network.width == width


def test_row_networks_do_not_see_the_padding() -> None:
    method = make("cnn1d").eval()
    picture_BSHW = torch.rand(1, 2, 224, 224, generator=torch.Generator().manual_seed(0))
    other_BSHW = picture_BSHW.clone()
    other_BSHW[:, :, :4], other_BSHW[:, :, 220:] = 7.0, 7.0
    seen, other = (without_padding(p.flatten(0, 1), method.shape) for p in (picture_BSHW, other_BSHW))
    assert torch.equal(method.network(seen), method.network(other))


def test_a_recordings_probability_is_the_mean_of_its_seconds() -> None:
    method, signal_BLT = make().eval(), beats(TINY)
    whole = method.finetune_features(method.encode(Batch(signal_BLT, torch.arange(2))))
    assert whole.shape == (20, method.feature_width)
    singles = [method.finetune_features(method.encode(Batch(x, torch.arange(2)))) for x in signal_BLT.split(100, dim=2)]
    torch.testing.assert_close(whole.view(2, 10, -1), torch.stack(singles, dim=1))
    recipe = SPEC.head_recipes(method.config)[FINETUNE]
    assert (recipe.crop, recipe.stride, recipe.aggregate, recipe.select, recipe.twin) == (
        100,
        100,
        "mean_probability",
        "macro_f1",
        "frozen",
    )


def test_seconds_in_a_row_have_an_order_and_their_mean_has_none() -> None:
    signal_BLT = beats(TINY)
    turned_BLT = torch.cat(signal_BLT.split(100, dim=2)[::-1], dim=2)
    for preset, depends in (("tiny_lstm_record", True), ("tiny", False)):
        method = make(preset).eval()
        found, turned = (method.encode(Batch(x, torch.arange(2))).pooled_BF for x in (signal_BLT, turned_BLT))
        assert torch.allclose(found, turned, atol=1e-5) is not depends
    recipe = SPEC.head_recipes(SPEC.configure("tiny_lstm_record"))[FINETUNE]
    assert recipe.crop is None and (recipe.optimizer, recipe.schedule, recipe.plateau) == ("adam", "plateau", 3)


def test_recordings_that_are_transformed_at_once_count_as_ten_pictures() -> None:
    assert SPEC.head_recipes(SPEC.configure("tiny_record"))[FINETUNE].batch_size == SPEC.configure("tiny_record").finetune_batch_size // 10


def test_the_constant_is_the_quantile_of_the_training_pictures_alone() -> None:
    method, signal_BLT = make(), beats(TINY, 40)
    positions = np.concatenate(list(spread(20)))
    assert positions.max() < 20
    method.measure(Batch(signal_BLT[part], torch.from_numpy(part)) for part in spread(20))
    picture_N = without_padding(stacked_scalograms(signal_BLT[:20], TINY), TINY).flatten().numpy()
    assert float(method.constant) == pytest.approx(float(np.quantile(picture_N, 0.999)), rel=1e-3)
    other = make()
    other.measure(iter(()))
    assert float(other.constant) == 1
    each = make(scaling="per_image")
    each.measure(iter(()))
    assert float(each.constant) == 1


def test_a_flat_lead_gives_zeros_and_no_nan() -> None:
    signal_BLT = beats(TINY)
    signal_BLT[:, 3] = 12.0
    for preset in ("tiny", "tiny_cnn1d", "tiny_lstm_record"):
        method = make(preset).eval()
        assert (method.pictures(signal_BLT)[:, :, 12:16] == 0).all()
        assert torch.isfinite(method.encode(Batch(signal_BLT, torch.arange(2))).pooled_BF).all()


def test_pictures_are_normalised_as_networks_trained_on_photographs_expect() -> None:
    method = make("tiny", colours="jet")
    seen_M3HW = method._seen(torch.full((1, 48, 48), 0.5))
    expected = (torch.tensor([0.5, 1.0, 0.5]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen_M3HW[0, :, 0, 0], expected)
    grey_M3HW = make()._seen(torch.full((1, 48, 48), 0.5))
    assert (functional.relu(grey_M3HW) > 0).all()


def test_local_weights_are_taken_over_and_others_refused(tmp_path: Path) -> None:
    with torch.no_grad():
        donor = make()
        held = {name: value + 1 if value.is_floating_point() else value for name, value in donor.network.state_dict().items()}
    save_file({**held, "fc.weight": torch.zeros(1000, 32)}, tmp_path / "weights.safetensors")
    method = make(picture_weights=str(tmp_path / "weights.safetensors"))
    method.prepare([])
    assert all(torch.equal(value, held[name]) for name, value in method.network.state_dict().items())
    (tmp_path / "poisoned.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    for path in ("poisoned.safetensors", "absent.safetensors"):
        with pytest.raises(ConfigurationError, match="does not hold the weights of ResNet2d"):
            make(picture_weights=str(tmp_path / path)).prepare([])
    with pytest.raises(ConfigurationError, match="reads rows"):
        create(SPEC.configure("tiny_cnn1d", picture_weights="imagenet"))
