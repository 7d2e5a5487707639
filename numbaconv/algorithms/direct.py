"""Direct convolution, output channels in lanes: nothing is expanded, every tap is an address step.

A task stages its block of input rows once, channels-last and with the padding in it. A register tile is ``mr``
neighbouring pixels of an output row by ``nv`` vectors of output channels: the pixels' values are broadcast from the
staged block at a distance of one pixel times the stride, the weights are vectors from packed panels. So stride,
dilation and padding cost nothing in the inner loop. Source: the ideas of Georganas et al., "Anatomy of
High-Performance Deep Learning Convolutions on SIMD Architectures" (SC 2018).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

from numbaconv.algorithms.ahead import Asks, asked_share, asker, asks_of, multiplier
from numbaconv.algorithms.algorithm import MOST_SUMMED, Algorithm, Packing, Schedule, channels_in_a_run, ends_stretch
from numbaconv.algorithms.packing import panel_packing
from numbaconv.algorithms.staging import (
    COLLIDING,
    channels_last_stager,
    masks_are_dear,
    pitch_apart,
    planes_collide,
    vectors_fill_lines,
)
from numbaconv.algorithms.streaming import written_through
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cost import (
    MOVED,
    STREAM_BYTES,
    TASK_CYCLES,
    TILE_OVERHEAD,
    Work,
    busiest,
    fed_by_l2,
    from_l3,
    lines_met,
    share,
    step_fmas,
    tile_rate,
)
from numbaconv.geometry import (
    ceil_div,
    channels_as_depth,
    even_block,
    inputs_seen,
    is_pointwise,
    locate,
    read,
    spatial,
    steps_inside,
    tiles_in_blocks,
)
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.tile import add, add_to_columns, clip, rank1, rank1_rows, zeros
from numbaconv.simd.tile_memory import TO_WRITE, load_tile, prefetch_rows, store_tile, store_transposed

#: Tile shapes (mr, nv): mr * nv accumulators, nv weights and a broadcast value fit the registers, and whatever the
#: length of a row, few of its pixels are left over. 7 x 4 has 33 live registers and loses 15 % to spills; for some
#: AArch64 cores LLVM spills 14 x 2 and 8 x 3.
TILES = {
    "avx512": ((14, 2), (13, 2), (12, 2), (11, 2), (10, 2), (9, 3), (8, 3), (9, 2), (7, 2)),
    "neon": ((7, 3), (7, 2), (12, 2), (11, 2), (10, 2), (9, 2)),
    "avx2": ((6, 2), (4, 3), (5, 2)),
}
#: Those whose loop LLVM unrolls by two on AVX2. What is left of an odd run waits for spilled addresses, so that
#: they are for pixels in place alone, which are one run: 3 to 32 channels at 224 x 224 with stride 2 took 2.7 ms by
#: (5, 2), and 0.6 by (6, 2).
_LONG_RUNS_ONLY = ((5, 2),)
#: Of these, as many as are worth measuring.
_MOST_CANDIDATES = 3
#: Times as long as staged ones that products of pixels in place take where a tile's are parts of lines: on AMD Zen 3
#: 4 to 10 % longer than foretold, and those of `strassen` and `im2col` 5 % less to 3 % more.
_PARTS_OF_LINES = 1.05
#: And elements moved for each that is read there: 256 to 64 channels at 56 x 56 took 7 % longer than without, by which
#: it was chosen before `im2col`.
_READ = 0.5
#: Panels for which it does not matter whether a staged block stays in L2.
_FEW_PANELS = 4
#: An input that is larger than most L2 caches.
_LARGE_BYTES = 2 << 20


class Settings(NamedTuple):
    """Tile of ``mr`` pixels by ``nv`` vectors; blocks of rows, columns, input channels and panels of channels."""

    mr: int
    nv: int
    block_p: int
    block_q: int
    block_c: int
    block_k: int


class _Staged(NamedTuple):
    """The staged block: one input plane of it is [rows][columns][pitch]."""

    rows: int
    columns: int
    pitch: int


def _seen(problem: ConvProblem, machine: Machine) -> ConvProblem:
    """The problem as the kernel sees it: fewer channels than lanes are staged as planes, which is a copy of rows.

    With vectors of 64 bytes, that is; on AMD Zen 3 it takes 4 to 30 % more than to stage them one by one.
    """
    lanes = machine.lanes(problem.dtype)
    few = 1 < problem.in_channels // problem.groups < lanes and not masks_are_dear(lanes, problem.dtype)
    return channels_as_depth(problem) if few and problem.axes < 3 and max(problem.kernel_size) > 1 else problem


def _staged(problem: ConvProblem, block_p: int, block_q: int) -> _Staged:
    (_, R, S), (_, sh, sw), (_, dh, dw) = problem.kernel_size, problem.stride, problem.dilation
    rows = block_p if R == 1 else inputs_seen(block_p, sh, R, dh)
    columns = block_q if S == 1 else inputs_seen(block_q, sw, S, dw)
    return _Staged(rows, columns, _pitch(problem))


def _staged_pixels(problem: ConvProblem, block_p: int, block_q: int, lanes: int) -> float:
    """Pixels that staging a block costs: rows are transposed in whole vectors, and every other column costs two."""
    rows, columns, _ = _staged(problem, block_p, block_q)
    step = problem.stride[2] if problem.kernel_size[2] == 1 else 1
    return problem.kernel_size[0] * rows * ceil_div(columns, lanes) * lanes * step


def _pitch(problem: ConvProblem) -> int:
    """Elements from one staged pixel to the next."""
    return pitch_apart(problem.in_channels // problem.groups, ITEM_SIZE[problem.dtype])


def _in_place(problem: ConvProblem, mr: int) -> bool:
    """Whether pixels are broadcast from the input where it lies: those of a pointwise problem, a row for each channel.

    Not of images smaller than a tile, which would reach beyond, nor of those whose channels would meet in a few sets of
    the caches: 256 to 64 of float64 at 56 x 56, where 32 channels share a set, are better staged. In float32, reading
    them in place takes 13 % off, and 14 % off 384 to 64 channels at 14 x 14.
    """
    Q = spatial(problem)[1][2]
    return is_pointwise(problem) and Q >= mr and Q * ITEM_SIZE[problem.dtype] % 512 != 0


def _ahead(problem: ConvProblem) -> bool:
    """Whether pixels read in place are asked for ahead: those of an input that L2 does not hold.

    256 to 64 channels at 56 x 56 take 15 to 20 % less so with 8 images, and nothing less with one; 512 channels at
    7 x 7 would take 2 % more.
    """
    return prod(problem.input_shape) * ITEM_SIZE[problem.dtype] >= _LARGE_BYTES


def _asks_to_write(problem: ConvProblem) -> bool:
    """Whether the lines of a tile's outputs are asked for before its products, when there are many.

    64 images of 28 x 28 from 64 to 128 channels took 4.6 ms without, and 4.25 so; a single one of 56 x 56 from 64 to
    256 channels, 3 MiB, 0.45 and 0.47.
    """
    return prod(problem.output_shape) * ITEM_SIZE[problem.dtype] >= 4 * _LARGE_BYTES


@shared
def _whole_rows(dilation: int, S: int, C: int, block_c: int, pitch: int) -> bool:
    """Whether the taps of a kernel's row are one run of S * C values: undilated, channels neither cut nor padded.

    And no more values than are summed in one run.
    """
    return dilation == 1 and block_c == C and pitch == C and S * C <= MOST_SUMMED


@functools.cache
def _kernel(
    mr: int, nv: int, lanes: int, in_place: bool, asks: Asks, ahead: bool, asks_to_write: bool, by_rows: bool
) -> Dispatcher:
    stage = channels_last_stager(lanes)
    nr = nv * lanes
    last = mr - 1
    multiply = multiplier(mr, nr, 2, asks)
    ask = asker(nr, lanes, asks)

    def direct(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows and columns for some panels of output channels.

        ``x`` is NCDHW, ``y`` NKOPQ; ``w`` is [G][panels][C blocks][T][R][S][block_c][nr] (``packing``). In
        ``workspace`` the staged block [T][rows][columns][pitch] comes first, and behind it, where C is cut, the
        block's unfinished tiles. A row's last tile overlaps the one before, so that it is a whole one; tiles of rows
        shorter than ``mr`` broadcast the workspace's slack and do not store it. With ``in_place`` nothing is staged,
        ``x`` is read as [N][C][Q], and the tile of a block shorter than ``mr`` sees pixels of the block before; with
        ``asks.near``, lines of the next channels are asked for, with ``ahead`` pixels two tiles further on, and with
        ``asks_to_write`` outputs before their products. The tiles of a block are passes over its weights. With
        ``by_rows`` each row of the kernel is a sum of its own, or several of them.
        """
        g = read(geometry)
        C, K, T, R, S = g.C, g.K, g.T, g.R, g.S
        n, group, o, p_task, q_task, k_task = locate(task, g)
        p0 = p_task * g.block_p
        q0 = q_task * g.block_q
        bp = min(g.block_p, g.P - p0)
        bq = min(g.block_q, g.Q - q0)

        # With a single kernel row (or column) only the rows (columns) that are used are staged.
        row_step = 1 if R == 1 else g.stride_h
        column_step = 1 if S == 1 else g.stride_w
        rows = inputs_seen(bp, row_step, R, g.dilation_h)
        columns = inputs_seen(bq, column_step, S, g.dilation_w)
        pitch = g.pitch
        for t in range(0 if in_place else T):
            depth = o * g.stride_d - g.pad_d + t * g.dilation_d
            start = ((n * g.G + group) * C * g.D + depth) * g.H * g.W
            height = g.H if 0 <= depth < g.D else 0
            stage(
                x, g.D * g.H * g.W, start, height, g.W, p0 * g.stride_h - g.pad_h, g.stride_h // row_step,
                q0 * g.stride_w - g.pad_w, g.stride_w // column_step, C, pitch, rows, columns,
                workspace, t * rows * columns * pitch,
            )  # fmt: skip
        unfinished = 0 if in_place else (T * rows * columns + mr * column_step) * pitch

        whole_rows = _whole_rows(g.dilation_w, S, C, g.block_c, pitch)
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
                asked = block_weights + T * R * S * bc * nr
                end = asked + T * R * S * bc * nr
                passes = bp * ((bq + mr - 1) // mr)
                for p in range(bp):
                    # Rows of the kernel that see padding only are left out: a tenth of 3 x 3 over 7 rows.
                    r_begin, r_end = steps_inside((p0 + p) * g.stride_h - g.pad_h, g.dilation_h, R, g.H)
                    for q_tile in range(0, bq, mr):
                        q = max(-q0 if in_place else 0, min(q_tile, bq - mr))
                        acc = total = zeros(x, mr, nv, lanes)
                        each = asked_share(nr, passes, asked, end)
                        channel = (n * g.G + group) * K + k
                        at = ((channel * g.O + o) * g.P + p0 + p) * g.Q + q0 + q
                        if asks_to_write:
                            prefetch_rows(y, at, g.O * g.P * g.Q, nr, TO_WRITE)
                        if in_place:
                            pixel = ((n * g.G + group) * C + c) * g.Q + q0 + q
                            for i in range(bc):
                                ask(w, asked + i * each)
                                acc = multiply(acc, x, pixel + i * g.Q, 1, g.Q, w, block_weights + i * nr)
                                if ahead:
                                    prefetch_rows(x, pixel + i * g.Q + 2 * mr, 0, 1, 1)
                            asked += bc * each
                        for t in range(0 if in_place else T):
                            for r in range(r_begin, r_end):
                                weight = block_weights + (t * R + r) * S * bc * nr
                                row = (t * rows + p * row_step + r * g.dilation_h) * columns + q * column_step
                                for s in range(taps):
                                    pixel = (row + s * g.dilation_w) * pitch + c
                                    # So is a row's first pixel, or its last, where a tap's channels are a run of
                                    # their own and it sees padding: 3 x 3 over 7 pixels takes 10 % less.
                                    column = (q0 + q) * g.stride_w - g.pad_w + s * g.dilation_w
                                    if taps > 1 and column < 0:
                                        for i in range(run):
                                            ask(w, asked + i * each)
                                            acc = rank1_rows(acc, workspace, pixel + i, step, w, weight, 1, mr)
                                            weight += nr
                                    elif taps > 1 and column + last * g.stride_w >= g.W:
                                        for i in range(run):
                                            ask(w, asked + i * each)
                                            acc = rank1_rows(acc, workspace, pixel + i, step, w, weight, 0, last)
                                            weight += nr
                                    else:
                                        for i in range(run):
                                            ask(w, asked + i * each)
                                            acc = rank1(acc, workspace, pixel + i, step, w, weight)
                                            weight += nr
                                    asked += run * each
                                    if by_rows and ends_stretch(s + 1, taps, run):
                                        total = add(total, acc)
                                        acc = zeros(x, mr, nv, lanes)
                        if by_rows:
                            acc = total
                        if c > 0:
                            acc = add(acc, load_tile(workspace, scratch, nr, mr, nv, lanes))
                        if c + bc < C:
                            store_tile(acc, workspace, scratch, nr)
                        else:
                            acc = clip(add_to_columns(acc, bias, group * K + k, K - k), low, high)
                            store_transposed(acc, y, at, g.O * g.P * g.Q, -q, bq - q, K - k)
                        scratch += mr * nr

    return jit(direct)


def _step_fmas(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> float:
    in_place = _in_place(problem, mr)
    longer = COLLIDING if in_place and planes_collide(problem, machine) else 1.0
    return longer * step_fmas(mr, nv, machine, asks=in_place)


def _cycles(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> float:
    """Cycles of a register tile from zeros to the output."""
    kc = problem.in_channels // problem.groups * prod(problem.kernel_size)
    return kc * _step_fmas(problem, mr, nv, machine) / tile_rate(machine) + TILE_OVERHEAD


def _blocks(problem: ConvProblem, mr: int, nv: int, machine: Machine, threads: int) -> tuple[float, Settings]:
    """Blocks that keep a panel of weights in L2, cut so that threads finish together; and the cycles that they take."""
    size = ITEM_SIZE[problem.dtype]
    C, K = problem.group_channels
    O, P, Q = spatial(problem)[1]
    lanes = machine.lanes(problem.dtype)
    nr = nv * lanes
    panels = ceil_div(K, nr)
    # Where L2 does not feed a tile, the panel stays in L1: on AMD Zen 3 512 to 2048 channels at 7 x 7 took 1.65 ms, and
    # 1.17 so. Staged pixels are longer in a line.
    in_place = _in_place(problem, mr)
    in_l2 = fed_by_l2(mr, nv, machine) or not in_place
    panel_rows = min((machine.l2 if in_l2 else machine.l1) // 4 // (nr * size), MOST_SUMMED // 2)
    block_c = even_block(C, panel_rows // prod(problem.kernel_size), lanes)
    # 16 tiles of pixels use a panel of weights between two loads of it from L2 or L3. In place they may fill L2: on AMD
    # Zen 3 2048 to 512 channels at 7 x 7 took 1.28 ms in two blocks, each of which loads all weights, and 1.18 in one.
    pixel_bytes = problem.kernel_size[0] * _pitch(problem) * size
    most = max(mr, min(16 * mr, (machine.l2 if in_place else machine.l2 * 3 // 4) // pixel_bytes))
    block_q = even_block(Q, most, mr)
    panel_bytes = C * prod(problem.kernel_size) * nr * size

    def staged_bytes(block_p: int) -> int:
        return prod(_staged(problem, block_p, block_q)[:2]) * pixel_bytes

    # Each pixel is read once for a panel, so that a staged block may well be larger than L2. But if half of it stays
    # there, beside a panel, it is better halved: 512 channels at 7 x 7 with stride 2 took 1.05 ms so, and 1.00.
    most_bytes = min(2 * machine.l2, problem.workspace_limit // threads // 2)
    block_p = even_block(P, 128 * mr // block_q)
    while block_p > 1 and staged_bytes(block_p) > most_bytes:
        block_p = ceil_div(block_p, 2)
    if panels > _FEW_PANELS and staged_bytes(block_p) > machine.l2 - panel_bytes >= staged_bytes(ceil_div(block_p, 2)):
        block_p = ceil_div(block_p, 2)
    images = max(1, problem.batch) * problem.groups * O
    tile_cycles = _cycles(problem, mr, nv, machine)
    panel_cycles = panel_bytes / STREAM_BYTES
    # A row of a block stages so many cycles' worth of pixels, roughly; the rows of a kernel come on top.
    (T, R, _), (_, sh, sw) = problem.kernel_size, problem.stride
    row_cycles = 0.0 if in_place else MOVED * C * T * (1 if R == 1 else sh) * sw
    around = (R - 1) * problem.dilation[1]

    def cut(pieces: int, pieces_k: int) -> tuple[float, int, int, int]:
        """Cycles of the thread that has most, and the blocks, with at least so many pieces if rows allow them."""
        p, q, k = block_p, block_q, ceil_div(panels, pieces_k)
        if P > 1:
            p = min(p, ceil_div(P * images, pieces))
        else:
            q = min(q, ceil_div(ceil_div(Q * images, pieces), mr) * mr)
        # Each piece of the panels stages the block again, each block loads the panels again.
        task = row_cycles * (p + around) * q + k * (p * ceil_div(q, mr) * tile_cycles + panel_cycles) + TASK_CYCLES
        # The last panels may be fewer, too, but are not counted so: 96 channels of 11 x 11 with stride 4 took 538 us in
        # pieces of two panels and of one with 2 threads, and 510 in pieces of three.
        return busiest(threads, images * ceil_div(Q, q) * ceil_div(panels, k), P, p) * task, p, q, k

    ways = [(1, 1)]
    if threads > 1:
        ways = [(pieces, 1) for pieces in (threads, 2 * threads, 4 * threads)]
        ways += [(1, pieces) for pieces in (threads, 4 * threads) if pieces <= panels]
    cycles, block_p, block_q, block_k = min(cut(*way) for way in ways)
    return cycles, Settings(mr, nv, block_p, block_q, block_c, block_k)


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """The tiles with the least to do, idle pixels and channels included, and each with its blocks."""
    problem = _seen(problem, machine)
    K, (_, P, Q), lanes = problem.out_channels // problem.groups, spatial(problem)[1], machine.lanes(problem.dtype)
    kc = problem.in_channels // problem.groups * prod(problem.kernel_size)

    def cycles(row: int) -> Callable[[tuple[int, int]], float]:
        return lambda tile: (
            ceil_div(row, tile[0])
            * ceil_div(K, tile[1] * lanes)
            * (kc * _step_fmas(problem, *tile, machine) + 2 * TILE_OVERHEAD)
        )

    shapes = [tile for tile in TILES[machine.tiles] if _in_place(problem, tile[0]) or tile not in _LONG_RUNS_ONLY]
    best = sorted(shapes, key=cycles(Q))[:_MOST_CANDIDATES]
    tiles = best[:1]
    if threads > 1 and P * problem.batch * problem.groups == 1:  # a single row may be cut for the threads
        tiles.append(min(shapes, key=cycles(ceil_div(Q, threads))))
    blocks = sorted(_blocks(problem, *tile, machine, threads) for tile in dict.fromkeys(tiles))
    yield from (settings for _, settings in blocks)
    yield from (_blocks(problem, *tile, machine, threads)[1] for tile in best if tile not in tiles)


def _block_c(problem: ConvProblem, settings: Settings, machine: Machine) -> int:
    """Channels of a block, whose products are summed in one run."""
    return channels_in_a_run(settings.block_c, prod(problem.kernel_size), machine.lanes(problem.dtype))


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    problem = _seen(problem, machine)
    mr, nv, block_p, block_q, _, block_k = settings
    block_c = _block_c(problem, settings, machine)
    O, P, Q = spatial(problem)[1]
    nr = nv * machine.lanes(problem.dtype)
    K = problem.out_channels // problem.groups
    staged = _staged(problem, min(block_p, P), min(block_q, Q))
    slack = mr * (1 if problem.kernel_size[2] == 1 else problem.stride[2])
    workspace = (problem.kernel_size[0] * staged.rows * staged.columns + slack) * staged.pitch
    if _in_place(problem, mr):
        workspace = 0
    if block_c < problem.in_channels // problem.groups:
        workspace += min(block_p, P) * ceil_div(min(block_q, Q), mr) * mr * nr
    return Schedule.of(
        problem, workspace,
        tasks_g=problem.groups, tasks_o=O, tasks_p=ceil_div(P, block_p), tasks_q=ceil_div(Q, block_q),
        tasks_k=ceil_div(ceil_div(K, nr), block_k),
        block_p=block_p, block_q=block_q, block_c=block_c, block_k=block_k, pitch=staged.pitch,
    )  # fmt: skip


def _summed(problem: ConvProblem, settings: Settings) -> float:
    """Part of a tile's products that are summed, on average, and not left out as those of padding."""
    (_, R, S), (_, P, Q) = problem.kernel_size, spatial(problem)[1]

    def inside(axis: int, tap: int, outputs: int) -> tuple[int, int]:
        first = tap * problem.dilation[axis] - problem.padding[axis][0]
        return steps_inside(first, problem.stride[axis], outputs, problem.in_size[axis])

    part = sum(end - begin for begin, end in (inside(1, r, P) for r in range(R))) / (R * P)
    C = problem.in_channels // problem.groups
    if S > 1 and not _whole_rows(problem.dilation[2], S, C, settings.block_c, _pitch(problem)):
        tiles = tiles_in_blocks(Q, settings.block_q, settings.mr)
        ends = sum(begin > 0 or end < Q for begin, end in (inside(2, s, Q) for s in range(S)))
        part *= 1 - ends / (S * tiles * settings.mr)
    return part


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, block_p, block_q, block_c, block_k = settings
    problem = _seen(problem, machine)
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    O, P, Q = spatial(problem)[1]
    C, K = problem.group_channels
    images = problem.batch * problem.groups * O
    panels = ceil_div(K, nv * lanes)
    kc = C * prod(problem.kernel_size)
    row_tiles = tiles_in_blocks(Q, block_q, mr)
    tiles = images * P * row_tiles * panels
    blocks = images * ceil_div(P, block_p) * ceil_div(Q, block_q)
    in_place = _in_place(problem, mr)
    staged_pixels = 0.0 if in_place else _staged_pixels(problem, block_p, block_q, lanes)
    staged = blocks * ceil_div(panels, block_k) * staged_pixels * C
    in_parts = in_place and not vectors_fill_lines(lanes, problem.dtype)
    # A staged block that a panel drives out of L2 comes back for the next: on AMD Zen 3 48 to 192 of 512 channels at
    # 7 x 7 with stride 2 took 19 to 27 % more than foretold, and 512, 9 MB of weights, 48 %.
    rows, columns, pitch = _staged(problem, block_p, block_q)
    block = problem.kernel_size[0] * rows * columns * pitch
    panel = block_c * prod(problem.kernel_size) * nv * lanes
    returns = not in_place and (block + panel) * size > machine.l2
    step = _step_fmas(problem, mr, nv, machine) * (_PARTS_OF_LINES if in_parts else 1.0)
    transposes = (C == 1 or C >= lanes) and (problem.stride[2] <= 2 or problem.kernel_size[2] > 1)
    return Work(
        share(threads, images, (P, block_p), (Q, block_q), (panels, block_k)),
        fmas=tiles * kc * _summed(problem, settings) * step,
        tiles=tiles * ceil_div(C, block_c),
        moved=tiles * mr * nv * lanes
        + (staged if transposes else 0)
        + (_READ * images * Q * P * C if in_parts else 0)
        + (blocks * panels * block if returns else 0),
        scattered=0 if transposes else staged,
        streamed=tiles * kc * nv * lanes * size,
        waited=from_l3(panels * nv * lanes * kc * size, blocks, machine),
        # The columns of larger kernels are put in order one by one.
        prepared=0 if problem.constant_weight else problem.groups * panels * nv * lanes * kc * (1 if kc == C else 1.5),
        met=lines_met(
            threads,
            ceil_div(P, block_p) * ceil_div(Q, block_q),
            images * ceil_div(panels, block_k),
            min(block_k * nv * lanes, K),
        ),
        written=written_through(problem, machine, False),
    ).seconds(machine, threads, problem.dtype)


def packing(problem: ConvProblem, settings: Settings, machine: Machine) -> Packing:
    problem = _seen(problem, machine)
    return panel_packing(problem, settings.nv, _block_c(problem, settings, machine), machine.lanes(problem.dtype))


def _kernel_of(problem: ConvProblem, settings: Settings, machine: Machine) -> Dispatcher:
    lanes = machine.lanes(problem.dtype)
    in_place = _in_place(problem, settings.mr)
    ahead, asks_to_write = in_place and _ahead(problem), in_place and _asks_to_write(problem)
    # Where the fewest channels that a block may have are too many products.
    by_rows = min(problem.in_channels // problem.groups, lanes) * prod(problem.kernel_size) > MOST_SUMMED
    asked = asks_of(problem, prod(problem.weight_shape), machine)._replace(far=False)
    return _kernel(settings.mr, settings.nv, lanes, in_place, asked, ahead, asks_to_write, by_rows)


DIRECT = Algorithm(
    name="direct",
    summary="output channels in lanes, input staged channels-last, weights packed in panels",
    applicable=lambda problem: None,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
    packing=packing,
)
