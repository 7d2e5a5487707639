"""Strassen's product for pointwise convolution: seven products of quarters where the definition has eight.

A convolution with a 1 x 1 kernel is a product of matrices, Y [pixels][K] = X [pixels][C] W [C][K]. With each cut in
quarters, Winograd's form of Strassen's algorithm sums seven products, an eighth less than the definition::

    step  pixels                  weights                    of the sum
    0     X11                     W11                        kept as U1
    1     X12                     W21                        + U1           is Y11
    2     X21 + X22 - X11         W22 - W12 + W11            + U1           kept as U2
    3     X11 - X21               W22 - W12                  + U2           kept as U3
    4     X22                     W21 - W22 + W12 - W11      + U3           is Y21
    5     X21 + X22               W12 - W11                  + U2 kept, + U3 is Y22
    6     X12 + X11 - X21 - X22   W22                        + what 5 kept  is Y12

The rows of quarters are two neighbouring register tiles of pixels (of a row less in the last pairs, where that is
enough), their columns two neighbouring panels of output channels, and the inner ones the two halves of the input
channels. So all but the sums of pixels is done in registers and L1, and these are made once, before the first panels or
with them. Source: Strassen, "Gaussian Elimination is not Optimal" (1969); the form with 15 additions is Winograd's, as
in Huang et al., "Strassen's Algorithm Reloaded" (SC 2016). A NaN or Inf in the input spreads over the two tiles of
pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

from numbaconv.algorithms.ahead import Asks, asked_share, asker, asks_of, multiplier
from numbaconv.algorithms.algorithm import ERROR_BOUNDS, NOT_STRICT, Algorithm, Packing, Schedule
from numbaconv.algorithms.staging import COLLIDING, pixels_stager, planes_collide, vectors_fill_lines
from numbaconv.algorithms.streaming import written_through
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cost import (
    MET,
    STREAM_BYTES,
    TASK_CYCLES,
    Work,
    busiest,
    fed_by_l2,
    from_l3,
    lines_met,
    move_cycles,
    share,
    step_fmas,
    tile_rate,
)
from numbaconv.geometry import (
    Cut,
    ceil_div,
    cut_outputs,
    even_block,
    geometry,
    is_pointwise,
    is_single_tap,
    locate,
    read,
    unit_start,
)
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.tile import add, add_to_columns, clip, zeros
from numbaconv.simd.tile_memory import load_block, load_tile, prefetch_rows, store_tile, store_transposed, transpose
from numbaconv.simd.vec import load, load_between, store
from numbaconv.workspace import LINE

#: Tile shapes (mr, nv), as in `direct`.
TILES = {
    "avx512": ((14, 2), (13, 2), (12, 2), (11, 2), (10, 2), (9, 3), (8, 3)),
    "neon": ((7, 3), (7, 2), (12, 2)),
    "avx2": ((6, 2), (4, 3), (5, 2)),
}
_STEPS = 7
#: Tiles kept for each pair: U1 (later what step 5 keeps), U2, U3, and the sum so far where channels are cut.
_KEPT = 4
#: What is added to the product of each step: a kept tile, or none.
_ADDED = (-1, 0, 0, 1, 2, -1, 0)
#: Channels summed at a stretch, at most: with 2048 channels the error is 1.2e-6 so, and 3.3e-6 in sums of 1024.
_SUM_BLOCK = 256
#: Pairs of tiles that share weights, at least, where L2 does not feed a tile: 2048 to 512 channels at 7 x 7 took 1.5 ms
#: on AMD Zen 3 with one pair, whose sums are in L2, 1.3 with two, and 1.16 with all five, whose sums are not.
_LEAST_PAIRS = 5
#: Pairs of a task, at least, where each thread has as many.
_FEWEST_PAIRS = 3
#: Part of a task by which the last of several threads is late, as cores are shared: in tasks a third as long, 256 to
#: 1024 channels at 14 x 14 took 8 % less on a disturbed machine. With more of it, pixels are staged again for nothing.
_LATE = 0.02
#: Rows of tiles that short pairs leave out, at least, as a part of all: a kernel that has them compiles for longer.
_LEAST_SHORT = 0.01
#: Elements moved for each of a quarter that is staged: four are read, and four sums written, mostly beside products;
#: and where L2 does not feed a tile, all seven, of vectors that are not filled, with pixels that come from L3.
_STAGED, _STAGED_SHORT = 3, 8
#: And for each pixel of a strided problem.
_STRIDED = 2
#: Times as long as others that products take of a pair that shares its weights with none, where L2 is late: 160 to 960
#: channels at 7 x 7 and 960 to 320, a pair for each of two threads, take 10 to 14 % longer than foretold on Intel
#: Granite Rapids, and more than by `direct`.
_ALONE = 1.1
#: Cycles of a step beside its products.
_STEP_CYCLES = 100.0


class Settings(NamedTuple):
    """Tiles of ``mr`` pixels by ``nv`` vectors; blocks of pairs of tiles, and of pairs of panels of channels."""

    mr: int
    nv: int
    block_q: int
    block_k: int


def _width(mr: int, lanes: int, in_place: bool) -> int:
    """Elements of a staged channel: the pixels, in whole vectors where these are a cache line.

    Shorter vectors may overlap the next channel's, which is written later: it takes 2 to 4 % off on AMD Zen 3.
    """
    return ceil_div(mr, lanes) * lanes if in_place else mr


def _plane(problem: ConvProblem, mr: int, lanes: int) -> int:
    """Elements of a quarter of the pixels, [C / 2][width] in whole lines, and a line that keeps them apart."""
    line, half = LINE // ITEM_SIZE[problem.dtype], problem.in_channels // problem.groups // 2
    width = _width(mr, lanes, vectors_fill_lines(lanes, problem.dtype))
    return (ceil_div(half * width, line) + 1) * line


@shared
def _pairs(pixels: int, mr: int, has_short: bool) -> Cut:
    """The pixels in pairs of tiles of ``mr`` rows, and if it ``has_short`` ones the last of a row less in each."""
    cut = cut_outputs(pixels, mr, 2)
    return cut if has_short else Cut(pixels, mr, 2, cut.units, 0)


@shared
def _staged_line(block_q: int, mr: int, lanes: int) -> int:
    """Elements from one channel's staged pixels to the next."""
    return block_q * 2 * mr + lanes


