"""The dense head: its shapes, what absent channels do, and that it learns a waveform."""

from __future__ import annotations

import pytest
import torch

from models.encoders.dense_head import DenseHead
from models.errors import ConfigurationError
from models.methods.csfm.method import Csfm
from models.methods.csfm.spec import CHANNELS, SPEC
from models.registry import create_method
from models.types import Batch


@pytest.mark.parametrize(("places", "n_samples"), [(20, 500), (5, 130), (100, 2500)])
def test_waveforms_have_the_length_that_was_asked_for(places: int, n_samples: int) -> None:
    head = DenseHead(channels=3, width=4, n_samples=n_samples, outputs=2, features=8)
    assert head([torch.randn(2, 3, places, 4) for _ in range(4)]).shape == (2, 2, n_samples)


def test_it_is_built_as_the_published_weights_are_named() -> None:
    head = DenseHead(channels=13, width=8, n_samples=500)
    assert [len(list(stage.children())) for stage in head.stages] == [2, 2, 1, 2]
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    assert [shapes[f"project.{i}.weight"] for i in range(4)] == [(256, 256, 3)] * 4 and "project.0.bias" not in shapes
    assert [shapes[f"refine.{i}.out.weight"] for i in range(4)] == [(256, 256, 1)] * 4 and "refine.0.out.bias" in shapes
    assert sum(isinstance(layer, torch.nn.Conv1d) for layer in head.head) == 3
    with pytest.raises(ConfigurationError, match="4 depths, got 3"):
        head([torch.zeros(1, 13, 20, 8)] * 3)


def test_every_depth_and_channel_is_read_and_records_stay_apart() -> None:
    torch.manual_seed(0)
    head = DenseHead(channels=3, width=4, n_samples=100, features=8)
    states = [torch.randn(2, 3, 8, 4, requires_grad=True) for _ in range(4)]
    head(states)[0].square().sum().backward()
    for state in states:
        assert state.grad is not None
        assert (state.grad[0].abs().sum(dim=(1, 2)) > 0).all() and (state.grad[1] == 0).all()


def test_a_pulse_wave_is_written_from_a_lead() -> None:
    """The pulse is the lead a quarter of a second later; the encoder is frozen and untrained."""
    torch.manual_seed(0)
    method = create_method("csfm", SPEC.configure("tiny", depth=4)).eval()
    phase_BT = torch.rand(16, 1) + torch.arange(500) / 100 * (1 + torch.rand(16, 1))
    lead_BT, pulse_BT = torch.sin(6.2832 * phase_BT), torch.sin(6.2832 * (phase_BT - 0.25))
    assert isinstance(method, Csfm)
    signal_BLT = torch.zeros(16, len(CHANNELS), 500)
    signal_BLT[:, 1] = 1000 * lead_BT
    present_BL = torch.zeros(16, len(CHANNELS), dtype=torch.bool)
    present_BL[:, 1] = True
    with torch.no_grad():
        states = method.depth_features(Batch(signal_BLT, torch.arange(16), present_BL=present_BL))
    head = DenseHead(len(CHANNELS), method.feature_width, 500, features=16)
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        error = (head(states)[:, 0] - pulse_BT).square().mean()
        error.backward()
        optimizer.step()
    assert error.item() < 0.5 * pulse_BT.square().mean().item()
