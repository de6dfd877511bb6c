"""Random changes of X-rays and ECGs for contrastive training, a batch at a time, drawn from torch's generator.

Source: Thapa et al. 2024 (MoRE, arXiv 2410.16239). Each record has draws of its own; equal seeds give equal draws.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

SEGMENTS = 4
"""Pieces into which an ECG is cut before it is warped or shuffled."""

_STRETCH = 0.25
_CROP_TRIES = 10
_BLUR_KERNEL = 23
_BLUR_SIGMA = (0.1, 2.0)
_BLUR_SIDE = 224
_WARPS = tuple(itertools.combinations(range(SEGMENTS), SEGMENTS // 2))


def augment_images(image_BHW: Tensor, flip: bool = True) -> Tensor:
    """Images in [0, 1] as MoRE sees them in training, same shape: crop (p 0.8), brightness and contrast (0.8), blur (0.5).

    Args:
        image_BHW: float images in [0, 1].
        flip: whether images are mirrored with p 0.5 too, which puts the heart on the right.
    """
    image_BHW = random_crop(image_BHW, 0.8)
    image_BHW = random_tone(image_BHW, 0.8)
    image_BHW = random_blur(image_BHW, 0.5)
    return _chosen(image_BHW, image_BHW.flip(2), 0.5) if flip else image_BHW


def augment_ecgs(signal_BLT: Tensor, per_lead: bool = False) -> Tensor:
    """Each record warped in time, or with its quarters shuffled, or as it is, equally likely; same shape.

    Args:
        signal_BLT: records.
        per_lead: draw anew for every lead, as MoRE's code does; it destroys the timing between leads.
    """
    kind_B = torch.randint(3, (len(signal_BLT),), device=signal_BLT.device)[:, None, None]
    warped_BLT, shuffled_BLT = time_warp(signal_BLT, per_lead), permute_segments(signal_BLT, per_lead)
    return torch.where(kind_B == 0, warped_BLT, torch.where(kind_B == 1, shuffled_BLT, signal_BLT))


def time_warp(signal_BLT: Tensor, per_lead: bool = False) -> Tensor:
    """Two of four segments, drawn at random, last a quarter longer and the others a quarter shorter (linear interpolation)."""
    B, L, T = signal_BLT.shape
    # In float64, since a record's last positions are large numbers with small fractions.
    table_XT = torch.stack([_warp_positions(T, stretched) for stretched in _WARPS])
    before_XT = table_XT.floor()
    share_XT = (table_XT - before_XT).to(signal_BLT)
    which_Bl = torch.randint(len(_WARPS), (B, L if per_lead else 1), device=signal_BLT.device)
    before_BLT = before_XT.long().to(signal_BLT.device)[which_Bl].expand(B, L, T)
    after_BLT = (before_BLT + 1).clamp(max=T - 1)
    return torch.lerp(signal_BLT.gather(2, before_BLT), signal_BLT.gather(2, after_BLT), share_XT[which_Bl])


def permute_segments(signal_BLT: Tensor, per_lead: bool = False) -> Tensor:
    """Four segments in random order; what does not divide by four stays at the end."""
    B, L, T = signal_BLT.shape
    segment = T // SEGMENTS
    order_BlS = torch.rand(B, L if per_lead else 1, SEGMENTS, device=signal_BLT.device).argsort(dim=2)
    place_BlT = (order_BlS[..., None] * segment + torch.arange(segment, device=signal_BLT.device)).flatten(2)
    rest_T = torch.arange(SEGMENTS * segment, T, device=signal_BLT.device)
    place_BlT = torch.cat([place_BlT, rest_T.expand(*place_BlT.shape[:2], -1)], dim=2)
    return signal_BLT.gather(2, place_BlT.expand(B, L, T))


def random_crop(image_BHW: Tensor, share: float, area: tuple[float, float] = (0.2, 1.0), ratio: float = 4 / 3) -> Tensor:
    """With probability `share`, a rectangle of part of the area, aspect 1 / ratio to ratio, enlarged to the whole (bilinear).

    A rectangle that does not fit is drawn again, ten times at most; then the whole image is taken.
    """
    B, H, W = image_BHW.shape
    device = image_BHW.device
    area_BX = torch.empty(B, _CROP_TRIES, device=device).uniform_(*area)
    aspect_BX = torch.empty(B, _CROP_TRIES, device=device).uniform_(-math.log(ratio), math.log(ratio)).exp()
    width_BX, height_BX = (area_BX * aspect_BX * H / W).sqrt(), (area_BX / aspect_BX * W / H).sqrt()
    fits_BX = (width_BX <= 1) & (height_BX <= 1)
    first_B1 = fits_BX.int().argmax(dim=1, keepdim=True)
    fitted_B = fits_BX.any(dim=1)
    width_B, height_B = (torch.where(fitted_B, side_BX.gather(1, first_B1)[:, 0], 1.0) for side_BX in (width_BX, height_BX))
    # Positions are those of affine_grid: the image spans -1 to 1.
    x_B, y_B = ((1 - side_B) * (2 * torch.rand(B, device=device) - 1) for side_B in (width_B, height_B))
    zero_B = torch.zeros_like(x_B)
    affine_B23 = torch.stack([torch.stack([width_B, zero_B, x_B], 1), torch.stack([zero_B, height_B, y_B], 1)], 1)
    grid = functional.affine_grid(affine_B23.to(image_BHW.dtype), [B, 1, H, W], align_corners=False)
    cropped_B1HW = functional.grid_sample(image_BHW[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _chosen(image_BHW, cropped_B1HW[:, 0], share)


def random_tone(image_BHW: Tensor, share: float, brightness: float = 0.4, contrast: float = 0.4) -> Tensor:
    """With probability `share`, brightness and then contrast about the mean, times a factor within 1 +- the two numbers."""
    light_B11, spread_B11 = (
        torch.empty(len(image_BHW), 1, 1, device=image_BHW.device).uniform_(1 - by, 1 + by) for by in (brightness, contrast)
    )
    bright_BHW = (image_BHW * light_B11).clamp(0, 1)
    mean_B11 = bright_BHW.mean(dim=(1, 2), keepdim=True)
    return _chosen(image_BHW, (mean_B11 + spread_B11 * (bright_BHW - mean_B11)).clamp(0, 1), share)


def random_blur(image_BHW: Tensor, share: float) -> Tensor:
    """With probability `share`, a Gaussian of 23 pixels and sigma between 0.1 and 2 in images of 224, in proportion in others."""
    B, H, W = image_BHW.shape
    by = min(H, W) / _BLUR_SIDE
    half = max(1, min(round(_BLUR_KERNEL // 2 * by), min(H, W) - 1))
    sigma_B1 = by * torch.empty(B, 1, device=image_BHW.device).uniform_(*_BLUR_SIGMA)
    kernel_BX = torch.exp(-0.5 * (torch.arange(-half, half + 1, device=image_BHW.device) / sigma_B1) ** 2)
    kernel_BX = (kernel_BX / kernel_BX.sum(dim=1, keepdim=True)).to(image_BHW.dtype)
    padded_BHW = functional.pad(image_BHW[None], (half, half, half, half), mode="reflect")
    blurred_BHW = functional.conv2d(padded_BHW, kernel_BX[:, None, :, None], groups=B)
    blurred_BHW = functional.conv2d(blurred_BHW, kernel_BX[:, None, None, :], groups=B)
    return _chosen(image_BHW, blurred_BHW[0], share)


def _chosen(plain: Tensor, changed: Tensor, share: float) -> Tensor:
    """The changed records where a draw says so."""
    drawn_B = torch.rand(len(plain), device=plain.device) < share
    return torch.where(drawn_B.view(-1, *[1] * (plain.ndim - 1)), changed, plain)


def _warp_positions(n_samples: int, stretched: tuple[int, ...]) -> Tensor:
    """Where in the record each sample of the warped one lies, float64 (T,)."""
    segment = n_samples // SEGMENTS
    change = int(segment * _STRETCH)
    lengths = [segment + (change if i in stretched else -change) for i in range(SEGMENTS)]
    parts = [torch.linspace(i * segment, (i + 1) * segment - 1, length, dtype=torch.float64) for i, length in enumerate(lengths)]
    return torch.cat([*parts, torch.arange(SEGMENTS * segment, n_samples, dtype=torch.float64)])
