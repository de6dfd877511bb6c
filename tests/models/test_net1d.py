"""ECGFounder's network and the preparation of its signals, against what their authors' code does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import butter, filtfilt, iirnotch, medfilt
from torch import Tensor
from torch.nn import functional

from models.encoders.net1d import ECG_FOUNDER, TINY, Net1d, Net1dShape
from models.errors import ConfigurationError
from models.founder_signals import prepare


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_as_published() -> None:
    network = Net1d(ECG_FOUNDER, 150)
    unused = sum(p.numel() for name, p in network.named_parameters() if "bn" in name)
    assert (parameters(network), unused) == (30_819_014, 66_368)
    assert parameters(Net1d(TINY, 5)) == 6_209


def test_stages_halve_the_length_rounded_up() -> None:
    network = Net1d(Net1dShape(base=4, widths=(4,) * 7, blocks=(1,) * 7, group_width=4), 2)
    assert [x.shape[2] for x in network.stages(torch.zeros(1, 12, 5000))] == [1250, 625, 313, 157, 79, 40, 20]


def test_logits_do_not_depend_on_the_unused_norms() -> None:
    torch.manual_seed(0)
    network, signal_BLT = Net1d(TINY, 5), torch.randn(2, 12, 1000)
    before_BK = network(signal_BLT)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "bn" in name:
                value.fill_(7.0)
    assert torch.equal(network(signal_BLT), before_BK)


def test_a_logit_depends_on_every_used_weight() -> None:
    torch.manual_seed(0)
    network = Net1d(TINY, 5)
    network(torch.randn(4, 12, 1000)).square().sum().backward()
    assert all((p.grad is None) == ("bn" in name) for name, p in network.named_parameters())
    assert all(p.grad.abs().sum() > 0 for p in network.parameters() if p.grad is not None)


def _same(x_CT: Tensor, weight: Tensor, bias: Tensor, stride: int, groups: int) -> Tensor:
    """A convolution with "same" padding, sample by sample."""
    length, kernel = x_CT.shape[1], weight.shape[2]
    out = -(-length // stride)
    left = max(0, (out - 1) * stride + kernel - length) // 2
    found = torch.zeros(len(weight), out)
    per_in, per_out = len(x_CT) // groups, len(weight) // groups
    for o in range(len(weight)):
        read_CT = x_CT[o // per_out * per_in : (o // per_out + 1) * per_in]
        for t in range(out):
            for k in range(kernel):
                if 0 <= (at := t * stride + k - left) < length:
                    found[o, t] += (weight[o, :, k] * read_CT[:, at]).sum()
    return found + bias[:, None]


def test_a_block_is_what_its_definition_says_sample_by_sample() -> None:
    torch.manual_seed(0)
    network = Net1d(Net1dShape(base=4, widths=(4, 8), blocks=(1, 2), group_width=4, kernel=5), 2).double()
    torch.set_default_dtype(torch.float64)
    try:
        x_CT = torch.randn(12, 21)
        state = network.state_dict()
        with torch.no_grad():
            expected = functional.silu(_same(x_CT, state["first_conv.conv.weight"], state["first_conv.conv.bias"], 2, 1))
            for stage, block, halves in ((0, 0, True), (1, 0, True), (1, 1, False)):
                name = f"stage_list.{stage}.block_list.{block}."
                w = {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
                h_CT = expected if (stage, block) == (0, 0) else functional.silu(expected)
                h_CT = functional.silu(_same(h_CT, w["conv1.conv.weight"], w["conv1.conv.bias"], 1, 1))
                stride, groups = 2 if halves else 1, len(h_CT) // 4
                h_CT = functional.silu(_same(h_CT, w["conv2.conv.weight"], w["conv2.conv.bias"], stride, groups))
                h_CT = _same(h_CT, w["conv3.conv.weight"], w["conv3.conv.bias"], 1, 1)
                gate_C = functional.silu(w["se_fc1.weight"] @ h_CT.mean(dim=1) + w["se_fc1.bias"])
                h_CT = h_CT * torch.sigmoid(w["se_fc2.weight"] @ gate_C + w["se_fc2.bias"])[:, None]
                if halves:
                    padded = torch.cat([expected, torch.zeros(len(expected), 1)], dim=1)
                    expected = torch.stack([padded[:, 2 * t : 2 * t + 2].amax(dim=1) for t in range(padded.shape[1] // 2)], dim=1)
                added = (len(h_CT) - len(expected)) // 2
                expected = h_CT + torch.cat([torch.zeros(added, h_CT.shape[1]), expected, torch.zeros(added, h_CT.shape[1])])
            torch.testing.assert_close(network.stages(x_CT[None])[-1][0], expected)
            torch.testing.assert_close(network(x_CT[None])[0], network.dense(expected.mean(dim=1)))
    finally:
        torch.set_default_dtype(torch.float32)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="multiple of 16"):
        Net1dShape(base=8, widths=(8,), blocks=(1,))
    with pytest.raises(ConfigurationError, match="grow narrower"):
        Net1dShape(base=64, widths=(32,), blocks=(1,))


def recordings(n_samples: int = 5000) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 12, n_samples)).cumsum(axis=2)


def test_preparation_is_filtering_lead_by_lead_and_one_z_score() -> None:
    found_BLT = prepare(recordings(), 500.0)
    notch, band = iirnotch(50, 30, 500), butter(4, (0.67, 40), "bandpass", fs=500)
    for signal_LT, found_LT in zip(recordings(), found_BLT, strict=True):
        done = []
        for lead_T in signal_LT:
            lead_T = filtfilt(*band, filtfilt(*notch, lead_T))
            done.append(lead_T - medfilt(lead_T, 201))
        expected_LT = (np.array(done) - np.mean(done)) / (np.std(done) + 1e-8)
        np.testing.assert_allclose(found_LT, expected_LT, atol=1e-4)


@pytest.mark.parametrize("fs_hz", [100.0, 500.0])
def test_the_scale_of_the_input_changes_nothing(fs_hz: float) -> None:
    np.testing.assert_allclose(prepare(2 * recordings(1000), fs_hz), prepare(recordings(1000), fs_hz), atol=1e-5)


def test_leads_keep_their_proportions() -> None:
    doubled = recordings(1000)
    doubled[:, 3] *= 2
    ratio_B = prepare(doubled, 100.0)[:, 3].std(axis=1) / prepare(recordings(1000), 100.0)[:, 3].std(axis=1)
    assert (ratio_B > 1.2).all()


def test_a_flat_record_becomes_zero() -> None:
    assert not prepare(np.zeros((1, 12, 1000)), 100.0).any()
