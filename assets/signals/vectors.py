"""What kernels written in LLVM's own language share: vectors of sixteen numbers, in memory and in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]

LANES = 16

SINGLE = ir.VectorType(ir.FloatType(), LANES)
DOUBLE = ir.VectorType(ir.DoubleType(), LANES)
INDEX = ir.IntType(64)
_FUSED = ("contract",)


def array_data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Pointer to the first number of a numba array."""
    return context.make_array(array_type)(context, builder, array).data


def load(builder: Any, data: Any, at: Any, kind: Any = SINGLE) -> Any:
    """Sixteen neighbours."""
    row = builder.load(builder.bitcast(builder.gep(data, [at]), kind.as_pointer()))
    row.align = 4
    return row


def store(builder: Any, row: Any, data: Any, at: Any) -> None:
    """Write sixteen neighbours."""
    builder.store(row, builder.bitcast(builder.gep(data, [at]), row.type.as_pointer())).align = 4


def shuffled(builder: Any, one: Any, other: Any, order: list[int]) -> Any:
    """A vector of the numbers of two, by place."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def everywhere(builder: Any, number: Any, kind: Any = DOUBLE) -> Any:
    """A vector of one number."""
    empty = ir.Constant(kind, ir.Undefined)
    return shuffled(builder, builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0)), empty, [0] * kind.count)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=_FUSED), c, flags=_FUSED)


def multiply_subtract(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b - c, rounded once where the processor can."""
    return builder.fsub(builder.fmul(a, b, flags=_FUSED), c, flags=_FUSED)


def call_apart(builder: Any, name: str, write: Callable[..., None], args: list[Any]) -> None:
    """Call a function that LLVM leaves alone, so that a loop has the registers to itself.

    Among the rest of a kernel it spills vectors to the stack and loads them at every turn. `write(builder, *args)` writes
    the function when it is first called in a module under this name.
    """
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [arg.type for arg in args]), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        inside = ir.IRBuilder(function.append_basic_block("entry"))
        write(inside, *function.args)
        inside.ret_void()
    builder.call(function, args)
