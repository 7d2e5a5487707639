"""Sums over the taps of a kernel, pixels in lanes: microkernels that read the input where it lies, under masks.

`correlate` and `add_row` see a window of any image; `correlate_whole` loads the rows of a narrow one whole, and
`correlate_edged` has masks for the edges alone. `correlate_staged` and `add_row_staged` read copies with their padding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import Tile, Vec
from numbaconv.simd.vec import Lowering

#: How the weights of a kernel are had, see `weights_order`.
Order = Literal["kept", "column kept", "by columns", "by rows"]
#: Weights that stay in registers as splats.
MOST_SPLATS = 9
#: Column stride beyond which too many vectors would be loaded for one.
MOST_STRIDE = 8
#: Columns from the first to the last that a row of a kernel sees, at most: in code their distance is a constant of 32
#: bits, and as many zeros stand for a row outside.
MOST_SPAN = 1 << 16


@dataclass(frozen=True)
class _Row:
    """What the taps of a kernel's row see of an input row: ``vectors`` vectors for each of ``taps`` taps."""

    vec: Vec
    vectors: int
    taps: int
    stride: int
    dilation: int

    def sources(self, s: int, j: int) -> tuple[list[int], int]:
        """Columns at which vectors are loaded for what vector ``j`` of outputs sees by tap ``s``, and where in them.

        A load of 64 bytes nearly always crosses a cache line, which counts as two: neighbouring vectors are loaded once
        and shifted in registers. 3 x 3 at 28 x 28 took 33 us so, and 44 with a load for every tap.
        """
        lanes = self.vec.lanes
        first = s * self.dilation + j * lanes * self.stride
        start = first // lanes * lanes
        return list(range(start, first + (lanes - 1) * self.stride + 1, lanes)), first - start

    @property
    def columns(self) -> list[int]:
        """All columns at which vectors are loaded."""
        return sorted({c for s in range(self.taps) for j in range(self.vectors) for c in self.sources(s, j)[0]})

    def masks(self, builder: ir.IRBuilder, begin: ir.Value, end: ir.Value) -> dict[int, ir.Value]:
        """For each such column, the lanes that lie from ``begin`` to ``end - 1``."""
        return {
            c: emit.between(builder, self.vec, emit.plus(builder, begin, -c), emit.plus(builder, end, -c))
            for c in self.columns
        }

    def load(self, builder: ir.IRBuilder, line: ir.Value, masks: dict[int, ir.Value]) -> dict[int, ir.Value]:
        """The vectors of the row at the pointer ``line``, by column."""
        pointers = {c: builder.gep(line, [ir.Constant(emit.I32, c)]) for c in self.columns}
        return {c: emit.load(builder, self.vec, pointer, masks[c]) for c, pointer in pointers.items()}

    def under_tap(self, builder: ir.IRBuilder, loaded: dict[int, ir.Value], s: int) -> list[ir.Value]:
        """What tap ``s`` sees: its vectors, sorted out of those that were loaded."""
        found = []
        for j in range(self.vectors):
            starts, first = self.sources(s, j)
            found.append(emit.every(builder, [loaded[c] for c in starts], first, self.stride, self.vec.lanes))
        return found


