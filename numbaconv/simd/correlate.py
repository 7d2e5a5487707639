"""A small correlation, unrolled whole: the microkernel of convolutions that do not sum over channels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.simd import emit
from numbaconv.simd.vec import Lowering


@intrinsic(prefer_literal=True)
def correlate(
    typingctx: Any, tile: Any, w: Any, w_off: Any, x: Any, x_off: Any, ld: Any, pitch: Any, taps: Any, strides: Any,
    dilations: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """``tile[m, j] += sum of w[w_off + r * S + s] * row(m * sh + r * dh)[(j, s)]`` over an R x S kernel.

    ``taps`` is (R, S), ``strides`` (sh, sw) and ``dilations`` (dh, dw), tuples of literals. Rows of ``x`` are ``ld``
    apart. Within a row the columns are sorted by their remainder modulo sw: column ``j * sw + q`` is at
    ``q * pitch + j``, so that neighbouring outputs read neighbouring elements whatever the stride. An input row is
    loaded once for all the output rows of the tile that see it.
    """
    (R, S), (sh, sw), (dh, dw) = ([item.literal_value for item in pair] for pair in (taps, strides, dilations))

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, w_array, w_start, x_array, row, row_step, phase_step = args[:7]
        vec = tile.vec
        weights = [
            emit.splat(
                builder,
                builder.load(emit.element(context, builder, w, w_array, emit.plus(builder, w_start, i))),
                vec.lanes,
            )
            for i in range(R * S)
        ]
        phases = [builder.mul(phase_step, ir.Constant(phase_step.type, q)) for q in range(sw)]
        for i in range((tile.rows - 1) * sh + (R - 1) * dh + 1):
            pairs = [(m, (i - m * sh) // dh) for m in range(tile.rows) if (i - m * sh) % dh == 0]
            pairs = [(m, r) for m, r in pairs if 0 <= r < R]
            for s in range(S) if pairs else ():
                column = emit.plus(builder, builder.add(row, phases[s * dw % sw]), s * dw // sw)
                for j in range(tile.vectors):
                    pointer = emit.element(context, builder, x, x_array, emit.plus(builder, column, j * vec.lanes))
                    pixels = emit.load(builder, vec, pointer)
                    for m, r in pairs:
                        k = tile.index(m, j)
                        total = emit.fma(builder, vec, weights[r * S + s], pixels, builder.extract_value(value, k))
                        value = builder.insert_value(value, total, k)
            row = builder.add(row, row_step)
        return value

    return signature(tile, tile, w, w_off, x, x_off, ld, pitch, taps, strides, dilations), lower
