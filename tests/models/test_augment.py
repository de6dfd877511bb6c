"""Random changes of images and ECGs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import augment
from models.augment import augment_ecgs, augment_images, permute_segments, random_blur, random_crop, random_tone, time_warp


def signals(B: int = 6, T: int = 1000) -> torch.Tensor:
    x = torch.randn(B, 12, T, generator=torch.Generator().manual_seed(0))
    x[:, 1] = x[:, 0]
    return x


@pytest.mark.parametrize("change", [time_warp, permute_segments, augment_ecgs])
@pytest.mark.parametrize("T", [1000, 162])
def test_shape_stays_and_equal_leads_stay_equal(change, T: int) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    x = signals(T=T)
    found = change(x)
    assert found.shape == x.shape and torch.isfinite(found).all()
    assert torch.equal(found[:, 0], found[:, 1])


@pytest.mark.parametrize("change", [time_warp, permute_segments])
def test_drawn_for_each_lead_apart_the_timing_between_leads_is_lost(change) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    found = change(signals(32), per_lead=True)
    assert not torch.equal(found[:, 0], found[:, 1])


def test_a_permutation_keeps_the_values_of_each_lead() -> None:
    torch.manual_seed(0)
    x = signals()
    found = permute_segments(x)
    assert not torch.equal(found, x)
    assert torch.equal(found.sort(dim=2).values, x.sort(dim=2).values)
    quarters = x[0, 0].split(250)
    for piece in found[0, 0].split(250):
        assert sum(torch.equal(piece, quarter) for quarter in quarters) == 1


def test_a_warp_stretches_two_quarters_and_squeezes_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    x = signals(1)
    for number, stretched in enumerate(augment._WARPS):
        monkeypatch.setattr(torch, "randint", lambda *_, number=number, **__: torch.tensor([[number]]))
        found = time_warp(x)[0, 3].numpy()
        expected = []
        for i in range(4):
            quarter = x[0, 3, 250 * i : 250 * (i + 1)].numpy()
            length = 312 if i in stretched else 188
            expected.append(np.interp(np.linspace(0, 249, length), np.arange(250), quarter))
        np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_the_three_kinds_are_equally_likely() -> None:
    torch.manual_seed(0)
    x = signals(1).expand(600, -1, -1)
    found = augment_ecgs(x)
    same = (found == x).all(dim=(1, 2)).sum().item()
    shuffled = ((found.sort(dim=2).values == x.sort(dim=2).values).all(dim=(1, 2))).sum().item() - same
    assert abs(same - 200 - 200 / 24) < 45 and abs(shuffled - 200 + 200 / 24) < 45


def test_images_stay_within_bounds_and_differ_from_one_another() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 32, 32).expand(16, -1, -1)
    found = augment_images(image)
    assert found.shape == image.shape and found.min() >= 0 and found.max() <= 1
    assert sum(torch.equal(found[i], found[0]) for i in range(1, 16)) < 3


def test_equal_seeds_give_equal_draws() -> None:
    image, signal = torch.rand(4, 32, 32), signals(4)

    def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(seed)
        return augment_images(image), augment_ecgs(signal)

    assert all(torch.equal(a, b) for a, b in zip(draw(3), draw(3), strict=True))
    assert not torch.equal(draw(3)[0], draw(4)[0])


def test_a_flip_can_be_switched_off() -> None:
    ramp = torch.linspace(0, 1, 32).expand(64, 32, 32)
    torch.manual_seed(0)
    assert (augment_images(ramp, flip=False)[:, 16].diff(dim=1).sum(dim=1) >= 0).all()
    assert (augment_images(ramp, flip=True)[:, 16].diff(dim=1).sum(dim=1) < 0).any()


def test_a_crop_of_the_whole_changes_nothing() -> None:
    image = torch.rand(2, 16, 24)
    torch.testing.assert_close(random_crop(image, 1.0, area=(1.0, 1.0), ratio=1.0), image, rtol=0, atol=1e-5)


def test_crops_take_the_share_of_the_area_that_was_drawn() -> None:
    """On a ramp, the range of a crop's values is the share of the width."""
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 64).expand(500, 64, 64)
    wide = random_crop(ramp, 1.0)
    high = random_crop(ramp.transpose(1, 2), 1.0).transpose(1, 2)
    width_B, height_B = wide[:, 0, -1] - wide[:, 0, 0], high[:, 0, -1] - high[:, 0, 0]
    assert width_B.min() > 0.2**0.5 * (3 / 4) ** 0.5 - 0.05 and width_B.max() <= 1 and height_B.max() <= 1
    torch.testing.assert_close((width_B * height_B).mean(), torch.tensor(0.5), rtol=0, atol=0.06)


def test_tone_is_a_factor_and_a_spread_about_the_mean() -> None:
    torch.manual_seed(0)
    image = 0.4 + 0.1 * torch.rand(200, 8, 8)
    found = random_tone(image, 1.0)
    ratio_B = found.mean(dim=(1, 2)) / image.mean(dim=(1, 2))
    spread_B = (found.std(dim=(1, 2)) / image.std(dim=(1, 2))) / ratio_B
    assert ratio_B.min() >= 0.6 and ratio_B.max() <= 1.4 and spread_B.min() > 0.59 and spread_B.max() < 1.41


def test_a_blur_keeps_the_mean_and_smooths() -> None:
    torch.manual_seed(0)
    image = torch.rand(3, 224, 224)
    found = random_blur(image, 1.0)
    torch.testing.assert_close(found.mean(dim=(1, 2)), image.mean(dim=(1, 2)), rtol=0, atol=1e-3)
    assert (found.std(dim=(1, 2)) < image.std(dim=(1, 2))).all()
    flat = torch.full((2, 8, 8), 0.3)
    torch.testing.assert_close(random_blur(flat, 1.0), flat)
