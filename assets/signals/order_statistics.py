"""Numba kernels that find medians without sorting."""

# Numba reads the signatures of these functions at run time.
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numpy.typing import NDArray

from assets.signals.compiled import compiled, emitted
from assets.signals.vectors import INDEX, LANES, SINGLE, array_data, everywhere, load, shuffled


@compiled
def running_medians(signal_NT: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Medians of `width` (odd) neighbours, zeros beyond the ends, shape (leads, samples) in and out.

    One sample leaves the window and one enters, so the median stays or goes to its next greater or smaller neighbour. Whether
    it must is known from two counts; only then are the samples of the window looked at, sixteen at a time.
    """
    n_leads, length = signal_NT.shape
    half = width // 2
    padded = np.zeros(length + 2 * half + LANES, np.float32)
    out_NT = np.empty_like(signal_NT)
    for lead in range(n_leads):
        for t in range(length):
            padded[half + t] = signal_NT[lead, t]
        median = np.float32(0)
        below, not_above = 0, 0
        for t in range(width):
            below += int(padded[t] < median)
            not_above += int(padded[t] <= median)
        for t in range(length):
            if t:
                old, new = padded[t - 1], padded[t + width - 1]
                below += int(new < median) - int(old < median)
                not_above += int(new <= median) - int(old <= median)
            while below > half:
                median = _greatest_below(padded, t, width, median)
                not_above = below
                below = _count_below(padded, t, width, median)
            while not_above <= half:
                median = _least_above(padded, t, width, median)
                below = not_above
                not_above = width - _count_above(padded, t, width, median)
            out_NT[lead, t] = median
    return out_NT


def _window_scan(typing_types: tuple[Any, ...], result: Any, start: Any, step: Any, finish: Any) -> tuple[Any, Any]:
    """Signature and writer of a function that goes through a window sixteen samples at a time.

    The last sixteen may lie partly behind it; `step` is told which lie within.
    """
    signature = result(typing_types[0], types.int64, types.int64, types.float32)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = array_data(context, builder, signature.args[0], args[0])
        first, width, limit = args[1], args[2], everywhere(builder, args[3], SINGLE)
        narrow = ir.IntType(32)
        lane = ir.Constant(ir.VectorType(narrow, LANES), list(range(LANES)))
        before, loop, after = builder.block, builder.append_basic_block("window"), builder.append_basic_block("window_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        place, state = builder.phi(INDEX), builder.phi(start.type)
        place.add_incoming(ir.Constant(INDEX, 0), before)
        state.add_incoming(start, before)
        left = everywhere(builder, builder.trunc(builder.sub(width, place), narrow), lane.type)
        next_state = step(builder, state, load(builder, data, builder.add(first, place)), limit, builder.icmp_signed("<", lane, left))
        next_place = builder.add(place, ir.Constant(INDEX, LANES))
        place.add_incoming(next_place, loop)
        state.add_incoming(next_state, loop)
        builder.cbranch(builder.icmp_signed("<", next_place, width), loop, after)
        builder.position_at_end(after)
        return finish(builder, next_state)

    return signature, codegen


def _extreme(typing_types: tuple[Any, ...], beyond: str, better: str, worst: float) -> tuple[Any, Any]:
    """The best of the samples that lie beyond the limit."""
    nothing = ir.Constant(SINGLE, [worst] * LANES)

    def step(builder: Any, best: Any, row: Any, limit: Any, within: Any) -> Any:
        row = builder.select(builder.and_(builder.fcmp_ordered(beyond, row, limit), within), row, nothing)
        return builder.select(builder.fcmp_ordered(better, row, best), row, best)

    def finish(builder: Any, best: Any) -> Any:
        half = LANES
        while half > 1:
            half //= 2
            other = shuffled(builder, best, best, [(i + half) % LANES for i in range(LANES)])
            best = builder.select(builder.fcmp_ordered(better, other, best), other, best)
        return builder.extract_element(best, ir.Constant(ir.IntType(32), 0))

    return _window_scan(typing_types, types.float32, nothing, step, finish)


def _count(typing_types: tuple[Any, ...], beyond: str) -> tuple[Any, Any]:
    """How many samples lie beyond the limit."""

    def step(builder: Any, count: Any, row: Any, limit: Any, within: Any) -> Any:
        counted = builder.bitcast(builder.and_(builder.fcmp_ordered(beyond, row, limit), within), ir.IntType(LANES))
        return builder.add(count, builder.zext(builder.ctpop(counted), INDEX))

    return _window_scan(typing_types, types.int64, ir.Constant(INDEX, 0), step, lambda builder, count: count)


@emitted
def _greatest_below(typingctx: Any, data: Any, first: Any, width: Any, limit: Any) -> Any:
    """The greatest of `width` numbers from `first` on that is smaller than the limit."""
    return _extreme((data,), "<", ">", -np.inf)


@emitted
def _least_above(typingctx: Any, data: Any, first: Any, width: Any, limit: Any) -> Any:
    return _extreme((data,), ">", "<", np.inf)


@emitted
def _count_below(typingctx: Any, data: Any, first: Any, width: Any, limit: Any) -> Any:
    return _count((data,), "<")


@emitted
def _count_above(typingctx: Any, data: Any, first: Any, width: Any, limit: Any) -> Any:
    return _count((data,), ">")
