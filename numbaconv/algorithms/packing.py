"""Weights laid out in panels of output channels, by a kernel that the common driver runs."""

from __future__ import annotations

import functools
from math import prod

from numbaconv.algorithms.algorithm import Packing, Schedule
from numbaconv.arrays import Array
from numbaconv.geometry import ceil_div, geometry, read
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.tile_memory import load_block, prefetch_rows, store_tile, transpose
from numbaconv.simd.vec import load, store


@functools.cache
def panel_packer(nv: int, lanes: int) -> Dispatcher:
    """The kernel that packs; a task is one panel of ``nv * lanes`` output channels of a group."""
    nr = nv * lanes

    def pack(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """``w`` [G * K][C][T * R * S] to ``y`` [G][panels][C blocks][T * R * S][block_c][nr], zeros beyond K.

        lanes x lanes blocks are transposed in registers: a row is one output channel's weights in memory order, a
        column those of all lanes for one (c, tap). ``workspace`` holds a block on its way: lanes * lanes elements.
        """
        g = read(geometry)
        C, K = g.C, g.K
        taps = g.T * g.R * g.S
        panels = (K + nr - 1) // nr
        group = task // panels
        first = task % panels * nr
        for j in range(nv):
            k = first + j * lanes
            # The next column is of (c, tap), in a block of ``width`` channels from ``block``; to divide took longer.
            c = tap = block = 0
            width = min(g.block_c, C)
            for i in range(0, C * taps, lanes):
                count = min(lanes, C * taps - i)
                source = (group * K + k) * C * taps + i
                prefetch_rows(w, source + 2 * lanes, C * taps, lanes, 1)
                columns = transpose(load_block(w, source, C * taps, K - k, count, lanes))
                if taps == 1 and count == lanes:  # as they come, which takes a third off
                    store_tile(columns, y, (task * C + c) * nr + j * lanes, nr)
                    c += lanes
                    continue
                store_tile(columns, workspace, 0, lanes)
                for column in range(count):
                    at = (task * C + block) * taps + tap * width + c - block
                    store(load(workspace, column * lanes, lanes), y, at * nr + j * lanes)
                    tap += 1
                    if tap == taps:
                        tap = 0
                        c += 1
                        if c == block + width:
                            block = c
                            width = min(g.block_c, C - block)

    return jit(pack)


def panel_packing(problem: ConvProblem, nv: int, block_c: int, lanes: int) -> Packing:
    """Pack the weight in panels of ``nv`` vectors, its input channels cut in blocks of ``block_c``."""
    C, K = problem.group_channels
    panels = ceil_div(K, nv * lanes) * problem.groups
    return Packing(
        layout=("panels", nv * lanes, block_c),
        elements=panels * nv * lanes * C * prod(problem.kernel_size),
        schedule=Schedule(panels, lanes * lanes, geometry(problem, block_c=block_c)),
        kernel=lambda: panel_packer(nv, lanes),
    )