def _sum_block(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> int:
    """Channels summed at a stretch: where L2 does not feed a tile, so many that their weights stay in L1.

    On AMD Zen 3 blocks of 128 channels for all pairs, one after the other, took 3 to 10 % off.
    """
    half = problem.in_channels // problem.groups // 2
    most = _SUM_BLOCK if fed_by_l2(mr, nv, machine) else machine.l1 // 4 // (nv * machine.vector_bytes)
    return even_block(half, min(_SUM_BLOCK, most))


@functools.cache
def _kernel(mr: int, nv: int, lanes: int, strided: bool, has_short: bool, in_place: bool, asks: Asks) -> Dispatcher:
    """The kernel that reads pixels ``in_place`` where a quarter is no sum.

    With ``has_short`` the last pairs of tiles may have a row less in each. Pairs are passes over a block's weights.

    A channel of a tile of short vectors is a part of a line, and the next channel far from it: on AMD Zen 3 products of
    pixels in place take 8 % longer, and all of a layer 4 to 11 %. On AMD Zen 5 it is 2 % less.
    """
    stage = pixels_stager(lanes)
    width = _width(mr, lanes, in_place)
    nr = nv * lanes
    tile = mr * nr
    ask = asker(nr, lanes, asks)

    def ask_ahead(x: Array, x11: int, line: int, half: int) -> None:
        """Ask for the channels 8 further on: without, 8 images of 256 to 64 channels at 56 x 56 take a half more."""
        prefetch_rows(x, x11 + 8 * line, mr, 3, 1)
        prefetch_rows(x, x11 + (half + 8) * line, mr, 3, 1)

    ask_ahead = jit(ask_ahead, inline="always")

    def stage_quarters(
        x: Array, x11: int, rows: int, left: int, line: int, half: int, workspace: Array, at: int, plane: int
    ) -> None:
        """What the steps multiply of a channel of a pair of tiles of ``rows`` pixels, of which the image has ``left``.

        X11 begins at ``x[x11]``, and channels are ``line`` apart; ``workspace[at]`` is the channel's place in the first
        of the seven quarters.
        """
        first, second = min(rows, left), min(rows, left - rows)
        ask_ahead(x, x11, line, half)
        x12 = x11 + half * line
        for j in range(0, mr, lanes):
            a11 = load_between(x, x11 + j, 0, first - j, lanes)
            a12 = load_between(x, x12 + j, 0, first - j, lanes)
            a21 = load_between(x, x11 + rows + j, 0, second - j, lanes)
            a22 = load_between(x, x12 + rows + j, 0, second - j, lanes)
            total = a21 + a22
            difference = total - a11
            store(a11, workspace, at + j)
            store(a12, workspace, at + plane + j)
            store(difference, workspace, at + 2 * plane + j)
            store(a11 - a21, workspace, at + 3 * plane + j)
            store(a22, workspace, at + 4 * plane + j)
            store(total, workspace, at + 5 * plane + j)
            store(a12 - difference, workspace, at + 6 * plane + j)

    stage_quarters = jit(stage_quarters, inline="always")

    def step_of(rows: int) -> Dispatcher:
        """The kernel piece that takes a step for a pair of tiles of ``rows`` pixels, or a stretch of its channels."""
        multiply, multiply_staged = (multiplier(rows, nr, lines, asks) for lines in (2, 1))

        def stage_sums(x: Array, x11: int, line: int, half: int, workspace: Array, at: int, plane: int) -> None:
            """The sums among a channel's quarters, of a whole pair.

            Pixels are loaded where they are added, some twice, since beside a tile of sums there are registers for two.
            """
            ask_ahead(x, x11, line, half)
            x12 = x11 + half * line
            for j in range(0, rows, lanes):
                total = load_between(x, x11 + rows + j, 0, rows - j, lanes)
                total = total + load_between(x, x12 + rows + j, 0, rows - j, lanes)
                store(total, workspace, at + 5 * plane + j)
                total = total - load_between(x, x11 + j, 0, rows - j, lanes)
                store(total, workspace, at + 2 * plane + j)
                store(load_between(x, x12 + j, 0, rows - j, lanes) - total, workspace, at + 6 * plane + j)
                a21 = load_between(x, x11 + rows + j, 0, rows - j, lanes)
                store(load_between(x, x11 + j, 0, rows - j, lanes) - a21, workspace, at + 3 * plane + j)

        stage_sums = jit(stage_sums, inline="always")

        def take(
            step: int, x: Array, x11: int, line: int, w: Array, weights: int, workspace: Array, pixels: int, kept: int,
            g: Any, begin: int, no_sum: bool, stages: bool, bias: Array, y: Array, image: int, k: int, q: int,
            asked: int, each: int,
        ) -> None:  # fmt: skip
            """Channels from ``begin`` on of a step.

            X11 begins at ``x[x11]``, its channels ``line`` apart, the step's quarter of pixels at ``workspace[pixels]``
            unless it is ``no_sum``, and the pair's tiles at ``workspace[kept]``. With ``stages`` the pair's sums are
            staged meanwhile. The pair's first output is that of pixel ``q`` and channel ``k`` of a group of ``image``.
            Of the weights from ``asked`` on ask for ``each`` with a channel.
            """
            half, Q = g.C // 2, g.O * g.P * g.Q
            end = min(half, begin + g.block_c)
            sums = kept + (_KEPT - 1) * tile
            quarter = x11 + (0 if step == 0 else half * line) + (rows if step == 4 else 0)
            acc = zeros(x, rows, nv, lanes)
            if begin == 0 and _ADDED[step] >= 0:
                acc = load_tile(workspace, kept + _ADDED[step] * tile, nr, rows, nv, lanes)
            if stages:  # the stores wait for L2, and products do not: 1 to 6 % of the whole
                for c in range(begin, end):
                    ask(w, asked + (c - begin) * each)
                    acc = multiply(acc, x, quarter + c * line, 1, line, w, weights + c * nr)
                    stage_sums(x, quarter + c * line, line, half, workspace, pixels + c * width, g.pitch)
            elif no_sum:
                for c in range(begin, end):
                    ask(w, asked + (c - begin) * each)
                    acc = multiply(acc, x, quarter + c * line, 1, line, w, weights + c * nr)
            else:
                for c in range(begin, end):
                    ask(w, asked + (c - begin) * each)
                    acc = multiply_staged(acc, workspace, pixels + c * width, 1, width, w, weights + c * nr)
            if begin > 0:
                acc = add(acc, load_tile(workspace, sums, nr, rows, nv, lanes))
            if end < half:
                store_tile(acc, workspace, sums, nr)
                return
            if step == 0 or step == 2 or step == 3:
                store_tile(acc, workspace, kept + max(0, step - 1) * tile, nr)
                return
            if step == 5:
                store_tile(add(acc, load_tile(workspace, kept + tile, nr, rows, nv, lanes)), workspace, kept, nr)
                acc = add(acc, load_tile(workspace, kept + 2 * tile, nr, rows, nv, lanes))
            q += rows if step == 4 or step == 5 else 0
            k += nr if step >= 5 else 0
            if q < Q and k < g.K:
                low, high = x.dtype.type(g.low), x.dtype.type(g.high)
                acc = clip(add_to_columns(acc, bias, image % g.G * g.K + k, g.K - k), low, high)
                store_transposed(acc, y, (image * g.K + k) * Q + q, Q, 0, Q - q, g.K - k)

        return jit(take, inline="always")

    take = step_of(mr)
    take_short = step_of(mr - 1) if has_short else take

    def strassen(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of pairs of tiles of pixels for some pairs of panels of output channels.

        ``x`` is [N][G][C][Q], ``y`` [N][G][K][Q]; ``w`` is [G][pairs of panels][7][C / 2][nr] (`_packer`). In
        ``workspace`` are, for every pair, the quarters that each step multiplies, [7][C / 2][width], and kept tiles.
        With ``in_place`` quarters that are not sums are read where ``x`` has them, unless the image ends in the pair.
        With ``strided``, ``x`` is [N][G][C][D][H][W], of which the block's pixels come last, [C][pixels].
        """
        g = read(geometry)
        C, Q = g.C, g.O * g.P * g.Q
        half = C // 2
        n, group, _, _, q_task, k_task = locate(task, g)
        cut = _pairs(Q, mr, has_short)
        first_pair = q_task * g.block_q
        pairs = min(g.block_q, cut.units - first_pair)
        # Pixel q of channel c is x[first + c * line + q].
        image = n * g.G + group
        first, line = image * C * Q, Q
        if strided:
            staged = g.block_q * (_STEPS * g.pitch + _KEPT * tile)
            line = _staged_line(g.block_q, mr, lanes)
            q0 = unit_start(first_pair, cut)
            count = min(unit_start(first_pair + pairs, cut), Q) - q0
            stage(x, geometry, image * C * g.D * g.H * g.W, q0, count, workspace, staged, line)
            first = staged - q0
            x = workspace

        # Of pairs in place the first products stage the sums, and all quarters of the others are staged here.
        ends_inside = unit_start(first_pair + pairs, cut) <= Q
        pairs_in_place = (pairs if ends_inside else pairs - 1) if in_place else 0
        for pair in range(pairs_in_place, pairs):
            q = unit_start(first_pair + pair, cut)
            rows = mr if first_pair + pair < cut.units - cut.short else mr - 1
            for c in range(half):
                at = pair * _STEPS * g.pitch + c * width
                stage_quarters(x, first + c * line + q, rows, Q - q, line, half, workspace, at, g.pitch)

        panels = (g.K + 2 * nr - 1) // (2 * nr)
        for panel in range(k_task * g.block_k, min(panels, (k_task + 1) * g.block_k)):
            for step in range(_STEPS):
                weights = ((group * panels + panel) * _STEPS + step) * half * nr
                for begin in range(0, half, g.block_c):
                    depth = min(half - begin, g.block_c)
                    asked = weights + (begin + depth) * nr
                    end = asked + depth * nr
                    for pair in range(pairs):
                        each = asked_share(nr, pairs, asked, end)
                        q = unit_start(first_pair + pair, cut)
                        no_sum = (step == 0 or step == 1 or step == 4) and pair < pairs_in_place
                        stages = no_sum and step == 0 and panel == k_task * g.block_k
                        pixels = (pair * _STEPS + step) * g.pitch
                        kept = g.block_q * _STEPS * g.pitch + pair * _KEPT * tile
                        k = panel * 2 * nr
                        if first_pair + pair < cut.units - cut.short:
                            take(step, x, first + q, line, w, weights, workspace, pixels, kept, g, begin, no_sum,
                                 stages, bias, y, image, k, q, asked, each)  # fmt: skip
                        elif has_short:
                            take_short(step, x, first + q, line, w, weights, workspace, pixels, kept, g, begin, no_sum,
                                       stages, bias, y, image, k, q, asked, each)  # fmt: skip
                        asked += depth * each

    return jit(strassen)


@functools.cache
def _packer(nv: int, lanes: int) -> Dispatcher:
    """The kernel that packs; a task is one pair of panels of a group."""
    nr = nv * lanes
    block = lanes * lanes

    def pack(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """``w`` [G * K][C] to ``y`` [G][pairs of panels][7][C / 2][nr]: quarters and sums of them, zeros beyond K.

        ``workspace`` holds a lanes x lanes block of each quarter, transposed.
        """
        g = read(geometry)
        C, K = g.C, g.K
        half = C // 2
        plane = half * nr
        panels = (K + 2 * nr - 1) // (2 * nr)
        group = task // panels
        for j in range(nv):
            for c in range(0, half, lanes):
                count = min(lanes, half - c)
                for quarter in range(4):  # W11, W12, W21, W22
                    k = task % panels * 2 * nr + quarter % 2 * nr + j * lanes
                    source = (group * K + k) * C + quarter // 2 * half + c
                    columns = transpose(load_block(w, source, C, K - k, count, lanes))
                    store_tile(columns, workspace, quarter * block, lanes)
                for column in range(count):
                    w11 = load(workspace, column * lanes, lanes)
                    w12 = load(workspace, block + column * lanes, lanes)
                    w21 = load(workspace, 2 * block + column * lanes, lanes)
                    w22 = load(workspace, 3 * block + column * lanes, lanes)
                    difference = w12 - w11
                    at = task * _STEPS * plane + (c + column) * nr + j * lanes
                    store(w11, y, at)
                    store(w21, y, at + plane)
                    store(w22 - difference, y, at + 2 * plane)
                    store(w22 - w12, y, at + 3 * plane)
                    store(w21 - (w22 - difference), y, at + 4 * plane)
                    store(difference, y, at + 5 * plane)
                    store(w22, y, at + 6 * plane)

    return jit(pack)


def applicable(problem: ConvProblem) -> str | None:
    if not is_single_tap(problem):
        return "it is for kernels of 1 x 1 without padding"
    channels, _ = problem.group_channels
    if channels % 2:
        return f"it is for an even number of input channels in each group, and here there are {channels}"
    if problem.accuracy == "strict":
        return NOT_STRICT
    return None


def _cut(problem: ConvProblem, mr: int) -> Cut:
    """The pixels in pairs of tiles, the last of them short where that leaves out enough to compile tiles for it.

    49 pixels are 26 and 24 then, not twice 26: 512 to 2048 channels take 4 % less on AMD Zen 4 so.
    """
    pixels = prod(problem.out_size)
    cut = _pairs(pixels, mr, True)
    return cut if cut.short >= _LEAST_SHORT * cut.units * mr else _pairs(pixels, mr, False)


def _step_fmas(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> float:
    """Vector FMAs of a step of a tile, on average."""
    cut = _cut(problem, mr)
    short = cut.short / cut.units
    whole, less = (step_fmas(rows, nv, machine, asks=True) for rows in (mr, mr - 1))
    longer = COLLIDING if is_pointwise(problem) and planes_collide(problem, machine) else 1.0
    return longer * ((1 - short) * whole + short * less)


def _staging(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> float:
    """Elements moved to stage a pair of tiles."""
    lanes = machine.lanes(problem.dtype)
    half = problem.in_channels // problem.groups // 2
    sums = half * ceil_div(mr, lanes) * lanes * (_STAGED if fed_by_l2(mr, nv, machine) else _STAGED_SHORT)
    return sums if is_pointwise(problem) else sums + _STRIDED * 4 * half * mr


def _pair_cycles(problem: ConvProblem, mr: int, nv: int, machine: Machine) -> tuple[float, float]:
    """Cycles of staging a pair of tiles, and of its seven steps for a pair of panels."""
    lanes = machine.lanes(problem.dtype)
    half = problem.in_channels // problem.groups // 2
    moved = move_cycles(machine)
    staged = _staging(problem, mr, nv, machine) * moved
    product = half * _step_fmas(problem, mr, nv, machine) / tile_rate(machine)
    return staged, _STEPS * (product + _STEP_CYCLES) + 4 * mr * nv * lanes * moved


def _blocks(problem: ConvProblem, mr: int, nv: int, machine: Machine, threads: int) -> tuple[float, Settings]:
    """Blocks whose staged pixels fit L2, cut so that threads finish together; and the cycles that they take."""
    size, lanes = ITEM_SIZE[problem.dtype], machine.lanes(problem.dtype)
    C, K = problem.group_channels
    panels, pairs = ceil_div(K, 2 * nv * lanes), _cut(problem, mr).units
    images = max(1, problem.batch) * problem.groups
    # Where L2 is late, pixels in place count, too: of 256 to 128 channels at 56 x 56 blocks of 24 pairs, which fill
    # three quarters of L2 without them, take 9 % more than those of 12 on Intel's Granite Rapids, and 512 to 256 at
    # 28 x 28 in 12 pairs 5 % more than in 6.
    in_place = is_pointwise(problem) and not machine.asks_near
    pixels = 0 if in_place else 2 * mr * C
    pair_bytes = (_STEPS * _plane(problem, mr, lanes) + _KEPT * mr * nv * lanes + pixels) * size
    least = 1 if fed_by_l2(mr, nv, machine) else _LEAST_PAIRS
    most_bytes = min(max(machine.l2 * 3 // 4, least * pair_bytes), problem.workspace_limit // threads)
    most = max(1, most_bytes // pair_bytes)
    staged, steps = _pair_cycles(problem, mr, nv, machine)
    panel_cycles = _STEPS * C // 2 * nv * lanes * size / STREAM_BYTES
    fewest = min(_FEWEST_PAIRS, ceil_div(pairs * images, threads))

    def cut(rounds: int, pieces_k: int) -> tuple[float, int, int]:
        """Cycles of the thread that has most, and the blocks, of which it draws ``rounds`` for each piece or more."""
        q = min(most, max(fewest, ceil_div(pairs * images, rounds * threads)))
        k = ceil_div(panels, pieces_k)
        task = q * staged + k * max(q * steps, panel_cycles) + TASK_CYCLES
        late = _LATE if threads > 1 else 0.0
        met = _met(problem, Settings(mr, nv, q, k), machine, threads) * MET
        return (busiest(threads, images * ceil_div(panels, k), pairs, q) + late) * task + met, q, k

    pieces = [pieces for pieces in dict.fromkeys((1, threads, 2 * threads)) if pieces <= panels]
    ways = [cut(rounds, pieces_k) for rounds in (1, 2, 3, 4, 8) for pieces_k in pieces]
    cycles, block_q, block_k = min(ways)
    return cycles, Settings(mr, nv, block_q, block_k)


def _met(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> int:
    """Lines of the output in which two threads' parts meet: where a block ends, and where those of its pairs do."""
    mr, nv, block_q, block_k = settings
    K, channels = problem.out_channels // problem.groups, block_k * 2 * nv * machine.lanes(problem.dtype)
    outside = max(1, problem.batch) * problem.groups * ceil_div(K, channels)
    return 2 * lines_met(threads, ceil_div(_cut(problem, mr).units, block_q), outside, min(channels, K))


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """The tile with the least left over, the one with the least for the thread that has most, and the largest."""
    lanes = machine.lanes(problem.dtype)
    K, images = problem.out_channels // problem.groups, max(1, problem.batch) * problem.groups

    def computed(threads: int) -> Callable[[tuple[int, int]], tuple[float, int]]:
        """What a thread computes, in rows and vectors of tiles; and short pairs, which lower tiles may do without."""

        def by(tile: tuple[int, int]) -> tuple[float, int]:
            mr, nv = tile
            cut = _cut(problem, mr)
            rows = mr - cut.short / cut.units
            return ceil_div(cut.units * images, threads) * rows * ceil_div(K, 2 * nv * lanes) * nv, cut.short

        return by

    shapes = TILES[machine.tiles]
    tiles = dict.fromkeys([*(min(shapes, key=computed(count)) for count in (1, threads)), shapes[0]])
    return (settings for _, settings in sorted(_blocks(problem, *tile, machine, threads) for tile in tiles))


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    mr, nv, block_q, block_k = settings
    lanes = machine.lanes(problem.dtype)
    pairs = _cut(problem, mr).units
    panels = ceil_div(problem.out_channels // problem.groups, 2 * nv * lanes)
    block_q, plane = min(block_q, pairs), _plane(problem, mr, lanes)
    workspace = block_q * (_STEPS * plane + _KEPT * mr * nv * lanes)
    if not is_pointwise(problem):
        workspace += problem.in_channels // problem.groups * _staged_line(block_q, mr, lanes)
    return Schedule.of(
        problem, workspace,
        tasks_g=problem.groups, tasks_q=ceil_div(pairs, block_q), tasks_k=ceil_div(panels, block_k),
        block_q=block_q, block_k=block_k, block_c=_sum_block(problem, mr, nv, machine), pitch=plane,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mr, nv, block_q, block_k = settings
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    C, K = problem.group_channels
    images = problem.batch * problem.groups
    panels, pairs = ceil_div(K, 2 * nv * lanes), _cut(problem, mr).units
    steps = images * pairs * panels * _STEPS
    staged = images * pairs * ceil_div(panels, block_k) * _staging(problem, mr, nv, machine)
    sums = 1 if fed_by_l2(mr, nv, machine) else ceil_div(C // 2, _sum_block(problem, mr, nv, machine))
    longer = _ALONE if block_q == 1 and machine.asks_near else 1.0
    return Work(
        share(threads, images, (pairs, block_q), (panels, block_k)),
        fmas=steps * C // 2 * _step_fmas(problem, mr, nv, machine) * longer,
        tiles=2 * steps * sums,  # where 160 to 960 channels at 7 x 7 look alike, `direct` takes 34 us and this 34 to 46
        moved=steps * sums * mr * nv * lanes + staged,
        streamed=steps * C // 2 * nv * lanes * size,
        waited=from_l3(_weights(problem, nv * lanes) * size, problem.batch * ceil_div(pairs, block_q), machine),
        # An element of these sums takes a third longer than one that is only laid out.
        prepared=0 if problem.constant_weight else 1.3 * problem.groups * panels * _STEPS * nv * lanes * C // 2,
        met=_met(problem, settings, machine, threads),
        written=written_through(problem, machine, False),
    ).seconds(machine, threads, problem.dtype)


def _pairs_of_panels(problem: ConvProblem, nr: int) -> int:
    return ceil_div(problem.out_channels // problem.groups, 2 * nr) * problem.groups


def _weights(problem: ConvProblem, nr: int) -> int:
    """Elements of a prepared weight."""
    return _pairs_of_panels(problem, nr) * _STEPS * (problem.in_channels // problem.groups // 2) * nr


def packing(problem: ConvProblem, settings: Settings, machine: Machine) -> Packing:
    lanes = machine.lanes(problem.dtype)
    nr = settings.nv * lanes
    return Packing(
        layout=("strassen", nr),
        elements=_weights(problem, nr),
        schedule=Schedule(_pairs_of_panels(problem, nr), 4 * lanes * lanes, geometry(problem)),
        kernel=lambda: _packer(settings.nv, lanes),
    )


def _kernel_of(problem: ConvProblem, settings: Settings, machine: Machine) -> Dispatcher:
    lanes = machine.lanes(problem.dtype)
    mr, nv, *_ = settings
    strided, in_place = not is_pointwise(problem), vectors_fill_lines(lanes, problem.dtype)
    asked = asks_of(problem, _weights(problem, nv * lanes), machine)
    return _kernel(mr, nv, lanes, strided, _cut(problem, mr).short > 0, in_place, asked)


STRASSEN = Algorithm(
    name="strassen",
    summary="seven products of quarters of the matrices where the definition has eight, for 1 x 1 kernels",
    applicable=applicable,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
    packing=packing,
    error_bound=lambda problem, settings: ERROR_BOUNDS["default"],
)
