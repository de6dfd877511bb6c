"""Filters that run over sixteen leads side by side.

A recursive filter takes one sample after the other, but the leads do not wait for each other. Sixteen of them are laid down
time-major, one row of sixteen neighbours a sample, and each row is one vector of the processor. LLVM does not find this by
itself (a state that lives in an array is stored and loaded again at every sample), so the three innermost pieces are written
in its language, on vectors that it keeps in registers: turning a tile, a cascade of second-order sections, a weighted sum of
rows. They compile for whatever vectors the processor has. Rows are float32, as signals are; all arithmetic is float64.
"""

# Numba reads the signatures of these functions at run time.
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numpy.typing import NDArray

from assets.signals.compiled import compiled, emitted
from assets.signals.vectors import (
    DOUBLE,
    INDEX,
    LANES,
    SINGLE,
    array_data,
    call_apart,
    everywhere,
    load,
    multiply_add,
    multiply_subtract,
    shuffled,
    store,
)

_CHAINS = 4

Signals = NDArray[np.float32]
Section = tuple[float, ...]
"""y = (x + b1 x' + b2 x'') - (a1 y' + a2 y''): a1, a2, the two states of a steady input of 1, and b1, b2; four numbers where
the numerator is that of a Butterworth band-pass, b1 = 0, b2 = -1."""


@emitted
def _turn_tile(
    typingctx: Any,
    source: Any,
    source_at: Any,
    source_step: Any,
    source_last: Any,
    target: Any,
    target_at: Any,
    target_step: Any,
    target_last: Any,
) -> Any:
    """Transpose 16 x 16 numbers between flat arrays; rows start a step apart and none beyond `last`, which is taken again instead."""
    signature = types.void(source, *[types.int64] * 3, target, *[types.int64] * 3)

    def starts(builder: Any, at: Any, step: Any, last: Any) -> list[Any]:
        rows = [builder.add(at, builder.mul(step, ir.Constant(INDEX, i))) for i in range(LANES)]
        return [builder.select(builder.icmp_signed("<", row, last), row, last) for row in rows]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (array_data(context, builder, signature.args[i], args[i]) for i in (0, 4))
        rows = [load(builder, source, at) for at in starts(builder, *args[1:4])]
        half = LANES // 2
        low = [i for pair in zip(range(half), range(LANES, LANES + half), strict=True) for i in pair]
        high = [i + half for i in low]
        for _ in range(LANES.bit_length() - 1):  # a perfect shuffle of the rows, as many times as 16 has bits, turns them
            pairs = [(rows[i], rows[i + half]) for i in range(half)]
            rows = [shuffled(builder, one, other, order) for one, other in pairs for order in (low, high)]
        for row, at in zip(rows, starts(builder, *args[5:8]), strict=True):
            store(builder, row, target, at)
        return context.get_dummy_value()

    return signature, codegen


@emitted
def _run_sections(typingctx: Any, rows: Any, at: Any, step: Any, n_rows: Any, gain: Any, sections: Any) -> Any:
    """Run rows of 16 numbers through a cascade in place, from `at` on, a step apart; it starts as if the first had lasted forever.

    Transposed direct form II: with the input x of a section, y = x + s, s = b1 x - a1 y + r, r = b2 x - a2 y.
    """
    signature = types.void(rows, types.int64, types.int64, types.int64, types.float64, sections)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n_sections, n_numbers = signature.args[5].count, signature.args[5].dtype.count

        def write(builder: Any, data: Any, at: Any, step: Any, n_rows: Any, gain: Any, sections: Any) -> None:
            numbers = [[everywhere(builder, builder.extract_value(sections, [s, k])) for k in range(n_numbers)] for s in range(n_sections)]
            _write_cascade(builder, data, at, step, n_rows, everywhere(builder, gain), numbers)

        data = array_data(context, builder, signature.args[0], args[0])
        call_apart(builder, f"cascade_{n_sections}_{n_numbers}", write, [data, *args[1:]])
        return context.get_dummy_value()

    return signature, codegen


