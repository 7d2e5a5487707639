"""Operations on ``Vec``: loads and stores, whole and in part, sums and differences as operators; and single elements.

Offsets count elements from the start of a contiguous one-dimensional array; nothing is checked, and nothing
outside the elements named is read or written. ``lanes`` must be a literal or a closure integer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, overload

from numbaconv.simd import emit
from numbaconv.simd.types import Vec

Lowering = Callable[[Any, ir.IRBuilder, Any, Any], Any]


@intrinsic
def in_register(typingctx: Any, value: Any) -> tuple[Any, Lowering]:
    """The same integer, as a value that begins here.

    One that lives through a long kernel may be on the stack where a loop needs it most, and LLVM, whose search for a
    register ends early in such a kernel, loads it there at every use. In front of the loop, this makes one of its own.
    """

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return emit.opaque(builder, args[0], pinned=True)

    return signature(value, value), lower


@intrinsic(prefer_literal=True)
def load(typingctx: Any, a: Any, offset: Any, lanes: Any) -> tuple[Any, Lowering]:
    """``a[offset : offset + lanes]`` as a vector."""
    vec = Vec(a.dtype, lanes.literal_value)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, start, _ = args
        return emit.load(builder, vec, emit.element(context, builder, a, array, start))

    return signature(vec, a, offset, lanes), lower


@intrinsic(prefer_literal=True)
def load_between(typingctx: Any, a: Any, offset: Any, begin: Any, end: Any, lanes: Any) -> tuple[Any, Lowering]:
    """Lanes ``begin`` to ``end - 1`` from ``a[offset:]``, 0 in the others, which are not read."""
    vec = Vec(a.dtype, lanes.literal_value)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, start, first, last, _ = args
        pointer = emit.element(context, builder, a, array, start)
        return emit.load(builder, vec, pointer, emit.between(builder, vec, first, last))

    return signature(vec, a, offset, types.int64, types.int64, lanes), lower


@intrinsic
def store(typingctx: Any, vec: Any, a: Any, offset: Any) -> tuple[Any, Lowering]:
    """Write the vector to ``a[offset : offset + lanes]``."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, array, start = args
        emit.store(builder, vec, value, emit.element(context, builder, a, array, start))
        return context.get_dummy_value()

    return signature(types.void, vec, a, offset), lower


@intrinsic
def store_first(typingctx: Any, vec: Any, a: Any, offset: Any, count: Any) -> tuple[Any, Lowering]:
    """Write the first ``count`` lanes to ``a[offset:]`` and leave what follows them untouched."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, array, start, n = args
        pointer = emit.element(context, builder, a, array, start)
        emit.masked_store(builder, vec, value, pointer, emit.first_lanes(builder, vec, n))
        return context.get_dummy_value()

    return signature(types.void, vec, a, offset, types.int64), lower


@intrinsic
def get(typingctx: Any, a: Any, offset: Any) -> tuple[Any, Lowering]:
    """The element ``a[offset]``. Numba's own indexing wraps negative offsets, which keeps LLVM from vectorising."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.load(emit.element(context, builder, a, *args))

    return signature(a.dtype, a, offset), lower


@intrinsic
def put(typingctx: Any, a: Any, offset: Any, value: Any) -> tuple[Any, Lowering]:
    """``a[offset] = value``, as `get` reads it."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, start, scalar = args
        builder.store(scalar, emit.element(context, builder, a, array, start))
        return context.get_dummy_value()

    return signature(types.void, a, offset, a.dtype), lower


def _binary(name: str) -> Any:
    """An intrinsic of two vectors that emits one instruction."""

    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> tuple[Any, Lowering]:
        def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
            return getattr(builder, name)(*args)

        return signature(a, a, b), lower

    return operation


_add, _sub = _binary("fadd"), _binary("fsub")


def _are_vectors(a: Any, b: Any) -> bool:
    return isinstance(a, Vec) and a == b


# Numba compares the signature of an overload with that of its implementation, so these have no annotations.
@overload(operator.add)
def _overload_add(a, b):  # type: ignore[no-untyped-def]
    return (lambda a, b: _add(a, b)) if _are_vectors(a, b) else None


@overload(operator.sub)
def _overload_sub(a, b):  # type: ignore[no-untyped-def]
    return (lambda a, b: _sub(a, b)) if _are_vectors(a, b) else None
