"""Numba kernels that find QRS complexes; what they do and why stands in `assets.signals.peaks`."""

# Numba reads the signatures of these functions at run time.
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numpy.typing import NDArray

from assets.signals.compiled import compiled, compiled_for_any_order, emitted
from assets.signals.vectors import INDEX, array_data, everywhere, load, multiply_add, store

_CEILING = np.float32(1.5**2)
"""Power, relative to a lead's usual QRS, beyond which a lead says little more when leads are added: artefacts stay small."""

_NOISE = 2.0
"""How often its own RMS the QRS of a lead must reach to count among other leads; noise alone reaches 1.9."""

_ONE = np.float32(1)
"""Beside whole numbers, numba widens float32 to float64."""

_SIZE = 0.75
"""Power of its usual power by which a lead counts: large leads for more, though less than they are large."""

_SPARSE = 4
"""Step between the samples that a median of the noise is taken from."""

_NEIGHBOURS = 5
"""Intervals to either side that one is compared with."""

_ROUNDS = 3
"""Times that gaps are looked through again; one long gap may hide several beats."""


_PIECE = 32
_WIDE = ir.VectorType(ir.FloatType(), _PIECE)
"""Two vectors of the widest processors, so that each tap is fetched once for both."""


class Rules(NamedTuple):
    """Durations in samples of the thinned signal, levels relative to the usual QRS around (`assets.signals.peaks`)."""

    apart: int
    block: int
    reach: int
    low_quantile: float
    threshold: float
    near: int
    far: int
    near_level: float
    far_level: float
    rival: int
    gap: float
    guard: int
    again_level: float
    again_noise: float