@dataclass(frozen=True)
class _Whole:
    """What the taps of a kernel's row see of a whole row of an image, or of those of a few images side by side.

    Outputs are one vector ``vec`` in equal ``parts``, one for each image. Rows are ``width`` columns with zeros behind
    theirs, and the first tap of the first output sees the column ``-pad``.
    """

    vec: Vec
    parts: int
    width: int
    pad: int
    stride: int
    dilation: int

    def mask(self, builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
        """The lanes of a row that has so many columns."""
        return emit.first_lanes(builder, Vec(self.vec.dtype, self.width), count)

    def load(self, builder: ir.IRBuilder, lines: list[ir.Value], mask: ir.Value) -> ir.Value:
        """The rows at the pointers ``lines``, one for each part, laid end to end, in as many registers as it takes."""
        row = Vec(self.vec.dtype, self.width)
        return emit.join(builder, [emit.load(builder, row, line, mask) for line in lines])

    def under_tap(self, builder: ir.IRBuilder, loaded: ir.Value, s: int) -> list[ir.Value]:
        """What tap ``s`` sees: one vector, sorted out of the rows."""
        columns = [q * self.stride + s * self.dilation - self.pad for q in range(self.vec.lanes // self.parts)]
        starts = range(0, self.parts * self.width, self.width)
        return [emit.pick(builder, loaded, [at + c if 0 <= c < self.width else None for at in starts for c in columns])]


class Outside(NamedTuple):
    """Rows and columns outside the image, at most, that a tile can see on each side."""

    above: int
    below: int
    left: int
    right: int


@dataclass(frozen=True)
class Edged:
    """What the taps of a kernel's row see of input rows of which only the edges are masked.

    The masks are in memory, since they do not fit the registers beside sums and weights. With a stride of 2, pixels
    are in the order in which one instruction sifts them.
    """

    lanes: int
    vectors: int
    taps: int
    stride: int
    dilation: int
    outside: Outside

    def sources(self, s: int, j: int) -> tuple[list[int], int]:
        """Columns at which vectors are loaded for what vector ``j`` of outputs sees by tap ``s``, and where in them."""
        first = s * self.dilation + j * self.lanes * self.stride
        start = first // self.stride * self.stride
        return list(range(start, start + self.lanes * self.stride, self.lanes)), first - start

    @functools.cached_property
    def edges(self) -> list[int]:
        """Those columns where some of a vector's lanes can be outside the row."""
        columns = {c for s in range(self.taps) for j in range(self.vectors) for c in self.sources(s, j)[0]}
        seen = (self.vectors * self.lanes - 1) * self.stride + (self.taps - 1) * self.dilation + 1
        inside = range(self.outside.left, seen - self.outside.right - self.lanes + 1)
        return sorted(c for c in columns if c not in inside)


def shuffle_count(taps: int, stride: int, dilation: int, lanes: int) -> int:
    """Shuffles that sort out a vector of outputs' pixels for each tap of a row, from vectors that are loaded once."""
    firsts = [divmod(s * dilation, lanes) for s in range(taps)]
    sorted_out = {(vector, first % stride) for vector, first in firsts}
    return len(sorted_out) * (stride - 1) + sum(first >= stride for _, first in firsts)


def weights_order(taps: int, stride: int) -> Order:
    """How a kernel of so many taps and such a stride of columns has its weights: `kept` in registers, all of them.

    Or, where these do not suffice, loaded for each input row; but with unit stride once, for all output rows: to take a
    column of the kernel after the other, for which rows are loaded again, takes 19 % off 7 x 7 at 28 x 28.
    """
    if taps <= MOST_SPLATS:
        return "kept"
    return "by columns" if stride == 1 else "by rows"


def _edged_order(R: int, S: int) -> Order:
    """That of `correlate_edged`, whose rows have up to `MOST_SPLATS` taps above each other.

    What is not staged is sifted and masked when it is loaded, and is better loaded again for each column of the kernel
    than kept in memory: 5 x 5 with stride 2 took a sixth more "by columns" than staged, and so takes 7 to 35 % less.
    """
    return "kept" if R * S <= MOST_SPLATS else "column kept"


def _line_or_blank(
    builder: ir.IRBuilder, line: ir.Value, blank: ir.Value, number: ir.Value, height: ir.Value
) -> ir.Value:
    """``line``, if the row ``number`` is one of ``height`` rows; as an unsigned number, one below 0 is beyond any."""
    return builder.select(builder.icmp_unsigned("<", number, height), line, blank)  # a branch was slower


class _Kernel(NamedTuple):
    """Taps, strides and dilations, each (vertical, horizontal)."""

    taps: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]

    @classmethod
    def of(cls, *literals: Any) -> _Kernel:
        return cls(*(tuple(item.literal_value for item in pair) for pair in literals))

    @property
    def order(self) -> Order:
        return weights_order(self.taps[0] * self.taps[1], self.strides[1])

    def rows_seen(self, rows: int) -> int:
        """Input rows that so many output rows see."""
        return (rows - 1) * self.strides[0] + (self.taps[0] - 1) * self.dilations[0] + 1


#: What column ``s`` of taps sees of input row ``i``, called with these and a register that was computed last.
_Sight = Callable[[int, int, ir.Value], list[ir.Value]]


def _sum(
    builder: ir.IRBuilder, tile: Tile, value: ir.Value, kernel: _Kernel, order: Order, weights: list[ir.Value],
    see: _Sight,
) -> ir.Value:  # fmt: skip
    """The tile ``value`` with the sum over the taps added; ``weights`` points to a kernel for each part of a vector.

    An input row after the other is seen by all output rows and taps, or by those of one column after the other, whose
    weights are then kept; or all rows by one column of taps after the other, with one weight for all output rows.
    """
    (R, S), (sh, _), (dh, _) = kernel

    def weight(r: int, s: int) -> ir.Value:
        at = [ir.Constant(emit.I32, r * S + s)]
        return emit.load_splat(builder, tile.vec, *(builder.gep(each, at) for each in weights))

    last = builder.extract_value(value, 0)
    if order == "by columns":
        for s in range(S):
            for r in range(R):
                factor = weight(r, s)
                for m in range(tile.rows):
                    value = emit.fma_row(builder, tile, value, m, factor, see(s, m * sh + r * dh, last))
                last = builder.extract_value(value, tile.index(tile.rows - 1, 0))
        return value
    for columns in [[s] for s in range(S)] if order == "column kept" else [range(S)]:
        splats = {(r, s): weight(r, s) for r in range(R) for s in columns} if order != "by rows" else None
        for i in range(kernel.rows_seen(tile.rows)):
            pairs = [(m, (i - m * sh) // dh) for m in range(tile.rows) if (i - m * sh) % dh == 0]
            pairs = [(m, r) for m, r in pairs if 0 <= r < R]
            if splats is None:
                weights = [emit.opaque(builder, each) for each in weights]
            before = last
            for s in columns if pairs else ():
                vectors = see(s, i, before)
                for m, r in pairs:
                    value = emit.fma_row(builder, tile, value, m, splats[r, s] if splats else weight(r, s), vectors)
                    last = builder.extract_value(value, tile.index(m, 0))
    return value


@intrinsic(prefer_literal=True)
def correlate(
    typingctx: Any, tile: Any, w: Any, w_off: Any, x: Any, x_off: Any, ld: Any, window: Any, blank: Any, taps: Any,
    strides: Any, dilations: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """``tile[m, j] += sum of w[w_off + r * S + s] * image(m * sh + r * dh, j * sw + s * dw)`` over an R x S kernel.

    ``taps`` is (R, S), ``strides`` (sh, sw) and ``dilations`` (dh, dw), tuples of literals. ``image(i, c)`` is
    ``x[x_off + i * ld + c]`` within ``window`` = (top, height, begin, end), that is where ``0 <= top + i < height`` and
    ``begin <= c < end``, and 0 outside, where nothing is read. ``blank`` is an array of zeros that stands for rows
    outside; it is as long as the vectors reach that are loaded of a row.

    Strided columns are loaded as neighbours and sorted in registers. An input row is loaded once for all the output
    rows of the tile that see it, and all taps; but with unit stride and so many taps that their splats do not fit the
    registers, once for each column of the kernel.
    """
    kernel = _Kernel.of(taps, strides, dilations)
    (_, S), (_, sw), (_, dw) = kernel
    by_columns = kernel.order == "by columns"
    seen = _Row(tile.vec, tile.vectors, *((1, 1, 1) if by_columns else (S, sw, dw)))

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, x_array, row, row_step, limits, zeros = args[:8]
        top, height, begin, end = (builder.extract_value(limits, i) for i in range(4))
        nothing = context.make_array(blank)(context, builder, zeros).data
        weights = emit.element(context, builder, w, w_array, w_start)
        rows = emit.elements(context, builder, x, x_array, row, row_step, kernel.rows_seen(tile.rows))
        lines = [
            _line_or_blank(builder, line, nothing, emit.plus(builder, top, i), height) for i, line in enumerate(rows)
        ]

        @functools.cache
        def masks(left: int) -> dict[int, ir.Value]:
            return seen.masks(builder, *(emit.plus(builder, limit, -left) for limit in (begin, end)))

        loaded: dict[tuple[int, int], dict[int, ir.Value]] = {}

        def see(s: int, i: int, last: ir.Value) -> list[ir.Value]:
            left, tap = (s * dw, 0) if by_columns else (0, s)
            if (i, left) not in loaded:
                line = lines[i] if by_columns else emit.after(builder, lines[i], last)
                line = builder.gep(line, [ir.Constant(emit.I32, left)])
                loaded[i, left] = seen.load(builder, line, masks(left))
            return seen.under_tap(builder, loaded[i, left], tap)

        return _sum(builder, tile, value, kernel, kernel.order, [weights], see)

    return signature(tile, tile, w, w_off, x, x_off, ld, window, blank, taps, strides, dilations), lower


def _edged(lanes: int, vectors: int, kernel: _Kernel, outside: Any) -> Edged:
    limits = Outside(*(item.literal_value for item in outside))
    return Edged(lanes, vectors, kernel.taps[1], kernel.strides[1], kernel.dilations[1], limits)


@intrinsic(prefer_literal=True)
def store_edges(
    typingctx: Any, a: Any, offset: Any, left: Any, width: Any, shape: Any, taps: Any, strides: Any, dilations: Any,
    outside: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """Write to ``a[offset:]`` the masks of `correlate_edged` for a tile that sees columns from ``left`` on.

    The row has ``width`` columns. There are as many masks as `Edged.edges`; ``shape`` is (vectors, lanes), literals.
    """
    vectors, lanes = (item.literal_value for item in shape)
    vec, columns = Vec(a.dtype, lanes), _edged(lanes, vectors, _Kernel.of(taps, strides, dilations), outside).edges
    numbers, bits = ir.VectorType(emit.I32, lanes), ir.VectorType(ir.IntType(8 * vec.itemsize), lanes)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array, start, *limits = args[:4]
        first, end = (emit.splat(builder, builder.trunc(limit, emit.I32), lanes) for limit in limits)
        for k, column in enumerate(columns):
            lane = builder.add(first, ir.Constant(numbers, list(range(column, column + lanes))))
            mask = builder.sext(builder.icmp_unsigned("<", lane, end), bits)  # a column below 0 is beyond any width
            pointer = emit.element(context, builder, a, array, emit.plus(builder, start, k * lanes))
            emit.store(builder, vec, builder.bitcast(mask, vec.llvm), pointer)
        return context.get_dummy_value()

    operands = (a, offset, types.int64, types.int64, shape, taps, strides, dilations, outside)
    return signature(types.void, *operands), lower


@intrinsic(prefer_literal=True)
def correlate_edged(
    typingctx: Any, tile: Any, w: Any, w_off: Any, x: Any, x_off: Any, ld: Any, top: Any, height: Any, edges: Any,
    blank: Any, masks: Any, taps: Any, strides: Any, dilations: Any, outside: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """`correlate` for tiles of which only the edges can see what is ``outside`` the image, an `Outside` of literals.

    ``edges[blank:]`` is a row of zeros that stands for rows outside, and ``edges[masks:]`` what `store_edges` wrote.
    Column strides are 1 or 2; with 2, the tile's columns are in an order that `in_order` changes.
    """
    kernel = _Kernel.of(taps, strides, dilations)
    order = _edged_order(*kernel.taps)
    vec, seen = tile.vec, _edged(tile.vec.lanes, tile.vectors, kernel, outside)
    rows, (above, below, _, _) = kernel.rows_seen(tile.rows), seen.outside
    bits = ir.VectorType(ir.IntType(8 * vec.itemsize), vec.lanes)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, x_array, row, row_step, first, end, edge_array, blank_at, masks_at = args[:11]
        weights = emit.element(context, builder, w, w_array, w_start)
        nothing, table = (emit.element(context, builder, edges, edge_array, at) for at in (blank_at, masks_at))
        lines = list(emit.elements(context, builder, x, x_array, row, row_step, rows))
        for i in range(rows):
            if i < above or i >= rows - below:
                lines[i] = _line_or_blank(builder, lines[i], nothing, emit.plus(builder, first, i), end)
        begun: set[tuple[int, int]] = set()
        loaded: dict[tuple[int, int, int], ir.Value] = {}

        def load(i: int, column: int) -> ir.Value:
            mask = None
            if column in seen.edges:
                place = ir.Constant(emit.I32, seen.edges.index(column) * vec.lanes)
                sign = builder.bitcast(emit.load(builder, vec, builder.gep(table, [place])), bits)
                mask = builder.icmp_signed("<", sign, ir.Constant(bits, None))
            return emit.load(builder, vec, builder.gep(lines[i], [ir.Constant(emit.I32, column)]), mask)

        def see(s: int, i: int, last: ir.Value) -> list[ir.Value]:
            turn = s if order == "column kept" else 0  # what one turn has loaded, the next loads again
            if (i, turn) not in begun:
                lines[i] = emit.after(builder, lines[i], last)
                begun.add((i, turn))
            found = []
            for j in range(tile.vectors):
                columns, first = seen.sources(s, j)
                for column in columns:
                    if (i, column, turn) not in loaded:
                        loaded[i, column, turn] = load(i, column)
                vectors = [loaded[i, column, turn] for column in columns]
                found.append(vectors[0] if seen.stride == 1 else emit.sift(builder, vec, vectors, first))
            return found

        return _sum(builder, tile, value, kernel._replace(strides=(kernel.strides[0], 1)), order, [weights], see)

    operands = (tile, w, w_off, x, x_off, ld, types.int64, types.int64, edges, blank, masks)
    return signature(tile, *operands, taps, strides, dilations, outside), lower


@intrinsic(prefer_literal=True)
def in_order(typingctx: Any, tile: Any, stride: Any) -> tuple[Any, Lowering]:
    """The tile that `correlate_edged` summed with a column stride, a literal, in the order of its columns."""
    sifted = emit.sifted(tile.vec) if stride.literal_value == 2 else list(range(tile.vec.lanes))
    back = [sifted.index(lane) for lane in range(tile.vec.lanes)]

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return emit.for_each_register(builder, tile, args[0], lambda v, *_: emit.shuffle(builder, v, v, back))

    return signature(tile, tile, stride), lower


def _staged_pixels(builder: ir.IRBuilder, tile: Tile, line: ir.Value, first: int) -> list[ir.Value]:
    """A row of the tile's pixels, neighbours from the element ``first`` of the staged row at ``line`` on."""
    columns = [first + j * tile.vec.lanes for j in range(tile.vectors)]
    return [emit.load(builder, tile.vec, builder.gep(line, [ir.Constant(emit.I32, c)])) for c in columns]


@intrinsic(prefer_literal=True)
def correlate_staged(
    typingctx: Any, tile: Any, w: Any, w_off: Any, x: Any, x_off: Any, ld: Any, taps: Any, strides: Any, dilations: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """`correlate` for an image that is staged: its padding is in it, and its columns are sorted by their remainders.

    ``image(i, c)`` is ``x[x_off + (i * sw + c % sw) * ld + c // sw]``, so that vectors are neighbours for any stride.
    """
    kernel = _Kernel.of(taps, strides, dilations)
    (_, sw), (_, dw) = kernel.strides, kernel.dilations
    kernel = kernel._replace(strides=(kernel.strides[0], 1))

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, x_array, row, row_step = args[:6]
        weights = emit.element(context, builder, w, w_array, w_start)
        lines = list(emit.elements(context, builder, x, x_array, row, row_step, kernel.rows_seen(tile.rows) * sw))
        loaded: dict[tuple[int, int], list[ir.Value]] = {}

        def see(s: int, i: int, last: ir.Value) -> list[ir.Value]:
            if (s, i) not in loaded:
                line = emit.after(builder, lines[i * sw + s * dw % sw], last)
                loaded[s, i] = _staged_pixels(builder, tile, line, s * dw // sw)
            return loaded[s, i]

        return _sum(builder, tile, value, kernel, kernel.order, [weights], see)

    return signature(tile, tile, w, w_off, x, x_off, ld, taps, strides, dilations), lower


@intrinsic(prefer_literal=True)
def correlate_whole(
    typingctx: Any, tile: Any, w: Any, w_off: Any, w_step: Any, x: Any, x_off: Any, x_step: Any, ld: Any, window: Any,
    blank: Any, taps: Any, strides: Any, dilations: Any, rows: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """`correlate` for an image, or two, whose rows are loaded whole, and shifted in registers for every tap.

    The tile is one vector wide. ``rows`` is (width, pad, parts), literals: a row has ``columns`` elements, at most
    ``width``, a power of two; ``image(i, c)`` is ``x[x_off + i * ld + c - pad]`` within ``window`` = (top, height,
    columns), and 0 outside. A vector of the tile is in ``parts``, each of an image and a kernel of its own, ``x_step``
    and ``w_step`` elements behind those of the part before. A row is loaded after what sees the row before is computed:
    with all loads first, LLVM spilled, and 3 x 3 with stride 2 of 192 channels at 28 x 28 took 12.8 us, not 10.6.
    """
    kernel = _Kernel.of(taps, strides, dilations)
    width, pad, parts = (item.literal_value for item in rows)
    seen = _Whole(tile.vec, parts, width, pad, kernel.strides[1], kernel.dilations[1])

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, next_weight, x_array, start, next_image, row_step, limits, zeros = args[:10]
        top, height, columns = (builder.extract_value(limits, i) for i in range(3))
        nothing = context.make_array(blank)(context, builder, zeros).data
        weights = [emit.element(context, builder, w, w_array, w_start)]
        images = [emit.element(context, builder, x, x_array, start)]
        for _ in range(parts - 1):
            weights.append(builder.gep(weights[-1], [next_weight]))
            images.append(builder.gep(images[-1], [next_image]))
        lines = []
        for i in range(kernel.rows_seen(tile.rows)):
            number = emit.plus(builder, top, i)
            lines.append([_line_or_blank(builder, image, nothing, number, height) for image in images])
            images = [builder.gep(image, [row_step]) for image in images]
        mask = seen.mask(builder, columns)
        loaded: dict[int, ir.Value] = {}

        def see(s: int, i: int, last: ir.Value) -> list[ir.Value]:
            if i not in loaded:
                loaded[i] = seen.load(builder, [emit.after(builder, line, last) for line in lines[i]], mask)
            return seen.under_tap(builder, loaded[i], s)

        return _sum(builder, tile, value, kernel, kernel.order, weights, see)

    operands = (tile, w, w_off, w_step, x, x_off, x_step, ld, window, blank, taps, strides, dilations, rows)
    return signature(tile, *operands), lower


def _add_tap(
    builder: ir.IRBuilder, tile: Tile, value: ir.Value, weights: Iterable[ir.Value], pixels: list[ir.Value]
) -> ir.Value:
    """The tile ``value`` with a tap added that sees ``pixels``; ``weights`` points to its weight for each row."""
    for i, weight in enumerate(weights):
        value = emit.fma_row(builder, tile, value, i, emit.load_splat(builder, tile.vec, weight), pixels)
    return value


@intrinsic(prefer_literal=True)
def add_row(
    typingctx: Any, tile: Any, w: Any, w_off: Any, ldw: Any, x: Any, x_off: Any, begin: Any, end: Any, taps: Any,
    stride: Any, dilation: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """``tile[i, j] += sum over s of w[w_off + i * ldw + s] * row(j * stride + s * dilation)``: one row of a kernel.

    Rows of the tile are output channels. ``taps``, ``stride`` and ``dilation`` are literals; ``row(c)`` is
    ``x[x_off + c]`` for ``begin <= c < end``, and 0 outside, where nothing is read.
    """
    seen = _Row(tile.vec, tile.vectors, taps.literal_value, stride.literal_value, dilation.literal_value)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, w_step, x_array, start, first, last = args[:8]
        line = emit.element(context, builder, x, x_array, start)
        loaded = seen.load(builder, line, seen.masks(builder, first, last))
        for s in range(seen.taps):
            pixels = seen.under_tap(builder, loaded, s)
            weight = emit.plus(builder, w_start, s)
            weights = emit.elements(context, builder, w, w_array, weight, w_step, tile.rows)
            value = _add_tap(builder, tile, value, weights, pixels)
        return value

    return signature(tile, tile, w, w_off, ldw, x, x_off, types.int64, types.int64, taps, stride, dilation), lower


@intrinsic(prefer_literal=True)
def add_row_staged(
    typingctx: Any, tile: Any, w: Any, w_off: Any, ldw: Any, x: Any, x_off: Any, ld: Any, taps: Any, stride: Any,
    dilation: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """`add_row` for a row that is staged as `correlate_staged` has it: ``row(c)`` is ``x[x_off + c % stride * ld + c //
    stride]``.
    """
    S, sw, dw = (item.literal_value for item in (taps, stride, dilation))

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, w_step, x_array, start, row_step = args[:7]
        phases = list(emit.elements(context, builder, x, x_array, start, row_step, sw))
        kernels = list(emit.elements(context, builder, w, w_array, w_start, w_step, tile.rows))
        for s in range(S):
            pixels = _staged_pixels(builder, tile, phases[s * dw % sw], s * dw // sw)
            weights = [builder.gep(kernel, [ir.Constant(emit.I32, s)]) for kernel in kernels]
            value = _add_tap(builder, tile, value, weights, pixels)
        return value

    return signature(tile, tile, w, w_off, ldw, x, x_off, ld, taps, stride, dilation), lower
