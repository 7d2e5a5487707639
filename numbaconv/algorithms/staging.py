"""Staging: a block of the input copied channels-last, with its padding, so that what follows are address steps."""

from __future__ import annotations

import functools
from math import gcd, prod

from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.geometry import ceil_div, inputs_seen, pixel_place, read, spatial, steps_inside
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.tile_memory import (
    load_columns,
    load_even,
    load_phases,
    prefetch_rows,
    store_part,
    store_tile,
    transpose,
)
from numbaconv.simd.vec import get, load_between, put, store_first
from numbaconv.workspace import LINE

#: Lines so many bytes apart fall into the same set of L1.
SETS_BYTES = 4096
#: Times as long as others that products take of pixels in place whose `planes_collide`.
COLLIDING = 1.1
#: Output columns of a block that `phases_stager` stages, at most.
STAGED_COLUMNS = 1024
#: Elements moved for one that `phases_stager` stages: 8 of them took 3 to 4 cycles on AMD Zen 3.
STAGING = 1.6


def vectors_fill_lines(lanes: int, dtype: str) -> bool:
    """Whether a vector is a cache line: a tile's pixels of a channel are then lines, too, and not parts of them."""
    return lanes * ITEM_SIZE[dtype] == LINE


def planes_collide(problem: ConvProblem, machine: Machine) -> bool:
    """Whether pixels in place are slow: where L2 is late, and L1 has no room for a line of each channel.

    That is, where planes begin in few of its sets. On Intel Granite Rapids 256 channels at 56 x 56, planes of 4 * 49
    lines, take 10 to 16 % longer than foretold by `direct` and `strassen`, and as long by `im2col`, whose panels are
    lines that follow each other.
    """
    apart = gcd(prod(problem.in_size) * ITEM_SIZE[problem.dtype], SETS_BYTES)
    return machine.asks_near and apart > LINE and problem.in_channels // problem.groups > machine.l1 // apart


def masks_are_dear(lanes: int, dtype: str) -> bool:
    """Whether pixels in lanes are better staged with their padding than masked where they lie.

    Vectors of 64 bytes have masks for nothing. Shorter ones on x86 take a dozen cycles for a masked store, and their
    masks take the registers of weights.
    """
    return not vectors_fill_lines(lanes, dtype)


@shared
def pitch_apart(channels: int, itemsize: int) -> int:
    """Elements from one staged pixel to the next: the channels, and a cache line where pixels would collide.

    The 14 pixels of a tile at a distance of 4 KiB fall into one set of the L1 cache, whose 12 ways they exceed:
    1024 channels ran at 79 GFLOP/s, and at 189 with the line. At 1 KiB the gain was 8 %.
    """
    return channels + LINE // itemsize if channels * itemsize % 1024 == 0 else channels


def phases_block(problem: ConvProblem, block_p: int, block_q: int, lanes: int) -> tuple[int, int]:
    """What `phases_stager` stages of a group for a block of outputs: rows of a single remainder of columns.

    How many there are, [C][T][rows][step], and elements from one to the next.
    """
    (T, R, S), (_, sh, sw), (_, dh, dw) = problem.kernel_size, problem.stride, problem.dilation
    _, P, Q = spatial(problem)[1]
    rows, columns = inputs_seen(min(block_p, P), sh, R, dh), inputs_seen(min(block_q, Q), sw, S, dw)
    return problem.in_channels // problem.groups * T * rows * sw, ceil_div(columns, sw) + lanes


