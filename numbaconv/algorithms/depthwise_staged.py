"""Depthwise convolution where masks are dear: blocks are staged with their padding, and all loads are whole vectors."""

from __future__ import annotations

import functools

from numbaconv.algorithms.algorithm import ends_stretch
from numbaconv.algorithms.staging import phases_stager
from numbaconv.arrays import Array
from numbaconv.geometry import inputs_seen, locate, read
from numbaconv.padding import Pair
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.correlate import correlate_staged
from numbaconv.simd.tile import add, add_to_rows, clip, zeros
from numbaconv.simd.tile_memory import TO_WRITE, prefetch_rows, store_part, store_tile
from numbaconv.workspace import LINE


@functools.cache
def staged_kernel(
    mr: int, nv: int, lanes: int, taps: tuple[int, int, int], unrolled: Pair, strides: Pair, dilations: Pair,
    asks: bool, by_rows: bool,
) -> Dispatcher:  # fmt: skip
    """The kernel for tiles of ``mr`` rows by ``nv`` vectors, that unrolls (rows, columns) of the kernel.

    ``taps`` are (T, R, S). With ``asks``, the next image's pixels are asked for, and the lines of its outputs. With
    ``by_rows``, the rows of the kernel that are unrolled are a sum of their own, or several of them.
    Dilations are ones where a single tap is unrolled.
    """
    T, R, S = taps
    unrolled_r, unrolled_s = unrolled
    sh, sw = strides
    stage = phases_stager(lanes, sw)
    nr = nv * lanes

    def depthwise(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows and columns of some groups. ``x`` is NGDHW, ``w`` (G K)1TRS, ``y`` N(G K)OPQ.

        ``workspace`` is a group's block staged, [T][rows][sw][pitch]: the columns of a row by their remainder, so that
        what a tap sees of neighbouring pixels is neighbours, whatever the stride. A block's last tile of rows or
        columns overlaps the one before; of a block smaller than a tile, what is computed beyond it is not stored.
        """
        g = read(geometry)
        K, pitch = g.K, g.pitch
        n, g_task, o, p_task, q_task, _ = locate(task, g)
        p0 = p_task * g.block_p
        q0 = q_task * g.block_q
        bp = min(g.block_p, g.P - p0)
        bq = min(g.block_q, g.Q - q0)
        rows = inputs_seen(bp, sh, R, g.dilation_h)
        columns = (inputs_seen(bq, sw, S, g.dilation_w) + sw - 1) // sw
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        g_end = min(g.G, (g_task + 1) * g.block_g)
        # What is outside the image is the same for all groups, and never written again.
        workspace[: T * rows * sw * pitch] = 0
        for group in range(g_task * g.block_g, g_end):
            for t in range(T):
                depth = o * g.stride_d - g.pad_d + t * g.dilation_d
                plane = ((n * g.G + group) * g.D + depth) * g.H * g.W
                height = g.H if 0 <= depth < g.D else 0
                stage(
                    x, plane, height, g.W, p0 * sh - g.pad_h, q0 * sw - g.pad_w, rows, columns, workspace,
                    t * rows * sw * pitch, pitch,
                )  # fmt: skip
            for k in range(group * K, (group + 1) * K):
                # What a row of an image smaller than a tile writes behind it, the next row or image overwrites.
                overwritten = k + 1 < g_end * K and bq == g.Q and bp == g.P and g.O == 1 and 2 * bq >= nr
                for p_tile in range(0, bp, mr):
                    p = max(0, min(p_tile, bp - mr))
                    if asks:
                        later = (((n * g.G + group + 1) * g.D + o * g.stride_d) * g.H + (p0 + p) * sh) * g.W + q0 * sw
                        for line in range(0, mr * sh * g.W, LINE // x.itemsize):
                            prefetch_rows(x, later + line, 0, 1, 1)
                        later = (((k + 1 + n * g.G * K) * g.O + o) * g.P + p0 + p) * g.Q + q0
                        for line in range(0, mr * g.Q, LINE // x.itemsize):
                            prefetch_rows(y, later + line, 0, 1, TO_WRITE)
                    for q_tile in range(0, bq, nr):
                        q = max(0, min(q_tile, bq - nr))
                        acc = total = zeros(x, mr, nv, lanes)
                        weight = k * T * R * S
                        for t in range(T):
                            for r in range(0, R, unrolled_r):
                                row = (t * rows + p * sh + r * g.dilation_h) * sw
                                for s in range(0, S, unrolled_s):
                                    column = s * g.dilation_w
                                    at = (row + column % sw) * pitch + q + column // sw
                                    acc = correlate_staged(
                                        acc, w, weight, workspace, at, pitch, unrolled, strides, dilations
                                    )
                                    weight += unrolled_r * unrolled_s
                                    if by_rows and ends_stretch(s + unrolled_s, S, 1):
                                        total = add(total, acc)
                                        acc = zeros(x, mr, nv, lanes)
                        if by_rows:
                            acc = total
                        acc = clip(add_to_rows(acc, bias, k, 0), low, high)
                        at = (((k + n * g.G * K) * g.O + o) * g.P + p0 + p) * g.Q + q0 + q
                        if bp < mr or (bq < nr and not overwritten):
                            store_part(acc, y, at, g.Q, 0, bp, bq)
                        else:
                            store_tile(acc, y, at, g.Q)

    return jit(depthwise)