@compiled
def find_beats(
    signal_BLT: NDArray[np.float32],
    leads: NDArray[np.int64],
    step: int,
    even: NDArray[np.float32],
    odd: NDArray[np.float32],
    rules: Rules,
    nearby: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """R peaks of recordings, one after the other, and how many each has.

    Args:
        signal_BLT: C-contiguous, shape (recordings, leads, samples).
        leads: which of them to look at.
        step: samples that become one.
        even: half of the even filter, its middle first.
        odd: half of the odd filter, its middle (0) first.
        rules: see `Rules`.
        nearby: samples to either side of a QRS complex's middle among which its R peak is looked for.
    """
    n_records, _, length = signal_BLT.shape
    n = length // step
    beats_N = np.empty(n_records * (n // rules.apart + 1), np.int64)
    count_B = np.zeros(n_records, np.int64)
    power_LT = np.empty((leads.size, -(-n // _PIECE) * _PIECE), np.float32)
    found = 0
    for record in range(n_records if n else 0):
        for i in range(leads.size):
            _band_power(_thin(signal_BLT[record, leads[i]], step), even, odd, power_LT[i])
        envelope, heaviest = _join(power_LT, n, rules)
        middles = _choose(envelope, rules)
        for middle in middles:
            beats_N[found] = _locate(signal_BLT[record, leads[heaviest]], middle * step + step // 2, nearby)
            found += 1
        count_B[record] = middles.size
    return beats_N[:found], count_B


@compiled
def _thin(row: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means of `step` samples each, from the first one's level; one that is missing repeats the one before."""
    thin = np.zeros(row.size // step, np.float32)
    if step == 4:  # 500 Hz; a number that LLVM knows makes vectors of this
        for i in range(thin.size):
            thin[i] = (row[4 * i] + row[4 * i + 1] + row[4 * i + 2] + row[4 * i + 3]) * np.float32(0.25)
    else:
        share = np.float32(1 / step)
        for j in range(step):
            part = row[j::step]
            for i in range(thin.size):
                thin[i] += part[i] * share
    for i in range(thin.size):
        if not np.isfinite(thin[i]):
            thin[i] = thin[i - 1] if i else np.float32(0)
    level = thin[0]
    for i in range(thin.size):
        thin[i] -= level
    return thin


@compiled
def _band_power(row: NDArray[np.float32], even: NDArray[np.float32], odd: NDArray[np.float32], power: NDArray[np.float32]) -> None:
    """Power of a wavelet's band, in the first places of `power`, a whole number of pieces. The signal keeps its end values beyond its ends."""
    half = even.size - 1
    padded = np.empty(power.size + 2 * half, np.float32)
    for i in range(padded.size):
        padded[i] = row[min(max(i - half, 0), row.size - 1)]
    for i in range(0, power.size, _PIECE):
        _square_piece(padded, i + half, even, odd, half, power, i)


@emitted
def _square_piece(typingctx: Any, row: Any, middle: Any, even: Any, odd: Any, half: Any, power: Any, at: Any) -> Any:
    """Squares of what an even and an odd filter give, added up, for a piece of samples from `middle` on."""
    signature = types.void(row, types.int64, even, odd, types.int64, power, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row, even, odd, power = (array_data(context, builder, signature.args[i], args[i]) for i in (0, 2, 3, 5))
        middle, half, at = args[1], args[4], args[6]
        real_start = builder.fmul(everywhere(builder, builder.load(even), _WIDE), load(builder, row, middle, _WIDE))
        before, loop, after = builder.block, builder.append_basic_block("taps"), builder.append_basic_block("taps_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, real, imaginary = builder.phi(INDEX), builder.phi(_WIDE), builder.phi(_WIDE)
        k.add_incoming(ir.Constant(INDEX, 1), before)
        real.add_incoming(real_start, before)
        imaginary.add_incoming(ir.Constant(_WIDE, [0.0] * _PIECE), before)
        left, right = load(builder, row, builder.sub(middle, k), _WIDE), load(builder, row, builder.add(middle, k), _WIDE)
        weight = [everywhere(builder, builder.load(builder.gep(taps, [k])), _WIDE) for taps in (even, odd)]
        next_real = multiply_add(builder, weight[0], builder.fadd(right, left), real)
        next_imaginary = multiply_add(builder, weight[1], builder.fsub(right, left), imaginary)
        next_k = builder.add(k, ir.Constant(INDEX, 1))
        for phi, value in ((k, next_k), (real, next_real), (imaginary, next_imaginary)):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<=", next_k, half), loop, after)
        builder.position_at_end(after)
        squares = multiply_add(builder, next_real, next_real, builder.fmul(next_imaginary, next_imaginary))
        store(builder, squares, power, at)
        return context.get_dummy_value()

    return signature, codegen


@compiled_for_any_order
def _block_extremes(values: NDArray[np.float32], block: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Greatest value (none below 0) and mean of each block; the last takes the rest."""
    n_blocks = max(values.size // block, 1)
    most, mean = np.empty(n_blocks, np.int32), np.empty(n_blocks, np.float32)
    for b in range(n_blocks):
        piece = values[b * block : (b + 1) * block if b < n_blocks - 1 else values.size]
        bits = piece.view(np.int32)  # numbers above 0 are in the order of their bits, and integers compare side by side
        greatest = np.int32(0)
        total = np.float32(0)
        for i in range(piece.size):
            greatest = max(greatest, bits[i])
            total += piece[i]
        most[b] = greatest
        mean[b] = total / np.float32(piece.size)
    return most.view(np.float32), mean


@compiled
def _quantile(values: NDArray[np.float32], scratch: NDArray[np.float32], quantile: float) -> Any:
    """The value that a share of a few values do not exceed; `scratch` has room for them."""
    n = 0
    for value in values:
        i = n
        while i > 0 and scratch[i - 1] > value:
            scratch[i] = scratch[i - 1]
            i -= 1
        scratch[i] = value
        n += 1
    return scratch[int(quantile * (n - 1) + 0.5)]


@compiled
def _running_quantile(values: NDArray[np.float32], reach: int, quantile: float) -> NDArray[np.float32]:
    """The quantile of the values at most `reach` places away."""
    out = np.empty(values.size, np.float32)
    scratch = np.empty(2 * reach + 1, np.float32)
    for b in range(values.size):
        first, end = max(b - reach, 0), min(b + reach + 1, values.size)
        if b and first == 0 and end == values.size:  # as before
            out[b] = out[b - 1]
        else:
            out[b] = _quantile(values[first:end], scratch, quantile)
    return out


@compiled
def _roots(power: NDArray[np.float32]) -> NDArray[np.float32]:
    amplitude = np.empty(power.size, np.float32)
    for i in range(power.size):
        amplitude[i] = np.sqrt(power[i])
    return amplitude


@compiled
def _join(power_LT: NDArray[np.float32], n: int, rules: Rules) -> tuple[NDArray[np.float32], int]:
    """Envelope of all leads' first `n` samples, each by its weight in the block, and the lead with the largest clear QRS."""
    n_leads = power_LT.shape[0]
    if n_leads == 1:
        return _roots(power_LT[0][:n]), 0
    n_blocks = max(n // rules.block, 1)
    envelope = np.zeros(n, np.float32)
    heaviest, most_weight = 0, -1.0
    for lead in range(n_leads):
        most, mean = _block_extremes(power_LT[lead][:n], rules.block)
        usual_B, mean_B = _running_quantile(most, rules.reach, rules.low_quantile), _running_quantile(mean, rules.reach, 0.5)
        lead_weight = 0.0
        for b in range(n_blocks):
            usual = usual_B[b]
            if usual <= 0:
                continue
            clear = np.sqrt(usual / max(mean_B[b], np.float32(1e-6) * usual))
            weight = max(clear - _NOISE, 1e-3)
            lead_weight += weight * np.sqrt(usual)
            factor, scale = np.float32(weight * usual**_SIZE * (1 + 1 / _CEILING)), _ONE / usual
            joined = envelope[b * rules.block : (b + 1) * rules.block if b < n_blocks - 1 else n]
            power = power_LT[lead][b * rules.block : b * rules.block + joined.size]
            for i in range(joined.size):
                u = power[i] * scale
                joined[i] += factor * u / (_ONE + u * (_ONE / _CEILING))
        if lead_weight > most_weight:
            heaviest, most_weight = lead, lead_weight
    return _roots(envelope), heaviest


@compiled
def _choose(envelope: NDArray[np.float32], rules: Rules) -> NDArray[np.int64]:
    """Places of the envelope's maxima that are beats."""
    n_blocks = max(envelope.size // rules.block, 1)
    most, _ = _block_extremes(envelope, rules.block)
    usual_B = _running_quantile(most, rules.reach, rules.low_quantile)
    places = _maxima(envelope, usual_B, rules)
    beats = np.empty(places.size, np.int64)
    n = 0
    for place in places:
        if envelope[place] <= rules.threshold * usual_B[min(place // rules.block, n_blocks - 1)]:
            continue
        beat = True
        while n > 0:
            last = beats[n - 1]
            level = _level_after(place - last, rules)
            if envelope[place] < level * envelope[last]:
                beat = False  # the T wave of the beat before, or its end
            elif place - last < rules.rival and envelope[last] < level * envelope[place]:
                n -= 1  # the last one was a P wave, or something small on the way up
                continue
            break
        if beat:
            beats[n] = place
            n += 1
    beats = beats[:n]
    for _ in range(_ROUNDS):
        more = _search_gaps(envelope, places, beats, usual_B, rules)
        if more.size == beats.size:
            break
        beats = more
    return beats


@compiled
def _level_after(distance: int, rules: Rules) -> float:
    """Share of a beat's own height that the next must reach: much soon after it, where its T wave is, nothing later."""
    if distance >= rules.far:
        return 0.0
    if distance <= rules.near:
        return rules.near_level
    return rules.near_level + (rules.far_level - rules.near_level) * (distance - rules.near) / (rules.far - rules.near)


@compiled
def _maxima(envelope: NDArray[np.float32], usual_B: NDArray[np.float32], rules: Rules) -> NDArray[np.int64]:
    """Places that nothing exceeds as far as `apart` to either side, and that are high enough to become beats."""
    apart = rules.apart
    places = np.empty(envelope.size // apart + 1, np.int64)
    n = 0
    i = 0
    for b in range(usual_B.size):
        end = (b + 1) * rules.block if b < usual_B.size - 1 else envelope.size
        least = np.float32(rules.again_level) * usual_B[b]
        while i < end:
            if envelope[i] <= least:
                i += 1
                continue
            higher = i
            for j in range(i + 1, min(i + apart + 1, envelope.size)):
                if envelope[j] > envelope[i]:
                    higher = j
                    break
            if higher > i:
                i = higher
                continue
            dominant = True
            for j in range(max(i - apart, 0), i):
                if envelope[j] >= envelope[i]:
                    dominant = False
                    break
            if dominant:
                places[n] = i
                n += 1
            i += apart + 1 if dominant else 1
    return places[:n]


@compiled
def _noise(envelope: NDArray[np.float32], rules: Rules) -> NDArray[np.float32]:
    """Median of the envelope around each block."""
    n_blocks = max(envelope.size // rules.block, 1)
    median_B = np.empty(n_blocks, np.float32)
    sparse, scratch = np.empty(2 * rules.block // _SPARSE + 1, np.float32), np.empty(2 * rules.block // _SPARSE + 1, np.float32)
    for b in range(n_blocks):
        end = (b + 1) * rules.block if b < n_blocks - 1 else envelope.size
        n = 0
        for i in range(b * rules.block, end, _SPARSE):
            sparse[n] = envelope[i]
            n += 1
        median_B[b] = _quantile(sparse[:n], scratch, 0.5)
    return _running_quantile(median_B, rules.reach, 0.5)


@compiled
def _search_gaps(
    envelope: NDArray[np.float32],
    places: NDArray[np.int64],
    beats: NDArray[np.int64],
    usual_B: NDArray[np.float32],
    rules: Rules,
) -> NDArray[np.int64]:
    """Beats, and in each gap that is long for its neighbourhood the highest maximum that could be one too."""
    if beats.size < 3:
        return beats
    interval = np.empty(beats.size - 1, np.float32)
    for i in range(interval.size):
        interval[i] = beats[i + 1] - beats[i]
    usual_interval = _running_quantile(interval, _NEIGHBOURS, 0.5)
    more = np.empty(places.size, np.int64)
    noise_B = np.empty(0, np.float32)
    n = 0
    first = 0
    for i in range(beats.size):
        more[n] = beats[i]
        n += 1
        if i == beats.size - 1 or interval[i] <= rules.gap * usual_interval[i]:
            continue
        if noise_B.size == 0:
            noise_B = _noise(envelope, rules)
        while places[first] <= beats[i]:
            first += 1
        best = -1
        for place in places[first:]:
            if place > beats[i + 1] - rules.guard:
                break
            b = min(place // rules.block, usual_B.size - 1)
            height = envelope[place]
            least = max(rules.again_level * usual_B[b], rules.again_noise * noise_B[b])
            if (
                height >= least
                and height >= _level_after(place - beats[i], rules) * envelope[beats[i]]
                and (best < 0 or height > envelope[best])
            ):
                best = place
        if best >= 0:
            more[n] = best
            n += 1
    return more[:n]


@compiled
def _locate(row: NDArray[np.float32], middle: int, nearby: int) -> int:
    """The sample around a QRS complex's middle that is farthest from what surrounds it."""
    wide = row[max(middle - 2 * nearby, 0) : middle + 2 * nearby + 1]
    level = np.float32(0)
    for x in wide:
        level += x
    level /= np.float32(wide.size)
    first = max(middle - nearby, 0)
    best = middle
    farthest = np.float32(-1)
    for t in range(first, min(middle + nearby + 1, row.size)):
        away = abs(row[t] - level)
        if away > farthest:
            best, farthest = t, away
    return best
