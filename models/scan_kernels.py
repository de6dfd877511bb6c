"""Compiled loops of selective scans for processors: nothing of shape (B, L, D, N) is ever held, only 32 steps of 64 channels at a time.

Importing this module imports numba, so `models.scan` imports it when it scans. Loops run over channels innermost, which are
independent of each other, so that they become vector instructions; the state of 64 channels stays in the first-level cache.

Every loop does the records from `start` to before `stop`, so that threads can share them. It trusts the shapes that it is given.

Letters: B records, L steps, D channels, N states of a channel, K chunks of `CHUNK` steps, X everything behind L.
"""

# Numba reads the signatures of these functions at run time.
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Single = NDArray[np.float32]

CHUNK = 32
"""Steps between two states that the forward loop keeps for the backward one."""

_BLOCK = 64
_LEAST = np.float32(-126)
_HALF, _ONE = np.float32(0.5), np.float32(1)
_LN2 = np.float32(math.log(2))
_P1, _P2, _P3, _P4, _P5, _P6, _P7 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 8))
"""Taylor's series of 2^f; for |f| <= 1/2 what it leaves out is below 6e-9."""


def _compiled(function: Function) -> Function:
    """Compile sums that may be taken in any order, without the interpreter's lock, kept for the next process."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}
    try:
        return cast("Function", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # nowhere to keep it
        return cast("Function", numba.njit(**options)(function))


@_compiled
def recur(start: int, stop: int, a_BLX: NDArray[Any], b_BLX: NDArray[Any], h_BLX: NDArray[Any]) -> None:
    """h_t = a_t h_{t-1} + b_t with h_0 = 0, into `h_BLX`; any floating type."""
    _, L, X = a_BLX.shape
    for record in range(start, stop):
        h_BLX[record, :1] = b_BLX[record, :1]
        for t in range(1, L):
            for x in range(X):
                h_BLX[record, t, x] = a_BLX[record, t, x] * h_BLX[record, t - 1, x] + b_BLX[record, t, x]


@_compiled
def recur_back(start: int, stop: int, a_BLX: NDArray[Any], h_BLX: NDArray[Any], s_BLX: NDArray[Any], grad_a_BLX: NDArray[Any]) -> None:
    """Gradients of `recur`: `s_BLX` comes with those of h and leaves with those of b, s_t += a_{t+1} s_{t+1}; s_t h_{t-1} is a's."""
    _, L, X = a_BLX.shape
    for record in range(start, stop):
        for t in range(L - 1, 0, -1):
            for x in range(X):
                grad_a_BLX[record, t, x] = s_BLX[record, t, x] * h_BLX[record, t - 1, x]
                s_BLX[record, t - 1, x] += a_BLX[record, t, x] * s_BLX[record, t, x]
        grad_a_BLX[record, :1] = 0


