"""Waveforms that were stored before for somebody else are known again, however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from assets import duplicates
from assets.duplicates import SeenWaveforms, owner, waveform_key


def test_as_a_dictionary_would_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_FRESH", 8)
    rng = np.random.default_rng(0)
    seen, naive = SeenWaveforms(), dict[bytes, tuple[int, int]]()
    waveforms = [rng.integers(-9, 9, (2, 3)).astype(np.int16) for _ in range(60)]
    n_found = 0
    for row in range(400):
        counts, owned_by = waveforms[rng.integers(60)], int(rng.integers(4))
        known = naive.get(counts.tobytes())
        expected = None if known is None or known[0] == owned_by else known[1]
        assert seen.first_row(waveform_key(counts), owned_by) == expected
        n_found += expected is not None
        seen.add(waveform_key(counts), owned_by, row)
        naive.setdefault(counts.tobytes(), (owned_by, row))
    assert n_found > 100


def test_a_patient_in_another_part_is_another_owner() -> None:
    assert owner("a:1", "train") == owner("a:1", "train")
    assert len({owner("a:1", "train"), owner("a:1", "test"), owner("a:2", "train")}) == 3
