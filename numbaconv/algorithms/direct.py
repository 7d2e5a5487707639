"""Direct convolution, output channels in lanes: nothing is expanded, every tap is an address step.

A task stages its block of input rows once, channels-last and with the padding in it. A register tile is ``mr``
neighbouring pixels of an output row by ``nv`` vectors of output channels: the pixels' values are broadcast from the
staged block at a distance of one pixel times the stride, the weights are vectors from packed panels. So stride,
dilation and padding cost nothing in the inner loop. Source: the ideas of Georganas et al., "Anatomy of
High-Performance Deep Learning Convolutions on SIMD Architectures" (SC 2018).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from numbaconv.algorithms.algorithm import Algorithm, Array, Packing, Schedule
from numbaconv.algorithms.packing import panel_packing
from numbaconv.algorithms.staging import channels_last_stager, pitch_apart
from numbaconv.arguments import ITEM_SIZE
from numbaconv.cost import FMA_PER_CYCLE, MOVED, Work
from numbaconv.geometry import ceil_div, even_block, locate, spatial
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.tile import add, add_to_columns, clip, rank1, zeros
from numbaconv.simd.tile_memory import load_tile, store_tile, store_transposed

#: Tile shapes (mr, nv): mr * nv accumulators, nv weights and a broadcast value fit the registers, and the usual widths
#: 7, 14, 28, 56 are multiples of an mr. 7 x 4 has 33 live registers and loses 15 % to spills; for some AArch64 cores
#: LLVM spills 14 x 2 and 8 x 3.
TILES = {"avx512": ((14, 2), (7, 2), (8, 3)), "neon": ((7, 3), (7, 2), (12, 2)), "avx2": ((6, 2), (4, 3), (5, 2))}


#: Tiles of pixels that a block has at least, if there are so many: they share a panel's way from L3.
_LEAST_TILES = 8
#: Products summed at a stretch, where channels can be cut: a sum of 4608 has an error of 2.9e-6, of four parts 1.2e-6.
_MOST_SUMMED = 1152


class Settings(NamedTuple):
    """Tile of ``mr`` pixels by ``nv`` vectors; blocks of rows, columns, input channels and panels of channels."""

    mr: int
    nv: int
    block_p: int
    block_q: int
    block_c: int
    block_k: int


class _Staged(NamedTuple):
    """The staged block: one input plane of it is [rows][columns][pitch]; the steps are those of output pixels."""

    rows: int
    columns: int
    pitch: int


def _staged(problem: ConvProblem, block_p: int, block_q: int) -> _Staged:
    (_, R, S), (_, sh, sw), (_, dh, dw) = problem.kernel_size, problem.stride, problem.dilation
    rows = block_p if R == 1 else (block_p - 1) * sh + (R - 1) * dh + 1
    columns = block_q if S == 1 else (block_q - 1) * sw + (S - 1) * dw + 1
    return _Staged(rows, columns, _pitch(problem))


def _staged_pixels(problem: ConvProblem, block_p: int, block_q: int, lanes: int) -> float:
    """Pixels that staging a block costs: rows are transposed in whole vectors, and every other column costs two."""
    rows, columns, _ = _staged(problem, block_p, block_q)
    step = problem.stride[2] if problem.kernel_size[2] == 1 else 1
    return problem.kernel_size[0] * rows * ceil_div(columns, lanes) * lanes * step


def _pitch(problem: ConvProblem) -> int:
    """Elements from one staged pixel to the next."""
    return pitch_apart(problem.in_channels // problem.groups, ITEM_SIZE[problem.dtype])


@functools.cache
def _kernel(mr: int, nv: int, lanes: int) -> Dispatcher:
    stage = channels_last_stager(lanes)
    nr = nv * lanes

    def direct(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows and columns for some panels of output channels.

        ``x`` is NCDHW, ``y`` NKOPQ; ``w`` is [G][panels][C blocks][T][R][S][block_c][nr] (``packing``). In
        ``workspace`` the staged block [T][rows][columns][pitch] comes first, and behind it, where C is cut, the
        block's unfinished tiles. A row's last tile overlaps the one before, so that it is a whole one; tiles of rows
        shorter than ``mr`` broadcast the workspace's slack and do not store it.
        """
        g = geometry[0]
        C, K, T, R, S = g.C, g.K, g.T, g.R, g.S
        n, group, o, p_task, q_task, k_task = locate(task, g)
        p0 = p_task * g.block_p
        q0 = q_task * g.block_q
        bp = min(g.block_p, g.P - p0)
        bq = min(g.block_q, g.Q - q0)

        # With a single kernel row (or column) only the rows (columns) that are used are staged.
        row_step = 1 if R == 1 else g.stride_h
        column_step = 1 if S == 1 else g.stride_w
        rows = (bp - 1) * row_step + (R - 1) * g.dilation_h + 1
        columns = (bq - 1) * column_step + (S - 1) * g.dilation_w + 1
        pitch = g.pitch
        for t in range(T):
            depth = o * g.stride_d - g.pad_d + t * g.dilation_d
            start = ((n * g.G + group) * C * g.D + depth) * g.H * g.W
            height = g.H if 0 <= depth < g.D else 0
            stage(
                x, g.D * g.H * g.W, start, height, g.W, p0 * g.stride_h - g.pad_h, g.stride_h // row_step,
                q0 * g.stride_w - g.pad_w, g.stride_w // column_step, C, pitch, rows, columns,
                workspace, t * rows * columns * pitch,
            )  # fmt: skip
        unfinished = (T * rows * columns + mr * column_step) * pitch

        # Undilated taps of a row are one run of S * C values, where the channels are neither cut nor padded.
        whole_rows = g.dilation_w == 1 and g.block_c == C and pitch == C
        taps = 1 if whole_rows else S
        step = column_step * pitch
        panels = (K + nr - 1) // nr
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        for panel in range(k_task * g.block_k, min(panels, (k_task + 1) * g.block_k)):
            k = panel * nr
            for c in range(0, C, g.block_c):
                bc = min(g.block_c, C - c)
                run = S * C if whole_rows else bc
                block_weights = ((group * panels + panel) * C + c) * T * R * S * nr
                scratch = unfinished
                for p in range(bp):
                    for q_tile in range(0, bq, mr):
                        q = max(0, min(q_tile, bq - mr))
                        acc = zeros(x, mr, nv, lanes)
                        weight = block_weights
                        for t in range(T):
                            for r in range(R):
                                row = (t * rows + p * row_step + r * g.dilation_h) * columns + q * column_step
                                for s in range(taps):
                                    pixel = (row + s * g.dilation_w) * pitch + c
                                    for i in range(run):
                                        acc = rank1(acc, workspace, pixel + i, step, w, weight)
                                        weight += nr
                        if c > 0:
                            acc = add(acc, load_tile(workspace, scratch, nr, mr, nv, lanes))
                        if c + bc < C:
                            store_tile(acc, workspace, scratch, nr)
                            scratch += mr * nr
                        else:
                            acc = clip(add_to_columns(acc, bias, group * K + k, K - k), low, high)
                            channel = (n * g.G + group) * K + k
                            at = ((channel * g.O + o) * g.P + p0 + p) * g.Q + q0 + q
                            store_transposed(acc, y, at, g.O * g.P * g.Q, min(mr, bq - q), K - k)
                            scratch += mr * nr

    return jit(direct)


