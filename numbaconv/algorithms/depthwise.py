"""Depthwise convolution, pixels in lanes: one input channel per group, so no reduction over channels.

Also the classical image filter, a single-channel image under one kernel. A task copies the rows that its block of
output sees into a padded block in L1; with a column stride the copy sorts columns by their remainder, so that the
taps of neighbouring pixels are neighbours again and every load is a vector.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from numbaconv.algorithms.algorithm import Algorithm, Array, Schedule
from numbaconv.arguments import ITEM_SIZE
from numbaconv.cost import Work
from numbaconv.geometry import ceil_div, even_block, locate, spatial
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.correlate import correlate
from numbaconv.simd.tile import add_to_rows, clip, zeros
from numbaconv.simd.tile_memory import store_part, store_tile
from numbaconv.simd.vec import deinterleave, get, load, load_between, put, store

Pair = tuple[int, int]

#: Tile shapes (mr, nv), widest first: accumulators beside the splats of nine weights. Usual heights are multiples of 7.
TILES = {
    "avx512": ((7, 2), (7, 1), (4, 2), (4, 1)),
    "neon": ((7, 2), (7, 1), (4, 2), (4, 1)),
    "avx2": ((4, 2), (4, 1)),
}
#: Output columns of a block: a staged row of them is 8 KiB in float32.
_MOST_COLUMNS = 2048
#: Kernels of up to so many taps are unrolled whole; larger ones a row at a time, or a tap at a time.
_MOST_UNROLLED = 25


class Settings(NamedTuple):
    """Tile of ``mr`` output rows by ``nv`` vectors of pixels; blocks of groups, rows and columns."""

    mr: int
    nv: int
    block_g: int
    block_p: int
    block_q: int


class _Staged(NamedTuple):
    """The staged block is [T][rows][column stride][pitch]."""

    rows: int
    pitch: int


def _staged(problem: ConvProblem, settings: Settings, lanes: int) -> _Staged:
    (_, R, S), (_, sh, sw), (_, dh, dw) = problem.kernel_size, problem.stride, problem.dilation
    _, P, Q = spatial(problem)[1]
    block_p, block_q = min(settings.block_p, P), min(settings.block_q, Q)
    rows = (max(block_p, settings.mr) - 1) * sh + (R - 1) * dh + 1
    return _Staged(rows, ceil_div(block_q + (S - 1) * dw // sw, lanes) * lanes)


@functools.cache
def _row_stager(lanes: int, sw: int) -> Dispatcher:
    def stage_row(x: Array, source: int, begin: int, end: int, out: Array, to: int, pitch: int) -> None:
        """Write ``sw`` runs of ``pitch`` elements: column j * sw + phase of the row to ``out[to + phase * pitch + j]``.

        Column j is ``x[source + j]`` for ``begin <= j < end``, and else 0. ``pitch`` is a multiple of ``lanes``.
        """
        if sw == 1:
            for j in range(0, pitch, lanes):
                if begin <= j and j + lanes <= end:
                    store(load(x, source + j, lanes), out, to + j)
                else:
                    store(load_between(x, source + j, begin - j, end - j, lanes), out, to + j)
        elif sw == 2:
            for j in range(0, pitch, lanes):
                i = 2 * j
                if begin <= i and i + 2 * lanes <= end:
                    a = load(x, source + i, lanes)
                    b = load(x, source + i + lanes, lanes)
                else:
                    a = load_between(x, source + i, begin - i, end - i, lanes)
                    b = load_between(x, source + i + lanes, begin - i - lanes, end - i - lanes, lanes)
                even, odd = deinterleave(a, b)
                store(even, out, to + j)
                store(odd, out, to + pitch + j)
        else:
            for phase in range(sw):
                for j in range(pitch):
                    i = j * sw + phase
                    put(out, to + phase * pitch + j, get(x, source + i) if begin <= i < end else x.dtype.type(0))

    return jit(stage_row)


@functools.cache
def _kernel(mr: int, nv: int, lanes: int, unrolled: Pair, strides: Pair, dilations: Pair) -> Dispatcher:
    """The kernel for tiles of ``mr`` by ``nv``, that unrolls (rows, columns) of the kernel.

    Strides and dilations are (vertical, horizontal); they are ones where a single tap is unrolled, but for the
    strides, by which outputs and staged columns are apart.
    """
    stage_row = _row_stager(lanes, strides[1])
    nr = nv * lanes
    unrolled_r, unrolled_s = unrolled
    sh, sw = strides
    dh, dw = dilations

    def depthwise(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows and columns of some groups. ``x`` is NGDHW, ``w`` (G K)1TRS, ``y`` N(G K)OPQ.

        ``workspace`` holds the block of a group staged, and slack behind it. A block's last tile of rows overlaps the
        one before; lanes beyond a row's end, and rows of a block shorter than a tile, compute what is not stored from
        whatever follows in the workspace.
        """
        g = geometry[0]
        K, T, R, S = g.K, g.T, g.R, g.S
        n, g_task, o, p_task, q_task, _ = locate(task, g)
        p0 = p_task * g.block_p
        q0 = q_task * g.block_q
        bp = min(g.block_p, g.P - p0)
        bq = min(g.block_q, g.Q - q0)
        rows = (max(bp, mr) - 1) * sh + (R - 1) * g.dilation_h + 1
        pitch = g.pitch
        line = sw * pitch
        left = q0 * sw - g.pad_w
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        for group in range(g_task * g.block_g, min(g.G, (g_task + 1) * g.block_g)):
            for t in range(T):
                depth = o * g.stride_d - g.pad_d + t * g.dilation_d
                for i in range(rows):
                    row = p0 * sh - g.pad_h + i
                    source = (((n * g.G + group) * g.D + depth) * g.H + row) * g.W + left
                    width = g.W if 0 <= depth < g.D and 0 <= row < g.H else 0
                    stage_row(x, source, -left, width - left, workspace, (t * rows + i) * line, pitch)
            for k in range(group * K, (group + 1) * K):
                for p_tile in range(0, bp, mr):
                    p = max(0, min(p_tile, bp - mr))
                    at = (((n * g.G * K + k) * g.O + o) * g.P + p0 + p) * g.Q + q0
                    for q in range(0, bq, nr):
                        acc = zeros(x, mr, nv, lanes)
                        weight = k * T * R * S
                        for t in range(T):
                            for r in range(0, R, unrolled_r):
                                start = (t * rows + p * sh + r * g.dilation_h) * line + q
                                for s in range(0, S, unrolled_s):
                                    column = s * g.dilation_w
                                    tap = start + column % sw * pitch + column // sw
                                    acc = correlate(
                                        acc, w, weight, workspace, tap, line, pitch,
                                        (unrolled_r, unrolled_s), (sh, sw), (dh, dw),
                                    )  # fmt: skip
                                    weight += unrolled_r * unrolled_s
                        acc = clip(add_to_rows(acc, bias, k, 0), low, high)
                        if q + nr <= bq and bp >= mr:
                            store_tile(acc, y, at + q, g.Q)
                        else:
                            store_part(acc, y, at + q, g.Q, 0, bp - p, bq - q)

    return jit(depthwise)