def _write_cascade(builder: Any, data: Any, at: Any, step: Any, n_rows: Any, gain: Any, sections: list[list[Any]]) -> None:
    def row_at(place: Any) -> Any:
        return builder.fmul(builder.fpext(load(builder, data, place), DOUBLE), gain)

    first = row_at(at)
    steady = [[builder.fmul(first, section[2]), builder.fmul(first, section[3])] for section in sections]
    before, loop, after = builder.block, builder.append_basic_block("row"), builder.append_basic_block("rows_done")
    builder.branch(loop)
    builder.position_at_end(loop)
    done, place = builder.phi(INDEX), builder.phi(INDEX)
    done.add_incoming(ir.Constant(INDEX, 0), before)
    place.add_incoming(at, before)
    states = [[builder.phi(DOUBLE), builder.phi(DOUBLE)] for _ in sections]
    x = row_at(place)
    for (a1, a2, _, _, *numerator), (s, r), state in zip(sections, states, steady, strict=True):
        s.add_incoming(state[0], before)
        r.add_incoming(state[1], before)
        y = builder.fadd(x, s)
        if numerator:
            new_s = multiply_add(builder, builder.fneg(a1), y, multiply_add(builder, numerator[0], x, r))
            new_r = multiply_add(builder, builder.fneg(a2), y, builder.fmul(numerator[1], x))
        else:
            new_s = multiply_add(builder, builder.fneg(a1), y, r)
            new_r = multiply_subtract(builder, builder.fneg(a2), y, x)
        s.add_incoming(new_s, loop)
        r.add_incoming(new_r, loop)
        x = y
    store(builder, builder.fptrunc(x, SINGLE), data, place)
    next_done = builder.add(done, ir.Constant(INDEX, 1))
    done.add_incoming(next_done, loop)
    place.add_incoming(builder.add(place, step), loop)
    builder.cbranch(builder.icmp_signed("<", next_done, n_rows), loop, after)
    builder.position_at_end(after)