def _blocks(problem: ConvProblem, mr: int, nv: int, machine: Machine, threads: int) -> Settings:
    """Blocks that keep staged input and a panel of weights in L2, and give each thread four tasks."""
    size = ITEM_SIZE[problem.dtype]
    C, K = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    O, P, Q = spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    nr = nv * lanes
    panels = ceil_div(K, nr)
    most_c = min(machine.l2 // 4 // (nr * size), _MOST_SUMMED) // prod(problem.kernel_size)
    block_c = even_block(C, most_c, lanes)
    # 16 tiles of pixels use a panel of weights between two loads of it from L2 or L3.
    pixel_bytes = problem.kernel_size[0] * _pitch(problem) * size
    most = max(mr, min(16 * mr, machine.l2 * 3 // 4 // pixel_bytes))
    block_q = even_block(Q, most, mr)
    block_p = even_block(P, max(1, 32 * mr // block_q))
    while block_p > 1 and prod(_staged(problem, block_p, block_q)[:2]) * pixel_bytes > machine.l2 * 3 // 4:
        block_p = ceil_div(block_p, 2)
    images = problem.batch * problem.groups * O
    wanted = 4 * threads if threads > 1 else 1
    tasks = images * ceil_div(P, block_p) * ceil_div(Q, block_q)
    # Each piece of the panels stages the block again, which may take a fiftieth of the time that it computes; few
    # pieces are a multiple of the threads, of which some would be idle else.
    staged = _staged_pixels(problem, block_p, block_q, lanes)
    computed = block_p * block_q * prod(problem.kernel_size) * K / (FMA_PER_CYCLE * lanes)
    needed = ceil_div(threads, max(1, tasks))
    affordable = max(1, int(computed / (50 * MOVED * staged)) // needed) * needed
    block_k = ceil_div(panels, min(panels, affordable, ceil_div(wanted, max(1, tasks))))
    tasks *= ceil_div(panels, block_k)
    if tasks < wanted:
        block_p = min(block_p, max(ceil_div(_LEAST_TILES * mr, block_q), block_p * tasks // wanted))
    return Settings(mr, nv, block_p, block_q, block_c, block_k)


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """One for each tile, fewest idle pixels and channels first."""
    K, Q, lanes = problem.out_channels // problem.groups, spatial(problem)[1][2], machine.lanes(problem.dtype)
    tiles = sorted(
        TILES[machine.tiles],
        key=lambda tile: ceil_div(Q, tile[0]) * tile[0] * ceil_div(K, tile[1] * lanes) * tile[1],
    )
    return (_blocks(problem, mr, nv, machine, threads) for mr, nv in tiles)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    mr, nv, block_p, block_q, block_c, block_k = settings
    O, P, Q = spatial(problem)[1]
    nr = nv * machine.lanes(problem.dtype)
    K = problem.out_channels // problem.groups
    staged = _staged(problem, min(block_p, P), min(block_q, Q))
    slack = mr * (1 if problem.kernel_size[2] == 1 else problem.stride[2])
    workspace = (problem.kernel_size[0] * staged.rows * staged.columns + slack) * staged.pitch
    if block_c < problem.in_channels // problem.groups:
        workspace += min(block_p, P) * ceil_div(min(block_q, Q), mr) * mr * nr
    return Schedule.of(
        problem, workspace,
        tasks_g=problem.groups, tasks_o=O, tasks_p=ceil_div(P, block_p), tasks_q=ceil_div(Q, block_q),
        tasks_k=ceil_div(ceil_div(K, nr), block_k),
        block_p=block_p, block_q=block_q, block_c=block_c, block_k=block_k, pitch=staged.pitch,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, block_p, block_q, block_c, block_k = settings
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    O, P, Q = spatial(problem)[1]
    C, K = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    images = problem.batch * problem.groups * O
    panels = ceil_div(K, nv * lanes)
    kc = C * prod(problem.kernel_size)
    row_tiles = Q // block_q * ceil_div(block_q, mr) + ceil_div(Q % block_q, mr)
    tiles = images * P * row_tiles * panels
    tasks = images * ceil_div(P, block_p) * ceil_div(Q, block_q) * ceil_div(panels, block_k)
    staged = tasks * _staged_pixels(problem, block_p, block_q, lanes) * C
    transposes = C >= lanes and (problem.stride[2] <= 2 or problem.kernel_size[2] > 1)
    return Work(
        tasks,
        fmas=tiles * kc * mr * nv,
        tiles=tiles * ceil_div(C, block_c),
        moved=tiles * mr * nv * lanes + (staged if transposes else 0),
        scattered=0 if transposes else staged,
        streamed=tiles * kc * nv * lanes * size,
        prepared=0 if problem.constant_weight else problem.groups * panels * nv * lanes * kc,
    ).seconds(machine, threads)


def packing(problem: ConvProblem, settings: Settings, machine: Machine) -> Packing:
    return panel_packing(problem, settings.nv, settings.block_c, machine.lanes(problem.dtype))


DIRECT = Algorithm(
    name="direct",
    summary="output channels in lanes, input staged channels-last, weights packed in panels",
    applicable=lambda problem: None,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=lambda problem, settings, lanes: _kernel(settings.mr, settings.nv, lanes),
    packing=packing,
)