def _kernel_of(problem: ConvProblem, settings: Settings, lanes: int) -> Dispatcher:
    _, R, S = problem.kernel_size
    if R * S <= _MOST_UNROLLED:
        unrolled, dilations = (R, S), problem.dilation[1:]
    elif S <= _MOST_UNROLLED:
        unrolled, dilations = (1, S), (1, problem.dilation[2])
    else:
        unrolled, dilations = (1, 1), (1, 1)
    return _kernel(settings.mr, settings.nv, lanes, unrolled, problem.stride[1:], dilations)


def applicable(problem: ConvProblem) -> str | None:
    if problem.in_channels != problem.groups:
        per_group = problem.in_channels // problem.groups
        return f"it is for one input channel per group, and here there are {per_group}"
    return None


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """One for each tile, the wider one first unless it wastes more than a quarter of its lanes at row ends."""
    O, P, Q = spatial(problem)[1]
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    # A tile that leaves few registers for the splats of the weights spills them: 5 x 5 is faster with four rows.
    splats = min(_MOST_UNROLLED, prod(problem.kernel_size[1:]))
    for mr, nv in sorted(TILES[machine.tiles], key=lambda tile: tile[0] * tile[1] + splats > machine.registers + 4):
        if ceil_div(Q, nv * lanes) * nv > 1.25 * ceil_div(Q, lanes):
            continue
        block_q = even_block(Q, _MOST_COLUMNS, nv * lanes)
        row_bytes = problem.kernel_size[0] * problem.stride[1] * problem.stride[2] * block_q * size
        block_p = even_block(P, max(mr, machine.l1 // 2 // row_bytes), mr)
        tasks = problem.batch * problem.groups * O * ceil_div(P, block_p) * ceil_div(Q, block_q)
        while tasks < 4 * threads and block_p > 2 * mr:
            block_p = ceil_div(block_p, 2)
            tasks *= 2
        # A task of less than some 16 thousand outputs is mostly the cost of being one.
        block_g = max(1, min(problem.groups, 16384 // (block_p * block_q), tasks // (8 * threads)))
        yield Settings(mr, nv, block_g, block_p, block_q)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    _, nv, block_g, block_p, block_q = settings
    O, P, Q = spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    rows, pitch = _staged(problem, settings, lanes)
    return Schedule.of(
        problem, problem.kernel_size[0] * rows * problem.stride[2] * pitch + nv * lanes,
        tasks_g=ceil_div(problem.groups, block_g), tasks_o=O,
        tasks_p=ceil_div(P, block_p), tasks_q=ceil_div(Q, block_q),
        block_g=block_g, block_p=block_p, block_q=block_q, pitch=pitch,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, block_g, block_p, block_q = settings
    lanes = machine.lanes(problem.dtype)
    O, P, Q = spatial(problem)[1]
    rows, pitch = _staged(problem, settings, lanes)
    blocks = problem.batch * O * ceil_div(P, block_p) * ceil_div(Q, block_q)
    tiles = problem.batch * problem.out_channels * O * ceil_div(P, mr) * ceil_div(Q, nv * lanes)
    lines = blocks * problem.groups * problem.kernel_size[0] * rows * problem.stride[2]
    return Work(
        blocks * ceil_div(problem.groups, block_g),
        fmas=tiles * prod(problem.kernel_size) * mr * nv * 1.5,  # loads that cross cache lines come on top
        tiles=tiles + lines / 2,
        moved=tiles * mr * nv * lanes / 4 + lines * pitch / 2,
    ).seconds(machine, threads)


DEPTHWISE = Algorithm(
    name="depthwise",
    summary="one input channel per group: pixels in lanes over padded rows in L1",
    applicable=applicable,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
)
