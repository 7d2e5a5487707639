"""Inner products, input channels in lanes: weights are read where they lie, and pixels are laid out as they are.

An output is the inner product of a row of the weight, [C * T * R * S] in memory, and of what its pixel sees in the same
order. A task stages its pixels as such rows; a register tile is ``mr`` pixels by ``nr`` output channels, each a vector
of partial sums along the row, whose lanes are summed in the end. That costs as much as some 30 elements of the rows,
and saves laying out the weight: it is for few pixels, many channels, and weights that change. Source: the inner-product
form of the matrix product (Golub and Van Loan, "Matrix Computations", section 1.1), of the matrices of `im2col`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from numbaconv.algorithms.algorithm import Algorithm, Schedule, channels_in_a_run, too_long
from numbaconv.algorithms.staging import channels_last_stager, pitch_apart
from numbaconv.algorithms.streaming import written_through
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cost import MOVED, STREAM_BYTES, TASK_CYCLES, TILE_OVERHEAD, Work, busiest, from_l3, share, tile_rate
from numbaconv.geometry import ceil_div, even_block, locate, read, spatial, steps_inside
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.tile import add, add_to_columns, clip, inner, inner_first, sum_lanes, zeros
from numbaconv.simd.tile_memory import load_tile, store_tile, store_transposed
from numbaconv.simd.vec import get, load, load_between, put, store

#: Tile shapes (mr, nr): mr * nr sums, mr pixels and a weight fit the registers. 4 x 3 spills: 44 GFLOP/s, not 90.
TILES = {"avx512": ((6, 4), (5, 4)), "neon": ((6, 4), (5, 4)), "avx2": ((3, 4),)}
#: Elements moved for each that is expanded: 512 channels of 3 x 3 take 5 % of the time at 7 x 7.
EXPANDED = 6
#: Elements of the vectors that rows of short kernels are copied by.
COPIED = 4


class Settings(NamedTuple):
    """Tile of ``mr`` pixels by ``nr`` channels; blocks of rows, columns, input channels and output channels."""

    mr: int
    nr: int
    block_p: int
    block_q: int
    block_c: int
    block_k: int


@functools.cache
def pixels_expander(copied: int) -> Dispatcher:
    """The kernel piece that stages what pixels see through a kernel, by vectors of ``copied`` elements."""

    def expand(
        x: Array, geometry: Array, start: int, o: int, p0: int, q0: int, count: int, channels: int, out: Array,
        out_start: int, pitch: int,
    ) -> None:  # fmt: skip
        """Write ``out[out_start:]`` as [pixels][channels][T][R][S], for ``count`` pixels from (o, p0, q0) on.

        Pixels are ``pitch`` apart, and of one plane.

        ``x[start:]`` holds the channels as [D][H][W], of which nothing else is read. A kernel's row that is not longer
        than a vector is copied as one: what is written behind it is written again later, but for the very last.
        """
        g = read(geometry)
        plane = g.D * g.H * g.W
        short = g.S <= copied and g.dilation_w == 1
        for pixel in range(count):
            left = (q0 + pixel) % g.Q * g.stride_w - g.pad_w
            top = (p0 + (q0 + pixel) // g.Q) * g.stride_h - g.pad_h
            s_begin, s_end = steps_inside(left, g.dilation_w, g.S, g.W)
            r_begin, r_end = steps_inside(top, g.dilation_h, g.R, g.H)
            whole = left >= 0 and left + copied <= g.W
            to = out_start + pixel * pitch
            for c in range(channels):
                for t in range(g.T):
                    depth = o * g.stride_d - g.pad_d + t * g.dilation_d
                    source = start + c * plane + (depth * g.H + top) * g.W + left
                    end = r_end if 0 <= depth < g.D else r_begin
                    for r in range(g.R):
                        inside = r_begin <= r < end
                        if short:
                            if inside and whole:
                                store(load(x, source, copied), out, to)
                            else:
                                stop = s_end if inside else 0
                                store(load_between(x, source, s_begin, stop, copied), out, to)
                        else:
                            for s in range(g.S):
                                value = x.dtype.type(0)
                                if inside and s_begin <= s < s_end:
                                    value = get(x, source + s * g.dilation_w)
                                put(out, to + s, value)
                        source += g.dilation_h * g.W
                        to += g.S

    return jit(expand)


@functools.cache
def inner_multiplier(mr: int, nr: int, lanes: int) -> Dispatcher:
    """The kernel piece that sums a tile of inner products: ``mr`` pixels, as they were staged, by ``nr`` channels."""

    def multiply(
        staged: Array, row: int, pitch: int, w: Array, weight: int, w_step: int, last: int, length: int
    ) -> Any:  # fmt: skip
        """The sums of ``staged[row:]``, rows that are ``pitch`` apart, and of ``w[weight:]``, ``w_step`` apart.

        Row ``last`` of the weight stands for those beyond it.
        """
        whole = length // lanes * lanes
        acc = zeros(staged, mr, nr, lanes)
        for i in range(0, whole, lanes):
            acc = inner(acc, staged, row + i, pitch, w, weight + i, w_step, last)
        if whole < length:
            acc = inner_first(acc, staged, row + whole, pitch, w, weight + whole, w_step, last, length - whole)
        return sum_lanes(acc)

    return jit(multiply, inline="always")


@shared
def _layout(pixels: int, pitch: int, channels: int, mr: int, lanes: int) -> tuple[int, int, int]:
    """Where unfinished sums begin behind so many staged pixels, how far apart their rows are, and where they end.

    There is room for a last tile, for what a copied row writes behind the last pixel, and for the vectors in which sums
    are read.
    """
    tiles = (pixels + mr - 1) // mr * mr
    width = (channels + lanes - 1) // lanes * lanes + lanes
    begin = tiles * pitch + max(lanes, COPIED)
    return begin, width, begin + (tiles + lanes) * width


@functools.cache
def _kernel(mr: int, nr: int, lanes: int, copied: int) -> Dispatcher:
    """The kernel for kernels of one tap, or whose rows are expanded by vectors of ``copied`` elements."""
    stage = channels_last_stager(lanes)
    expand, multiply = pixels_expander(max(1, copied)), inner_multiplier(mr, nr, lanes)
    narrow = min(nr, lanes)
    vectors = nr // narrow

    def inner_products(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of pixels for a block of output channels. ``x`` is NCDHW, ``w`` KCTRS, ``y`` NKOPQ.

        In ``workspace`` are the pixels of a block of input channels, [pixels][block_c * T * R * S], and behind them the
        sums, [pixels][block_k]. Both have room for a last tile that is whole.
        """
        g = read(geometry)
        C, K = g.C, g.K
        taps = g.T * g.R * g.S
        n, group, o, p_task, q_task, k_task = locate(task, g)
        p0 = p_task * g.block_p
        q0 = q_task * g.block_q
        bq = min(g.block_q, g.Q - q0)
        bp = min(g.block_p, g.P - p0)
        pixels = bp * bq
        k0 = k_task * g.block_k
        bk = min(g.block_k, K - k0)
        pitch = g.pitch
        sums, width, _ = _layout(pixels, pitch, g.block_k, mr, lanes)
        plane = g.D * g.H * g.W
        for c in range(0, C, g.block_c):
            bc = min(g.block_c, C - c)
            start = ((n * g.G + group) * C + c) * plane
            if copied == 0:
                depth = o * g.stride_d - g.pad_d
                height = g.H if 0 <= depth < g.D else 0
                stage(
                    x, plane, start + depth * g.H * g.W, height, g.W, p0 * g.stride_h - g.pad_h, g.stride_h,
                    q0 * g.stride_w - g.pad_w, g.stride_w, bc, pitch, bp, bq, workspace, 0,
                )  # fmt: skip
            else:
                expand(x, geometry, start, o, p0, q0, pixels, bc, workspace, 0, pitch)
            for k in range(k0, k0 + bk, nr):
                weight = ((group * K + k) * C + c) * taps
                last = min(nr, K - k) - 1
                for pixel in range(0, pixels, mr):
                    total = multiply(workspace, pixel * pitch, pitch, w, weight, C * taps, last, bc * taps)
                    at = sums + pixel * width + k - k0
                    if c > 0:
                        total = add(total, load_tile(workspace, at, width, mr, vectors, narrow))
                    store_tile(total, workspace, at, width)

        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        for k in range(k0, k0 + bk, lanes):
            for pixel in range(0, pixels, lanes):
                block = load_tile(workspace, sums + pixel * width + k - k0, width, lanes, 1, lanes)
                block = clip(add_to_columns(block, bias, group * K + k, k0 + bk - k), low, high)
                channel = (n * g.G + group) * K + k
                at = ((channel * g.O + o) * g.P + p0) * g.Q + q0 + pixel
                store_transposed(block, y, at, g.O * g.P * g.Q, 0, pixels - pixel, k0 + bk - k)

    return jit(inner_products)


