"""A small correlation, unrolled whole: the microkernel of convolutions that do not sum over channels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.vec import Lowering

#: Weights that stay in registers as splats; those of larger kernels are loaded again for every row that needs them.
_MOST_SPLATS = 9


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

    An input row is loaded once for all the output rows of the tile that see it. Strided columns are loaded as
    neighbours and sorted in registers.
    """
    (R, S), (sh, sw), (dh, dw) = ([item.literal_value for item in pair] for pair in (taps, strides, dilations))
    vec, lanes = tile.vec, tile.vec.lanes

    def sources(s: int, j: int) -> tuple[list[int], int]:
        """Columns at which vectors are loaded for what vector ``j`` of a row sees by tap ``s``, and where in them.

        A load of 64 bytes nearly always crosses a cache line, which counts as two: with AVX-512 neighbouring vectors
        are loaded once and shifted in registers. 3 x 3 at 28 x 28 took 33 us so, and 44 with a load for every tap.
        """
        first = s * dw + j * lanes * sw
        if lanes * vec.itemsize == 64:
            start = first // lanes * lanes
            return list(range(start, first + (lanes - 1) * sw + 1, lanes)), first - start
        start = s * dw // sw * sw + j * lanes * sw
        return [start + v * lanes for v in range(sw)], first - start

    columns = sorted({c for s in range(S) for j in range(tile.vectors) for c in sources(s, j)[0]})

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, x_array, row, row_step, limits, zeros = args[:8]
        top, height, begin, end = (builder.extract_value(limits, i) for i in range(4))
        nothing = context.make_array(blank)(context, builder, zeros).data
        weights = emit.element(context, builder, w, w_array, w_start)

        def weight(r: int, s: int) -> ir.Value:
            pointer = builder.gep(weights, [ir.Constant(emit.I32, r * S + s)])
            return emit.splat(builder, builder.load(pointer), lanes)

        splats = {(r, s): weight(r, s) for r in range(R) for s in range(S)} if R * S <= _MOST_SPLATS else None
        masks = {
            c: emit.between(builder, vec, emit.plus(builder, begin, -c), emit.plus(builder, end, -c)) for c in columns
        }

        def pixels(i: int) -> dict[int, ir.Value]:
            """The vectors of input row ``i``, by their first columns."""
            line = emit.element(context, builder, x, x_array, row)
            if inside.literal_value:
                return {c: emit.load(builder, vec, builder.gep(line, [ir.Constant(emit.I32, c)])) for c in columns}
            # As an unsigned number, a row before the first is beyond any height. A branch was slower.
            seen = builder.icmp_unsigned("<", emit.plus(builder, top, i), height)
            line = builder.select(seen, line, nothing)
            pointers = {c: builder.gep(line, [ir.Constant(emit.I32, c)]) for c in columns}
            return {c: emit.masked_load(builder, vec, pointer, masks[c]) for c, pointer in pointers.items()}

        for i in range((tile.rows - 1) * sh + (R - 1) * dh + 1):
            pairs = [(m, (i - m * sh) // dh) for m in range(tile.rows) if (i - m * sh) % dh == 0]
            pairs = [(m, r) for m, r in pairs if 0 <= r < R]
            vectors = pixels(i) if pairs else {}
            if splats is None:
                weights = emit.opaque(builder, weights)
            for s in range(S) if pairs else ():
                under = []
                for j in range(tile.vectors):
                    starts, first = sources(s, j)
                    under.append(emit.every(builder, [vectors[c] for c in starts], first, sw, lanes))
                for m, r in pairs:
                    factor = splats[r, s] if splats else weight(r, s)
                    for j in range(tile.vectors):
                        k = tile.index(m, j)
                        total = emit.fma(builder, vec, factor, under[j], builder.extract_value(value, k))
                        value = builder.insert_value(value, total, k)
            row = builder.add(row, row_step)
        return value

    return signature(tile, tile, w, w_off, x, x_off, ld, window, blank, taps, strides, dilations, inside), lower
