"""Winograd's weights: G g G^T for every pair of channels, in panels of output channels."""

from __future__ import annotations

import functools

import numpy as np

from numbaconv.algorithms.algorithm import Packing, Schedule
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cooktoom import point_count
from numbaconv.geometry import ceil_div, geometry, read
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.linear import transform
from numbaconv.simd.tile_memory import load_block, store_tile, transpose
from numbaconv.simd.vec import load, store
from numbaconv.workspace import LINE

_WEIGHT = 1


@functools.cache
def _packer(mh: int, mw: int, R: int, S: int, sh: int, sw: int, nv: int, lanes: int, line: int) -> Dispatcher:
    nh = point_count(mh, R, sh)
    nw = point_count(mw, S, sw)
    nr = nv * lanes
    transformed = R * S * lanes * lanes
    plane = lanes * nr + line

    def pack(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One panel of a group: ``w`` [G * K][C][R * S] to ``y`` [G][panels][nh * nw][C][nr], zeros beyond K.

        A block of ``lanes`` input channels at a time: ``workspace`` holds their weights with output channels in lanes,
        [lanes][R * S][lanes], and behind these their transforms, [nh * nw][lanes][nr] with a line after each point's.
        These go to ``y`` in runs: written there one by one, every store would miss L1, and take three times as long.
        In float64 until then: transformed in float32, the weights alone double the error of F(6, 3).
        """
        g = read(geometry)
        C, K = g.C, g.K
        panels = (K + nr - 1) // nr
        group = task // panels
        half = np.empty(nh * S * lanes)
        for block in range(0, C, lanes):
            channels = min(lanes, C - block)
            for vector in range(nv):
                k = task % panels * nr + vector * lanes
                source = ((group * K + k) * C + block) * R * S
                for i in range(0, channels * R * S, lanes):
                    columns = transpose(load_block(w, source + i, C * R * S, K - k, channels * R * S - i, lanes))
                    store_tile(columns, workspace, i * lanes, lanes)
                for c in range(channels):
                    for s in range(S):
                        transform(_WEIGHT, mh, R, sh, workspace, (c * R * S + s) * lanes, S * lanes,
                                  half, s * lanes, S * lanes, lanes)  # fmt: skip
                    at = transformed + c * nr + vector * lanes
                    for i in range(nh):
                        transform(_WEIGHT, mw, S, sw, half, i * S * lanes, lanes,
                                  workspace, at + i * nw * plane, plane, lanes)  # fmt: skip
            for point in range(nh * nw):
                run = ((task * nh * nw + point) * C + block) * nr
                for i in range(0, channels * nr, lanes):
                    store(load(workspace, transformed + point * plane + i, lanes), y, run + i)

    return jit(pack, allocates=True)


def winograd_packing(
    problem: ConvProblem, tile: tuple[int, int], strides: tuple[int, int], nv: int, lanes: int
) -> Packing:
    """Transform and pack the weight for output tiles of ``tile`` and panels of ``nv`` vectors."""
    (mh, mw), (sh, sw), (_, R, S) = tile, strides, problem.kernel_size
    points = point_count(mh, R, sh) * point_count(mw, S, sw)
    line = LINE // ITEM_SIZE[problem.dtype]
    block = R * S * lanes * lanes + points * (lanes * nv * lanes + line)
    panels = ceil_div(problem.out_channels // problem.groups, nv * lanes) * problem.groups
    return Packing(
        layout=("winograd", tile, strides, nv * lanes),
        elements=panels * nv * lanes * points * (problem.in_channels // problem.groups),
        schedule=Schedule(panels, block, geometry(problem)),
        kernel=lambda: _packer(mh, mw, R, S, sh, sw, nv, lanes, line),
    )