def _pitch(problem: ConvProblem, block_c: int) -> int:
    """Elements from one staged pixel to the next."""
    return pitch_apart(block_c * prod(problem.kernel_size), ITEM_SIZE[problem.dtype])


def _staging(problem: ConvProblem) -> int:
    """Elements moved to stage a pixel."""
    taps = prod(problem.kernel_size)
    return problem.in_channels // problem.groups * taps * (EXPANDED if taps > 1 else 1)


def _blocks(problem: ConvProblem, mr: int, nr: int, machine: Machine, threads: int) -> tuple[float, Settings]:
    """Blocks of pixels that stay in L2 and of weights in L1, cut so that threads finish together; and their cycles."""
    size, lanes = ITEM_SIZE[problem.dtype], machine.lanes(problem.dtype)
    C, K = problem.group_channels
    O, P, Q = spatial(problem)[1]
    taps = prod(problem.kernel_size)
    block_c = even_block(C, machine.l1 // 4 // (nr * size * taps), 2 * lanes)
    most = max(mr, min(machine.l2, problem.workspace_limit // threads) // 2 // (block_c * taps * size))
    block_q = even_block(Q, most, mr)
    block_p = even_block(P, most // Q) if block_q == Q else 1
    images = max(1, problem.batch) * problem.groups * O
    panels = ceil_div(K, nr)
    sums = TILE_OVERHEAD + mr * nr * lanes * MOVED
    tile = C * taps / lanes * mr * nr / tile_rate(machine) + ceil_div(C, block_c) * sums
    streaming = C * taps * nr * size / STREAM_BYTES

    def cut(pieces_k: int) -> tuple[float, int]:
        """Cycles of the thread that has most, and the channels of a task."""
        k = ceil_div(panels, pieces_k)
        pixels = block_p * block_q
        task = pixels * _staging(problem) * MOVED + k * (ceil_div(pixels, mr) * tile + streaming) + TASK_CYCLES
        return busiest(threads, images * ceil_div(Q, block_q) * ceil_div(panels, k), P, block_p) * task, k

    pieces = [pieces for pieces in dict.fromkeys((1, threads, 2 * threads, 4 * threads)) if pieces <= panels]
    cycles, k = min(cut(count) for count in pieces)
    return cycles, Settings(mr, nr, block_p, block_q, block_c, k * nr)


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """One for each tile, the fastest first."""
    blocks = sorted(_blocks(problem, mr, nr, machine, threads) for mr, nr in TILES[machine.tiles])
    return (settings for _, settings in blocks)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    mr, _, block_p, block_q, block_c, block_k = settings
    O, P, Q = spatial(problem)[1]
    K, lanes = problem.out_channels // problem.groups, machine.lanes(problem.dtype)
    block_c = channels_in_a_run(block_c, ceil_div(prod(problem.kernel_size), lanes))
    if block_q < Q:  # the pixels of a task are neighbours in the output
        block_p = 1
    pitch = _pitch(problem, block_c)
    pixels = min(block_p, P) * min(block_q, Q)
    _, _, workspace = _layout(pixels, pitch, block_k, mr, lanes)
    return Schedule.of(
        problem, workspace,
        tasks_g=problem.groups, tasks_o=O, tasks_p=ceil_div(P, block_p), tasks_q=ceil_div(Q, block_q),
        tasks_k=ceil_div(K, block_k),
        block_p=block_p, block_q=block_q, block_c=block_c, block_k=block_k, pitch=pitch,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nr, block_p, block_q, block_c, block_k = settings
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    O, P, Q = spatial(problem)[1]
    C, K = problem.group_channels
    images = problem.batch * problem.groups * O
    taps = prod(problem.kernel_size)
    blocks = images * ceil_div(P, block_p) * ceil_div(Q, block_q)
    tiles = blocks * ceil_div(block_p * block_q, mr) * ceil_div(K, nr)
    sums = tiles * ceil_div(C, block_c)
    staged = images * P * Q * ceil_div(K, block_k) * _staging(problem)
    return Work(
        share(threads, images, (P, block_p), (Q, block_q), (K, block_k)),
        fmas=tiles * ceil_div(C * taps, lanes) * mr * nr,
        tiles=sums,
        # Lanes are summed in registers, whatever loads cost.
        moved=sums * mr * nr * lanes / machine.load_fmas + images * P * Q * K + staged,
        streamed=blocks * K * C * taps * size,
        waited=from_l3(K * C * taps * size, blocks, machine),
        written=written_through(problem, machine, False),
    ).seconds(machine, threads, problem.dtype)


def _kernel_of(problem: ConvProblem, settings: Settings, machine: Machine) -> Dispatcher:
    lanes = machine.lanes(problem.dtype)
    copied = COPIED if problem.kernel_size[2] <= COPIED else lanes
    return _kernel(settings.mr, settings.nr, lanes, 0 if max(problem.kernel_size) == 1 else copied)


INNER = Algorithm(
    name="inner",
    summary="input channels in lanes: inner products of weights in place and of what pixels see",
    applicable=lambda problem: too_long(prod(problem.kernel_size)),
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
)
