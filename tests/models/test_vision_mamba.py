"""Vision Mamba: its sizes, what a direction sees, what the class token is, how it starts, and what learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.vision_mamba import Branch, MambaBlock, MambaShape, Mixer, VisionMamba
from models.errors import ConfigurationError

TINY = MambaShape(n_samples=1000, stem=((16, 14, 3, 2), (32, 15, 4, 7)), depth=2, state=4)
PAPER = MambaShape(n_samples=8192, stem=((128, 14, 3, 2), (384, 15, 4, 100)), depth=24)


def make(part: Callable[[MambaShape], nn.Module] = VisionMamba, shape: MambaShape = TINY, **options: Any) -> Any:
    torch.manual_seed(0)
    return part(replace(shape, **options)).eval()


def tokens(N: int = 20, width: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(2, N, width, generator=torch.Generator().manual_seed(seed))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def slow_branch(branch: Branch, x_BNE: Tensor, z_BNE: Tensor) -> Tensor:
    """A branch as it is specified, sample by sample."""
    B, N, E = x_BNE.shape
    before = torch.cat([torch.zeros(B, 3, E).to(x_BNE), x_BNE], dim=1)
    weight_E4 = branch.conv1d.weight[:, 0]
    u_BNE = torch.stack([(before[:, t : t + 4].transpose(1, 2) * weight_E4).sum(2) + branch.conv1d.bias for t in range(N)], dim=1)
    u_BNE = u_BNE * torch.sigmoid(u_BNE)
    R = branch.dt_proj.in_features
    S = branch.A_log.shape[1]
    projected = u_BNE @ branch.x_proj.weight.T
    r, b, c = projected[..., :R], projected[..., R : R + S], projected[..., R + S :]
    delta_BNE = torch.log1p(torch.exp(r @ branch.dt_proj.weight.T + branch.dt_proj.bias))
    a_ES = -torch.exp(branch.A_log)
    h, out = torch.zeros(B, E, S).to(x_BNE), []
    for t in range(N):
        h = torch.exp(delta_BNE[:, t, :, None] * a_ES) * h + (delta_BNE[:, t] * u_BNE[:, t])[..., None] * b[:, t, None]
        out.append((h * c[:, t, None]).sum(2) + branch.D * u_BNE[:, t])
    return torch.stack(out, dim=1) * z_BNE * torch.sigmoid(z_BNE)


# Sizes


@pytest.mark.parametrize(("n_samples", "expected"), [(8192, 729), (5000, 463), (4096, 388)])
def test_tokens_of_the_published_stem(n_samples: int, expected: int) -> None:
    assert replace(PAPER, n_samples=n_samples).n_patches == expected
    assert TINY.n_patches == 83


def test_published_sizes_with_a_head_of_26_classes() -> None:
    full = make(shape=PAPER)
    assert count(full) + 26 * (384 + 1) == 26_091_290
    assert (count(full.stem), count(full.blocks[0]), full.position.numel()) == (760_320, 1_043_328, 280_320)
    assert full.class_token.numel() + count(full.norm) == 768
    assert count(full) - 19 * count(full.blocks[0]) + 26 * (384 + 1) == 6_268_058, "the companion's five blocks"
    assert count(make()) + 26 * (32 + 1) == 32_362
    assert [tuple(full.stem(torch.zeros(1, 12, 8192)).shape)] == [(1, 384, 729)]


def test_signals_of_another_length_and_too_short_ones_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="reads 1000 samples, the signals have 999"):
        make()(torch.zeros(1, 12, 999))
    with pytest.raises(ConfigurationError, match="too short for the stem"):
        make(n_samples=8)


# Directions


def test_a_branch_is_its_specification() -> None:
    branch = make(Branch).double()
    x_BNE, z_BNE = tokens(17, 64).double(), tokens(17, 64, seed=1).double()
    torch.testing.assert_close(branch(x_BNE, z_BNE), slow_branch(branch, x_BNE, z_BNE))
    single = branch.float()(x_BNE.float(), z_BNE.float())
    torch.testing.assert_close(single.double(), slow_branch(branch.double(), x_BNE, z_BNE), rtol=1e-4, atol=1e-6)


def test_a_mixer_is_both_branches_halved() -> None:
    x_BNF = tokens()
    for halve in (True, False):
        mixer = make(Mixer, halve=halve)
        x, z = (x_BNF @ mixer.in_proj.weight.T).split(64, dim=2)
        y = slow_branch(mixer.forwards, x, z) + slow_branch(mixer.backwards, x.flip(1), z.flip(1)).flip(1)
        torch.testing.assert_close(mixer(x_BNF), (y / 2 if halve else y) @ mixer.out_proj.weight.T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("since", [1, 7, 19])
def test_a_branch_is_causal_and_the_mixer_is_not(since: int) -> None:
    branch, mixer = make(Branch), make(Mixer)
    for part, width, sees_ahead in ((lambda x: branch(x, x), 64, False), (mixer, 32, True)):
        x_BNX = tokens(20, width)
        changed = x_BNX.clone()
        changed[:, since:] += 1
        before, after = part(x_BNX), part(changed)
        assert torch.equal(before[:, :since], after[:, :since]) != sees_ahead
        assert not torch.equal(before[:, since:], after[:, since:])


def test_a_centred_window_sees_one_token_ahead() -> None:
    branch = make(Branch, window="centred")
    x_BNE = tokens(20, 64)
    changed = x_BNE.clone()
    changed[:, 10:] += 1
    before, after = branch(x_BNE, x_BNE), branch(changed, x_BNE)
    assert torch.equal(before[:, :9], after[:, :9]) and not torch.equal(before[:, 9], after[:, 9])
    assert before.shape == x_BNE.shape


def test_swapped_directions_of_a_flipped_input_give_the_flipped_output() -> None:
    mixer = make(Mixer)
    x_BNF = tokens()
    expected = mixer(x_BNF).flip(1)
    mixer.forwards, mixer.backwards = mixer.backwards, mixer.forwards
    assert torch.equal(mixer(x_BNF.flip(1)), expected)


def test_a_silent_backward_branch_leaves_half_the_forward_one() -> None:
    mixer = make(Mixer)
    x_BNF = tokens()
    with torch.no_grad():
        mixer.backwards.x_proj.weight.zero_()
        mixer.backwards.D.zero_()
    x, z = mixer.in_proj(x_BNF).chunk(2, dim=2)
    assert torch.equal(mixer(x_BNF), mixer.out_proj(mixer.forwards(x, z) / 2))


def test_every_parameter_of_both_branches_gets_a_gradient() -> None:
    network = make().train()
    network(torch.randn(4, 12, 1000))[1].square().sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert sum(".backwards." in name for name in gradients) == 2 * 7
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert [name for name, g in gradients.items() if g is None or not g.any()] == []


# The class token


@pytest.mark.parametrize(("where", "place"), [("middle", 41), ("end", 83)])
def test_the_class_token_stands_in_the_middle_or_at_the_end_and_is_what_is_read(where: str, place: int) -> None:
    network = make(class_token=where)
    assert network.place == place
    patch_BMF = tokens(83)
    arranged = network.arranged(patch_BMF) - network.position
    torch.testing.assert_close(arranged[:, place], network.class_token[:, 0].expand(2, -1))
    torch.testing.assert_close(torch.cat([arranged[:, :place], arranged[:, place + 1 :]], dim=1), patch_BMF)
    signal_BLT = torch.randn(2, 12, 1000)
    tokens_BNF, pooled_BF = network(signal_BLT)
    assert tokens_BNF.shape == (2, 84, 32) and torch.equal(pooled_BF, tokens_BNF[:, place])


def test_it_stands_at_364_of_730_in_the_published_size() -> None:
    network = make(shape=PAPER, depth=1)
    assert network.place == 364 and network.position.shape == (1, 730, 384)


def test_the_order_of_patches_matters() -> None:
    network = make()
    patch_BMF = tokens(83)

    def read(patch_BMF: Tensor) -> Tensor:
        state = network.arranged(patch_BMF)
        for block in network.blocks:
            state = block(state)
        return network.norm(state)[:, network.place]

    shuffled = patch_BMF[:, torch.randperm(83, generator=torch.Generator().manual_seed(0))]
    assert (read(patch_BMF) - read(shuffled)).abs().max() > 1e-3


# Blocks


def test_a_block_adds_the_mixer_of_normalised_tokens() -> None:
    block = make(_block)
    x_BNF = tokens() * 5
    normed = block.norm.weight * x_BNF / torch.sqrt(x_BNF.square().mean(2, keepdim=True) + 1e-5)
    torch.testing.assert_close(block(x_BNF), x_BNF + block.mixer(normed))


def _block(shape: MambaShape) -> MambaBlock:
    return MambaBlock(shape, shape.drop_path)


def test_drop_path_rises_to_a_tenth_and_leaves_whole_records_out() -> None:
    network = make(shape=PAPER, stem=((4, 14, 3, 2), (8, 15, 4, 100)))
    assert [b.drop_path for b in network.blocks] == pytest.approx([0.1 * k / 23 for k in range(24)])
    block = make(_block, drop_path=0.4).train()
    x_BNF = tokens(5).repeat(1500, 1, 1)
    added = block(x_BNF) - x_BNF
    kept_B = added.flatten(1).abs().amax(1) > 0
    assert kept_B.float().mean().item() == pytest.approx(0.6, abs=0.05)
    expected = block.eval()(x_BNF) - x_BNF
    torch.testing.assert_close(added[kept_B], expected[kept_B] / 0.6, rtol=1e-3, atol=1e-5)


def test_in_evaluation_records_do_not_see_each_other_and_in_training_calls_differ() -> None:
    network = make()
    signal_BLT = torch.randn(6, 12, 1000)
    torch.testing.assert_close(network(signal_BLT)[1][:2], network(signal_BLT[:2])[1], rtol=1e-5, atol=1e-6)
    network.train()
    network.stem.eval()
    assert not torch.equal(network(signal_BLT)[1], network(signal_BLT)[1])
    for block in network.blocks:
        block.drop_path = 0.0
    assert torch.equal(network(signal_BLT)[1], network(signal_BLT)[1])


def test_dropout_is_of_what_a_block_adds() -> None:
    block = make(_block, dropout=0.5, drop_path=0.0).train()
    x_BNF = tokens()
    added = block(x_BNF) - x_BNF
    assert (added == 0).float().mean().item() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("learned", [0.0, 0.3, 1.0])
def test_states_decay_whatever_is_learned_so_that_what_is_bounded_stays_so(learned: float) -> None:
    branch = make(Branch)
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter += learned * torch.randn_like(parameter)
    delta_BNE, rate_ES = branch.steps(2 * torch.randn(2, 50, 2)).double(), branch.rates().double()
    assert (rate_ES < 0).all() and (delta_BNE > 0).all()
    decay = torch.exp(delta_BNE[..., None] * rate_ES)
    assert decay.min() > 0 and decay.max() < 1
    out = branch(10 * torch.ones(1, 3000, 64), torch.ones(1, 3000, 64))
    assert torch.isfinite(out).all() and out[:, 2000:].abs().max() <= 1.01 * out[:, :2000].abs().max()


def test_both_branches_start_alike() -> None:
    mixer = make(Mixer, shape=PAPER)
    for branch in (mixer.forwards, mixer.backwards):
        torch.testing.assert_close(branch.A_log, torch.arange(1, 17).float().log().expand(768, 16))
        assert torch.equal(branch.D, torch.ones(768))
        bound = 24**-0.5
        assert branch.dt_proj.weight.abs().max() <= bound and branch.dt_proj.weight.std().item() == pytest.approx(
            bound / math.sqrt(3), rel=0.03
        )
        step_E = functional.softplus(branch.dt_proj.bias).detach()
        assert step_E.min() >= 1e-3 * 0.999 and step_E.max() <= 0.1 * 1.001
        logs = step_E.log10().sort().values
        torch.testing.assert_close(logs, torch.linspace(-3, -1, 768), atol=0.12, rtol=0)
    assert not torch.equal(mixer.forwards.x_proj.weight, mixer.backwards.x_proj.weight)
    bound = 768**-0.5 / math.sqrt(24)
    assert mixer.out_proj.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert mixer.in_proj.bias is None and mixer.out_proj.bias is None and mixer.forwards.x_proj.bias is None
    network = make(shape=PAPER, depth=1)
    assert network.position.std().item() == pytest.approx(0.02, rel=0.02)


def test_under_autocast_the_residual_stays_in_single_precision() -> None:
    network = make().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens_BNF, pooled_BF = network(torch.randn(4, 12, 1000))
    assert tokens_BNF.dtype == pooled_BF.dtype == torch.float32
    pooled_BF.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
