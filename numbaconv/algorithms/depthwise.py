"""Depthwise convolution, pixels in lanes: one input channel per group, so no reduction over channels.

Also the classical image filter, a single-channel image under one kernel. Where masks cost nothing, nothing is staged:
the taps of neighbouring pixels are vectors of the input where it lies, and what lies outside the image is masked off.
With a column stride the vectors of a row are sorted by their columns' remainder in registers. Of a narrow image the
rows are loaded whole, and two channels of one still narrower share a vector. Elsewhere only what the edges of an image
see is masked (`depthwise_overlapped.py`), or blocks are staged with their padding (`depthwise_staged.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from numbaconv.algorithms.algorithm import STRETCH, Algorithm, Schedule, ends_stretch
from numbaconv.algorithms.depthwise_narrow import narrow_kernel
from numbaconv.algorithms.depthwise_overlapped import edges_size, outside, overlapped_kernel
from numbaconv.algorithms.depthwise_staged import staged_kernel
from numbaconv.algorithms.staging import STAGED_COLUMNS, STAGING, masks_are_dear, phases_block
from numbaconv.algorithms.streaming import behind_line, has_long_rows, is_large, mostly_lines, tile_writer
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cost import Work, share
from numbaconv.geometry import ceil_div, even_block, inputs_seen, locate, read, spatial
from numbaconv.machine import Machine
from numbaconv.padding import Pair
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.correlate import MOST_SPAN, MOST_SPLATS, MOST_STRIDE, correlate, shuffle_count, weights_order
from numbaconv.simd.tile import add, add_to_rows, clip, zeros
from numbaconv.simd.tile_memory import TO_WRITE, fence, prefetch_rows, store_part
from numbaconv.workspace import LINE

#: Tile shapes (mr, nv, parts): ``mr`` rows by ``nv`` vectors, which ``parts`` channels share if images are narrow.
#: Usual heights are multiples of 7.
TILES = {
    "avx512": ((7, 2, 1), (7, 1, 2), (7, 1, 1)),
    "neon": ((7, 2, 1), (7, 1, 1), (4, 2, 1), (4, 1, 1)),
    "avx2": ((4, 2, 1), (4, 1, 1), (7, 1, 1)),
}
#: Output columns of a block.
_MOST_COLUMNS = 8192
#: Outputs of a block.
_BLOCK_OUTPUTS = 65536
#: A task of fewer outputs than some 8 thousand is mostly the cost of being one. Staged, it sets the padding to zero,
#: too: 144 channels of 56 x 56 took 5 to 8 % less in tasks of 6 to 18 channels than of 3.
_LEAST_OUTPUTS, _LEAST_STAGED = 8192, 24576
#: Tiles before their own that pixels are asked for, if they come from beyond L2: at the end of every page a row would
#: wait for memory. It took 3 x 3 at 4000 x 4000 from 8.1 to 3.6 ms, and 64 images of 56 x 56 from 9.3 to 5.4.
_AHEAD = 4
#: Of narrow rows, or with a stride, more is asked for than is used, and the pixels have to be so many times L2: with 32
#: images of 28 x 28 and 64 channels it takes a quarter more while L3 is ours alone, and else a half to a quarter.
_FAR = 6
#: Where L3 is slow, input and output together have to be so large a part of L2, and rows longer than a tile: on Intel
#: Granite Rapids 64 channels of 56 x 56 take 3 % less, 96 14, and 144 30, and 96 of 112 x 112 with stride 2 12.
_NEARLY_L2 = 0.75
#: Staged, they are asked for an image ahead if they are so large a part of L3: with one thread of AMD Zen 3, 16 images
#: of 56 x 56 and 64 channels took a sixth less, but 96 of 112 x 112 with stride 2, 4.8 MB, would take a tenth more.
_STAGED_FAR = 4
#: Kernels of up to so many taps are unrolled whole; larger ones a row at a time, or a tap at a time.
_MOST_UNROLLED = 121
#: Rows of the image that those of a kernel that is unrolled whole may span, and those from one output row to the next:
#: code grows with both.
_MOST_ROWS, _MOST_ROW_STRIDE = 256, 64


class Settings(NamedTuple):
    """Tile of ``mr`` rows by ``nv`` vectors of ``parts`` channels each; blocks of groups, rows and columns.

    Pixels are asked for ``ahead`` tiles before their own, or not at all; where they are staged, an image ahead.
    """

    mr: int
    nv: int
    parts: int
    ahead: int
    block_g: int
    block_p: int
    block_q: int


@functools.cache
def _kernel(
    mr: int, nv: int, lanes: int, taps: Pair, unrolled: Pair, strides: Pair, dilations: Pair, ahead: int,
    short_rows: bool, past_caches: bool, by_rows: bool,
) -> Dispatcher:  # fmt: skip
    """The kernel for tiles of ``mr`` by ``nv``, that unrolls (rows, columns) of the kernel.

    Pixels are asked for ``ahead`` tiles before their own; and so are outputs of ``short_rows``: 64 images of 56 x 56
    took 5.0 ms before that, and 3.2 so. 1024 x 1024 took 0.18 ms, and would take 0.20. Outputs may be written
    ``past_caches``: at a call, if rows are whole vectors, and long or lines.

    With ``by_rows``, the rows of the kernel that are unrolled are a sum of their own, or several of them. Strides and
    dilations are (vertical, horizontal); dilations are ones where a single tap is unrolled.
    """
    nr = nv * lanes
    R, S = taps
    unrolled_r, unrolled_s = unrolled
    sh, sw = strides
    seen_rows, write = inputs_seen(mr, sh, R, dilations[0]), tile_writer(past_caches)

    def depthwise(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows and columns of some groups. ``x`` is NGDHW, ``w`` (G K)1TRS, ``y`` N(G K)OPQ.

        ``workspace`` is the row of zeros that stands for rows outside the image. A block's last tile of rows overlaps
        the one before; what a tile computes beyond its block is not stored.
        """
        g = read(geometry)
        K, T = g.K, g.T
        n, g_task, o, p_task, q_task, _ = locate(task, g)
        p0 = p_task * g.block_p
        q0 = q_task * g.block_q
        bp = min(g.block_p, g.P - p0)
        bq = min(g.block_q, g.Q - q0)
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        k_begin = g_task * g.block_g * K
        k_end = min(g.G * K, k_begin + g.block_g * K)
        workspace[:] = 0
        row_tiles = (bq + nr - 1) // nr
        # Of a narrow image in the caches the columns are outermost: what is masked off is then the same for many tiles.
        across = 1 if short_rows and ahead == 0 else row_tiles + 1
        # The first tile of a row ends where vectors of y are at multiples of their size, and the others begin there.
        whole = g.Q % lanes == 0 and (g.block_q % lanes == 0 or g.block_q >= g.Q)
        past = past_caches and whole and mostly_lines(y, min(g.Q, g.block_q), nr, lanes)
        ragged = -behind_line(y, 0, lanes, past) % lanes
        front = o * g.stride_d - g.pad_d
        for q_begin in range(0, bq, across * nr):
            for k in range(k_begin, k_end):
                group = k if K == 1 else k // K
                for p_tile in range(0, bp, mr):
                    p = max(0, min(p_tile, bp - mr))
                    for i in range(across):
                        q = q_begin + i * nr
                        columns = bq - q
                        if ragged > 0:
                            q -= nr - ragged if i > 0 else 0
                            columns = bq - q if i > 0 else min(bq, ragged)
                        if q >= bq:
                            break
                        acc = total = zeros(x, mr, nv, lanes)
                        weight = k * T * R * S
                        if ahead > 0:
                            tile = q // nr + ahead
                            down = tile // row_tiles
                            right = (tile - down * row_tiles) * nr
                            row = (p0 + p + down * mr) * sh - g.pad_h
                            later = (((n * g.G + group) * g.D + front) * g.H + row) * g.W + (q0 + right) * sw
                            for column in range(0, nr * sw, LINE // x.itemsize):
                                prefetch_rows(x, later + column, g.W, seen_rows, 1)
                            if short_rows and not past:
                                later = (((n * g.G * K + k) * g.O + o) * g.P + p0 + p + down * mr) * g.Q + q0 + right
                                for column in range(0, nr, LINE // x.itemsize):
                                    prefetch_rows(y, later + column, g.Q, mr, TO_WRITE)
                        for t in range(T):
                            depth = front + t * g.dilation_d
                            height = g.H if 0 <= depth < g.D else 0
                            plane = ((n * g.G + group) * g.D + depth) * g.H * g.W
                            for r in range(0, R, unrolled_r):
                                top = (p0 + p) * sh - g.pad_h + r * g.dilation_h
                                for s in range(0, S, unrolled_s):
                                    left = (q0 + q) * sw - g.pad_w + s * g.dilation_w
                                    start = plane + top * g.W + left
                                    window = (top, height, -left, g.W - left)
                                    acc = correlate(
                                        acc, w, weight, x, start, g.W, window, workspace, unrolled, strides, dilations
                                    )
                                    weight += unrolled_r * unrolled_s
                                    if by_rows and ends_stretch(s + unrolled_s, S, 1):
                                        total = add(total, acc)
                                        acc = zeros(x, mr, nv, lanes)
                        if by_rows:
                            acc = total
                        acc = clip(add_to_rows(acc, bias, k, 0), low, high)
                        at = ((k + n * g.G * K) * g.O + o) * g.P * g.Q + (p0 + p) * g.Q + q0 + q
                        if columns < nr or bp < mr:
                            store_part(acc, y, at, g.Q, 0, bp - p, columns)
                        else:
                            write(acc, y, at, g.Q, past)
        if past:
            fence()

    return jit(depthwise)


def _unrolled(problem: ConvProblem) -> tuple[Pair, Pair]:
    """Rows and columns of the kernel that are unrolled, and their dilations."""
    _, R, S = problem.kernel_size
    _, high, wide = problem.kernel_extent
    if R * S <= _MOST_UNROLLED and high <= _MOST_ROWS and wide <= MOST_SPAN:
        return (R, S), problem.dilation[1:]
    if S <= _MOST_UNROLLED and wide <= MOST_SPAN:
        return (1, S), (1, problem.dilation[2])
    return (1, 1), (1, 1)


def _is_unrolled(problem: ConvProblem) -> bool:
    """Whether a plane's kernel is unrolled whole."""
    return _unrolled(problem)[0] == problem.kernel_size[1:]


def _whole(problem: ConvProblem, nv: int, parts: int, lanes: int) -> int:
    """Columns, a power of two, that rows of the image are loaded whole in; or 0 if they are not.

    They are where vectors of 64 bytes have cheap masks and a shuffle of any two, and all outputs of a row are a vector.
    """
    (_, _, W), (_, _, Q) = spatial(problem)
    width = 1 << (max(W, lanes // parts) - 1).bit_length()
    fits = nv == 1 and Q <= lanes // parts and width <= 2 * lanes
    fits = fits and _is_unrolled(problem) and prod(problem.kernel_size) <= STRETCH
    return width if fits and not masks_are_dear(lanes, problem.dtype) else 0


def _overlapped(problem: ConvProblem, lanes: int) -> bool:
    """Whether rows are read in place though masks are dear: with AVX2, whose masked loads are an instruction.

    3 x 3 takes a fifth to a third less so than staged on AMD Zen 3, 5 x 5 a tenth to a third, 9 x 9 a twentieth, but
    1 x 31 a sixth more. Rows 4 KiB apart fall into one set of L1: 3 x 3 takes a sixth less to 4 % more of such; 5 x 5,
    which loads them again for each column of the kernel, a fifth more, and 9 x 9 nearly twice as long.
    """
    (T, R, S), sw = problem.kernel_size, problem.stride[2]
    one_plane = T == 1 and problem.padding[0] == (0, 0)
    together = problem.in_size[2] * ITEM_SIZE[problem.dtype] % 4096 == 0
    small = R * S <= MOST_SPLATS or (max(R, S) <= MOST_SPLATS and not together)
    short = spatial(problem)[1][2] <= _MOST_COLUMNS  # every tile of a row has masks
    fits = one_plane and small and short and _is_unrolled(problem)
    return lanes * ITEM_SIZE[problem.dtype] == 32 and fits and sw <= 2


def _kernel_of(problem: ConvProblem, settings: Settings, machine: Machine) -> Dispatcher:
    lanes = machine.lanes(problem.dtype)
    mr, nv, parts, ahead, *_ = settings
    strides = problem.stride[1:]
    width = _whole(problem, nv, parts, lanes)
    if width:
        pad = problem.padding[2][0]
        return narrow_kernel(mr, parts, lanes, problem.kernel_size, strides, problem.dilation[1:], width, pad, ahead)
    unrolled, dilations = _unrolled(problem)
    if _overlapped(problem, lanes):
        seen = outside(problem, mr, nv * lanes)
        return overlapped_kernel(mr, nv, lanes, problem.kernel_size[1:], strides, dilations, seen)
    by_rows = prod(problem.kernel_size) > STRETCH
    if masks_are_dear(lanes, problem.dtype):
        asks = ahead > 0 and problem.batch * problem.groups > 1  # there is a next image to ask for
        return staged_kernel(mr, nv, lanes, problem.kernel_size, unrolled, strides, dilations, asks, by_rows)
    Q = spatial(problem)[1][2]
    short_rows = Q <= 2 * nv * lanes
    past_caches = ahead > 0 and is_large(problem, machine) and (has_long_rows(Q, nv * lanes) or machine.slow_l3)
    return _kernel(
        mr, nv, lanes, problem.kernel_size[1:], unrolled, strides, dilations, ahead, short_rows, past_caches, by_rows
    )


def applicable(problem: ConvProblem) -> str | None:
    if problem.in_channels != problem.groups:
        per_group = problem.in_channels // problem.groups
        return f"it is for one input channel per group, and here there are {per_group}"
    _, sh, sw = problem.stride
    if sh > _MOST_ROW_STRIDE or sw > MOST_STRIDE:
        return (
            f"it is for strides of up to {_MOST_ROW_STRIDE} rows and {MOST_STRIDE} columns, and here are {sh} and {sw}"
        )
    return None


def _tiles(problem: ConvProblem, mr: int, nv: int, parts: int, lanes: int) -> int:
    """Tiles that there are in all."""
    (O, P, Q), images = spatial(problem)[1], problem.batch * ceil_div(problem.out_channels, parts)
    return images * O * ceil_div(P, mr) * ceil_div(Q, nv * lanes // parts)


def _tile_cost(problem: ConvProblem, mr: int, nv: int, parts: int, lanes: int) -> tuple[float, float]:
    """Vector FMAs of a tile, and what else it costs in units of them, from measurements on AMD Zen 5.

    In cycles a tile took half its FMAs, 1.5 for every shuffle (the loads are included), and 30 to begin and end: 138
    for 3 x 3 by 7 x 2, 283 with stride 2 and four shuffles for three taps, and 308 for 7 x 7 by 7 x 1. With rows loaded
    whole, 64 for 3 x 3, 90 for that of two channels, and 133 with stride 2; 141 for 5 x 5, and 200 with stride 2, where
    weights are loaded for each row.
    """
    (T, R, S), (_, sh, sw) = problem.kernel_size, problem.stride
    dh, dw = problem.dilation[1:]
    rows, order = min(inputs_seen(mr, sh, R, dh), mr * R), weights_order(R * S, sw)
    if masks_are_dear(lanes, problem.dtype):
        # On AMD Zen 3 a tile of 7 x 1 for 3 x 3 takes 66 cycles in place, and 110 with stride 2.
        sifted = sw > 1 and _overlapped(problem, lanes)
        return T * R * S * mr * nv, 2.0 * rows * S * nv if sifted else 0.0
    if _whole(problem, nv, parts, lanes):
        return T * R * S * mr, (2 if order == "by rows" else 1.5) * T * rows * S * parts
    if order == "by columns":
        return T * R * S * mr * nv, 1.1 * T * rows * S * nv
    shuffles = shuffle_count(S, sw, dw, lanes) * nv
    return T * R * S * mr * nv, 2.75 * T * rows * max(nv, shuffles)


def _staged_rows(problem: ConvProblem, block_q: int, machine: Machine) -> int:
    """Rows of a staged block, at most: half of L1 holds them, or what is staged twice is a sixteenth of them.

    96 channels of 112 x 112 with stride 2 took a fifth less in blocks of 14 rows than of all 56, with more channels in
    a task. And no more than a quarter of L2 holds: 3 x 3 over 4096 x 4096 takes 6 % more in blocks of 16 rows than
    of 32.
    """
    (T, R, _), (_, sh, sw), (_, dh, _) = problem.kernel_size, problem.stride, problem.dilation
    row = T * sh * sw * block_q * ITEM_SIZE[problem.dtype]
    twice = max(0, inputs_seen(1, sh, R, dh) - sh)
    return min(machine.l2 // 4 // row, max(machine.l1 // 2 // row, 16 * twice // sh))


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """One for each tile, the one with the least to do first."""
    O, P, Q = spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    _, R, S = problem.kernel_size
    # The weights of larger kernels with a stride are loaded for every row, in place; twice as many loads for two
    # channels cost more than a tile for each.
    many_loads = weights_order(R * S, problem.stride[2]) == "by rows"
    tiles = [
        tile for tile in TILES[machine.tiles] if tile[2] == 1 or (_whole(problem, *tile[1:], lanes) and not many_loads)
    ]

    def cost(tile: tuple[int, int, int]) -> float:
        return _tiles(problem, *tile, lanes) * (55 + sum(_tile_cost(problem, *tile, lanes)))

    pixels, written = (prod(shape) * ITEM_SIZE[problem.dtype] for shape in (problem.input_shape, problem.output_shape))
    for mr, nv, parts in sorted(tiles, key=cost):
        width = nv * lanes // parts
        wasteful = max(problem.stride) > 1 or Q <= 2 * width
        slow = machine.asks_near and Q > width and pixels + written >= machine.l2 * _NEARLY_L2
        ahead = _AHEAD if slow or pixels >= machine.l2 * (_FAR if wasteful else 1) else 0
        block_q = even_block(Q, _MOST_COLUMNS, width)
        most_rows, least = _BLOCK_OUTPUTS // block_q, _LEAST_OUTPUTS
        if _overlapped(problem, lanes):
            ahead = 0
        elif masks_are_dear(lanes, problem.dtype):
            ahead = _AHEAD if pixels >= machine.l3 // _STAGED_FAR else 0
            block_q = even_block(Q, STAGED_COLUMNS, nv * lanes)
            most_rows, least = _staged_rows(problem, block_q, machine), _LEAST_STAGED
        block_p = even_block(P, most_rows, mr)
        columns = problem.batch * problem.groups * O * ceil_div(Q, block_q)
        while columns * ceil_div(P, block_p) < 4 * threads and block_p > 2 * mr:
            block_p = ceil_div(ceil_div(block_p, 2), mr) * mr
        tasks = columns * ceil_div(P, block_p)
        outputs = block_p * block_q * problem.out_channels // problem.groups
        block_g = even_block(problem.groups, min(ceil_div(least, outputs), tasks // (4 * threads)))
        yield Settings(mr, nv, parts, ahead, block_g, block_p, block_q)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    mr, nv, parts, _, block_g, block_p, block_q = settings
    O, P, Q = spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    (_, unrolled_s), (_, dw) = _unrolled(problem)
    _, sh, sw = problem.stride
    width, pitch = _whole(problem, nv, parts, lanes), 0
    workspace = width or inputs_seen(nv * lanes, sw, unrolled_s, dw) + lanes + sw - 1
    # Columns of rows that are read whole, or by tiles that overlap, are not cut.
    tasks_p, tasks_q = ceil_div(P, block_p), 1 if width else ceil_div(Q, block_q)
    if _overlapped(problem, lanes):
        workspace = edges_size(problem, mr, nv, lanes)
        block_p = max(block_p, mr)
        tasks_p, tasks_q = max(1, P // block_p), 1
    elif masks_are_dear(lanes, problem.dtype):
        planes, pitch = phases_block(problem, block_p, block_q, lanes)
        # Of a block smaller than a tile, a tile sees what is beyond it.
        workspace = planes * pitch + mr * sh * sw * pitch + nv * lanes
    return Schedule.of(
        problem, workspace,
        tasks_g=ceil_div(problem.groups, block_g), tasks_o=O,
        tasks_p=tasks_p, tasks_q=tasks_q,
        block_g=block_g, block_p=block_p, block_q=block_q, pitch=pitch,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, parts, _, block_g, block_p, block_q = settings
    lanes = machine.lanes(problem.dtype)
    O, P, Q = spatial(problem)[1]
    tiles, staged = _tiles(problem, mr, nv, parts, lanes), 0.0
    if masks_are_dear(lanes, problem.dtype) and not _overlapped(problem, lanes):
        planes, pitch = phases_block(problem, block_p, block_q, lanes)
        blocks = problem.batch * problem.groups * O * ceil_div(P, block_p) * ceil_div(Q, block_q)
        staged = blocks * planes * ceil_div(pitch - lanes, lanes) * lanes
    return Work(
        share(threads, problem.batch * O, (P, block_p), (Q, block_q), (problem.groups, block_g)),
        fmas=tiles * sum(_tile_cost(problem, mr, nv, parts, lanes)),
        tiles=tiles,
        moved=STAGING * staged,
    ).seconds(machine, threads, problem.dtype)


DEPTHWISE = Algorithm(
    name="depthwise",
    summary="one input channel per group: pixels in lanes, input read in place or staged",
    applicable=applicable,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
)
