"""Filling of missing samples against the rule written out in loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.signals.repair import dead_leads, fill_missing, is_constant, is_whole, missing_samples


def naive(signal_LT: NDArray[np.float32]) -> NDArray[np.float32]:
    filled = signal_LT.copy()
    for lead in range(signal_LT.shape[0]):
        finite = [float(v) for v in signal_LT[lead] if np.isfinite(v)]
        for t in range(signal_LT.shape[1]):
            if np.isfinite(signal_LT[lead, t]):
                continue
            near = [float(v) for v in signal_LT[lead, max(t - 6, 0) : t + 7] if np.isfinite(v)]
            if near or finite:
                filled[lead, t] = np.mean(near or finite)
    return filled


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]), length=st.integers(1, 60))
def test_equals_the_rule_in_loops(seed: int, share: float, length: int) -> None:
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 500, (3, length)).astype(np.float32)
    signal[rng.random(signal.shape) < share] = rng.choice([np.nan, np.inf, -np.inf])
    np.testing.assert_allclose(fill_missing(signal), naive(signal), rtol=1e-5, atol=1e-3)


def test_gap_longer_than_the_reach_takes_the_lead_mean() -> None:
    signal = np.arange(40, dtype=np.float32)[None].repeat(2, axis=0)
    signal[0, 5:30] = np.nan
    filled = fill_missing(signal)
    assert filled[0, 5] == pytest.approx(np.mean([0, 1, 2, 3, 4]))
    assert filled[0, 17] == pytest.approx(np.concatenate([np.arange(5), np.arange(30, 40)]).mean())
    np.testing.assert_array_equal(filled[1], signal[1])
    assert np.isnan(signal[0, 5:30]).all(), "the input must stay as it is"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_missing_sample_is_found_wherever_it_is(value: float) -> None:
    for place in (0, 17, 98):
        signal = np.full((3, 33), -3.4e38, np.float32)
        assert is_whole(signal)
        signal.reshape(-1)[place] = value
        assert not is_whole(signal)
        assert not is_whole(signal[:, ::1].T)


def test_whole_signals_are_not_copied_and_dead_leads_stay() -> None:
    whole = np.ones((2, 9), np.float32)
    assert fill_missing(whole) is whole
    whole[1] = np.nan
    assert dead_leads(whole).tolist() == [False, True]
    assert np.isnan(fill_missing(whole)[1]).all()
    assert missing_samples(whole).mean() == 0.5


def test_constant_means_every_lead() -> None:
    signal = np.array([[1.0] * 5, [2.0] * 5], np.float32)
    assert is_constant(signal)
    signal[1, 3] = 2.5
    assert not is_constant(signal)
    long = np.ones((2, 5000), np.float32)
    long[1, 4321] = 1.5
    assert not is_constant(long)
    assert is_constant(long[:1])
