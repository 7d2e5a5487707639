"""im2col, pixels in lanes: a matrix product with the expanded input, of which one cache-sized block exists at a time.

Row k of the product is an output channel, column j a pixel of the flattened output (O, P, Q). A task expands blocks
of ``block_c`` channels into panels of ``nr`` pixels, and multiplies each while it is in L1 or L2. Weights are broadcast
from where they are, [K][C * T * R * S] being the row-major left matrix, so nothing is prepared; results are written
to NCHW rows as they are. Source: Chellapilla et al., "High Performance Convolutional Neural Networks for Document
Processing" (2006), for the expansion; Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(2008), for the blocking.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import gcd, prod
from typing import Any, NamedTuple

from numbaconv.algorithms.algorithm import MOST_SUMMED, Algorithm, Schedule, channels_in_a_run, too_long
from numbaconv.algorithms.im2col_few import (
    few_layout,
    few_multiplier,
    few_pixels,
    few_stager,
    few_staging,
    few_sums,
    few_vectors,
)
from numbaconv.algorithms.staging import SETS_BYTES, masks_are_dear, vectors_fill_lines
from numbaconv.algorithms.streaming import behind_line, may_stream, mostly_lines, tile_writer, written_through
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cost import Work, fed_by_l2, from_l3, lines_met, share, step_fmas
from numbaconv.geometry import (
    ceil_div,
    even_block,
    is_pointwise,
    locate,
    pixel_place,
    read,
    spatial,
    steps_inside,
    tiles_in_blocks,
)
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.tile import add, add_to_rows, clip, rank1, zeros
from numbaconv.simd.tile_memory import fence, load_columns, load_tile, prefetch_rows, store_part, store_tile
from numbaconv.simd.vec import get, load, load_between, put, store, store_first
from numbaconv.workspace import LINE

#: Tile shapes (mr, nv); tiles with few rows are for few output channels per group.
TILES = {
    "avx512": ((8, 3), (12, 2), (6, 4), (4, 6), (2, 8), (1, 8)),
    "neon": ((6, 4), (12, 2), (2, 8), (1, 8)),
    "avx2": ((6, 2), (4, 3), (2, 4), (1, 8)),
}
#: Rows of a panel, at most. They are better long than in L1. On AMD Zen 3 3 x 3 of 256 channels at 14 x 14 took 2.93 ms
#: in blocks of 26 channels, 2.71 of 52 and 2.61 of 128, and 1 x 1 of 1024 to 256 channels 1.23 ms in blocks of 256 and
#: 1.17 in one. On Intel Granite Rapids 3 x 3 of 512 channels at 7 x 7 took 1.32, 1.24 and 1.19 ms in blocks of 28, 64
#: and 128, and 1 x 1 of 512 to 2048 channels 588 us of 256 and 528 in one.
_PANEL_ROWS = {"avx512": MOST_SUMMED // 2, "neon": 256, "avx2": MOST_SUMMED // 2}
#: What each row of weights of a tile, a line of its own, adds to the tile's time where L2 does not feed it: with AVX2
#: 1 x 1 layers take 2 to 9 % more than `direct`'s, and tiles of 6 x 2 1 to 7 % more than of 4 x 3.
_WEIGHT_LINES = 0.01
#: And times as long as others it takes where these lines fall into the same sets of L1, 4 KiB apart: 1 x 1 of
#: 1024 to 512 channels at 14 x 14 took 12 % longer than foretold, and 512 to 256 at 28 x 28 3 %.
_SAME_SETS = 1.08
#: Vectors that take as long as one of a narrow tile whose pixels are masked, and elements moved as long as one row of
#: its panel. 14 x 14 pixels leave 4 over, and 384 to 64 channels took 6 % longer than foretold.
_MASKED, _MASKED_ROW = 1.25, 60
#: Channels ahead of which lines are asked for, since a panel's rows are a plane apart: 64 to 64 channels of 1 x 1 ran
#: at 83 % of the peak with 8, at 76 % with 32. Of each vector the line where it ends, as the one where it begins has
#: come with the panel before: 144 to 24 channels at 56 x 56, of an image that does not start at a line, took 181 us on
#: Intel Granite Rapids in tiles of 12 x 2 with these asked for, and 139 so.
_AHEAD = 8
#: Pixels of a task, at most, so that its input stays in L2.
_PIXELS = 512
#: Rows of a copied panel that are few, so that storing counts as much as multiplying; and how many planes tasks of such
#: panels write, how many in the same sets of L1: the line in which a panel's pixels end must stay there for the next.
#: With one thread of Intel Granite Rapids, of an output that does not start at a line, 16 to 96 channels at 112 x 112
#: took 509 us, in blocks of 48 555, of 32, 8 in the same sets, 331; 24 to 144 at 56 x 56 took 181, of 72 185, and of 48
#: 152. With two threads, 253 and 170, 85 and 76; and 32 to 192 at 28 x 28 48 and 33, as they meet in fewer lines.
_SHORT_PANEL, _PLANES, _PLANES_IN_SETS = 32, 64, 8


class Settings(NamedTuple):
    """Tile of ``mr`` output channels by ``nv`` vectors of pixels; blocks of pixels, input and output channels."""

    mr: int
    nv: int
    block_q: int
    block_c: int
    block_k: int


@functools.cache
def _panel_expander(lanes: int, nr: int) -> Dispatcher:
    def expand(
        x: Array, geometry: Array, start: int, channels: int, pixel: int, count: int, out: Array, to: int
    ) -> None:
        """Write ``out[to:]`` as [channels][T][R][S][nr]: what ``count`` output pixels from ``pixel`` on see.

        ``x[start:]`` holds the channels as [D][H][W]. Output pixels are taken as stretches within one output row,
        in ascending order, so that vectors may reach past their stretch: what follows is written later, or is a
        lane of no pixel. Reads the input's elements only, and of columns outside the image none.
        """
        g = read(geometry)
        plane = g.D * g.H * g.W
        channel_step = g.T * g.R * g.S * nr
        zero = x.dtype.type(0)
        column = 0
        while column < count:
            o, p, q = pixel_place(pixel + column, g)
            length = min(g.Q - q, count - column)
            target = to + column
            for t in range(g.T):
                depth = o * g.stride_d - g.pad_d + t * g.dilation_d
                for r in range(g.R):
                    row = p * g.stride_h - g.pad_h + r * g.dilation_h
                    width = g.W if 0 <= depth < g.D and 0 <= row < g.H else 0
                    left = q * g.stride_w - g.pad_w
                    for _ in range(g.S):
                        source = start + (depth * g.H + row) * g.W + left
                        if g.stride_w == 1:
                            for j in range(0, length, lanes):
                                whole = left + j >= 0 and left + j + lanes <= width
                                fits = column + j + lanes <= nr
                                for c in range(channels):
                                    prefetch_rows(x, source + (c + _AHEAD) * plane + j + lanes - 1, 0, 1, 1)
                                    if whole:
                                        pixels = load(x, source + c * plane + j, lanes)
                                    else:
                                        pixels = load_between(
                                            x, source + c * plane + j, -left - j, width - left - j, lanes
                                        )
                                    if fits:
                                        store(pixels, out, target + c * channel_step + j)
                                    else:
                                        store_first(pixels, out, target + c * channel_step + j, nr - column - j)
                        else:
                            first, end = steps_inside(left, g.stride_w, length, width)
                            for c in range(channels):
                                at = target + c * channel_step
                                for j in range(first):
                                    put(out, at + j, zero)
                                for j in range(first, end):
                                    put(out, at + j, get(x, source + c * plane + j * g.stride_w))
                                for j in range(end, length):
                                    put(out, at + j, zero)
                        target += nr
                        left += g.dilation_w
            column += length

    return jit(expand)


def _narrow(mr: int, nv: int) -> tuple[int, int]:
    """The tile for a panel of half as many pixels or fewer: so much narrower, and higher.

    14 x 14 pixels leave 4 over; on AMD Zen 3 1 x 1 layers of them take 4 to 10 % less so than in whole panels.
    """
    narrow = max(1, nv // 2)
    return mr * (nv // narrow), narrow


@functools.cache
def _finisher(mr: int, nv: int, lanes: int, streams: bool) -> Dispatcher:
    """The kernel piece that adds what is unfinished, bias and bounds, and stores."""
    nr = nv * lanes
    write = tile_writer(streams)

    def finish(
        acc: Any, y: Array, at: int, pixels: int, count: int, k: int, k_tile: int, k_end: int, begun: bool, done: bool,
        past: bool, bias: Array, channel: int, low: float, high: float,
    ) -> None:  # fmt: skip
        """Store the rows of channels ``k_tile`` to ``k_end - 1``, of a tile whose first is ``k``, to ``y[at:]``.

        A row has ``count`` pixels; sums that have begun are where they are stored.
        """
        if begun:
            if count == nr:
                acc = add(acc, load_tile(y, at, pixels, mr, nv, lanes))
            else:
                acc = add(acc, load_columns(y, at, pixels, count, mr, nv, lanes))
        if done:
            acc = clip(add_to_rows(acc, bias, channel, 1), low, high)
        if count == nr and k == k_tile and k + mr <= k_end:
            write(acc, y, at, pixels, past)
        else:
            store_part(acc, y, at, pixels, k_tile - k, k_end - k, count)

    return jit(finish, inline="always")


@functools.cache
def _asker(nv: int, lanes: int, asks: bool) -> Dispatcher:
    """The kernel piece that asks for the next panel, if its tiles do so."""

    def ask(x: Array, at: int, channel: int, due: int, tiles: int) -> int:
        """Of the channel that is ``due``, for the lines in which the vectors of ``x[at:]`` end; which is due next."""
        if asks and channel == due:
            prefetch_rows(x, at + lanes - 1, lanes, nv, 2)
            return due + tiles
        return due

    return jit(ask, inline="always")


@functools.cache
def _kernel(mr: int, nv: int, lanes: int, asks: bool, streams: bool) -> Dispatcher:
    nr = nv * lanes
    expand, finish = _panel_expander(lanes, nr), _finisher(mr, nv, lanes, streams)
    high_mr, narrow_nv = _narrow(mr, nv)
    finish_narrow = _finisher(high_mr, narrow_nv, lanes, streams)
    ask = _asker(nv, lanes, asks)
    stage_few, multiply_few = few_stager(lanes), few_multiplier(mr, lanes)
    finish_few = _finisher(mr, 1, lanes, streams)

    def im2col(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of pixels for a block of output channels.

        ``x`` is NCDHW, ``w`` KCTRS, ``y`` NKOPQ. ``workspace`` holds one panel, [block_c * T * R * S][nr]. Where C is
        cut, ``y`` holds the unfinished sums. The last tile of channels overlaps the one before, and stores the rows
        that are its own. Of a panel that is half empty or more, the tiles are narrow and high. Few pixels that are left
        over, those of the image by its last task, are staged behind the last whole panel, as
        [pixels][block_c * T * R * S], and computed with its tiles. Where planes are whole lines, blocks are moved to
        where lines of ``x`` or ``y`` begin, and the first has the pixels before them, too.
        """
        g = read(geometry)
        C, K = g.C, g.K
        taps = g.T * g.R * g.S
        n, group, _, _, q_task, k_task = locate(task, g)
        pixels = g.O * g.P * g.Q
        plane = g.D * g.H * g.W
        copied = pixels == plane and g.Q == plane and taps == 1 and g.stride_w == 1 and g.pad_d + g.pad_h + g.pad_w == 0
        past = streams and mostly_lines(y, pixels, nr, lanes)
        # A vector across two lines takes as long to load or store as two that are lines. So panels begin with lines of
        # the input or the output, the larger one, behind a narrow panel of what is before the first. With one thread of
        # Granite Rapids 64 to 256 channels at 56 x 56, of arrays 16 bytes behind a line, take 9 % less so, 16 to 96 at
        # 112 x 112 15, 144 to 24 at 56 x 56 3, and 192 to 32 at 28 x 28 2; with two threads 9, 17, 6 and 9.
        in_lines = pixels % lanes == 0 and lanes * x.itemsize == LINE
        by_lines = copied and in_lines and K >= high_mr and not past
        behind = behind_line(y, 0, lanes, past or (by_lines and K > C)) + behind_line(x, 0, lanes, by_lines and K <= C)
        before = lanes - behind if behind > 0 else 0
        begin = q_task * g.block_q // lanes * lanes + before
        end = pixels if q_task == g.tasks_q - 1 else (q_task + 1) * g.block_q // lanes * lanes + before
        k_begin = k_task * g.block_k
        k_end = min(K, k_begin + g.block_k)
        row_tiles = (k_end - k_begin + mr - 1) // mr
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        # A row of pixels of which each sees itself needs no expansion: its panel is copied while the first tile runs.
        # Where L3 is slow all tiles of a panel ask for the next one, into L2, each for some channels. With one thread
        # of Intel Granite Rapids 256 to 64 channels at 56 x 56 take 6 % less so, as much as 20 where other data had the
        # caches before, 144 to 24 2 to 7, and images that L2 holds the same.
        few = 0 if in_lines else few_pixels(end - begin, (end - 1) % (g.P * g.Q) + 1, mr, nr, lanes)
        staged, pitch, sums, _ = few_layout(min(C, g.block_c) * taps, mr, nr, lanes)
        for c in range(0, C, g.block_c):
            bc = min(g.block_c, C - c)
            begun, done = c > 0, c + bc == C
            channels = ((n * g.G + group) * C + c) * plane
            for panel in range(begin - nr if q_task == 0 and before > 0 else begin, end - few, nr):
                pixel = max(0, panel)
                count = min(nr + panel, end - few) - pixel
                is_last = few > 0 and panel + nr + few == end
                if is_last:
                    stage_few(x, geometry, channels, bc, end - few, few, copied, workspace, staged, pitch)
                expanded = not copied or count < nr
                if expanded:
                    expand(x, geometry, channels, bc, pixel, count, workspace, 0)
                if nv > narrow_nv and count <= narrow_nv * lanes and K >= high_mr:
                    for k_tile in range(k_begin, k_end, high_mr):
                        k = min(k_tile, K - high_mr)
                        weight = (group * K + k) * C * taps + c * taps
                        acc = zeros(x, high_mr, narrow_nv, lanes)
                        for i in range(bc * taps):
                            acc = rank1(acc, w, weight + i, C * taps, workspace, i * nr)
                        at = ((n * g.G + group) * K + k) * pixels + pixel
                        finish_narrow(acc, y, at, pixels, count, k, k_tile, k_end, begun, done,
                                      past, bias, group * K + k, low, high)  # fmt: skip
                    continue
                for k_tile in range(k_begin, k_end, mr):
                    k = min(k_tile, K - mr)
                    weight = (group * K + k) * C * taps + c * taps
                    due, after = (k_tile - k_begin) // mr if copied else -1, channels + panel + nr
                    acc = zeros(x, mr, nv, lanes)
                    if expanded:
                        for i in range(bc * taps):
                            due = ask(x, after + i * plane, i, due, row_tiles)
                            acc = rank1(acc, w, weight + i, C * taps, workspace, i * nr)
                    else:
                        expanded = True
                        for i in range(bc):
                            due = ask(x, after + i * plane, i, due, row_tiles)
                            row = channels + i * plane + pixel
                            prefetch_rows(x, row + _AHEAD * plane + lanes - 1, lanes, nv, 1)
                            store_tile(load_tile(x, row, 0, 1, nv, lanes), workspace, i * nr, 0)
                            acc = rank1(acc, w, weight + i, C, workspace, i * nr)
                    at = ((n * g.G + group) * K + k) * pixels + pixel
                    finish(acc, y, at, pixels, count, k, k_tile, k_end, begun, done, past,
                           bias, group * K + k, low, high)  # fmt: skip
                    if is_last:
                        multiply_few(workspace, staged, pitch, few, w, weight, C * taps, bc * taps, sums)
                        finish_few(load_tile(workspace, sums, lanes, mr, 1, lanes), y, at + nr, pixels, few, k, k_tile,
                                   k_end, begun, done, past, bias, group * K + k, low, high)  # fmt: skip

        if streams:
            fence()

    return jit(im2col)


