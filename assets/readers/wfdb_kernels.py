"""Compiled loops of the WFDB reader. Importing this module costs half a second (numba), so readers import it when they decode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from assets.signals.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE = 512
"""Frames that are turned at once: a tile of many leads still fits the first-level cache."""

_NAN = np.float32(np.nan)

_EXACT = 1 << 22
"""16-bit counts and baselines up to here, and what lies between them, are whole numbers that float32 holds."""


@compiled
def scale(
    counts_TL: NDArray[Any],
    factor_L: NDArray[np.float64],
    baseline_L: NDArray[np.float64],
    missing: int,
    out_LT: NDArray[np.float32],
    sums_L: NDArray[np.int64],
) -> None:
    """Turn counts of interleaved leads into physical values of one lead after the other, and add them up.

    Args:
        counts_TL: int16 or int32, shape (samples, leads).
        factor_L: physical units per count.
        baseline_L: the count of 0 units.
        missing: the count that becomes NaN.
        out_LT: receives `(counts - baseline) * factor`, as computed in float64, shape (leads, samples).
        sums_L: receives the sum of each lead's counts, right in its lowest 16 bits.
    """
    n_samples, n_leads = counts_TL.shape
    column = np.empty(_TILE, counts_TL.dtype)
    sums_L[:] = 0
    for start in range(0, n_samples, _TILE):
        n = min(n_samples - start, _TILE)
        tile_TL = counts_TL[start : start + n]
        for lead in range(n_leads):
            counts, out = tile_TL[:, lead], out_LT[lead, start : start + n]
            factor, baseline, total = factor_L[lead], baseline_L[lead], np.int32(0)
            for t in range(n):  # a loop of its own: what follows works on whole vectors then
                column[t] = counts[t]
            for t in range(n):
                count = column[t]
                total = np.int32(total + count)
                out[t] = _NAN if count == missing else np.float32((count - baseline) * factor)
            sums_L[lead] += total


@compiled
def scale_pairs(
    pairs_TP: NDArray[np.int32],
    factor_L: NDArray[np.float64],
    baseline_L: NDArray[np.float64],
    missing: int,
    out_LT: NDArray[np.float32],
    sums_L: NDArray[np.int64],
) -> None:
    """As `scale` for an even number of 16-bit leads, in half the time: two counts of neighbouring leads are one number.

    Args:
        pairs_TP: int16 counts seen as int32, shape (samples, leads / 2); the lower half is the earlier lead.
        factor_L: see `scale`, like all others.
        baseline_L: "
        missing: "
        out_LT: "
        sums_L: "
    """
    n_samples, n_pairs = pairs_TP.shape
    both = np.empty(_TILE, np.int32)
    sums_L[:] = 0
    for start in range(0, n_samples, _TILE):
        n = min(n_samples - start, _TILE)
        tile_TP = pairs_TP[start : start + n]
        for pair in range(n_pairs):
            pairs = tile_TP[:, pair]
            for t in range(n):
                both[t] = pairs[t]
            for half in range(2):
                lead, down = 2 * pair + half, np.int32(16 * half)
                out, factor, baseline, total = out_LT[lead, start : start + n], factor_L[lead], baseline_L[lead], np.int32(0)
                factor_32, baseline_32 = np.float32(factor), np.float32(baseline)
                if factor_32 == factor and baseline_32 == baseline and abs(baseline) < _EXACT:
                    for t in range(n):  # twice as fast, and rounded once: the same as in float64
                        count = np.int32(np.int16(both[t] >> down))
                        total = np.int32(total + count)
                        out[t] = _NAN if count == missing else (np.float32(count) - baseline_32) * factor_32
                else:
                    for t in range(n):
                        count = np.int32(np.int16(both[t] >> down))
                        total = np.int32(total + count)
                        out[t] = _NAN if count == missing else np.float32((count - baseline) * factor)
                sums_L[lead] += total


@compiled
def unpack_212(packed: NDArray[np.uint8], counts: NDArray[np.int16]) -> None:
    """Unpack pairs of 12-bit counts from three bytes each.

    Args:
        packed: whole triplets.
        counts: receives two counts a triplet.
    """
    for i in range(packed.size // 3):
        low, middle, high = np.int32(packed[3 * i]), np.int32(packed[3 * i + 1]), np.int32(packed[3 * i + 2])
        counts[2 * i] = ((low | (middle & 15) << 8) ^ 2048) - 2048
        counts[2 * i + 1] = ((high | (middle >> 4) << 8) ^ 2048) - 2048