@_compiled
def selective(
    start: int,
    stop: int,
    u_BLD: Single,
    delta_BLD: Single,
    rate_ND: Single,
    b_BLN: Single,
    c_BLN: Single,
    skip_D: Single,
    y_BLD: Single,
    states_BKND: Single,
) -> None:
    """A selective scan, into `y_BLD`, and the states before each chunk, into `states_BKND`.

    `rate_ND` is A / ln 2, so that the decay of a step is 2^(delta rate).
    """
    _, L, D = u_BLD.shape
    N = len(rate_ND)
    h_ND = np.empty((N, _BLOCK), np.float32)
    x_D, sum_D = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for record in range(start, stop):
        for first in range(0, D, _BLOCK):
            last = min(first + _BLOCK, D)
            h_ND[:] = 0
            for t in range(L):
                if t % CHUNK == 0:
                    states_BKND[record, t // CHUNK, :, first:last] = h_ND[:, : last - first]
                u_D, delta_D = u_BLD[record, t, first:last], delta_BLD[record, t, first:last]
                for d in range(last - first):
                    x_D[d] = delta_D[d] * u_D[d]
                    sum_D[d] = skip_D[first + d] * u_D[d]
                for n in range(N):
                    _advance(delta_D, rate_ND[n, first:last], b_BLN[record, t, n], c_BLN[record, t, n], x_D, h_ND[n], sum_D)
                for d in range(last - first):
                    y_BLD[record, t, first + d] = sum_D[d]


@_compiled
def selective_back(
    start: int,
    stop: int,
    grad_y_BLD: Single,
    u_BLD: Single,
    delta_BLD: Single,
    rate_ND: Single,
    b_BLN: Single,
    c_BLN: Single,
    skip_D: Single,
    states_BKND: Single,
    grad_u_BLD: Single,
    grad_delta_BLD: Single,
    grad_a_BND: Single,
    grad_b_BLN: Single,
    grad_c_BLN: Single,
    grad_skip_BD: Single,
) -> None:
    """Gradients of `selective`, of A rather than its rate; the last four must come as zeros.

    Chunks are taken from the last to the first. Each is run forward again from the state before it, then backward with
    s_t = c_t dL/dy_t + Abar_{t+1} s_{t+1}.
    """
    _, L, D = u_BLD.shape
    N = len(rate_ND)
    h_TND = np.empty((CHUNK + 1, N, _BLOCK), np.float32)
    decay_TND = np.empty((CHUNK, N, _BLOCK), np.float32)
    s_ND = np.empty((N, _BLOCK), np.float32)
    x_D, by_b_D, by_rate_D = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for record in range(start, stop):
        for first in range(0, D, _BLOCK):
            last = min(first + _BLOCK, D)
            s_ND[:] = 0
            for chunk in range((L - 1) // CHUNK, -1, -1):
                begin = chunk * CHUNK
                steps = min(CHUNK, L - begin)
                h_TND[0, :, : last - first] = states_BKND[record, chunk, :, first:last]
                for j in range(steps):
                    u_D, delta_D = u_BLD[record, begin + j, first:last], delta_BLD[record, begin + j, first:last]
                    for d in range(last - first):
                        x_D[d] = delta_D[d] * u_D[d]
                    for n in range(N):
                        b = b_BLN[record, begin + j, n]
                        _remember(delta_D, rate_ND[n, first:last], b, x_D, h_TND[j, n], h_TND[j + 1, n], decay_TND[j, n])
                for j in range(steps - 1, -1, -1):
                    t = begin + j
                    u_D, delta_D, g_D = u_BLD[record, t, first:last], delta_BLD[record, t, first:last], grad_y_BLD[record, t, first:last]
                    for d in range(last - first):
                        x_D[d] = delta_D[d] * u_D[d]
                        by_b_D[d] = 0
                        by_rate_D[d] = 0
                    for n in range(N):
                        grad_b, grad_c = _retreat(
                            g_D, delta_D, rate_ND[n, first:last], b_BLN[record, t, n], c_BLN[record, t, n], x_D, h_TND[j, n],
                            h_TND[j + 1, n], decay_TND[j, n], s_ND[n], by_b_D, by_rate_D, grad_a_BND[record, n, first:last],
                        )  # fmt: skip
                        grad_b_BLN[record, t, n] += grad_b
                        grad_c_BLN[record, t, n] += grad_c
                    for d in range(last - first):
                        grad_skip_BD[record, first + d] += g_D[d] * u_D[d]
                        grad_u_BLD[record, t, first + d] = g_D[d] * skip_D[first + d] + by_b_D[d] * delta_D[d]
                        grad_delta_BLD[record, t, first + d] = by_b_D[d] * u_D[d] + by_rate_D[d] * _LN2


@_compiled
def _power_of_two(z: np.float32) -> np.float32:
    """2^z for z <= 0: a series for the part that is left of the nearest whole number, whose power is written into the exponent's bits."""
    z = max(z, _LEAST)
    whole = np.floor(z + _HALF)
    f = z - whole
    series = _ONE + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * (_P5 + f * (_P6 + f * _P7))))))
    # Numba's sums of int32 are int64.
    found: np.float32 = series * np.int32((np.int32(whole) + 127) << 23).view(np.float32)
    return found


@_compiled
def _advance(delta_D: Single, rate_D: Single, b: np.float32, c: np.float32, x_D: Single, h_D: Single, sum_D: Single) -> None:
    """One step of one state number of a block of channels, and what it adds to their outputs."""
    for d in range(len(delta_D)):
        h = _power_of_two(delta_D[d] * rate_D[d]) * h_D[d] + b * x_D[d]
        h_D[d] = h
        sum_D[d] += c * h


@_compiled
def _remember(delta_D: Single, rate_D: Single, b: np.float32, x_D: Single, before_D: Single, after_D: Single, decay_D: Single) -> None:
    """The same step, its state and its decay kept."""
    for d in range(len(delta_D)):
        decay = _power_of_two(delta_D[d] * rate_D[d])
        decay_D[d] = decay
        after_D[d] = decay * before_D[d] + b * x_D[d]


@_compiled
def _retreat(
    g_D: Single,
    delta_D: Single,
    rate_D: Single,
    b: np.float32,
    c: np.float32,
    x_D: Single,
    before_D: Single,
    after_D: Single,
    decay_D: Single,
    s_D: Single,
    by_b_D: Single,
    by_rate_D: Single,
    grad_a_D: Single,
) -> tuple[np.float32, np.float32]:
    """One step backward: `s_D` comes with what later steps ask for and leaves with what this one asks of the step before."""
    grad_b, grad_c = np.float32(0), np.float32(0)
    for d in range(len(g_D)):
        s = s_D[d] + c * g_D[d]
        grad_b += s * x_D[d]
        grad_c += g_D[d] * after_D[d]
        by_b_D[d] += s * b
        s *= decay_D[d]
        by_decay = s * before_D[d]
        by_rate_D[d] += by_decay * rate_D[d]
        grad_a_D[d] += by_decay * delta_D[d]
        s_D[d] = s
    return grad_b, grad_c
