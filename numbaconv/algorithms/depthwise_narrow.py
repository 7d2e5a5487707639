"""Depthwise convolution of narrow images: rows are loaded whole, and channels share vectors."""

from __future__ import annotations

import functools

from numbaconv.arrays import Array
from numbaconv.geometry import inputs_seen, locate, read
from numbaconv.padding import Pair
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.correlate import correlate_whole
from numbaconv.simd.tile import add_to_rows, clip, first_part, next_part, zeros
from numbaconv.simd.tile_memory import TO_WRITE, prefetch_rows, store_part
from numbaconv.workspace import LINE


@functools.cache
def narrow_kernel(
    mr: int, parts: int, lanes: int, taps: tuple[int, int, int], strides: Pair, dilations: Pair, width: int, pad: int,
    ahead: int,
) -> Dispatcher:  # fmt: skip
    """The kernel for images whose rows are loaded whole, of ``width`` columns at most and ``pad`` in front of them.

    A tile is ``mr`` rows by a vector of ``parts`` channels; ``taps`` are (T, R, S), and all R x S are unrolled.
    """
    T, R, S = taps
    seen_rows = inputs_seen(mr, strides[0], R, dilations[0])

    def depthwise(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows of some groups. ``x`` is NGDHW, ``w`` (G K)1TRS, ``y`` N(G K)OPQ.

        Channels that share a vector are neighbours, in groups of their own or in the same group. Where a channel has
        no such neighbour, all parts are of that one. What is outside the image is the same for all channels of a row
        of tiles, which is why these are innermost: 3 x 3 of 960 channels at 7 x 7 took 12.6 us, and 10.6 so.
        """
        g = read(geometry)
        K = g.K
        n, g_task, o, p_task, _, _ = locate(task, g)
        p0 = p_task * g.block_p
        bp = min(g.block_p, g.P - p0)
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        k_end = min(g.G, (g_task + 1) * g.block_g) * K
        workspace[:] = 0
        front = o * g.stride_d - g.pad_d
        for p_tile in range(0, bp, mr):
            p = p0 + max(0, min(p_tile, bp - mr))
            top = p * g.stride_h - g.pad_h
            k = g_task * g.block_g * K
            while k < k_end:
                group = k if K == 1 else k // K
                together = k + parts <= k_end and (K == 1 or k + parts <= (group + 1) * K)
                channels = parts if together else 1
                next_weight = T * R * S if together else 0
                next_image = g.D * g.H * g.W if together and K == 1 else 0
                if ahead > 0:
                    later = (((n * g.G + group + ahead * channels) * g.D + front) * g.H + top) * g.W
                    for _ in range(channels):
                        for line in range(0, seen_rows * g.W, LINE // x.itemsize):
                            prefetch_rows(x, later + line, 0, 1, 1)
                        later += next_image
                    for channel in range(k + ahead * channels, k + (ahead + 1) * channels):
                        later = (((n * g.G * K + channel) * g.O + o) * g.P + p) * g.Q
                        for line in range(0, mr * g.Q, LINE // x.itemsize):
                            prefetch_rows(y, later + line, 0, 1, TO_WRITE)
                acc = zeros(x, mr, 1, lanes)
                for t in range(T):
                    depth = front + t * g.dilation_d
                    height = g.H if 0 <= depth < g.D else 0
                    start = (((n * g.G + group) * g.D + depth) * g.H + top) * g.W
                    acc = correlate_whole(
                        acc, w, (k * T + t) * R * S, next_weight, x, start, next_image, g.W, (top, height, g.W),
                        workspace, (R, S), strides, dilations, (width, pad, parts),
                    )  # fmt: skip
                for channel in range(k, k + channels):
                    image = clip(add_to_rows(first_part(acc, parts), bias, channel, 0), low, high)
                    at = (((n * g.G * K + channel) * g.O + o) * g.P + p) * g.Q
                    store_part(image, y, at, g.Q, 0, p0 + bp - p, g.Q)
                    acc = next_part(acc, parts)
                k += channels

    return jit(depthwise)
