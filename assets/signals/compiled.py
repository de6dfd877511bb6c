"""The one way in which signal functions are compiled: machine code without the interpreter's lock, kept on disk for the next process.

Importing this module imports numba, so it and the modules of kernels are imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers at its first call with arguments of these types.

    Products and sums may be fused and zeros may lose their sign; nothing is reordered.
    """
    return _compile(function, {"contract", "nsz"})


def compiled_for_any_order(function: Function) -> Function:
    """As `compiled`, for sums and extremes of finite numbers that may be taken in any order, side by side."""
    return _compile(function, {"contract", "nsz", "reassoc", "nnan"})


def emitted(function: Callable[..., Any]) -> Any:
    """A function that writes LLVM code, for use in compiled ones; it takes the types of its arguments and returns signature and writer."""
    return intrinsic(function)


def _compile(function: Function, fastmath: set[str]) -> Function:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return cast("Function", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # the package, the user's cache and NUMBA_CACHE_DIR are all read-only: compile in each process
        return cast("Function", numba.njit(**options)(function))
