"""Sums over the taps of a kernel, pixels in lanes: microkernels that read the input where it lies, under masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.types import Vec
from numbaconv.simd.vec import Lowering

#: Weights that stay in registers as splats. With more of them and unit stride, taking a column of the kernel after the
#: other takes 19 % off 7 x 7 at 28 x 28, and 20 % off 5 x 5.
MOST_SPLATS = 9
#: Column stride beyond which too many vectors would be loaded for one.
MOST_STRIDE = 8


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

        A load of 64 bytes nearly always crosses a cache line, which counts as two: with AVX-512 neighbouring vectors
        are loaded once and shifted in registers. 3 x 3 at 28 x 28 took 33 us so, and 44 with a load for every tap.
        """
        lanes = self.vec.lanes
        first = s * self.dilation + j * lanes * self.stride
        if lanes * self.vec.itemsize == 64:
            start = first // lanes * lanes
            return list(range(start, first + (lanes - 1) * self.stride + 1, lanes)), first - start
        start = s * self.dilation // self.stride * self.stride + j * lanes * self.stride
        return [start + v * lanes for v in range(self.stride)], first - start

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

    def load(self, builder: ir.IRBuilder, line: ir.Value, masks: dict[int, ir.Value] | None) -> dict[int, ir.Value]:
        """The vectors of the row at the pointer ``line``, by column; without masks, whole ones."""
        pointers = {c: builder.gep(line, [ir.Constant(emit.I32, c)]) for c in self.columns}
        if masks is None:
            return {c: emit.load(builder, self.vec, pointer) for c, pointer in pointers.items()}
        return {c: emit.masked_load(builder, self.vec, pointer, masks[c]) for c, pointer in pointers.items()}

    def under_tap(self, builder: ir.IRBuilder, loaded: dict[int, ir.Value], s: int) -> list[ir.Value]:
        """What tap ``s`` sees: its vectors, sorted out of those that were loaded."""
        found = []
        for j in range(self.vectors):
            starts, first = self.sources(s, j)
            found.append(emit.every(builder, [loaded[c] for c in starts], first, self.stride, self.vec.lanes))
        return found


def shuffle_count(taps: int, stride: int, dilation: int, lanes: int) -> int:
    """Shuffles that sort out a vector of outputs' pixels for each tap of a row, from vectors that are loaded once."""
    return sum((s * dilation % lanes + (lanes - 1) * stride) // lanes for s in range(taps))


def _line_or_blank(
    builder: ir.IRBuilder, line: ir.Value, blank: ir.Value, number: ir.Value, height: ir.Value
) -> ir.Value:
    """``line``, if the row ``number`` is one of ``height`` rows; as an unsigned number, one below 0 is beyond any."""
    return builder.select(builder.icmp_unsigned("<", number, height), line, blank)  # a branch was slower


@intrinsic(prefer_literal=True)
def correlate(
    typingctx: Any, tile: Any, w: Any, w_off: Any, x: Any, x_off: Any, ld: Any, window: Any, blank: Any, taps: Any,
    strides: Any, dilations: Any, inside: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """``tile[m, j] += sum of w[w_off + r * S + s] * image(m * sh + r * dh, j * sw + s * dw)`` over an R x S kernel.

    ``taps`` is (R, S), ``strides`` (sh, sw) and ``dilations`` (dh, dw), tuples of literals. ``image(i, c)`` is
    ``x[x_off + i * ld + c]`` within ``window`` = (top, height, begin, end), that is where ``0 <= top + i < height`` and
    ``begin <= c < end``, and 0 outside, where nothing is read. ``blank`` is an array of zeros that stands for rows
    outside; it is as long as the vectors reach that are loaded of a row. With the literal ``inside`` they reach nothing
    outside, and nothing is checked.

    Strided columns are loaded as neighbours and sorted in registers. An input row is loaded once for all the output
    rows of the tile that see it, and all taps; but with unit stride and so many taps that their splats do not fit the
    registers, once for each column of the kernel.
    """
    (R, S), (sh, sw), (dh, dw) = ([item.literal_value for item in pair] for pair in (taps, strides, dilations))
    seen = _Row(tile.vec, tile.vectors, S, sw, dw)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, x_array, row, row_step, limits, zeros = args[:8]
        top, height, begin, end = (builder.extract_value(limits, i) for i in range(4))
        nothing = context.make_array(blank)(context, builder, zeros).data
        weights = emit.element(context, builder, w, w_array, w_start)

        def weight(r: int, s: int) -> ir.Value:
            return emit.load_splat(builder, tile.vec, builder.gep(weights, [ir.Constant(emit.I32, r * S + s)]))

        lines = []
        for i in range((tile.rows - 1) * sh + (R - 1) * dh + 1):
            line = emit.element(context, builder, x, x_array, row)
            if not inside.literal_value:
                line = _line_or_blank(builder, line, nothing, emit.plus(builder, top, i), height)
            lines.append(line)
            row = builder.add(row, row_step)

        def by_taps(total: ir.Value) -> ir.Value:
            """A column of the kernel after another: a weight is loaded once for all rows of the tile."""
            under = _Row(tile.vec, tile.vectors, 1, 1, 1)
            for s in range(S):
                left = ir.Constant(begin.type, s * dw)
                limits = (builder.sub(begin, left), builder.sub(end, left))
                masks = None if inside.literal_value else under.masks(builder, *limits)
                pixels: dict[int, list[ir.Value]] = {}
                for r in range(R):
                    factor = weight(r, s)
                    for m in range(tile.rows):
                        i = m * sh + r * dh
                        if i not in pixels:
                            line = builder.gep(lines[i], [ir.Constant(emit.I32, s * dw)])
                            pixels[i] = list(under.load(builder, line, masks).values())
                        total = emit.fma_row(builder, tile, total, m, factor, pixels[i])
            return total

        if sw == 1 and R * S > MOST_SPLATS:
            return by_taps(value)
        splats = {(r, s): weight(r, s) for r in range(R) for s in range(S)} if R * S <= MOST_SPLATS else None
        masks = None if inside.literal_value else seen.masks(builder, begin, end)
        for i, line in enumerate(lines):
            pairs = [(m, (i - m * sh) // dh) for m in range(tile.rows) if (i - m * sh) % dh == 0]
            pairs = [(m, r) for m, r in pairs if 0 <= r < R]
            loaded = seen.load(builder, line, masks) if pairs else {}
            if splats is None:
                weights = emit.opaque(builder, weights)
            for s in range(S) if pairs else ():
                vectors = seen.under_tap(builder, loaded, s)
                for m, r in pairs:
                    factor = splats[r, s] if splats else weight(r, s)
                    value = emit.fma_row(builder, tile, value, m, factor, vectors)
        return value

    return signature(tile, tile, w, w_off, x, x_off, ld, window, blank, taps, strides, dilations, inside), lower


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
            for i in range(tile.rows):
                factor = emit.load_splat(builder, tile.vec, emit.element(context, builder, w, w_array, weight))
                weight = builder.add(weight, w_step)
                value = emit.fma_row(builder, tile, value, i, factor, pixels)
        return value

    return signature(tile, tile, w, w_off, ldw, x, x_off, types.int64, types.int64, taps, stride, dilation), lower