@emitted
def _weigh_rows(typingctx: Any, rows: Any, at: Any, weights: Any, weights_at: Any, n_groups: Any, target: Any, target_at: Any) -> Any:
    """A row of 16 sums: 4 `n_groups` rows times their weights, in four sums that do not wait for each other."""
    signature = types.void(rows, types.int64, weights, types.int64, types.int64, target, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, weights, target = (array_data(context, builder, signature.args[i], args[i]) for i in (0, 2, 5))
        before, loop, after = builder.block, builder.append_basic_block("taps"), builder.append_basic_block("taps_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        group = builder.phi(INDEX)
        group.add_incoming(ir.Constant(INDEX, 0), before)
        sums = [builder.phi(DOUBLE) for _ in range(_CHAINS)]
        for i, total in enumerate(sums):
            tap = builder.add(builder.mul(group, ir.Constant(INDEX, _CHAINS)), ir.Constant(INDEX, i))
            row = load(builder, rows, builder.add(args[1], builder.mul(tap, ir.Constant(INDEX, LANES))), DOUBLE)
            weight = everywhere(builder, builder.load(builder.gep(weights, [builder.add(args[3], tap)])))
            total.add_incoming(ir.Constant(DOUBLE, [0.0] * LANES), before)
            total.add_incoming(multiply_add(builder, weight, row, total), loop)
        next_group = builder.add(group, ir.Constant(INDEX, 1))
        group.add_incoming(next_group, loop)
        builder.cbranch(builder.icmp_signed("<", next_group, args[4]), loop, after)
        builder.position_at_end(after)
        one, two, three, four = (total.incomings[1][0] for total in sums)
        total = builder.fadd(builder.fadd(one, two), builder.fadd(three, four))
        store(builder, builder.fptrunc(total, SINGLE), target, args[6])
        return context.get_dummy_value()

    return signature, codegen


@compiled
def _lay_down(signal_NT: Signals, lead: int, rows_RL: Signals, before: int) -> None:
    """Sixteen leads from `lead` on as rows, after `before` rows; where there are fewer leads, the last stands in for the rest."""
    n_leads, length = signal_NT.shape
    source, target = signal_NT.reshape(-1), rows_RL.reshape(-1)
    tiles = length - length % LANES
    for t in range(0, tiles, LANES):
        _turn_tile(source, lead * length + t, length, (n_leads - 1) * length + t, target, (before + t) * LANES, LANES, target.size)
    for lane in range(LANES):
        for t in range(tiles, length):
            rows_RL[before + t, lane] = signal_NT[min(lead + lane, n_leads - 1), t]


@compiled
def _pick_up(rows_RL: Signals, before: int, signal_NT: Signals, lead: int) -> None:
    """The way back from `_lay_down`."""
    n_leads, length = signal_NT.shape
    source, target = rows_RL.reshape(-1), signal_NT.reshape(-1)
    tiles = length - length % LANES
    for t in range(0, tiles, LANES):
        _turn_tile(source, (before + t) * LANES, LANES, source.size, target, lead * length + t, length, (n_leads - 1) * length + t)
    for lane in range(LANES):
        for t in range(tiles, length):
            signal_NT[min(lead + lane, n_leads - 1), t] = rows_RL[before + t, lane]


@compiled
def _continue(rows_RL: Signals, before: int, length: int, line: bool) -> None:
    """Fill the rows in front of and behind a signal: on the line through its ends, or turned about either end point."""
    end = before + length - 1
    for lane in range(LANES):
        first, last = rows_RL[before, lane], rows_RL[end, lane]
        slope = (last - first) / np.float32(max(length - 1, 1))
        for k in range(1, before + 1):
            rows_RL[before - k, lane] = first - np.float32(k) * slope if line else 2 * first - rows_RL[before + k, lane]
        for k in range(1, rows_RL.shape[0] - end):
            rows_RL[end + k, lane] = last + np.float32(k) * slope if line else 2 * last - rows_RL[end - k, lane]


@compiled
def zero_phase(signal_NT: Signals, edge: int, gain: float, sections: tuple[Section, ...]) -> Signals:
    """Run leads through second-order sections forward, then backward, as `scipy.signal.sosfiltfilt` with `padlen=edge` does.

    Args:
        signal_NT: C-contiguous, shape (leads, samples), more than `edge` samples.
        edge: samples that the signal is continued by at either end, turned about its end point.
        gain: factor of one run.
        sections: the cascade, all of one form.
    """
    n_leads, length = signal_NT.shape
    out_NT = np.empty_like(signal_NT)
    n_rows = length + 2 * edge
    rows_RL = np.empty((n_rows, LANES), np.float32)
    rows = rows_RL.reshape(-1)
    for lead in range(0, n_leads, LANES):
        _lay_down(signal_NT, lead, rows_RL, edge)
        _continue(rows_RL, edge, length, False)
        _run_sections(rows, 0, LANES, n_rows, gain, sections)
        _run_sections(rows, (n_rows - 1) * LANES, -LANES, n_rows, gain, sections)
        _pick_up(rows_RL, edge, out_NT, lead)
    return out_NT


@compiled
def polyphase(
    signal_NT: Signals, up: int, down: int, centre: int, weights_PK: NDArray[np.float64], before: int, after: int, n_out: int, line: bool
) -> Signals:
    """Sum leads under a finite response at `up / down` of their rate.

    Args:
        signal_NT: C-contiguous, shape (leads, samples).
        up: samples between which the response is laid out, for each sample that comes in.
        down: of those, samples to the next one that goes out.
        centre: where the response has its middle.
        weights_PK: the response by phase (`up` of them), last tap first, a multiple of four taps.
        before: samples that the signal is continued by in front, at least those that the response reaches.
        after: the same behind.
        n_out: samples that go out.
        line: continue on the line through first and last sample; else turn about the end point (more than `before` samples).
    """
    n_leads, length = signal_NT.shape
    n_taps = weights_PK.shape[1]
    out_NT = np.empty((n_leads, n_out), np.float32)
    rows_RL = np.empty((before + length + after, LANES), np.float32)
    sums_RL = np.empty((n_out, LANES), np.float32)
    wide_RL = np.empty(rows_RL.shape, np.float64)
    rows, sums, weights = wide_RL.reshape(-1), sums_RL.reshape(-1), weights_PK.reshape(-1)
    for lead in range(0, n_leads, LANES):
        _lay_down(signal_NT, lead, rows_RL, before)
        _continue(rows_RL, before, length, line)
        for r in range(rows_RL.shape[0]):
            for lane in range(LANES):
                wide_RL[r, lane] = rows_RL[r, lane]
        for m in range(n_out):
            place = m * down + centre
            start = place // up - (n_taps - 1) + before
            _weigh_rows(rows, start * LANES, weights, (place % up) * n_taps, n_taps // _CHAINS, sums, m * LANES)
        _pick_up(sums_RL, 0, out_NT, lead)
    return out_NT
