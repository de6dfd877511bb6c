"""Numba kernels that judge signals and count them, each in one pass over the samples of a lead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assets.signals.compiled import compiled, compiled_for_any_order

_CHUNK = 512
"""Samples whose sums are kept in float32 before they join the float64 ones."""


_ALL_BUT_SIGN = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_ROUNDING = np.float32(1.5 * 2**23)
"""Added and taken away again, it rounds smaller numbers to whole ones, half to even: beyond it float32 has no fractions."""


@compiled_for_any_order
def judge_leads(
    signal_NT: NDArray[np.float32], width: int, flat_uV: float, flat_share: float, rail_uV: float, rail_share: float, noise_uV: float
) -> NDArray[np.bool_]:
    """Whether leads are flat, saturated, noisy, shape (3, leads); the rules stand in `assets.signals.quality`.

    Args:
        signal_NT: C-contiguous microvolts, shape (leads, samples).
        width: samples of a piece.
        flat_uV: smallest span.
        flat_share: largest share of pieces without change.
        rail_uV: smallest extreme that may be a rail.
        rail_share: largest share of samples that stay on it.
        noise_uV: largest mean absolute second difference of the quieter quarter.
    """
    n_leads, length = signal_NT.shape
    flags_3N = np.zeros((3, n_leads), np.bool_)
    for lead in range(n_leads):
        row = signal_NT[lead]
        low, high = _extremes(row)
        still = _still_pieces(row, min(width, length - 1))
        flags_3N[0, lead] = high - low < np.float32(flat_uV) or still > flat_share
        for extreme in (high, low):
            if abs(extreme) >= rail_uV and _count(row, extreme) > rail_share * (length - 1):
                flags_3N[1, lead] |= _pairs(row, extreme) / (length - 1) > rail_share
        flags_3N[2, lead] = _is_noisy(row, min(width, length - 2), np.float32(noise_uV))
    return flags_3N


@compiled_for_any_order
def _extremes(row: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Least and greatest of finite numbers.

    Their bits, read as integers, are in the same order once those of negative numbers are turned over. LLVM takes extremes of
    integers side by side, of floats one by one.
    """
    bits = row.view(np.int32)
    low = high = bits[0] ^ ((bits[0] >> 31) & _ALL_BUT_SIGN)
    for i in range(bits.size):
        ordered = bits[i] ^ ((bits[i] >> 31) & _ALL_BUT_SIGN)
        low, high = min(low, ordered), max(high, ordered)
    both = np.array([low ^ ((low >> 31) & _ALL_BUT_SIGN), high ^ ((high >> 31) & _ALL_BUT_SIGN)], np.int32).view(np.float32)
    return both[0], both[1]


@compiled_for_any_order
def _still_pieces(row: NDArray[np.float32], width: int) -> float:
    """Share of the pieces of first differences that are all zero."""
    if width < 1:
        return 0.0
    pieces = (row.size - 1) // width
    still = 0
    for piece in range(pieces):
        a, b = row[piece * width : (piece + 1) * width], row[piece * width + 1 : (piece + 1) * width + 1]
        if a[0] != b[0] or a[width - 1] != b[width - 1]:
            continue
        moves = np.int32(0)
        for i in range(width):
            moves |= np.int32(a[i] != b[i])
        still += int(moves == 0)
    return still / pieces


@compiled_for_any_order
def _count(row: NDArray[np.float32], value: np.float32) -> int:
    """How often a value occurs; neighbouring pairs of it are fewer."""
    count = np.int32(0)
    for i in range(row.size):
        count += np.int32(row[i] == value)
    return int(count)


@compiled_for_any_order
def _pairs(row: NDArray[np.float32], value: np.float32) -> int:
    """Neighbours that both have a value."""
    count = np.int32(0)
    a, b = row[:-1], row[1:]
    for i in range(a.size):
        count += np.int32((a[i] == value) & (b[i] == value))
    return int(count)


@compiled_for_any_order
def _is_noisy(row: NDArray[np.float32], width: int, limit: np.float32) -> bool:
    """Whether the mean absolute second difference of the piece that a quarter of the pieces do not exceed is above a limit."""
    if width < 1:
        return False
    pieces = (row.size - 2) // width
    quiet = 0
    for piece in range(pieces):
        a = row[piece * width : piece * width + width + 2]
        b, c = a[1:], a[2:]
        total = np.float32(0)
        for i in range(width):
            total += abs((c[i] - b[i]) - (b[i] - a[i]))
        quiet += int(total / np.float32(width) <= limit)
    return quiet <= pieces // 4


