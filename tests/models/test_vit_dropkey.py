"""DropKey attention, the trunks of MoRE and their tokenisers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.encoders.vit_dropkey import DropKeyAttention, DropKeyViT, EcgPatches, ImagePatches, drop_keys, dropkey_rates
from models.errors import ConfigurationError


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def trunk(rate: float = 0.3, depth: int = 2) -> DropKeyViT:
    torch.manual_seed(0)
    return DropKeyViT(EcgPatches(100, 8, 16), 16, depth, 4, 32, dropkey_rates(rate, depth, "constant"))


def test_the_published_number_of_parameters() -> None:
    rates = dropkey_rates(0.3, 12, "linear")
    with torch.device("meta"):
        image = DropKeyViT(ImagePatches(224, 16, 768), 768, 12, 12, 3072, rates)
        ecg = DropKeyViT(EcgPatches(1000, 256, 768), 768, 12, 12, 3072, rates)
    assert count(image.patch_embed) == 590_592 and count(image) == 85_771_008
    assert count(ecg.patch_embed) == 1_001_472 and count(ecg) == 86_181_888
    assert all(layer.attn.qkv.bias is None for layer in [*image.layers, *ecg.layers])


def test_names_are_those_of_public_weights() -> None:
    names = set(DropKeyViT(ImagePatches(16, 8, 8), 8, 1, 2, 16, [0.0]).state_dict())
    block = {f"blocks.0.{n}" for n in ("norm1.weight", "attn.qkv.weight", "attn.proj.bias", "norm2.bias", "mlp.fc1.weight", "mlp.fc2.bias")}
    assert block | {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"} <= names


def test_ecg_tokens_fit_the_image_grid() -> None:
    ecg, image = EcgPatches(1000, 4, 16), ImagePatches(224, 16, 16)
    assert ecg(torch.randn(2, 12, 1000)).shape == image(torch.randn(2, 3, 224, 224)).shape == (2, 196, 16)
    for tokens in (1, 16, 196):
        assert EcgPatches(5 * (tokens + 4), 4, 16).n_tokens == tokens


def test_a_token_sees_its_25_samples_and_no_others() -> None:
    torch.manual_seed(0)
    patches = EcgPatches(100, 64, 64).eval()
    signal = torch.randn(1, 12, 100, requires_grad=True)
    (gradient,) = torch.autograd.grad(patches(signal)[0, 3].sum(), signal)
    assert gradient.abs().sum(dim=(0, 1)).nonzero()[:, 0].tolist() == list(range(15, 40))


def test_values_of_tokens_are_averaged_over_the_samples_they_see() -> None:
    token_P = torch.rand(17, generator=torch.Generator().manual_seed(0))
    spread_T = EcgPatches.over_time(token_P, 107)
    for sample in range(107):
        seen = [token_P[k].item() for k in range(17) if 5 * k <= sample <= 5 * k + 24]
        assert spread_T[sample].item() == pytest.approx(sum(seen) / len(seen) if seen else 0.0, abs=1e-6)


@pytest.mark.parametrize(("size", "call"), [(30, "patches of 8"), (32, "images of 32 x 32, got 16 x 16")])
def test_images_of_another_size_are_refused(size: int, call: str) -> None:
    with pytest.raises(ConfigurationError, match=call):
        ImagePatches(size, 8, 8)(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(("n_samples", "call"), [(24, "too short"), (100, "100 samples, got 50")])
def test_records_of_another_length_are_refused(n_samples: int, call: str) -> None:
    with pytest.raises(ConfigurationError, match=call):
        EcgPatches(n_samples, 4, 8)(torch.zeros(1, 12, 50))


def test_schedules() -> None:
    assert dropkey_rates(0.3, 12, "constant") == [0.3] * 12
    linear = dropkey_rates(0.3, 12, "linear")
    assert linear[0] == 0.3 and linear[-1] == 0 and linear == sorted(linear, reverse=True)
    assert linear[3] == pytest.approx(0.3 * (1 - 3 / 11))
    with pytest.raises(ConfigurationError, match="below 1"):
        dropkey_rates(1.0, 2, "linear")


def test_a_rate_for_each_layer() -> None:
    with pytest.raises(ConfigurationError, match="one a layer"):
        DropKeyViT(ImagePatches(16, 8, 8), 8, 2, 2, 16, [0.0])
    network = trunk()
    network.rates = [0.2, 0.0]
    assert network.rates == [0.2, 0.0]


def test_attention_is_the_textbook_one_without_drops() -> None:
    torch.manual_seed(0)
    attention = DropKeyAttention(8, 2, 0.0).train()
    x_BNF = torch.randn(2, 5, 8)
    found = attention(x_BNF)
    for b in range(2):
        q, k, v = (attention.qkv.weight[8 * i : 8 * i + 8] @ x_BNF[b].T for i in range(3))
        mixed = []
        for h in range(2):
            rows = slice(4 * h, 4 * h + 4)
            weights = torch.softmax(q[rows].T @ k[rows] / math.sqrt(4), dim=1)
            mixed.append((weights @ v[rows].T).T)
        torch.testing.assert_close(found[b], attention.proj(torch.cat(mixed).T))


def test_drops_are_off_in_evaluation_and_on_in_training() -> None:
    network, x = trunk(), torch.randn(4, 12, 100)
    network.eval()
    torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)
    attention = network.layers[0].attn.train()
    tokens = torch.randn(2, 17, 16)
    assert not torch.equal(attention(tokens), attention(tokens))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_sum_to_one_and_dropped_keys_have_none(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = (8 * torch.randn(3, 4, 50, 50)).to(dtype)
    mask = drop_keys(logits.shape, 0.3, logits)
    weights = (logits + mask).softmax(dim=-1).float()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 50), rtol=0, atol=1e-2)
    assert weights[mask < 0].max() == 0
    n = mask.numel()
    assert abs((mask < 0).sum().item() - 0.3 * n) < 3 * math.sqrt(n * 0.3 * 0.7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_query_that_loses_all_keys_gives_no_nan(dtype: torch.dtype) -> None:
    logits = (20 * torch.randn(1, 1, 4, 6)).to(dtype)
    weights = (logits + drop_keys(logits.shape, 1.0, logits)).softmax(dim=-1)
    torch.testing.assert_close(weights.float().sum(dim=-1), torch.ones(1, 1, 4), rtol=0, atol=1e-2)
    if dtype == torch.float32:
        torch.testing.assert_close(weights, torch.full((1, 1, 4, 6), 1 / 6))


def test_gradients_are_finite_where_every_key_is_dropped() -> None:
    torch.manual_seed(0)
    attention = DropKeyAttention(8, 2, 0.9).train()
    x_BNF = torch.randn(64, 3, 8, requires_grad=True)
    attention(x_BNF).sum().backward()
    assert torch.isfinite(x_BNF.grad).all() and torch.isfinite(attention.qkv.weight.grad).all()  # type: ignore[arg-type]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigurationError, match="among 3 heads"):
        DropKeyAttention(8, 3, 0.0)
