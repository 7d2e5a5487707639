"""Depthwise convolution in place where masks are dear: tiles overlap, so that stores are whole vectors."""

from __future__ import annotations

import functools

from numbaconv.arrays import Array
from numbaconv.geometry import ceil_div, inputs_seen, locate, read, spatial
from numbaconv.padding import Pair
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.correlate import Edged, Outside, correlate_edged, in_order, store_edges
from numbaconv.simd.tile import add_to_rows, clip, zeros
from numbaconv.simd.tile_memory import store_part, store_tile


def outside(problem: ConvProblem, mr: int, nr: int) -> Outside:
    """What tiles of ``mr`` by ``nr`` outputs can see of the padding; those of an image that is smaller, anything."""
    size, outputs = spatial(problem)

    def behind(axis: int, tile: int) -> int:
        stride, taps, dilation = problem.stride[axis], problem.kernel_size[axis], problem.dilation[axis]
        if outputs[axis] < tile:
            return inputs_seen(tile, stride, taps, dilation)
        return max(0, inputs_seen(outputs[axis], stride, taps, dilation) - problem.padding[axis][0] - size[axis])

    (above, _), (left, _) = problem.padding[1:]
    return Outside(above, behind(1, mr), left, behind(2, nr))


def edges_size(problem: ConvProblem, mr: int, nv: int, lanes: int) -> int:
    """Elements of the workspace: a row of zeros, and the masks of the tiles of a row."""
    nr, Q, (_, _, S) = nv * lanes, spatial(problem)[1][2], problem.kernel_size
    edged = Edged(lanes, nv, S, problem.stride[2], problem.dilation[2], outside(problem, mr, nr))
    return _blank_size(nr, lanes, S, edged.stride, edged.dilation) + ceil_div(Q, nr) * len(edged.edges) * lanes


def _blank_size(nr: int, lanes: int, S: int, sw: int, dw: int) -> int:
    """Elements, from the first that a tile sees to the end of the last vector that it loads, in whole lines."""
    return ceil_div(inputs_seen(nr, sw, S, dw) + lanes, 2 * lanes) * 2 * lanes


@functools.cache
def overlapped_kernel(
    mr: int, nv: int, lanes: int, taps: Pair, strides: Pair, dilations: Pair, seen: Outside
) -> Dispatcher:
    """The kernel for tiles of ``mr`` rows by ``nv`` vectors, whose edges see as much as ``seen`` of the padding.

    Taps, strides and dilations are (vertical, horizontal).
    """
    R, S = taps
    sh, sw = strides
    nr = nv * lanes
    shape = (nv, lanes)
    outer = tuple(seen)
    masks_size = len(Edged(lanes, nv, S, sw, dilations[1], seen).edges) * lanes
    blank_size = _blank_size(nr, lanes, S, sw, dilations[1])

    def depthwise(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows of some groups. ``x`` is NGDHW, ``w`` (G K)1RS, ``y`` N(G K)OPQ.

        ``workspace`` is a row of zeros, which stands for rows outside the image, and the masks of each tile of a row.
        A block's last tile of rows or columns overlaps the one before. Blocks have as many rows as a tile, or all; of
        an image smaller than a tile, what is computed beyond it is not stored.
        """
        g = read(geometry)
        K = g.K
        n, g_task, o, p_task, _, _ = locate(task, g)
        p0 = p_task * g.block_p
        bp = g.block_p if (p_task + 2) * g.block_p <= g.P else g.P - p0  # the last block has what is left over, too
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        g_end = min(g.G, (g_task + 1) * g.block_g)
        workspace[:blank_size] = 0
        masks = blank_size
        for q_tile in range(0, g.Q, nr):
            q = max(0, min(q_tile, g.Q - nr))
            store_edges(workspace, masks, q * sw - g.pad_w, g.W, shape, taps, strides, dilations, outer)
            masks += masks_size
        for group in range(g_task * g.block_g, g_end):
            plane = ((n * g.G + group) * g.D + o * g.stride_d) * g.H * g.W
            for k in range(group * K, (group + 1) * K):
                # What a row of an image narrower than a tile writes behind it, the next row or image overwrites.
                overwritten = k + 1 < g_end * K and bp == g.P and g.O == 1 and 2 * g.Q >= nr
                for p_tile in range(0, bp, mr):
                    p = max(0, min(p_tile, bp - mr))
                    top = (p0 + p) * sh - g.pad_h
                    masks = blank_size
                    for q_tile in range(0, g.Q, nr):
                        q = max(0, min(q_tile, g.Q - nr))
                        row = plane + top * g.W + q * sw - g.pad_w
                        acc = correlate_edged(
                            zeros(x, mr, nv, lanes), w, k * R * S, x, row, g.W, top, g.H, workspace, 0, masks, taps,
                            strides, dilations, outer,
                        )  # fmt: skip
                        masks += masks_size
                        acc = clip(add_to_rows(in_order(acc, sw), bias, k, 0), low, high)
                        at = (((k + n * g.G * K) * g.O + o) * g.P + p0 + p) * g.Q + q
                        if bp < mr or (g.Q < nr and not overwritten):
                            store_part(acc, y, at, g.Q, 0, bp, g.Q)
                        else:
                            store_tile(acc, y, at, g.Q)

    return jit(depthwise)
