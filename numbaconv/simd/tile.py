"""Operations on ``Tile``, a matrix of registers: products, sums, biases and bounds.

`tile_memory` moves tiles to and from memory, `correlate` sums over the taps of a kernel.

A tile of ``rows`` by ``vectors`` holds element (i, j) of a product in row ``i``, lane ``j % lanes`` of vector
``j // lanes``. Offsets and leading dimensions count elements of contiguous one-dimensional arrays; nothing is
checked, and nothing outside the elements named is read or written. Shapes must be literals or closure integers.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import Tile
from numbaconv.simd.vec import Lowering


@intrinsic(prefer_literal=True)
def zeros(typingctx: Any, like: Any, rows: Any, vectors: Any, lanes: Any) -> tuple[Any, Lowering]:
    """A tile of zeros, of the element type of the array ``like``."""
    tile = Tile(like.dtype, lanes.literal_value, rows.literal_value, vectors.literal_value)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return ir.Constant(tile.llvm, None)

    return signature(tile, like, rows, vectors, lanes), lower


def _rank1(tile: Tile, a: Any, b: Any, rows: range) -> Lowering:
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, a_array, row, row_step, b_array, column = args[:6]
        vec = tile.vec
        columns = [
            emit.load(
                builder, vec, emit.element(context, builder, b, b_array, emit.plus(builder, column, j * vec.lanes))
            )
            for j in range(tile.vectors)
        ]
        for i in range(rows.stop):
            if i in rows:
                scalar = emit.load_splat(builder, vec, emit.element(context, builder, a, a_array, row))
                value = emit.fma_row(builder, tile, value, i, scalar, columns)
            row = builder.add(row, row_step)
        return value

    return lower


@intrinsic
def rank1(typingctx: Any, tile: Any, a: Any, a_off: Any, lda: Any, b: Any, b_off: Any) -> tuple[Any, Lowering]:
    """Rank-one update ``tile[i, j] += a[a_off + i * lda] * b[b_off + j]``.

    ``rows`` scalars are broadcast, read in place at any stride: on Zen 3 a packed operand was no faster (89
    against 88 GFLOP/s). ``vectors`` loads and ``rows * vectors`` fused multiply-adds follow.
    """
    return signature(tile, tile, a, a_off, lda, b, b_off), _rank1(tile, a, b, range(tile.rows))


@intrinsic(prefer_literal=True)
def rank1_rows(
    typingctx: Any, tile: Any, a: Any, a_off: Any, lda: Any, b: Any, b_off: Any, first: Any, end: Any
) -> tuple[Any, Lowering]:
    """`rank1` of the rows from ``first`` to ``end - 1`` alone, both literals; of ``a`` nothing else is read."""
    rows = range(first.literal_value, end.literal_value)
    return signature(tile, tile, a, a_off, lda, b, b_off, first, end), _rank1(tile, a, b, rows)


def _inner(tile: Tile, a: Any, b: Any, masked: bool) -> Lowering:
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, a_array, a_row, a_step, b_array, b_off, b_step, last = args[:8]
        mask = emit.first_lanes(builder, tile.vec, args[8]) if masked else None

        pointers = emit.elements(context, builder, a, a_array, a_row, a_step, tile.rows)
        rows = [emit.load(builder, tile.vec, pointer, mask) for pointer in pointers]
        for j in range(tile.vectors):
            number = ir.Constant(last.type, j)
            number = builder.select(builder.icmp_signed("<", number, last), number, last)
            pointer = emit.element(context, builder, b, b_array, builder.add(b_off, builder.mul(number, b_step)))
            column = emit.load(builder, tile.vec, pointer, mask)
            for i, row in enumerate(rows):
                k = tile.index(i, j)
                total = emit.fma(builder, tile.vec, row, column, builder.extract_value(value, k))
                value = builder.insert_value(value, total, k)
        return value

    return lower


@intrinsic
def inner(
    typingctx: Any, tile: Any, a: Any, a_off: Any, lda: Any, b: Any, b_off: Any, ldb: Any, last: Any
) -> tuple[Any, Lowering]:
    """A step of inner products: register (i, j) gets ``a[a_off + i * lda :] * b[b_off + j * ldb :]``, lane by lane.

    A vector of each row of ``a`` and of ``b`` is loaded, and row ``last`` of ``b`` for those beyond it. What is summed
    in the end are the lanes, by `sum_lanes`.
    """
    return signature(tile, tile, a, a_off, lda, b, b_off, ldb, last), _inner(tile, a, b, False)


@intrinsic
def inner_first(
    typingctx: Any, tile: Any, a: Any, a_off: Any, lda: Any, b: Any, b_off: Any, ldb: Any, last: Any, count: Any
) -> tuple[Any, Lowering]:
    """`inner` of the first ``count`` elements of each row; nothing else is read."""
    return signature(tile, tile, a, a_off, lda, b, b_off, ldb, last, types.int64), _inner(tile, a, b, True)


@intrinsic
def sum_lanes(typingctx: Any, tile: Any) -> tuple[Any, Lowering]:
    """The tile whose element (i, j) is the sum of the lanes of register (i, j); its rows are vectors of these alone.

    The number of registers in a row is a power of two.
    """
    summed = Tile(tile.vec.dtype, min(tile.vec.lanes, tile.vectors), tile.rows, -(-tile.vectors // tile.vec.lanes))

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        result = ir.Constant(summed.llvm, ir.Undefined)
        for i in range(summed.rows):
            for j in range(summed.vectors):
                columns = range(j * summed.vec.lanes, (j + 1) * summed.vec.lanes)
                parts = [builder.extract_value(args[0], tile.index(i, column)) for column in columns]
                result = builder.insert_value(result, emit.sums(builder, tile.vec, parts), summed.index(i, j))
        return result

    return signature(summed, tile), lower


@intrinsic
def add(typingctx: Any, a: Any, b: Any) -> tuple[Any, Lowering]:
    """The sum of two tiles."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        x, y = args
        return emit.for_each_register(
            builder, a, x, lambda reg, i, j: builder.fadd(reg, builder.extract_value(y, a.index(i, j)))
        )

    return signature(a, a, a), lower