@functools.cache
def phases_stager(lanes: int, step: int) -> Dispatcher:
    """The kernel piece that stages rows of a channel, every row's columns by their remainder of division by ``step``.

    It is compiled into each kernel that calls it.
    """

    def stage_phases(
        x: Array, start: int, height: int, width: int, top: int, left: int, rows: int, columns: int, out: Array,
        out_start: int, pitch: int,
    ) -> None:  # fmt: skip
        """Write ``out[out_start:]`` as [rows][step][pitch], but for rows that the input does not have.

        Element (i, f, j) is that of row ``top + i`` of ``height`` and column ``left + j * step + f`` of ``width``, and
        zero where there is none; the input begins at ``x[start]``, and nothing else is read. There are ``columns`` of
        each remainder, behind which less than a vector is overwritten: the pitch leaves room for it.
        """
        begin, end = steps_inside(top, 1, rows, height)
        block = lanes * step
        first = min(columns, max(0, (block - 1 - left) // block * lanes))
        last = max(first, min(columns, (width - left) // block * lanes))
        source = start + (top + begin) * width + left
        to = out_start + begin * step * pitch
        # Of what is outside the image every row has the same, and masks are made once.
        for j in range(0, columns, lanes):
            if j < first or j >= last:
                column = left + j * step
                for i in range(end - begin):
                    vectors = load_phases(x, source + i * width + j * step, -column, width - column, step, lanes, 0)
                    store_tile(vectors, out, to + i * step * pitch + j, pitch)
        for _ in range(begin, end):
            for j in range(first, last, lanes):
                store_tile(load_phases(x, source + j * step, 0, 0, step, lanes, 1), out, to + j, pitch)
            source += width
            to += step * pitch

    return jit(stage_phases)


@functools.cache
def pixels_stager(lanes: int) -> Dispatcher:
    """The kernel piece that stages the pixels that a 1 x 1 kernel with a stride sees, as if it had none."""

    def stage_pixels(
        x: Array, geometry: Array, start: int, first: int, count: int, out: Array, out_start: int, pitch: int
    ) -> None:
        """Write ``out[out_start:]`` as [C][pitch]: the pixels of ``count`` outputs from ``first`` on, counted flat.

        The channels begin at ``x[start]``. The pitch leaves room for a vector behind the last pixel.
        """
        g = read(geometry)
        plane = g.D * g.H * g.W
        pixel = 0
        while pixel < count:
            o, p, q = pixel_place(first + pixel, g)
            length = min(g.Q - q, count - pixel)
            source = start + (o * g.stride_d * g.H + p * g.stride_h) * g.W + q * g.stride_w
            to = out_start + pixel
            if g.stride_w == 2:
                # What a row's last vector writes behind it, the next row overwrites.
                for j in range(0, length, lanes):
                    for c in range(g.C):
                        pixels = load_even(x, source + c * plane + 2 * j, 0, length - j, 1, lanes)
                        store_tile(pixels, out, to + c * pitch + j, 0)
            else:
                for c in range(g.C):
                    for j in range(length):
                        put(out, to + c * pitch + j, get(x, source + c * plane + j * g.stride_w))
            pixel += length

    return jit(stage_pixels)


@functools.cache
def channels_last_stager(lanes: int) -> Dispatcher:
    """The kernel piece that stages; compiled into each kernel that calls it."""

    def stage_channels_last(
        x: Array, plane: int, start: int, height: int, width: int, top: int, row_step: int, left: int,
        column_step: int, C: int, pitch: int, rows: int, columns: int, out: Array, out_start: int,
    ) -> None:  # fmt: skip
        """Write ``out[out_start:]`` as [rows][columns][pitch], C of each pitch, zeros where the input has none.

        Row i is input row ``top + i * row_step`` of ``height``, column j input column ``left + j * column_step``
        of ``width``; channel c begins at ``x[start + c * plane]``. Reads the input's elements only. Rows of a single
        channel are copied. With column step 1 or 2 and at least ``lanes`` channels, lanes x lanes blocks are
        transposed in registers; the last block of channels or columns overlaps the one before rather than be a
        smaller one.
        """
        first, end = steps_inside(left, column_step, columns, width)
        for i in range(rows):
            row = top + i * row_step
            to = out_start + i * columns * pitch
            if row < 0 or row >= height or end <= first:
                out[to : to + columns * pitch] = 0
                continue
            out[to : to + first * pitch] = 0
            out[to + end * pitch : to + columns * pitch] = 0
            source = start + row * width + left
            if C == 1 and column_step == 1 and pitch == 1:
                for j in range(first, end, lanes):
                    store_first(load_between(x, source + j, 0, end - j, lanes), out, to + j, end - j)
            elif column_step <= 2 and C >= lanes:
                for c_block in range(0, C, lanes):
                    c = min(c_block, C - lanes)
                    for j_block in range(first, end, lanes):
                        j = max(first, min(j_block, end - lanes))
                        count = min(lanes, end - j)
                        at = source + c * plane + j * column_step
                        # The next row is asked for, into L2: what comes from L3 or memory arrives while this is staged.
                        # 64 channels at 224 x 224 take 6 % less by `winograd` on AMD Zen 4 than with the next channels
                        # asked for, 16 images of 56 x 56 with stride 2 7 %, and what L2 holds the same.
                        prefetch_rows(x, at + row_step * width, plane, lanes, 2)
                        if column_step == 1:
                            block = transpose(load_columns(x, at, plane, count, lanes, 1, lanes))
                        else:
                            block = transpose(load_even(x, at, plane, count, lanes, lanes))
                        if count == lanes:
                            store_tile(block, out, to + j * pitch + c, pitch)
                        else:
                            store_part(block, out, to + j * pitch + c, pitch, 0, count, lanes)
            else:
                for c in range(C):
                    for j in range(first, end):
                        put(out, to + j * pitch + c, get(x, source + c * plane + j * column_step))

    return jit(stage_channels_last)
