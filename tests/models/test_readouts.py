"""Attentive pooling against torch's own attention, and networks with a frozen and a trained encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.head_recipes import HeadRecipe
from models.readouts import AttentiveReadout, Classifier, read_of
from models.registry import create_method, get_spec
from models.types import Batch


def batch(n: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(n, 12, 1000, generator=generator) * 100, torch.arange(n))


def classifier(recipe: HeadRecipe) -> Classifier:
    torch.manual_seed(0)
    method = create_method("supervised", get_spec("supervised").configure("tiny_vit")).eval()
    return Classifier(method, recipe, 3, read_of(method, recipe, batch())[0].shape[-1])


def test_the_probe_of_vit_s_has_470016_parameters_for_71_classes() -> None:
    assert sum(p.numel() for p in AttentiveReadout(384, 6, 71).parameters()) == 470_016


def test_pooling_equals_multi_head_attention_without_its_output_map() -> None:
    torch.manual_seed(0)
    readout, twin = AttentiveReadout(12, 3, 5), nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    for weight in readout.parameters():
        nn.init.normal_(weight)
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([readout.to_query.weight, readout.to_key.weight, readout.to_value.weight]))
        twin.out_proj.weight.copy_(torch.eye(12))
    tokens_BNF = torch.randn(4, 7, 12)
    present_BN = torch.rand(4, 7) < 0.6
    present_BN[:, 0] = True
    for mask, hidden in ((None, None), (present_BN, ~present_BN)):
        pooled, _ = twin(readout.query.expand(4, -1, -1), tokens_BNF, tokens_BNF, key_padding_mask=hidden, need_weights=False)
        torch.testing.assert_close(readout(tokens_BNF, mask), readout.out(pooled[:, 0]), rtol=1e-4, atol=1e-5)
    changed_BNF = torch.where(present_BN[..., None], tokens_BNF, torch.randn(4, 7, 12))
    torch.testing.assert_close(readout(changed_BNF, present_BN), readout(tokens_BNF, present_BN))


def test_the_query_is_learned_and_there_is_no_bias() -> None:
    readout = AttentiveReadout(8, 2, 3)
    readout(torch.randn(2, 5, 8)).square().sum().backward()
    assert {name for name, p in readout.named_parameters() if p.grad is not None} == {
        "query", "to_query.weight", "to_key.weight", "to_value.weight", "out.weight"
    }  # fmt: skip
    assert not readout(torch.zeros(1, 5, 8)).any()


def test_widths_that_heads_cannot_share_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="width 10 cannot be divided among 4 heads"):
        AttentiveReadout(10, 4, 2)


def test_a_frozen_encoder_stays_in_evaluation_mode_and_gets_no_gradient() -> None:
    network = classifier(HeadRecipe(frozen=True, readout="attentive"))
    network.train()
    assert network.head.training and not any(m.training for m in network.encoder.modules())
    network(batch()).sum().backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    assert all(p.grad is not None for p in network.head.parameters())
    assert all(name.startswith("head.") for name in network.learned())


def test_a_trained_encoder_learns_with_its_head() -> None:
    network = classifier(HeadRecipe(readout="attentive")).train()
    assert all(m.training for m in network.encoder.modules())
    network(batch()).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.encoder.parameters())
    assert set(network.learned()) == set(network.state_dict())


def test_what_is_learned_is_a_copy() -> None:
    network = classifier(HeadRecipe(frozen=True, readout="attentive"))
    held = network.learned()
    with torch.no_grad():
        for p in network.head.parameters():
            p.add_(1)
    assert not any(torch.equal(held[k], v) for k, v in network.state_dict().items() if k in held)


def test_the_bias_of_a_linear_readout_is_a_choice() -> None:
    assert {n for n, _ in classifier(HeadRecipe(bias=False)).head.named_parameters()} == {"weight"}
    assert {n for n, _ in classifier(HeadRecipe()).head.named_parameters()} == {"weight", "bias"}


def test_an_encoder_without_tokens_has_no_attentive_probe() -> None:
    from tests.models.echo import Echo, EchoConfig

    signal_BLT: Tensor = torch.zeros(2, 12, 20)
    with pytest.raises(ConfigurationError, match="Echo gives no tokens"):
        read_of(Echo(EchoConfig()), HeadRecipe(frozen=True, readout="attentive"), Batch(signal_BLT, torch.arange(2)))