@intrinsic
def add_to_rows(typingctx: Any, tile: Any, a: Any, offset: Any, step: Any) -> tuple[Any, Lowering]:
    """``tile[i, :] += a[offset + i * step]``: a bias where rows are output channels."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, array, start, row_step = args
        pointers = emit.elements(context, builder, a, array, start, row_step, tile.rows)
        splats = [emit.load_splat(builder, tile.vec, pointer) for pointer in pointers]
        return emit.for_each_register(builder, tile, value, lambda reg, i, j: builder.fadd(reg, splats[i]))

    return signature(tile, tile, a, offset, step), lower


@intrinsic
def add_to_columns(typingctx: Any, tile: Any, a: Any, offset: Any, count: Any) -> tuple[Any, Lowering]:
    """``tile[:, j] += a[offset + j]`` for ``j < count``: a bias where lanes are output channels."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, array, start, n = args
        vectors = []
        for j in range(tile.vectors):
            pointer = emit.element(context, builder, a, array, emit.plus(builder, start, j * tile.vec.lanes))
            mask = emit.first_lanes(builder, tile.vec, emit.plus(builder, n, -j * tile.vec.lanes))
            vectors.append(emit.load(builder, tile.vec, pointer, mask))
        return emit.for_each_register(builder, tile, value, lambda reg, i, j: builder.fadd(reg, vectors[j]))

    return signature(tile, tile, a, offset, types.int64), lower


@intrinsic(prefer_literal=True)
def first_part(typingctx: Any, tile: Any, parts: Any) -> tuple[Any, Lowering]:
    """The first of equal parts of every vector, a tile of narrower vectors."""
    lanes = tile.vec.lanes // parts.literal_value
    narrow = Tile(tile.vec.dtype, lanes, tile.rows, tile.vectors)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = ir.Constant(narrow.llvm, ir.Undefined)
        for k in range(tile.rows * tile.vectors):
            whole = builder.extract_value(args[0], k)
            value = builder.insert_value(value, emit.shuffle(builder, whole, whole, list(range(lanes))), k)
        return value

    return signature(narrow, tile, parts), lower


@intrinsic(prefer_literal=True)
def next_part(typingctx: Any, tile: Any, parts: Any) -> tuple[Any, Lowering]:
    """The tile with the second of equal parts of every vector where the first was, and so on around."""
    lanes = tile.vec.lanes
    around = [(lane + lanes // parts.literal_value) % lanes for lane in range(lanes)]

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return emit.for_each_register(builder, tile, args[0], lambda reg, i, j: emit.shuffle(builder, reg, reg, around))

    return signature(tile, tile, parts), lower


@intrinsic
def clip(typingctx: Any, tile: Any, low: Any, high: Any) -> tuple[Any, Lowering]:
    """Every element between two scalars of the tile's type; NaN stays NaN. Between infinities nothing is done."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = args[0]
        infinities = [ir.Constant(bound.type, sign * math.inf) for bound, sign in zip(args[1:], (-1, 1), strict=True)]
        below, above = (builder.fcmp_unordered("!=", *pair) for pair in zip(args[1:], infinities, strict=True))
        before = builder.block
        with builder.if_then(builder.or_(below, above)):
            bounds = [emit.splat(builder, bound, tile.vec.lanes) for bound in args[1:]]
            clipped = emit.for_each_register(builder, tile, value, lambda reg, i, j: emit.clip(builder, reg, *bounds))
            inside = builder.block
        result = builder.phi(tile.llvm)
        result.add_incoming(value, before)
        result.add_incoming(clipped, inside)
        return result

    return signature(tile, tile, tile.vec.dtype, tile.vec.dtype), lower
