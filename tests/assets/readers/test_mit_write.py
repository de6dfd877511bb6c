"""The writer of MIT records: what it writes is read back, count for count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assets.readers.annotations import read_annotations
from assets.readers.mit_write import Signal, write_annotations, write_signals
from assets.readers.wfdb import read_wfdb


@pytest.mark.parametrize(("form", "low", "high"), [(212, -2047, 2047), (80, -127, 127)])
@pytest.mark.parametrize("shape", [(1, 7), (2, 8), (3, 5)])
def test_signals_come_back(form: int, low: int, high: int, shape: tuple[int, int], tmp_path: Path) -> None:
    counts_LT = np.random.default_rng(0).integers(low, high + 1, shape)
    counts_LT[0, :2] = low, high
    write_signals(tmp_path, "r", form, counts_LT, [Signal("1(0)/uV", f"L{i}") for i in range(shape[0])], "125")
    assert np.array_equal(read_wfdb(tmp_path / "r").signal_LT, counts_LT)
    with pytest.raises(ValueError, match="do not fit"):
        write_signals(tmp_path, "r", form, counts_LT + 2, [Signal("1", "I")] * shape[0], "125")


def test_annotations_come_back_however_far_apart(tmp_path: Path) -> None:
    write_signals(tmp_path, "r", 80, np.zeros((1, 300_000), int), [Signal("200", "I")], "360")
    samples = [0, 1, 1024, 2048, 2048, 200_000]
    write_annotations(tmp_path / "r.atr", samples, ["+", "N", "V", "~", "N", "/"], ["(AFIB", "", "x", "", "", ""])
    found = read_annotations(tmp_path / "r", "atr")
    assert found.sample_N.tolist() == samples
    assert found.symbols == ("+", "N", "V", "~", "N", "/")
    assert found.notes == ("(AFIB", "", "x", "", "", "")
    assert found.fs_hz == 360
