"""Counts against numpy's rounding."""

from __future__ import annotations

import numpy as np
import pytest

from assets.signals.counts import LARGEST_COUNT, to_counts


@pytest.mark.parametrize("scale", [1.0, 2.5, 0.001])
def test_counts_are_rounded_half_to_even(scale: float) -> None:
    rng = np.random.default_rng(0)
    signal = (np.round(rng.normal(0, 300, (3, 4, 517)) * 4) / 4 * scale).astype(np.float32)
    scale_L = np.full(4, scale, np.float32)
    counts, over = to_counts(signal, scale_L)
    assert counts.dtype == np.int16
    np.testing.assert_array_equal(counts, np.rint(signal / scale_L[:, None]).astype(np.int16))
    assert not over.any()


def test_what_goes_beyond_is_cut_off_and_told() -> None:
    signal = np.zeros((2, 3, 40), np.float32)
    signal[0, 1, 5], signal[1, 2, 7], signal[1, 0, 0] = 40_000, -32767.4, 32767
    counts, over = to_counts(signal, np.ones(3, np.float32))
    assert over.tolist() == [[False, True, False], [False, False, True]]
    assert (counts[0, 1, 5], counts[1, 2, 7], counts[1, 0, 0]) == (LARGEST_COUNT, -LARGEST_COUNT, LARGEST_COUNT)
    assert to_counts(signal, np.array([1, 2, 2], np.float32))[1].tolist() == [[False] * 3] * 2