@compiled_for_any_order
def limb_lead_errors(signal_BLT: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """How far the limb leads are from Einthoven's and Goldberger's relations.

    Args:
        signal_BLT: C-contiguous, twelve leads in the order of `models.types.LEADS`, shape (recordings, leads, samples).

    Returns:
        Root mean square of the worst of the four relations, the mean of the limb leads' own, and the correlation of the
        differences of I with those of V6 (0 where one of them is constant), each of shape (recordings,).
    """
    n_records, _, length = signal_BLT.shape
    worst_B, level_B, correlation_B = np.zeros(n_records), np.zeros(n_records), np.zeros(n_records)
    for record in range(n_records):
        errors, powers, moments = np.zeros(4), np.zeros(6), np.zeros(5)
        for first in range(0, length, _CHUNK):
            _add_limb_leads(signal_BLT[record], first, min(first + _CHUNK, length), errors, powers, moments)
        for error in errors:
            worst_B[record] = max(worst_B[record], np.sqrt(error / length))
        for power in powers:
            level_B[record] += np.sqrt(power / length) / powers.size
        if length > 1:
            correlation_B[record] = _correlation(moments, length - 1)
    return worst_B, level_B, correlation_B


@compiled_for_any_order
def _add_limb_leads(
    signal_LT: NDArray[np.float32],
    first: int,
    end: int,
    errors: NDArray[np.float64],
    powers: NDArray[np.float64],
    moments: NDArray[np.float64],
) -> None:
    """Add the squares of errors and leads of some samples, and the moments of the differences of I and V6 from them to the next."""
    half = np.float32(0.5)
    one, two, three = signal_LT[0][first:end], signal_LT[1][first:end], signal_LT[2][first:end]
    avr, avl, avf = signal_LT[3][first:end], signal_LT[4][first:end], signal_LT[5][first:end]
    e0 = e1 = e2 = e3 = p0 = p1 = p2 = p3 = p4 = p5 = np.float32(0)
    for t in range(one.size):
        i, ii, iii, vr, vl, vf = one[t], two[t], three[t], avr[t], avl[t], avf[t]
        e0 += (ii - i - iii) ** 2
        e1 += (vr + (i + ii) * half) ** 2
        e2 += (vl - (i - iii) * half) ** 2
        e3 += (vf - (ii + iii) * half) ** 2
        p0 += i * i
        p1 += ii * ii
        p2 += iii * iii
        p3 += vr * vr
        p4 += vl * vl
        p5 += vf * vf
    for i, error in enumerate((e0, e1, e2, e3)):
        errors[i] += error
    for i, power in enumerate((p0, p1, p2, p3, p4, p5)):
        powers[i] += power
    a = b = aa = bb = ab = np.float32(0)
    v6, next_one, next_v6 = signal_LT[11][first:end], signal_LT[0][first + 1 : end + 1], signal_LT[11][first + 1 : end + 1]
    for t in range(next_one.size):
        di, dv = next_one[t] - one[t], next_v6[t] - v6[t]
        a += di
        b += dv
        aa += di * di
        bb += dv * dv
        ab += di * dv
    for i, moment in enumerate((a, b, aa, bb, ab)):
        moments[i] += moment


@compiled_for_any_order
def _correlation(moments: NDArray[np.float64], n: int) -> float:
    """Pearson correlation from sums of a, b, a^2, b^2, ab; what float32 left of a constant's variance counts as none."""
    a, b, aa, bb, ab = moments
    var_a, var_b = aa - a * a / n, bb - b * b / n
    if var_a <= 1e-5 * aa or var_b <= 1e-5 * bb:
        return 0.0
    return float((ab - a * b / n) / np.sqrt(var_a * var_b))


@compiled
def to_counts(signal_NT: NDArray[np.float32], scale_N: NDArray[np.float32], largest: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Whole counts of leads, rounded half to even, and which leads go beyond `largest` counts; what does is cut off there.

    Args:
        signal_NT: C-contiguous and finite, shape (leads, samples).
        scale_N: units per count of each lead.
        largest: at most 32767.
    """
    counts_NT = np.empty(signal_NT.shape, np.int16)
    over_N = np.zeros(signal_NT.shape[0], np.bool_)
    limit = np.float32(largest)
    limit_bits = np.array([limit], np.float32).view(np.int32)[0]
    for lead in range(signal_NT.shape[0]):
        row, counts, scale = signal_NT[lead], counts_NT[lead], scale_N[lead]
        bits = row.view(np.int32)
        greatest = np.int32(0)
        if scale == 1:
            for t in range(row.size):
                counts[t] = np.int16((row[t] + _ROUNDING) - _ROUNDING)
                greatest = max(greatest, bits[t] & _ALL_BUT_SIGN)
        if scale != 1 or greatest > limit_bits:
            for t in range(row.size):
                x = row[t] / scale
                over_N[lead] |= abs(x) > limit
                counts[t] = np.int16((min(max(x, -limit), limit) + _ROUNDING) - _ROUNDING)
    return counts_NT, over_N


@compiled_for_any_order
def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether no number of a flat array is NaN or infinite: none has all bits of its exponent set."""
    bits = values.view(np.int32)
    greatest = np.int32(0)
    for i in range(bits.size):
        greatest = max(greatest, bits[i] & _ALL_BUT_SIGN)
    return bool(greatest < _INFINITY)


@compiled_for_any_order
def never_moves(signal_LT: NDArray[np.float32]) -> bool:
    """Whether every lead keeps its first value; one glance tells it of most that do not."""
    for lead in range(signal_LT.shape[0]):
        row = signal_LT[lead]
        for x in row:
            if x != row[0]:
                return False
    return True
