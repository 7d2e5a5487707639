"""Direct convolution, pixels in lanes: vectors of an output row, the input read where it lies.

A register tile is ``mr`` output channels by ``nv`` vectors of pixels. For each row of the kernel of each input channel
the tile loads what its taps see of an input row, masked where the image ends, and multiplies it by weights that are
broadcast from where they are. Nothing is staged, packed or transposed, which pays where the sums are short: few input
channels, as in a network's first layer, or many groups. (Over rows staged with their padding, 32 groups of 4 channels
at 56 x 56 took 281 us, and 190 so.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

from numbaconv.algorithms.algorithm import Algorithm, Array, Schedule
from numbaconv.arguments import ITEM_SIZE
from numbaconv.cost import Work, share
from numbaconv.geometry import ceil_div, even_block, is_pointwise, locate, read, spatial, steps_inside, tiles_in_blocks
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.correlate import MOST_STRIDE, add_row, shuffle_count
from numbaconv.simd.tile import add_to_rows, clip, zeros
from numbaconv.simd.tile_memory import store_part, store_tile

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
    """Tile of ``mr`` output channels by ``nv`` vectors of pixels; blocks of rows and of output channels."""

    mr: int
    nv: int
    block_p: int
    block_k: int


@functools.cache
def _kernel(mr: int, nv: int, lanes: int, S: int, stride: int, dilation: int) -> Dispatcher:
    """The kernel for tiles of ``mr`` by ``nv``, that unrolls a row of the kernel; strides are those of columns."""
    nr = nv * lanes

    def rows(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """Some rows of some output channels. ``x`` is NCDHW, ``w`` KCTRS, ``y`` NKOPQ.

        The last tile of channels overlaps the one before, and stores the rows that are its own. Rows of the kernel
        that see padding only are left out.
        """
        g = read(geometry)
        C, K, T, R = g.C, g.K, g.T, g.R
        n, group, o, p_task, _, k_task = locate(task, g)
        front = o * g.stride_d - g.pad_d
        t_begin, t_end = steps_inside(front, g.dilation_d, T, g.D)
        k_begin = k_task * g.block_k
        k_end = min(K, k_begin + g.block_k)
        per_kernel = C * T * R * S
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        # Channels outermost: a few planes of the output are written from end to end. When all planes were written row
        # by row, 3 to 64 channels at 224 x 224, whose planes collide in the caches, took 1.6 ms, and 0.94 ms so.
        for k_tile in range(k_begin, k_end, mr):
            k = min(k_tile, K - mr)
            for p in range(p_task * g.block_p, min(g.P, (p_task + 1) * g.block_p)):
                top = p * g.stride_h - g.pad_h
                r_begin, r_end = steps_inside(top, g.dilation_h, R, g.H)
                for q in range(0, g.Q, nr):
                    left = q * stride - g.pad_w
                    acc = zeros(x, mr, nv, lanes)
                    for t in range(t_begin, t_end):
                        plane = (n * g.G + group) * C * g.D + front + t * g.dilation_d
                        for r in range(r_begin, r_end):
                            line = (plane * g.H + top + r * g.dilation_h) * g.W + left
                            weight = (((group * K + k) * C * T + t) * R + r) * S
                            for _ in range(C):
                                acc = add_row(
                                    acc, w, weight, per_kernel, x, line, -left, g.W - left, S, stride, dilation
                                )
                                line += g.D * g.H * g.W
                                weight += T * R * S
                    acc = clip(add_to_rows(acc, bias, group * K + k, 1), low, high)
                    at = (((n * g.G + group) * K + k) * g.O + o) * g.P * g.Q + p * g.Q + q
                    if q + nr <= g.Q and k == k_tile and k + mr <= k_end:
                        store_tile(acc, y, at, g.O * g.P * g.Q)
                    else:
                        store_part(acc, y, at, g.O * g.P * g.Q, k_tile - k, k_end - k, g.Q - q)

    return jit(rows)


def applicable(problem: ConvProblem) -> str | None:
    taps, stride = problem.kernel_size[2], problem.stride[2]
    if taps > _MOST_TAPS or stride > MOST_STRIDE:
        most = f"kernels of up to {_MOST_TAPS} columns and strides up to {MOST_STRIDE}"
        return f"it is for {most}, and here they are {taps} and {stride}"
    return None


def _tile_cost(problem: ConvProblem, lanes: int) -> Callable[[int, int], float]:
    """Vector FMAs of a tile, with what its loads, shuffles and too short a pipeline cost in units of them."""
    (T, R, S), stride, dilation = problem.kernel_size, problem.stride[2], problem.dilation[2]
    kernel_rows = problem.in_channels // problem.groups * T * R
    shuffles = shuffle_count(S, stride, dilation, lanes) / 2
    between = 2 if S > 1 else 3
    # Eight sums keep two units of a latency of four busy. Weights are loaded for each row of the tile.
    return lambda mr, nv: kernel_rows * (S * max(mr * nv, 8, 1.25 * mr + 2 * nv) + shuffles * nv + between)


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """The tiles with the least to do, idle lanes and channels included."""
    K, (O, P, Q) = problem.out_channels // problem.groups, spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    tile_cost = _tile_cost(problem, lanes)

    def cost(tile: tuple[int, int]) -> float:
        mr, nv = tile
        return ceil_div(K, mr) * ceil_div(Q, nv * lanes) * (tile_cost(mr, nv) + 60)

    tiles = sorted((tile for tile in TILES[machine.tiles] if tile[0] <= K), key=cost)
    images = max(1, problem.batch) * problem.groups * O
    wanted = 4 * threads if threads > 1 else 1
    for mr, nv in tiles[:_MOST_CANDIDATES]:
        block_p = even_block(P, max(1, ceil_div(P * images, wanted)))
        tasks = images * ceil_div(P, block_p)
        block_k = min(K, ceil_div(ceil_div(K, mr), ceil_div(wanted, tasks)) * mr)
        yield Settings(mr, nv, block_p, block_k)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    _, _, block_p, block_k = settings
    O, P, _ = spatial(problem)[1]
    return Schedule.of(
        problem, 0, tasks_g=problem.groups, tasks_o=O, tasks_p=ceil_div(P, block_p),
        tasks_k=ceil_div(problem.out_channels // problem.groups, block_k), block_p=block_p, block_k=block_k,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, block_p, block_k = settings
    lanes = machine.lanes(problem.dtype)
    K, (O, P, Q) = problem.out_channels // problem.groups, spatial(problem)[1]
    images = problem.batch * problem.groups * O
    C = problem.in_channels // problem.groups
    row_tiles = tiles_in_blocks(K, block_k, mr)
    tiles = images * P * ceil_div(Q, nv * lanes) * row_tiles
    # The channels of a pointwise problem are read again for each row of tiles, and L2 does not keep them.
    again = is_pointwise(problem) and C * Q * ITEM_SIZE[problem.dtype] > machine.l2
    return Work(
        share(threads, images, (P, block_p), (K, block_k)),
        fmas=tiles * _tile_cost(problem, lanes)(mr, nv),
        tiles=tiles,
        moved=tiles * nv * lanes * (mr / 4 + (C / 10 if again else 0)),
        streamed=tiles * mr * C * prod(problem.kernel_size) * ITEM_SIZE[problem.dtype],
    ).seconds(machine, threads)


ROWS = Algorithm(
    name="rows",
    summary="pixels of a row in lanes, input read in place under masks, weights in place",
    applicable=applicable,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=lambda problem, settings, lanes: _kernel(
        settings.mr, settings.nv, lanes, problem.kernel_size[2], problem.stride[2], problem.dilation[2]
    ),
)
