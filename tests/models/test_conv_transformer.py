"""The convolutional transformer and the caption decoder: sizes, shapes, gradients, what depends on what."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models.encoders.caption_decoder import CaptionDecoder
from models.encoders.conv_transformer import ConvPositions, ConvTransformer, scale_gradient
from models.encoders.shapes import CONV_TRANSFORMERS
from models.layers import SelfAttention

MINI = CONV_TRANSFORMERS["conv_transformer_mini"]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_those_of_the_published_networks() -> None:
    with torch.device("meta"):
        assert count(ConvTransformer(CONV_TRANSFORMERS["conv_transformer_small"])) == 62_021_760
        assert count(ConvTransformer(CONV_TRANSFORMERS["conv_transformer_base"])) == 62_021_760 + 4 * 7_087_872
        assert count(CaptionDecoder(768, 6, 8, 30_523)) == 108_506_880


@pytest.mark.parametrize("length", [5000, 2500, 1000, 999, 33, 16])
def test_tokens_are_a_sixteenth_rounded_down(length: int) -> None:
    encoder = ConvTransformer(MINI)
    tokens_BNF, pooled_BF = encoder(torch.randn(2, 12, length))
    assert tokens_BNF.shape == (2, length // 16, 32) and encoder.n_tokens(length) == length // 16
    torch.testing.assert_close(pooled_BF, tokens_BNF.mean(dim=1))


@pytest.mark.parametrize("kernel", [4, 5])
def test_positions_are_a_weight_normed_convolution_cut_to_length(kernel: int) -> None:
    torch.manual_seed(0)
    positions = ConvPositions(8, kernel, 2)
    stored: Any = positions.conv.parametrizations["weight"]
    gain, direction = stored.original0, stored.original1
    assert gain.shape == (1, 1, kernel)
    with torch.no_grad():
        gain.mul_(1.5)
    weight = gain * direction / direction.pow(2).sum(dim=(0, 1), keepdim=True).sqrt()
    x_BNF = torch.randn(2, 9, 8)
    plain = nn.functional.conv1d(x_BNF.transpose(1, 2), weight, positions.conv.bias, padding=kernel // 2, groups=2)
    torch.testing.assert_close(positions(x_BNF), nn.functional.gelu(plain[..., :9]).transpose(1, 2))


def test_layers_normalise_after_each_sum() -> None:
    torch.manual_seed(0)
    encoder = ConvTransformer(MINI).eval()
    layer: Any = encoder.layers[0]
    x_BNF = torch.randn(2, 7, 32)
    first = layer.norm_attention(x_BNF + layer.attention(x_BNF))
    torch.testing.assert_close(layer(x_BNF), layer.norm_mlp(first + layer.mlp(first)))


def test_gradient_of_the_convolutions_is_a_tenth() -> None:
    signal_BLT = torch.randn(2, 12, 160)
    gradients = []
    for scale in (0.1, 1.0):
        torch.manual_seed(0)
        encoder = ConvTransformer(MINI, gradient_scale=scale).eval()
        encoder(signal_BLT)[0].pow(3).sum().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    for name, tenth in gradients[0].items():
        expected = gradients[1][name]
        assert tenth is not None and expected is not None and expected.abs().sum() > 0
        torch.testing.assert_close(tenth, expected * (0.1 if name.startswith("convolutions.") else 1.0), rtol=1e-4, atol=1e-6)
    x = torch.randn(3)
    assert torch.equal(scale_gradient(x, 0.1), x)


def test_dropout_of_attention_is_active_in_training_only() -> None:
    torch.manual_seed(0)
    attention, x_BND = SelfAttention(8, 2, dropout=0.5), torch.randn(1, 6, 8)
    assert not torch.equal(attention(x_BND), attention(x_BND))
    attention.eval()
    assert torch.equal(attention(x_BND), attention(x_BND))


def test_a_mask_by_row_says_who_sees_whom() -> None:
    torch.manual_seed(0)
    attention, x_BND = SelfAttention(8, 2), torch.randn(2, 5, 8)
    seen_BN = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    torch.testing.assert_close(attention(x_BND, seen_BN), attention(x_BND, seen_BN[:, None].expand(-1, 5, -1)))
    causal = torch.ones(1, 5, 5, dtype=torch.bool).tril()
    for n in range(1, 6):
        torch.testing.assert_close(attention(x_BND, causal)[:, :n], attention(x_BND[:, :n], causal[:, :n, :n]))


def test_the_decoder_looks_back_and_at_its_memory() -> None:
    torch.manual_seed(0)
    decoder = CaptionDecoder(16, 2, 2, 20)
    text_BNW, memory_BMW = torch.randn(2, 6, 16), torch.randn(2, 3, 16)
    before = decoder(text_BNW, memory_BMW)
    assert before.shape == (2, 6, 20)
    for j in range(6):
        changed = text_BNW.clone()
        changed[:, j] = torch.randn(2, 16)
        moved = (decoder(changed, memory_BMW) - before).abs().amax(dim=(0, 2))
        assert (moved[:j] < 1e-6).all() and (moved[j:] > 1e-4).all()
    assert (decoder(text_BNW, memory_BMW + torch.randn(2, 3, 16)) - before).abs().amin() > 0
    torch.testing.assert_close(decoder(text_BNW, memory_BMW.flip(1)), before)
