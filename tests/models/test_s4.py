"""Structured state spaces against the recurrence that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.encoders.backbone import create_backbone
from models.encoders.s4 import S4, STATE_PARAMETERS, StateKernel, convolve_both_ways, hippo_legs


def make(state: int = 8, width: int = 6) -> StateKernel:
    """A kernel whose parameters have left the values that they start from."""
    torch.manual_seed(0)
    kernel = StateKernel(width, state).double()
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return kernel


def discrete(kernel: StateKernel) -> tuple[Tensor, Tensor, Tensor]:
    """Abar (F, S, S), Bbar (F, S) and C (K, F, S) by the bilinear rule, with full matrices."""
    step_F, eigenvalue_FS, low_rank_FS, input_FS, output_KFS = kernel.system()
    a_FSS = torch.diag_embed(eigenvalue_FS) - torch.einsum("fs,fr->fsr", low_rank_FS, low_rank_FS.conj())
    half_FSS = step_F[:, None, None] / 2 * a_FSS
    inverse_FSS = torch.linalg.inv(torch.eye(half_FSS.shape[1]) - half_FSS)
    abar_FSS = inverse_FSS @ (torch.eye(half_FSS.shape[1]) + half_FSS)
    return abar_FSS, step_F[:, None] * torch.einsum("fsr,fr->fs", inverse_FSS, input_FS), output_KFS


def power_series(kernel: StateKernel, n_samples: int) -> Tensor:
    """C Abar^k Bbar, one k after the other."""
    abar_FSS, state_FS, output_KFS = discrete(kernel)
    found = []
    for _ in range(n_samples):
        found.append(torch.einsum("kfs,fs->kf", output_KFS, state_FS))
        state_FS = torch.einsum("fsr,fr->fs", abar_FSS, state_FS)
    kernel_KFT = torch.stack(found, dim=2)
    assert kernel_KFT.imag.abs().max() < 1e-10
    return kernel_KFT.real


def run(kernel: StateKernel, signal_FT: Tensor, number: int) -> Tensor:
    """Output number `number` of the recurrence x = Abar x + Bbar u, step by step."""
    abar_FSS, bbar_FS, output_KFS = discrete(kernel)
    state_FS, out = torch.zeros_like(bbar_FS), []
    for t in range(signal_FT.shape[1]):
        state_FS = torch.einsum("fsr,fr->fs", abar_FSS, state_FS) + bbar_FS * signal_FT[:, t, None]
        out.append(torch.einsum("fs,fs->f", output_KFS[number], state_FS).real)
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("state", [2, 8, 64])
def test_the_start_is_hippo_legs_in_other_coordinates(state: int) -> None:
    """Eigenvalues of HiPPO-LegS are -1 ... -S, and B* A^k B does not depend on (unitary) coordinates."""
    n = torch.arange(state, dtype=torch.float64)
    root = (2 * n + 1).sqrt()
    legs_SS = -(root[:, None] * root).tril(-1) - torch.diag(n + 1)
    eigenvalue, low_rank, b = (torch.cat([x, x.conj()]) for x in hippo_legs(state))
    ours_SS = torch.diag(eigenvalue) - torch.outer(low_rank, low_rank.conj())
    assert torch.allclose(eigenvalue.real, torch.tensor(-0.5).double())
    if state <= 8:  # larger ones are too far from normal for their eigenvalues to be computed
        torch.testing.assert_close(torch.linalg.eigvals(ours_SS).real.sort().values, -(n + 1).flip(0), rtol=1e-6, atol=1e-6)
    x, y = root, b
    for _ in range(4):
        torch.testing.assert_close((b.conj() @ y).real, root @ x)
        x, y = legs_SS @ x, ours_SS @ y


@pytest.mark.parametrize("state", [2, 8, 16])
@pytest.mark.parametrize("n_samples", [1, 2, 7, 8, 250])
def test_the_kernel_is_the_power_series(state: int, n_samples: int) -> None:
    kernel = make(state)
    expected_KFT = power_series(kernel, n_samples)
    torch.testing.assert_close(kernel(n_samples), expected_KFT, rtol=1e-9, atol=1e-11)
    single_KFT = kernel.float()(n_samples)
    assert single_KFT.dtype == torch.float32
    torch.testing.assert_close(single_KFT.double(), expected_KFT, rtol=1e-3, atol=1e-5 * expected_KFT.detach().abs().max().item())


def test_the_convolution_is_the_recurrence_over_the_past_and_backwards_over_the_future() -> None:
    kernel = make()
    signal_FT = torch.randn(6, 40, dtype=torch.float64)
    past_FT = run(kernel, signal_FT, 0)
    backwards_FT = run(kernel, signal_FT.flip(1), 1).flip(1)
    future_FT = torch.cat([backwards_FT[:, 1:], torch.zeros(6, 1)], dim=1)  # without the sample itself
    found_BFT = convolve_both_ways(signal_FT[None], kernel(40))
    torch.testing.assert_close(found_BFT[0].double(), past_FT + future_FT, rtol=1e-4, atol=1e-5)


def test_a_shorter_kernel_is_the_beginning_of_a_longer_one() -> None:
    kernel = make()
    torch.testing.assert_close(kernel(250), kernel(1000)[..., :250], rtol=1e-8, atol=1e-10)


def test_gradients_are_those_of_the_power_series() -> None:
    kernel = make(4, 3)
    weight_KFT = torch.randn(2, 3, 20, dtype=torch.float64)
    found = []
    for values_KFT in (kernel(20), power_series(kernel, 20)):
        kernel.zero_grad()
        (values_KFT * weight_KFT).sum().backward()
        found.append({name: p.grad.clone() for name, p in kernel.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() == dict(kernel.named_parameters()).keys()
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-8, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def test_states_decay_whatever_is_learned() -> None:
    kernel = make()
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter += torch.randn_like(parameter)
    assert torch.linalg.eigvals(discrete(kernel)[0]).abs().max() < 1


def test_the_kernel_is_single_precision_under_autocast() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("s4_mini", 1000).eval()
    assert isinstance(backbone, S4)
    kernel = backbone.layers[0].kernel
    plain_KFT = kernel(100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kernel(100), plain_KFT)
        signal_BLT = torch.randn(2, 12, 100)
        half_BF = backbone(signal_BLT)[1].float()
    torch.testing.assert_close(half_BF, backbone(signal_BLT)[1], rtol=0.1, atol=0.1)


def test_the_network_takes_any_length_and_sees_both_ways() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("s4_mini", 1000).eval()
    for length in (1000, 250, 33):
        tokens_BNF, pooled_BF = backbone(torch.randn(2, 12, length))
        assert tokens_BNF.shape == (2, length, 32)
        torch.testing.assert_close(pooled_BF, tokens_BNF.mean(dim=1))
    signal_BLT = torch.zeros(1, 12, 50)
    before = backbone(signal_BLT)[0]
    signal_BLT[:, :, 25] = 1
    changed_N = (backbone(signal_BLT)[0] - before).abs().amax(dim=(0, 2))
    assert (changed_N > 0).all()


def test_the_published_size_and_finite_gradients_of_everything() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("s4", 1000)
    layer = 2 * 512 * 512 + 2 * 512 + 2 * 512 + 512  # gated map, layer norm, skip
    states = 512 * (1 + 4 * (1 + 1 + 2 + 2 + 2 * 2))  # of four pairs: step; decay, frequency, P, B, two outputs
    assert sum(p.numel() for p in backbone.parameters()) == 12 * 512 + 512 + 4 * (layer + states)
    tiny = create_backbone("s4_mini", 1000)
    tiny(torch.randn(2, 12, 100))[0].square().sum().backward()
    gradients = {name: p.grad for name, p in tiny.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())
    assert all(g is not None and g.any() for name, g in gradients.items() if name.endswith(STATE_PARAMETERS))


def test_dropout_takes_whole_channels() -> None:
    torch.manual_seed(0)
    layer = create_backbone("s4_mini", 1000).layers[0].train()
    dropped_BFT = layer.dropout(torch.ones(4, 32, 10))
    kept_BF = dropped_BFT[..., 0] > 0
    assert 0 < int(kept_BF.sum()) < kept_BF.numel()
    assert torch.equal(dropped_BFT > 0, kept_BF[..., None].expand(-1, -1, 10))