def _blocks(problem: ConvProblem, mr: int, nv: int, machine: Machine, threads: int) -> Settings:
    """A long panel, some panels a task, and eight tasks a thread if there are pixels enough, or else four.

    With four, of which the last was short, 64 to 256 channels at 56 x 56 took 246 us with 2 threads, and 230 so. Of
    blocks of pixels down to half as long, those that leave no thread with more than another: with 2 threads of AMD
    Zen 3 28 x 28 pixels take 3 to 6 % less in blocks of 48, the last of which has 16, than of 72. Of short panels,
    whose channels are cut anyway, there are two tasks a thread. Where panels are expanded, each block of channels does
    so anew: 3 x 3 of 512 at 7 x 7, a single panel, takes 1.05 ms by two threads of Intel Granite Rapids with four
    blocks for each, and 0.76 with one.
    """
    (_, K), pointwise = problem.group_channels, is_pointwise(problem)
    nr = nv * machine.lanes(problem.dtype)
    pixels, _ = _pixels(problem, mr, nv, machine)
    most = _most_planes(problem, mr, nv, machine)
    images = problem.batch * problem.groups * ceil_div(K, most)
    fine, wanted = (1, 1) if threads == 1 else (threads * (8 if most == K else 2), threads * (4 if pointwise else 1))
    longest = even_block(pixels, min(_PIXELS, ceil_div(pixels * images, fine)), nr)
    lengths = [longest] if threads == 1 else [longest, *range(ceil_div(longest, 2 * nr) * nr, longest, nr)]
    block_q = min(lengths, key=lambda length: (round(share(threads, images, (pixels, length)), 3), -length))
    tasks = images * ceil_div(pixels, block_q)
    block_k = min(K, ceil_div(ceil_div(most, mr), ceil_div(wanted, max(1, tasks))) * mr)
    return Settings(mr, nv, block_q, _block_c(problem, nr, machine, threads), block_k)


