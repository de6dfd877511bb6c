"""XResNet as the PTB-XL benchmark defines it, and the head before its last linear layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.backbone import create_backbone
from models.encoders.shapes import BACKBONES, XResNetShape
from models.encoders.xresnet1d import ConcatPoolHead, XResNet1d


def make(name: str = "xresnet_mini", n_samples: int = 250) -> XResNet1d:
    torch.manual_seed(0)
    backbone = create_backbone(name, n_samples)
    assert isinstance(backbone, XResNet1d)
    return backbone


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_network_for_71_statements_has_the_parameters_of_the_benchmark() -> None:
    backbone = make("xresnet1d101")
    assert count(backbone, ConcatPoolHead(backbone.width), nn.Linear(128, 71)) == 1_880_775


def test_stages_stem_and_widths_are_those_of_the_benchmark() -> None:
    backbone = make("xresnet1d101")
    convolutions = [m for m in backbone.stem.modules() if isinstance(m, nn.Conv1d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == [(32, 5, 2), (32, 5, 1), (64, 5, 1)]
    assert len(backbone.blocks) == 3 + 4 + 23 + 3
    inner = [[m for m in block.body.modules() if isinstance(m, nn.Conv1d)] for block in backbone.blocks]
    assert {tuple(c.out_channels for c in three) for three in inner} == {(64, 64, 256)}
    assert {tuple(c.kernel_size[0] for c in three) for three in inner} == {(1, 5, 1)}
    assert [i for i, three in enumerate(inner) if three[1].stride == (2,)] == [3, 7, 30]
    assert backbone.width == 256


@pytest.mark.parametrize("length", [250, 1000, 1250, 999, 33, 32, 1])
def test_length_is_a_thirty_second_rounded_up(length: int) -> None:
    backbone = make().eval()
    tokens_BNF, pooled_BF = backbone(torch.randn(2, 12, length))
    assert tokens_BNF.shape == (2, math.ceil(length / 32), 32)
    torch.testing.assert_close(pooled_BF, tokens_BNF.mean(dim=1))


def test_blocks_start_as_their_shortcut() -> None:
    backbone = make()
    for block in backbone.blocks:
        norm = block.body[2][1]
        assert isinstance(norm, nn.BatchNorm1d) and not norm.weight.any()
    x_BFN = torch.rand(2, 16, 9)
    block = backbone.blocks[0].eval()
    torch.testing.assert_close(block(x_BFN), functional.relu(block.shortcut(x_BFN)))


def normed(x_BFN: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    return (x_BFN - x_BFN.mean((0, 2), keepdim=True)) / (x_BFN.var((0, 2), unbiased=False, keepdim=True) + 1e-5).sqrt() * norm.weight[
        :, None
    ] + norm.bias[:, None]


def test_a_block_computed_by_hand_pools_before_its_shortcut() -> None:
    """An odd length: the average pool takes its last sample alone."""
    torch.manual_seed(1)
    block = XResNet1d(XResNetShape((1, 1), stem=(4, 4, 6), width=3), n_leads=2).blocks[1]
    (c1, n1, _), (c2, n2, _), (c3, n3) = block.body
    for norm in (n1, n2, n3):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    x_BFN = torch.randn(3, 12, 7)
    y = functional.relu(normed(torch.einsum("oi,bin->bon", c1.weight[:, :, 0], x_BFN), n1))
    padded = functional.pad(y, (2, 2))
    y = torch.stack([torch.einsum("oik,bik->bo", c2.weight, padded[:, :, 2 * n : 2 * n + 5]) for n in range(4)], dim=2)
    y = normed(torch.einsum("oi,bin->bon", c3.weight[:, :, 0], functional.relu(normed(y, n2))), n3)
    pooled = torch.stack([x_BFN[:, :, 2 * n : 2 * n + 2].mean(dim=2) for n in range(4)], dim=2)
    torch.testing.assert_close(block(x_BFN), functional.relu(y + pooled), rtol=1e-4, atol=1e-5)


def test_a_first_block_widens_its_shortcut_by_a_convolution_without_pooling() -> None:
    shortcut = make().blocks[0].shortcut
    assert [type(m).__name__ for m in shortcut] == ["Sequential"]
    assert isinstance(shortcut[0][0], nn.Conv1d) and shortcut[0][0].kernel_size == (1,)
    assert BACKBONES["xresnet_mini"] == XResNetShape((1, 1, 1, 1), stem=(8, 8, 16), width=8)


def test_the_head_computed_by_hand() -> None:
    torch.manual_seed(0)
    head = ConcatPoolHead(5).eval()
    norm, _, hidden, _, last, _ = head.layers
    for bn in (norm, last):
        nn.init.uniform_(bn.running_mean)
        nn.init.uniform_(bn.running_var, 0.5, 2)
    tokens_BNF = torch.randn(3, 4, 5)
    x = torch.cat([tokens_BNF.max(dim=1).values, tokens_BNF.mean(dim=1)], dim=1)
    x = functional.relu(((x - norm.running_mean) / (norm.running_var + 1e-5).sqrt()) @ hidden.weight.T + hidden.bias)
    torch.testing.assert_close(head(tokens_BNF), (x - last.running_mean) / (last.running_var + 1e-5).sqrt())
    assert [m.p for m in head.layers if isinstance(m, nn.Dropout)] == [0.25, 0.5]


def test_the_head_trains_on_one_record() -> None:
    """A hundredth of the labels of a small dataset may be one."""
    head = ConcatPoolHead(5).train()
    before = {k: v.clone() for k, v in head.state_dict().items()}
    head(torch.randn(1, 4, 5)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items())
