"""Tiles to and from memory: whole, in part at the edges of a problem, and transposed.

Row ``i`` of a tile lies at ``offset + i * ld``. The partial forms never touch memory outside the part, so that
threads may write neighbouring parts at the same time and a page end may follow an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import Tile
from numbaconv.simd.vec import Lowering
from numbaconv.workspace import LINE


def _row_pointers(
    context: Any, builder: ir.IRBuilder, tile: Tile, a: Any, array: ir.Value, row: ir.Value, step: ir.Value
) -> Iterator[Iterator[ir.Value]]:
    """Where the registers of each row of a tile lie, those of the first row from ``array[row]`` on."""
    for _ in range(tile.rows):
        offsets = (emit.plus(builder, row, j * tile.vec.lanes) for j in range(tile.vectors))
        yield (emit.element(context, builder, a, array, offset) for offset in offsets)
        row = builder.add(row, step)


def _column_masks(builder: ir.IRBuilder, tile: Tile, count: ir.Value) -> list[ir.Value]:
    return [
        emit.first_lanes(builder, tile.vec, emit.plus(builder, count, -j * tile.vec.lanes)) for j in range(tile.vectors)
    ]


def _load(tile: Tile, a: Any, masked: bool) -> Lowering:
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        masks = _column_masks(builder, tile, args[3]) if masked else [None] * tile.vectors
        value = ir.Constant(tile.llvm, ir.Undefined)
        for i, pointers in enumerate(_row_pointers(context, builder, tile, a, *args[:3])):
            for j, pointer in enumerate(pointers):
                loaded = emit.load(builder, tile.vec, pointer, masks[j])
                value = builder.insert_value(value, loaded, tile.index(i, j))
        return value

    return lower


@intrinsic(prefer_literal=True)
def load_tile(
    typingctx: Any, a: Any, offset: Any, ld: Any, rows: Any, vectors: Any, lanes: Any
) -> tuple[Any, Lowering]:
    """A tile read from ``a``, whole."""
    tile = Tile(a.dtype, lanes.literal_value, rows.literal_value, vectors.literal_value)
    return signature(tile, a, offset, ld, rows, vectors, lanes), _load(tile, a, masked=False)


#: For the level of `prefetch_rows`: into the first cache, of this core alone, since it will be written.
TO_WRITE = 0


def _ask(builder: ir.IRBuilder, pointer: ir.Value, level: int) -> None:
    """Ask for the cache line at ``pointer`` into a cache of ``level``, 1 to 3, or `TO_WRITE`; no address is wrong."""
    flags = [ir.Constant(emit.I32, flag) for flag in (int(level == TO_WRITE), 4 - max(1, level), 1)]
    emit.call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, *flags])


@intrinsic(prefer_literal=True)
def prefetch_rows(typingctx: Any, a: Any, offset: Any, ld: Any, rows: Any, level: Any) -> tuple[Any, Lowering]:
    """Ask for the cache line of ``a[offset + i * ld]`` for each of ``rows`` rows; no address is wrong.

    ``level`` is that of the cache, 1 to 3, or `TO_WRITE`.
    """

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        for pointer in emit.elements(context, builder, a, args[0], args[1], args[2], rows.literal_value):
            _ask(builder, pointer, level.literal_value)
        return context.get_dummy_value()

    return signature(types.void, a, offset, ld, rows, level), lower


@intrinsic(prefer_literal=True)
def prefetch(typingctx: Any, a: Any, offset: Any, length: Any, level: Any) -> tuple[Any, Lowering]:
    """Ask for the cache line of ``a[offset]``, and of every element a line's length further on, less than ``length``.

    ``level`` is that of the cache, as for `prefetch_rows`; no address is wrong.
    """

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, start = args[:2]
        for begin in range(0, length.literal_value, LINE * 8 // a.dtype.bitwidth):
            pointer = emit.element(context, builder, a, array, emit.plus(builder, start, begin))
            _ask(builder, pointer, level.literal_value)
        return context.get_dummy_value()

    return signature(types.void, a, offset, length, level), lower


def _store_whole(store: Callable[..., None], tile: Any, a: Any, offset: Any, ld: Any) -> tuple[Any, Lowering]:
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        for i, pointers in enumerate(_row_pointers(context, builder, tile, a, *args[1:])):
            for j, pointer in enumerate(pointers):
                store(builder, tile.vec, builder.extract_value(args[0], tile.index(i, j)), pointer)
        return context.get_dummy_value()

    return signature(types.void, tile, a, offset, ld), lower


@intrinsic
def store_tile(typingctx: Any, tile: Any, a: Any, offset: Any, ld: Any) -> tuple[Any, Lowering]:
    """Write the whole tile to ``a``."""
    return _store_whole(emit.store, tile, a, offset, ld)


@intrinsic
def stream_tile(typingctx: Any, tile: Any, a: Any, offset: Any, ld: Any) -> tuple[Any, Lowering]:
    """Write the whole tile to ``a`` past the caches: every row at an address that is a multiple of a vector's size.

    Before another thread is told of it, it takes a `fence`.
    """
    return _store_whole(emit.stream, tile, a, offset, ld)


@intrinsic
def fence(typingctx: Any) -> tuple[Any, Lowering]:
    """All that was written before is seen by whoever sees what is written after."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if builder.module.triple.startswith("x86_64"):  # LLVM's own fence does not count with stores past the caches
            emit.call(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
        else:
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return signature(types.void), lower


@intrinsic(prefer_literal=True)
def load_columns(
    typingctx: Any, a: Any, offset: Any, ld: Any, columns: Any, rows: Any, vectors: Any, lanes: Any
) -> tuple[Any, Lowering]:
    """A tile of which only the first ``columns`` columns are read; 0 in the others."""
    tile = Tile(a.dtype, lanes.literal_value, rows.literal_value, vectors.literal_value)
    return signature(tile, a, offset, ld, types.int64, rows, vectors, lanes), _load(tile, a, masked=True)


@intrinsic(prefer_literal=True)
def load_block(
    typingctx: Any, a: Any, offset: Any, ld: Any, rows: Any, columns: Any, lanes: Any
) -> tuple[Any, Lowering]:
    """A tile of ``lanes`` x ``lanes`` of which the first ``rows`` and ``columns`` are read; 0 in the others.

    A whole one is loaded without masks, with which laying out weights takes a quarter longer.
    """
    tile = Tile(a.dtype, lanes.literal_value, lanes.literal_value, 1)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, row, row_step, last, count = args[:5]
        pointers = list(emit.elements(context, builder, a, array, row, row_step, tile.rows))

        def loaded(masks: Sequence[ir.Value | None]) -> tuple[ir.Value, ir.Block]:
            value = ir.Constant(tile.llvm, ir.Undefined)
            for i, pointer in enumerate(pointers):
                value = builder.insert_value(value, emit.load(builder, tile.vec, pointer, masks[i]), i)
            return value, builder.block

        full = ir.Constant(last.type, tile.rows)
        everything = builder.and_(builder.icmp_signed(">=", last, full), builder.icmp_signed(">=", count, full))
        with builder.if_else(everything) as (whole, part):
            with whole:
                ways = [loaded([None] * tile.rows)]
            with part:
                inside = emit.first_lanes(builder, tile.vec, count)
                nothing = ir.Constant(inside.type, None)
                rows_on = [builder.icmp_signed(">", last, ir.Constant(last.type, i)) for i in range(tile.rows)]
                ways.append(loaded([builder.select(on, inside, nothing) for on in rows_on]))
        result = builder.phi(tile.llvm)
        for way in ways:
            result.add_incoming(*way)
        return result

    return signature(tile, a, offset, ld, types.int64, types.int64, lanes), lower


@intrinsic(prefer_literal=True)
def load_even(
    typingctx: Any, a: Any, offset: Any, ld: Any, columns: Any, rows: Any, lanes: Any
) -> tuple[Any, Lowering]:
    """A tile one vector wide of every other element: column j of row i is ``a[offset + i * ld + 2 * j]``.

    Only the first ``columns`` columns are read, with the elements between them; the others are 0.
    """
    tile, read = (Tile(a.dtype, lanes.literal_value, rows.literal_value, vectors) for vectors in (1, 2))
    even = list(range(0, 2 * tile.vec.lanes, 2))

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        span = emit.plus(builder, builder.add(args[3], args[3]), -1)
        masks = _column_masks(builder, read, span)
        value = ir.Constant(tile.llvm, ir.Undefined)
        for i, pointers in enumerate(_row_pointers(context, builder, read, a, *args[:3])):
            first, second = (emit.load(builder, tile.vec, *each) for each in zip(pointers, masks, strict=True))
            value = builder.insert_value(value, emit.shuffle(builder, first, second, even), i)
        return value

    return signature(tile, a, offset, ld, types.int64, rows, lanes), lower


@intrinsic(prefer_literal=True)
def load_phases(
    typingctx: Any, a: Any, offset: Any, begin: Any, end: Any, step: Any, lanes: Any, whole: Any
) -> tuple[Any, Lowering]:
    """A tile of ``step`` rows of one vector: column j of row i is ``a[offset + c]`` with ``c = i + j * step``.

    What has c below ``begin`` or from ``end`` on is 0 and not read; with the literal ``whole`` all is read.
    """
    tile = Tile(a.dtype, lanes.literal_value, step.literal_value, 1)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, start, first, last = args[:4]
        vectors = []
        for v in range(0, tile.rows * tile.vec.lanes, tile.vec.lanes):
            pointer = emit.element(context, builder, a, array, emit.plus(builder, start, v))
            mask = None
            if not whole.literal_value:
                mask = emit.between(builder, tile.vec, emit.plus(builder, first, -v), emit.plus(builder, last, -v))
            vectors.append(emit.load(builder, tile.vec, pointer, mask))
        value = ir.Constant(tile.llvm, ir.Undefined)
        for i in range(tile.rows):
            value = builder.insert_value(value, emit.every(builder, vectors, i, tile.rows, tile.vec.lanes), i)
        return value

    return signature(tile, a, offset, types.int64, types.int64, step, lanes, whole), lower


@intrinsic
def store_part(
    typingctx: Any, tile: Any, a: Any, offset: Any, ld: Any, first_row: Any, end_row: Any, columns: Any
) -> tuple[Any, Lowering]:
    """Write rows ``first_row`` to ``end_row - 1``, and of these the first ``columns`` columns."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        first, end, count = args[4:]
        masks = _column_masks(builder, tile, count)
        for i, pointers in enumerate(_row_pointers(context, builder, tile, a, *args[1:4])):
            number = ir.Constant(first.type, i)
            inside = builder.and_(builder.icmp_signed("<=", first, number), builder.icmp_signed(">", end, number))
            with builder.if_then(inside):
                for j, pointer in enumerate(pointers):
                    register = builder.extract_value(args[0], tile.index(i, j))
                    emit.masked_store(builder, tile.vec, register, pointer, masks[j])
        return context.get_dummy_value()

    return signature(types.void, tile, a, offset, ld, types.int64, types.int64, types.int64), lower


def transposed_columns(builder: ir.IRBuilder, tile: Tile, value: ir.Value) -> list[list[ir.Value]]:
    """For every group of ``lanes`` tile rows, the tile's columns as vectors over these rows."""
    lanes = tile.vec.lanes
    undefined = ir.Constant(tile.vec.llvm, ir.Undefined)
    groups = []
    for first in range(0, tile.rows, lanes):
        columns: list[ir.Value] = []
        for j in range(tile.vectors):
            block = [
                builder.extract_value(value, tile.index(i, j)) if i < tile.rows else undefined
                for i in range(first, first + lanes)
            ]
            columns += emit.transpose(builder, tile.vec, block)
        groups.append(columns)
    return groups


@intrinsic
def store_transposed(
    typingctx: Any, tile: Any, a: Any, offset: Any, ld: Any, first_row: Any, end_row: Any, columns: Any
) -> tuple[Any, Lowering]:
    """``a[offset + j * ld + i] = tile[i, j]`` for rows ``first_row`` to ``end_row - 1`` and ``j < columns``.

    So pixels come back to NCHW.
    """

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, array, start, step, first, end, columns = args
        lanes, vec = tile.vec.lanes, tile.vec
        groups = transposed_columns(builder, tile, value)
        most = ir.Constant(end.type, tile.rows)
        to_last = builder.icmp_signed(">=", end, most)
        end = builder.select(to_last, most, end)
        whole_rows = builder.and_(to_last, builder.icmp_signed("<=", first, ir.Constant(first.type, 0)))
        whole_columns = builder.icmp_signed(">=", columns, ir.Constant(columns.type, tile.vectors * lanes))
        everything = builder.and_(whole_rows, whole_columns)
        with builder.if_else(everything) as (whole, part):
            with whole:
                column = start
                for j in range(tile.vectors * lanes):
                    for g, group in enumerate(groups):
                        pointer = emit.element(context, builder, a, array, emit.plus(builder, column, g * lanes))
                        filled = min(lanes, tile.rows - g * lanes)
                        emit.store_lanes(builder, vec, group[j], pointer, filled)
                    column = builder.add(column, step)
            with part:
                column = start
                masks = [
                    emit.between(builder, vec, *(emit.plus(builder, row, -g * lanes) for row in (first, end)))
                    for g in range(len(groups))
                ]
                for j in range(tile.vectors * lanes):
                    with builder.if_then(builder.icmp_signed(">", columns, ir.Constant(columns.type, j))):
                        for g, group in enumerate(groups):
                            pointer = emit.element(context, builder, a, array, emit.plus(builder, column, g * lanes))
                            emit.masked_store(builder, vec, group[j], pointer, masks[g])
                    column = builder.add(column, step)
        return context.get_dummy_value()

    return signature(types.void, tile, a, offset, ld, types.int64, types.int64, types.int64), lower


@intrinsic
def transpose(typingctx: Any, tile: Any) -> tuple[Any, Lowering]:
    """The transpose of a tile of ``lanes`` rows by one vector."""
    if tile.vectors != 1 or tile.rows != tile.vec.lanes:
        return None  # type: ignore[return-value]

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = args[0]
        for i, register in enumerate(transposed_columns(builder, tile, value)[0]):
            value = builder.insert_value(value, register, i)
        return value

    return signature(tile, tile), lower