def _by_channels(problem: ConvProblem, mr: int, nv: int, machine: Machine, threads: int) -> Settings:
    """All pixels, for two blocks of channels a thread: threads meet in fewer lines of the output.

    Of a single panel, for one: two threads take 31 us for 576 to 160 channels at 7 x 7 in four blocks, and 29 in two.
    """
    _, K = problem.group_channels
    nr = nv * machine.lanes(problem.dtype)
    pixels, _ = _pixels(problem, mr, nv, machine)
    pieces = threads if pixels <= nr else 2 * threads
    block_k = min(_most_planes(problem, mr, nv, machine), ceil_div(ceil_div(K, mr), pieces) * mr)
    block_q = even_block(pixels, _PIXELS, nr)
    return Settings(mr, nv, block_q, _block_c(problem, nr, machine, threads), block_k)


def _block_c(problem: ConvProblem, nr: int, machine: Machine, threads: int) -> int:
    """Channels of a long panel, but no longer than the workspaces may be, or some 250 rows."""
    allowed = problem.workspace_limit // threads // (2 * nr * ITEM_SIZE[problem.dtype])
    rows = min(_PANEL_ROWS[machine.tiles], max(256, allowed))
    return even_block(problem.in_channels // problem.groups, rows // prod(problem.kernel_size))


def _may_stream(problem: ConvProblem, settings: Settings, machine: Machine) -> bool:
    """Whether the output may be written past the caches: where it holds no unfinished sums."""
    C, _ = problem.group_channels
    finished = channels_in_a_run(settings.block_c, prod(problem.kernel_size)) >= C
    return finished and _planes_stream(problem, settings.nv, machine)


def _planes_stream(problem: ConvProblem, nv: int, machine: Machine) -> bool:
    return may_stream(problem, machine, prod(spatial(problem)[1]), nv * machine.lanes(problem.dtype))


def _most_planes(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> int:
    """Planes of the output that one task writes, at most."""
    C, K = problem.group_channels
    few = machine.tiles == "avx512" and is_pointwise(problem) and C <= _SHORT_PANEL
    if not few or _planes_stream(problem, nv, machine):
        return K
    plane = prod(spatial(problem)[1]) * ITEM_SIZE[problem.dtype]
    most = min(_PLANES, SETS_BYTES // gcd(plane, SETS_BYTES) * _PLANES_IN_SETS)
    return K if most >= K else max(mr, even_block(K, most) // mr * mr)


def _pixels(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> tuple[int, int]:
    """Pixels of an image that are computed in panels, and those that are left over, if they are few."""
    lanes = machine.lanes(problem.dtype)
    O, P, Q = spatial(problem)[1]
    few = few_pixels(O * P * Q, P * Q, mr, nv * lanes, lanes)
    return O * P * Q - few, few


def _panels(problem: ConvProblem, pixels: int, mr: int, nv: int, machine: Machine) -> tuple[int, float]:
    """Panels of so many pixels, and the vectors that these are computed in, or as many as take as long."""
    lanes = machine.lanes(problem.dtype)
    high_mr, narrow = _narrow(mr, nv)
    panels, rest = divmod(pixels, nv * lanes)
    if 0 < rest <= narrow * lanes and high_mr <= problem.out_channels // problem.groups:
        return panels + 1, panels * nv + narrow * (_MASKED if masks_are_dear(lanes, problem.dtype) else 1.0)
    panels += rest > 0
    return panels, panels * nv


def _tile_cost(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> float:
    """Vector FMAs that take as long as a step of a tile, with the loading of its weights."""
    fmas = step_fmas(mr, nv, machine)
    if fed_by_l2(mr, nv, machine):
        return fmas
    row_bytes = prod(problem.weight_shape[1:]) * ITEM_SIZE[problem.dtype]
    return fmas * (1 + _WEIGHT_LINES * mr) * (_SAME_SETS if row_bytes % SETS_BYTES == 0 else 1.0)


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """One for each tile with no more rows than a group has output channels, fewest idle rows and pixels first."""
    K, lanes = problem.out_channels // problem.groups, machine.lanes(problem.dtype)
    tiles = [(mr, nv) for mr, nv in TILES[machine.tiles] if mr <= K]

    def work(tile: tuple[int, int]) -> float:
        mr, nv = tile
        pixels, few = _pixels(problem, mr, nv, machine)
        _, vectors = _panels(problem, pixels, mr, nv, machine)
        # Tiles of one or two rows spend half their time on loads.
        return ceil_div(K, mr) * mr * (vectors + few_vectors(few, mr, lanes, machine)) * (1 if mr >= 4 else 2)

    # Where each thread has images of its own they share neither; what is no copy is expanded anew for each block.
    shared = threads > 1 and problem.batch * problem.groups % threads > 0 and is_pointwise(problem)
    for mr, nv in sorted(tiles, key=work):
        ways = [cut(problem, mr, nv, machine, threads) for cut in (_blocks, _by_channels)[: 2 if shared else 1]]
        yield min(ways, key=lambda settings: estimate(problem, settings, machine, threads))


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    mr, nv, block_q, block_c, block_k = settings
    C, K = problem.group_channels
    block_c, lanes = channels_in_a_run(block_c, prod(problem.kernel_size)), machine.lanes(problem.dtype)
    pixels, _ = _pixels(problem, mr, nv, machine)
    *_, workspace = few_layout(min(block_c, C) * prod(problem.kernel_size), mr, nv * lanes, lanes)
    return Schedule.of(
        problem, workspace,
        tasks_g=problem.groups, tasks_q=ceil_div(pixels, block_q), tasks_k=ceil_div(K, block_k),
        block_q=block_q, block_c=block_c, block_k=block_k,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, block_q, block_c, block_k = settings
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    out_size = spatial(problem)[1]
    C, K = problem.group_channels
    pixels, few = _pixels(problem, mr, nv, machine)
    taps = prod(problem.kernel_size)
    kc = C * taps
    nr = nv * lanes
    images = problem.batch * problem.groups
    blocks, rest = divmod(pixels, block_q)
    whole, last = (_panels(problem, length, mr, nv, machine) for length in (block_q, rest))
    panels, vectors = (images * (blocks * n + n_last) for n, n_last in zip(whole, last, strict=True))
    vectors += images * few_vectors(few, mr, lanes, machine)
    row_tiles = tiles_in_blocks(K, block_k, mr)
    tiles = panels * row_tiles
    c_blocks = ceil_div(C, block_c)
    tasks_k = ceil_div(K, block_k)
    # A stretch of pixels narrower than a vector costs as much as a whole one.
    expanded = panels * tasks_k * kc * nr * ceil_div(out_size[2], lanes) * lanes / out_size[2]
    # Vectors that are lines are loaded and stored in half the time, and threads meet in none.
    in_lines = vectors_fill_lines(lanes, problem.dtype) and (pixels + few) % lanes == 0
    by_lines = is_pointwise(problem) and in_lines and _narrow(mr, nv)[0] <= K
    if is_pointwise(problem):
        expanded /= 6 if by_lines else 3
    unit = problem.stride[2] == 1
    if unit and pixels % lanes and masks_are_dear(lanes, problem.dtype):
        expanded += images * tasks_k * kc * _MASKED_ROW
    expanded += images * tasks_k * kc * few_staging(few, is_pointwise(problem), lanes)
    stretches = panels * tasks_k * c_blocks * taps * (1 + nr / out_size[2])
    # A panel that L1 does not hold is loaded from L2: 256 to 64 channels of float64 at 56 x 56 took 672 us in tiles of
    # 2 by 8 vectors, and 469 in tiles of 8 by 3.
    reloaded = 0.6 if min(block_c, C) * taps * nr * size > machine.l1 else 0.25
    return Work(
        share(threads, images, (pixels, block_q), (K, block_k)),
        fmas=vectors / nv * row_tiles * kc * _tile_cost(problem, mr, nv, machine),
        tiles=(tiles + images * row_tiles * few_sums(few, mr)) * c_blocks + stretches,
        moved=tiles * mr * nr * (2 * c_blocks - 1) / (4 if by_lines else 2) + (expanded if unit else 0),
        scattered=0 if unit else expanded,
        streamed=tiles * kc * (mr + nr * reloaded) * size,
        # A task's part L2 may hold, but not until the next call; nor is it asked for ahead, as in `direct`: with two
        # threads 512 to 2048 channels at 7 x 7 take 294 us, and 270 were foretold.
        waited=1.5 * from_l3(K * kc * size, panels, machine),
        met=0 if by_lines else lines_met(threads, ceil_div(pixels, block_q), images * tasks_k, min(block_k, K)),
        written=written_through(problem, machine, _may_stream(problem, settings, machine)),
    ).seconds(machine, threads, problem.dtype)


def _kernel_of(problem: ConvProblem, settings: Settings, machine: Machine) -> Dispatcher:
    asks = machine.asks_near and not machine.few_loads
    return _kernel(
        settings.mr, settings.nv, machine.lanes(problem.dtype), asks, _may_stream(problem, settings, machine)
    )


IM2COL = Algorithm(
    name="im2col",
    summary="pixels in lanes, input expanded one cache-sized block at a time, weights in place",
    applicable=lambda problem: too_long(prod(problem.kernel_size)),
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
)
