"""Winograd's weights: G g G^T for every pair of channels, in panels of output channels."""

from __future__ import annotations

import functools

import numpy as np

from numbaconv.algorithms.algorithm import Packing, Schedule
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cooktoom import WEIGHT, phases, phases_seen, point_count, product_count
from numbaconv.geometry import ceil_div, geometry, read
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.linear import transform
from numbaconv.simd.tile_memory import load_block, store_tile, transpose
from numbaconv.simd.vec import load, store
from numbaconv.workspace import LINE


@functools.cache
def _packer(
    mh: int, mw: int, R: int, S: int, sh: int, sw: int, nv: int, lanes: int, line: int, single: bool
) -> Dispatcher:
    row_phases, taps_h, whole_rows = phases(R, sh)
    column_phases, taps_w, whole_columns = phases(S, sw)
    nh = point_count(mh, R, sh)
    nw = point_count(mw, S, sw)
    product_planes = product_count(mh, R, sh) * product_count(mw, S, sw)
    nr = nv * lanes
    transformed = R * S * lanes * lanes
    plane = lanes * nr + line
    between = np.float32 if single else np.float64

    def pack(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One panel of a group: ``w`` [G * K][C][R * S] to ``y`` [G][panels][products][C][nr], zeros beyond K.

        The products are those of each point's phases, but of whole ones only where the last tap alone is seen.
        A block of ``lanes`` input channels at a time: ``workspace`` holds their weights with output channels in lanes,
        [lanes][R * S][lanes], and behind these the transforms of each phase, [phases][nh * nw][lanes][nr] with a line
        after each point's.
        These go to ``y`` in runs: written there one by one, every store would miss L1, and take three times as long.
        What is between two transforms is float64, and so is their arithmetic, or float32 with ``single``. Of a phase
        with a tap less, what is read in its place does not count.
        """
        g = read(geometry)
        C, K = g.C, g.K
        panels = (K + nr - 1) // nr
        group = task // panels
        half = np.empty(nh * taps_w * lanes, between)
        for block in range(0, C, lanes):
            channels = min(lanes, C - block)
            for vector in range(nv):
                k = task % panels * nr + vector * lanes
                source = ((group * K + k) * C + block) * R * S
                for i in range(0, channels * R * S, lanes):
                    columns = transpose(load_block(w, source + i, C * R * S, K - k, channels * R * S - i, lanes))
                    store_tile(columns, workspace, i * lanes, lanes)
                for phase in range(row_phases * column_phases):
                    row, column = phase // column_phases, phase % column_phases
                    for c in range(channels):
                        for s in range(column, S, sw):
                            tap = ((c * R + row) * S + s) * lanes
                            to = s // sw * lanes
                            transform(WEIGHT, mh, taps_h, row < whole_rows, workspace, tap, sh * S * lanes,
                                      half, to, taps_w * lanes, lanes)  # fmt: skip
                        at = transformed + phase * nh * nw * plane + c * nr + vector * lanes
                        for i in range(nh):
                            transform(WEIGHT, mw, taps_w, column < whole_columns, half, i * taps_w * lanes, lanes,
                                      workspace, at + i * nw * plane, plane, lanes)  # fmt: skip
            run = (task * product_planes * C + block) * nr
            for point in range(nh * nw):
                down = phases_seen(R, sh, point // nw == nh - 1)
                across = phases_seen(S, sw, point % nw == nw - 1)
                for product in range(down * across):
                    phase = product // across * column_phases + product % across
                    source = transformed + (phase * nh * nw + point) * plane
                    for i in range(0, channels * nr, lanes):
                        store(load(workspace, source + i, lanes), y, run + i)
                    run += C * nr

    return jit(pack, allocates=True)


def winograd_packing(
    problem: ConvProblem, tile: tuple[int, int], strides: tuple[int, int], nv: int, lanes: int, *, single: bool
) -> Packing:
    """Transform and pack the weight for output tiles of ``tile`` and panels of ``nv`` vectors.

    In float64, or with ``single`` in float32, which takes two thirds of the time.
    """
    (mh, mw), (sh, sw), (_, R, S) = tile, strides, problem.kernel_size
    planes = phases(R, sh).number * point_count(mh, R, sh) * phases(S, sw).number * point_count(mw, S, sw)
    line = LINE // ITEM_SIZE[problem.dtype]
    block = R * S * lanes * lanes + planes * (lanes * nv * lanes + line)
    products = product_count(mh, R, sh) * product_count(mw, S, sw)
    panels = ceil_div(problem.out_channels // problem.groups, nv * lanes) * problem.groups
    return Packing(
        layout=("winograd", tile, strides, nv * lanes, single),
        elements=panels * nv * lanes * products * (problem.in_channels // problem.groups),
        schedule=Schedule(panels, block, geometry(problem)),
        kernel=lambda: _packer(mh, mw, R, S, sh, sw, nv, lanes, line, single),
    )
