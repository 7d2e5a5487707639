"""Direct convolution, pixels in lanes: vectors of an output row, the input read where it lies.

A register tile is ``mr`` output channels by ``nv`` vectors of pixels. For each row of the kernel of each input channel
the tile loads what its taps see of an input row, masked where the image ends, and multiplies it by weights that are
broadcast from where they are. Nothing is packed or transposed, nor staged where masks cost nothing, which pays where
the sums are short: few input channels, as in a network's first layer, or many groups. (On AMD Zen 5, over rows staged
with their padding, 32 groups of 4 channels at 56 x 56 took 281 us, and 190 so; on Zen 3 490 us, and 585 in place.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

from numbaconv.algorithms.algorithm import Algorithm, Schedule, too_long
from numbaconv.algorithms.staging import STAGED_COLUMNS, STAGING, masks_are_dear, phases_block, phases_stager
from numbaconv.algorithms.streaming import behind_line, may_stream, mostly_lines, tile_writer, written_through
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cost import Work, share
from numbaconv.geometry import (
    ceil_div,
    even_block,
    inputs_seen,
    is_pointwise,
    is_single_tap,
    locate,
    read,
    spatial,
    steps_inside,
    tiles_in_blocks,
)
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.correlate import MOST_SPAN, MOST_STRIDE, add_row, add_row_staged, shuffle_count
from numbaconv.simd.tile import add_to_rows, clip, zeros
from numbaconv.simd.tile_memory import fence, store_part

#: Tile shapes (mr, nv) for many and few output channels of a group, and for long and short rows. The vectors of an
#: input row need registers too: 4 x 7 spills, and ran at 60 % of the speed of 8 x 2.
TILES = {
    "avx512": ((12, 2), (8, 3), (4, 5), (8, 2), (4, 4), (16, 1), (8, 1), (2, 7), (1, 8)),
    "neon": ((6, 4), (8, 2), (4, 4), (2, 8), (1, 8)),
    "avx2": ((6, 2), (4, 3), (4, 2), (2, 4), (1, 8)),
}
#: Of these, as many as are worth measuring.
_MOST_CANDIDATES = 3
#: Taps of a kernel's row that are unrolled, beyond which code would be long.
_MOST_TAPS = 32


class Settings(NamedTuple):
    """Tile of ``mr`` output channels by ``nv`` vectors of pixels; blocks of rows, columns and output channels."""

    mr: int
    nv: int
    block_p: int
    block_q: int
    block_k: int


@functools.cache
def _kernel(
    mr: int, nv: int, lanes: int, S: int, stride: int, dilation: int, staged: bool, streams: bool
) -> Dispatcher:  # fmt: skip
    """The kernel for tiles of ``mr`` by ``nv``, that unrolls a row of the kernel; strides are those of columns."""
    stage = phases_stager(lanes, stride)
    write = tile_writer(streams)
    nr = nv * lanes

    def rows(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """Some rows of some output channels. ``x`` is NCDHW, ``w`` KCTRS, ``y`` NKOPQ.

        The last tile of channels overlaps the one before, and stores the rows that are its own. Rows of the kernel
        that see padding only are left out. If the input is ``staged``, ``workspace`` has what the task sees of it,
        [T][C][rows][stride][pitch], as in `depthwise`, and the last tile of pixels overlaps the one before.
        """
        g = read(geometry)
        C, K, T, R = g.C, g.K, g.T, g.R
        n, group, o, p_task, q_task, k_task = locate(task, g)
        front = o * g.stride_d - g.pad_d
        t_begin, t_end = steps_inside(front, g.dilation_d, T, g.D)
        k_begin = k_task * g.block_k
        k_end = min(K, k_begin + g.block_k)
        per_kernel = C * T * R * S
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        p0 = p_task * g.block_p
        bp = min(g.block_p, g.P - p0)
        q0 = q_task * g.block_q
        bq = min(g.block_q, g.Q - q0)
        seen = inputs_seen(bp, g.stride_h, R, g.dilation_h)
        columns = (inputs_seen(bq, stride, S, dilation) + stride - 1) // stride
        step = seen * stride * g.pitch if staged else g.D * g.H * g.W
        if staged:
            workspace[: T * C * step] = 0
            for t in range(t_begin, t_end):
                for c in range(C):
                    plane = ((n * g.G + group) * C + c) * g.D + front + t * g.dilation_d
                    stage(
                        x, plane * g.H * g.W, g.H, g.W, p0 * g.stride_h - g.pad_h, q0 * stride - g.pad_w, seen,
                        columns, workspace, (t * C + c) * step, g.pitch,
                    )  # fmt: skip
        past = streams and mostly_lines(y, bq, nr, lanes)
        # Channels outermost: a few planes of the output are written from end to end. When all planes were written row
        # by row, 3 to 64 channels at 224 x 224, whose planes collide in the caches, took 1.6 ms, and 0.94 ms so.
        for k_tile in range(k_begin, k_end, mr):
            k = min(k_tile, K - mr)
            for p in range(bp):
                top = (p0 + p) * g.stride_h - g.pad_h
                r_begin, r_end = steps_inside(top, g.dilation_h, R, g.H)
                row = (((n * g.G + group) * K + k) * g.O + o) * g.P * g.Q + (p0 + p) * g.Q + q0
                for q_tile in range(-behind_line(y, row, lanes, past), bq, nr):
                    q = max(0, min(q_tile, bq - nr) if staged else q_tile)
                    count = min(q_tile + nr, bq) - q
                    left = (q0 + q) * stride - g.pad_w
                    acc = zeros(x, mr, nv, lanes)
                    for t in range(t_begin, t_end):
                        plane = (n * g.G + group) * C * g.D + front + t * g.dilation_d
                        for r in range(r_begin, r_end):
                            weight = (((group * K + k) * C * T + t) * R + r) * S
                            if staged:
                                line = t * C * step + (p * g.stride_h + r * g.dilation_h) * stride * g.pitch + q
                                for _ in range(C):
                                    acc = add_row_staged(
                                        acc, w, weight, per_kernel, workspace, line, g.pitch, S, stride, dilation
                                    )
                                    line += step
                                    weight += T * R * S
                            else:
                                line = (plane * g.H + top + r * g.dilation_h) * g.W + left
                                for _ in range(C):
                                    acc = add_row(
                                        acc, w, weight, per_kernel, x, line, -left, g.W - left, S, stride, dilation
                                    )
                                    line += step
                                    weight += T * R * S
                    acc = clip(add_to_rows(acc, bias, group * K + k, 1), low, high)
                    if count == nr and k == k_tile and k + mr <= k_end:
                        write(acc, y, row + q, g.O * g.P * g.Q, past)
                    else:
                        store_part(acc, y, row + q, g.O * g.P * g.Q, k_tile - k, k_end - k, count)
        if streams:
            fence()

    return jit(rows)


def applicable(problem: ConvProblem) -> str | None:
    taps, stride = problem.kernel_size[2], problem.stride[2]
    if taps > _MOST_TAPS or stride > MOST_STRIDE:
        most = f"kernels of up to {_MOST_TAPS} columns and strides up to {MOST_STRIDE}"
        return f"it is for {most}, and here they are {taps} and {stride}"
    if problem.kernel_extent[2] > MOST_SPAN:
        return f"it is for kernels that span up to {MOST_SPAN} columns, and here they are {problem.kernel_extent[2]}"
    return too_long(prod(problem.weight_shape[1:]))


def _tile_cost(problem: ConvProblem, machine: Machine) -> Callable[[int, int], float]:
    """Vector FMAs of a tile, with what its loads, shuffles and too short a pipeline cost in units of them."""
    (T, R, S), stride, dilation = problem.kernel_size, problem.stride[2], problem.dilation[2]
    kernel_rows, lanes = problem.in_channels // problem.groups * T * R, machine.lanes(problem.dtype)
    rate = machine.fma_per_cycle
    # A shuffle takes the place of an FMA where one finishes a cycle, and of half a one where two do.
    shuffles = 0.0 if masks_are_dear(lanes, problem.dtype) else shuffle_count(S, stride, dilation, lanes) / rate
    between = 1.0 if S > 1 else 1.5  # cycles
    if stride > 1 and problem.in_channels // problem.groups >= lanes and masks_are_dear(lanes, problem.dtype):
        between = 4.0  # 256 channels at 28 x 28 took 3.7 ms by tiles of 6 x 2, where 2.8 were foretold
    # Eight sums keep two units of a latency of four busy. Weights are loaded for each row of the tile.
    load = rate * machine.load_fmas
    return lambda mr, nv: (
        kernel_rows * (S * max(mr * nv, 4 * rate, (0.625 * mr + nv) * load) + shuffles * nv + between * rate)
    )


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """The tiles with the least to do, idle lanes and channels included."""
    K, (O, P, Q) = problem.out_channels // problem.groups, spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    tile_cost = _tile_cost(problem, machine)

    def cost(tile: tuple[int, int]) -> float:
        mr, nv = tile
        return ceil_div(K, mr) * ceil_div(Q, nv * lanes) * (tile_cost(mr, nv) + 60)

    tiles = sorted((tile for tile in TILES[machine.tiles] if tile[0] <= K), key=cost)
    images = max(1, problem.batch) * problem.groups * O
    wanted = 4 * threads if threads > 1 else 1
    for mr, nv in tiles[:_MOST_CANDIDATES]:
        most_rows, block_q = ceil_div(P * images, wanted), Q
        if masks_are_dear(lanes, problem.dtype):
            most = machine.l2 // 2 // ITEM_SIZE[problem.dtype]
            planes, more = (phases_block(problem, block_p, 1, lanes)[0] for block_p in (1, 2))
            block_q = even_block(Q, min(STAGED_COLUMNS, most // planes), nv * lanes)
            most_rows = min(most_rows, most // (max(1, more - planes) * (block_q + lanes)))
        block_p = even_block(P, most_rows)
        tasks = images * ceil_div(P, block_p) * ceil_div(Q, block_q)
        block_k = min(K, ceil_div(ceil_div(K, mr), ceil_div(wanted, tasks)) * mr)
        yield Settings(mr, nv, block_p, block_q, block_k)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    _, nv, block_p, block_q, block_k = settings
    O, P, Q = spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    workspace = pitch = 0
    if masks_are_dear(lanes, problem.dtype):
        planes, pitch = phases_block(problem, block_p, block_q, lanes)
        workspace = planes * pitch + nv * lanes  # of a row shorter than a tile, a tile sees what is beyond it
    return Schedule.of(
        problem, workspace, tasks_g=problem.groups, tasks_o=O, tasks_p=ceil_div(P, block_p),
        tasks_q=ceil_div(Q, block_q), tasks_k=ceil_div(problem.out_channels // problem.groups, block_k),
        block_p=block_p, block_q=block_q, block_k=block_k, pitch=pitch,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, block_p, block_q, block_k = settings
    lanes = machine.lanes(problem.dtype)
    K, (O, P, Q) = problem.out_channels // problem.groups, spatial(problem)[1]
    images = problem.batch * problem.groups * O
    C = problem.in_channels // problem.groups
    row_tiles = tiles_in_blocks(K, block_k, mr)
    tiles = images * P * tiles_in_blocks(Q, block_q, nv * lanes) * row_tiles
    staged = 0.0
    if masks_are_dear(lanes, problem.dtype):
        planes, pitch = phases_block(problem, block_p, block_q, lanes)
        tasks = images * ceil_div(P, block_p) * ceil_div(Q, block_q) * ceil_div(K, block_k)
        staged = tasks * planes * (pitch - lanes) * STAGING
    # The channels of a pointwise problem are read again for each row of tiles, and L2 does not keep them.
    again = is_pointwise(problem) and C * Q * ITEM_SIZE[problem.dtype] > machine.l2
    # From L3 they come a few lines of each at a time: on Intel Granite Rapids 144 to 24 channels at 56 x 56 took 1.7
    # times as long as foretold, and 256 to 128 2.6 times. What L2 has no room for are outputs and weights, too.
    image = C * prod(problem.in_size[1:]) * ITEM_SIZE[problem.dtype]
    waits = is_single_tap(problem) and 4 * image > 3 * machine.l2
    return Work(
        share(threads, images, (P, block_p), (Q, block_q), (K, block_k)),
        fmas=tiles * _tile_cost(problem, machine)(mr, nv),
        tiles=tiles,
        # Outputs of few products are stored as fast as they can be, and lines between tiles are written twice: with one
        # thread of Intel Granite Rapids 24 to 144 channels at 56 x 56 take 145 to 173 us, 144 were foretold, and 16 to
        # 96 at 112 x 112 300 to 340, and 269.
        moved=tiles * nv * lanes * (mr / (2 if is_single_tap(problem) else 4) + (C / 10 if again else 0)) + staged,
        streamed=tiles * mr * C * prod(problem.kernel_size) * ITEM_SIZE[problem.dtype],
        waited=images * row_tiles * image if waits else 0,
        written=written_through(problem, machine, _may_stream(problem, settings, machine)),
    ).seconds(machine, threads, problem.dtype)


def _may_stream(problem: ConvProblem, settings: Settings, machine: Machine) -> bool:
    row = min(settings.block_q, spatial(problem)[1][2])
    return may_stream(problem, machine, row, settings.nv * machine.lanes(problem.dtype))


def _kernel_of(problem: ConvProblem, settings: Settings, machine: Machine) -> Dispatcher:
    lanes = machine.lanes(problem.dtype)
    S, step, dilation = problem.kernel_size[2], problem.stride[2], problem.dilation[2]
    staged, streams = masks_are_dear(lanes, problem.dtype), _may_stream(problem, settings, machine)
    return _kernel(settings.mr, settings.nv, lanes, S, step, dilation, staged, streams)


ROWS = Algorithm(
    name="rows",
    summary="pixels of a row in lanes, input read in place or staged, weights in place",
    applicable=applicable,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
)
