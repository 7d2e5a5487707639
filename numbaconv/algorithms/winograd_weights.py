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
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.linear import transform
from numbaconv.simd.tile_memory import load_block, store_tile, transpose
from numbaconv.simd.vec import load, store
from numbaconv.workspace import LINE


@shared
def scratch_sizes(
    mh: int, mw: int, R: int, S: int, sh: int, sw: int, nr: int, lanes: int, line: int
) -> tuple[int, int]:  # fmt: skip
    """Elements that `panel_transformer` needs, and those of what is between two transforms."""
    nh, nw = point_count(mh, R, sh), point_count(mw, S, sw)
    planes = phases(R, sh).number * nh * phases(S, sw).number * nw
    return R * S * lanes * lanes + planes * (lanes * nr + line), nh * phases(S, sw).taps * lanes


@functools.cache
def panel_transformer(
    mh: int, mw: int, R: int, S: int, sh: int, sw: int, nv: int, lanes: int, line: int
) -> Dispatcher:  # fmt: skip
    """The kernel piece that transforms the weights of one panel of output channels."""
    row_phases, taps_h, whole_rows = phases(R, sh)
    column_phases, taps_w, whole_columns = phases(S, sw)
    nh = point_count(mh, R, sh)
    nw = point_count(mw, S, sw)
    nr = nv * lanes
    plane = lanes * nr + line

    def transform_panel(
        w: Array, first: int, left: int, C: int, out: Array, to: int, workspace: Array, scratch: int, half: Array,
        half_at: int,
    ) -> None:  # fmt: skip
        """Write ``out[to:]`` as [products][C][nr], of ``w[first:]``, [left][C][R * S], and zeros beyond what is left.

        The products are those of each point's phases, but of whole ones only where the last tap alone is seen.
        A block of ``lanes`` input channels at a time: ``workspace[scratch:]`` holds their weights with output channels
        in lanes, [lanes][R * S][lanes], and behind these the transforms of each phase, [phases][nh * nw][lanes][nr]
        with a line after each point's.
        These go to ``out`` in runs: written there one by one, every store would miss L1, and take three times as long.
        What is between two transforms, ``half[half_at:]``, is of the type of their arithmetic. Of a phase with a tap
        less, what is read in its place does not count.
        """
        transformed = scratch + R * S * lanes * lanes
        for block in range(0, C, lanes):
            channels = min(lanes, C - block)
            for vector in range(nv):
                source = first + (vector * lanes * C + block) * R * S
                for i in range(0, channels * R * S, lanes):
                    rows = left - vector * lanes
                    columns = transpose(load_block(w, source + i, C * R * S, rows, channels * R * S - i, lanes))
                    store_tile(columns, workspace, scratch + i * lanes, lanes)
                for phase in range(row_phases * column_phases):
                    row, column = phase // column_phases, phase % column_phases
                    for c in range(channels):
                        for s in range(column, S, sw):
                            tap = scratch + ((c * R + row) * S + s) * lanes
                            between = half_at + s // sw * lanes
                            transform(WEIGHT, mh, taps_h, row < whole_rows, workspace, tap, sh * S * lanes,
                                      half, between, taps_w * lanes, lanes)  # fmt: skip
                        at = transformed + phase * nh * nw * plane + c * nr + vector * lanes
                        for i in range(nh):
                            transform(WEIGHT, mw, taps_w, column < whole_columns, half, half_at + i * taps_w * lanes,
                                      lanes, workspace, at + i * nw * plane, plane, lanes)  # fmt: skip
            run = to + block * nr
            for point in range(nh * nw):
                down = phases_seen(R, sh, point // nw == nh - 1)
                across = phases_seen(S, sw, point % nw == nw - 1)
                for product in range(down * across):
                    phase = product // across * column_phases + product % across
                    source = transformed + (phase * nh * nw + point) * plane
                    for i in range(0, channels * nr, lanes):
                        store(load(workspace, source + i, lanes), out, run + i)
                    run += C * nr

    return jit(transform_panel)


@functools.cache
def _packer(
    mh: int, mw: int, R: int, S: int, sh: int, sw: int, nv: int, lanes: int, line: int, single: bool
) -> Dispatcher:
    transform_panel = panel_transformer(mh, mw, R, S, sh, sw, nv, lanes, line)
    between = np.float32 if single else np.float64
    products = product_count(mh, R, sh) * product_count(mw, S, sw)
    nr = nv * lanes
    _, most_between = scratch_sizes(mh, mw, R, S, sh, sw, nr, lanes, line)

    def pack(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One panel of a group: ``w`` [G * K][C][R * S] to ``y`` [G][panels][products][C][nr], zeros beyond K."""
        g = read(geometry)
        C, K = g.C, g.K
        panels = (K + nr - 1) // nr
        k = task % panels * nr
        half = np.empty(most_between, between)
        first = (task // panels * K + k) * C * R * S
        transform_panel(w, first, K - k, C, y, task * products * C * nr, workspace, 0, half, 0)

    return jit(pack, allocates=True)


def winograd_packing(
    problem: ConvProblem, tile: tuple[int, int], strides: tuple[int, int], nv: int, lanes: int, *, single: bool
) -> Packing:
    """Transform and pack the weight for output tiles of ``tile`` and panels of ``nv`` vectors.

    In float64, or with ``single`` in float32, which takes two thirds of the time.
    """
    (mh, mw), (sh, sw), (_, R, S) = tile, strides, problem.kernel_size
    line = LINE // ITEM_SIZE[problem.dtype]
    block, _ = scratch_sizes(mh, mw, R, S, sh, sw, nv * lanes, lanes, line)
    products = product_count(mh, R, sh) * product_count(mw, S, sw)
    panels = ceil_div(problem.out_channels // problem.groups, nv * lanes) * problem.groups
    return Packing(
        layout=("winograd", tile, strides, nv * lanes, single),
        elements=panels * nv * lanes * products * (problem.in_channels // problem.groups),
        schedule=Schedule(panels, block, geometry(problem)),
        kernel=lambda: _packer(mh, mw, R, S, sh, sw, nv, lanes, line, single),
    )
